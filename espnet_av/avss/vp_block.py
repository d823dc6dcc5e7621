# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The VP block of RTFS-Net: the skeleton of the RTFS block in one dimension, over lip embeddings.

Axes: ``B`` batch, ``C`` channels outside, ``D`` channels inside, ``T`` video frames.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.avss.rtfs_blocks import ConvLayer, PyramidBlock
from espnet_av.utils.errors import usage_error

WAVE_BASE = 10000.0


def sinusoids(num_frames: int, channels: int, like: Tensor) -> Tensor:
    """Return position codes ``(T, D)``, sine on even and cosine on odd channels, in the type of ``like``."""
    position = torch.arange(num_frames, dtype=torch.float32).unsqueeze(1)
    rate = torch.exp(torch.arange(0, channels, 2, dtype=torch.float32) * (-math.log(WAVE_BASE) / channels))
    codes = torch.stack([torch.sin(position * rate), torch.cos(position * rate)], dim=-1).flatten(1)
    return codes[:, :channels].to(like)


class DropPath(nn.Module):
    """Leave a branch out for whole items in training, and scale it up for the others."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """``(B, ...)`` -> same shape."""
        if not self.training or not self.probability:
            return x
        keep = 1 - self.probability
        return x * (x.new_empty(len(x), *[1] * (x.dim() - 1)).bernoulli_(keep) / keep)


class FrameAttention(nn.Module):
    """Multi-head self-attention over frames ``(B, D, T)`` with norms before and after and position codes."""

    def __init__(self, channels: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, num_heads, dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.norm2 = nn.LayerNorm(channels)
        self.drop_path = DropPath(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, D, T)`` -> same shape."""
        y = self.norm1(x.transpose(1, 2))
        y = y + sinusoids(y.shape[1], y.shape[2], y)
        y = self.dropout(self.attention(y, y, y, need_weights=False)[0]) + y
        return self.drop_path(self.norm2(y).transpose(1, 2)) + x


class ChannelsFirstGlobalNorm(nn.Module):
    """gLN of ``(B, C, T)``. Keys ``norm.weight``, ``norm.bias``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T)`` -> same shape."""
        return self.norm(x)


class ConvFeedForward(nn.Module):
    """Wider, depthwise convolution over frames, back: ``(B, D, T)``."""

    def __init__(self, channels: int, hidden: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.encoder = ConvLayer(nn.Conv1d(channels, hidden, 1, bias=False), norm=ChannelsFirstGlobalNorm(hidden))
        refiner = nn.Conv1d(hidden, hidden, kernel, padding="same", groups=hidden)
        self.refiner = ConvLayer(refiner, act=nn.ReLU())
        self.decoder = ConvLayer(nn.Conv1d(hidden, channels, 1, bias=False), norm=ChannelsFirstGlobalNorm(channels))
        self.drop_path = DropPath(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, D, T)`` -> same shape."""
        y = self.drop_path(self.refiner(self.encoder(x)))
        return self.drop_path(self.decoder(y)) + x


class GlobalAttention(nn.Module):
    """Attention, then feed-forward."""

    def __init__(self, channels: int, *, num_heads: int, ffn: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.MHSA = FrameAttention(channels, num_heads, dropout)
        self.FFN = ConvFeedForward(channels, ffn, kernel, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, D, T)`` -> same shape."""
        return self.FFN(self.MHSA(x))


class TemporalTFAR(nn.Module):
    """``I(m, n)`` of the RTFS block in one dimension, with batch norms."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()

        def layer() -> ConvLayer:
            conv = nn.Conv1d(channels, channels, kernel, padding="same", groups=channels, bias=False)
            return ConvLayer(conv, norm=nn.BatchNorm1d(channels))

        self.local_embedding = layer()
        self.global_embedding = layer()
        self.global_gate = layer()

    def forward(self, m: Tensor, n: Tensor) -> Tensor:
        """``m (B, D, T)``, ``n (B, D, T')`` -> ``(B, D, T)``."""
        size = m.shape[-1]
        if size > n.shape[-1]:
            gate = F.interpolate(self.global_gate(n).sigmoid(), size, mode="nearest")
            return self.local_embedding(m) * gate + F.interpolate(self.global_embedding(n), size, mode="nearest")
        if size != n.shape[-1]:
            n = F.interpolate(n, size, mode="nearest")
        return self.local_embedding(m) * self.global_gate(n).sigmoid() + self.global_embedding(n)


class VPBlock(PyramidBlock):
    """The block over lip embeddings ``(B, C, T)``.

    Args:
        channels: Outer channels ``C``, the width of the embeddings.
        hidden: Inner channels ``D``.
        depth: Sizes: the input's and ``depth - 1`` halvings.
        kernel: Kernel of the depthwise convolutions.
        num_heads: Heads of the attention.
        ffn: Channels inside the feed-forward part.
        dropout: Of attention and of whole branches.
        projection_norm: Normalise and activate after the projection (off: dialect of the first published weights).

    Raises:
        UsageError: The heads do not divide the inner channels.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        *,
        depth: int = 4,
        kernel: int = 3,
        num_heads: int = 8,
        ffn: int = 128,
        dropout: float = 0.1,
        projection_norm: bool = True,
    ) -> None:
        if hidden % num_heads:
            usage_error("video_heads do not divide video_hidden", got=num_heads, allowed=f"divisors of {hidden}")

        def down(stride: int) -> ConvLayer:
            conv = nn.Conv1d(hidden, hidden, kernel, stride, padding=(kernel - 1) // 2, groups=hidden)
            return ConvLayer(conv, norm=nn.BatchNorm1d(hidden))

        super().__init__(
            gateway=ConvLayer(nn.Conv1d(channels, channels, 1, groups=channels), act=nn.PReLU()),
            projection=ConvLayer(
                nn.Conv1d(channels, hidden, 1),
                norm=nn.BatchNorm1d(hidden) if projection_norm else None,
                act=nn.PReLU() if projection_norm else None,
            ),
            downsample=[down(1 if i == 0 else 2) for i in range(depth)],
            global_layers=[
                GlobalAttention(hidden, num_heads=num_heads, ffn=ffn, kernel=kernel, dropout=dropout),
            ],
            fusion=lambda: TemporalTFAR(hidden, kernel),
            residual=ConvLayer(nn.Conv1d(hidden, channels, 1)),
            pool=lambda x, like: F.adaptive_avg_pool1d(x, like.shape[-1]),
        )
