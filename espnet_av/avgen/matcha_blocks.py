# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The two networks of Matcha-TTS: a text encoder with durations, and a U-Net that estimates the velocity of the flow.

    ids (B, L) -> embedding -> 3 convolutions -> transformer (RoPE) -> mu (B, D, L), log-durations (B, 1, L)
    x, mu (B, D, T) -> down blocks -> middle blocks -> up blocks -> velocity (B, D, T)

Mehta et al., "Matcha-TTS: a fast TTS architecture with conditional flow matching", ICASSP 2024. Names of the weights
are those of its checkpoints.

Axes: ``B`` batch, ``L`` symbols, ``T`` frames, ``C`` channels, ``D`` output features, ``H`` heads. Masks are 1 for
what is valid and 0 for padding, ``(B, 1, L)`` or ``(B, 1, T)``.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPS = 1e-4
PRENET_DROPOUT = 0.5
TIME_SCALE = 1000.0
GROUPS = 8


class ChannelNorm(nn.Module):
    """Layer norm over the channels of ``(B, C, L)``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised ``(B, C, L)``."""
        return F.layer_norm(x.transpose(1, 2), self.gamma.shape, self.gamma, self.beta, NORM_EPS).transpose(1, 2)


class ConvPrenet(nn.Module):
    """Convolutions with a residual connection around all of them; the identity when training begins."""

    def __init__(self, channels: int, kernel_size: int = 5, layers: int = 3, dropout: float = PRENET_DROPOUT) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.conv_layers = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel_size, padding=padding) for _ in range(layers)
        )
        self.norm_layers = nn.ModuleList(ChannelNorm(channels) for _ in range(layers))
        self.proj = nn.Conv1d(channels, channels, 1)
        self.dropout = nn.Dropout(dropout)
        for parameter in self.proj.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return ``(B, C, L)`` of ``(B, C, L)``."""
        hidden = x
        for conv, norm in zip(self.conv_layers, self.norm_layers, strict=True):
            hidden = self.dropout(F.relu(norm(conv(hidden * mask))))
        return (x + self.proj(hidden)) * mask


class TextAttention(nn.Module):
    """Self-attention over symbols; the first half of each head is rotated by the position."""

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.conv_q = nn.Conv1d(channels, channels, 1)
        self.conv_k = nn.Conv1d(channels, channels, 1)
        self.conv_v = nn.Conv1d(channels, channels, 1)
        self.conv_o = nn.Conv1d(channels, channels, 1)
        self.dropout = dropout
        for conv in (self.conv_q, self.conv_k, self.conv_v):
            nn.init.xavier_uniform_(conv.weight)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return ``(B, C, L)`` of ``(B, C, L)``."""
        batch, channels, length = x.shape
        query, key, value = (
            conv(x).view(batch, self.heads, -1, length).transpose(2, 3)
            for conv in (self.conv_q, self.conv_k, self.conv_v)
        )  # (B, H, L, C / H)
        seen = mask.bool().unsqueeze(1)  # (B, 1, 1, L): a symbol sees the valid ones
        dropout = self.dropout if self.training else 0.0
        query, key = rotate_half(query), rotate_half(key)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, dropout_p=dropout)
        return self.conv_o(attended.transpose(2, 3).reshape(batch, channels, length))


def rotate_half(x: Tensor, base: float = 10000.0) -> Tensor:
    """Rotate the first half of each vector by its position; value ``i`` forms a pair with ``i + quarter``.

    Args:
        x: ``(B, H, L, E)``.
        base: Of the wavelengths.
    """
    size = x.shape[-1] // 2
    rotated, kept = x[..., :size], x[..., size:]
    exponent = torch.arange(0, size, 2, device=x.device, dtype=torch.float32) / size
    angle = torch.outer(torch.arange(x.shape[2], device=x.device, dtype=torch.float32), 1.0 / base**exponent)
    angle = torch.cat((angle, angle), dim=-1)
    first, second = rotated.chunk(2, dim=-1)
    turned = rotated * angle.cos().to(x.dtype) + torch.cat((-second, first), dim=-1) * angle.sin().to(x.dtype)
    return torch.cat((turned, kept), dim=-1)


class ConvFeedForward(nn.Module):
    """Two convolutions over symbols."""

    def __init__(self, channels: int, filter_channels: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.conv_1 = nn.Conv1d(channels, filter_channels, kernel_size, padding=kernel_size // 2)
        self.conv_2 = nn.Conv1d(filter_channels, channels, kernel_size, padding=kernel_size // 2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return ``(B, C, L)`` of ``(B, C, L)``."""
        hidden = self.dropout(F.relu(self.conv_1(x * mask)))
        return self.conv_2(hidden * mask) * mask


class TextTransformer(nn.Module):
    """Post-norm layers over symbols."""

    def __init__(
        self, channels: int, filter_channels: int, heads: int, layers: int, kernel_size: int, dropout: float
    ) -> None:
        super().__init__()
        self.attn_layers = nn.ModuleList(TextAttention(channels, heads, dropout) for _ in range(layers))
        self.norm_layers_1 = nn.ModuleList(ChannelNorm(channels) for _ in range(layers))
        self.ffn_layers = nn.ModuleList(
            ConvFeedForward(channels, filter_channels, kernel_size, dropout) for _ in range(layers)
        )
        self.norm_layers_2 = nn.ModuleList(ChannelNorm(channels) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return ``(B, C, L)`` of ``(B, C, L)``."""
        layers = zip(self.attn_layers, self.norm_layers_1, self.ffn_layers, self.norm_layers_2, strict=True)
        for attend, norm_1, feed_forward, norm_2 in layers:
            x = x * mask
            x = norm_1(x + self.dropout(attend(x, mask)))
            x = norm_2(x + self.dropout(feed_forward(x, mask)))
        return x * mask


class DurationPredictor(nn.Module):
    """Logarithm of how many frames a symbol lasts."""

    def __init__(self, channels: int, filter_channels: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.conv_1 = nn.Conv1d(channels, filter_channels, kernel_size, padding=kernel_size // 2)
        self.norm_1 = ChannelNorm(filter_channels)
        self.conv_2 = nn.Conv1d(filter_channels, filter_channels, kernel_size, padding=kernel_size // 2)
        self.norm_2 = ChannelNorm(filter_channels)
        self.proj = nn.Conv1d(filter_channels, 1, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return ``(B, 1, L)`` of ``(B, C, L)``."""
        x = self.dropout(self.norm_1(F.relu(self.conv_1(x * mask))))
        x = self.dropout(self.norm_2(F.relu(self.conv_2(x * mask))))
        return self.proj(x * mask) * mask


class TextEncoder(nn.Module):
    """From symbols to what each one sounds like on average, and how long it lasts.

    Args:
        n_vocab: Number of symbols.
        n_feats: Output features ``D``.
        channels: Width ``C``.
        filter_channels: Width of the feed-forward parts.
        duration_channels: Width of the duration predictor.
        heads: Heads ``H``.
        layers: Transformer layers.
        kernel_size: Of the feed-forward parts and the duration predictor.
        dropout: Share of values dropped in training.
        duration_dropout: The same in the duration predictor.
        prenet: Whether convolutions come first.
    """

    def __init__(
        self,
        n_vocab: int,
        n_feats: int,
        *,
        channels: int = 192,
        filter_channels: int = 768,
        duration_channels: int = 256,
        heads: int = 2,
        layers: int = 6,
        kernel_size: int = 3,
        dropout: float = 0.1,
        duration_dropout: float = 0.1,
        prenet: bool = True,
    ) -> None:
        super().__init__()
        self.scale = math.sqrt(channels)
        self.emb = nn.Embedding(n_vocab, channels)
        nn.init.normal_(self.emb.weight, 0.0, channels**-0.5)
        self.prenet = ConvPrenet(channels) if prenet else None
        self.encoder = TextTransformer(channels, filter_channels, heads, layers, kernel_size, dropout)
        self.proj_m = nn.Conv1d(channels, n_feats, 1)
        self.proj_w = DurationPredictor(channels, duration_channels, kernel_size, duration_dropout)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode symbols.

        Args:
            ids: ``(B, L)``.
            mask: ``(B, 1, L)``.

        Returns:
            ``mu (B, D, L)`` and the logarithm of durations in frames ``(B, 1, L)``; the durations send no gradient
            back into the encoder.
        """
        x = self.emb(ids).transpose(1, 2) * self.scale  # (B, L, C) -> (B, C, L)
        if self.prenet is not None:
            x = self.prenet(x, mask)
        x = self.encoder(x, mask)
        return self.proj_m(x) * mask, self.proj_w(x.detach(), mask)


class TimeMLP(nn.Module):
    """Embedding of the flow's time."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.in_dim = in_dim
        self.linear_1 = nn.Linear(in_dim, out_dim)
        self.linear_2 = nn.Linear(out_dim, out_dim)

    def forward(self, t: Tensor) -> Tensor:
        """Return ``(B, E)`` of times ``(B,)``."""
        half = self.in_dim // 2
        rate = torch.exp(torch.arange(half, device=t.device).float() * -(math.log(10000.0) / (half - 1)))
        angle = TIME_SCALE * t.float().unsqueeze(1) * rate
        embedding = torch.cat((angle.sin(), angle.cos()), dim=-1).to(t.dtype)
        return self.linear_2(F.silu(self.linear_1(embedding)))


class ConvBlock(nn.Module):
    """Convolution, group norm, Mish."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        conv = nn.Conv1d(in_channels, out_channels, 3, padding=1)
        self.block = nn.Sequential(conv, nn.GroupNorm(GROUPS, out_channels), nn.Mish())

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return ``(B, C', T)`` of ``(B, C, T)``."""
        return self.block(x * mask) * mask


class ResidualBlock(nn.Module):
    """Two convolution blocks, the time added between them."""

    def __init__(self, in_channels: int, out_channels: int, time_dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Mish(), nn.Linear(time_dim, out_channels))
        self.block1 = ConvBlock(in_channels, out_channels)
        self.block2 = ConvBlock(out_channels, out_channels)
        self.res_conv = nn.Conv1d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, mask: Tensor, time: Tensor) -> Tensor:
        """Return ``(B, C', T)`` of ``(B, C, T)`` and the embedded time ``(B, E)``."""
        hidden = self.block1(x, mask) + self.mlp(time).unsqueeze(-1)
        return self.block2(hidden, mask) + self.res_conv(x * mask)


class SnakeBeta(nn.Module):
    """Linear layer, then ``x + sin^2(exp(alpha) x) / exp(beta)``."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(in_dim, out_dim)
        self.alpha = nn.Parameter(torch.zeros(out_dim))
        self.beta = nn.Parameter(torch.zeros(out_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(..., out_dim)`` of ``(..., in_dim)``."""
        x = self.proj(x)
        return x + torch.sin(x * self.alpha.exp()).square() / (self.beta.exp() + 1e-9)


class _FrameAttention(nn.Module):
    def __init__(self, channels: int, heads: int, head_dim: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, heads * head_dim, bias=False)
        self.to_k = nn.Linear(channels, heads * head_dim, bias=False)
        self.to_v = nn.Linear(channels, heads * head_dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * head_dim, channels), nn.Dropout(dropout))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, length, _ = x.shape
        query, key, value = (
            linear(x).view(batch, length, self.heads, -1).transpose(1, 2)
            for linear in (self.to_q, self.to_k, self.to_v)
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.to_out(attended.transpose(1, 2).reshape(batch, length, -1))


class _FeedForward(nn.Module):
    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        inner = 4 * channels
        self.net = nn.Sequential(SnakeBeta(channels, inner), nn.Dropout(dropout), nn.Linear(inner, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class FrameTransformer(nn.Module):
    """Pre-norm layer over frames: attention, then feed-forward."""

    def __init__(self, channels: int, heads: int, head_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = _FrameAttention(channels, heads, head_dim, dropout)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = _FeedForward(channels, dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return ``(B, T, C)`` of ``(B, T, C)``.

        Args:
            x: Frames.
            mask: What is added to the scores, or bool, ``(B, 1, 1, T)``.
        """
        x = x + self.attn1(self.norm1(x), mask)
        return x + self.ff(self.norm3(x))


class Upsample(nn.Module):
    """Twice as many frames."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(channels, channels, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, C, 2 T)`` of ``(B, C, T)``."""
        return self.conv(x)


class Downsample(nn.Module):
    """Half as many frames, rounded up."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, C, T / 2)`` of ``(B, C, T)``."""
        return self.conv(x)


class VelocityUNet(nn.Module):
    """Velocity of the flow.

    Args:
        n_feats: Features ``D`` of ``x`` and of ``mu``.
        channels: Width of each resolution; all but the last halve the frames.
        heads: Heads of the transformer layers.
        head_dim: Width of a head.
        blocks: Transformer layers behind each residual block.
        mid_blocks: Residual blocks at the lowest resolution.
        dropout: Share of values dropped in training.
        additive_mask_quirk: Add the mask (1 valid, 0 padding) to the scores of attention, as Matcha-TTS does with the
            attention of ``diffusers``, so that frames see padding as well. False: they do not.
    """

    # each stage is a list of a residual block, a list of transformer layers and, but in the middle, a change of rate
    down_blocks: Iterable[Any]
    mid_blocks: Iterable[Any]
    up_blocks: Iterable[Any]

    def __init__(
        self,
        n_feats: int,
        *,
        channels: Sequence[int] = (256, 256),
        heads: int = 2,
        head_dim: int = 64,
        blocks: int = 1,
        mid_blocks: int = 2,
        dropout: float = 0.05,
        additive_mask_quirk: bool = False,
    ) -> None:
        super().__init__()
        channels = tuple(channels)
        time_dim = 4 * channels[0]
        self.factor = 2 ** (len(channels) - 1)
        self.additive_mask_quirk = additive_mask_quirk
        self.time_mlp = TimeMLP(2 * n_feats, time_dim)

        def stage(in_channels: int, out_channels: int, resample: nn.Module | None) -> nn.ModuleList:
            layers = nn.ModuleList(FrameTransformer(out_channels, heads, head_dim, dropout) for _ in range(blocks))
            parts: list[nn.Module] = [ResidualBlock(in_channels, out_channels, time_dim), layers]
            return nn.ModuleList(parts if resample is None else [*parts, resample])

        def last_conv(width: int) -> nn.Conv1d:
            return nn.Conv1d(width, width, 3, padding=1)

        downs, ups, before = [], [], 2 * n_feats
        for index, width in enumerate(channels):
            is_last = index == len(channels) - 1
            downs.append(stage(before, width, last_conv(width) if is_last else Downsample(width)))
            before = width
        mirrored = (*channels[::-1], channels[0])
        for index, (before, width) in enumerate(zip(mirrored[:-1], mirrored[1:], strict=True)):
            is_last = index == len(channels) - 1
            ups.append(stage(2 * before, width, last_conv(width) if is_last else Upsample(width)))
        self.down_blocks = nn.ModuleList(downs)
        self.mid_blocks = nn.ModuleList(stage(channels[-1], channels[-1], None) for _ in range(mid_blocks))
        self.up_blocks = nn.ModuleList(ups)
        self.final_block = ConvBlock(channels[0], channels[0])
        self.final_proj = nn.Conv1d(channels[0], n_feats, 1)
        self.apply(_start_values)

    def forward(self, x: Tensor, mask: Tensor, mu: Tensor, t: Tensor) -> Tensor:
        """Return the velocity.

        Args:
            x: State ``(B, D, T)``; ``T`` is a multiple of ``factor``.
            mask: ``(B, 1, T)``.
            mu: What the text says, ``(B, D, T)``.
            t: Times ``(B,)``.

        Returns:
            ``(B, D, T)``.
        """
        time = self.time_mlp(t)
        x = torch.cat((x, mu), dim=1)
        skipped, masks = [], [mask]
        for residual, layers, resample in self.down_blocks:
            x = self._stage(x, masks[-1], time, residual, layers)
            skipped.append(x)
            x = resample(x * masks[-1])
            masks.append(masks[-1][..., ::2] if isinstance(resample, Downsample) else masks[-1])
        masks.pop()
        for residual, layers in self.mid_blocks:
            x = self._stage(x, masks[-1], time, residual, layers)
        for residual, layers, resample in self.up_blocks:
            mask = masks.pop()
            x = self._stage(torch.cat((x, skipped.pop()), dim=1), mask, time, residual, layers)
            x = resample(x * mask)
        x = self.final_block(x, mask)
        return self.final_proj(x * mask) * mask

    def _stage(self, x: Tensor, mask: Tensor, time: Tensor, residual: nn.Module, layers: nn.ModuleList) -> Tensor:
        x = residual(x, mask, time).transpose(1, 2)  # (B, C, T) -> (B, T, C)
        seen = mask.unsqueeze(1)  # (B, 1, 1, T)
        seen = seen.to(x.dtype) if self.additive_mask_quirk else seen.bool()
        for layer in layers:
            x = layer(x, seen)
        return x.transpose(1, 2)


def _start_values(module: nn.Module) -> None:
    if isinstance(module, nn.Conv1d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu" if isinstance(module, nn.Conv1d) else "leaky_relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
