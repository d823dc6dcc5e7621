# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""How much of its codebooks a codec uses: entries that occur and perplexity, per layer of the residual quantiser.

The perplexity ``exp(-sum p log p)`` of the indices is the number of entries that, used equally often, would carry as
much information; ``log2`` of it is the number of bits that an ideal entropy coder would spend on an index.
"""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.data.data_dir import read_scp
from espnet_av.utils.untrusted import load_npy

logger = logging.getLogger(__name__)
CODEBOOK_SIZE = 1024
SCP_NAMES = ("codec/codec.scp", "codes/codes.scp", "codes/codec.scp", "codec.scp", "codes.scp")


def count_codes(codes: Iterable[np.ndarray], codebook_size: int = CODEBOOK_SIZE) -> np.ndarray:
    """Count the indices of recordings ``(n_q, F)`` or ``(n_q, 1, F)``: ``(n_q, codebook_size)``; empty without any.

    Raises:
        ValueError: The recordings differ in the number of layers, or an index is out of range.
    """
    counts: np.ndarray | None = None
    for item in codes:
        item = np.asarray(item)
        item = item.reshape(item.shape[0], -1)
        if counts is None:
            counts = np.zeros((item.shape[0], codebook_size), np.int64)
        if len(counts) != len(item) or (item.size and (item.min() < 0 or item.max() >= codebook_size)):
            raise ValueError(f"codes {item.shape} do not fit {counts.shape}")
        for layer, row in enumerate(item):
            counts[layer] += np.bincount(row, minlength=codebook_size)
    return np.zeros((0, codebook_size), np.int64) if counts is None else counts


def summarise_usage(counts: np.ndarray) -> list[dict[str, Any]]:
    """Return ``layer`` (from 1), ``used`` entries, ``size``, ``perplexity`` and ``bits`` of each row of counts."""
    found = []
    for layer, row in enumerate(counts, 1):
        total = row.sum()
        shares = row[row > 0] / total if total else np.empty(0)
        bits = float(-(shares * np.log2(shares)).sum())
        entry = {"layer": layer, "used": int((row > 0).sum()), "size": len(row), "num_frames": int(total)}
        found.append({**entry, "perplexity": 2.0**bits if total else 0.0, "bits": bits + 0.0})
    return found


def find_codes(folder: str | Path) -> dict[str, str]:
    """Return id -> file of the codes beside decoded sound, of the first list that exists; empty without one."""
    for name in SCP_NAMES:
        path = Path(folder) / name
        if path.is_file():
            return read_scp(path)
    return {}


def codebook_usage(folder: str | Path, codebook_size: int = CODEBOOK_SIZE) -> list[dict[str, Any]]:
    """Return :func:`summarise_usage` of all codes of a decoded set; empty where there are none or they are broken."""
    files = find_codes(folder)
    try:
        counts = count_codes((load_npy(path) for path in files.values()), codebook_size)
    except (OSError, ValueError) as error:
        logger.warning("%s: the use of the codebooks is not known: %s", folder, error)
        return []
    return summarise_usage(counts)
