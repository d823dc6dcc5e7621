# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Results of generation: ``results.json`` for programs, ``RESULTS.md`` for people.

task: avgen
rows:                                        # one per test set and system
  - {set: test, system: joint, n_utts: 40, n_samples: 120, n_missing: 0, closure_f1: 0.83, lip_sync_r: 0.71, ...,
     ci: {closure_f1: [0.80, 0.86], ...}, skipped: {wer: "no recogniser: pass --asr MODEL"}}
comparisons:                                 # of the first system with each other one, on the same recordings
  - {set: test, first: joint, second: cascade, n_utts: 40, differences: {closure_f1: {difference: 0.05, ...}}}

Two systems are no systems: ``real`` are the recordings themselves (its distances are those between two halves of
them), ``resynthesis`` is the upper bound: real mel spectrograms through the vocoder, real poses through the head VAE.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from espnet_av.report.results import markdown_table, reproduce_section, stage_table
from espnet_av.utils.experiment import set_order
from espnet_av.utils.figures import ABSENT

TASK = "avgen"
REAL, RESYNTHESIS = "real", "resynthesis"
HIGHER, LOWER, NEAR = "higher", "lower", "near real"
SYSTEM_TITLES = {REAL: "real recordings", RESYNTHESIS: "upper bound (resynthesis)"}


@dataclass(frozen=True)
class Metric:
    """A column: title, digits, what is good, and a factor for showing."""

    title: str
    digits: int = 2
    better: str = HIGHER
    factor: float = 1.0


METRICS = {
    "closure_f1": Metric("closure F1", 3),
    "closure_precision": Metric("closure precision", 3),
    "closure_recall": Metric("closure recall", 3),
    "lip_sync_r": Metric("lip-sync r", 3, NEAR),
    "lip_sync_lag": Metric("lag (frames)", 1, NEAR),
    "lip_sync_best_r": Metric("r at best lag", 3, NEAR),
    "lip_sync_confidence": Metric("confidence", 3, NEAR),
    "opening_r": Metric("opening r", 3),
    "viseme_accuracy": Metric("visemes %", 1, HIGHER, 100),
    "wer": Metric("WER %", 1, LOWER, 100),
    "cer": Metric("CER %", 1, LOWER, 100),
    "mel_l1": Metric("mel L1", 3, LOWER),
    "mcd": Metric("MCD (dB)", 2, LOWER),
    "vocoder_mel_l1": Metric("vocoder mel L1", 3, LOWER),
    "fd_face": Metric("FD face", 3, LOWER),
    "fd_face_delta": Metric("FD face moves", 4, LOWER),
    "fd_head": Metric("FD head", 3, LOWER),
    "fd_head_delta": Metric("FD head moves", 4, LOWER),
    "div_static_face": Metric("face spread", 2, NEAR),
    "div_kinetic_face": Metric("face variance", 4, NEAR),
    "div_sample_face": Metric("face between samples", 4, NEAR),
    "div_static_head": Metric("head spread", 2, NEAR),
    "div_kinetic_head": Metric("head variance", 4, NEAR),
    "div_sample_head": Metric("head between samples", 4, NEAR),
    "l1div_face": Metric("L1div face", 2, NEAR),
    "l1div_head": Metric("L1div head", 2, NEAR),
    "jerk_face": Metric("jerk face", 0, NEAR),
    "jerk_head": Metric("jerk head", 0, NEAR),
    "beat_motion_to_audio": Metric("beats, head to voice", 3, NEAR),
    "beat_audio_to_motion": Metric("beats, voice to head", 3, NEAR),
    "fd_face_listening": Metric("FD face", 3, LOWER),
    "follow_brow_r": Metric("brow r", 3, NEAR),
    "follow_brow_lag_sec": Metric("brow delay (s)", 2, NEAR),
    "follow_head_r": Metric("head r", 3, NEAR),
    "follow_head_lag_sec": Metric("head delay (s)", 2, NEAR),
    "listening_level_db": Metric("level against speech (dB)", 1, NEAR),
    "steps": Metric("steps", 0, NEAR),
    "nfe": Metric("network calls", 0, LOWER),
    "rtf": Metric("RTF", 3, LOWER),
    "vocoder_rtf": Metric("vocoder RTF", 3, LOWER),
    "first_chunk_sec": Metric("first sound (s)", 2, LOWER),
    "peak_memory_mb": Metric("memory (MB)", 0, LOWER),
}
#: Title of a table -> its columns.
TABLES = {
    "Mouth and voice": ("closure_f1", "lip_sync_r", "lip_sync_lag", "opening_r", "viseme_accuracy", "wer", "cer"),
    "Sound": ("mel_l1", "mcd", "vocoder_mel_l1"),
    "Motion": (
        "fd_face",
        "fd_face_delta",
        "fd_head",
        "fd_head_delta",
        "jerk_face",
        "jerk_head",
        "beat_motion_to_audio",
        "beat_audio_to_motion",
    ),
    "Diversity": (
        "div_static_face",
        "div_kinetic_face",
        "div_sample_face",
        "div_static_head",
        "div_kinetic_head",
        "div_sample_head",
        "l1div_face",
        "l1div_head",
    ),
    "Listening": (
        "fd_face_listening",
        "follow_brow_r",
        "follow_brow_lag_sec",
        "follow_head_r",
        "follow_head_lag_sec",
        "listening_level_db",
    ),
    "Speed": ("steps", "nfe", "rtf", "vocoder_rtf", "first_chunk_sec", "peak_memory_mb"),
}
COMPARED = ("closure_f1", "lip_sync_r", "opening_r", "viseme_accuracy", "wer", "mel_l1")
INTERVALS_IN = ("Mouth and voice",)


def is_number(value: Any) -> TypeGuard[float]:
    """Tell whether a value of a row is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def shown(name: str, value: Any) -> str:
    """Format the value of a metric; a dash where there is none.

    >>> shown("wer", 0.157), shown("lip_sync_lag", -0.01)
    ('15.7', '0.0')
    """
    if not is_number(value):
        return ABSENT
    metric = METRICS[name]
    return f"{round(value * metric.factor, metric.digits) + 0.0:.{metric.digits}f}"


def cell(row: Mapping[str, Any], name: str, *, interval: bool = False) -> str:
    """Format a metric of a row, with its confidence interval where it has one: ``0.812 [0.790, 0.830]``."""
    text = shown(name, row.get(name))
    found = (row.get("ci") or {}).get(name)
    if not interval or text == ABSENT or not found or not all(map(is_number, found)):
        return text
    return f"{text} [{shown(name, found[0])}, {shown(name, found[1])}]"


def system_title(name: str) -> str:
    """Return the name of a system for people."""
    return SYSTEM_TITLES.get(name, name.replace("_", " "))


def ordered(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return rows by set; inside it in the order they have, then the upper bound, then the real recordings."""
    last = {RESYNTHESIS: 1, REAL: 2}
    return sorted(rows, key=lambda row: (set_order(row["set"]), last.get(row["system"], 0)))


def table(
    rows: Sequence[Mapping[str, Any]], title: str, *, intervals: bool = True
) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of a table of :data:`TABLES`; without columns that no row fills, no rows if all are empty.

    Args:
        rows: Rows of the results.
        title: Of the table.
        intervals: Show confidence intervals, in tables that have them.
    """
    names = [name for name in TABLES[title] if any(is_number(row.get(name)) for row in rows)]
    header = ["set", "system", "samples", *(METRICS[name].title for name in names)]
    interval = intervals and title in INTERVALS_IN
    body = [
        [
            row["set"],
            system_title(row["system"]),
            str(row.get("n_samples", ABSENT)),
            *(cell(row, name, interval=interval) for name in names),
        ]
        for row in ordered(rows)
        if any(is_number(row.get(name)) for name in names)
    ]
    return header, body


def filled_metrics(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the metrics that a row has."""
    return [name for name in METRICS if any(is_number(row.get(name)) for row in rows)]


def main_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the main table; where no mouth is known, that of motion."""
    found = table(rows, "Mouth and voice")
    return found if found[1] else table(rows, "Motion")


def comparison_table(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the differences between systems; bold where the interval excludes 0."""
    found = results.get("comparisons") or ()
    names = [name for name in COMPARED if any(name in item["differences"] for item in found)]
    header = ["set", "difference", "recordings", *(METRICS[name].title for name in names)]
    body = []
    for item in found:
        pair = f"{system_title(item['first'])} - {system_title(item['second'])}"
        cells = [_difference(name, item["differences"].get(name)) for name in names]
        body.append([item["set"], pair, str(item.get("n_utts", ABSENT)), *cells])
    return header, body


def _difference(name: str, item: Mapping[str, Any] | None) -> str:
    if item is None or not is_number(item.get("difference")):
        return ABSENT
    metric = METRICS[name]
    text = f"{round(item['difference'] * metric.factor, metric.digits) + 0.0:+.{metric.digits}f}"
    low, high = item.get("ci_low"), item.get("ci_high")
    if not (is_number(low) and is_number(high)):
        return text
    text = f"{text} [{shown(name, low)}, {shown(name, high)}]"
    return f"**{text}**" if low > 0 or high < 0 else text


def skipped_metrics(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return metrics that no row has, with the reason, once each."""
    rows = list(rows)
    found: dict[str, str] = {}
    for row in rows:
        for name, reason in (row.get("skipped") or {}).items():
            if not any(is_number(other.get(name)) for other in rows):
                found.setdefault(METRICS[name].title if name in METRICS else name, reason)
    return list(found.items())


def particulars(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a line for each set with recordings that are not scored."""
    return [
        f"{row['set']}, {system_title(row['system'])}: {row['n_missing']} recordings without samples are left out"
        for row in rows
        if row.get("n_missing")
    ]


def results_markdown(results: Mapping[str, Any], stages: Sequence[Mapping[str, Any]], title: str) -> str:
    """Return the text of ``RESULTS.md``.

    Args:
        results: Content of ``results.json``.
        stages: Lines of ``stages.jsonl``; may be empty.
        title: Name of the experiment.
    """
    rows = results["rows"]
    parts = [f"# Results of {title}"]
    for name in TABLES:
        header, body = table(rows, name)
        if body:
            parts += [f"## {name}", markdown_table(header, body, right=2), note(name, results)]
    parts += [f"{name}: skipped ({reason})" for name, reason in skipped_metrics(rows)]
    parts += particulars(rows)
    header, body = comparison_table(results)
    if body:
        parts += ["## Differences between systems", markdown_table(header, body, right=2)]
        parts.append("On the same recordings; bold where the interval excludes 0.")
    parts += ["## How to reproduce", reproduce_section(results)]
    if stages:
        parts += ["## Time and memory", stage_table(stages)]
    return "\n\n".join(part for part in parts if part) + "\n"


def note(title: str, results: Mapping[str, Any]) -> str:
    """Return the sentences that belong under a table."""
    rows, interval = results["rows"], results.get("bootstrap") or {}
    if title == "Mouth and voice":
        text = (
            "Closure F1: frames with a closed mouth against the real mouth at the same times. Lip-sync r: loudness of "
            "the own voice against the opening of the mouth; a positive lag means that the mouth is late. Good is what "
            "real recordings reach."
        )
        if any(row.get("ci") for row in rows):
            level, draws = round(100 * interval.get("level", 0.95)), interval.get("num_resamples", ABSENT)
            text += f" In brackets: {level} % confidence intervals from {draws} bootstrap draws of recordings."
        return text
    if title == "Motion":
        text = "FD: Frechet distance of frames, or of differences between frames; lower is better. "
        return text + "The row of real recordings compares their two halves: below that, differences mean nothing."
    if title == "Diversity":
        return "Good is what real recordings have, not the largest value. Heads are in deviations of the real poses."
    if title == "Sound":
        return "MCD is taken after aligning the times; lower is better everywhere."
    if title == "Listening":
        return "r and delay of own brow and head against the partner's voice, the best of 0 to 2 s."
    return ""
