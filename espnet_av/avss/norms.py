# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The normalisations of RTFS-Net for tensors with channels last.

Axes: ``B`` batch, ``T`` frames, ``F`` bins, ``C`` channels.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

EPS = 1e-5


def scale_and_shift(x: Tensor, gain: Tensor, shift: Tensor, *, inplace: bool) -> Tensor:
    """Return ``gain * x + shift`` in the shape of ``x``, in its memory if ``inplace`` and no gradients are needed."""
    if inplace and not torch.is_grad_enabled():
        return torch.addcmul(shift, x, gain, out=x)
    return torch.addcmul(shift, x, gain)


class Moments(torch.autograd.Function):
    """Mean and biased variance of each item ``(B, ...) -> (B,), (B,)``: two reads forward, one pass backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance."""
        size = x[0].numel()  # sums of short rows in single precision, the rest in double
        mean = x.sum(-1).double().flatten(1).sum(-1) / size
        square = torch.linalg.vector_norm(x, dim=-1).double().square().flatten(1).sum(-1) / size
        variance = (square - mean.square()).clamp_(min=0)
        mean, variance = mean.to(x.dtype), variance.to(x.dtype)
        ctx.save_for_backward(x, mean)
        return mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_mean: Tensor, grad_variance: Tensor) -> Tensor:
        """Return the gradient of ``x``."""
        x, mean = ctx.saved_tensors
        size = x[0].numel()
        shape = (-1, *[1] * (x.dim() - 1))
        slope = (2 / size) * grad_variance
        return torch.addcmul((grad_mean / size - slope * mean).view(shape), x, slope.view(shape))


class GlobalNorm(nn.Module):
    """gLN: mean and variance over all of an item, gain and shift per channel. Keys ``norm.weight``, ``norm.bias``.

    Args:
        channels: Channels.
        inplace: Without gradients, overwrite the input.
    """

    def __init__(self, channels: int, *, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace
        self.norm = nn.GroupNorm(1, channels, eps=EPS)

    def affine(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return gain and shift ``(B, 1, ..., C)`` such that ``gain * x + shift`` is the normalised ``x (B, ..., C)``.

        A caller that multiplies the result anyway does both at once.
        """
        mean, variance = Moments.apply(x)
        shape = (-1, *[1] * (x.dim() - 1))
        gain = torch.rsqrt(variance + EPS).view(shape) * self.norm.weight
        return gain, torch.addcmul(self.norm.bias, gain, mean.view(shape), value=-1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, ..., C)`` -> same shape."""
        gain, shift = self.affine(x)
        return scale_and_shift(x, gain, shift, inplace=self.inplace)


class ChannelNorm(nn.Module):
    """Mean and variance over the channels of each position. Keys ``gamma``, ``beta``, both ``(1, C, 1, 1)``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, F, C)`` -> same shape."""
        return F.layer_norm(x, x.shape[-1:], self.gamma.flatten(), self.beta.flatten(), EPS)


class FrameNorm(nn.Module):
    """Mean and variance over channels and bins of each frame. Keys ``gamma``, ``beta``, both ``(1, C, 1, F)``."""

    def __init__(self, channels: int, num_bins: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, num_bins))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, num_bins))

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Return gain and shift ordered (bin, channel): ``(F, C)`` each."""
        return self.gamma[0, :, 0].t(), self.beta[0, :, 0].t()

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, F, C)`` -> same shape."""
        gain, shift = self.vectors()
        return F.layer_norm(x, x.shape[-2:], gain.contiguous(), shift.contiguous(), EPS)
