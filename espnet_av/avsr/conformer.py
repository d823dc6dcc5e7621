# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Conformer with relative positions, the encoder of auto_avsr.

Gulati et al., "Conformer: Convolution-augmented Transformer for Speech Recognition" (Interspeech 2020), figure 1, with
the relative attention of Dai et al., "Transformer-XL" (ACL 2019), and ReLU inside the feed-forward blocks. Names of
parameters are those of auto_avsr's checkpoints.

Axes: ``B`` batch, ``T`` frames, ``D`` width, ``H`` heads. Masks are True on valid frames.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from espnet_av.avsr.resnet import AudioResNet, norm_valid
from espnet_av.layers.lip_trunk import LipResNet
from espnet_av.utils.errors import usage_error

NORM_EPS = 1e-12  # ESPnet's layer norm


class RelativePositions(nn.Module):
    """Scale by sqrt(D) and give the sinusoids of all distances between two frames. Holds no parameters.

    Args:
        dim: Width.
        dropout: Dropout of both results.
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.dim = dim
        self.dropout = nn.Dropout(dropout)

    def table(self, num_frames: int, device: torch.device) -> Tensor:
        """Sinusoids of the distances ``T - 1`` down to ``1 - T`` (query minus key), ``(2T - 1, D)`` float32."""
        distance = torch.arange(num_frames - 1, -num_frames, -1, dtype=torch.float32, device=device).unsqueeze(1)
        even = torch.arange(0, self.dim, 2, dtype=torch.float32, device=device)
        angle = distance * torch.exp(even * -(math.log(10000.0) / self.dim))
        return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)[:, : self.dim]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, T, D)`` -> ``(B, T, D)`` and the table ``(2T - 1, D)``."""
        positions = self.table(x.shape[1], x.device).to(x.dtype)
        return self.dropout(x * math.sqrt(self.dim)), self.dropout(positions)


class RelativeAttention(nn.Module):
    """Self-attention that scores content and distance, through torch's fused kernel.

    Args:
        dim: Width.
        num_heads: Heads; must divide ``dim``.
        dropout: Dropout of the attention weights.
    """

    def __init__(self, dim: int, *, num_heads: int, dropout: float) -> None:
        super().__init__()
        if dim % num_heads:
            usage_error("num_heads must divide the encoder width", got=num_heads, allowed=f"divisors of {dim}")
        self.num_heads = num_heads
        self.dropout = dropout
        self.linear_q = nn.Linear(dim, dim)
        self.linear_k = nn.Linear(dim, dim)
        self.linear_v = nn.Linear(dim, dim)
        self.linear_out = nn.Linear(dim, dim)
        self.linear_pos = nn.Linear(dim, dim, bias=False)
        self.pos_bias_u = nn.Parameter(torch.empty(num_heads, dim // num_heads))
        self.pos_bias_v = nn.Parameter(torch.empty(num_heads, dim // num_heads))
        nn.init.xavier_uniform_(self.pos_bias_u)
        nn.init.xavier_uniform_(self.pos_bias_v)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)  # (..., T, D) -> (..., H, T, D / H)

    @staticmethod
    def by_key(scores: Tensor) -> Tensor:
        """Scores by distance ``(B, H, T, 2T - 1)``, the largest first, -> scores by key ``(B, H, T, T)``."""
        batch, heads, size, num_distances = scores.shape
        shifted = F.pad(scores, (1, 0)).view(batch, heads, num_distances + 1, size)[:, :, 1:]
        return shifted.view(batch, heads, size, num_distances)[:, :, :, :size]

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend within each clip.

        Args:
            x: ``(B, T, D)``.
            positions: ``(2T - 1, D)`` of :class:`RelativePositions`.
            mask: ``(B, T)`` bool, True = may be attended to.

        Returns:
            ``(B, T, D)``.
        """
        query, key, value = (self._heads(linear(x)) for linear in (self.linear_q, self.linear_k, self.linear_v))
        distance = self._heads(self.linear_pos(positions))  # (H, 2T - 1, D / H)
        by_distance = (query + self.pos_bias_v.unsqueeze(1)) @ distance.transpose(-2, -1)
        bias = self.by_key(by_distance) / math.sqrt(query.shape[-1])  # (B, H, T, T)
        if mask is not None:
            bias = bias.masked_fill(~mask[:, None, None, :], float("-inf"))
        query = (query + self.pos_bias_u.unsqueeze(1)).to(value.dtype)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(value.dtype), dropout_p=dropout)
        return self.linear_out(y.transpose(1, 2).flatten(2))  # (B, H, T, D / H) -> (B, T, D)


class FeedForward(nn.Module):
    """Linear, ReLU, dropout, linear."""

    def __init__(self, dim: int, hidden_dim: int, *, dropout: float) -> None:
        super().__init__()
        self.w_1 = nn.Linear(dim, hidden_dim)
        self.w_2 = nn.Linear(hidden_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, D)`` -> ``(B, T, D)``."""
        return self.w_2(self.dropout(F.relu(self.w_1(x))))


class ConvolutionModule(nn.Module):
    """Pointwise convolution with a gate, depthwise convolution, batch norm, swish, pointwise convolution.

    Args:
        dim: Width.
        kernel: Taps of the depthwise convolution, odd.
    """

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        if kernel % 2 == 0:
            usage_error("conv_kernel must be odd", got=kernel, allowed="1, 3, 5, ...")
        self.pointwise_cov1 = nn.Conv1d(dim, 2 * dim, 1)  # auto_avsr's spelling
        self.depthwise_conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.norm = nn.BatchNorm1d(dim)
        self.pointwise_cov2 = nn.Conv1d(dim, dim, 1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``(B, T, D)`` and the optional ``(B, T)`` mask -> ``(B, T, D)``; padding neither spreads nor counts."""
        y = F.glu(self.pointwise_cov1(x.transpose(1, 2)), dim=1)  # (B, T, D) -> (B, D, T)
        if mask is not None:
            y = y.masked_fill(~mask.unsqueeze(1), 0.0)
        y = F.silu(norm_valid(self.norm, self.depthwise_conv(y), mask))
        return self.pointwise_cov2(y).transpose(1, 2)


class ConformerLayer(nn.Module):
    """Half a feed-forward block, attention, convolution, half a feed-forward block, norm; all pre-norm with residuals.

    Args:
        dim: Width.
        num_heads: Attention heads.
        ffn_dim: Inner width of the feed-forward blocks.
        conv_kernel: Taps of the depthwise convolution.
        dropout: Dropout of residual branches and inside the feed-forward blocks.
        attention_dropout: Dropout of attention weights.
    """

    def __init__(
        self, dim: int, *, num_heads: int, ffn_dim: int, conv_kernel: int, dropout: float, attention_dropout: float
    ) -> None:
        super().__init__()
        self.self_attn = RelativeAttention(dim, num_heads=num_heads, dropout=attention_dropout)
        self.feed_forward = FeedForward(dim, ffn_dim, dropout=dropout)
        self.feed_forward_macaron = FeedForward(dim, ffn_dim, dropout=dropout)
        self.conv_module = ConvolutionModule(dim, conv_kernel)
        self.norm_ff = nn.LayerNorm(dim, eps=NORM_EPS)
        self.norm_mha = nn.LayerNorm(dim, eps=NORM_EPS)
        self.norm_ff_macaron = nn.LayerNorm(dim, eps=NORM_EPS)
        self.norm_conv = nn.LayerNorm(dim, eps=NORM_EPS)
        self.norm_final = nn.LayerNorm(dim, eps=NORM_EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, positions: Tensor, key_mask: Tensor | None, conv_mask: Tensor | None) -> Tensor:
        """Run the layer.

        Args:
            x: ``(B, T, D)``.
            positions: ``(2T - 1, D)`` of :class:`RelativePositions`.
            key_mask: ``(B, T)`` bool, frames that may be attended to; None: all.
            conv_mask: ``(B, T)`` bool, frames that the convolution may see; None: all.

        Returns:
            ``(B, T, D)``.
        """
        x = x + 0.5 * self.dropout(self.feed_forward_macaron(self.norm_ff_macaron(x)))
        x = x + self.dropout(self.self_attn(self.norm_mha(x), positions, key_mask))
        x = x + self.dropout(self.conv_module(self.norm_conv(x), conv_mask))
        x = x + 0.5 * self.dropout(self.feed_forward(self.norm_ff(x)))
        return self.norm_final(x)


class Conformer(nn.Module):
    """A front end, a linear map, relative positions, ``num_layers`` layers and a final norm.

    Args:
        frontend: Module with ``output_size`` that maps its input and a frame mask to ``(B, T, output_size)``.
        dim: Width ``D``.
        num_layers: Layers.
        num_heads: Attention heads.
        ffn_dim: Inner width of the feed-forward blocks.
        conv_kernel: Taps of the depthwise convolutions.
        dropout: Dropout of residual branches, positions and inside the feed-forward blocks.
        attention_dropout: Dropout of attention weights.
        gradient_checkpointing: Compute the layers again in the backward pass instead of keeping what is inside them.
        reference_compat: Let padded frames into convolutions and batch-norm statistics, as the reference does.
    """

    def __init__(
        self,
        frontend: LipResNet | AudioResNet,
        *,
        dim: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        ffn_dim: int = 3072,
        conv_kernel: int = 31,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        gradient_checkpointing: bool = False,
        reference_compat: bool = False,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.gradient_checkpointing = gradient_checkpointing
        self.reference_compat = reference_compat
        self.frontend = frontend
        self.embed = nn.Sequential(nn.Linear(frontend.output_size, dim), RelativePositions(dim, dropout))
        self.encoders = nn.ModuleList(
            ConformerLayer(
                dim,
                num_heads=num_heads,
                ffn_dim=ffn_dim,
                conv_kernel=conv_kernel,
                dropout=dropout,
                attention_dropout=attention_dropout,
            )
            for _ in range(num_layers)
        )
        self.after_norm = nn.LayerNorm(dim, eps=NORM_EPS)

    def forward(self, stream: Tensor, mask: Tensor | None = None) -> Tensor:
        """The front end's input and the optional ``(B, T)`` mask -> ``(B, T, D)``."""
        inner_mask = None if self.reference_compat else mask
        x, positions = self.embed(self.frontend(stream, inner_mask))
        for layer in self.encoders:
            if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
                x = checkpoint(layer, x, positions, mask, inner_mask, use_reentrant=False)
            else:
                x = layer(x, positions, mask, inner_mask)
        return self.after_norm(x)
