# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Names, shapes, sizes and conversion of the reference's checkpoints."""

import json
from pathlib import Path

import pytest
import torch
from activesep_recipe import PREFIX, reference_agent, reference_weights

from espnet_av.activesep.agent import ActiveSeparationAgent
from espnet_av.activesep.convert import (
    agent_conf,
    from_reference,
    load_agent,
    load_separator,
    read_published,
    to_reference,
    write_original,
)
from espnet_av.activesep.presets import PUBLISHED
from espnet_av.train.conversion import compare

#: Name in the manifest -> part of ours.
PARTS = {
    "pol_net.visual_encoder": "policy.visual",
    "pol_net.bin_encoder": "policy.binaural",
    "pol_net.monoFromMem_encoder": "policy.mono",
    "pol_net.state_encoder": "policy.gru",
    "action_dist": "policy.actor",
    "critic": "policy.critic",
    "binSep_enc": "separator.extractor.unet.encoder",
    "binSep_dec": "separator.extractor.unet.decoder",
    "bin2mono_enc": "separator.converter.unet.encoder",
    "bin2mono_dec": "separator.converter.unet.decoder",
    "audio_mem.downsample_cnn": "memory.encoder",
    "audio_mem.upsample_cnn": "memory.decoder",
}


@pytest.fixture(scope="module")
def folder(fixtures_dir) -> Path:
    return fixtures_dir("activesep")


@pytest.fixture(scope="module")
def manifest(folder) -> dict:
    path = folder.parents[1] / "manifests" / "activesep_default.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return json.loads(path.read_text())


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_rule_gives_the_weights_of_the_golden_data(folder):
    checks = json.loads((folder / "weights_check.json").read_text())
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in reference_weights(folder).items()}
    assert checks.keys() <= weights.keys()
    for name, check in checks.items():
        tensor = weights[name]
        assert list(tensor.shape) == check["shape"], name
        assert tensor.double().sum().item() == pytest.approx(check["sum"], abs=1e-3), name
        assert tensor.flatten()[: len(check["first"])].tolist() == pytest.approx(check["first"], abs=1e-7), name


def test_every_part_has_its_parameters(manifest):
    with torch.device("meta"):
        agent = ActiveSeparationAgent()
    assert count(agent) == manifest["total_parameters"]
    assert count(agent.separator) == manifest["passive_parameters"]
    trained = sum(parameter.numel() for parameter in agent.parameters() if parameter.requires_grad)
    assert trained == manifest["trainable_in_policy_training"]
    counts = dict(manifest["parameter_counts"])
    assert count(agent.memory.layers) + count(agent.memory.norm) == counts.pop("audio_mem.transformer")
    assert {name: count(agent.get_submodule(PARTS[name])) for name in counts} == counts


def test_names_and_shapes_both_ways(manifest):
    dtypes = {"float32": torch.float32, "int64": torch.int64}
    theirs = {
        name: torch.empty(shape, dtype=dtypes[dtype], device="meta")
        for name, (shape, dtype) in manifest["state_dict"].items()
    }
    ours, report = from_reference(theirs)
    assert report.kept == len(theirs) and not report.dropped
    with torch.device("meta"):
        agent, published = ActiveSeparationAgent(**agent_conf(ours)), ActiveSeparationAgent(**PUBLISHED)
    assert compare(agent, ours).exact and compare(published, ours).exact
    back = to_reference(agent.state_dict())
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in back.items()} == {
        name: (tensor.shape, tensor.dtype) for name, tensor in theirs.items()
    }
    assert set(to_reference(agent.state_dict(), passive_only=True)) == set(manifest["passive_checkpoint"])


def test_files_both_ways(folder, tmp_path):
    weights = reference_weights(folder)
    write_original(tmp_path / "ckpt.0.pth", weights)
    assert read_published(tmp_path / "ckpt.0.pth").model == "activesep"
    loaded = load_agent(tmp_path / "ckpt.0.pth").state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in reference_agent(folder).state_dict().items())
    back = to_reference(loaded)
    assert back.keys() == weights.keys() and all(torch.equal(back[name], weights[name]) for name in back)


def test_passive_files(folder, manifest, tmp_path):
    weights = reference_weights(folder, passive=True)
    assert set(weights) == set(manifest["passive_checkpoint"])
    write_original(tmp_path / "best_ckpt_val.pth", weights)
    assert read_published(tmp_path / "best_ckpt_val.pth").model == "activesep_passive"
    separator = load_separator(tmp_path / "best_ckpt_val.pth")
    back = to_reference(separator.state_dict())
    assert back.keys() == weights.keys() and all(torch.equal(back[name], weights[name]) for name in back)
