# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from espnet_av.avsr.clustering import (
    cluster,
    cluster_speakers,
    merge_intervals,
    pair_score,
    pair_scores,
    score_clustering,
)
from espnet_av.utils.errors import UsageError


def test_intervals():
    assert merge_intervals([(5, 6), (0, 2), (1, 3), (3, 4), (7, 7)]) == [(0, 4), (5, 6)]
    with pytest.raises(UsageError, match="ends before"):
        merge_intervals([(2, 1)])


def test_scores_of_pairs():
    assert pair_score([(0, 4)], [(4, 8)]) == 1.0
    assert pair_score([(0, 4)], [(0, 4)]) == 0.0
    assert pair_score([(0, 4), (0, 4)], [(2, 6)]) == pytest.approx(1 - 2 / 6)
    assert pair_score([], []) == 0.0
    assert pair_score([(0, 1)], []) == 1.0


def test_overlap_equals_counting_on_a_grid():
    rng = np.random.default_rng(0)
    for _ in range(20):
        sides, masks = [], []
        for _ in range(2):
            starts = rng.integers(0, 90, 6)
            intervals = [(int(start), int(start + rng.integers(0, 10))) for start in starts]
            mask = np.zeros(100, bool)
            for start, end in intervals:
                mask[start:end] = True
            sides.append(intervals)
            masks.append(mask)
        both, either = (masks[0] & masks[1]).sum(), (masks[0] | masks[1]).sum()
        assert pair_score(*sides) == pytest.approx(1 - both / either)


def test_groups_are_complete():
    """a-b and b-c fit, a-c do not: complete linkage does not chain them."""
    scores = np.array([[0, 0.9, 0.1], [0.9, 0, 0.8], [0.1, 0.8, 0]])
    assert cluster(scores, 0.7) == [0, 0, 1]
    assert cluster(scores, 0.05) == [0, 0, 0]
    assert cluster(scores, 0.95) == [0, 1, 2]
    assert cluster(scores[::-1, ::-1], 0.7) == [0, 1, 1]


def test_small_and_wrong_inputs():
    assert cluster(np.zeros((0, 0))) == []
    assert cluster(np.zeros((1, 1))) == [0]
    assert cluster_speakers({}) == {}
    assert pair_scores({"a": [], "b": []}).tolist() == [[0, 0], [0, 0]]
    for scores, threshold in (
        (np.zeros((2, 3)), 0.7),
        (np.array([[0, 1], [0.5, 0]]), 0.7),
        (np.array([[0, 2.0], [2.0, 0]]), 0.7),
        (np.zeros((2, 2)), 1.5),
    ):
        with pytest.raises(UsageError):
            cluster(scores, threshold)


def test_f1():
    true = {"a": "x", "b": "x", "c": "y", "d": "y"}
    perfect = score_clustering({"a": 5, "b": 5, "c": 1, "d": 1}, true)
    assert perfect.f1 == 1.0 and set(perfect.f1_of.values()) == {1.0}
    one = score_clustering(dict.fromkeys("abcd", 0), true)
    assert one.f1 == pytest.approx(2 * 2 / (6 + 2))
    assert one.f1_of["a"] == pytest.approx(2 * 1 / (3 + 1))
    assert score_clustering(dict(zip("abcd", range(4), strict=True)), true).f1 == 0.0
    with pytest.raises(UsageError, match="same people"):
        score_clustering({"a": 0}, true)
