# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Encoder and decoder of the codec: strided convolutions with dilated residual units, almost all of them causal.

Axes: ``B`` batch, ``T`` samples, ``F`` frames, ``C`` channels, ``D`` width of the latent.

Every convolution pads with zeros so that its output has ``ceil(T / stride)`` steps. A causal one looks back only; a
non-causal one looks half of its span ahead, and the sum of these looks ahead is the algorithmic delay of the codec.

Reference:
    N. Zeghidour et al., "SoundStream: an end-to-end neural audio codec", arXiv:2107.03312; M. Tagliasacchi et al.,
    "SEANet: a multi-modal speech enhancement network", arXiv:2009.02095.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from espnet_av.utils.errors import UsageError, describe, usage_error


@dataclass(frozen=True)
class UnitSpec:
    """Sizes of a residual unit.

    Attributes:
        kernel_sizes: Of its two convolutions.
        dilations: Of its two convolutions.
        causal: Which of them look back only.
    """

    kernel_sizes: tuple[int, int]
    dilations: tuple[int, int] = (1, 1)
    causal: tuple[bool, bool] = (True, True)

    @classmethod
    def parse(cls, conf: "UnitSpec | Mapping[str, Any]") -> "UnitSpec":
        """Read ``{kernel_sizes: [5, 1], dilations: [3, 1], causal: [true, true]}``; the last two may be left out.

        Raises:
            UsageError: Another keyword, or a value that is no pair.
        """
        if isinstance(conf, UnitSpec):
            return conf
        try:
            spec = cls(**{name: tuple(value) for name, value in conf.items()})
        except TypeError as error:
            keywords = ("kernel_sizes", "dilations", "causal")
            raise UsageError(describe(f"bad residual unit: {error}", got=conf, allowed=keywords)) from error
        for name, value in vars(spec).items():
            if len(value) != 2 or any(int(item) < (name != "causal") for item in value):
                usage_error(f"{name} of a residual unit must be two values, one for each convolution", got=value)
        return spec


class _Conv(nn.Module):
    """Holds a convolution; the published names say conv.conv."""

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        self.conv: nn.Conv1d = weight_norm(conv)


class _ConvTranspose(nn.Module):
    """Holds a transposed convolution; the published names say convtr.convtr."""

    def __init__(self, convtr: nn.ConvTranspose1d) -> None:
        super().__init__()
        self.convtr: nn.ConvTranspose1d = weight_norm(convtr)  # norms per input channel, as published


class Conv1d(nn.Module):
    """Convolution with weight norm and zero padding.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        kernel_size: Taps.
        stride: Step.
        dilation: Distance between taps.
        causal: Look back only; otherwise half of the span lies ahead.

    Attributes:
        padding: Zeros in all, ``span - stride`` steps, without what completes the last stride.
        right_context: Steps of the input that an output sees ahead of what a causal convolution sees.
        left_padding: ``padding - right_context``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        dilation: int = 1,
        causal: bool = True,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.causal = causal
        self.padding = (kernel_size - 1) * dilation + 1 - stride
        if self.padding < 0:
            usage_error("a convolution must span its stride", got=f"kernel {kernel_size}, stride {stride}")
        self.right_context = 0 if causal else self.padding // 2
        self.left_padding = self.padding - self.right_context
        self.conv = _Conv(nn.Conv1d(in_channels, out_channels, kernel_size, stride=stride, dilation=dilation))

    @property
    def layer(self) -> nn.Conv1d:
        """The convolution itself, without padding."""
        return self.conv.conv

    @torch.no_grad()
    def scale_weights(self, gain: float) -> None:
        """Multiply the weights by a gain."""
        self.layer.get_parameter("parametrizations.weight.original0").mul_(gain)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x: ``(B, C, T)``.

        Returns:
            ``(B, C', ceil(T / stride))``.
        """
        extra = -x.shape[-1] % self.stride  # completes the last stride
        return self.layer(F.pad(x, (self.left_padding, self.right_context + extra)))


class ResidualUnit(nn.Module):
    """``x + conv(ELU(conv(ELU(x))))``.

    Args:
        channels: Channels.
        kernel_sizes: Of the two convolutions.
        dilations: Of the two convolutions.
        causal: Which of them look back only.

    Attributes:
        right_context: Steps that an output sees ahead, of both convolutions together.
    """

    def __init__(
        self,
        channels: int,
        kernel_sizes: Sequence[int] = (5, 1),
        dilations: Sequence[int] = (1, 1),
        causal: Sequence[bool] = (True, True),
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for kernel_size, dilation, looks_back in zip(kernel_sizes, dilations, causal, strict=True):
            layers += [nn.ELU(), Conv1d(channels, channels, kernel_size, dilation=dilation, causal=looks_back)]
        self.block = nn.Sequential(*layers)
        self.right_context = sum(layer.right_context for layer in self.convolutions)

    @property
    def convolutions(self) -> list[Conv1d]:
        """The two convolutions."""
        return [layer for layer in self.block if isinstance(layer, Conv1d)]

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, C, T)`` for ``(B, C, T)``."""
        return x + self.block(x)


class Upsample(nn.Module):
    """Transposed convolution whose taps do not overlap: every input step gives ``stride`` output steps.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        stride: Output steps of an input step.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.convtr = _ConvTranspose(nn.ConvTranspose1d(in_channels, out_channels, kernel_size=stride, stride=stride))

    @property
    def layer(self) -> nn.ConvTranspose1d:
        """The transposed convolution itself."""
        return self.convtr.convtr

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, C', stride * T)`` for ``(B, C, T)``."""
        return self.layer(x)


def parse_units(units: Sequence[Sequence[Mapping[str, Any] | UnitSpec]], blocks: int) -> list[list[UnitSpec]]:
    """Read the residual units of all blocks.

    Args:
        units: For every block, its units as :meth:`UnitSpec.parse` takes them.
        blocks: Number of blocks there must be.

    Raises:
        UsageError: Another number of blocks, or a malformed unit.
    """
    if len(units) != blocks:
        usage_error("units must be a list for every block", got=f"{len(units)} lists", allowed=f"{blocks} lists")
    return [[UnitSpec.parse(unit) for unit in block] for block in units]


def _check_sizes(channels: Sequence[int], strides: Sequence[int]) -> None:
    if not strides or len(channels) != len(strides) or any(int(size) < 1 for size in (*channels, *strides)):
        got = f"channels {list(channels)}, strides {list(strides)}"
        usage_error("channels and strides must be one positive number each for every block", got=got)


class Encoder(nn.Module):
    """Waveform to latent: in every block residual units, then a convolution that keeps one of ``stride`` steps.

    Args:
        latent_dim: Width of the latent.
        channels: Channels in every block.
        strides: Reduction at the end of every block; the kernel there is twice the stride.
        units: Residual units of every block (:class:`UnitSpec` or its keywords).
        kernel_size: Taps of the first convolution.
        latent_gain: Factor of the initial weights of the last convolution. With 1, as published, the latent hardly
            varies at first, and some trainings stay at the mean spectrum for a long time.

    Attributes:
        model: All layers in order.
        hop_length: Samples of a frame.

    Raises:
        UsageError: The sizes do not fit together, or the gain is not positive.
    """

    def __init__(
        self,
        latent_dim: int,
        channels: Sequence[int],
        strides: Sequence[int],
        units: Sequence[Sequence[Mapping[str, Any] | UnitSpec]],
        kernel_size: int = 7,
        latent_gain: float = 1.0,
    ) -> None:
        super().__init__()
        _check_sizes(channels, strides)
        if not latent_gain > 0:
            usage_error("latent_gain must be positive", got=latent_gain)
        layers: list[nn.Module] = [Conv1d(1, channels[0], kernel_size)]
        widths = [*channels, latent_dim]
        for block, specs in enumerate(parse_units(units, len(strides))):
            width, stride = widths[block], strides[block]
            layers += [ResidualUnit(width, **vars(spec)) for spec in specs]
            last = Conv1d(width, widths[block + 1], 2 * stride, stride=stride)
            layers += [nn.ELU(), last]
        last.scale_weights(latent_gain)
        self.model = nn.Sequential(*layers)
        self.hop_length = math.prod(strides)

    def forward(self, wav: Tensor) -> Tensor:
        """Return the latent ``(B, D, ceil(T / hop_length))`` of ``(B, 1, T)``."""
        return self.model(wav)


class Decoder(nn.Module):
    """Latent to waveform: in every block a transposed convolution, then residual units.

    Args:
        latent_dim: Width of the latent.
        channels: Channels in every block.
        strides: Output steps of an input step in every block.
        units: Residual units of every block (:class:`UnitSpec` or its keywords).
        kernel_size: Taps of the last convolution.

    Attributes:
        model: All layers in order.
        hop_length: Samples of a frame.

    Raises:
        UsageError: The sizes do not fit together.
    """

    def __init__(
        self,
        latent_dim: int,
        channels: Sequence[int],
        strides: Sequence[int],
        units: Sequence[Sequence[Mapping[str, Any] | UnitSpec]],
        kernel_size: int = 21,
    ) -> None:
        super().__init__()
        _check_sizes(channels, strides)
        layers: list[nn.Module] = []
        width = latent_dim
        for block, specs in enumerate(parse_units(units, len(strides))):
            layers += [nn.ELU(), Upsample(width, channels[block], strides[block])]
            width = channels[block]
            layers += [ResidualUnit(width, **vars(spec)) for spec in specs]
        layers += [nn.ELU(), Conv1d(width, 1, kernel_size), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        self.hop_length = math.prod(strides)

    def forward(self, latent: Tensor) -> Tensor:
        """Return the waveform ``(B, 1, hop_length * F)`` in [-1, 1] of ``(B, D, F)``."""
        return self.model(latent)
