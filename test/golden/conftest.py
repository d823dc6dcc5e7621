# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Weights that golden data describes by a rule instead of storing them."""

import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="session")
def procedural_tensor() -> Callable[[str, tuple[int, ...], int], Tensor]:
    """Return the function that makes such a tensor."""
    return make_tensor


def make_tensor(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Return the tensor named ``key`` (with its prefix); the first rule that fits the name wins."""
    random = np.random.RandomState((zlib.crc32(key.encode()) ^ seed) & 0x7FFFFFFF)
    n = random.standard_normal(tuple(shape))
    leaf = key.rsplit(".", 1)[-1]
    fan = int(np.prod(shape[1:])) if len(shape) > 1 else 1
    if leaf == "num_batches_tracked":
        return torch.zeros(tuple(shape), dtype=torch.int64)
    if leaf == "running_var":
        value = 0.75 + 0.25 * np.abs(n)
    elif leaf == "running_mean":
        value = 0.1 * n
    elif leaf == "bias":
        value = 0.05 * n
    elif len(shape) == 1:
        slope = ".relu" in key or key.endswith("frontend3D.2.weight")
        value = 0.25 + 0.05 * n if slope else 1 + 0.1 * n
    elif leaf == "original0":
        value = np.abs(1 + 0.1 * n)
    elif "embed.0.weight" in key:
        value = 0.3 * n
    elif key.endswith(("output_layer.weight", "ctc_lo.weight")):
        value = 3 * n * np.sqrt(1 / fan)
    else:
        value = n * np.sqrt(1.5 / fan)
    return torch.from_numpy(np.asarray(value, dtype=np.float32))
