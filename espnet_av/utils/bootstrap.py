# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Percentile bootstrap: confidence intervals of rates over a set, by drawing its items with replacement.

A rate is ``sum(above) / sum(below)`` over items (utterances, recordings, mixtures): errors by reference words, or
values by their number. Draws with nothing below the line are left out.

Axes: ``U`` items.

Reference:
    M. Bisani, H. Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from espnet_av.utils.errors import UsageError, describe

MAX_DRAWS_AT_ONCE = 4_000_000  # bounds the memory: indices held at the same time
#: What stands above and below the line, one value per item each.
Columns = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a rate; NaN on both sides where it cannot be told."""

    low: float
    high: float


def bootstrap_interval(
    above: np.ndarray,
    below: np.ndarray,
    *,
    level: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> Interval:
    """Interval of ``sum(above) / sum(below)``.

    With ``groups`` whole groups are drawn instead of items (blockwise bootstrap), which is the honest choice when
    utterances of a speaker depend on each other.

    Args:
        above: For example errors, ``(U,)``.
        below: For example reference words, ``(U,)``.
        level: Share of the draws inside the interval.
        num_resamples: Number of draws.
        seed: Seed of the draws; the same seed gives the same interval.
        groups: Group name per item, length U.

    Raises:
        UsageError: Shapes, ``level`` or ``num_resamples`` make no sense.
    """
    columns = _group_sums(above, below, groups)
    rates = [np.empty(0)]
    for a, b in drawn_sums(columns, num_resamples, seed):
        usable = b > 0
        rates.append(a[usable] / b[usable])
    return percentile_interval(np.concatenate(rates), level)


def bootstrap_ratio(
    first: Columns, second: Columns, *, level: float = 0.95, num_resamples: int = 1000, seed: int = 0
) -> Interval:
    """Paired interval of rate(first) / rate(second): the same items are drawn for both systems.

    Args:
        first: What is above and below the line per item, of the system above the line, each ``(U,)``.
        second: The same items in the same order, of the system below the line.
        level: Share of the draws inside the interval.
        num_resamples: Number of draws.
        seed: Seed of the draws.

    Raises:
        UsageError: The two systems have different numbers of items.
    """
    ratios = [np.empty(0)]
    for a1, b1, a2, b2 in _paired_draws(first, second, num_resamples, seed):
        usable = (b1 > 0) & (a2 > 0)
        ratios.append((a1[usable] / b1[usable]) / (a2[usable] / b2[usable]))
    return percentile_interval(np.concatenate(ratios), level)


def bootstrap_difference(
    first: Columns, second: Columns, *, level: float = 0.95, num_resamples: int = 1000, seed: int = 0
) -> Interval:
    """Paired interval of rate(first) - rate(second); arguments and errors as of :func:`bootstrap_ratio`."""
    differences = [np.empty(0)]
    for a1, b1, a2, b2 in _paired_draws(first, second, num_resamples, seed):
        usable = (b1 > 0) & (b2 > 0)
        differences.append(a1[usable] / b1[usable] - a2[usable] / b2[usable])
    return percentile_interval(np.concatenate(differences), level)


def drawn_sums(
    columns: Sequence[np.ndarray], num_resamples: int, seed: int | Sequence[int]
) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield sums of columns over drawn items, as many draws at once as memory allows; nothing without items.

    Args:
        columns: Values of the items, each ``(U, ...)``; the same items are drawn for all.
        num_resamples: Number of draws.
        seed: Seed of the draws.

    Raises:
        UsageError: There is no draw.
    """
    if num_resamples < 1:
        raise UsageError(describe("number of bootstrap draws is too small", got=num_resamples, allowed=">= 1"))
    size = len(columns[0])
    if size == 0:
        return
    rng = np.random.default_rng(seed)
    at_once = max(1, MAX_DRAWS_AT_ONCE // size)
    for start in range(0, num_resamples, at_once):
        chosen = rng.integers(0, size, (min(at_once, num_resamples - start), size))
        yield tuple(column[chosen].sum(axis=1) for column in columns)


def percentile_interval(values: np.ndarray, level: float) -> Interval:
    """Return the ends between which ``level`` of drawn values lie.

    Raises:
        UsageError: ``level`` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise UsageError(describe("confidence level out of range", got=level, allowed="between 0 and 1"))
    if values.size == 0:
        return Interval(math.nan, math.nan)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def _paired_draws(first: Columns, second: Columns, num_resamples: int, seed: int) -> Iterator[tuple[np.ndarray, ...]]:
    if len(first[0]) != len(second[0]):
        raise UsageError(
            describe("paired systems need the same utterances", got=(len(first[0]), len(second[0])), allowed="equal")
        )
    return drawn_sums([np.asarray(column) for column in (*first, *second)], num_resamples, seed)


def _group_sums(above: np.ndarray, below: np.ndarray, groups: Sequence[str] | None) -> Columns:
    above, below = np.asarray(above), np.asarray(below)
    sizes = {above.shape, below.shape} | ({(len(groups),)} if groups is not None else set())
    if above.ndim != 1 or len(sizes) != 1:
        raise UsageError(describe("errors, words and groups need one entry per utterance", got=sorted(map(str, sizes))))
    if groups is None:
        return above, below
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    return np.bincount(index, weights=above), np.bincount(index, weights=below)
