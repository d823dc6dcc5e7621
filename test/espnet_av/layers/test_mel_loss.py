# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Log-mel spectrograms and their distance."""

import pytest
import torch

from espnet_av.layers.mel_loss import LogMelSpectrogram, MultiScaleMelLoss
from espnet_av.utils.errors import UsageError


def test_mel_of_a_tone_lies_in_its_band():
    rate, n_fft, bands = 24000, 1024, 40
    spectrogram = LogMelSpectrogram(rate, n_fft, bands)
    mel = spectrogram(torch.sin(6.2831853 * 3000 * torch.arange(rate) / rate)[None])
    assert mel[0, 20].argmax() == spectrogram.filters[round(3000 * n_fft / rate)].argmax()


def test_only_equal_sound_has_no_distance():
    torch.manual_seed(0)
    loss = MultiScaleMelLoss()
    wav = torch.randn(1, 1, 3000)
    assert loss(wav, wav) == 0
    assert loss(wav * 0.5, wav) > 0


def test_short_waveforms():
    assert torch.isfinite(MultiScaleMelLoss()(torch.randn(1, 1, 200), torch.randn(1, 1, 200)))


def test_every_resolution_has_a_number_of_bands():
    with pytest.raises(UsageError, match="one length"):
        MultiScaleMelLoss(n_ffts=[64], num_mels=[10, 20])


def test_softer_than_the_floor_hardly_counts() -> None:
    """Digital silence against sound 30 dB below the floor is a small error; without the floor it is the largest."""
    torch.manual_seed(0)
    soft, loud = torch.randn(1, 1, 4800) * 10 ** (-90 / 20), torch.randn(1, 1, 4800) * 10 ** (-20 / 20)
    published, floored = MultiScaleMelLoss(), MultiScaleMelLoss(floor_db=-60.0)
    silence = torch.zeros_like(soft)
    assert floored(silence, soft) < 1e-4 < 1 < published(silence, soft)
    assert floored(silence, loud) > 1  # and a loud error stays one
    assert floored(loud, 0.5 * loud).item() == pytest.approx(published(loud, 0.5 * loud).item(), rel=0.01)
