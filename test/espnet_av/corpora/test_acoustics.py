# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Noise has its colour, rooms their delay and decay."""

import numpy as np
import pytest

from espnet_av.corpora import acoustics as A

RATE = 16000


@pytest.mark.parametrize("colour, slope", [("white", 0.0), ("pink", -1.0), ("brown", -2.0)])
def test_noise_slope(colour, slope):
    noise = A.coloured_noise(1 << 17, colour, RATE, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(noise)) ** 2
    frequency = np.fft.rfftfreq(len(noise), 1 / RATE)
    bands = [power[(frequency > f) & (frequency < 1.2 * f)].mean() for f in (200, 3200)]
    assert np.log(bands[1] / bands[0]) / np.log(16) == pytest.approx(slope, abs=0.1)
    assert noise.std() == pytest.approx(1.0)


def test_direct_sound_comes_at_its_delay_and_reflections_decay():
    room = A.Room((5.3, 4.1, 2.9), (1.0, 1.5, 1.3), (3.2, 2.2, 1.75), 0.3)
    rir = A.shoebox_rir(room, RATE)
    distance = np.linalg.norm(np.subtract(room.source, room.microphone))
    assert abs(int(np.argmax(np.abs(rir) > 0.5)) - distance / A.SPEED_OF_SOUND * RATE) <= 1
    energy = np.cumsum(rir[::-1] ** 2)[::-1]
    level = 10 * np.log10(energy / energy[0])
    t5, t25 = (np.argmax(level < v) / RATE for v in (-5, -25))
    assert 3 * (t25 - t5) == pytest.approx(room.rt60_sec, rel=0.35)


def test_first_wall_reflection_has_the_right_gain():
    room = A.Room((40.0, 40.0, 40.0), (20.0, 20.0, 1.0), (22.0, 20.0, 1.0), 0.6)
    rir = A.shoebox_rir(room, RATE)
    floor = np.sqrt(2.0**2 + 2.0**2)
    at = int(round(floor / A.SPEED_OF_SOUND * RATE))
    gain = A.reflection_coefficient(room) * 2.0 / floor
    direct = int(np.abs(rir).argmax())
    power = [rir[k - 24 : k + 25].std() for k in (direct, at)]  # does not depend on the fraction of the delay
    assert power[1] / power[0] == pytest.approx(gain, rel=0.1)


def test_positions_outside_are_refused():
    with pytest.raises(ValueError, match="inside the room"):
        A.shoebox_rir(A.Room((3.0, 3.0, 3.0), (4.0, 1.0, 1.0), (1.0, 1.0, 1.0), 0.2), RATE)


def test_babble_is_as_long_as_asked_and_uses_several_clips():
    rng = np.random.default_rng(1)
    clips = [np.sin(np.arange(8000) * f) for f in (0.1, 0.2, 0.3)]
    noise = A.babble(clips, 30000, 4, rng)
    assert noise.shape == (30000,) and noise.std() == pytest.approx(1.0)
    assert not np.array_equal(noise, A.babble(clips, 30000, 4, rng))
