# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Who talks with whom: people of one conversation take turns, people of different ones talk at the same time.

Two people score 1 when they never speak together and 0 when they always do. Complete linkage joins people as long as
every pair of a group scores high enough. Legend: P people.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from espnet_av.utils.errors import usage_error

DEFAULT_THRESHOLD = 0.7
Interval = tuple[float, float]


@dataclass(frozen=True)
class ClusteringScore:
    """Agreement of two groupings over pairs of people.

    Attributes:
        f1: Of all pairs, 0 to 1, higher is better; 0 where neither side has a pair.
        f1_of: Of the pairs of each person. A person who is alone in both groupings has 0, as the challenge counts it.
    """

    f1: float
    f1_of: dict[str, float]


def pair_score(first: Iterable[Interval], second: Iterable[Interval]) -> float:
    """Return 1 - overlap / union of two people's speech time.

    Args:
        first: ``(start, end)`` of one person's speech, in seconds; overlapping intervals count once.
        second: The other's.

    Returns:
        0 (always together) to 1 (never together); 0 where nobody speaks.

    >>> pair_score([(0, 2)], [(1, 3)])
    0.6666666666666667
    """
    one, other = merge_intervals(first), merge_intervals(second)
    overlap = _overlap(one, other)
    union = _total(one) + _total(other) - overlap
    return 1.0 - overlap / union if union > 0 else 0.0


def pair_scores(speech: Mapping[str, Sequence[Interval]]) -> np.ndarray:
    """Return the score of every pair, ``(P, P)`` float64 in the order of ``speech``; the diagonal is 0."""
    merged = [merge_intervals(intervals) for intervals in speech.values()]
    scores = np.zeros((len(merged), len(merged)))
    for row in range(len(merged)):
        for column in range(row):
            scores[row, column] = scores[column, row] = pair_score(merged[row], merged[column])
    return scores


def cluster(scores: np.ndarray, threshold: float = DEFAULT_THRESHOLD) -> list[int]:
    """Group people by complete linkage: within a group every pair scores above ``threshold``.

    Args:
        scores: Symmetric ``(P, P)`` in [0, 1]; the diagonal does not count.
        threshold: Lowest score within a group.

    Returns:
        Group of each person; groups are numbered from 0 in the order of their first member.

    Raises:
        UsageError: The matrix is not square or symmetric, or a value is out of range.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or not np.allclose(scores, scores.T):
        usage_error("scores of pairs must be a symmetric matrix", got=scores.shape, allowed="(P, P)")
    if scores.size and not (scores.min() >= 0 and scores.max() <= 1):
        usage_error("scores of pairs are out of range", got=(scores.min(), scores.max()), allowed="0 to 1")
    if not 0 <= threshold <= 1:
        usage_error("threshold out of range", got=threshold, allowed="0 to 1")
    if len(scores) < 2:
        return list(range(len(scores)))
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    distances = squareform(1.0 - scores, checks=False)
    limit = np.nextafter(1.0 - threshold, -1.0)  # a pair at the threshold itself stays apart
    labels = fcluster(linkage(distances, method="complete"), t=limit, criterion="distance")
    return _renumber(labels.tolist())


def cluster_speakers(speech: Mapping[str, Sequence[Interval]], threshold: float = DEFAULT_THRESHOLD) -> dict[str, int]:
    """Return the conversation of each person; see :func:`pair_score` and :func:`cluster`.

    >>> cluster_speakers({"a": [(0, 2)], "b": [(2, 4)], "c": [(0, 2)]})
    {'a': 0, 'b': 0, 'c': 1}
    """
    return dict(zip(speech, cluster(pair_scores(speech), threshold), strict=True))


def score_clustering(predicted: Mapping[str, Hashable], true: Mapping[str, Hashable]) -> ClusteringScore:
    """Compare two groupings of the same people.

    Args:
        predicted: Person -> group; the names of groups do not matter.
        true: Person -> group.

    Raises:
        UsageError: The two are about different people.
    """
    if predicted.keys() != true.keys():
        odd = sorted(predicted.keys() ^ true.keys())
        usage_error("both groupings need the same people", got=odd, allowed=sorted(true))
    found = {name: _mates(predicted, name) for name in true}
    wanted = {name: _mates(true, name) for name in true}
    f1_of = {name: _f1(len(found[name] & wanted[name]), len(found[name]), len(wanted[name])) for name in true}
    sums = (
        sum(len(found[name] & wanted[name]) for name in true),
        *(sum(map(len, x.values())) for x in (found, wanted)),
    )
    return ClusteringScore(_f1(*sums), f1_of)


def merge_intervals(intervals: Iterable[Interval]) -> list[Interval]:
    """Return the same time as intervals that are sorted and apart; empty ones are dropped.

    Raises:
        UsageError: An interval ends before it starts.
    """
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if not start <= end:
            usage_error("an interval ends before it starts", got=(start, end), allowed="start <= end")
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif start < end:
            merged.append((start, end))
    return merged


def _total(intervals: Iterable[Interval]) -> float:
    return sum(end - start for start, end in intervals)


def _overlap(first: Sequence[Interval], second: Sequence[Interval]) -> float:
    """Time that two sorted lists of intervals share."""
    shared, i, j = 0.0, 0, 0
    while i < len(first) and j < len(second):
        shared += max(0.0, min(first[i][1], second[j][1]) - max(first[i][0], second[j][0]))
        if first[i][1] <= second[j][1]:
            i += 1
        else:
            j += 1
    return shared


def _renumber(labels: Sequence[int]) -> list[int]:
    order = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return [order[label] for label in labels]


def _mates(groups: Mapping[str, Hashable], name: str) -> set[str]:
    return {other for other, group in groups.items() if group == groups[name] and other != name}


def _f1(hits: int, num_found: int, num_wanted: int) -> float:
    return 2 * hits / (num_found + num_wanted) if hits else 0.0
