# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Scores of separated voices: one line for each voice of a mixture, and what they amount to."""

import csv
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.utils.bootstrap import bootstrap_interval
from espnet_av.utils.errors import DataError, MissingDataError, describe

SCORES = "scores.csv"
MAIN_METRIC = "si_snri"
#: Metric -> title and digits; higher is better for all.
METRICS: dict[str, tuple[str, int]] = {
    "si_snri": ("SI-SNRi (dB)", 2),
    "si_snr": ("SI-SNR (dB)", 2),
    "snri": ("SNRi (dB)", 2),
    "snr": ("SNR (dB)", 2),
    "sdri": ("SDRi (dB)", 2),
    "sdr": ("SDR (dB)", 2),
    "si_sdri": ("SI-SDRi (dB)", 2),
    "si_sdr": ("SI-SDR (dB)", 2),
    "pesq_wb": ("PESQ wb", 2),
    "pesq_nb": ("PESQ nb", 2),
    "stoi": ("STOI", 3),
    "estoi": ("ESTOI", 3),
}
KIND_TITLES = {"same_speaker": "same speaker", "same_gender": "same gender", "other": "other pairs"}
TEXT_COLUMNS = ("mixture", "voice", "kind")


@dataclass(frozen=True)
class PairScore:
    """Scores of one voice of one mixture; a metric that could not be computed is absent."""

    mixture: str
    voice: str
    kind: str
    values: Mapping[str, float]


def read_scores(path: str | Path) -> list[PairScore]:
    """Read a ``scores.csv``.

    Raises:
        MissingDataError: There is none.
        DataError: A column is missing or a value is no number; the message names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(describe(f"no scores: {path}", fix="bash run.sh --stage 7 --stop_stage 7"))
    found = []
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        absent = [name for name in ("mixture", "voice") if name not in (reader.fieldnames or ())]
        if absent:
            raise DataError(describe(f"{path} lacks columns", got=list(reader.fieldnames or ()), allowed=absent))
        for line in reader:
            values = {}
            for name, text in line.items():
                if name in TEXT_COLUMNS or name not in METRICS or not text:
                    continue
                try:
                    values[name] = float(text)
                except ValueError as error:
                    what = f"{path} line {reader.line_num}, {name}: no number"
                    raise DataError(describe(what, got=text, fix="run stage 7 again")) from error
            usual = {name: value for name, value in values.items() if math.isfinite(value)}
            found.append(PairScore(line["mixture"], line["voice"], line.get("kind") or "", usual))
    return found


def summarise(
    scores: Sequence[PairScore], *, num_silent: int = 0, num_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Any]:
    """Return the figures of a result row: means over pairs, interval of SI-SNRi, and the same per kind of pair.

    Args:
        scores: Pairs of one set; an equal number of draws of whole mixtures gives the interval.
        num_silent: Pairs left out because their reference is silent.
        num_resamples: Bootstrap draws.
        level: Share of the draws inside the interval.
        seed: Seed of the draws.
    """
    means = functools.partial(_means, num_resamples=num_resamples, level=level, seed=seed)
    row: dict[str, Any] = {"n_mixtures": len({item.mixture for item in scores}), "n_silent": num_silent}
    row |= means(scores)
    kinds = sorted({item.kind for item in scores if item.kind}, key=kind_order)
    if kinds:
        row["kinds"] = {kind: means([item for item in scores if item.kind == kind]) for kind in kinds}
    return row


def _means(scores: Sequence[PairScore], *, num_resamples: int, level: float, seed: int) -> dict[str, Any]:
    means: dict[str, Any] = {"n_pairs": len(scores)}
    for name in METRICS:
        values = [item.values[name] for item in scores if name in item.values]
        if values:
            means[name] = float(np.mean(values))
    low, high = _interval(scores, num_resamples, level, seed)
    return {**means, "ci_low": low, "ci_high": high}


def _interval(
    scores: Sequence[PairScore], num_resamples: int, level: float, seed: int
) -> tuple[float | None, float | None]:
    """Percentile bootstrap of mean SI-SNRi; the voices of a mixture are drawn together."""
    groups: dict[str, list[float]] = {}
    for item in scores:
        if MAIN_METRIC in item.values:
            groups.setdefault(item.mixture, []).append(item.values[MAIN_METRIC])
    if len(groups) < 2 or num_resamples < 1:
        return None, None
    sums = np.array([sum(values) for values in groups.values()])
    counts = np.array([len(values) for values in groups.values()])
    found = bootstrap_interval(sums, counts, level=level, num_resamples=num_resamples, seed=seed)
    return found.low, found.high


def kind_order(name: str) -> tuple[int, str]:
    """Sort key of a kind of pair: same speaker, same gender, other, then others by name."""
    known = list(KIND_TITLES)
    return (known.index(name) if name in known else len(known), name)
