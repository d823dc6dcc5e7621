# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from espnet_av.data import mouth_pixels
from espnet_av.utils.errors import DataError


def test_gray_equals_opencv():
    cv2 = pytest.importorskip("cv2")
    frames = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(mouth_pixels.to_gray(frames), cv2.cvtColor(frames, cv2.COLOR_RGB2GRAY))
    grid = np.stack(np.meshgrid(*[np.arange(0, 256, 3)] * 3), axis=-1).astype(np.uint8).reshape(86, -1, 3)
    np.testing.assert_array_equal(mouth_pixels.to_gray(grid), cv2.cvtColor(grid, cv2.COLOR_RGB2GRAY))


@pytest.mark.parametrize(("size", "first"), [(88, 0), (89, 0), (91, 2), (95, 4), (96, 4), (97, 4)])
def test_centre_crop_rounds_half_to_even(size, first):
    frames = np.arange(size, dtype=np.uint8)[None, :, None] * np.ones((1, 1, size), np.uint8)
    cut = mouth_pixels.center_crop(frames)
    assert cut.shape == (1, 88, 88)
    assert cut[0, 0, 0] == first


def test_random_crop_reaches_every_place_and_only_those():
    frames = np.zeros((2, 90, 89), np.uint8)
    frames[:] = np.arange(90, dtype=np.uint8)[None, :, None] * 2 + (np.arange(89) > 0)[None, None]
    rng = np.random.default_rng(0)
    seen = {tuple(mouth_pixels.random_crop(frames, rng)[:, 0, 0]) for _ in range(100)}
    assert seen == {(2 * top + left,) * 2 for top in range(3) for left in range(2)}


def test_normalize_and_evaluation_transform():
    levels = mouth_pixels.normalize(torch.tensor([0, 128, 255], dtype=torch.uint8))
    expected = (torch.tensor([0.0, 128.0, 255.0]) / 255 - 0.421) / 0.165
    torch.testing.assert_close(levels, expected)
    assert mouth_pixels.eval_transform(np.zeros((3, 96, 96), np.uint8)).shape == (1, 3, 88, 88)


def test_wrong_frames_are_refused():
    with pytest.raises(DataError, match="too small.*87.*88"):
        mouth_pixels.center_crop(np.zeros((1, 87, 96), np.uint8))
    with pytest.raises(DataError, match="too small"):
        mouth_pixels.random_crop(np.zeros((1, 96, 80), np.uint8), np.random.default_rng(0))
    with pytest.raises(DataError, match="uint8 RGB"):
        mouth_pixels.to_gray(np.zeros((1, 96, 96, 3), np.float32))
