# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import os

import pytest
import torch
from torch import nn

from espnet_av.train.loading import load_from_spec, load_into, load_weights
from espnet_av.utils.errors import CheckpointError


class Net(nn.Module):
    def __init__(self, width=3, extra=False):
        super().__init__()
        self.encoder = nn.Linear(2, width)
        self.decoder = nn.Linear(width, 2)
        if extra:
            self.head = nn.Linear(2, 2)


class Payload:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("wrap", [None, "state_dict", "model"])
def test_pth_files_and_their_wrappers(tmp_path, wrap):
    weights = Net().state_dict()
    torch.save({wrap: weights, "epoch": 3} if wrap else weights, tmp_path / "w.pth")
    assert same(load_weights(tmp_path / "w.pth"), weights)


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    weights = Net().state_dict()
    save_file(weights, tmp_path / "w.safetensors")
    assert same(load_weights(tmp_path / "w.safetensors"), weights)
    (tmp_path / "w.safetensors").write_bytes(b"\x00" * 50)
    with pytest.raises(CheckpointError, match="damaged or no safetensors"):
        load_weights(tmp_path / "w.safetensors")


def test_files_that_hold_no_weights(tmp_path):
    path = tmp_path / "w.pth"
    with pytest.raises(CheckpointError, match="no such weights file"):
        load_weights(path)
    path.write_text("hello")
    with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
        load_weights(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="holds no weights; got 'list'"):
        load_weights(path)
    torch.save({"a": torch.zeros(1), "epoch": 3}, path)
    with pytest.raises(CheckpointError, match="1 entries are no tensors; got 'epoch'"):
        load_weights(path)


def test_a_hostile_file_is_refused_and_not_run(tmp_path):
    torch.save({"encoder.weight": Payload(tmp_path / "pwned")}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="other than tensors and plain values and was not loaded"):
        load_weights(tmp_path / "w.pth")
    assert not (tmp_path / "pwned").exists()


def test_an_exact_fit():
    one, other = Net(), Net()
    report = load_into(other, one.state_dict())
    assert same(one.state_dict(), other.state_dict())
    assert report.exact and report.share == 1.0 and len(report.loaded) == 4


def test_another_model_s_weights_are_refused_with_counts_and_names():
    model = Net(extra=True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wrong = {**Net(width=4).state_dict(), "old.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError) as caught:
        load_into(model, wrong, source="w.pth")
    text = str(caught.value)
    assert "w.pth does not fit Net: 1 loaded, 2 missing (head.weight, head.bias), 1 unexpected (old.weight)" in text
    assert "3 of another shape (encoder.weight (4, 2) for (3, 2)" in text
    assert same(before, model.state_dict())


def test_a_partial_fit_needs_the_least_share():
    weights = {"encoder.weight": torch.ones(3, 2), "encoder.bias": torch.ones(3), "other": torch.ones(1)}
    report = load_into(Net(), weights, strict=False)
    assert report.loaded == ["encoder.weight", "encoder.bias"] and report.unexpected == ["other"]
    assert report.share == 0.5
    with pytest.raises(CheckpointError, match="fits Net too little.*got '50%'; allowed: at least 60%"):
        load_into(Net(), weights, strict=False, min_share=0.6)
    with pytest.raises(CheckpointError, match="0 loaded"):
        load_into(Net(), {"x": torch.zeros(1)}, strict=False)


def test_init_param_grammar(tmp_path):
    source = Net()
    path = tmp_path / "w.pth"
    torch.save(source.state_dict(), path)
    model = Net()
    load_from_spec(model, f"{path}:encoder", strict=True)
    assert torch.equal(model.encoder.weight, source.encoder.weight)
    assert not torch.equal(model.decoder.weight, source.decoder.weight)
    model = Net(extra=True)
    assert load_from_spec(model, f"{path}:::decoder", min_share=0.3).loaded == ["encoder.weight", "encoder.bias"]
    wide = Net(width=2)
    torch.save({f"part.{name}": tensor for name, tensor in nn.Linear(2, 2).state_dict().items()}, path)
    assert load_from_spec(wide, f"{path}:part:decoder", strict=True).share == 1.0
    with pytest.raises(CheckpointError, match="no part; got 'nothing'; allowed: encoder, decoder"):
        load_from_spec(wide, f"{path}:part:nothing")
