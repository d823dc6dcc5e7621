# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Embeddings of the published lip-reading front ends, reproduced.

All seeds, shapes and expected values come from the files of the golden folder (``ESPNET_AV_FIXTURES``).
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from espnet_av.avss.convert import from_lipreading, lipreading_conf
from espnet_av.avss.lip_embedding import LipEmbedder
from espnet_av.data.mouth_pixels import eval_transform
from espnet_av.train.conversion import load_strictly

FNV_OFFSET, FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3
FIXTURES = ("lipreading_frontend.npz", "lipreading_frontend_weights.json")


def uniform(key: str, size: int, seed: int) -> np.ndarray:
    """The rule of the golden data: a hash of the name, then SplitMix64; ``(size,)`` float64 in [0, 1)."""
    base = FNV_OFFSET
    for byte in key.encode():
        base = ((base ^ byte) * FNV_PRIME) % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64((base + seed) % 2**64) + np.arange(1, size + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2**53


def make_weight(key: str, shape: list[int], kind: str, seed: int) -> Tensor:
    u = uniform(key, math.prod(shape), seed).reshape(shape)
    centred = 2 * u - 1
    value = {
        "conv": lambda: centred * math.sqrt(3) * math.sqrt(2 / math.prod(shape[1:])),
        "bn_weight": lambda: 0.8 + 0.4 * u,
        "bn_bias": lambda: 0.2 * centred,
        "bn_mean": lambda: 0.2 * centred,
        "bn_var": lambda: 0.6 + 0.8 * u,
        "prelu": lambda: 0.1 + 0.3 * u,
        "bias": lambda: 0.2 * centred,
    }[kind]()
    return torch.from_numpy(value.astype(np.float32))


@pytest.fixture(scope="module")
def golden(fixtures_dir) -> tuple[dict[str, np.ndarray], dict]:
    folder: Path = fixtures_dir("avss")
    for name in FIXTURES:
        if not (folder / name).is_file():
            pytest.skip(f"no {name} in {folder}")
    with np.load(folder / FIXTURES[0]) as arrays:
        data = {key: arrays[key] for key in arrays.files}
    return data, json.loads((folder / FIXTURES[1]).read_text())


def models(data: dict[str, np.ndarray]) -> list[str]:
    return sorted(key.split("/")[0] for key in data if key.endswith("/embedding"))


def test_preprocessing(golden):
    data, _ = golden
    expected = torch.from_numpy(data["preproc_slice"])
    frames = eval_transform(data["mouth_uint8"])[0, : len(expected)]
    torch.testing.assert_close(frames, expected, atol=2e-6, rtol=0)


def test_embeddings(golden):
    data, recipe = golden
    mouths = torch.from_numpy(data["mouth_uint8"])
    assert models(data)
    for name in models(data):
        state = {}
        for key, about in recipe["tensors"][name].items():
            state[key] = make_weight(key, about["shape"], about["kind"], recipe["seed"])
            assert state[key].double().sum().item() == pytest.approx(about["sum"], rel=1e-6, abs=1e-6), key
            assert state[key].flatten()[: len(about["first"])].tolist() == pytest.approx(about["first"], rel=1e-6), key
        state, report = from_lipreading(state)
        assert not report.dropped
        activation = name.rsplit("_", 1)[-1]
        embedder = LipEmbedder(**lipreading_conf(state, activation))
        load_strictly(embedder.net, state)
        embedding = torch.from_numpy(data[f"{name}/embedding"])
        tolerance = 1e-5 * embedding.abs().max().item()
        torch.testing.assert_close(embedder(mouths[None])[0], embedding, atol=tolerance, rtol=0)

        maps = stem_maps(embedder, mouths)  # (T, C, h, w)
        assert list(data[f"{name}/frontend3D_shape"]) == [1, maps.shape[1], maps.shape[0], *maps.shape[2:]]
        part = maps.transpose(0, 1)[::8, ::4, ::5, ::5]
        torch.testing.assert_close(part, torch.from_numpy(data[f"{name}/frontend3D_slice"]), atol=2e-5, rtol=1e-5)


@torch.no_grad()
def stem_maps(embedder: LipEmbedder, mouths: Tensor) -> Tensor:
    frames = eval_transform(mouths)
    each = torch.arange(len(mouths))
    return embedder.net.stem(embedder.net.stack_frames(frames, torch.zeros_like(each), each))
