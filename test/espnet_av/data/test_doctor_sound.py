# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Measures of a waveform."""

import numpy as np
import pytest
from doctor_plants import RATE, clip

from espnet_av.data.doctor.findings import Limits
from espnet_av.data.doctor.measure import judge_sound
from espnet_av.data.doctor.sound import flat_tops, loudness, measure_sound, top_share


def kinds(wave):
    return {kind for kind, _ in judge_sound(measure_sound(np.asarray(wave, np.float32), RATE), Limits())}


@pytest.mark.parametrize("rate", [16000, 24000, 48000])
def test_loudness_of_the_standard(rate):
    """A sine of 997 Hz at full scale has -3.01 LUFS in one channel, at any rate; 20 dB less are 20 LU less."""
    sine = np.sin(2 * np.pi * 997 * np.arange(5 * rate) / rate)
    assert loudness(sine, rate) == pytest.approx(-3.01, abs=0.05)
    assert loudness(0.1 * sine, rate) == pytest.approx(-23.01, abs=0.05)
    padded = np.concatenate([np.zeros(5 * rate), sine])  # the gate leaves silence out
    assert loudness(padded, rate) == pytest.approx(-3.01, abs=0.2)


def test_a_good_sound_has_no_fault():
    wave, _ = clip(1)
    assert kinds(wave) == set()
    assert kinds(wave[:3000]) == set()  # 0.2 s


def test_faults_of_sounds():
    wave, _ = clip(2)
    assert kinds(0 * wave) == {"silent"}
    assert kinds(0.0005 * wave / np.abs(wave).max()) == {"silent"}
    assert "quiet" in kinds(0.002 * wave / np.abs(wave).max())
    assert kinds(np.where(np.arange(len(wave)) == 9, np.nan, wave)) == {"not_finite"}
    assert "clipped" in kinds(np.clip(20 * wave, -1, 1))
    assert "clipped" in kinds(0.3 * np.clip(20 * wave, -1, 1))  # turned down after it was clipped
    holed = wave.copy()
    holed[16000:20000] = 0
    assert kinds(holed) == {"hole"}
    assert kinds(np.concatenate([np.zeros(8000), wave, np.zeros(8000)])) == set()  # silence at the ends is none
    assert "dc_offset" in kinds(wave + 0.05)
    short = np.concatenate([wave[:4000], 1e-4 * np.random.default_rng(0).standard_normal(96000)])
    assert "mostly_silent" in kinds(short)


def test_flat_tops_are_counted():
    wave = np.sin(2 * np.pi * 100 * np.arange(1600) / 1600)
    share, count = flat_tops(np.clip(wave, -0.5, 0.5))
    assert count == 200 and 0.4 < share < 0.7
    assert flat_tops(0.01 * np.clip(wave, -0.5, 0.5)) == (0.0, 0)  # the steps of soft sound are flat as well


@pytest.mark.parametrize("level", [1.0, 0.1])
def test_share_of_samples_at_the_top(level):
    """Clipped speech has a share there that neither speech, noise nor a steady tone has, at any level but a low one."""
    rng = np.random.default_rng(0)
    times = np.arange(2 * RATE) / RATE
    wave, _ = clip(3)
    clipped = np.clip(10 * wave / np.abs(wave).max(), -1, 1) * rng.uniform(0.9, 1.1, len(wave))
    assert top_share(level * clipped) > 0.3
    for good in (wave / np.abs(wave).max(), 0.3 * rng.normal(size=RATE), np.sin(2 * np.pi * 211 * times)):
        assert top_share(level * good) < 0.12
    assert top_share(0.01 * clipped) == 0.0 == top_share(0 * wave)
