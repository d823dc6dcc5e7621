# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Names and shapes of published separation checkpoints, both dialects, from the lists of the golden data."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from espnet_av.avss.convert import (
    NO_VIDEO,
    from_lipreading,
    from_rtfsnet,
    lipreading_conf,
    rtfsnet_conf,
    to_rtfsnet,
)
from espnet_av.avss.lip_embedding import LipEmbedder
from espnet_av.avss.rtfsnet import RTFSNet
from espnet_av.utils.errors import CheckpointError


def read_manifest(fixtures_dir, name: str) -> dict:
    path = fixtures_dir("avss").parents[1] / "manifests" / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    return json.loads(path.read_text())


def state_of(keys: dict[str, list[int]]) -> dict[str, Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in keys.items()}


def shapes(state: dict[str, Tensor]) -> dict[str, list[int]]:
    return {key: list(tensor.shape) for key, tensor in state.items()}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for name, parameter in module.named_parameters() if name != NO_VIDEO)


@pytest.mark.parametrize("legacy", [False, True])
def test_rtfsnet(fixtures_dir, legacy):
    manifest = read_manifest(fixtures_dir, "rtfsnet4_lrs2.json")
    absent = set(manifest["legacy_dialect"]["absent_keys"]) if legacy else set()
    keys = {key: shape for key, shape in manifest["keys"].items() if key not in absent}
    state, report = from_rtfsnet({f"audio_model.{key}": tensor for key, tensor in state_of(keys).items()})
    conf = rtfsnet_conf(state)
    assert conf["projection_norm"] is not legacy
    with torch.device("meta"):
        network = RTFSNet(**conf)
    assert shapes(state) == {k: v for k, v in shapes(network.state_dict()).items() if k != NO_VIDEO}
    assert count(network) == manifest["parameters_legacy" if legacy else "parameters_total"]
    assert all("scale_x" in key or key.endswith(".pe") for key in report.dropped)
    assert len(state) + len(report.dropped) == len(keys)
    assert shapes(to_rtfsnet(network.state_dict())) == keys


def test_rtfsnet_defaults_are_those_of_the_file(fixtures_dir):
    manifest = read_manifest(fixtures_dir, "rtfsnet4_lrs2.json")
    state, _ = from_rtfsnet(state_of(manifest["keys"]))
    with torch.device("meta"):
        assert shapes(RTFSNet().state_dict()).items() >= shapes(state).items()


def test_weights_of_the_golden_data_go_there_and_back(fixtures_dir):
    path: Path = fixtures_dir("avss") / "rtfsnet4_weights.safetensors"
    if not path.is_file():
        pytest.skip(f"no {path}")
    official = load_file(path)
    state, report = from_rtfsnet(official)
    with torch.device("meta"):
        network = RTFSNet(**rtfsnet_conf(state))
    assert state.keys() == network.state_dict().keys() - {NO_VIDEO}
    back = to_rtfsnet(state)
    kept = [key for key in official if key not in report.dropped]
    assert all(torch.equal(back[key], official[key]) for key in kept)
    assert all(torch.equal(back[key], official[key]) for key in report.dropped)  # the constants are what they were


def test_lip_reading_front_ends(fixtures_dir):
    models = read_manifest(fixtures_dir, "lipreading_resnet18.json")["models"]
    for name, about in models.items():
        keys = about.get("keys") or models[about["frontend_same_as"]]["keys"]
        state, report = from_lipreading(state_of(keys))
        assert len(state) == about["frontend_keys"], name
        assert all(key.startswith("tcn.") for key in report.dropped)
        conf = lipreading_conf(state)
        assert conf["activation"] == about["relu_type"]
        with torch.device("meta"):
            net = LipEmbedder(**conf).net
        assert shapes(net.state_dict()) == shapes(state), name
        assert count(net) == about["parameters_frontend"], name
        wrong = "swish" if conf["activation"] == "prelu" else "prelu"
        with pytest.raises(CheckpointError, match="slopes of PReLU"):
            lipreading_conf(state, wrong)
