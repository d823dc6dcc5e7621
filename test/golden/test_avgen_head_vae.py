# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The reference's head VAE at full size, for seven values and for four, reproduced."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from espnet_av.avgen.head_vae import HeadVAE, conf_from_state, head_vae_loss, load_head_vae

ATOL = 1e-5


def read(folder: Path, number: str) -> dict[str, Tensor]:
    with np.load(folder / f"head_vae_{number}_io.npz") as file:
        return {name: torch.from_numpy(np.asarray(file[name])) for name in file.files}


@pytest.fixture(scope="module", params=["7", "4"])
def case(request, fixtures_dir) -> tuple[HeadVAE, dict[str, Tensor]]:
    folder = fixtures_dir("avgen")
    vae, statistics = load_head_vae(folder / f"head_vae_{request.param}_fp16.safetensors")
    assert statistics is None and vae.window is None and not vae.training
    return vae, read(folder, request.param)


@torch.no_grad()
def test_pass(case):
    vae, golden = case
    output = vae(golden["x"], noise=golden["eps"])
    for name in ("mu", "log_var", "z", "recon"):
        torch.testing.assert_close(getattr(output, name), golden[name], atol=ATOL, rtol=0)
    torch.testing.assert_close(vae.decode(golden["mu"]), golden["decode_of_mu"], atol=ATOL, rtol=0)
    torch.testing.assert_close(vae.encode(golden["x"]), golden["mu"], atol=ATOL, rtol=0)


@torch.no_grad()
def test_loss(case):
    vae, golden = case
    output = vae(golden["x"], noise=golden["eps"])
    loss, parts = head_vae_loss(output, golden["x"], kld_weight=float(golden["kld_weight"]))
    for name, value in {"loss": loss, **parts}.items():
        assert float(value) == pytest.approx(float(golden[name]), abs=ATOL), name


def test_names_and_shapes_of_the_manifest(fixtures_dir):
    path = fixtures_dir("avgen").parents[1] / "manifests" / "avflow_head_vae.json"
    if not path.is_file():
        pytest.skip(f"no manifest {path}")
    manifest = json.loads(path.read_text())
    seven = manifest["input_7_50h"]
    four = {**seven["state_dict"], **manifest["input_4_audio2photoreal_overrides"]}
    for dim, state, count in ((7, seven["state_dict"], seven["n_params"]), (4, four, manifest["n_params_input_4"])):
        vae = HeadVAE(in_dim=dim)
        assert {name: list(value.shape) for name, value in vae.state_dict().items()} == state
        assert sum(value.numel() for value in vae.parameters()) == count


def test_sizes_are_read_off_the_weights(fixtures_dir):
    paths = sorted(fixtures_dir("avgen").glob("head_vae_*.safetensors"))
    assert paths
    for path in paths:
        state = load_file(path)
        result = HeadVAE(**conf_from_state(state)).load_state_dict(state)
        assert not result.missing_keys and not result.unexpected_keys
