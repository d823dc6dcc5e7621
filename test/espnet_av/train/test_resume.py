# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Killed trainings go on as if nothing had happened: processes are really killed here."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import trainer_toy

from espnet_av.train.checkpoint import CheckpointStore, read_tensors
from espnet_av.train.reporting import read_history

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = str(Path(trainer_toy.__file__))
SETTINGS = ["max_epoch=3", "ema_decay=0.9", "save_every_steps=3"]


def environment():
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def start(*words, processes=1, **options):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), PROGRAM, *map(str, words)]
    return subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True, **options)


def run(*words, processes=1):
    process = start(*words, processes=processes)
    _, errors = process.communicate(timeout=180)
    return process.returncode, errors


def equal(one, other, path=""):
    """Return the places where two nested states differ."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [path]
    if isinstance(one, dict):
        keys = [] if one.keys() == other.keys() else [f"{path}: keys"]
        return keys + [place for key in one for place in equal(one[key], other[key], f"{path}.{key}")]
    if isinstance(one, (list, tuple)):
        size = [] if len(one) == len(other) else [f"{path}: length"]
        return size + [p for i, (a, b) in enumerate(zip(one, other, strict=True)) for p in equal(a, b, f"{path}.{i}")]
    return [] if one == other or path.endswith(("_sec", "_share", "_mb")) else [f"{path}: {one} {other}"]


def assert_same_training(one: Path, other: Path):
    a, b = CheckpointStore(one).load(), CheckpointStore(other).load()
    assert a["progress"]["step"] > 0 and a["ema"]["updates"] == a["progress"]["step"]
    assert equal(a, b) == []
    for name in ("1epoch.pth", "3epoch.pth", "valid.loss.best.pth", "valid.loss.ave_2best.pth"):
        if (one / name).exists() or (other / name).exists():
            assert equal(read_tensors(one / name), read_tensors(other / name)) == [], name
    assert equal(read_history(one / "history.jsonl"), read_history(other / "history.jsonl")) == []


def kill_point(folder: Path):
    """Return (epoch, batch) of the checkpoint that a kill has left."""
    progress = CheckpointStore(folder).load()["progress"]
    return progress["epoch"], progress["batch"]


@pytest.mark.parametrize(("workers", "accum"), [(0, 1), (2, 2)])
def test_sigkill_in_the_middle_of_an_epoch_changes_nothing(tmp_path, workers, accum):
    settings = {"workers": workers, "accum_grad": accum, "ema_decay": 0.9, "save_every_steps": 3}
    code, _ = run(tmp_path / "cut", *(f"{k}={v}" for k, v in settings.items()), f"kill_at={16 // accum}")
    assert code == -signal.SIGKILL
    assert kill_point(tmp_path / "cut") == (2, 5 if accum == 1 else 2)
    trainer_toy.train(tmp_path / "cut", **{**settings, "workers": 2 - workers})
    trainer_toy.train(tmp_path / "whole", **settings, log_interval=3)
    assert_same_training(tmp_path / "cut", tmp_path / "whole")


def test_sigkill_with_the_package_s_own_data_layer(tmp_path):
    code, errors = run(tmp_path / "cut", *SETTINGS, "real_data=1", "workers=2", "kill_at=14")
    assert code == -signal.SIGKILL, errors
    assert kill_point(tmp_path / "cut")[1] > 0
    option = trainer_toy.distributed(1)
    settings = {"max_epoch": 3, "ema_decay": 0.9, "save_every_steps": 3, "real_data": 1}
    trainer_toy.run_one(str(tmp_path / "cut"), option, 0, 1, **settings, workers=0)
    trainer_toy.run_one(str(tmp_path / "whole"), option, 0, 1, **settings, workers=0)
    assert_same_training(tmp_path / "cut", tmp_path / "whole")


def test_sigkill_of_two_processes_with_0_and_2_workers(tmp_path):
    cut0, cut2, whole = tmp_path / "cut0", tmp_path / "cut2", tmp_path / "whole"
    code, _ = run(cut0, *SETTINGS, "kill_at=16", processes=2)
    assert code != 0 and kill_point(cut0) == (2, 5)
    code, _ = run(cut0, *SETTINGS, "--", cut2, *SETTINGS, "workers=2", "kill_at=15", processes=2)
    assert code != 0 and kill_point(cut2) == (2, 5)
    code, errors = run(cut2, *SETTINGS, "workers=2", "--", whole, *SETTINGS, processes=2)
    assert code == 0, errors
    assert len(CheckpointStore(whole).load()["ranks"]) == 2
    assert_same_training(cut0, whole)
    assert_same_training(cut2, whole)


def wait_for(process, text):
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"'{text}' was not logged")


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, 99), (signal.SIGINT, 130)])
def test_a_stop_signal_to_the_whole_group_saves_and_the_training_goes_on_exactly(tmp_path, number, expected):
    words = ["workers=2", "sleep=0.02", "log_interval=2", "ema_decay=0.9"]
    process = start(tmp_path / "cut", *words, start_new_session=True)
    wait_for(process, "batch 4/")
    os.killpg(process.pid, number)  # as Slurm and a terminal do: to the loader workers too
    _, errors = process.communicate(timeout=60)
    assert process.returncode == expected, errors
    assert "the state is saved" in errors
    assert (tmp_path / "cut" / "stopped").read_text() == f"{expected}\n"
    epoch, batch = kill_point(tmp_path / "cut")
    assert (epoch, batch > 0) == (1, True)
    trainer_toy.train(tmp_path / "cut", ema_decay=0.9)
    trainer_toy.train(tmp_path / "whole", ema_decay=0.9)
    assert_same_training(tmp_path / "cut", tmp_path / "whole")
    assert not (tmp_path / "cut" / "stopped").exists()


def test_two_processes_compute_the_mean_gradient(tmp_path):
    settings = {"plain": 1, "sgd": 1, "clips": 38, "batch": 5, "max_epoch": 2, "accum_grad": 3}
    code, errors = run(tmp_path / "two", *(f"{key}={value}" for key, value in settings.items()), processes=2)
    assert code == 0, errors
    trainer_toy.train(tmp_path / "one", **settings)
    one, two = (CheckpointStore(tmp_path / name).load() for name in ("one", "two"))
    for name, tensor in one["model"].items():
        torch.testing.assert_close(two["model"][name], tensor, rtol=1e-4, atol=1e-6)
    for row_one, row_two in zip(one["progress"]["history"], two["progress"]["history"], strict=True):
        assert row_two["valid"]["loss"] == pytest.approx(row_one["valid"]["loss"], rel=1e-4)
        assert row_two["train"]["loss"] == pytest.approx(row_one["train"]["loss"], rel=1e-4)


def write_for_ever(folder: Path, started) -> None:
    store = CheckpointStore(folder)
    state = store.load() or {"round": 0}
    for number in range(state["round"] + 1, 1_000_000):
        store.save({"round": number, "weights": torch.full((100_000,), float(number))})
        started.send(number)


def kill_writers(folder: Path, rounds: int, seed: int) -> None:
    """Kill a process that writes checkpoints, at random moments; each time a whole one must be left."""
    rng, last, context = random.Random(seed), 0, multiprocessing.get_context("fork")
    for _ in range(rounds):
        mine, other = context.Pipe()
        writer = context.Process(target=write_for_ever, args=(folder, other))
        writer.start()
        reported = mine.recv()
        time.sleep(rng.uniform(0.0, 0.05))
        writer.kill()
        writer.join()
        assert writer.exitcode == -signal.SIGKILL
        state = CheckpointStore(folder).load()
        assert state["round"] >= reported > last
        assert torch.equal(state["weights"], torch.full((100_000,), float(state["round"])))
        last = state["round"]


def test_40_kills_leave_a_whole_checkpoint(tmp_path):
    kill_writers(tmp_path, rounds=40, seed=0)


@pytest.mark.slow
def test_200_kills_leave_a_whole_checkpoint(tmp_path):
    kill_writers(tmp_path, rounds=200, seed=1)


def test_another_number_of_processes_may_go_on(tmp_path, caplog):
    trainer = trainer_toy.train(tmp_path, max_steps=14)
    state = CheckpointStore(tmp_path).load()
    state["ranks"] = state["ranks"] * 2
    CheckpointStore(tmp_path).save(state)
    assert trainer.progress.batch == 4
    trainer = trainer_toy.train(tmp_path, max_epoch=2)
    assert "the checkpoint is of 2 process(es), now there are 1" in caplog.text
    assert trainer.progress.step == 20


def test_a_run_cut_by_a_limit_goes_on_exactly_when_the_limit_is_raised(tmp_path):
    trainer = trainer_toy.train(tmp_path / "cut", max_steps=14, ema_decay=0.9)
    rows = read_history(tmp_path / "cut" / "history.jsonl")
    assert [row.get("partial") for row in rows] == [None, True]
    assert rows[1]["batches"] == 4 and trainer.progress.step == 14
    assert (tmp_path / "cut" / "2epoch.pth").exists() and (tmp_path / "cut" / "valid.loss.ave_2best.pth").exists()
    trainer_toy.train(tmp_path / "cut", ema_decay=0.9)
    trainer_toy.train(tmp_path / "whole", ema_decay=0.9)
    assert_same_training(tmp_path / "cut", tmp_path / "whole")


def test_history_is_json_lines(tmp_path):
    trainer_toy.train(tmp_path, max_epoch=1)
    row = json.loads((tmp_path / "history.jsonl").read_text())
    assert {"epoch", "train", "valid", "steps", "lr", "time_sec", "data_wait_share", "peak_rss_mb"} <= row.keys()
