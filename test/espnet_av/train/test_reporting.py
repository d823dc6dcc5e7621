# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import json
import logging
import math
import time

import pytest
import torch

from espnet_av.train.intervals import IntervalLog, Stopwatch
from espnet_av.train.options import AVTrainerOptions
from espnet_av.train.reporting import Meter, format_stats, means, merged, progress_line, read_history, write_history
from espnet_av.train.state import Progress


def test_means_are_weighted_and_leave_out_what_is_not_finite():
    meter = Meter()
    meter.add({"loss": torch.tensor([1.0]), "acc": 0.5, "none": None}, torch.tensor(1.0))
    meter.add({"loss": torch.tensor(3.0), "acc": torch.tensor(float("nan"))}, 3)
    meter.add({"loss": float("inf")}, 2)
    assert meter.take_interval() == {"loss": 2.5, "acc": 0.5}
    meter.add({"loss": 6.5}, 4)
    assert meter.take_interval() == {"loss": 6.5}
    assert means(meter.state_dict())["loss"] == 4.5
    assert meter.state_dict()["loss"][2] == 1


def test_nothing_is_read_before_it_is_needed():
    class Watched(torch.Tensor):
        reads = 0

        def __float__(self):
            Watched.reads += 1
            return super().__float__()

    meter = Meter()
    for _ in range(50):
        meter.add({"loss": torch.ones(()).as_subclass(Watched)})
    assert Watched.reads == 0
    assert meter.take_interval() == {"loss": 1.0} and Watched.reads == 50


def test_a_meter_goes_on_from_its_state_and_states_add_up():
    one, other = Meter(), Meter()
    one.add({"loss": 1.0, "left": 2.0}, 1)
    other.add({"loss": 4.0}, 2)
    assert means(merged([one.state_dict(), other.state_dict()])) == {"loss": 3.0, "left": 2.0}
    again = Meter()
    again.load_state_dict(one.state_dict())
    again.add({"loss": 4.0}, 2)
    assert means(again.state_dict())["loss"] == 3.0
    assert math.isnan(means({"x": [0.0, 0.0, 3.0]})["x"])


def test_lines():
    assert format_stats({"loss": 2.34567, "tiny": 1e-5, "big": 123456.0, "zero": 0.0}) == (
        "loss=2.346, tiny=1.000e-05, big=1.235e+05, zero=0.000"
    )
    line = progress_line(
        epoch=2, max_epoch=9, batch=30, total=60, step=90, stats={"loss": 1.0}, rate=4.0, wait_share=0.25, eta_sec=3661
    )
    assert line == "epoch 2/9 batch 30/60 step 90: loss=1.000 | 4.00 it/s, data wait 25.0%, ETA 01:01:01"


def test_history_round_trip(tmp_path):
    rows = [{"epoch": 1, "valid": {"loss": math.nan, "acc": 0.5}}, {"epoch": 2, "valid": {"loss": 1.0}}]
    path = tmp_path / "history.jsonl"
    assert read_history(path) == []
    write_history(path, rows)
    assert read_history(path) == [{"epoch": 1, "valid": {"loss": None, "acc": 0.5}}, rows[1]]
    json.loads(path.read_text().splitlines()[0])


class FakeFeed:
    total, taken, wait_sec = 10, 0, 0.0


def test_interval_lines_have_speed_wait_and_eta(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    options = AVTrainerOptions(output_dir="x", max_epoch=3, log_interval=5)
    watch = Stopwatch(total_sec=7.0, epoch_sec=2.0)
    lines = IntervalLog(options, Progress(epoch=2, step=15), watch, quiet=False)
    feed, meter = FakeFeed(), Meter()
    lines.begin(feed)
    now[0], feed.taken, feed.wait_sec = 110.0, 5, 2.5
    assert lines.due(feed)
    meter.add({"loss": 1.0})
    assert lines.write(feed, meter, 0.5) == {"loss": 1.0, "lr": 0.5}
    assert (
        "epoch 2/3 batch 5/10 step 15: loss=1.000, lr=0.500 | 0.50 it/s, data wait 25.0%, ETA 00:00:30" in caplog.text
    )
    assert lines.write(feed, meter, 0.5) == {}
    feed.taken = 6
    assert not lines.due(feed)
    now[0] = 171.0
    assert lines.due(feed)  # never silent for more than a minute
    assert watch.total() == pytest.approx(78.0) and watch.epoch() == pytest.approx(73.0)
    options.max_train_sec = 80.0
    assert lines._eta_sec(feed) == pytest.approx(2.0)
