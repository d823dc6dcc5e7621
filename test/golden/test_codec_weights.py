# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Names, shapes and formula weights of the codec against the manifests and checksums of the reference."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from codec_formula import fill, find_seed, first_values, read

from espnet_av.codec.generator import CodecGenerator
from espnet_av.codec.model import CodecModel
from espnet_av.codec.names import to_published


@pytest.fixture(scope="module")
def folder(fixtures_dir) -> Path:
    return fixtures_dir("codec")


def make(track: int) -> CodecModel:
    return CodecModel(CodecGenerator.from_preset(f"track{track}"))


@pytest.mark.parametrize("track", [1, 2])
def test_names_shapes_and_counts(folder, track):
    path = folder.parents[1] / "manifests" / f"lrac_track{track}.json"
    if not path.is_file():
        pytest.skip(f"no manifest {path}")
    manifest = json.loads(path.read_text())
    entries, counts = manifest["entries"], manifest["counts"]
    model = make(track)
    own = to_published({f"codec.{name}": tensor for name, tensor in model.state_dict().items()})
    assert list(own) == list(entries)
    for name, tensor in own.items():
        assert list(tensor.shape) == entries[name]["shape"], name
        assert str(tensor.dtype) == f"torch.{entries[name]['dtype']}", name
    generator = model.generator
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in generator.named_children()}
    assert sizes["encoder"] == counts["encoder_params"]
    assert sizes["decoder"] == counts["decoder_params"]
    assert sizes["quantizer"] == counts["rvq_projection_params"]
    assert sum(sizes.values()) == counts["generator_params"]
    assert sum(p.numel() for p in model.discriminator.parameters()) == counts["discriminator_params"]
    assert len(own) == counts["state_dict_entries"]
    parameters = {f"codec.{name}" for name, _ in model.named_parameters()}
    assert parameters == {name for name, entry in entries.items() if entry["kind"] == "parameter"}


@pytest.mark.parametrize("track", [1, 2])
def test_formula_weights(folder, track):
    path = folder / f"track{track}_weights_checksums.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    checksums = json.loads(path.read_text())
    state = fill(make(track), find_seed(folder)).state_dict()
    constants = {name for name in state if name.endswith("spec_transform.window")}
    assert state.keys() - constants == checksums.keys() - constants
    for name, wanted in checksums.items():
        array = state[name].numpy()
        assert list(array.shape) == wanted["shape"]
        np.testing.assert_allclose(array.ravel()[:3], wanted[first_values(wanted)], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(array.astype(np.float64).sum(), wanted["sum"], rtol=1e-6, atol=1e-4)
        if name not in constants:
            assert hashlib.sha256(array.tobytes()).hexdigest().startswith(wanted["sha256"]), name


def test_stored_weights(folder):
    path = folder / "track1_generator_state.npz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    stored = read(path)
    state = fill(make(1), find_seed(folder)).generator.state_dict()
    assert stored.keys() == state.keys()
    assert all(torch.equal(stored[name], state[name]) for name in state)
