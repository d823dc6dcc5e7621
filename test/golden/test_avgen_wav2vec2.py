# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Tokens of a small wav2vec 2.0 as the published extractor makes them, without lost frames by default, and names."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from espnet_av.avgen.clock import TOKEN_SAMPLE_RATE, token_frames
from espnet_av.avgen.token_labels import LABELS
from espnet_av.avgen.tokens import TokenExtractor
from espnet_av.avgen.wav2vec2 import build_wav2vec2, infer_sizes, own_state

TOLERANCE = {"atol": 1e-4, "rtol": 0}
HEADS = 4  # where the description does not say


@pytest.fixture(scope="module")
def folder(fixtures_dir) -> Path:
    return fixtures_dir("avgen")


@pytest.fixture(scope="module")
def golden(folder) -> dict[str, np.ndarray]:
    path = folder / "wav2vec2_tiny_tokens.npz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def extractor(folder: Path, golden: dict, **options: object) -> TokenExtractor:
    readme = folder / "README.md"
    line = next((each for each in readme.read_text().splitlines() if "wav2vec2_tiny" in each), "") if readme else ""
    found = re.search(r"(\d+) heads", line)
    heads = int(found[1]) if found else HEADS
    step = int(golden["step"]) / TOKEN_SAMPLE_RATE
    weights = folder / "wav2vec2_tiny.safetensors"
    return TokenExtractor.from_pretrained(weights, num_heads=heads, **{"chunk_sec": step, **options})


def test_cut_as_published(folder, golden):
    wav = golden["wav16k_int16"].astype(np.float32) / 32768
    found = extractor(folder, golden, reference_compat=True).extract(wav)
    np.testing.assert_allclose(found, golden["tokens_chunked"], **TOLERANCE)
    assert found.shape[1] == golden["chunk_frames"].sum()


def test_whole(folder, golden):
    wav = golden["wav16k_int16"].astype(np.float32) / 32768
    found = extractor(folder, golden, chunk_sec=100.0).extract(wav)
    np.testing.assert_allclose(found, golden["tokens_whole"], **TOLERANCE)


def test_pieces_lose_no_frame(folder, golden):
    wav = golden["wav16k_int16"].astype(np.float32) / 32768
    found = extractor(folder, golden).extract(wav)
    assert found.shape == golden["tokens_whole"].shape
    assert found.shape[1] == token_frames(wav.shape[1]) > golden["tokens_chunked"].shape[1]


def test_names_of_the_base_model(folder):
    path = folder.parents[1] / "manifests" / "wav2vec2_asr_base_960h_torchaudio.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    manifest = json.loads(path.read_text())
    assert tuple(manifest["labels"]) == LABELS and manifest["sample_rate"] == TOKEN_SAMPLE_RATE
    state = {name: torch.empty(shape, device="meta") for name, shape in manifest["state_dict"].items()}
    with torch.device("meta"):
        network = build_wav2vec2(infer_sizes(own_state(state)))
    found = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    assert found == manifest["state_dict"]
    assert sum(each.numel() for each in network.parameters()) == manifest["n_params"]
    assert network.encoder.transformer.layers[0].attention.num_heads == 12
