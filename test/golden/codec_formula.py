# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Weights of the codec that its golden data describes by a formula, and the seed that the files were made with."""

import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

SEEDS = 100_000  # that are tried where the folder does not name one
QUIET = (".decoder.model.21.conv", ".decoder.model.26.conv")
ABS, REL = 2e-5, 1e-4  # of activations, latents, waveforms
LOSS_REL = 1e-4
GRAD_REL = 2e-3
BUFFER_ABS = 1e-4
SAFE_MARGIN = 1e-4  # codes with closer rivals may differ


def draw(key: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return the normal numbers behind a tensor."""
    random = np.random.RandomState((zlib.crc32(key.encode()) + 1000003 * seed) % 2**32)
    return random.standard_normal(shape)


def formula(key: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return the tensor called ``key``, float32; not for ``embed_avg`` and constants."""
    a = draw(key, shape, seed)
    if key.endswith("weight.original1"):
        value = a
    elif key.endswith("weight.original0"):
        gain = 0.5 if ".block.3." in key else 0.3 if any(name in key for name in QUIET) else 1.0
        value = gain * np.exp(0.1 * a)
    elif key.endswith("_codebook.embed"):
        value = 0.5 * a
    elif key.endswith("_codebook.cluster_size"):
        value = 10 + 5 * np.abs(a)
    elif key.endswith("_codebook.inited"):
        value = np.ones(shape)
    elif key.endswith("bias"):
        value = 0.05 * a
    else:
        value = a / np.sqrt(np.prod(shape[1:]))
    return value.astype(np.float32)


def fill(module: nn.Module, seed: int, prefix: str = "") -> nn.Module:
    """Give a module the formula's weights; ``prefix`` goes before its names."""
    state: dict[str, Tensor] = {}
    for name, tensor in module.state_dict().items():
        key = prefix + name
        if key.endswith(("spec_transform.window", "melmat")):
            state[name] = tensor
        elif not key.endswith("embed_avg"):
            state[name] = torch.from_numpy(formula(key, tuple(tensor.shape), seed))
    for name in module.state_dict():
        if name.endswith("_codebook.embed_avg"):
            base = name.removesuffix("embed_avg")
            state[name] = (state[base + "embed"].double() * state[base + "cluster_size"].double()[:, None]).float()
    module.load_state_dict(state)
    return module


def find_seed(folder: Path) -> int:
    """Return the seed of a folder: the one that its description names or one that gives its checksums."""
    checksums = json.loads(min(folder.glob("track*_weights_checksums.json")).read_text())
    key = next(key for key in checksums if key.endswith(".conv.bias"))
    wanted = checksums[key]
    shape, first = tuple(wanted["shape"]), wanted[first_values(wanted)][0]
    readme = folder / "README.md"
    named = re.findall(r"[Ss]eed\D{0,12}(\d+)", readme.read_text()) if readme.is_file() else []
    for seed in [*map(int, named), *range(SEEDS)]:
        if abs(formula(key, shape, seed)[0] - first) < 1e-9 + 1e-6 * abs(first):
            return seed
    return pytest.fail(f"no seed below {SEEDS} gives the checksums of {folder}")


def first_values(entry: dict) -> str:
    """Return the name of the field with a tensor's first values."""
    return next(name for name, value in entry.items() if "first" in name and isinstance(value, list))


def read(path: Path) -> dict[str, Tensor]:
    """Return the arrays of a file."""
    with np.load(path) as arrays:
        return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}


def generator_files(folder: Path, track: int) -> Iterator[dict[str, Tensor]]:
    """Yield the golden runs of a track; the test is skipped where there are none."""
    paths = sorted(folder.glob(f"track{track}_generator_len*.npz"))
    if not paths:
        pytest.skip(f"no run of track {track} in {folder}")
    yield from map(read, paths)


def assert_close(found: Tensor, wanted: Tensor, what: str = "") -> None:
    """Compare activations within the tolerance of the golden data."""
    wanted = torch.as_tensor(wanted).to(found.dtype)
    torch.testing.assert_close(found, wanted, atol=ABS, rtol=REL, msg=lambda text: f"{what}: {text}")


def assert_codes(found: Tensor, wanted: Tensor, margin: Tensor) -> None:
    """Compare codes ``(Q, F)``, up to the first entry of a frame that has a rival nearly as close."""
    safe = (margin[: len(wanted)] >= SAFE_MARGIN).cumprod(0).bool()
    assert safe.float().mean() > 0.9
    assert torch.equal(found[safe], wanted.to(found.dtype)[safe])
