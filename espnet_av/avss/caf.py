# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The cross-dimensional attention fusion block of RTFS-Net: lips gate and weigh the audio.

Axes: ``B`` batch, ``T`` audio frames, ``F`` bins, ``C`` audio channels, ``Tv`` video frames, ``Cv`` video channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.avss.rtfs_blocks import ChannelScale, ConvLayer
from espnet_av.avss.vp_block import ChannelsFirstGlobalNorm
from espnet_av.utils.errors import usage_error

REFERENCE_FRAMES = 50  # video frames of the clips that published models were trained on


class ChannelsLastBatchNorm(nn.BatchNorm2d):
    """Batch norm of ``(B, T, F, C)``."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, F, C)`` -> same shape."""
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def fold(self, gain: Tensor) -> tuple[Tensor, Tensor]:
        """Return gain and shift ``(C,)`` of a channel gain followed by this norm in evaluation."""
        mean, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return gain * scale, torch.addcmul(self.bias, mean, scale, value=-1)


class CAFBlock(nn.Module):
    """``relu(norm(a)) * key(v) + norm(a) * attention(v)`` with the lips stretched to the audio's frames.

    The attention path is a softmax over time, so it fades as clips get longer; ``length_gain`` undoes that with the
    factor ``Tv / 50``, which is 1 for the two seconds that published models were trained on.

    Args:
        channels: Audio channels ``C``.
        video_channels: Video channels ``Cv``, a multiple of ``C``.
        num_heads: Attention heads per channel; they are averaged.
        length_gain: Keep the attention path independent of length (off: published behaviour).

    Raises:
        UsageError: ``video_channels`` is no multiple of ``channels``.
    """

    def __init__(self, channels: int, video_channels: int, *, num_heads: int = 4, length_gain: bool = False) -> None:
        super().__init__()
        if video_channels % channels:
            usage_error("video_dim must be a multiple of channels", got=video_channels, allowed=f"n * {channels}")
        self.num_heads = num_heads
        self.length_gain = length_gain

        def audio() -> ConvLayer:
            return ConvLayer(ChannelScale(channels, bias=False), norm=ChannelsLastBatchNorm(channels))

        def video(width: int) -> ConvLayer:
            conv = nn.Conv1d(video_channels, width, 1, groups=channels)
            return ConvLayer(conv, norm=ChannelsFirstGlobalNorm(width))

        self.key_embed = audio()
        self.value_embed = audio()
        self.attention_embed = video(channels * num_heads)
        self.resize = video(channels)

    def weights(self, video: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
        """Return key and attention ``(B, T, 1, C)`` of ``video (B, Cv, Tv)`` for ``num_frames`` audio frames."""
        key = self.resize(video)
        attention = self.attention_embed(video).unflatten(1, (-1, self.num_heads)).mean(2).softmax(-1)
        if self.length_gain:
            attention = attention * (video.shape[-1] / REFERENCE_FRAMES)
        stretched = F.interpolate(torch.cat([key, attention], dim=1), num_frames, mode="nearest")
        key, attention = stretched.transpose(1, 2).unsqueeze(2).chunk(2, dim=-1)
        return key, attention

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        """``audio (B, T, F, C)``, ``video (B, Cv, Tv)`` -> ``(B, T, F, C)``."""
        key, attention = self.weights(video, audio.shape[1])
        return self.key_embed(audio).relu() * key + self.value_embed(audio) * attention
