# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn

from espnet_av.train.ema import EMA
from espnet_av.utils.errors import CheckpointError, UsageError


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0]))
        self.register_buffer("mean", torch.tensor([10.0]))
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)


def advance(model, value):
    with torch.no_grad():
        model.weight.fill_(value)
        model.mean = torch.tensor([value * 10])  # a module may assign a new buffer
        model.count += 1


def test_the_average_follows_its_formula():
    model = Net()
    ema = EMA(model, 0.9, warmup=False)
    expected = 1.0
    for value in (2.0, 3.0, 4.0):
        advance(model, value)
        ema.update()
        expected = 0.9 * expected + 0.1 * value
    assert ema.tensors["weight"].item() == pytest.approx(expected)
    assert ema.tensors["mean"].item() == pytest.approx(10 * expected)
    assert ema.tensors["count"].item() == 3
    assert "scratch" not in ema.tensors


def test_the_decay_grows_while_training_is_young():
    model = Net()
    ema = EMA(model, 0.5)
    decays = []
    for _ in range(10):
        decays.append(ema.current_decay())
        ema.update()
    assert decays[0] == pytest.approx(0.1) and decays[1] == pytest.approx(2 / 11) and decays[-1] == 0.5


def test_the_average_is_in_the_model_only_inside_the_block():
    model = Net()
    ema = EMA(model, 0.9)
    advance(model, 5.0)
    with pytest.raises(ValueError, match="inside"), ema.swapped():
        assert model.weight.item() == 1.0 and model.mean.item() == 10.0 and model.count.item() == 0
        assert model.state_dict()["weight"].item() == 1.0 and torch.is_grad_enabled()
        raise ValueError("inside")
    assert model.weight.item() == 5.0 and model.mean.item() == 50.0 and model.count.item() == 1


def test_state_round_trip_and_another_model():
    model = Net()
    ema = EMA(model, 0.9)
    advance(model, 5.0)
    ema.update()
    other = EMA(Net(), 0.9)
    other.load_state_dict(ema.state_dict())
    assert other.updates == 1 and torch.equal(other.tensors["weight"], ema.tensors["weight"])
    with pytest.raises(CheckpointError, match="differs in 3 names"):
        EMA(nn.Linear(2, 2), 0.9).load_state_dict(ema.state_dict())


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5])
def test_wrong_decay(decay):
    with pytest.raises(UsageError, match="--ema_decay"):
        EMA(Net(), decay)
