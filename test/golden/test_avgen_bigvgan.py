# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""BigVGAN: filters, layers and sound of small published-style generators, and the names of the base model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from espnet_av.avgen.alias_free import half_band
from espnet_av.avgen.bigvgan import BigVGAN
from espnet_av.avgen.vocoder_parts import fold, has_weight_norm, keywords_of, own_names, published_names
from espnet_av.train.loading import load_into

TOLERANCE = {"atol": 1e-5, "rtol": 0}
FORMS = ("weight_norm", "plain")


def read(path: Path) -> dict[str, torch.Tensor]:
    with np.load(path) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@pytest.fixture(scope="module")
def folder(fixtures_dir) -> Path:
    return fixtures_dir("avgen")


@pytest.fixture(scope="module")
def cases(folder) -> list[str]:
    names = sorted(path.name.removesuffix("_config.json") for path in folder.glob("bigvgan_*_config.json"))
    if not names:
        pytest.skip(f"no generators in {folder}")
    return names


def build(folder: Path, case: str, form: str) -> BigVGAN:
    config = json.loads((folder / f"{case}_config.json").read_text())
    state = load_file(folder / f"{case}_{form}.safetensors")
    model = BigVGAN(**keywords_of(BigVGAN, config), weight_norm=has_weight_norm(state))
    load_into(model, own_names(state), strict=True)
    return model.eval()


def test_filter(folder):
    golden = read(folder / "alias_free_filter.npz")
    for value in golden.values():
        torch.testing.assert_close(half_band(), value, atol=1e-7, rtol=0)


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_layers_and_sound(folder, cases, form):
    for case in cases:
        model, golden = build(folder, case, form), read(folder / f"{case}_io.npz")
        x = model.conv_pre(golden["mel"])
        torch.testing.assert_close(x, golden["conv_pre"], **TOLERANCE)
        x = model.ups[0][0](x)
        torch.testing.assert_close(x, golden["ups0"], **TOLERANCE)
        torch.testing.assert_close(model.resblocks[0].activations[0](x), golden["activation0"], **TOLERANCE)
        torch.testing.assert_close(model.resblocks[0](x), golden["resblock0"], **TOLERANCE)
        torch.testing.assert_close(model(golden["mel"]), golden["wav"], **TOLERANCE)


@torch.no_grad()
def test_folded_weights_and_way_back(folder, cases):
    for case in cases:
        state = load_file(folder / f"{case}_weight_norm.safetensors")
        plain = load_file(folder / f"{case}_plain.safetensors")
        folded = fold(state)
        assert folded.keys() == plain.keys()
        for name, tensor in plain.items():
            torch.testing.assert_close(folded[name], tensor, **TOLERANCE)
        back = published_names(build(folder, case, "weight_norm").state_dict())
        assert back.keys() == state.keys()
        assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("form", FORMS)
def test_names_of_the_base_model(folder, form):
    path = folder.parents[1] / "manifests" / "bigvgan_base_22khz_80band.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    manifest = json.loads(path.read_text())
    with torch.device("meta"):
        model = BigVGAN(**keywords_of(BigVGAN, manifest["config"]), weight_norm=form == "weight_norm")
    found = {name: list(tensor.shape) for name, tensor in published_names(model.state_dict()).items()}
    key = "state_dict_weight_norm" + ("" if form == "weight_norm" else "_removed")
    assert found == manifest[key]
    assert sum(each.numel() for each in model.parameters()) == manifest[f"n_params_{form}"]
    assert model.reach >= 16
