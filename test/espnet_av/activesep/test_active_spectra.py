# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Spectra of active separation: there and back, levels, slices."""

import pytest
import torch

from espnet_av.activesep import metrics, spectra
from espnet_av.utils.errors import UsageError


@pytest.fixture
def wave() -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randn(2, 2, spectra.STEP_SAMPLES, generator=random, dtype=torch.float64) * 0.1


def test_shapes_and_there_and_back(wave):
    magnitude, phase = spectra.stft(wave)
    assert magnitude.shape == phase.shape == (2, 2, 512, 32)
    back = spectra.inverse(magnitude, phase)
    assert metrics.wave_levels(back, wave)["si_sdr"].min() > 100
    wrong = spectra.inverse(magnitude, phase, n_fft=spectra.QUIRK_N_FFT)
    assert metrics.wave_levels(wrong, wave)["si_sdr"].max() < 0
    with pytest.raises(UsageError, match="512 bins"):
        spectra.inverse(magnitude, phase, n_fft=1024)


def test_integers_are_samples_of_16_bits():
    samples = torch.randint(-(2**15), 2**15, (2, spectra.STEP_SAMPLES), dtype=torch.int16)
    assert torch.equal(spectra.stft(samples)[0], spectra.stft(samples.float() / 32768)[0])


def test_silence():
    silent = torch.zeros(1, spectra.STEP_SAMPLES, dtype=torch.int16)
    magnitude, phase = spectra.stft(silent)
    assert not magnitude.any() and not phase.any()
    assert not spectra.normalised_mono_target(silent).any()


def test_target_has_its_level_whatever_that_of_the_sound(wave):
    soft, loud = (spectra.normalised_mono_target(wave[:, 0].float() * gain) for gain in (0.01, 1.0))
    assert soft.shape == (2, 512, 32, 1)
    torch.testing.assert_close(soft, loud, rtol=1e-4, atol=1e-5)
    rms = loud.square().mean((1, 2, 3)).sqrt()
    torch.testing.assert_close(rms, torch.full_like(rms, spectra.TARGET_RMS))
    bare = spectra.normalised_mono_target(wave[:, 0], rms=0)
    torch.testing.assert_close(bare[..., 0], spectra.stft(wave[:, 0])[0])


def test_rounding_of_the_sensors(wave):
    exact, rounded = (spectra.mixture_log_magnitude(wave.float(), float16=flag) for flag in (False, True))
    assert exact.shape == (2, 512, 32, 2)
    assert torch.equal(rounded, rounded.half().float()) and not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=2e-3, atol=1e-3)
    torch.testing.assert_close(torch.expm1(exact[..., 1]), spectra.stft(wave.float())[0][:, 1], rtol=1e-4, atol=1e-5)


def test_slices():
    spectrum = torch.arange(2 * 512 * 32 * 3.0).reshape(2, 512, 32, 3)
    sliced = spectra.slice_bins(spectrum)
    assert sliced.shape == (2, 48, 32, 32)
    assert torch.equal(sliced[1, 2 * 16 + 5, 7], spectrum[1, 5 * 32 + 7, :, 2])  # channel c * 16 + slice
    assert torch.equal(spectra.join_slices(sliced), spectrum)
