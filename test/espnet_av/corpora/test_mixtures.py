# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Mixtures have the SNR they say, and interferers are other people."""

import numpy as np
import pytest

from espnet_av.corpora import mixtures as M

RNG = np.random.default_rng(0)
WAVES = {f"s{k % 3}-{k}": RNG.standard_normal(3000 + 400 * k) * (0.02 + 0.03 * k) for k in range(9)}
POOL = {utt: utt[:2] for utt in WAVES}


def _db(a, b):
    return 10 * np.log10(np.sum(a**2) / np.sum(b**2))


@pytest.mark.parametrize("snr", [-5, 0, 5, 10])
@pytest.mark.parametrize("number", [1, 2])
def test_realised_snr(snr, number):
    for plan in M.plan_interferers(sorted(WAVES), POOL, snr, number, np.random.default_rng(5)):
        mixture, scale = M.mix_plan(plan, WAVES.__getitem__)
        target = WAVES[plan.utt_id] * scale
        assert mixture.shape == target.shape and np.abs(mixture).max() <= 1.0
        assert _db(target, mixture - target) == pytest.approx(snr, abs=0.1)
        others = [POOL[utt] for utt in plan.interferers]
        assert len(set(others) | {POOL[plan.utt_id]}) == number + 1
        assert (plan.inner_snr_db is None) == (number == 1)


def test_second_interferer_is_mixed_into_the_first():
    plan = M.InterfererPlan("s0-0", ("s1-1", "s2-2"), 0.0, 15.0)
    mixture, scale = M.mix_plan(plan, WAVES.__getitem__)
    rest = mixture / scale - WAVES["s0-0"]
    first = M.repeat_to_length(WAVES["s1-1"], len(rest))
    second = rest - first * (rest @ first) / (first @ first)
    assert _db(rest - second, second) == pytest.approx(15.0, abs=0.6)


def test_loud_mixtures_are_scaled_as_a_whole():
    target, other = np.ones(100), -np.ones(100) * 0.5
    mixture, scale = M.mix_plan(M.InterfererPlan("a", ("b",), -10.0, None), {"a": target, "b": other}.__getitem__)
    assert scale < 1 and np.abs(mixture).max() == pytest.approx(0.99)


def test_names_and_lengths():
    assert M.set_name("test_seen", -5, 1) == "test_seen_snr_n5_interferer_1"
    assert M.set_name("test_seen", 0, 2) == "test_seen_snr_0_interferer_2"
    assert M.repeat_to_length(np.arange(3), 7).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert M.repeat_to_length(np.arange(9), 2).tolist() == [0, 1]


def test_too_few_speakers_are_refused():
    with pytest.raises(ValueError, match="speakers"):
        M.plan_interferers(["a"], {"a": "x", "b": "y"}, 0, 2, np.random.default_rng(0))


def test_two_speaker_pairs():
    pairs = M.two_speaker_pairs(POOL, 20, np.random.default_rng(2))
    assert len(pairs) == 20 and {first for first, _, _ in pairs} == set(POOL)
    assert all(POOL[first] != POOL[second] and -5 <= snr <= 5 for first, second, snr in pairs)
    assert M.two_speaker_pairs({"a": "x", "b": "x"}, 2, np.random.default_rng(2)) == []
