# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The video input of the lip-reading models: gray mouth crops, cut to 88x88 and normalised.

Axes: ``B`` batch, ``T`` video frames, ``H`` height, ``W`` width.
"""

import numpy as np
import torch
from torch import Tensor

from espnet_av.utils.errors import DataError, describe

CROP_SIZE = 88
PIXEL_MEAN = 0.421
PIXEL_STD = 0.165

# Luma weights 0.299, 0.587, 0.114 in 15-bit fixed point, as OpenCV rounds them.
_RED, _GREEN, _BLUE, _SHIFT = 9798, 19235, 3735, 15


def to_gray(frames: np.ndarray) -> np.ndarray:
    """Convert RGB to 8-bit luma with OpenCV's rounding.

    Args:
        frames: uint8 ``(..., H, W, 3)`` RGB.

    Returns:
        uint8 ``(..., H, W)``.

    Raises:
        DataError: The array is not uint8 RGB.
    """
    if frames.dtype != np.uint8 or frames.ndim < 3 or frames.shape[-1] != 3:
        raise DataError(describe("gray conversion needs uint8 RGB (..., H, W, 3)", got=(frames.dtype, frames.shape)))
    weighted: np.ndarray = (
        frames[..., 0] * np.int32(_RED) + frames[..., 1] * np.int32(_GREEN) + frames[..., 2] * np.int32(_BLUE)
    )
    return ((weighted + (1 << (_SHIFT - 1))) >> _SHIFT).astype(np.uint8)


def center_crop_offset(size: int, crop: int) -> int:
    """Return the first row or column of the centre crop; odd margins round half to even, as torchvision does.

    Raises:
        DataError: The frame is smaller than the crop.
    """
    if size < crop:
        raise DataError(describe("the mouth crop is too small", got=size, allowed=f"at least {crop} pixels"))
    return round((size - crop) / 2)


def center_crop(video: np.ndarray | Tensor, crop: int = CROP_SIZE) -> np.ndarray | Tensor:
    """Cut the middle ``crop`` x ``crop`` pixels out of ``(..., H, W)``."""
    top = center_crop_offset(video.shape[-2], crop)
    left = center_crop_offset(video.shape[-1], crop)
    return video[..., top : top + crop, left : left + crop]


def random_crop(video: np.ndarray, rng: np.random.Generator, crop: int = CROP_SIZE) -> np.ndarray:
    """Cut one random ``crop`` x ``crop`` window, the same in all frames of ``(T, H, W)``."""
    height, width = video.shape[-2:]
    center_crop_offset(min(height, width), crop)  # refuses frames that are too small
    top = int(rng.integers(0, height - crop + 1))
    left = int(rng.integers(0, width - crop + 1))
    return video[..., top : top + crop, left : left + crop]


def normalize(video: np.ndarray | Tensor) -> Tensor:
    """Map 8-bit gray levels to floats: ``(level / 255 - 0.421) / 0.165``.

    Args:
        video: uint8 of any shape.

    Returns:
        float32 tensor of the same shape; level 0 becomes -2.55.
    """
    levels = torch.as_tensor(video)
    return levels.float().mul_(1.0 / (255.0 * PIXEL_STD)).sub_(PIXEL_MEAN / PIXEL_STD)


def eval_transform(video: np.ndarray | Tensor, crop: int = CROP_SIZE) -> Tensor:
    """Gray frames ``(T, H, W)`` uint8 -> the model's input ``(1, T, 88, 88)`` float32, as in evaluation."""
    return normalize(center_crop(torch.as_tensor(video), crop)).unsqueeze(0)
