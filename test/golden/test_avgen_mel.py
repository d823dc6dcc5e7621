# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Mel spectrograms and the resampling before them, as the published vocoders and the published generator make them."""

import numpy as np
import pytest
import torch
from torch import Tensor

from espnet_av.avgen.mel import REFERENCE_GAIN, REFERENCE_MEAN, REFERENCE_STD, MelConfig, MelSpectrogram, resample

SOURCE_RATE = 48000


@pytest.fixture(scope="module")
def golden(fixtures_dir) -> dict[str, Tensor]:
    paths = sorted(fixtures_dir("avgen").glob("mel_*.npz"))
    if not paths:
        pytest.skip("no mel spectrograms in the golden data")
    with np.load(paths[0]) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def config(golden: dict[str, Tensor]) -> MelConfig:
    num_mels, bins = golden["mel_filterbank"].shape
    return MelConfig(num_mels=num_mels, n_fft=2 * (bins - 1), win_length=len(golden["hann"]))


def test_filters_and_window(golden):
    mel = MelSpectrogram(config(golden))
    torch.testing.assert_close(mel.filters, golden["mel_filterbank"], atol=1e-7, rtol=0)
    torch.testing.assert_close(mel.window, golden["hann"], atol=1e-6, rtol=0)


def test_log_mel(golden):
    found = MelSpectrogram(config(golden))(golden["wav"])
    torch.testing.assert_close(found, golden["mel"], atol=1e-5, rtol=0)
    assert found.shape[-1] == config(golden).num_frames(golden["wav"].shape[-1])


def test_resampling(golden):
    wav = resample(golden["wav48k_int16"].float() / 32768, SOURCE_RATE, MelConfig.sample_rate)
    torch.testing.assert_close(wav, golden["wav22k_resampled"], atol=1e-6, rtol=0)


def test_mel_of_the_published_generator(golden):
    mel = MelSpectrogram(config(golden), gain=REFERENCE_GAIN)(golden["wav22k_resampled"])
    found = ((mel - REFERENCE_MEAN) / REFERENCE_STD).transpose(1, 2)
    torch.testing.assert_close(found, golden["mel_normalised_tfirst"], atol=1e-5, rtol=0)
