# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""BigVGAN: mel spectrograms to sound through periodic activations without aliases.

Axes: ``B`` batch, ``M`` mel bands, ``C`` channels, ``T`` frames or samples.

Reference:
    S. Lee et al., "BigVGAN: a universal neural vocoder with large-scale training", arXiv:2206.04658.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from espnet_av.avgen.alias_free import AliasFreeActivation
from espnet_av.avgen.vocoder_parts import block_reach, check_sizes, conv, frame_reach, mean_of_blocks, transposed

ACTIVATION_REACH = 5  # samples to each side that an activation looks at


class AMPBlock1(nn.Module):
    """Residual block: for every dilation, activation, dilated convolution, activation, convolution.

    Args:
        channels: ``C``.
        kernel_size: Of all convolutions.
        dilations: One for every pair of convolutions.
        activation: Name of the activation.
        log_scale: Of the activation.
        weight_norm: Keep weights as direction and length.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        dilations: Sequence[int],
        activation: str,
        log_scale: bool,
        weight_norm: bool,
    ) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(conv(channels, channels, kernel_size, each, weight_norm) for each in dilations)
        self.convs2 = nn.ModuleList(conv(channels, channels, kernel_size, 1, weight_norm) for _ in dilations)
        self.activations = nn.ModuleList(
            AliasFreeActivation(activation, channels, log_scale) for _ in range(2 * len(dilations))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, C, T)`` for ``(B, C, T)``."""
        pairs = zip(self.convs1, self.convs2, self.activations[::2], self.activations[1::2], strict=True)
        for dilated, plain, first, second in pairs:
            x = x + plain(second(dilated(first(x))))
        return x


class AMPBlock2(nn.Module):
    """Residual block: for every dilation, activation and dilated convolution; arguments as of :class:`AMPBlock1`."""

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        dilations: Sequence[int],
        activation: str,
        log_scale: bool,
        weight_norm: bool,
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv(channels, channels, kernel_size, each, weight_norm) for each in dilations)
        self.activations = nn.ModuleList(AliasFreeActivation(activation, channels, log_scale) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, C, T)`` for ``(B, C, T)``."""
        for dilated, activation in zip(self.convs, self.activations, strict=True):
            x = x + dilated(activation(x))
        return x


BLOCKS = {"1": AMPBlock1, "2": AMPBlock2}


class BigVGAN(nn.Module):
    """The generator; its defaults are the published base model for 80 bands at 22.05 kHz.

    Args:
        num_mels: ``M``.
        upsample_rates: Factors of the transposed convolutions; their product is the hop.
        upsample_kernel_sizes: Their kernels.
        upsample_initial_channel: Channels before the first; each halves them.
        resblock: ``"1"`` or ``"2"``.
        resblock_kernel_sizes: Kernels of the blocks behind every transposed convolution.
        resblock_dilation_sizes: Dilations of each of them.
        activation: ``"snake"`` or ``"snakebeta"``.
        snake_logscale: Its parameters are logarithms.
        use_tanh_at_final: Bound the sound by tanh; otherwise it is cut off at -1 and 1.
        use_bias_at_final: Whether the last convolution has a bias.
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
        activation: str = "snakebeta",
        snake_logscale: bool = True,
        use_tanh_at_final: bool = True,
        use_bias_at_final: bool = True,
        weight_norm: bool = True,
    ) -> None:
        super().__init__()
        shape = (upsample_rates, upsample_kernel_sizes, upsample_initial_channel)
        check_sizes(*shape, resblock, resblock_kernel_sizes, resblock_dilation_sizes)
        block = BLOCKS[str(resblock)]
        self.num_mels, self.hop_length = num_mels, math.prod(upsample_rates)
        self.use_tanh_at_final = use_tanh_at_final
        self.blocks_per_stage = len(resblock_kernel_sizes)
        channels = upsample_initial_channel
        self.conv_pre = conv(num_mels, channels, 7, 1, weight_norm)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(upsample_rates, upsample_kernel_sizes, strict=True):
            # the published names have a level more here
            self.ups.append(nn.ModuleList([transposed(channels, channels // 2, kernel, rate, weight_norm)]))
            channels //= 2
            for size, dilations in zip(resblock_kernel_sizes, resblock_dilation_sizes, strict=True):
                self.resblocks.append(block(channels, size, dilations, activation, snake_logscale, weight_norm))
        self.activation_post = AliasFreeActivation(activation, channels, snake_logscale)
        self.conv_post = conv(channels, 1, 7, 1, weight_norm, bias=use_bias_at_final)
        widest = max(
            block_reach(size, dilations, block is AMPBlock1, ACTIVATION_REACH)
            for size, dilations in zip(resblock_kernel_sizes, resblock_dilation_sizes, strict=True)
        )
        #: Mel frames to each side that a sample depends on at most.
        self.reach = frame_reach(upsample_rates, upsample_kernel_sizes, widest, 3 + ACTIVATION_REACH)

    def forward(self, mel: Tensor) -> Tensor:
        """Return sound in [-1, 1], ``(B, 1, T * hop_length)``.

        Args:
            mel: Natural logarithms, ``(B, M, T)``.
        """
        x = self.conv_pre(mel)
        for stage, up in enumerate(self.ups):
            (layer,) = up.children()
            x = layer(x)
            first = stage * self.blocks_per_stage
            x = mean_of_blocks(self.resblocks[first : first + self.blocks_per_stage], x)
        x = self.conv_post(self.activation_post(x))
        return torch.tanh(x) if self.use_tanh_at_final else x.clamp(-1.0, 1.0)
