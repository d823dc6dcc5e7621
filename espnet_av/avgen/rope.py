# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding over adjacent pairs of a head's values.

Angles are computed in float64, so that frames of an hour are told apart as well as the first ones.
"""

import torch
from torch import Tensor, nn


class RotaryEmbedding(nn.Module):
    """Table of rotations, grown when a longer sequence comes.

    Args:
        dim: Values of a head, even.
        base: Wavelengths go from 2 pi to almost ``2 pi * base`` frames.
    """

    _table: Tensor

    def __init__(self, dim: int, base: float = 10000.0) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"rotary positions need an even head width, not {dim}")
        self.dim, self.base = dim, base
        self.register_buffer("_table", torch.empty(0, dim // 2, 2), persistent=False)

    def forward(self, length: int, device: torch.device) -> Tensor:
        """Return cosine and sine of positions 0 to ``length - 1``: float32 ``(length, dim / 2, 2)``."""
        if self._table.shape[0] < length or self._table.device != device:
            with torch.inference_mode(False):  # a table made while generating may be used in training
                self._table = self._compute(max(length, self._table.shape[0])).to(device)
        return self._table[:length]

    def _compute(self, length: int) -> Tensor:
        frequencies = self.base ** (-torch.arange(0, self.dim, 2, dtype=torch.float64) / self.dim)
        angles = torch.arange(length, dtype=torch.float64).unsqueeze(1) * frequencies
        return torch.stack((angles.cos(), angles.sin()), dim=-1).float()


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotate adjacent pairs.

    Args:
        x: ``(B, T, ..., D)``.
        table: Result of :class:`RotaryEmbedding`, ``(T, D / 2, 2)``.

    Returns:
        float32 of the shape of ``x``.
    """
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    turns = torch.view_as_complex(table)
    turns = turns.view(turns.shape[0], *[1] * (x.dim() - 3), turns.shape[1])
    return torch.view_as_real(pairs * turns).flatten(-2)
