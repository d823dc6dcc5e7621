# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Scoring of decoded test sets: rows of results, aligned texts, and the ratio of audio-visual to audio-only WER."""

import hashlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_av.avsr.metrics import (
    CorpusScore,
    ErrorCounts,
    compare_ids,
    format_alignment,
    insertions_per_minute,
    score_by_group,
    score_corpus,
)
from espnet_av.data.data_dir import read_text
from espnet_av.utils.bootstrap import Interval, bootstrap_ratio
from espnet_av.utils.errors import DataError, describe
from espnet_av.utils.experiment import Decode, read_json, write_json
from espnet_av.utils.figures import percent
from espnet_av.utils.files import atomic_write

logger = logging.getLogger(__name__)
SILENCE_TOKEN = "<unk>"  # the label of a visible but silent face
DEFAULT_SAMPLE_RATE_HZ = 16000
CI_UNITS = ("utterance", "speaker")
Normalizer = Callable[[str], str]


@dataclass(frozen=True)
class ScoreOptions:
    """How to score.

    Attributes:
        normalize: Function on both sides of the comparison.
        allow_missing: Count an utterance without a hypothesis as deletions instead of refusing the set.
        keep: Score only these utterances; None scores all.
        num_resamples: Bootstrap draws of the confidence interval.
        seed: Seed of the draws.
        ci_unit: What is drawn: ``utterance`` or ``speaker``.
    """

    normalize: Normalizer
    allow_missing: bool = False
    keep: frozenset[str] | None = None
    num_resamples: int = 1000
    seed: int = 0
    ci_unit: str = "utterance"


@dataclass(frozen=True)
class ScoredSet:
    """Result of one decoded set: the row of ``results.json``, the scores behind it and the hypotheses that lacked."""

    row: dict[str, Any]
    score: CorpusScore
    missing: tuple[str, ...]


def clean(text: str, normalize: Normalizer) -> str:
    """Normalise a transcript; the label of a silent face becomes no word at all."""
    return normalize(" ".join(word for word in text.split() if word != SILENCE_TOKEN))


def score_decode(decode: Decode, reference_path: str | Path, options: ScoreOptions) -> ScoredSet:
    """Score the hypotheses of one set.

    Args:
        decode: Where the hypotheses lie.
        reference_path: Transcripts of the set; ``utt2spk``, ``utt2num_samples`` and ``data.json`` beside it are used
            where they exist.
        options: How to score.

    Raises:
        DataError: Ids differ (and missing ones are not allowed), or a file cannot be read.
    """
    reference_path = Path(reference_path)
    references = read_text(reference_path, allow_empty=True)
    hypotheses = read_text(decode.text, allow_empty=True)
    if options.keep is not None:
        references = {uid: text for uid, text in references.items() if uid in options.keep}
        hypotheses = {uid: text for uid, text in hypotheses.items() if uid in options.keep}
    if not references:
        raise DataError(describe(f"{reference_path} has no utterance to score", fix="check the set and --key_file"))
    missing = _check_ids(decode, reference_path, references, hypotheses, options.allow_missing)
    score = score_corpus(
        {uid: clean(text, options.normalize) for uid, text in references.items()},
        {uid: clean(hypotheses.get(uid, ""), options.normalize) for uid in references},
    )
    return ScoredSet(_make_row(decode, reference_path, score, missing, options), score, missing)


def write_set(scored: ScoredSet, folder: str | Path) -> None:
    """Write ``wer.json`` (row, speakers, every utterance) and ``result.txt`` (alignments, worst first)."""
    folder = Path(folder)
    speakers = scored.row.get("speakers", {})
    utterances = [
        {"id": item.uid, "wer": item.wer, **_counts(item.words), "ref": item.reference, "hyp": item.hypothesis}
        for item in scored.score.worst()
    ]
    write_json(
        folder / "wer.json", {**_without(scored.row, "speakers"), "speakers": speakers, "utterances": utterances}
    )
    with atomic_write(folder / "result.txt") as stream:
        stream.write(result_text(scored))


def result_text(scored: ScoredSet) -> str:
    """Return the aligned reference and hypothesis of every utterance, the one with the most errors first."""
    row, words = scored.row, scored.score.words
    rate = f"WER {percent(row['wer'], 2)} % [{percent(row['ci_low'], 2)}, {percent(row['ci_high'], 2)}]"
    kinds = f"S {words.substitutions}  D {words.deletions}  I {words.insertions}   CER {percent(row['cer'], 2)} %"
    head = [
        f"set {row['set']}, modality {row['modality']}: {row['n_utts']} utterances, {row['n_words']} words",
        f"{rate}   {kinds}",
    ]
    if scored.missing:
        head.append(f"without a hypothesis, counted as deletions: {', '.join(scored.missing)}")
    blocks = ["\n".join(head)]
    for item in scored.score.worst():
        counts = item.words
        line = (
            f"{item.uid}  WER {percent(item.wer)} %  S {counts.substitutions} D {counts.deletions} "
            f"I {counts.insertions} of {counts.num_reference} words"
        )
        blocks.append(f"{line}\n{format_alignment(item)}")
    return "\n\n".join(blocks) + "\n"


def video_ratios(scored: Sequence[ScoredSet], options: ScoreOptions) -> list[dict[str, Any]]:
    """Return WER(av) / WER(audio) with a paired interval for every set that was decoded in both ways."""
    found: dict[str, dict[str, CorpusScore]] = {}
    for item in scored:
        found.setdefault(item.row["set"], {})[item.row["modality"]] = item.score
    ratios = []
    for set_name, scores in found.items():
        if not {"av", "audio"} <= set(scores):
            continue
        both, audio = scores["av"], scores["audio"]
        if not both.words.num_reference:
            continue
        if [item.uid for item in both.utterances] != [item.uid for item in audio.utterances]:
            logger.warning("%s: av and audio were scored on different utterances; no ratio", set_name)
            continue
        interval = bootstrap_ratio(
            both.counts(), audio.counts(), num_resamples=options.num_resamples, seed=options.seed
        )
        ratio = both.wer / audio.wer if audio.words.errors else math.nan
        ratios.append({"set": set_name, "ratio": ratio, "ci_low": interval.low, "ci_high": interval.high})
    return ratios


def _check_ids(
    decode: Decode,
    reference_path: Path,
    references: Mapping[str, str],
    hypotheses: Mapping[str, str],
    allow_missing: bool,
) -> tuple[str, ...]:
    missing, unknown = compare_ids(references, hypotheses)
    where = f"{decode.text} against {reference_path}"
    if unknown:
        raise DataError(
            describe(
                f"{where}: {len(unknown)} hypotheses without a reference",
                got=_first(unknown),
                fix="the set changed after decoding: run stage 6 again with --force",
            )
        )
    if missing and not allow_missing:
        raise DataError(
            describe(
                f"{where}: {len(missing)} of {len(references)} utterances have no hypothesis",
                got=_first(missing),
                fix="finish stage 6, or pass --allow_missing true to count them as deletions",
            )
        )
    if missing:
        logger.warning("%s: %d missing hypotheses count as deletions: %s", where, len(missing), _first(missing))
    return tuple(missing)


def _make_row(
    decode: Decode, reference_path: Path, score: CorpusScore, missing: Sequence[str], options: ScoreOptions
) -> dict[str, Any]:
    data_dir = reference_path.parent
    speaker_of = read_text(data_dir / "utt2spk", allow_empty=True) if (data_dir / "utt2spk").is_file() else {}
    row = set_row(decode.set_name, decode.modality, score, _interval(score, speaker_of, options, data_dir))
    row["n_missing"] = len(missing)
    row["data_digest"] = hashlib.sha256(reference_path.read_bytes()).hexdigest()[:12]
    row.update(_silence_figures(score, data_dir))
    row.update(_decode_figures(decode.folder))
    if speaker_of:
        groups = score_by_group(score, speaker_of)
        row["speakers"] = {
            name: {"n_utts": len(part.utterances), "n_words": part.words.num_reference, "wer": part.wer}
            for name, part in groups.items()
        }
    return row


def set_row(set_name: str, modality: str, score: CorpusScore, interval: Interval) -> dict[str, Any]:
    """Return what a row of ``results.json`` says about the words of a set."""
    return {
        "set": set_name,
        "modality": modality,
        "n_utts": len(score.utterances),
        "n_words": score.words.num_reference,
        "wer": score.wer,
        "ci_low": interval.low,
        "ci_high": interval.high,
        **_counts(score.words),
        "deletion_rate": score.words.deletion_rate,
        "cer": score.cer,
    }


def _interval(score: CorpusScore, speaker_of: Mapping[str, str], options: ScoreOptions, data_dir: Path) -> Interval:
    groups = None
    if options.ci_unit == "speaker":
        absent = [item.uid for item in score.utterances if item.uid not in speaker_of]
        if absent:
            raise DataError(
                describe(
                    f"{data_dir / 'utt2spk'} lacks {len(absent)} utterances, which --ci_unit speaker needs",
                    got=_first(absent),
                    fix="complete utt2spk or pass --ci_unit utterance",
                )
            )
        groups = [speaker_of[item.uid] for item in score.utterances]
    return score.interval(num_resamples=options.num_resamples, seed=options.seed, groups=groups)


def _silence_figures(score: CorpusScore, data_dir: Path) -> dict[str, Any]:
    """Count what was recognised on faces that do not speak; per minute where the lengths are known."""
    silent = score.silent
    if not silent:
        return {}
    invented = sum(item.words.insertions for item in silent)
    figures: dict[str, Any] = {"n_silent": len(silent), "silent_ins": invented}
    lengths_path = data_dir / "utt2num_samples"
    if lengths_path.is_file():
        lengths = read_text(lengths_path, allow_empty=True)
        rate_hz = (read_json(data_dir / "data.json") or {}).get("sample_rate", DEFAULT_SAMPLE_RATE_HZ)
        seconds = {item.uid: int(lengths.get(item.uid, 0)) / rate_hz for item in silent}
        figures["silent_ins_per_min"] = insertions_per_minute(score, seconds)
    return figures


def _decode_figures(folder: Path) -> dict[str, Any]:
    """Take real-time factor, memory, search options and, where given, the command from ``infer.json``."""
    report = read_json(folder / "infer.json") or {}
    wanted = ("rtf", "decode_sec", "audio_sec", "peak_rss_mb", "device", "beam_size", "ctc_weight")
    figures = {key: report[key] for key in wanted if report.get(key) is not None}
    figures.update({f"infer_{key}": report[key] for key in ("command", "commit") if report.get(key)})
    return figures


def _counts(counts: ErrorCounts) -> dict[str, int]:
    return {"sub": counts.substitutions, "del": counts.deletions, "ins": counts.insertions, "hits": counts.hits}


def _first(ids: Sequence[str], shown: int = 5) -> str:
    return ", ".join(ids[:shown]) + (", ..." if len(ids) > shown else "")


def _without(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != key}


def read_key_file(path: str | Path) -> frozenset[str]:
    """Read the utterance ids in the first column of a file."""
    return frozenset(read_text(path, allow_empty=True))
