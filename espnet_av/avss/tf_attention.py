# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Self-attention over frames with channels and bins as features (Wang et al., "TF-GridNet", TASLP 2023).

Axes: ``B`` batch, ``T`` frames, ``F`` bins, ``C`` channels, ``H`` heads, ``E`` channels of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.avss.norms import EPS, FrameNorm
from espnet_av.layers.typed_modules import LayerList
from espnet_av.utils.errors import usage_error

QUERY_CHUNK = 512  # frames whose scores exist at a time outside of training: memory grows linearly


class HeadProjection(nn.Module):
    """Parameters of one head: 1x1 convolution, PReLU, norm over channels and bins."""

    def __init__(self, channels: int, head_channels: int, num_bins: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, head_channels, 1)
        self.act = nn.PReLU()
        self.norm = FrameNorm(head_channels, num_bins)


class TFAttention(nn.Module):
    """``x + projection(attention(x))``; all heads of a kind are computed at once.

    Args:
        channels: Channels of input and output.
        num_bins: Bins ``F``; gains of the norms have this size.
        num_heads: Heads; each has its own projections.
        qk_channels: Channels of queries and keys per head.

    Raises:
        UsageError: ``channels`` cannot be divided among the heads.
    """

    def __init__(self, channels: int, *, num_bins: int, num_heads: int, qk_channels: int) -> None:
        super().__init__()
        if channels % num_heads:
            usage_error("heads do not divide the channels", got=num_heads, allowed=f"divisors of {channels}")
        sizes = (channels, qk_channels, num_bins)
        self.Queries = LayerList(HeadProjection(*sizes) for _ in range(num_heads))
        self.Keys = LayerList(HeadProjection(*sizes) for _ in range(num_heads))
        sizes = (channels, channels // num_heads, num_bins)
        self.Values = LayerList(HeadProjection(*sizes) for _ in range(num_heads))
        self.attn_concat_proj = HeadProjection(channels, channels, num_bins)
        self.num_heads = num_heads

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, F, C)`` -> same shape."""
        heads = [self.Queries, self.Keys, self.Values]
        everything = [head for kind in heads for head in kind]
        weight = torch.cat([head.conv.weight.flatten(1) for head in everything])
        bias = torch.cat([head.conv.get_parameter("bias") for head in everything])
        sizes = [sum(head.conv.out_channels for head in kind) for kind in heads]
        projected = F.linear(x, weight, bias).split(sizes, dim=-1)
        query, key, value = (self._finish(p, kind) for p, kind in zip(projected, heads, strict=True))
        mixed = attend(query, key, value)  # (B, H, T, F * E)
        mixed = mixed.unflatten(-1, (x.shape[2], -1)).permute(0, 2, 3, 1, 4).flatten(3)
        last = self.attn_concat_proj
        mixed = F.linear(mixed, last.conv.weight.flatten(1), last.conv.bias)
        return x + last.norm(last.act(mixed))

    def _finish(self, x: Tensor, heads: LayerList[HeadProjection]) -> Tensor:
        """Activate and normalise each head: ``(B, T, F, H * E)`` -> ``(B, H, T, F * E)``."""
        x = x.unflatten(-1, (self.num_heads, -1)).permute(0, 3, 1, 2, 4).flatten(3)
        x = F.prelu(x, torch.cat([head.act.weight for head in heads]))
        vectors = zip(*(head.norm.vectors() for head in heads), strict=True)
        gain, shift = (torch.stack(v).flatten(1).unsqueeze(1) for v in vectors)  # (H, 1, F * E)
        return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=EPS), gain)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention ``(B, H, T, D), (B, H, T, D), (B, H, T, D') -> (B, H, T, D')``.

    Without gradients a long input is handled :data:`QUERY_CHUNK` queries at a time.
    """
    query = query * query.shape[-1] ** -0.5
    transposed = key.transpose(-1, -2)
    chunk = query.shape[-2] if torch.is_grad_enabled() else QUERY_CHUNK
    outputs = [(part @ transposed).softmax(dim=-1) @ value for part in query.split(chunk, dim=-2)]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-2)
