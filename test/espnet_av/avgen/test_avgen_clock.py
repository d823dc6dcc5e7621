# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Frame counts and resampling of the generator's clock."""

import numpy as np
import pytest
import torch

from espnet_av.avgen import clock
from espnet_av.utils.errors import DataError, UsageError


def test_counts():
    assert clock.mel_frames(345 * 256) == 345 and clock.mel_frames(345 * 256 + 255) == 345
    assert clock.mel_frames(192261, 48000) == 345
    assert clock.token_frames(16000) == 49 and clock.token_frames(80000) == 249 and clock.token_frames(399) == 0
    assert clock.motion_frames(345) == 120 and clock.motion_frames(0) == 0
    assert clock.sample_at(345, 48000) == 192261 and clock.sample_at(1, 48000) == 557


def test_lengths_agree_with_each_other():
    for frames in range(1, 500, 7):
        assert abs(clock.motion_frames(frames) - 30 * frames * 256 / 22050) <= 0.5


def test_a_line_stays_a_line():
    x = torch.arange(20.0).unsqueeze(1)
    y = clock.resample_linear(x, 50)[:, 0]
    expected = ((torch.arange(50) + 0.5) / 2.5 - 0.5).clamp(0, 19)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=0)


def test_axis_and_kind_are_kept():
    x = np.random.default_rng(0).standard_normal((3, 11, 4)).astype(np.float32)
    y = clock.resample_linear(x, 25, 1)
    assert isinstance(y, np.ndarray) and y.shape == (3, 25, 4) and y.dtype == np.float32
    np.testing.assert_allclose(y[1], clock.resample_linear(x[1], 25), atol=1e-6)
    np.testing.assert_allclose(y.transpose(0, 2, 1), clock.resample_linear(x.transpose(0, 2, 1), 25, -1), atol=1e-6)


def test_as_torch_interpolates():
    x = torch.randn(2, 5, 31)
    expected = torch.nn.functional.interpolate(x, size=47, mode="linear", align_corners=False)
    torch.testing.assert_close(clock.resample_linear(x, 47, -1), expected, atol=1e-5, rtol=0)


def test_same_length_is_the_same():
    x = torch.randn(9, 2)
    assert clock.resample_linear(x, 9) is x


def test_empty_streams_and_lengths():
    assert clock.resample_linear(torch.randn(4, 2), 0).shape == (0, 2)
    with pytest.raises(DataError, match="without frames"):
        clock.resample_linear(torch.empty(0, 2), 4)
    with pytest.raises(UsageError):
        clock.resample_linear(torch.randn(4, 2), -1)
