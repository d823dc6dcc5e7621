# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import argparse
import collections
import sys
import types

import numpy as np
import pytest
import torch

from espnet_av.train.foreign_file import read_foreign
from espnet_av.utils.errors import CheckpointError

TENSORS = {"mask_emb": torch.arange(3.0), "layer_norm.weight": torch.ones(2)}


@pytest.fixture
def foreign(monkeypatch):
    """Return classes of a package that is gone when the file is read."""
    module = types.ModuleType("gone_package.settings")

    class Settings:
        ran = []

        def __init__(self):
            self.content = {"a": [1, 2]}

        def __setstate__(self, state):
            Settings.ran.append(state)

    class Table(dict):
        pass

    monkeypatch.setitem(sys.modules, "gone_package", types.ModuleType("gone_package"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for made in (Settings, Table):
        made.__module__, made.__qualname__ = module.__name__, made.__name__
        setattr(module, made.__name__, made)
    return module


def test_settings_of_absent_packages_are_left_out(tmp_path, foreign, monkeypatch):
    content = {
        "cfg": {"task": foreign.Settings(), "model": argparse.Namespace(layers=2)},
        "task_state": foreign.Table(words=3),
        "meters": collections.defaultdict(list, loss=[np.float64(1.5)]),
        "model": collections.OrderedDict(TENSORS),
        "optimizer_history": [],
    }
    torch.save(content, tmp_path / "avhubert.pt")
    settings = foreign.Settings
    for name in ("gone_package", "gone_package.settings"):
        monkeypatch.delitem(sys.modules, name)
    state = read_foreign(tmp_path / "avhubert.pt")
    assert state.keys() == TENSORS.keys()
    assert all(torch.equal(state[key], TENSORS[key]) for key in TENSORS)
    assert settings.ran == []


class Trap:
    """Would call a function when a careless reader loads it."""

    fired = []

    def __reduce__(self):
        return Trap.fired.append, ("called",)


def test_no_code_of_the_file_runs(tmp_path):
    torch.save({"cfg": Trap(), "model": TENSORS}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError):
        read_foreign(tmp_path / "evil.pt")
    torch.save({"cfg": print, "model": TENSORS}, tmp_path / "function.pt")
    assert read_foreign(tmp_path / "function.pt").keys() == TENSORS.keys()
    assert Trap.fired == []


def test_plain_and_damaged_files(tmp_path):
    torch.save({"model": TENSORS}, tmp_path / "plain.pt")
    assert read_foreign(tmp_path / "plain.pt").keys() == TENSORS.keys()
    (tmp_path / "broken.pt").write_bytes(b"no archive")
    with pytest.raises(CheckpointError, match="broken.pt is damaged"):
        read_foreign(tmp_path / "broken.pt")
    with pytest.raises(CheckpointError, match="no such weights file"):
        read_foreign(tmp_path / "absent.pt")
    torch.save({"cfg": argparse.Namespace(), "weights": TENSORS}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="no weights; allowed: below .model., below .state_dict."):
        read_foreign(tmp_path / "other.pt")


def test_versions_beside_the_weights_are_left_out(tmp_path):
    content = {"model_name": "AVNet", "state_dict": dict(TENSORS), "infos": {"torch_version": torch.__version__}}
    torch.save(content, tmp_path / "best_model.pth")
    assert read_foreign(tmp_path / "best_model.pth").keys() == TENSORS.keys()
