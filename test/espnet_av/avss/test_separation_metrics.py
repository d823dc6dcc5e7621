# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Metrics of separated speech: permutation, silence, improvements, what is not defined."""

import math

import numpy as np
import pytest

from espnet_av.avss import metrics
from espnet_av.utils.errors import UsageError

RATE = 16000
FAST = ("si_snr", "si_snri", "snri", "sdr")


def speechlike(seed, num_samples=RATE):
    """A buzz with syllables and some noise: enough for STOI and PESQ."""
    rng = np.random.default_rng(seed)
    time = np.arange(num_samples) / RATE
    pitch = 100 + 40 * seed
    buzz = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 12))
    syllables = np.clip(np.sin(2 * np.pi * (3 + 0.4 * seed) * time + seed), 0, None)
    return 0.1 * buzz * syllables + 0.003 * rng.standard_normal(num_samples) * syllables


@pytest.fixture(scope="module")
def voices():
    return np.stack([speechlike(0), 0.5 * speechlike(1)])


def test_improvement_is_against_the_mixture(voices):
    mixture = voices.sum(0)
    names = ("si_snr", "si_snri", "snr", "snri", "sdr", "sdri", "stoi", "stoii")
    estimates = voices + 0.1 * voices[::-1]
    found = metrics.score_mixture(estimates, voices, mixture, metrics=names)
    for source, voice in enumerate(found):
        for name in ("si_snr", "snr", "sdr", "stoi"):
            before = metrics.measure(name, mixture, voices[source])
            assert voice.values[f"{name}i"] == pytest.approx(voice.values[name] - before, abs=1e-9)
        assert voice.right and voice.values["si_snri"] > 10 > voice.other_si_snri
    same = metrics.score_mixture(np.stack([mixture, mixture]), voices, mixture, metrics=FAST)
    assert all(voice.values["si_snri"] == pytest.approx(0, abs=1e-9) for voice in same)


def test_swapped_voices(voices):
    mixture = voices.sum(0)
    estimates = (voices + 0.1 * voices[::-1])[::-1]
    fixed = metrics.score_mixture(estimates, voices, mixture, metrics=FAST)
    assert [voice.estimate for voice in fixed] == [0, 1]
    assert all(not voice.right and voice.other_si_snri > 10 for voice in fixed)
    free = metrics.score_mixture(estimates, voices, mixture, metrics=FAST, pit=True)
    assert [voice.estimate for voice in free] == [1, 0]
    assert all(voice.right and voice.values["si_snri"] > 10 for voice in free)


def test_one_permutation_for_all_metrics(voices):
    """The assignment of SI-SNR counts, also where another metric would like another one."""
    estimates = np.stack([voices[0] * 1e-3 + voices[1] * 1e-4, voices[0] * 0.5 + voices[1] * 0.6])
    found = metrics.score_mixture(estimates, voices, voices.sum(0), metrics=("si_snr", "snr"), pit=True)
    order = [voice.estimate for voice in found]
    levels = metrics.si_snr(estimates[:, None], voices[None])
    assert levels[order, [0, 1]].mean() > levels[order[::-1], [0, 1]].mean()
    for source, voice in enumerate(found):
        assert voice.values["snr"] == float(metrics.snr(estimates[voice.estimate], voices[source]))


def test_an_offset_counts_for_si_sdr_alone(voices):
    reference, estimate = voices[0], voices[0] + 0.01 * voices[1]
    assert metrics.si_snr(estimate + 0.1, reference) == pytest.approx(
        float(metrics.si_snr(estimate, reference)), abs=1e-6
    )
    with_offset = metrics.si_snr(estimate + 0.1, reference, zero_mean=False)
    assert with_offset < metrics.si_snr(estimate, reference, zero_mean=False) - 10


def test_silent_reference_is_left_out(voices):
    references = np.stack([voices[0], np.zeros(RATE)])
    found = metrics.score_mixture(voices, references, voices.sum(0), metrics=FAST, pit=True)
    assert [voice.silent_reference for voice in found] == [False, True]
    assert found[1].values == {} and found[0].estimate == 0
    assert math.isfinite(found[0].values["si_snr"]) and math.isnan(found[0].other_si_snri)


@pytest.mark.parametrize("silence", [0.0, 0.3, 1e-6])
def test_silent_estimate_is_at_the_floor(voices, silence):
    wave = np.full(RATE, silence) if silence != 1e-6 else 1e-6 * voices[0]
    names = ("si_snr", "si_snri", "si_sdr", "snr", "sdr", "sdri", "stoi", "estoi", "pesq_wb", "pesq_nb", "pesq_wbi")
    mixture = voices.sum(0)
    found = metrics.score_mixture(np.stack([wave, voices[1]]), voices, mixture, metrics=names, silent_estimate_db=-20)
    values = found[0].values
    assert found[0].silent_estimate and not found[0].right and not found[1].silent_estimate
    assert [values[name] for name in ("si_snr", "si_sdr", "sdr", "stoi", "estoi", "pesq_wb", "pesq_nb")] == [
        -20, -20, -20, 0, 0, 1, 1,
    ]  # fmt: skip
    assert values["si_snri"] == pytest.approx(-20 - metrics.measure("si_snr", mixture, voices[0]))
    assert values["pesq_wbi"] == pytest.approx(1 - metrics.measure("pesq_wb", mixture, voices[0]))
    assert values["snr"] == pytest.approx(0, abs=0.01)


def test_what_short_clips_do_not_define(voices):
    short = voices[:, :1500]
    values = metrics.score_mixture(short, short, short.sum(0))[0].values
    assert all(math.isnan(values[name]) for name in ("stoi", "estoi", "pesq_wb", "pesq_nb"))
    assert values["sdr"] == pytest.approx(100, abs=1e-3) and math.isfinite(values["si_snri"])


def test_perceptual_metrics_fall_with_noise(voices):
    rng = np.random.default_rng(0)
    soft, loud = (voices[0] + level * rng.standard_normal(RATE) for level in (1e-4, 3e-2))
    for name in ("stoi", "estoi", "pesq_wb", "pesq_nb"):
        assert metrics.measure(name, soft, voices[0]) > metrics.measure(name, loud, voices[0]) + 0.05, name


def test_raw_pesq_is_the_inverse():
    for raw in (-0.4, 1.0, 2.5, 4.4):
        lqo = 0.999 + 4 / (1 + math.exp(-1.4945 * raw + 4.6607))
        assert metrics.raw_pesq(lqo) == pytest.approx(raw, abs=0.06)
    assert metrics.raw_pesq(2.0) == pytest.approx((4.6607 - math.log(4 / 1.001 - 1)) / 1.4945)


def test_bss_eval_of_leaked_voices(voices):
    leaked = voices + 0.1 * voices[::-1]
    found = metrics.score_mixture(leaked, voices, voices.sum(0), metrics=("sdr", "sir", "sar"))
    for voice in found:
        assert voice.values["sar"] > voice.values["sir"] + 10
        assert voice.values["sdr"] == pytest.approx(voice.values["sir"], abs=1)
    silent = metrics.bss_eval(voices * [[1], [0]], voices)
    assert all(np.isnan(values).all() for values in silent.values())


@pytest.mark.parametrize("sources", [1, 4])
def test_permutation_of_other_numbers(sources):
    order = list(np.random.default_rng(0).permutation(sources))
    matrix = np.full((sources, sources), -10.0)
    matrix[order, range(sources)] = 5
    assert metrics.best_permutation(matrix) == order


def test_wrong_input(voices):
    with pytest.raises(UsageError, match="unknown metric"):
        metrics.score_mixture(voices, voices, voices[0], metrics=("si_snri", "siri"))
    with pytest.raises(UsageError, match="belong together"):
        metrics.score_mixture(voices[:1], voices, voices[0])
    with pytest.raises(UsageError, match="belong together"):
        metrics.score_mixture(voices, voices, voices[0, :-1])
    with pytest.raises(UsageError, match="not finite"):
        metrics.score_mixture(voices * np.nan, voices, voices[0])
    with pytest.raises(UsageError, match="length"):
        metrics.si_snr(voices[0, :9], voices[0])
    with pytest.raises(UsageError, match="sample rate"):
        metrics.pesq(voices[0], voices[0], 44100)
    with pytest.raises(UsageError, match="sample rate"):
        metrics.pesq(voices[0], voices[0], 8000, mode="wb")
    with pytest.raises(UsageError, match="of a pair"):
        metrics.measure("sir", voices[0], voices[0])
