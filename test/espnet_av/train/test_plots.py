# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import logging
import sys
from types import SimpleNamespace

import pytest

from espnet_av.train.plots import CurvesView, TensorBoardView, Views, WandbView, draw_curve

HISTORY = [
    {"epoch": 1, "steps": 10, "train": {"loss": 2.0}, "valid": {"loss": 2.5, "group/acc": None}},
    {"epoch": 2, "steps": 20, "train": {"loss": 1.0}, "valid": {"loss": 2.0, "group/acc": 0.5}},
]


def test_curves_are_drawn(tmp_path):
    CurvesView(tmp_path, True).epoch(HISTORY[-1], HISTORY, True)
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["group_acc.png", "loss.png"]
    assert (tmp_path / "images" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_curves_are_not_drawn_more_often_than_they_cost(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("espnet_av.train.plots.draw_curve", lambda path, key, history: drawn.append(key))
    view = CurvesView(tmp_path, True)
    view.epoch(HISTORY[0], HISTORY[:1], False)
    view._cost_sec = 100.0
    view.epoch(HISTORY[1], HISTORY, False)
    assert len(drawn) == 2
    view.epoch(HISTORY[1], HISTORY, True)
    assert len(drawn) == 4


def test_tensorboard_writes_events(tmp_path):
    pytest.importorskip("tensorboard")
    views = Views([TensorBoardView(tmp_path, True)])
    views.interval({"loss": 1.0}, 5)
    views.epoch(HISTORY[-1], HISTORY, True)
    views.close()
    assert list((tmp_path / "tensorboard" / "train").iterdir())
    assert list((tmp_path / "tensorboard" / "valid").iterdir())


@pytest.mark.parametrize(
    ("view", "module"),
    [(TensorBoardView, "torch.utils.tensorboard"), (CurvesView, "matplotlib.figure"), (None, "wandb")],
)
def test_a_missing_package_is_one_warning(tmp_path, monkeypatch, caplog, view, module):
    monkeypatch.setitem(sys.modules, module, None)
    made = view(tmp_path, True) if view else WandbView(True)
    for _ in range(3):
        made.interval({"loss": 1.0}, 1)
        made.epoch(HISTORY[-1], HISTORY, True)
        made.close()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "is off from here on" in caplog.text and made.title in caplog.text


def test_views_that_are_off_do_nothing(tmp_path):
    for view in (TensorBoardView(tmp_path, False), CurvesView(tmp_path, False), WandbView(False)):
        view.interval({"loss": 1.0}, 1)
        view.epoch(HISTORY[-1], HISTORY, True)
    assert not list(tmp_path.iterdir())


def test_wandb_gets_the_values(monkeypatch):
    calls = []
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(log=lambda values, step: calls.append((values, step))))
    view = WandbView(True)
    view.interval({"loss": 1.0}, 7)
    view.epoch(HISTORY[0], HISTORY, False)
    assert calls[0] == ({"train/loss": 1.0}, 7) and calls[1][0]["epoch_valid/loss"] == 2.5 and calls[1][1] == 10


def test_a_curve_without_points(tmp_path):
    draw_curve(tmp_path / "x.png", "absent", HISTORY)
    assert (tmp_path / "x.png").exists()
