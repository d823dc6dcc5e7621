# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The conformer recogniser of auto_avsr: features, losses, names and sizes of the reference."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from espnet_av.avsr import sizes
from espnet_av.avsr.auto_avsr import AutoAVSRModel
from espnet_av.avsr.convert import load_strictly
from espnet_av.avsr.convert_auto_avsr import auto_avsr_config_to_keywords, from_auto_avsr, to_auto_avsr
from espnet_av.avsr.presets import PRESETS, build_preset


@pytest.fixture(scope="module")
def folder(fixtures_dir) -> Path:
    return fixtures_dir("avsr")


@pytest.fixture(scope="module")
def description(folder) -> dict:
    return json.loads((folder / "j_auto_avsr.json").read_text())


@pytest.fixture(scope="module")
def state(description, procedural_tensor) -> dict[str, torch.Tensor]:
    tensors = {}
    for key, expected in description["tensors"].items():
        tensor = procedural_tensor(description["prefix"] + key, expected["shape"], description["seed"])
        assert tensor.double().sum().item() == pytest.approx(expected["sum"], abs=1e-3), key
        tensors[key] = tensor
    return tensors


@pytest.fixture(scope="module")
def data(folder) -> dict[str, torch.Tensor]:
    with np.load(folder / "j_auto_avsr.npz") as arrays:
        found = {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}
    found["video"] = found["video"].float().transpose(1, 2)  # (B, T, 1, H, W) -> (B, 1, T, H, W)
    found["rows"] = found["audio"].squeeze(-1).unflatten(1, (-1, 640)).transpose(1, 2)  # (B, 640 T, 1) -> (B, 640, T)
    return found


def build(description, state, *, reference_compat: bool) -> AutoAVSRModel:
    keywords = auto_avsr_config_to_keywords(description["config_overrides"])
    keywords["encoder_conf"]["reference_compat"] = reference_compat
    model = AutoAVSRModel(**keywords)
    load_strictly(model, from_auto_avsr(state)[0])
    return model.eval()


def assert_close(actual: torch.Tensor, expected: torch.Tensor, **tolerance: float) -> None:
    assert actual.shape == expected.shape
    torch.testing.assert_close(actual, expected, **{"atol": 0.0, "rtol": 0.0, **tolerance})


@torch.no_grad()
@pytest.mark.parametrize("reference_compat", [False, True])
def test_features_of_whole_clips(description, state, data, reference_compat):
    encoder = build(description, state, reference_compat=reference_compat).encoder
    assert_close(encoder.video(data["video"]), data["video_feat"], atol=1e-4)
    assert_close(encoder.audio(data["rows"]), data["audio_feat"], atol=1e-4)
    assert_close(encoder(data["rows"], data["video"]), data["fused"], atol=1e-4)


@torch.no_grad()
def test_losses_with_padding(description, state, data):
    model = build(description, state, reference_compat=True)
    output = model(data["rows"], data["video"], data["lens"], data["labels"].flatten(1))
    for name in ("loss", "loss_ctc", "loss_att"):
        assert_close(getattr(output, name), data[name], rtol=1e-4)
    assert output.acc.item() == pytest.approx(data["acc"].item(), abs=1e-7)


@torch.no_grad()
def test_padding_changes_nothing_by_default(description, state, data):
    encoder = build(description, state, reference_compat=False).encoder
    lengths = data["lens"]
    mask = AutoAVSRModel.valid_mask(lengths, data["rows"].shape[2])
    outside = ~mask
    rows = data["rows"].masked_fill(outside[:, None], 0.0)
    video = data["video"].masked_fill(outside[:, None, :, None, None], 0.0)
    together = encoder(rows, video, mask)
    for item, length in enumerate(lengths.tolist()):
        alone = encoder(rows[item : item + 1, :, :length], video[item : item + 1, :, :length])
        assert_close(together[item, :length], alone[0], atol=1e-5)


def test_names_go_there_and_back(description, state):
    ours, report = from_auto_avsr(state)
    assert report.kept == len(description["tensors"]) and not report.dropped
    assert to_auto_avsr(ours, prefix="avsr.").keys() == state.keys()


def test_sizes_are_told_by_the_weights(description, state):
    ours, _ = from_auto_avsr(state)
    found = sizes.infer_model_conf("auto_avsr", ours)
    found["decoder_conf"]["num_heads"] = description["config_overrides"].get("dheads", 12)
    model = AutoAVSRModel(sizes.vocab_size(ours), **found)
    load_strictly(model, ours)
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == {
        name: tensor.shape for name, tensor in ours.items()
    }


def test_full_size_model_has_the_published_tensors(fixtures_dir):
    path = fixtures_dir("avsr").parents[1] / "manifests" / "avsrcocktail_auto_avsr.json"
    if not path.is_file():
        pytest.skip(f"no manifest of the published checkpoint in {path}")
    manifest = json.loads(path.read_text())
    with torch.device("meta"):
        model = AutoAVSRModel()
    ours = {key: list(tensor.shape) for key, tensor in to_auto_avsr(model.state_dict(), prefix="avsr.").items()}
    assert ours == manifest["tensors"]
    assert len(ours) == manifest["n_tensors"]
    assert sum(p.numel() for p in model.parameters()) == manifest["n_parameters"] == PRESETS["auto_avsr"].num_parameters


@pytest.mark.parametrize("name", ["avsrcocktail", "avhubert_large"])
def test_presets_have_the_published_tensors(fixtures_dir, name):
    path = fixtures_dir("avsr").parents[1] / "manifests" / "avsrcocktail.json"
    if not path.is_file():
        pytest.skip(f"no manifest of the published checkpoint in {path}")
    manifest = json.loads(path.read_text())
    with torch.device("meta"):
        model = build_preset(name)
    assert {f"avsr.{key}": list(tensor.shape) for key, tensor in model.state_dict().items()} == manifest["tensors"]
