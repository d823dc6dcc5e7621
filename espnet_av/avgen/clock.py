# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""One clock for speech, tokens and motion: everything is brought to the rate of the mel frames.

Sound is 22.05 kHz with a hop of 256 samples, so that there are 86.1328125 mel frames a second. Motion comes and goes at
30 frames a second, tokens come every 320 samples at 16 kHz. Lengths follow from the number of samples, never from a
rounded constant, so that no stream runs out before the others.
"""

import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from espnet_av.utils.errors import DataError, UsageError, describe

SAMPLE_RATE = 22050
HOP_LENGTH = 256
MEL_RATE = SAMPLE_RATE / HOP_LENGTH  # 86.1328125 Hz
MOTION_RATE = 30.0
TOKEN_SAMPLE_RATE = 16000
TOKEN_HOP = 320
TOKEN_WINDOW = 400
WINDOW_FRAMES = 345  # 4.005 s, the training window of the published system
#: What the published system scales by, where its numbers are to be reproduced: token frames a second, mel frames.
REFERENCE_TOKEN_RATE = 49.99
REFERENCE_MEL_RATE = 86.1328123

ArrayT = TypeVar("ArrayT", np.ndarray, Tensor)


def mel_frames(num_samples: int, sample_rate: int = SAMPLE_RATE) -> int:
    """Return the mel frames of a sound of ``num_samples`` at ``sample_rate``, resampled to 22.05 kHz where needed."""
    if sample_rate != SAMPLE_RATE:
        num_samples = -(-num_samples * SAMPLE_RATE // sample_rate)
    return num_samples // HOP_LENGTH


def motion_frames(num_mel: int, fps: float = MOTION_RATE) -> int:
    """Return the motion frames that last as long as ``num_mel`` mel frames, to the nearest."""
    return math.floor(fps * num_mel * HOP_LENGTH / SAMPLE_RATE + 0.5)


def token_frames(num_samples: int) -> int:
    """Return the token frames of ``num_samples`` at 16 kHz; 0 where not one window of 400 fits."""
    return max(0, (num_samples - TOKEN_WINDOW) // TOKEN_HOP + 1)


def sample_at(frame: int, sample_rate: int) -> int:
    """Return the sample at ``sample_rate`` where a mel frame begins, rounded down."""
    return frame * HOP_LENGTH * sample_rate // SAMPLE_RATE


def resample_linear(x: ArrayT, num_out: int, dim: int = 0, *, ratio: float | None = None) -> ArrayT:
    """Resample by linear interpolation between the centres of frames.

    Output frame ``i`` lies at ``max((i + 0.5) / ratio - 0.5, 0)`` of the input; behind its last frame that one is held.

    Args:
        x: Frames along ``dim``, a floating-point array or tensor of any shape.
        num_out: Frames to give.
        dim: The axis of time.
        ratio: Output frames per input frame; None: exactly ``num_out`` by the frames of ``x``.

    Returns:
        The same kind as ``x``, ``num_out`` frames along ``dim``.

    Raises:
        DataError: ``x`` has no frames.
        UsageError: ``num_out`` is negative or ``ratio`` not positive.
    """
    if num_out < 0 or (ratio is not None and not ratio > 0):
        raise UsageError(describe("cannot resample to this length", got=(num_out, ratio), allowed="0 or more frames"))
    if isinstance(x, np.ndarray):
        tensor = torch.from_numpy(np.ascontiguousarray(x))
        return resample_linear(tensor, num_out, dim, ratio=ratio).numpy()
    num_in = x.shape[dim]
    if num_in == 0:
        raise DataError(describe("cannot resample a stream without frames", got=tuple(x.shape)))
    if num_in == num_out and ratio in (None, 1.0):
        return x
    ratio = num_out / num_in if ratio is None else ratio
    position = ((torch.arange(num_out, device=x.device, dtype=torch.float64) + 0.5) / ratio - 0.5).clamp_(min=0)
    low = position.floor().long().clamp_(max=num_in - 1)
    high = (low + 1).clamp_(max=num_in - 1)
    weight = (position - low).clamp_(max=1).to(x.dtype)
    weight = weight.view(-1, *[1] * (x.dim() - 1 - dim % x.dim()))
    return torch.lerp(x.index_select(dim, low), x.index_select(dim, high), weight)


def resample_rate(x: ArrayT, source_rate: float, target_rate: float, dim: int = 0) -> ArrayT:
    """Resample from one frame rate to another: ``floor(frames * target_rate / source_rate)`` frames come out."""
    ratio = target_rate / source_rate
    return resample_linear(x, math.floor(x.shape[dim] * ratio), dim, ratio=ratio)
