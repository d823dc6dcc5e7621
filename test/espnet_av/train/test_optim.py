# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from torch import nn

from espnet_av.train.optim import (
    SCHEDULERS,
    WarmupCosineLR,
    WarmupLinearLR,
    build_adamw,
    freeze_statistics,
    parameter_groups,
    registered_schedulers,
    step_unit,
)
from espnet_av.utils.errors import UsageError


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(3, 4)
        self.conv = nn.Conv1d(4, 4, 3)
        self.norm = nn.LayerNorm(4)
        self.out = nn.Linear(4, 3)
        self.tied = self.out
        self.relative = nn.Parameter(torch.zeros(2, 2))
        self.frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)


def test_vectors_norms_and_embeddings_have_no_decay():
    model = Net()
    decayed, spared = parameter_groups(model, 0.1, no_decay_names=["relative"])
    assert [id(p) for p in decayed["params"]] == [id(model.conv.weight), id(model.out.weight)]
    assert len(spared["params"]) == 6 and (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    optimizer = build_adamw(model, lr=0.5, weight_decay=0.2)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.2, 0.0]


def test_rates_fall_towards_the_input():
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)])
    found = parameter_groups(model, 0.1, layer_lr_decay=0.5, lr=0.8, depth_of=lambda name: int(name[0]))
    assert [(group["lr"], group["weight_decay"]) for group in found] == [
        (pytest.approx(rate), decay) for rate in (0.2, 0.4, 0.8) for decay in (0.1, 0.0)
    ]
    assert sum(len(group["params"]) for group in found) == 6
    together = parameter_groups(model, 0.1, spare_vectors=False, layer_lr_decay=0.5, lr=0.8, depth_of=lambda name: 0)
    assert [(len(group["params"]), group["lr"], group["weight_decay"]) for group in together] == [(6, 0.8, 0.1)]
    optimizer = torch.optim.AdamW(found, lr=0.8)
    scheduler = WarmupLinearLR(optimizer, total_steps=10, warmup_steps=2)
    assert [group["lr"] for group in optimizer.param_groups[::2]] == pytest.approx([0.1, 0.2, 0.4])
    assert scheduler.get_last_lr()[-1] == pytest.approx(0.4)


@pytest.mark.parametrize("settings", [{"layer_lr_decay": 1.5}, {"layer_lr_decay": 0.0}, {"layer_lr_decay": 0.9}])
def test_wrong_layer_wise_rates(settings):
    with pytest.raises(UsageError, match="layer_lr_decay"):
        parameter_groups(Net(), 0.1, **settings)


def test_frozen_batch_norms_keep_their_statistics():
    model = nn.ModuleList([nn.BatchNorm1d(3), nn.BatchNorm1d(3), nn.BatchNorm1d(3, affine=False)])
    model[0].requires_grad_(False)
    model.train()
    freeze_statistics(model)
    assert [norm.training for norm in model] == [False, True, True]


def rates(schedule, steps, **settings):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = schedule(optimizer, **settings)
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


def test_warmup_hold_and_decay():
    line = rates(WarmupLinearLR, 12, total_steps=10, warmup_steps=4, hold_steps=2, final_ratio=0.1)
    assert line[:7] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0])
    assert line[8] == pytest.approx(2.0 * (0.1 + 0.9 * 0.5)) and line[10:] == pytest.approx([0.2, 0.2])
    cosine = rates(WarmupCosineLR, 11, total_steps=10, warmup_steps=2)
    assert cosine[6] == pytest.approx(1.0) and cosine[4] == pytest.approx(1 + math.cos(math.pi / 4))
    assert cosine[10] == pytest.approx(0.0)


def test_the_linear_schedule_of_hugging_face():
    line = rates(WarmupLinearLR, 11, total_steps=10, warmup_steps=4, reference_compat=True)
    assert line == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0, *(2.0 * (10 - step) / 6 for step in range(5, 11))])


def test_a_schedule_without_room_is_refused():
    with pytest.raises(UsageError, match="no room to decay.*total_steps"):
        rates(WarmupLinearLR, 1, total_steps=10, warmup_steps=10)


def test_names_are_added_for_a_while_and_never_replaced():
    table = {"warmuplinearlr": int}
    with registered_schedulers(table):
        assert table == {"warmuplinearlr": int, "warmupcosinelr": WarmupCosineLR} and SCHEDULERS["warmuplinearlr"]
    assert table == {"warmuplinearlr": int}


def test_when_schedulers_step():
    from espnet_av._espnet import scheduler_classes

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    units = {name: step_unit(scheduler_classes[name](optimizer)) for name in ("warmuplr", "reducelronplateau")}
    units["own"] = step_unit(WarmupLinearLR(optimizer, total_steps=5))
    units["steplr"] = step_unit(torch.optim.lr_scheduler.StepLR(optimizer, 1))
    units["onecyclelr"] = step_unit(torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=4))
    assert units == {
        "warmuplr": "step", "reducelronplateau": "valid", "own": "step", "steplr": "epoch", "onecyclelr": "step"
    }  # fmt: skip
