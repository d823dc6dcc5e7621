# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A recipe on a real Slurm (``make test-slurm``): its array stages, and trainings that the cluster interrupts."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from slurm_cluster import ask, wait_for

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "trust"))
from fault_bench import LONGEST_SEC, Bench

pytestmark = pytest.mark.slurm
SLURM = ("--backend", "slurm")


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A recipe that ran undisturbed on this machine, up to its training."""
    with Bench(tmp_path_factory.mktemp("recipe") / "avsr") as bench:
        bench.prepare("train")
        yield bench


@pytest.mark.parametrize("name", ["format", "filter", "tokens"])
def test_stages_make_what_they_make_on_one_machine(cluster, bench, name):
    bench.restore(name)
    code, said = bench.run(name, *SLURM)
    assert code == 0, said
    tasks = [int(count) for count in re.findall(r"slurm job \d+: (\d+) task", said)]
    assert tasks and (name != "filter" or max(tasks) > 2), said  # an array: a job for each set
    assert bench.differences(name) == []


def interrupted(bench, cluster, interrupt):
    """Train, interrupt once the first epoch is over, and return what the run said at its end."""
    bench.restore("train")
    process = bench.start("train", *SLURM)
    history = bench.folder / "exp" / "x" / "history.jsonl"
    wait_for(lambda: process.poll() is not None or (history.exists() and history.read_text()), 300, "an epoch")
    epochs = len(history.read_text().splitlines())
    interrupt()
    try:
        code = process.wait(LONGEST_SEC)
    finally:
        bench.kill(process)
    said = (bench.place / "said").read_text()
    assert code == 0, said
    assert epochs < 4, "the training was over before it was interrupted"
    logs = bench.folder / "exp" / "x" / "logs"
    assert (logs / "train.1.log.1").exists(), said
    return (logs / "train.1.log.1").read_text(), (logs / "train.1.log").read_text()


def test_a_training_that_the_scheduler_cancels_ends_with_the_same_weights(cluster, bench):
    def cancel():
        (number,) = ask("squeue", "-h", "-o", "%A", "-t", "running").split()
        subprocess.run(["scancel", "--batch", "--signal=TERM", number], check=True)

    first, second = interrupted(bench, cluster, cancel)
    assert "# Ended (code 99)" in first and "# Ended (code 0)" in second
    assert bench.differences("train") == []


def test_a_training_whose_node_dies_ends_with_the_same_weights(cluster, bench):
    interrupted(bench, cluster, lambda: cluster.kill_node(ask("squeue", "-h", "-o", "%N", "-t", "running")))
    assert bench.differences("train") == []
