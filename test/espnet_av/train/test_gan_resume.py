# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Adversarial training that is killed between two turns, alone and in two processes, and what two processes compute."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import gan_toy
from test_resume import environment, equal, kill_point

from espnet_av.train.checkpoint import CheckpointStore

PROGRAM = str(Path(gan_toy.__file__))
SETTINGS = ["save_every_steps=3", "skip_discriminator_prob=0.3", "ema_decay=0.9"]


def run(*words, processes=1):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), PROGRAM, *map(str, words)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=180)
    return done.returncode, done.stderr


def assert_same(one: Path, other: Path) -> None:
    a, b = CheckpointStore(one).load(), CheckpointStore(other).load()
    assert a["progress"]["step"] == 30
    assert equal(a, b) == []


@pytest.mark.parametrize("first", ["true", "false"])
def test_sigkill_between_the_turns_changes_nothing(tmp_path, first):
    settings = [*SETTINGS, f"generator_first={first}"]
    code, errors = run(tmp_path / "cut", *settings, "workers=2", "kill_at=16")
    assert code == -signal.SIGKILL, errors
    assert kill_point(tmp_path / "cut") in {(2, 5), (2, 8)}
    options = {
        "save_every_steps": 3,
        "skip_discriminator_prob": 0.3,
        "ema_decay": 0.9,
        "generator_first": first == "true",
    }
    gan_toy.train(tmp_path / "cut", **options)
    gan_toy.train(tmp_path / "whole", **options)
    assert_same(tmp_path / "cut", tmp_path / "whole")


def test_two_processes_that_are_killed_go_on_exactly(tmp_path):
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    code, _ = run(cut, *SETTINGS, "kill_at=16", processes=2)
    assert code != 0 and kill_point(cut) in {(2, 5), (2, 8)}
    code, errors = run(cut, *SETTINGS, "--", whole, *SETTINGS, processes=2)
    assert code == 0, errors
    assert_same(cut, whole)


@pytest.mark.parametrize("first", ["true", "false"])
def test_two_processes_compute_what_one_does(tmp_path, first):
    """With batches of unlike sizes per process, skipped turns and a buffer that learns from all processes."""
    settings = ["noisy=0", "sgd=1", "batch=5", "clips=40", "skip_discriminator_prob=0.3", f"generator_first={first}"]
    code, errors = run(tmp_path / "two", *settings, processes=2)
    assert code == 0, errors
    code, errors = run(tmp_path / "one", *settings)
    assert code == 0, errors
    one, two = (CheckpointStore(tmp_path / name).load() for name in ("one", "two"))
    for name, tensor in one["model"].items():
        torch.testing.assert_close(two["model"][name], tensor, rtol=1e-4, atol=1e-6)
    for row_one, row_two in zip(one["progress"]["history"], two["progress"]["history"], strict=True):
        for phase in ("train", "valid"):
            assert row_two[phase]["loss"] == pytest.approx(row_one[phase]["loss"], rel=1e-4)
            assert row_two[phase]["discriminator_loss"] == pytest.approx(row_one[phase]["discriminator_loss"], rel=1e-4)
