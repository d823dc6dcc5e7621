# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Periodic activations that make no aliases: twice the rate, the nonlinearity there, a low-pass, and back.

Axes: ``B`` batch, ``C`` channels, ``T`` samples.

References:
    T. Karras et al., "Alias-free generative adversarial networks", arXiv:2106.12423 (the filters);
    L. Ziyin, T. Hartwig, M. Ueda, "Neural networks fail to learn periodic functions", arXiv:2006.08195 (snake);
    S. Lee et al., "BigVGAN: a universal neural vocoder with large-scale training", arXiv:2206.04658.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.utils.errors import usage_error

RATIO = 2
TAPS = 12
_TINY = 1e-9  # keeps a magnitude of 0 from dividing


def kaiser_sinc(cutoff: float, half_width: float, taps: int) -> Tensor:
    """Return a low-pass filter: a sinc under a Kaiser window, with the sum 1.

    Args:
        cutoff: Of the sample rate, at most 0.5.
        half_width: Half the width of the transition, of the sample rate.
        taps: Length.

    Returns:
        ``(1, 1, taps)``.
    """
    half = taps // 2
    attenuation = 2.285 * (half - 1) * math.pi * 4 * half_width + 7.95
    if attenuation > 50:
        beta = 0.1102 * (attenuation - 8.7)
    elif attenuation >= 21:
        beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    else:
        beta = 0.0
    window = torch.kaiser_window(taps, periodic=False, beta=beta)
    time = torch.arange(taps) - half + (0.5 if taps % 2 == 0 else 0.0)
    filters = 2 * cutoff * window * torch.sinc(2 * cutoff * time)
    return (filters / filters.sum()).view(1, 1, taps)


def half_band() -> Tensor:
    """Return the filter of both changes of rate, ``(1, 1, 12)``."""
    return kaiser_sinc(0.5 / RATIO, 0.6 / RATIO, TAPS)


class Upsample(nn.Module):
    """Twice the rate; ends are held. The filter is stored under the name ``filter``."""

    filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", half_band())

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, C, 2 T)`` for ``(B, C, T)``."""
        channels, pad = x.shape[1], TAPS // RATIO - 1
        x = F.pad(x, (pad, pad), mode="replicate")
        filters = self.filter.to(x.dtype).expand(channels, -1, -1)
        x = RATIO * F.conv_transpose1d(x, filters, stride=RATIO, groups=channels)
        cut = pad * RATIO + (TAPS - RATIO) // 2
        return x[..., cut:-cut]


class _LowPass(nn.Module):
    """Holds the filter of :class:`Downsample`; the published names have this level."""

    filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", half_band())


class Downsample(nn.Module):
    """Half the rate; ends are held. The filter is stored under the name ``lowpass.filter``."""

    def __init__(self) -> None:
        super().__init__()
        self.lowpass = _LowPass()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, C, T)`` for ``(B, C, 2 T)``."""
        channels = x.shape[1]
        x = F.pad(x, (TAPS // 2 - 1, TAPS // 2), mode="replicate")
        filters = self.lowpass.filter.to(x.dtype).expand(channels, -1, -1)
        return F.conv1d(x, filters, stride=RATIO, groups=channels)


class Snake(nn.Module):
    """``x + sin(a x)^2 / a`` with a frequency for every channel.

    Args:
        channels: ``C``.
        log_scale: Keep logarithms of the frequencies.
    """

    def __init__(self, channels: int, log_scale: bool = True) -> None:
        super().__init__()
        self.log_scale = log_scale
        self.alpha = nn.Parameter(torch.zeros(channels) if log_scale else torch.ones(channels))

    def scaled(self, parameter: Tensor) -> Tensor:
        """Return a parameter as a factor ``(1, C, 1)``."""
        parameter = parameter[None, :, None]
        return parameter.exp() if self.log_scale else parameter

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, C, T)`` for ``(B, C, T)``."""
        alpha = self.scaled(self.alpha)
        return x + torch.sin(x * alpha).square() / (alpha + _TINY)


class SnakeBeta(Snake):
    """``x + sin(a x)^2 / b`` with a frequency and a magnitude for every channel.

    Args:
        channels: ``C``.
        log_scale: Keep logarithms of both.
    """

    def __init__(self, channels: int, log_scale: bool = True) -> None:
        super().__init__(channels, log_scale)
        self.beta = nn.Parameter(torch.zeros_like(self.alpha) if log_scale else torch.ones_like(self.alpha))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, C, T)`` for ``(B, C, T)``."""
        return x + torch.sin(x * self.scaled(self.alpha)).square() / (self.scaled(self.beta) + _TINY)


ACTIVATIONS = {"snake": Snake, "snakebeta": SnakeBeta}


class AliasFreeActivation(nn.Module):
    """A periodic activation at twice the rate.

    Args:
        name: ``"snake"`` or ``"snakebeta"``.
        channels: ``C``.
        log_scale: Of the activation.

    Raises:
        UsageError: The name is unknown.
    """

    def __init__(self, name: str, channels: int, log_scale: bool = True) -> None:
        super().__init__()
        if name not in ACTIVATIONS:
            usage_error("unknown activation", name, list(ACTIVATIONS))
        self.act = ACTIVATIONS[name](channels, log_scale)
        self.upsample = Upsample()
        self.downsample = Downsample()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, C, T)`` for ``(B, C, T)``."""
        return self.downsample(self.act(self.upsample(x)))
