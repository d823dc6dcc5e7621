# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Attention in which a frame sees a few frames before and after it.

``dense`` masks the whole square of scores, as the published system does; its cost grows with the square of the length.
``banded`` cuts the sequence into blocks, of which each looks at itself and the frames next to it; its cost grows with
the length. Both give the same numbers.

A frame always sees itself, also where it is padding: no row of scores is empty.

Axes: ``B`` batch, ``T`` frames, ``H`` heads, ``D`` values of a head, ``K`` frames of a block.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

Window = tuple[int, int]  # frames seen before and after the own one

BLOCK = 64


def window_mask(length: int, window: Window, device: torch.device | str = "cpu") -> Tensor:
    """Return which frame (row) sees which (column): bool ``(T, T)``."""
    position = torch.arange(length, device=device)
    offset = position - position.unsqueeze(1)
    return (offset >= -window[0]) & (offset <= window[1])


def dense_mask(length: int, window: Window, valid: Tensor | None, device: torch.device) -> Tensor:
    """Return the mask of :func:`dense_attention`.

    Args:
        length: Frames ``T``.
        window: Frames seen before and after.
        valid: False for padding, ``(B, T)``; None: all frames are valid.
        device: Where to make it.

    Returns:
        bool ``(T, T)``, or ``(B, 1, T, T)`` with padding.
    """
    mask = window_mask(length, window, device)
    if valid is None:
        return mask
    own = torch.eye(length, dtype=torch.bool, device=device)
    return (mask & (valid.unsqueeze(1) | own)).unsqueeze(1)


def dense_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Attend under a mask of the whole square.

    Args:
        query, key, value: ``(B, T, H, D)``.
        mask: Result of :func:`dense_mask`.

    Returns:
        ``(B, T, H, D)``.
    """
    query, key, value = (each.transpose(1, 2) for each in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)


def banded_mask(
    length: int, window: Window, valid: Tensor | None, device: torch.device, batch: int = 1, block: int = BLOCK
) -> Tensor:
    """Return the mask of :func:`banded_attention`.

    Args:
        length: Frames ``T``.
        window: Frames seen before and after.
        valid: False for padding, ``(B, T)``; None: all frames are valid.
        device: Where to make it.
        batch: Sequences ``B`` of the batch.
        block: Frames ``K`` of a block; shorter sequences are one block.

    Returns:
        bool ``(B * blocks, 1, K, before + K + after)``.
    """
    mask = _block_mask(length, window, min(block, length), device)
    if valid is None:
        return mask.repeat(batch, 1, 1, 1) if batch > 1 else mask
    block = min(block, length)
    num_blocks, span = mask.shape[0], mask.shape[-1]
    padding = (window[0], num_blocks * block - length + window[1])
    keys = F.pad(valid, padding).unfold(1, span, block).reshape(-1, 1, 1, span)
    return mask.repeat(batch, 1, 1, 1) & (keys | _own_frame(window, block, device))


@functools.lru_cache(maxsize=64)
def _block_mask(length: int, window: Window, block: int, device: torch.device) -> Tensor:
    before, after = window
    with torch.inference_mode(False):  # a mask made while generating may be used in training
        num_blocks = -(-length // block)
        row = torch.arange(block, device=device).unsqueeze(1)
        column = torch.arange(before + block + after, device=device)
        offset = column - row - before
        band = (offset >= -before) & (offset <= after)
        frame = torch.arange(num_blocks, device=device).unsqueeze(1) * block + column - before
        inside = ((frame >= 0) & (frame < length)).view(num_blocks, 1, 1, -1)
        return (band & (inside | (offset == 0))).contiguous()


def _own_frame(window: Window, block: int, device: torch.device) -> Tensor:
    column = torch.arange(window[0] + block + window[1], device=device)
    return column - window[0] == torch.arange(block, device=device).unsqueeze(1)


def banded_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, window: Window) -> Tensor:
    """Attend block by block.

    Args:
        query, key, value: ``(B, T, H, D)``.
        mask: Result of :func:`banded_mask` for the same window.
        window: Frames seen before and after.

    Returns:
        ``(B, T, H, D)``.
    """
    batch, length, heads, dim = query.shape
    block, span = mask.shape[-2:]
    num_blocks = -(-length // block)
    fill = num_blocks * block - length
    if fill:
        query = F.pad(query, (0, 0, 0, 0, 0, fill))
    query = query.reshape(batch * num_blocks, block, heads, dim).transpose(1, 2)
    padding = (0, 0, 0, 0, window[0], fill + window[1])
    key, value = (_neighbourhoods(F.pad(each, padding), span, block) for each in (key, value))
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return attended.transpose(1, 2).reshape(batch, num_blocks * block, heads, dim)[:, :length]


def _neighbourhoods(x: Tensor, span: int, block: int) -> Tensor:
    """Cut overlapping pieces of ``span`` frames, one every ``block``: ``(B * blocks, H, span, D)``."""
    return x.unfold(1, span, block).permute(0, 1, 2, 4, 3).flatten(0, 1)
