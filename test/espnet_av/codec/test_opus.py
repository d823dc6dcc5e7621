# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from espnet_av.codec import opus
from espnet_av.utils.errors import UsageError

RATE = 24000
pytestmark = pytest.mark.skipif(not opus.has_opus(), reason="PyAV has no libopus")


def voice(size):
    """Return a harmonic sound with a moving pitch."""
    time = np.arange(size) / RATE
    phase = 2 * np.pi * (120 * time + 5 * np.sin(2 * np.pi * 3 * time))
    return (0.1 * sum(np.sin(k * phase) / k for k in range(1, 20))).astype(np.float32)


@pytest.mark.parametrize("kbps", [6.0, 12.0, 24.0])
def test_bit_rate_is_that_of_the_packets(kbps):
    result = opus.opus_round_trip(voice(RATE), RATE, kbps)
    assert result.kbps == pytest.approx(kbps, rel=0.01)
    assert result.seconds == pytest.approx(1.0)


@pytest.mark.parametrize("size", [1, 479, 480, 481, 24000, 24001])
def test_length_is_kept(size):
    result = opus.opus_round_trip(voice(size), RATE, 16)
    assert result.wave.shape == (size,)
    assert result.wave.dtype == np.float32
    assert result.seconds == pytest.approx(-(-size // 480) * 0.02)


def test_result_lies_on_the_input():
    wave = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
    decoded = opus.opus_round_trip(wave, RATE, 128).wave
    spectra = [np.fft.rfft(x, 4 * RATE) for x in (decoded, wave)]
    assert np.argmax(np.fft.irfft(spectra[0] * spectra[1].conj())) == 0
    for part in (slice(None), slice(0, RATE // 20), slice(-RATE // 20, None)):  # also where the look-ahead ends
        assert ((decoded - wave)[part] ** 2).mean() < 0.1 * (wave[part] ** 2).mean()


def test_more_bits_come_closer():
    wave = 0.1 * np.random.default_rng(1).standard_normal(RATE).astype(np.float32)
    errors = [((opus.opus_round_trip(wave, RATE, kbps).wave - wave) ** 2).mean() for kbps in (8, 64, 128)]
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize(
    "wave, rate, kbps, message",
    [
        (voice(480), 22050, 6, "Opus at this sample rate; got 22050"),
        (voice(480), RATE, 1, "Opus at this bit rate"),
        (voice(0), RATE, 6, "Opus needs a signal"),
        (voice(480)[None], RATE, 6, "Opus needs a signal"),
    ],
)
def test_wrong_input(wave, rate, kbps, message):
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        opus.opus_round_trip(wave, rate, kbps)
