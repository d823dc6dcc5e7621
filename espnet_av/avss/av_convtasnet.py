# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Conv-TasNet that is told by lips whom to extract.

After Wu, Xu, Zhang, Chen, Yu, Xie and Yu, "Time domain audio visual speech separation" (ASRU 2019), section 2: the
encoder, blocks and decoder of Conv-TasNet, a stack of blocks over the lip embeddings, and both joined by concatenation
between two stacks over the sound. It is the rival of :class:`~espnet_av.avss.convtasnet.ConvTasNet` at the same size:
what it gains is what the lips tell.

Axes: ``B`` mixtures, ``S`` speakers of each, ``L`` samples, ``F`` filters, ``C`` channels of the bottleneck, ``n``
audio frames, ``Tv`` video frames, ``Cv`` embedding width, ``V`` channels of the video blocks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.avss.convtasnet import ACTIVATIONS, ConvBlock, GlobalNorm
from espnet_av.avss.lip_guided import SAMPLES_PER_FRAME, LipGuided
from espnet_av.utils.errors import usage_error

EPS = 1e-8


class VideoBlock(nn.Module):
    """ReLU, batch norm and a depthwise convolution over time, then the same with a 1x1 convolution, and a residual.

    Args:
        channels: Channels ``V``.
        kernel: Frames of the depthwise convolution, odd.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.BatchNorm1d(channels),
            nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=channels),
            nn.ReLU(),
            nn.BatchNorm1d(channels),
            nn.Conv1d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, V, Tv)`` -> same shape."""
        return x + self.layers(x)


class TemporalStacks(nn.Module):
    """Stacks of Conv-TasNet's blocks, dilated 1, 2, 4, ...; the residual stream goes on.

    Args:
        channels: Channels ``C``.
        hidden: Channels inside the blocks.
        kernel: Taps of the depthwise convolutions.
        layers: Blocks of a stack.
        stacks: Stacks.
    """

    def __init__(self, channels: int, hidden: int, *, kernel: int, layers: int, stacks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ConvBlock(
                channels,
                hidden,
                kernel=kernel,
                dilation=2 ** (index % layers),
                bias=True,
                residual=True,
                skip=False,
                eps=EPS,
            )
            for index in range(layers * stacks)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, n)`` -> same shape."""
        for block in self.blocks:
            residual, _ = block(x)
            x = x + residual
        return x


class AVConvTasNet(LipGuided):
    """Mixture and lips -> the voice of each pair of lips.

    Args:
        filters: Filters ``F`` of encoder and decoder.
        kernel: Samples of a window; windows are half of that apart.
        bottleneck: Channels ``C`` between blocks.
        hidden: Channels inside blocks.
        block_kernel: Taps of the depthwise convolutions, odd.
        layers: Blocks of a stack.
        audio_stacks: Stacks before the fusion, which see no lips and run once for all speakers of a mixture.
        fused_stacks: Stacks after the fusion.
        video_dim: Width ``Cv`` of the lip embeddings.
        video_channels: Channels ``V`` of the video blocks.
        video_blocks: Video blocks.
        video_kernel: Frames of their convolutions, odd.
        mask_act: Activation of the mask: ``sigmoid``, ``relu``, ``tanh`` or ``linear``.
        lips_tolerance: Video frames by which lips may differ from the audio. None: any length is stretched.
        samples_per_frame: Audio samples per video frame.

    Raises:
        UsageError: A value that is not allowed.
    """

    def __init__(
        self,
        *,
        filters: int = 256,
        kernel: int = 40,
        bottleneck: int = 256,
        hidden: int = 512,
        block_kernel: int = 3,
        layers: int = 8,
        audio_stacks: int = 1,
        fused_stacks: int = 3,
        video_dim: int = 512,
        video_channels: int = 256,
        video_blocks: int = 5,
        video_kernel: int = 3,
        mask_act: str = "relu",
        lips_tolerance: int | None = 1,
        samples_per_frame: int = SAMPLES_PER_FRAME,
    ) -> None:
        super().__init__(video_dim, lips_tolerance=lips_tolerance, samples_per_frame=samples_per_frame)
        if kernel < 2 or kernel % 2:
            usage_error("kernel of AVConvTasNet", got=kernel, allowed="even numbers")
        if block_kernel % 2 == 0 or video_kernel % 2 == 0:
            usage_error("block_kernel and video_kernel must be odd", got=(block_kernel, video_kernel))
        if mask_act not in ACTIVATIONS:
            usage_error("mask_act of AVConvTasNet", got=mask_act, allowed=sorted(ACTIVATIONS))
        self.stride = kernel // 2
        self.encoder = nn.Conv1d(1, filters, kernel, stride=self.stride)
        self.entry = nn.Sequential(GlobalNorm(filters, EPS), nn.Conv1d(filters, bottleneck, 1))
        stacks = {"kernel": block_kernel, "layers": layers}
        self.audio_net = TemporalStacks(bottleneck, hidden, stacks=audio_stacks, **stacks)
        self.video_net = nn.Sequential(
            nn.Conv1d(video_dim, video_channels, 1),
            *(VideoBlock(video_channels, video_kernel) for _ in range(video_blocks)),
        )
        self.fusion = nn.Conv1d(bottleneck + video_channels, bottleneck, 1)
        self.fused_net = TemporalStacks(bottleneck, hidden, stacks=fused_stacks, **stacks)
        self.mask = nn.Sequential(nn.PReLU(), nn.Conv1d(bottleneck, filters, 1), ACTIVATIONS[mask_act]())
        self.decoder = nn.ConvTranspose1d(filters, 1, kernel, stride=self.stride)

    def _separate(self, mix: Tensor, lips: Tensor) -> Tensor:
        """``(B, L)``, ``(B * S, Tv, Cv)`` -> ``(B * S, 1, L)``; all of both is valid."""
        length, speakers = mix.shape[1], len(lips) // len(mix)
        missing = -(length - 2 * self.stride) % self.stride if length > 2 * self.stride else 2 * self.stride - length
        features = self.encoder(F.pad(mix, (0, missing)).unsqueeze(1)).relu()  # (B, F, n)
        audio = self.audio_net(self.entry(features))  # (B, C, n)
        if speakers > 1:
            features, audio = (each.repeat_interleave(speakers, dim=0) for each in (features, audio))
        video = self.video_net(lips.transpose(1, 2))  # (B * S, V, Tv)
        video = F.interpolate(video, audio.shape[-1], mode="nearest")
        fused = self.fused_net(self.fusion(torch.cat([audio, video], dim=1)))
        return self.decoder(self.mask(fused) * features)[..., :length]
