# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""How long each symbol lasts, and frames made of symbols by it.

Axes: ``B`` batch, ``L`` symbols, ``T`` frames, ``D`` features.
"""

import math

import torch
from torch import Tensor

from espnet_av.utils.errors import usage_error

ROUNDINGS = ("ceil", "cumulative")
_LOG_OFFSET = 1e-8


def sequence_mask(lengths: Tensor, length: int | None = None) -> Tensor:
    """Return which positions are valid, bool ``(B, T)``.

    Args:
        lengths: Valid positions ``(B,)``, whole or broken numbers.
        length: Positions ``T``; None: the longest.
    """
    length = int(lengths.max()) if length is None else length
    return torch.arange(length, device=lengths.device, dtype=lengths.dtype) < lengths.unsqueeze(-1)


def round_up(length: int, factor: int) -> int:
    """Return the next multiple of ``factor``."""
    return -(-length // factor) * factor


def frame_counts(log_durations: Tensor, mask: Tensor, scale: float = 1.0, rounding: str = "ceil") -> Tensor:
    """Return how many frames each symbol lasts.

    Args:
        log_durations: Of the duration predictor, ``(B, 1, L)``.
        mask: 1 for valid symbols, ``(B, 1, L)``.
        scale: Factor on the length; 2 is half as fast.
        rounding: ``ceil``: each duration up to whole frames, then times ``scale``, as Matcha-TTS does, which makes
            speech a little slower than it was. ``cumulative``: the ends of symbols to the nearest frame, so that the
            whole is as long as predicted.

    Returns:
        ``(B, 1, L)``; with ``ceil`` and a scale these need not be whole numbers.

    Raises:
        UsageError: The rounding is unknown or the scale not above 0.
    """
    if rounding not in ROUNDINGS:
        usage_error("unknown rounding of durations", rounding, ROUNDINGS)
    if not (scale > 0 and math.isfinite(scale)):
        usage_error("the factor on durations is out of range", scale, "above 0")
    durations = log_durations.exp() * mask
    if rounding == "ceil":
        return durations.ceil() * scale
    ends = ((durations.double() * scale).cumsum(dim=-1) + 0.5).floor() * mask
    return torch.diff(ends, dim=-1, prepend=torch.zeros_like(ends[..., :1])).clamp_min(0).to(durations.dtype)


def total_frames(counts: Tensor) -> Tensor:
    """Return the frames of each sequence, at least 1: int64 ``(B,)`` of counts ``(B, 1, L)``."""
    return counts.sum(dim=(1, 2)).clamp_min(1).long()


def duration_path(counts: Tensor, mask: Tensor) -> Tensor:
    """Return which symbol each frame belongs to.

    A frame belongs to the first symbol whose end lies behind it; ends may be broken numbers.

    Args:
        counts: Frames of each symbol ``(B, L)``.
        mask: 1 where both symbol and frame are valid, ``(B, L, T)``.

    Returns:
        0 or 1, ``(B, L, T)``.
    """
    batch, symbols, length = mask.shape
    before_end = sequence_mask(counts.cumsum(dim=1).reshape(-1), length).view(batch, symbols, length).to(mask.dtype)
    before_start = torch.nn.functional.pad(before_end, (0, 0, 1, 0))[:, :-1]
    return (before_end - before_start) * mask


def expand(mu: Tensor, path: Tensor) -> Tensor:
    """Repeat what belongs to a symbol in each of its frames.

    Args:
        mu: ``(B, D, L)``.
        path: ``(B, L, T)``.

    Returns:
        ``(B, D, T)``.
    """
    return mu @ path.to(mu.dtype)


def duration_loss(log_durations: Tensor, counts: Tensor, mask: Tensor, smallest: float = 0.0) -> Tensor:
    """Return the mean squared error of log-durations over symbols; lower is better.

    Args:
        log_durations: Prediction ``(B, 1, L)``.
        counts: True frames of each symbol ``(B, L)``.
        mask: ``(B, 1, L)``.
        smallest: Shorter symbols count as if they lasted so long; 0 frames would ask for ``log(1e-8)``.
    """
    target = torch.log(_LOG_OFFSET + counts.clamp_min(smallest).unsqueeze(1))
    return ((log_durations - target).square() * mask).sum() / mask.sum().clamp_min(1)
