# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""HiFi-GAN: mel spectrograms to sound by transposed convolutions and residual blocks of several kernels.

Axes: ``B`` batch, ``M`` mel bands, ``C`` channels, ``T`` frames or samples.

Reference:
    J. Kong, J. Kim, J. Bae, "HiFi-GAN: generative adversarial networks for efficient and high fidelity speech
    synthesis", arXiv:2010.05646.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.avgen.vocoder_parts import block_reach, check_sizes, conv, frame_reach, mean_of_blocks, transposed

SLOPE = 0.1
LAST_SLOPE = 0.01  # of the activation before the last convolution
#: Keywords of a generator that trains on a CPU: 0.9 million values, a sixteenth of the published work.
SMALL = {"upsample_initial_channel": 128}
#: For tests.
TINY = {
    "upsample_rates": (16, 16),
    "upsample_kernel_sizes": (32, 32),
    "upsample_initial_channel": 16,
    "resblock": "2",
    "resblock_kernel_sizes": (3,),
    "resblock_dilation_sizes": ((1, 3),),
}


class ResBlock1(nn.Module):
    """Residual block: for every dilation, a dilated convolution and a plain one.

    Args:
        channels: ``C``.
        kernel_size: Of all convolutions.
        dilations: One for every pair of convolutions.
        weight_norm: Keep weights as direction and length.
    """

    def __init__(self, channels: int, kernel_size: int, dilations: Sequence[int], weight_norm: bool) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(conv(channels, channels, kernel_size, each, weight_norm) for each in dilations)
        self.convs2 = nn.ModuleList(conv(channels, channels, kernel_size, 1, weight_norm) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, C, T)`` for ``(B, C, T)``."""
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            x = x + plain(F.leaky_relu(dilated(F.leaky_relu(x, SLOPE)), SLOPE))
        return x


class ResBlock2(nn.Module):
    """Residual block: for every dilation a dilated convolution; arguments as of :class:`ResBlock1`."""

    def __init__(self, channels: int, kernel_size: int, dilations: Sequence[int], weight_norm: bool) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv(channels, channels, kernel_size, each, weight_norm) for each in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, C, T)`` for ``(B, C, T)``."""
        for dilated in self.convs:
            x = x + dilated(F.leaky_relu(x, SLOPE))
        return x


BLOCKS = {"1": ResBlock1, "2": ResBlock2}


class HiFiGAN(nn.Module):
    """The generator; its defaults are the published version 1.

    Args:
        num_mels: ``M``.
        upsample_rates: Factors of the transposed convolutions; their product is the hop.
        upsample_kernel_sizes: Their kernels.
        upsample_initial_channel: Channels before the first; each halves them. :data:`SMALL` has 128.
        resblock: ``"1"`` or ``"2"``.
        resblock_kernel_sizes: Kernels of the blocks behind every transposed convolution.
        resblock_dilation_sizes: Dilations of each of them.
        weight_norm: Keep weights as direction and length, for training; False for faster use.

    Raises:
        UsageError: The sizes do not fit together.
    """

    def __init__(
        self,
        num_mels: int = 80,
        upsample_rates: Sequence[int] = (8, 8, 2, 2),
        upsample_kernel_sizes: Sequence[int] = (16, 16, 4, 4),
        upsample_initial_channel: int = 512,
        resblock: str = "1",
        resblock_kernel_sizes: Sequence[int] = (3, 7, 11),
        resblock_dilation_sizes: Sequence[Sequence[int]] = ((1, 3, 5), (1, 3, 5), (1, 3, 5)),
        weight_norm: bool = True,
    ) -> None:
        super().__init__()
        shape = (upsample_rates, upsample_kernel_sizes, upsample_initial_channel)
        check_sizes(*shape, resblock, resblock_kernel_sizes, resblock_dilation_sizes)
        block = BLOCKS[str(resblock)]
        self.num_mels, self.hop_length = num_mels, math.prod(upsample_rates)
        self.blocks_per_stage = len(resblock_kernel_sizes)
        channels = upsample_initial_channel
        self.conv_pre = conv(num_mels, channels, 7, 1, weight_norm)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(upsample_rates, upsample_kernel_sizes, strict=True):
            self.ups.append(transposed(channels, channels // 2, kernel, rate, weight_norm))
            channels //= 2
            for size, dilations in zip(resblock_kernel_sizes, resblock_dilation_sizes, strict=True):
                self.resblocks.append(block(channels, size, dilations, weight_norm))
        self.conv_post = conv(channels, 1, 7, 1, weight_norm)
        widest = max(
            block_reach(size, dilations, block is ResBlock1, 0)
            for size, dilations in zip(resblock_kernel_sizes, resblock_dilation_sizes, strict=True)
        )
        #: Mel frames to each side that a sample depends on at most.
        self.reach = frame_reach(upsample_rates, upsample_kernel_sizes, widest, 3)

    def forward(self, mel: Tensor) -> Tensor:
        """Return sound in [-1, 1], ``(B, 1, T * hop_length)``.

        Args:
            mel: Natural logarithms, ``(B, M, T)``.
        """
        x = self.conv_pre(mel)
        for stage, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, SLOPE))
            first = stage * self.blocks_per_stage
            x = mean_of_blocks(self.resblocks[first : first + self.blocks_per_stage], x)
        return torch.tanh(self.conv_post(F.leaky_relu(x, LAST_SLOPE)))
