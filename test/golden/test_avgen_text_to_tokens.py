# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The reference's text-to-tokens model on a tiny scale, reproduced; and the sizes of the published one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from espnet_av.avgen.text import TABLES
from espnet_av.avgen.text_to_tokens import TextToTokens, conf_from_state, load_text_to_tokens, reference_conf

ATOL = 1e-5
STEPS = 10


@pytest.fixture(scope="module")
def folder(fixtures_dir) -> Path:
    return fixtures_dir("avgen")


@pytest.fixture(scope="module")
def config(folder) -> dict:
    return json.loads((folder / "text_to_tokens_tiny_config.json").read_text())


@pytest.fixture(scope="module")
def model(folder, config) -> TextToTokens:
    model = TextToTokens(**reference_conf(config))
    model.load_state_dict(load_file(folder / "text_to_tokens_tiny.safetensors"))
    return model.eval()


@pytest.fixture(scope="module")
def golden(folder) -> dict[str, Tensor]:
    with np.load(folder / "text_to_tokens_tiny_io.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def assert_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=ATOL, rtol=0)


@torch.no_grad()
def test_text_encoder(model, golden):
    mu, log_durations = model.encoder(golden["ids"], golden["x_mask"])
    assert_close(mu, golden["mu_x"])
    assert_close(log_durations, golden["logw"])


@torch.no_grad()
def test_velocity(model, golden):
    assert_close(
        model.decoder.estimator(golden["est_x"], golden["est_mask"], golden["est_mu"], golden["est_t"]),
        golden["est_out"],
    )


@torch.no_grad()
def test_ten_steps_and_the_tokens(model, golden):
    made = model.decode(golden["est_mu"], golden["est_mask"], golden["est_x"], STEPS)
    assert_close(made, golden["euler10"])
    assert_close(model.denormalise(made), golden["tokens_denormalised"])


def test_sizes_are_read_off_the_weights(folder, config):
    path = folder / "text_to_tokens_tiny.safetensors"
    heads = config["decoder"]["num_heads"]
    found, told = conf_from_state(load_file(path), heads), reference_conf(config)
    for part in ("encoder", "decoder"):
        assert all(told[part][name] == value for name, value in found[part].items() if "head" not in name)
    assert found["n_vocab"] == told["n_vocab"] and found["n_feats"] == told["n_feats"]
    if heads == config["encoder"]["encoder_params"]["n_heads"] == 2:  # as published
        load_text_to_tokens(path)


def test_names_and_shapes_of_the_manifest(folder):
    path = folder.parents[1] / "manifests" / "avflow_text_to_tokens.json"
    if not path.is_file():
        pytest.skip(f"no manifest {path}")
    manifest = json.loads(path.read_text())
    with torch.device("meta"):
        model = TextToTokens(**reference_conf(manifest["config"]))
    assert {name: list(value.shape) for name, value in model.state_dict().items()} == manifest["state_dict"]
    assert sum(value.numel() for value in model.parameters()) == manifest["n_params"]
    assert len(TABLES["matcha"]) == manifest["config"]["n_vocab"]
