# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Transformer decoder (Vaswani et al., NeurIPS 2017, pre-norm) with ESPnet's parameter names.

For search it keeps the keys and values of both attentions, so a step costs one token whatever the prefix length.

Axes: ``B`` batch (utterances), ``W`` beams per utterance, ``L`` tokens, ``T`` encoder frames, ``D`` width,
``H`` heads, ``V`` vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.layers.typed_modules import LayerList
from espnet_av.utils.errors import usage_error

NORM_EPS = 1e-12  # ESPnet's layer norm


@dataclass
class DecoderCache:
    """What the decoder remembers of an encoded batch and of the prefixes in the beams.

    Attributes:
        cross: Per layer the keys and values of the encoder output, each ``(B, H, T, D / H)``.
        cross_mask: ``(B, 1, 1, T)`` bool, True = valid; None where all frames are.
        prefix: Per layer the keys and values of the prefixes, each ``(B * W, H, L, D / H)``; empty at first.
    """

    cross: list[tuple[Tensor, Tensor]]
    cross_mask: Tensor | None
    prefix: list[tuple[Tensor, Tensor]]

    def select(self, utterances: Tensor | None, rows: Tensor) -> None:
        """Keep ``rows`` of the prefixes and, if given, only these ``utterances``; both are int64 indices."""
        if utterances is not None:
            self.cross = [(k[utterances], v[utterances]) for k, v in self.cross]
            self.cross_mask = None if self.cross_mask is None else self.cross_mask[utterances]
        self.prefix = [(k[rows], v[rows]) for k, v in self.prefix]


class PositionalEncoding(nn.Module):
    """Scale by sqrt(D), add sinusoids, dropout. Holds no parameters.

    Args:
        dim: Width.
        dropout: Dropout after the sum.
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.dim = dim
        self.dropout = nn.Dropout(dropout)

    def table(self, start: int, length: int, device: torch.device) -> Tensor:
        """Sinusoids of positions ``start`` .. ``start + length - 1``, ``(length, D)`` float32."""
        position = torch.arange(start, start + length, dtype=torch.float32, device=device).unsqueeze(1)
        even = torch.arange(0, self.dim, 2, dtype=torch.float32, device=device)
        angle = position * torch.exp(even * -(math.log(10000.0) / self.dim))
        return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)[:, : self.dim]

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """``(B, L, D)`` -> ``(B, L, D)``, the first token being at position ``start``."""
        table = self.table(start, x.shape[1], x.device).to(x.dtype)
        return self.dropout(x * math.sqrt(self.dim) + table)


class Attention(nn.Module):
    """Multi-head attention whose keys and values can be kept.

    Args:
        dim: Width.
        num_heads: Heads; must divide ``dim``.
        dropout: Dropout of the attention weights.
    """

    def __init__(self, dim: int, *, num_heads: int, dropout: float) -> None:
        super().__init__()
        if dim % num_heads:
            usage_error("num_heads must divide the decoder width", got=num_heads, allowed=f"divisors of {dim}")
        self.num_heads = num_heads
        self.dropout = dropout
        self.linear_q = nn.Linear(dim, dim)
        self.linear_k = nn.Linear(dim, dim)
        self.linear_v = nn.Linear(dim, dim)
        self.linear_out = nn.Linear(dim, dim)

    def heads(self, x: Tensor) -> Tensor:
        """``(B, L, D)`` -> ``(B, H, L, D / H)``."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def keys_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, L, D)`` -> keys and values, each ``(B, H, L, D / H)``."""
        return self.heads(self.linear_k(source)), self.heads(self.linear_v(source))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Attend from ``(B, L, D)`` to kept keys and values; bool mask ``(B, 1, L or 1, S)``, True = may be seen."""
        dropout = self.dropout if self.training else 0.0
        query = self.heads(self.linear_q(x))
        y = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, dropout_p=dropout)
        return self.linear_out(y.transpose(1, 2).flatten(2))  # (B, H, L, D / H) -> (B, L, D)


class PositionwiseFeedForward(nn.Module):
    """Linear, ReLU, dropout, linear."""

    def __init__(self, dim: int, hidden_dim: int, *, dropout: float) -> None:
        super().__init__()
        self.w_1 = nn.Linear(dim, hidden_dim)
        self.w_2 = nn.Linear(hidden_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, L, D)`` -> ``(B, L, D)``."""
        return self.w_2(self.dropout(F.relu(self.w_1(x))))


class DecoderLayer(nn.Module):
    """Self-attention, attention to the encoder, feed-forward; each pre-norm with a residual."""

    def __init__(self, dim: int, *, num_heads: int, ffn_dim: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(dim, num_heads=num_heads, dropout=attention_dropout)
        self.src_attn = Attention(dim, num_heads=num_heads, dropout=attention_dropout)
        self.feed_forward = PositionwiseFeedForward(dim, ffn_dim, dropout=dropout)
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.norm3 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, prefix_mask: Tensor | None, cross: tuple[Tensor, Tensor], cross_mask: Tensor | None
    ) -> Tensor:
        """``(B, L, D)`` -> ``(B, L, D)`` for whole label sequences."""
        y = self.norm1(x)
        x = x + self.dropout(self.self_attn(y, *self.self_attn.keys_values(y), prefix_mask))
        return self._rest(x, cross, cross_mask, num_utterances=x.shape[0])

    def step(
        self,
        x: Tensor,
        past: tuple[Tensor, Tensor] | None,
        cross: tuple[Tensor, Tensor],
        cross_mask: Tensor | None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One new token per beam: ``(B * W, 1, D)`` -> ``(B * W, 1, D)`` and the longer keys and values."""
        y = self.norm1(x)
        keys, values = self.self_attn.keys_values(y)
        if past is not None:
            keys, values = torch.cat([past[0], keys], dim=2), torch.cat([past[1], values], dim=2)
        x = x + self.dropout(self.self_attn(y, keys, values, None))
        return self._rest(x, cross, cross_mask, num_utterances=cross[0].shape[0]), (keys, values)

    def _rest(
        self, x: Tensor, cross: tuple[Tensor, Tensor], cross_mask: Tensor | None, *, num_utterances: int
    ) -> Tensor:
        # The beams of an utterance are queries of one attention, so its keys are not copied per beam.
        y = self.norm2(x).reshape(num_utterances, -1, x.shape[-1])
        x = x + self.dropout(self.src_attn(y, *cross, cross_mask)).view_as(x)
        return x + self.dropout(self.feed_forward(self.norm3(x)))


class TransformerDecoder(nn.Module):
    """Attention decoder over ``V`` tokens. The defaults are those of AVSRCocktail.

    Args:
        vocab_size: ``V``.
        dim: ``D``, that of the memory as well.
        num_layers: Layers.
        num_heads: Heads.
        ffn_dim: Inner width of the feed-forward blocks.
        dropout: Dropout of embedding, residual branches and feed-forward.
        attention_dropout: Dropout of both attentions' weights.
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        dim: int = 1024,
        num_layers: int = 6,
        num_heads: int = 16,
        ffn_dim: int = 3072,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.vocab_size = vocab_size
        embedding = nn.Embedding(vocab_size, dim)
        self.embed = nn.Sequential(embedding, PositionalEncoding(dim, dropout))
        self.decoders = LayerList(
            DecoderLayer(
                dim, num_heads=num_heads, ffn_dim=ffn_dim, dropout=dropout, attention_dropout=attention_dropout
            )
            for _ in range(num_layers)
        )
        self.after_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.output_layer = nn.Linear(dim, vocab_size)
        nn.init.normal_(embedding.weight, std=dim**-0.5)

    def forward(self, memory: Tensor, memory_mask: Tensor | None, tokens: Tensor, token_lengths: Tensor) -> Tensor:
        """Score every next token of known prefixes (teacher forcing).

        Args:
            memory: ``(B, T, D)`` encoder output.
            memory_mask: ``(B, T)`` bool, True = valid; None: all.
            tokens: ``(B, L)`` int64, starting with ``<sos>``.
            token_lengths: ``(B,)`` valid tokens.

        Returns:
            ``(B, L, V)`` logits.
        """
        size = tokens.shape[1]
        past = torch.ones(size, size, dtype=torch.bool, device=tokens.device).tril()
        inside = torch.arange(size, device=tokens.device) < token_lengths.unsqueeze(1)
        prefix_mask = (past & inside.unsqueeze(1)).unsqueeze(1)  # (B, 1, L, L)
        cross_mask = None if memory_mask is None else memory_mask[:, None, None, :]
        x = self.embed(tokens)
        for layer in self.decoders:
            x = layer(x, prefix_mask, layer.src_attn.keys_values(memory), cross_mask)
        return self.output_layer(self.after_norm(x))

    def start(self, memory: Tensor, memory_mask: Tensor | None = None) -> DecoderCache:
        """Prepare step-by-step decoding: compute the encoder's keys and values once per utterance.

        Args:
            memory: ``(B, T, D)``.
            memory_mask: ``(B, T)`` bool, True = valid; None: all.
        """
        cross = []
        for layer in self.decoders:
            keys, values = layer.src_attn.keys_values(memory)
            cross.append((keys.contiguous(), values.contiguous()))
        return DecoderCache(cross, None if memory_mask is None else memory_mask[:, None, None, :], [])

    def step(self, tokens: Tensor, cache: DecoderCache) -> Tensor:
        """Append one token to every prefix and score the next.

        Args:
            tokens: ``(B * W,)`` int64, the last token of each prefix, beams of an utterance side by side.
            cache: Updated in place.

        Returns:
            ``(B * W, V)`` float32 log probabilities.
        """
        position = cache.prefix[0][0].shape[2] if cache.prefix else 0
        embedding, positions = self.embed
        x = positions(embedding(tokens.unsqueeze(1)), start=position)
        pasts: Sequence[tuple[Tensor, Tensor] | None] = cache.prefix or [None] * len(self.decoders)
        cache.prefix = []
        for layer, past, cross in zip(self.decoders, pasts, cache.cross, strict=True):
            x, kept = layer.step(x, past, cross, cache.cross_mask)
            cache.prefix.append(kept)
        return F.log_softmax(self.output_layer(self.after_norm(x.squeeze(1))).float(), dim=-1)
