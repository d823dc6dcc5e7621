# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from espnet_av.train.conversion import compare, find_checkpoint, load_strictly, rename_tensors, save
from espnet_av.utils.errors import CheckpointError, MissingDataError, UsageError

STATE = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2)}


def test_every_name_is_accounted_for():
    result, report = rename_tensors({**STATE, "x": torch.ones(1)}, lambda k: (None, "odd") if k == "x" else (k[2:], ""))
    assert list(result) == ["weight", "bias"]
    assert report.dropped == {"x": "odd"} and report.renamed["a.bias"] == "bias"
    assert str(report) == "2 tensors kept (2 renamed), 1 dropped"
    with pytest.raises(CheckpointError, match="two tensors of the checkpoint map to 'y', the second being 'a.bias'"):
        rename_tensors(STATE, lambda key: ("y", ""))


def test_all_or_nothing_is_loaded():
    layer = nn.Linear(3, 2)
    before = layer.weight.clone()
    state = {"weight": STATE["a.weight"], "bias": torch.zeros(3), "more": torch.zeros(1)}
    fit = compare(layer, state)
    assert (fit.loaded, fit.missing, fit.unexpected, fit.mismatched) == (
        ["weight"],
        [],
        ["more"],
        [("bias", (3,), (2,))],
    )
    with pytest.raises(CheckpointError, match="1 unexpected .more.; 1 of another shape .bias."):
        load_strictly(layer, state)
    assert torch.equal(layer.weight, before)
    load_strictly(layer, {"weight": STATE["a.weight"], "bias": STATE["a.bias"]})
    assert torch.equal(layer.weight, STATE["a.weight"])


def test_files(tmp_path):
    for name in ("model.safetensors", "weights.pth"):
        save(tmp_path / name, {"w": torch.ones(2, 3).t()})
    assert torch.equal(load_file(tmp_path / "model.safetensors")["w"], torch.ones(3, 2))
    assert torch.equal(torch.load(tmp_path / "weights.pth", weights_only=True)["w"], torch.ones(3, 2))
    assert find_checkpoint(tmp_path).name == "model.safetensors"
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "best.pth").touch()
    with pytest.raises(UsageError, match="holds several checkpoints; got .'best.pth', 'weights.pth'."):
        find_checkpoint(tmp_path)
    with pytest.raises(MissingDataError, match="no such checkpoint"):
        find_checkpoint(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingDataError, match="holds no weights"):
        find_checkpoint(tmp_path / "empty")
