# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluation of a recogniser on published test sets: decode, score, write.

What an evaluation leaves behind is a small experiment folder, so that results can be shown and scored again like those
of a recipe::

    decode/<modality>/<set>/   text, score, hypotheses.jsonl, infer.json, skipped.json, wer.json, result.txt
    reference/<set>/           text, utt2num_samples, data.json (and captions.vtt for sessions)
    results.json  RESULTS.md

Sessions (AVCocktail) are scored per video and chunking, see :func:`espnet_av.avsr.session_scoring.score_chunks`.
"""

import json
import logging
import resource
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet_av.avsr.clip_decoder import ClipDecoder, DecodedClip
from espnet_av.avsr.eval_sets import CHUNKINGS, DATA_FOLDERS, SAMPLES_PER_FRAME, AbsentSet, Catalogue, ClipSource
from espnet_av.avsr.metrics import CorpusScore, bootstrap_mean, split_score
from espnet_av.avsr.scoring import ScoredSet, ScoreOptions, score_decode, set_row, write_set
from espnet_av.avsr.session_scoring import score_chunks, spoken
from espnet_av.avsr.text import normalize_text
from espnet_av.avsr.vtt import Caption, write_vtt
from espnet_av.data.data_dir import write_scp
from espnet_av.data.drops import Drops
from espnet_av.utils.errors import DataError, describe
from espnet_av.utils.experiment import Decode, read_json, read_json_lines, write_json
from espnet_av.utils.files import atomic_write
from espnet_av.utils.folders import atomic_folder
from espnet_av.utils.progress import progress

logger = logging.getLogger(__name__)
SAMPLE_RATE_HZ = 16000
SESSION_DATASET = "AVCocktail"

ShowLine = Callable[[str], None]


@dataclass(frozen=True)
class EvalOptions:
    """How sets are evaluated.

    Attributes:
        output_dir: Folder that receives everything.
        modality: ``av``, ``audio`` or ``video``.
        num_resamples: Bootstrap draws of the confidence intervals.
        seed: Seed of the draws.
        max_dropped_share: Most clips of a set that may be unusable, 0 to 1.
        resume: Keep what an earlier run decoded with the same model and settings.
        identity: What the hypotheses depend on (weights, beam, ...); noted with them and compared by ``resume``.
    """

    output_dir: Path
    modality: str = "av"
    num_resamples: int = 1000
    seed: int = 0
    max_dropped_share: float = 0.01
    resume: bool = False
    identity: dict[str, Any] = field(default_factory=dict)


class Evaluator:
    """Evaluates sets one after the other.

    Args:
        catalogue: Where the sets lie.
        decoder: The recogniser.
        options: See :class:`EvalOptions`.
        show: Called with each line for the user: word error rates as soon as they are known.
        show_clip: Called with each decoded clip; None shows none.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        decoder: ClipDecoder,
        options: EvalOptions,
        show: ShowLine,
        show_clip: Callable[[DecodedClip], None] | None = None,
    ) -> None:
        self.catalogue, self.decoder, self.options = catalogue, decoder, options
        self.show, self.show_clip = show, show_clip

    def run(self, wanted: Sequence[str]) -> dict[str, Any]:
        """Evaluate sets and print the lines of the original program.

        Args:
            wanted: Names of sets; ``*`` is all of the data set.

        Returns:
            ``rows`` (one per set, or per video and chunking), ``averages``, and ``absent``: sets that are not there.

        Raises:
            UsageError: A set is unknown.
            DataError: A set that was named is not there, none is, or too many clips are unusable.
        """
        names = self.catalogue.choose(wanted)
        strict = list(names) == list(wanted)
        score = self._session if self.catalogue.dataset == SESSION_DATASET else self._set
        found: dict[str, list[ScoredSet]] = {}
        absent: dict[str, str] = {}
        for name in names:
            try:
                found[name] = score(name, alone=len(names) == 1)
            except AbsentSet as error:  # an incomplete copy of a data set is worth evaluating
                if strict:
                    raise
                absent[name] = str(error)
                logger.warning("%s is not there and is left out: %s", name, error)
        if not found:
            raise DataError(describe("no set could be evaluated", got=next(iter(absent.values()))))
        averages = self._averages(list(found.values()))
        if absent:
            self.show(f"{len(absent)} of {len(names)} sets are not there: {', '.join(absent)}")
        rows = [item.row for items in found.values() for item in items]
        return {"rows": rows, "averages": averages, "absent": absent}

    # ---- one set ----

    def _set(self, name: str, alone: bool) -> list[ScoredSet]:
        folder = self._decode(name, self.catalogue.clips(name))
        scored = score_decode(
            Decode(self.options.modality, name, folder / "text"), self._reference(name), self._scoring
        )
        scored = self._finish(scored, folder)
        wer = scored.score.wer
        self.show(f"WER: {wer}" if alone else f"WER {name}: {wer:.4f}")
        return [scored]

    def _session(self, video: str, alone: bool) -> list[ScoredSet]:
        captions = self.catalogue.captions(video)
        results = []
        for chunking in CHUNKINGS:
            name = f"{video}_{chunking}"
            folder = self._decode(name, self.catalogue.clips(video, chunking))
            write_vtt(self._reference(name).with_name("captions.vtt"), captions)
            results.append(self._finish(score_session_folder(folder, captions, name, self.options), folder))
            self.show(f"WER {video} {chunking}: {results[-1].score.wer:.4f}")
        return results

    def _finish(self, scored: ScoredSet, folder: Path) -> ScoredSet:
        scored.row["n_skipped"] = len(read_json(folder / "skipped.json", {}))
        write_set(scored, folder)
        return scored

    def _averages(self, found: Sequence[Sequence[ScoredSet]]) -> list[dict[str, Any]]:
        """Show and return the means over the sets of a data set: of WERs, or weighted by words for sessions."""
        if len(found) < 2 or self.catalogue.dataset == DATA_FOLDERS:
            return []
        num_resamples, seed = self.options.num_resamples, self.options.seed
        if self.catalogue.dataset != SESSION_DATASET:
            scores = [items[0].score for items in found]
            mean = sum(score.wer for score in scores) / len(scores)
            interval = bootstrap_mean(scores, num_resamples=num_resamples, seed=seed)
            self.show(f"WER average: {mean:.4f}")
            return [_average("mean of the sets", mean, interval, len(scores))]
        averages = []
        for number, chunking in enumerate(CHUNKINGS):
            videos = [items[number] for items in found]
            pooled = pool_videos(videos)
            self.show(f"WER average {chunking}: {pooled.wer:.4f}")
            interval = pooled.interval(num_resamples=num_resamples, seed=seed)
            row = _average(f"{chunking}, weighted by words", pooled.wer, interval, len(videos))
            averages.append(row | silence_over_sets([item.row for item in videos]))
        return averages

    # ---- decoding ----

    def _decode(self, name: str, clips: ClipSource) -> Path:
        folder = self.options.output_dir / "decode" / self.options.modality / name
        identity = {**self.options.identity, "modality": self.options.modality, "source": clips.origin}
        before = (read_json(folder / "infer.json") or {}).get("identity")
        if self.options.resume and before == identity and self._reference(name).is_file():
            logger.info("%s: decoded before with the same weights and settings, kept", name)
            return folder
        start = time.perf_counter()
        found: dict[str, DecodedClip] = {}
        order: list[str] = []
        for decoded in progress(self.decoder.decode(_note_order(clips, order)), title=f"decode {name}"):
            found[decoded.clip.uid] = decoded
            if self.show_clip is not None:
                self.show_clip(decoded)
        drops = Drops(len(found) + len(clips.skipped))
        for uid, reason in clips.skipped.items():
            drops.add(uid, "unusable", reason)
        if drops.total == 0:
            raise AbsentSet(describe(f"{name} holds no clips", got=clips.origin))
        drops.check(self.options.max_dropped_share, clips.origin)
        if drops:
            logger.warning("%s: %s", name, drops.one_line())
        ordered = [found[uid] for uid in order]
        self._write_reference(name, ordered)
        with atomic_folder(folder) as new:
            write_hypotheses(new, ordered)
            write_json(new / "skipped.json", dict(clips.skipped))
            write_json(new / "infer.json", self._facts(ordered, time.perf_counter() - start, identity))
        return folder

    def _facts(self, decoded: Sequence[DecodedClip], seconds: float, identity: Mapping[str, Any]) -> dict[str, Any]:
        audio_sec = sum(item.duration_sec for item in decoded)
        usage = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        shared = {key: identity[key] for key in ("beam_size", "ctc_weight") if key in identity}
        return {
            "modality": self.options.modality,
            "num_utterances": len(decoded),
            "audio_sec": round(audio_sec, 3),
            "decode_sec": round(seconds, 3),
            "rtf": round(seconds / max(audio_sec, 1e-9), 4),
            "peak_rss_mb": round(max(usage) / 1024, 1),
            "device": self.decoder.device,
            "num_jobs": self.decoder.num_jobs,
            **shared,
            "identity": identity,
        }

    def _reference(self, name: str) -> Path:
        return self.options.output_dir / "reference" / name / "text"

    def _write_reference(self, name: str, decoded: Sequence[DecodedClip]) -> None:
        path = self._reference(name)
        shutil.rmtree(path.parent, ignore_errors=True)
        _write_texts(path, {item.clip.uid: item.clip.reference for item in decoded})
        lengths = {item.clip.uid: item.num_frames * SAMPLES_PER_FRAME for item in decoded}
        write_scp(path.with_name("utt2num_samples"), lengths)
        write_json(path.with_name("data.json"), {"sample_rate": SAMPLE_RATE_HZ, "fps": 25})

    @property
    def _scoring(self) -> ScoreOptions:
        return ScoreOptions(normalize_text, num_resamples=self.options.num_resamples, seed=self.options.seed)


def score_session_folder(folder: Path, captions: Sequence[Caption], name: str, options: EvalOptions) -> ScoredSet:
    """Score the decoded chunks of one video against its captions.

    Args:
        folder: Holds ``hypotheses.jsonl`` with ``start_sec`` and ``end_sec``.
        captions: The reference.
        name: Name of video and chunking.
        options: Modality and bootstrap.

    Returns:
        The score over captions: what they sum to is that of the whole video, which is aligned as one text. The interval
        draws captions. Chunks without any speech count as silent faces.
    """
    lines = read_json_lines(folder / "hypotheses.jsonl")
    chunks = [Caption(line["start_sec"], line["end_sec"], line["nbest"][0]["text"]) for line in lines]
    captions = sorted(captions, key=lambda item: item.start)
    sizes = {
        f"{number:04d}-{item.start:.2f}-{item.end:.2f}": len(normalize_text(spoken(item.text)).split())
        for number, item in enumerate(captions)
    }
    whole = score_chunks(captions, chunks, uid=name)
    score = split_score(whole, sizes)
    interval = score.interval(num_resamples=options.num_resamples, seed=options.seed)
    row = set_row(name, options.modality, score, interval)
    row |= {"cer": whole.chars.rate, "n_missing": 0, "n_chunks": len(chunks), **_silent_chunks(chunks, captions)}
    facts = read_json(folder / "infer.json") or {}
    row |= {key: facts[key] for key in ("rtf", "decode_sec", "audio_sec", "peak_rss_mb", "beam_size") if key in facts}
    return ScoredSet(row, score, ())


def _silent_chunks(chunks: Sequence[Caption], captions: Sequence[Caption]) -> dict[str, Any]:
    """Count the words found in chunks that no caption touches."""
    silent = [item for item in chunks if not any(c.start < item.end and item.start < c.end for c in captions)]
    words = sum(len(normalize_text(spoken(item.text)).split()) for item in silent)
    seconds = sum(item.end - item.start for item in silent)
    if not silent:
        return {}
    rate = 60 * words / seconds if seconds else None
    return {"n_silent": len(silent), "silent_ins": words, "silent_sec": seconds, "silent_ins_per_min": rate}


def pool_videos(videos: Sequence[ScoredSet]) -> CorpusScore:
    """Put videos together as one corpus whose units are videos, which is what the interval should draw."""
    from espnet_av.avsr.metrics import ErrorCounts, UtteranceScore

    units = []
    for item in videos:
        alignment = tuple(word for part in item.score.utterances for word in part.alignment)
        chars = sum((part.chars for part in item.score.utterances), ErrorCounts())
        units.append(UtteranceScore(item.row["set"], item.score.words, chars, alignment))
    return CorpusScore(tuple(units))


def silence_over_sets(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up the silence figures of rows that have a time; empty where none has."""
    silent = [row for row in rows if row.get("silent_sec")]
    if not silent:
        return {}
    words, seconds = sum(row["silent_ins"] for row in silent), sum(row["silent_sec"] for row in silent)
    return {"n_silent": sum(row["n_silent"] for row in silent), "silent_ins_per_min": 60 * words / seconds}


def write_hypotheses(folder: Path, decoded: Sequence[DecodedClip]) -> None:
    """Write ``text``, ``score`` and ``hypotheses.jsonl`` of a set into a folder."""
    _write_texts(folder / "text", {item.clip.uid: item.text for item in decoded})
    write_scp(folder / "score", {item.clip.uid: f"{item.score:.6f}" for item in decoded})
    with atomic_write(folder / "hypotheses.jsonl") as stream:
        for item in decoded:
            line: dict[str, Any] = {"id": item.clip.uid, "nbest": [{"text": item.text, "score": item.score}]}
            start, end = item.clip.start_sec, item.clip.end_sec
            line |= {"start_sec": start, "end_sec": start + item.duration_sec if end is None else end}
            if len(item.texts) > 1:
                line["pieces"] = item.texts
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")


def _average(title: str, wer: float, interval: Any, num_sets: int) -> dict[str, Any]:
    return {"title": title, "wer": wer, "ci_low": interval.low, "ci_high": interval.high, "num_sets": num_sets}


def _write_texts(path: Path, texts: Mapping[str, str]) -> None:
    write_scp(path, {uid: " ".join(text.split()) for uid, text in texts.items()})


def _note_order(clips: ClipSource, order: list[str]) -> Any:
    for clip in clips:
        order.append(clip.uid)
        yield clip
