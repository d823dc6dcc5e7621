# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The discriminator of complex spectra."""

import pytest
import torch

from espnet_av.layers.stft_discriminator import MultiScaleSTFTDiscriminator
from espnet_av.utils.errors import DataError


def test_every_scale_gives_the_outputs_of_its_layers():
    discriminator = MultiScaleSTFTDiscriminator(n_ffts=(64, 128), channels=2, dilations=(1, 2))
    found = discriminator(torch.randn(3, 1, 400))
    assert [len(features) for features in found] == [5, 5]  # the first layer, two that halve, one more, the logits
    assert {features[-1].shape[:2] for features in found} == {(3, 1)}
    assert [features[-1].shape[2] for features in found] == [1 + (400 - 64) // 16, 1 + (400 - 128) // 32]


def test_waveforms_shorter_than_a_frame_are_refused():
    with pytest.raises(DataError, match="2048 samples"):
        MultiScaleSTFTDiscriminator()(torch.randn(1, 1, 2047))
