# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Scoring of decoded sets from files: which files belong together, all metrics, means with intervals, result files.

References are those of a data folder (``reference.scp``, else ``wav.scp``); decoded sound is a folder with
``wav/wav.scp`` or ``wav/<id>.wav``. Beside it, ``<set>/<score tag>/`` receives ``utt_result.txt`` (one dictionary per
line, the id under ``key``), ``avg_result.txt`` (``metric: mean``, or ``metric: skipped (reason)``) and
``scores.json``. A metric that cannot be computed is skipped with its reason, a value that is not defined counts
nowhere; neither is ever 0.
"""

import dataclasses
import functools
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.codec.metrics import DEFAULT_METRICS, expand_metrics, fit_lengths, score_signal, why_skipped
from espnet_av.codec.opus import DEFAULT_KBPS
from espnet_av.codec.usage import codebook_usage
from espnet_av.codec.versa import run_versa, why_absent
from espnet_av.codec.word_errors import recognise, word_row
from espnet_av.data.audio_io import read_audio
from espnet_av.data.data_dir import DataDir, read_scp
from espnet_av.data.parallel import map_items
from espnet_av.utils.bootstrap import bootstrap_interval
from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error
from espnet_av.utils.experiment import read_json, without_nan, write_json
from espnet_av.utils.files import atomic_write

logger = logging.getLogger(__name__)
LEVEL = 0.95
SUMMARY, PER_UTTERANCE, MEANS = "scores.json", "utt_result.txt", "avg_result.txt"
BAD = "bad.json"  # recordings that inference could not use
VERSA_CHOICES = ("auto", "off")


@dataclass(frozen=True)
class ScoreOptions:
    """How to score; the keys of ``conf/score.yaml``.

    Attributes:
        metrics: Names (:mod:`espnet_av.codec.metrics`).
        sample_rate: At which signals are compared, Hz; files of another rate are resampled.
        max_utts: Score this many recordings of each set, spread evenly; 0 scores all.
        allow_missing: Score what is there where decoded files are missing, and count the rest.
        num_resamples: Bootstrap draws of the confidence intervals.
        seed: Of the draws.
        asr: Speech recogniser for the word error rate: a folder that ``AVSR.from_pretrained`` loads. It hears the
            decoded sound; the text is that of the data folder.
        versa: ``auto`` uses VERSA where it is installed and ``versa_metrics`` ask for it; ``off`` never.
        versa_metrics: Entries of a configuration of VERSA.
        opus_kbps: Bit rates at which Opus is scored beside the codec; none: no anchor.
        score_input: Also score the sound that was encoded, as it is.
    """

    metrics: Sequence[str] = DEFAULT_METRICS
    sample_rate: int = 24000
    max_utts: int = 0
    allow_missing: bool = False
    num_resamples: int = 1000
    seed: int = 0
    asr: str | None = None
    versa: str = "auto"
    versa_metrics: Sequence[Mapping[str, Any]] = ()
    opus_kbps: Sequence[float] = DEFAULT_KBPS
    score_input: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", expand_metrics(self.metrics))
        object.__setattr__(self, "opus_kbps", tuple(sorted(float(rate) for rate in self.opus_kbps)))
        if self.versa not in VERSA_CHOICES:
            usage_error("versa is unknown", got=self.versa, allowed=VERSA_CHOICES)
        if self.sample_rate < 8000:
            usage_error("sample_rate is too low", got=self.sample_rate, allowed=">= 8000")


@dataclass(frozen=True)
class ScoreItem:
    """The files of one recording; the reference may be absent."""

    uid: str
    estimate: str
    reference: str | None


@dataclass(frozen=True)
class ScoredUtterance:
    """Scores of one recording; NaN where a metric is not defined."""

    uid: str
    seconds: float
    values: Mapping[str, float]
    silent_reference: bool = False
    silent_estimate: bool = False
    words: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoredSet:
    """Scores of a set: the row of ``results.json`` and what is behind it."""

    row: dict[str, Any]
    utterances: tuple[ScoredUtterance, ...]


def read_references(data_dir: str | Path) -> dict[str, str]:
    """Return id -> reference file of a data folder: ``reference.scp``, else ``wav.scp``."""
    data = DataDir(data_dir)
    name = "reference.scp" if data.has("reference.scp") else "wav.scp"
    if not data.has(name):
        raise MissingDataError(describe(f"{data_dir} has no reference.scp and no wav.scp", fix="run stages 1 and 2"))
    return data.read(name)


def list_decoded(folder: str | Path) -> dict[str, str]:
    """Return id -> decoded file of ``wav/wav.scp``, ``wav.scp`` or the files in ``wav/``; empty without any."""
    folder = Path(folder)
    for path in (folder / "wav" / "wav.scp", folder / "wav.scp"):
        if path.is_file():
            return read_scp(path)
    return {path.stem: str(path) for path in sorted((folder / "wav").glob("*.wav"))}


def find_items(
    references: Mapping[str, str], estimates: Mapping[str, str], folder: str | Path, options: ScoreOptions
) -> tuple[list[ScoreItem], int]:
    """Find out which files belong together.

    Args:
        references: Id -> file.
        estimates: Id -> file.
        folder: Where the decoded sound lies, for messages and ``bad.json``: what inference listed there is left out.
        options: ``allow_missing`` and ``max_utts``.

    Returns:
        The recordings in order of their ids, and the number of those that were left out.

    Raises:
        MissingDataError: There is no decoded sound.
        DataError: The lists of files differ.
    """
    if not estimates:
        raise MissingDataError(describe(f"no decoded sound in {folder}", fix="bash run.sh --stage 6 --stop_stage 6"))
    unknown = sorted(set(estimates) - set(references))
    if unknown:
        fix = "name the data folder of this set, or remove them"
        raise DataError(describe(f"{folder}: {len(unknown)} recordings have no reference", _first(unknown), fix=fix))
    wanted = spread(sorted(references), options.max_utts)
    bad = _bad_ids(Path(folder))
    missing = {uid for uid in wanted if uid not in estimates}
    if missing - bad and not options.allow_missing:
        what = f"{folder}: {len(missing - bad)} of {len(wanted)} recordings are not decoded"
        fix = "finish stage 6, or pass --allow_missing true to score the others"
        raise DataError(describe(what, got=_first(sorted(missing - bad)), fix=fix))
    items = [ScoreItem(uid, estimates[uid], references[uid]) for uid in wanted if uid not in missing]
    if not items:
        raise DataError(describe(f"none of the recordings to score is in {folder}", fix="decode this set again"))
    return items, len(missing)


def spread(names: Sequence[str], count: int) -> list[str]:
    """Return ``count`` names spread evenly over the list, or all for 0."""
    if count < 1 or count >= len(names):
        return list(names)
    return [names[index] for index in np.linspace(0, len(names) - 1, count).round().astype(int)]


def score_item(item: ScoreItem, *, metrics: Sequence[str], sample_rate: int) -> ScoredUtterance:
    """Read the files of a recording and score it.

    Raises:
        DataError: A file cannot be read, holds samples that are not finite, or another length than the other.
    """
    estimate, _ = read_audio(item.estimate, sample_rate, resample=True)
    reference = None
    if item.reference is not None:
        reference, _ = read_audio(item.reference, sample_rate, resample=True)
        estimate, reference = fit_lengths(estimate, reference, item.estimate)
    if not np.isfinite(estimate).all() or (reference is not None and not np.isfinite(reference).all()):
        what = f"{item.estimate} or {item.reference} holds samples that are not finite"
        raise DataError(describe(what, fix="decode this recording again"))
    found = score_signal(estimate, reference, sample_rate, metrics)
    seconds = len(estimate) / sample_rate
    return ScoredUtterance(item.uid, seconds, found.values, found.silent_reference, found.silent_estimate)


def score_files(
    items: Sequence[ScoreItem], options: ScoreOptions, *, texts: Mapping[str, str] | None, title: str, nj: int = 1
) -> tuple[tuple[ScoredUtterance, ...], dict[str, str]]:
    """Score recordings with everything that can run here.

    Args:
        items: The files.
        options: How to score.
        texts: Id -> what is said; None or empty skips the word error rate.
        title: For the progress.
        nj: Number of processes.

    Returns:
        The scores, and metric -> reason of what was skipped.
    """
    skipped = {name: reason for name in options.metrics if (reason := why_skipped(name))}
    metrics = [name for name in options.metrics if name not in skipped]
    work = functools.partial(score_item, metrics=metrics, sample_rate=options.sample_rate)
    done = list(map_items(work, items, nj, f"score {title}"))
    if options.versa_metrics:
        reason = "--versa off" if options.versa == "off" else why_absent()
        if reason is None and any(item.reference is None for item in items):
            reason = "VERSA needs references"
        if reason is None:
            estimates = {item.uid: str(Path(item.estimate).resolve()) for item in items}
            references = {item.uid: str(Path(str(item.reference)).resolve()) for item in items}
            more = run_versa(estimates, references, options.versa_metrics)
            done = [_with_values(item, more.get(item.uid, {})) for item in done]
        else:
            skipped |= {versa_title(entry): reason for entry in options.versa_metrics}
    reason = _why_no_words(options, texts, items)
    if reason is None:
        sounds = [item.estimate for item in items]
        words = recognise(sounds, [(texts or {})[item.uid] for item in items], str(options.asr))
        done = [dataclasses.replace(item, words=found) for item, found in zip(done, words, strict=True)]
    else:
        skipped["wer"] = reason
    return tuple(done), skipped


def versa_title(entry: Mapping[str, Any]) -> str:
    """Return a name for an entry of a configuration of VERSA, ``pseudo_mos (utmos)``."""
    kinds = entry.get("predictor_types")
    return str(entry.get("name", "?")) + (f" ({', '.join(map(str, kinds))})" if kinds else "")


def score_set(
    data_dir: str | Path,
    decoded: str | Path,
    options: ScoreOptions | None = None,
    *,
    system: str = "codec",
    kbps: float | None = None,
    nj: int = 1,
) -> ScoredSet:
    """Score all recordings of a decoded set.

    Args:
        data_dir: Data folder with ``reference.scp`` or ``wav.scp``; its ``text`` is for the word error rate.
        decoded: Folder with ``wav/wav.scp`` or ``wav/<id>.wav``.
        options: How to score.
        system: What made it, for the row.
        kbps: At which bit rate, kbit/s.
        nj: Number of processes.

    Raises:
        MissingDataError, DataError: As :func:`find_items` and :func:`score_item`.
    """
    options = options or ScoreOptions()
    items, num_missing = find_items(read_references(data_dir), list_decoded(decoded), decoded, options)
    name = Path(data_dir).name
    title = f"{name}, {system}" + (f" {kbps:g} kbps" if kbps is not None else "")
    utterances, skipped = score_files(items, options, texts=read_texts(data_dir), title=title, nj=nj)
    facts = read_json(Path(decoded) / "infer.json")
    facts = facts if isinstance(facts, Mapping) else {}
    row: dict[str, Any] = {"set": name, "system": system, "bitrate_kbps": kbps, "n_missing": num_missing}
    row |= {key: facts[key] for key in ("measured_kbps", "checkpoint") if facts.get(key) is not None}
    row |= set_row(utterances, options, skipped)
    usage = codebook_usage(decoded)
    if usage:
        row["codebooks"] = usage
    if facts.get("command"):
        row["infer_command"] = facts["command"]
    return ScoredSet(row, utterances)


def read_texts(data_dir: str | Path) -> dict[str, str]:
    """Return what is said in the recordings of a data folder; empty where it has no ``text``."""
    data = DataDir(data_dir)
    return data.read("text", allow_empty=True) if data.has("text") else {}


def set_row(utterances: Sequence[ScoredUtterance], options: ScoreOptions, skipped: Mapping[str, str]) -> dict[str, Any]:
    """Return means, their intervals and counts of a set.

    * metric -> mean over recordings where it is defined, None where it is for none; ``metrics`` lists them;
    * ``ci``: metric -> (low, high), percentile bootstrap over recordings;
    * ``n_utts``, ``seconds``, ``n_silent`` (silent references), ``n_silent_estimates``;
    * ``n_undefined``: metric -> recordings without a value; ``skipped``: metric -> reason;
    * ``wer``, ``cer``, ``n_words`` where a recogniser was given.
    """
    row: dict[str, Any] = {
        "n_utts": len(utterances),
        "seconds": sum(item.seconds for item in utterances),
        "n_silent": sum(item.silent_reference for item in utterances),
        "n_silent_estimates": sum(item.silent_estimate for item in utterances),
    }
    names = list(dict.fromkeys(name for item in utterances for name in item.values))
    intervals, undefined = {}, {}
    for name in names:
        values = np.array([item.values.get(name, math.nan) for item in utterances], dtype=float)
        defined = values[np.isfinite(values)]
        row[name] = float(defined.mean()) if len(defined) else None
        if len(defined) < len(values):
            undefined[name] = len(values) - len(defined)
        intervals[name] = interval_of_mean(defined, options.num_resamples, options.seed)
    if any(item.words for item in utterances):
        words, word_intervals = word_row([item.words for item in utterances], options.num_resamples, options.seed)
        row |= words
        intervals |= word_intervals
    return {
        **row,
        "metrics": names,
        "ci": {name: value for name, value in intervals.items() if value is not None},
        "n_undefined": undefined,
        "skipped": dict(skipped),
    }


def interval_of_mean(values: np.ndarray, num_resamples: int, seed: int) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval of a mean, or None for fewer than two values."""
    if len(values) < 2 or num_resamples < 1:
        return None
    found = bootstrap_interval(values, np.ones(len(values)), level=LEVEL, num_resamples=num_resamples, seed=seed)
    return float(found.low), float(found.high)


def compare_sets(first: ScoredSet, second: ScoredSet, options: ScoreOptions) -> dict[str, Any]:
    """Return how much two systems differ on the same recordings: metric -> mean difference and its paired interval."""
    others = {item.uid: item for item in second.utterances}
    pairs = [(item, others[item.uid]) for item in first.utterances if item.uid in others]
    differences = {}
    for name in options.metrics:
        values = np.array([a.values.get(name, math.nan) - b.values.get(name, math.nan) for a, b in pairs], dtype=float)
        values = values[np.isfinite(values)]
        if len(values):
            low, high = interval_of_mean(values, options.num_resamples, options.seed) or (None, None)
            differences[name] = {"mean": float(values.mean()), "ci_low": low, "ci_high": high, "n": len(values)}
    facts = {
        part: {key: scored.row.get(key) for key in ("system", "bitrate_kbps")}
        for part, scored in (("first", first), ("second", second))
    }
    return {"set": first.row["set"], **facts, "differences": differences}


def write_set(scored: ScoredSet, folder: str | Path, digest: str | None = None) -> None:
    """Write ``utt_result.txt``, ``avg_result.txt`` and ``scores.json`` of a set."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / PER_UTTERANCE) as stream:
        for item in scored.utterances:
            line = {"key": item.uid, **item.values, **{key: item.words[key] for key in ("wer", "cer") if item.words}}
            stream.write(json.dumps(without_nan(line), ensure_ascii=False) + "\n")
    with atomic_write(folder / MEANS) as stream:
        stream.writelines(f"{line}\n" for line in mean_lines(scored.row))
    utterances = [
        {
            "key": item.uid,
            "seconds": item.seconds,
            "values": item.values,
            "silent_reference": item.silent_reference,
            "silent_estimate": item.silent_estimate,
            "words": item.words,
        }
        for item in scored.utterances
    ]
    write_json(folder / SUMMARY, {"digest": digest, "row": scored.row, "utterances": utterances})


def read_set(folder: str | Path) -> tuple[ScoredSet, str | None] | None:
    """Return what :func:`write_set` wrote and its digest; None where there is nothing."""
    content = read_json(Path(folder) / SUMMARY)
    if not isinstance(content, Mapping):
        return None
    utterances = tuple(
        ScoredUtterance(
            item["key"],
            item["seconds"],
            {name: math.nan if value is None else value for name, value in item["values"].items()},
            item["silent_reference"],
            item["silent_estimate"],
            item["words"],
        )
        for item in content["utterances"]
    )
    return ScoredSet(dict(content["row"]), utterances), content.get("digest")


def mean_lines(row: Mapping[str, Any]) -> list[str]:
    """Return the lines of ``avg_result.txt``."""
    lines = []
    for name in (name for name in (*row["metrics"], "wer", "cer") if name in row):
        value = row[name]
        lines.append(f"{name}: {value:.6f}" if value is not None else f"{name}: undefined")
    return [*lines, *(f"{name}: skipped ({reason})" for name, reason in row["skipped"].items())]


def _why_no_words(options: ScoreOptions, texts: Mapping[str, str] | None, items: Sequence[ScoreItem]) -> str | None:
    if not options.asr:
        return "no recogniser; fix: --asr MODEL"
    if not texts or not all(item.uid in texts for item in items):
        return "the data folder has no text of these recordings"
    return None


def _with_values(item: ScoredUtterance, more: Mapping[str, float]) -> ScoredUtterance:
    named = {f"versa_{name}" if name in item.values else name: value for name, value in more.items()}
    return dataclasses.replace(item, values={**item.values, **named})


def _bad_ids(folder: Path) -> set[str]:
    reasons = (read_json(folder / BAD) or {}).get("reasons", {})
    return {uid for entry in reasons.values() for uid in entry.get("utterances", ())}


def _first(names: Sequence[str], shown: int = 5) -> str:
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")
