# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Confidence intervals by drawing items with replacement."""

import math

import numpy as np
import pytest

from espnet_av.utils.bootstrap import bootstrap_difference, bootstrap_interval, bootstrap_ratio, drawn_sums
from espnet_av.utils.errors import UsageError


def test_bootstrap_is_deterministic_and_holds_the_rate():
    rng = np.random.default_rng(3)
    words = rng.integers(4, 10, 200)
    errors = rng.binomial(words, 0.2)
    first = bootstrap_interval(errors, words, seed=7)
    assert first == bootstrap_interval(errors, words, seed=7)
    assert first != bootstrap_interval(errors, words, seed=8)
    assert first.low < errors.sum() / words.sum() < first.high
    # the normal approximation of the ratio's standard error gives about the same width
    rate = errors.sum() / words.sum()
    width = 2 * 1.96 * np.std(errors - rate * words) * np.sqrt(len(words)) / words.sum()
    assert first.high - first.low == pytest.approx(width, rel=0.15)


def test_bootstrap_over_speakers_is_wider_when_speakers_differ():
    words = np.full(100, 6)
    errors = np.where(np.arange(100) < 50, 0, 3)
    groups = ["easy"] * 50 + ["hard"] * 50
    single = bootstrap_interval(errors, words)
    grouped = bootstrap_interval(errors, words, groups=groups)
    assert (grouped.low, grouped.high) == (0.0, 0.5)
    assert single.high - single.low < 0.2


def test_bootstrap_in_parts_equals_bootstrap_in_one(monkeypatch):
    errors, words = np.arange(10) % 3, np.full(10, 5)
    whole = bootstrap_interval(errors, words, num_resamples=100)
    monkeypatch.setattr("espnet_av.utils.bootstrap.MAX_DRAWS_AT_ONCE", 70)
    assert bootstrap_interval(errors, words, num_resamples=100) == whole


def test_ratio_is_paired():
    words = np.full(40, 5)
    audio = np.arange(40) % 5 + 1
    ratio = bootstrap_ratio((audio, words), (2 * audio, words))
    assert (ratio.low, ratio.high) == (0.5, 0.5)  # halved in every utterance, so in every draw
    perfect = bootstrap_ratio((audio, words), (0 * audio, words))
    assert math.isnan(perfect.low)


def test_difference_is_paired():
    values, ones = np.arange(40) % 7 / 3, np.ones(40)
    found = bootstrap_difference((values + 0.5, ones), (values, ones))
    assert (found.low, found.high) == pytest.approx((0.5, 0.5))  # by as much in every item, so in every draw
    alone = bootstrap_interval(values, ones)
    assert alone.high - alone.low > 0.1
    nothing = bootstrap_difference((values, ones), (values, 0 * ones))
    assert math.isnan(nothing.low) and math.isnan(nothing.high)


def test_columns_may_hold_several_values_per_item():
    table = np.arange(12.0).reshape(6, 2)
    (both,) = [sums for (sums,) in drawn_sums((table,), 50, seed=2)]
    ((first, second),) = drawn_sums((table[:, 0], table[:, 1]), 50, seed=2)
    assert np.array_equal(both, np.stack([first, second], axis=1))


def test_wrong_use_is_refused():
    with pytest.raises(UsageError, match="one entry per utterance"):
        bootstrap_interval(np.ones(3), np.ones(4))
    with pytest.raises(UsageError, match=">= 1"):
        bootstrap_interval(np.ones(3), np.ones(3), num_resamples=0)
    with pytest.raises(UsageError, match="between 0 and 1"):
        bootstrap_interval(np.ones(3), np.ones(3), level=95)
    with pytest.raises(UsageError, match="same utterances"):
        bootstrap_ratio((np.ones(2), np.ones(2)), (np.ones(3), np.ones(3)))
