# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The results of every task in one form: a list of scores, each of a test set, a system and a metric.

``results.json`` has them under ``scores``, whatever the task; ``rows`` beside them hold what is particular to a task.
Rates are in per cent, and whatever has a unit says which.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

HIGHER, LOWER, NEAR = "higher", "lower", "near real"
MAIN_METRICS = {
    "avsr": ("wer",),
    "avss": ("si_snri",),
    "codec": ("pesq_wb", "visqol", "estoi", "si_sdr"),
    "avgen": ("closure_f1", "lip_sync_r", "wer", "fd_face"),
    "activesep": ("return", "paper.stft_l2", "honest.si_sdri"),
}


@dataclass(frozen=True)
class Score:
    """One figure.

    Attributes:
        set: Test set.
        system: What was scored: a modality, the lips that were given, a codec at a bit rate, a policy.
        metric: Short name, for programs.
        title: Name for people.
        unit: ``%``, ``dB``, ``s``, ...; empty where there is none.
        better: ``higher``, ``lower`` or ``near real``.
        value: Mean or rate; None where it is not defined.
        ci_low: Lower end of the confidence interval; None where there is none.
        ci_high: Upper end.
        count: Number of utterances, mixtures, recordings or episodes behind it.
    """

    set: str
    system: str
    metric: str
    title: str
    unit: str
    better: str
    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    count: int | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """Set, system and metric: what scores of two experiments are compared by."""
        return (self.set, self.system, self.metric)

    def is_main_of(self, task: str) -> bool:
        """Tell whether this is one of the figures that stand for this task."""
        return self.metric in MAIN_METRICS.get(task, ())

    def cell(self) -> str:
        """Format value and interval, ``6.1 [3.9, 8.4]``."""
        if self.value is None:
            return "–"
        bounds = [plain_number(value, 3) for value in (self.ci_low, self.ci_high) if value is not None]
        return plain_number(self.value) + (f" [{', '.join(bounds)}]" if len(bounds) == 2 else "")


def plain_number(value: float, digits: int = 4, sign: str = "") -> str:
    """Format a number with this many significant digits, and all digits before the point.

    >>> plain_number(0.12345), plain_number(1012.3, 3), plain_number(12.3, 3, "+")
    ('0.1235', '1012', '+12.3')
    """
    text = f"{value:{sign}.{digits}g}"
    return f"{value:{sign}.0f}" if "e+" in text else text


def collect_scores(results: Mapping[str, Any]) -> list[Score]:
    """Return the scores of the content of a ``results.json``, in the order of its rows.

    Args:
        results: Of any task; results that name none are of speech recognition.
    """
    find = _FINDERS.get(str(results.get("task") or "avsr"), _of_other)
    return [score for row in results.get("rows") or () for score in find(row)]


def score_dicts(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return :func:`collect_scores` as plain values for ``results.json``."""
    return [asdict(score) for score in collect_scores(results)]


def system_name(row: Mapping[str, Any]) -> str:
    """Return what the scores of a row call the system."""
    name = str(row.get("modality") or row.get("lips") or row.get("system") or "")
    rate = _number(row.get("bitrate_kbps"))
    return f"{name}, {rate:g} kbit/s" if rate is not None else name


def _of_recognition(row: Mapping[str, Any]) -> Iterator[Score]:
    count = row.get("n_utts")
    for metric, ends in (("wer", ("ci_low", "ci_high")), ("cer", ())):
        if metric in row:
            low, high = [_number(row.get(name), 100) for name in ends] or (None, None)
            value = _number(row[metric], 100)
            yield Score(row["set"], system_name(row), metric, metric.upper(), "%", LOWER, value, low, high, count)
    invented = _number(row.get("silent_ins_per_min"))
    if invented is not None:
        title = "words on silence"
        yield Score(
            row["set"], system_name(row), "silent_ins_per_min", title, "per minute", LOWER, invented, count=count
        )


def _of_separation(row: Mapping[str, Any]) -> Iterator[Score]:
    from espnet_av.avss.pair_scores import MAIN_METRIC, METRICS

    for metric, (title, _) in METRICS.items():
        if metric in row:
            low, high = (_number(row.get(name)) if metric == MAIN_METRIC else None for name in ("ci_low", "ci_high"))
            name, unit = _split(title)
            value, count = _number(row[metric]), row.get("n_mixtures")
            yield Score(row["set"], system_name(row), metric, name, unit, HIGHER, value, low, high, count)


def _of_codec(row: Mapping[str, Any]) -> Iterator[Score]:
    from espnet_av.report.codec_results import LOWER_IS_BETTER, METRICS, RATES, title_of

    for metric in dict.fromkeys((*METRICS, *RATES, *(row.get("metrics") or ()))):
        value = _number(row.get(metric), 100 if metric in RATES else 1)
        if value is None:
            continue
        interval = (row.get("ci") or {}).get(metric) or (None, None)
        low, high = (_number(end, 100 if metric in RATES else 1) for end in interval)
        name, unit = _split(title_of(metric))
        better = LOWER if metric in LOWER_IS_BETTER else HIGHER
        yield Score(
            row["set"],
            system_name(row),
            metric,
            name,
            unit,
            better,
            value,
            low,
            high,
            row.get("n_utts"),
        )


def _of_generation(row: Mapping[str, Any]) -> Iterator[Score]:
    from espnet_av.report.avgen_results import METRICS

    for metric, facts in METRICS.items():
        value = _number(row.get(metric), facts.factor)
        if value is None:
            continue
        low, high = (_number(end, facts.factor) for end in (row.get("ci") or {}).get(metric) or (None, None))
        name, unit = _split(facts.title)
        yield Score(
            row["set"],
            system_name(row),
            metric,
            name,
            unit,
            facts.better,
            value,
            low,
            high,
            row.get("n_utts"),
        )


def _of_agents(row: Mapping[str, Any]) -> Iterator[Score]:
    from espnet_av.report.activesep_results import METRIC_TITLES

    found = [("return", "return", "", HIGHER, row.get("return"))]
    for column, by_metric in (row.get("refined") or {}).items():
        for metric, facts in by_metric.items():
            unit = "" if metric == "stft_l2" else "dB"
            better = LOWER if metric == "stft_l2" else HIGHER
            found.append((f"{column}.{metric}", f"{METRIC_TITLES.get(metric, metric)} {column}", unit, better, facts))
    for metric, title, unit, better, facts in found:
        mean, half = (_number((facts or {}).get(name)) for name in ("mean", "ci95"))
        if facts is None:
            continue
        low, high = (None, None) if mean is None or half is None else (mean - half, mean + half)
        count = row.get("num_episodes")
        yield Score(row["set"], system_name(row), metric, title, unit, better, mean, low, high, count)


def _of_other(row: Mapping[str, Any]) -> Iterator[Score]:
    """Every number of a row of a task that is not known here."""
    for metric, value in row.items():
        if _number(value) is not None and not metric.startswith(("n_", "ci_")):
            yield Score(str(row.get("set")), system_name(row), metric, metric, "", HIGHER, _number(value))


_FINDERS = {
    "avsr": _of_recognition,
    "avss": _of_separation,
    "codec": _of_codec,
    "avgen": _of_generation,
    "activesep": _of_agents,
}


def _split(title: str) -> tuple[str, str]:
    """Part ``SDR (dB)`` and ``WER %`` into name and unit."""
    if title.endswith(" %"):
        return title.removesuffix(" %"), "%"
    name, found, rest = title.rpartition(" (")
    return (name, rest.removesuffix(")")) if found and rest.endswith(")") else (title, "")


def _number(value: Any, factor: float = 1) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value * factor
