# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The U-Net of both separators: five halvings and five doublings of 32 x 32 slices.

Axes: ``B`` batch, ``C`` channels, ``H`` bins of a slice, ``T`` frames.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from espnet_av.activesep.init import LEAKY_SLOPE

DEPTH = 5


def encoder_widths(base_channels: int) -> list[int]:
    """Return the channels of the levels, first to deepest: 64, 128, 256, 512, 512 of a base of 64."""
    return [base_channels * factor for factor in (1, 2, 4, 8, 8)]


def _down(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(out), nn.LeakyReLU(LEAKY_SLOPE)
    )


def _up(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(channels, out, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()
    )


class UNetEncoder(nn.Module):
    """Halve height and width at each level.

    Args:
        in_channels: Channels of the input.
        base_channels: Channels of the first level.
    """

    def __init__(self, in_channels: int, *, base_channels: int = 64) -> None:
        super().__init__()
        widths = [in_channels, *encoder_widths(base_channels)]
        self.levels = nn.ModuleList(_down(*pair) for pair in zip(widths, widths[1:], strict=False))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """``(B, C, 32, 32)`` -> bottleneck ``(B, 8 * base, 1, 1)`` and outputs of the other levels, deepest first."""
        skips: list[Tensor] = []
        for level in self.levels:
            x = level(x)
            skips.insert(0, x)
        return x, skips[1:]


class UNetDecoder(nn.Module):
    """Double height and width at each level beside the encoder's output of that size, then mix channels linearly.

    Args:
        out_channels: Channels of the output; it is not bounded.
        base_channels: As in the encoder.
    """

    def __init__(self, out_channels: int, *, base_channels: int = 64) -> None:
        super().__init__()
        deepest, *others = reversed(encoder_widths(base_channels))
        inputs = [deepest, *(2 * width for width in others)]
        self.levels = nn.ModuleList(_up(*pair) for pair in zip(inputs, [*others, out_channels], strict=True))
        self.mix = nn.Conv2d(out_channels, out_channels, 1)

    def forward(self, x: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Bottleneck and skips of :class:`UNetEncoder` -> ``(B, out_channels, 32, 32)``."""
        first, *levels = self.levels
        x = first(x)
        for level, skip in zip(levels, skips, strict=True):
            x = level(torch.cat((x, skip), 1))
        return self.mix(x)


class UNet(nn.Module):
    """Encoder and decoder.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        base_channels: Channels of the first level.
    """

    def __init__(self, in_channels: int, out_channels: int, *, base_channels: int = 64) -> None:
        super().__init__()
        self.encoder = UNetEncoder(in_channels, base_channels=base_channels)
        self.decoder = UNetDecoder(out_channels, base_channels=base_channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, 32, 32)`` -> ``(B, out_channels, 32, 32)``."""
        return self.decoder(*self.encoder(x))
