# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of active separation: by command, strictly, safely, and what else is read."""

import json
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from espnet_av.activesep import convert as active
from espnet_av.activesep.agent import ActiveSeparationAgent
from espnet_av.activesep.presets import get_preset
from espnet_av.activesep.separators import PassiveSeparator
from espnet_av.bin import convert
from espnet_av.utils.errors import CheckpointError, UsageError

TINY = {
    "separator": {"base_channels": 2},
    "memory": {"channels": 1, "num_heads": 4, "ffn_dim": 8},
    "policy": {"hidden_size": 8, "channels": [2, 3, 2], "images": ["rgb", "depth"]},
}


@pytest.fixture
def agent() -> ActiveSeparationAgent:
    torch.manual_seed(0)
    return ActiveSeparationAgent(**TINY)


def run(*command: object) -> None:
    convert.main([str(word) for word in command])


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def write_theirs(path: Path, state: dict[str, torch.Tensor], **extra: object) -> Path:
    torch.save({"state_dict": OrderedDict(state), **extra}, path)
    return path


def test_agent_there_and_back(agent, tmp_path, capsys):
    theirs = active.to_reference(agent.state_dict())
    path = write_theirs(tmp_path / "ckpt.3.pth", theirs)
    heads = "memory.num_heads=4"
    run("activesep", path, tmp_path / "ours", "--model_conf", heads, "--report", tmp_path / "report.json")
    assert "0 missing, 0 unexpected" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "report.json").read_text())["loaded"]) == len(theirs)
    loaded = ActiveSeparationAgent.from_pretrained(tmp_path / "ours")
    assert not loaded.training and loaded.memory.layers[0].num_heads == 4
    assert same(loaded.state_dict(), agent.state_dict())
    run("ours", tmp_path / "ours", tmp_path / "back.pth")
    assert same(torch.load(tmp_path / "back.pth", weights_only=True)["state_dict"], theirs)
    run("ours", tmp_path / "ours", tmp_path / "passive.safetensors", "--to", "activesep_passive")
    passive = load_file(tmp_path / "passive.safetensors")
    assert passive.keys() == {name for name in theirs if "bin" in name.split(".")[1]}
    assert same(passive, {name: theirs[name] for name in passive})
    with pytest.raises(UsageError, match="no form"):
        run("ours", tmp_path / "ours", tmp_path / "x.pth", "--to", "rtfsnet")


def test_separators_there_and_back(agent, tmp_path):
    theirs = active.to_reference(agent.separator.state_dict())
    run("activesep", write_theirs(tmp_path / "best.pth", theirs), tmp_path / "ours")
    assert same(active.load_separator(tmp_path / "ours").state_dict(), agent.separator.state_dict())
    run("ours", tmp_path / "ours", tmp_path / "back.pth")
    assert same(torch.load(tmp_path / "back.pth", weights_only=True)["state_dict"], theirs)
    with pytest.raises(UsageError, match="no form"):
        run("ours", tmp_path / "ours", tmp_path / "x.pth", "--to", "activesep")
    with pytest.raises(CheckpointError, match="separators alone"):
        active.load_agent(tmp_path / "ours")


class Config(dict):
    """Stands for the configuration object that files of the reference hold."""


def test_objects_of_other_programs_are_left_out(agent, tmp_path):
    path = write_theirs(tmp_path / "ckpt.pth", active.to_reference(agent.state_dict()), config=Config(LR=1e-4))
    assert same(active.read_published(path, TINY).state, agent.state_dict())


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_nothing_of_a_file_is_run(agent, tmp_path):
    proof = tmp_path / "ran"
    state = active.to_reference(agent.state_dict())
    path = write_theirs(tmp_path / "bad.pth", state, config=Harmful(proof))
    try:
        active.read_published(path, TINY)
    except CheckpointError:
        pass
    assert not proof.exists()


@pytest.mark.parametrize("place", ["", "separator.", "model.separator."])
def test_separators_of_trainings(agent, tmp_path, place):
    state = {place + name: tensor for name, tensor in agent.separator.state_dict().items()}
    save_file(state, str(tmp_path / "valid.safetensors"))
    assert same(active.load_separator(tmp_path / "valid.safetensors").state_dict(), agent.separator.state_dict())


def test_separators_of_an_agent(agent, tmp_path):
    path = write_theirs(tmp_path / "ckpt.pth", active.to_reference(agent.state_dict()))
    separator = active.load_separator(path)
    assert same(separator.state_dict(), agent.separator.state_dict())
    assert not any(parameter.requires_grad for parameter in separator.parameters())


def test_misfits(agent, tmp_path):
    theirs = active.to_reference(agent.state_dict())
    without = {name: tensor for name, tensor in theirs.items() if "critic.fc.bias" not in name}
    with pytest.raises(CheckpointError, match=r"1 missing \(policy.critic.bias\)"):
        active.read_published(write_theirs(tmp_path / "a.pth", without), TINY)
    with pytest.raises(CheckpointError, match="not a checkpoint of active separation.*actor_critic.more"):
        active.read_published(write_theirs(tmp_path / "b.pth", {**theirs, "actor_critic.more": torch.zeros(1)}))
    with pytest.raises(UsageError, match="model_conf does not fit"):
        active.read_published(write_theirs(tmp_path / "c.pth", theirs), {"policies": {}})
    wrong = {**theirs, "actor_critic.critic.fc.weight": torch.zeros(1, 9)}
    with pytest.raises(CheckpointError, match="of another shape"):
        run(
            "activesep",
            write_theirs(tmp_path / "d.pth", wrong),
            tmp_path / "ours",
            "--model_conf",
            "memory.num_heads=4",
        )
    assert not (tmp_path / "ours").exists()


def test_folder_of_something_else_is_kept(agent, tmp_path):
    path = write_theirs(tmp_path / "ckpt.pth", active.to_reference(agent.separator.state_dict()))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="no conversion"):
        run("activesep", path, tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_presets_are_read_off_their_tensors():
    for name in ("published", "mini"):
        preset = get_preset(name)
        with torch.device("meta"):
            agent = ActiveSeparationAgent(**preset)
        conf = active.agent_conf(agent.state_dict())
        for part, keywords in preset.items():  # heads and how weights start leave no trace in shapes
            told = {key: value for key, value in keywords.items() if key not in ("num_heads", "init")}
            assert told.items() <= conf[part].items()
    with pytest.raises(UsageError, match="unknown size"):
        get_preset("huge")


def test_other_weights_are_no_separators(tmp_path):
    save_file({"encoder.weight": torch.zeros(2)}, str(tmp_path / "x.safetensors"))
    with pytest.raises(CheckpointError, match="no separators"):
        active.load_separator(tmp_path / "x.safetensors")


def test_separator_keywords():
    assert active.separator_conf(PassiveSeparator(base_channels=3).state_dict()) == {"base_channels": 3}
