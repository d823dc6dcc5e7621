# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What goes wrong on a cluster: each cause is named, and what can go on does. On a real Slurm (``make test-slurm``)."""

import os
import signal
import subprocess
import time

import pytest
from slurm_cluster import ask, wait_for

pytestmark = pytest.mark.slurm

WORKING = "echo $SLURMD_NODENAME >>nodes; while [ ! -e go ]; do sleep 0.2; done; echo finished"


class Call:
    """A call of utils/slurm in the background."""

    def __init__(self, root, folder, *words):
        command = [root / "utils" / "slurm", *map(str, words)]
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def end(self):
        """Wait for its end; return the exit code, the output and the errors."""
        output, errors = self.process.communicate(timeout=600)
        return self.process.returncode, output, errors


@pytest.fixture()
def call(cluster, place, repo_root):
    calls = []

    def start(*words):
        calls.append(Call(repo_root, place, *words))
        return calls[-1]

    yield start
    for one in calls:
        if one.process.poll() is None:
            os.killpg(one.process.pid, signal.SIGKILL)
            one.process.wait()


def nodes_used(place):
    return (place / "nodes").read_text().split() if (place / "nodes").exists() else []


def test_a_job_moves_to_another_node_when_its_own_dies(cluster, place, call):
    running = call("logs/x.log", "bash", "-c", WORKING)
    wait_for(lambda: nodes_used(place))
    (dead,) = nodes_used(place)
    cluster.kill_node(dead)
    wait_for(lambda: len(nodes_used(place)) == 2, 300, "the job on the other node")
    (place / "go").touch()
    code, _, errors = running.end()
    assert code == 0, errors
    assert nodes_used(place)[1] != dead
    assert "finished" in (place / "logs" / "x.log").read_text()
    assert (place / "logs" / "x.log.1").exists()


def test_no_node_is_left(cluster, place, call):
    for name in ("n1", "n2"):
        cluster.kill_node(name)
    wait_for(lambda: "down" in ask("sinfo", "-h", "-p", "main", "-o", "%T"), 300, "nodes to be down")
    code, output, errors = call("--patience", 5, "logs/x.log", "true").end()
    assert code == 1
    assert "1 waiting (Nodes required for job are DOWN" in output
    assert "slurm: job 1: exit 1, the node is down (slurm: Nodes required for job are DOWN" in errors
    assert "cannot start and was cancelled" in (place / "logs" / "x.log").read_text()
    assert not ask("squeue", "-h")


def test_the_first_start_ends_when_slurm_has_started_the_job_again(cluster, place, call):
    # slurmd dies but the programs live on, as with a network that fails: two of them would write one experiment.
    script = "echo $$ >>pids; sleep 0.2; while [ ! -e go ]; do sleep 0.2; done; echo finished"
    running = call("logs/x.log", "bash", "-c", script)
    wait_for(lambda: ask("squeue", "-h", "-t", "R", "-o", "%N") and (place / "pids").exists())
    cluster.kill(ask("squeue", "-h", "-t", "R", "-o", "%N"))
    wait_for(lambda: len((place / "pids").read_text().split()) == 2, 300, "the second start")
    first, second = (place / "pids").read_text().split()
    wait_for(lambda: not os.path.exists(f"/proc/{first}"), what="the end of the first start")
    assert os.path.exists(f"/proc/{second}")
    (place / "go").touch()
    assert running.end()[0] == 0


def test_time_limit_saves_and_goes_on(place, call):
    # The scheduler sends SIGTERM 50 s before the limit of one minute; the job "saves" and is queued again.
    script = "[ ! -e saved ] || { echo going on; exit; }; trap 'touch saved; exit 99' TERM; while :; do sleep 0.2; done"
    code, _, errors = call("--time", 1, "logs/train.log", "bash", "-c", script).end()
    assert code == 0, errors
    assert "# Ended (code 99)" in (place / "logs" / "train.log.1").read_text()
    assert "going on" in (place / "logs" / "train.log").read_text()


def test_time_limit_of_a_job_that_saves_nothing(call):
    code, _, errors = call("--time", 1, "logs/x.log", "sleep", 600).end()
    assert code == 1
    assert "slurm: job 1: exit 124, the time limit of 1:00 is near; fix: a longer one" in errors


def test_a_job_that_somebody_cancels(place, call):
    running = call("logs/x.log", "bash", "-c", WORKING)
    wait_for(lambda: nodes_used(place))
    subprocess.run(["scancel", ask("squeue", "-h", "-o", "%i")], check=True)
    code, _, errors = running.end()
    assert code == 1
    assert "slurm: job 1: exit 143, the scheduler asked for it (scancel" in errors


def test_a_job_that_vanishes(place, call):
    running = call("logs/x.log", "bash", "-c", "echo $PPID >pid.tmp; mv pid.tmp pid; sleep 600")
    wait_for((place / "pid").exists)
    os.kill(int((place / "pid").read_text()), signal.SIGKILL)  # what the memory limit of a node does
    code, _, errors = running.end()
    assert code == 1
    assert "left the queue without an exit code: the job's program was ended from outside" in errors


def test_a_longer_time_than_the_partition_allows(place, call):
    code, _, errors = call("--patience", 4, "--option", "partition=short", "--time", 5, "logs/x.log", "true").end()
    assert code == 1
    assert "a longer time limit than the partition allows (slurm: PartitionTimeLimit)" in errors
    assert not ask("squeue", "-h")


def test_a_full_queue(place, call):
    hold = ["sbatch", "--hold", "--parsable", "--array=1-49", "--output=/dev/null", "--wrap=true"]
    filling = [subprocess.run(hold, capture_output=True, text=True).returncode for _ in range(2)]  # beside older jobs
    while subprocess.run(["timeout", "3", *hold[:3], *hold[4:]], capture_output=True).returncode == 0:
        filling.append(0)
        assert len(filling) < 200
    code, output, errors = call("--patience", 8, "logs/x.log", "true").end()
    assert code == 1
    assert "slurm takes no more jobs now (the queue is full); trying for 8 s" in output
    assert "slurm: job 1: exit 1, the scheduler refused: the queue is full" in errors
    # When there is room within the patience, nobody notices.
    waiting = call("--patience", 300, "logs/y.log", "true")
    assert "takes no more jobs now" in waiting.process.stdout.readline()
    subprocess.run(["scancel", "--user=root"], check=True)
    code, _, errors = waiting.end()  # ended jobs count until slurmctld forgets them after MinJobAge
    assert code == 0, errors


def test_more_jobs_than_an_array_may_have(call):
    code, _, errors = call("JOB=1:60", "logs/x.JOB.log", "true").end()
    assert code == 1
    assert "the scheduler refused: more jobs than an array may have here (MaxArraySize)" in errors


def test_the_controller_is_away_for_a_while(cluster, place, call):
    running = call("logs/x.log", "bash", "-c", WORKING)
    wait_for(lambda: nodes_used(place))
    cluster.kill("slurmctld")
    try:
        time.sleep(30)  # squeue gives up after 18 s
        assert running.process.poll() is None
        (place / "go").touch()
        wait_for(lambda: list(place.glob("logs/q/*/done.1")), what="the job to end")
    finally:
        cluster.start_controller()
    assert running.end()[0] == 0
