# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""utils/slurm: the configuration grammar, and jobs on a real Slurm (``make test-slurm``; see slurm_cluster.py)."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from slurm_cluster import ask, wait_for

CONF = """
command sbatch --export=ALL --ntasks=1 --signal=B:TERM@120
option time=* --time=$0
option mem=0
option mem=* --mem=$0
option num_threads=* --cpus-per-task=$0
option gpu=0
option gpu=* --gres=gpu:$0
default gpu=0
"""


def slurm(root: Path, folder: Path, *words: str, **kwargs) -> subprocess.CompletedProcess:
    command = [root / "utils" / "slurm", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False, **kwargs)


@pytest.fixture()
def fake(tmp_path, repo_root):
    """A folder with an sbatch that notes its arguments and refuses."""
    tools = tmp_path / "bin"
    tools.mkdir()
    sbatch = tools / "sbatch"
    sbatch.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >args.txt\necho "sbatch: no such partition" >&2\nexit 1\n')
    sbatch.chmod(0o755)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "slurm.conf").write_text(CONF)
    environ = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}

    def run(*words):
        return slurm(repo_root, tmp_path, *words, env=environ)

    run.folder = tmp_path
    return run


def test_options_become_flags(fake):
    result = fake(
        "--gpu", "2", "--mem", "8G", "--num-threads=4", "--max-jobs-run", "3", "JOB=1:9", "l/x.JOB.log", "true"
    )
    assert result.returncode == 1
    assert "no such partition" in result.stderr
    flags = (fake.folder / "args.txt").read_text().split("\n")
    for flag in ("--gres=gpu:2", "--mem=8G", "--cpus-per-task=4", "--array=1-9%3", "--parsable", "--export=ALL"):
        assert flag in flags


def test_exact_rule_wins(fake):
    fake("--mem", "0", "x.log", "true")
    assert not [flag for flag in (fake.folder / "args.txt").read_text().split() if flag.startswith(("--mem", "--gres"))]


def test_unknown_option_names_the_rules(fake):
    result = fake("--option", "qos=high", "x.log", "true")
    assert result.returncode == 2
    assert "no rule for qos=high" in result.stderr
    assert "gpu=0" in result.stderr


@pytest.mark.parametrize("line", [b"flag x=1 -x", b"option gpu=* --comment='two", b"option gpu=* \xff"])
def test_bad_line_of_the_configuration(fake, line):
    (fake.folder / "conf" / "slurm.conf").write_bytes(b"command sbatch\n" + line + b"\n")
    result = fake("x.log", "true")
    assert result.returncode == 2
    assert re.fullmatch(r"slurm: error: conf/slurm.conf:(2:? | no text in UTF-8).*\n", result.stderr)


def test_log_that_cannot_be_written(fake):
    (fake.folder / "file").touch()
    result = fake("file/x.log", "true")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert not (fake.folder / "args.txt").exists()


def test_no_slurm_here(tmp_path, repo_root):
    (tmp_path / "slurm.conf").write_text("command sbatch-that-is-not-here\n")
    result = slurm(repo_root, tmp_path, "--config", "slurm.conf", "x.log", "true")
    assert result.returncode == 4
    assert "--backend local" in result.stderr


def test_several_nodes_have_a_rule_of_their_own(fake):
    result = fake(
        "--num_nodes", "2", "--gpu", "8", "--dry_run", "logs/train.log", "utils/torchrun", "--num_nodes", "2", "8", "x"
    )
    assert result.returncode == 0, result.stderr
    batch, step = result.stdout.splitlines()
    assert batch.startswith("sbatch --export=ALL --ntasks=1 --signal=B:TERM@120 --gres=gpu:8 --nodes=2 --ntasks=2 ")
    assert step.split()[:4] == ["srun", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1"]
    assert step.endswith(" utils/torchrun --num_nodes 2 8 x")
    assert not (fake.folder / "args.txt").exists() and not (fake.folder / "logs").exists()
    with open(fake.folder / "conf" / "slurm.conf", "a") as stream:
        stream.write("option num_nodes=* --nodes=$0 --switches=1\n")
    batch = fake("--num_nodes", "2", "--dry_run", "x.log", "x").stdout.splitlines()[0]
    assert " --nodes=2 --switches=1 " in batch and "--ntasks=2" not in batch


def test_several_nodes_need_a_scheduler(tmp_path, repo_root):
    command = [repo_root / "utils" / "run", "--num_nodes", "2", tmp_path / "x.log", "true"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "--backend slurm" in result.stderr


def test_a_refusal_is_told_and_kept(fake):
    result = fake("logs/x.log", "true")
    assert result.returncode == 1
    assert "slurm: job 1: exit 1, the scheduler refused: no such partition" in result.stderr
    assert "sbatch: no such partition" in (fake.folder / "logs" / "x.log").read_text()


@pytest.mark.parametrize(
    "script",
    [
        "kill $PPID; kill $$",
        "setsid sh -c 'touch up; sleep 0.3; kill $0' $PPID & while [ ! -e up ]; do sleep 0.02; done; kill $$",
    ],
    ids=["its watcher first", "the command first"],
)
def test_a_cancelled_job_says_so_when_its_command_ends_with_it(tmp_path, repo_root, script):
    """Slurm sends SIGTERM to the command and to what watches it, in any order."""
    spec = {"words": ["bash", "-c", script], "log": str(tmp_path / "x.log"), "name": "", "jobs": ["1"]}
    spec |= {"no_shell": True, "num_nodes": 0, "max_requeues": 1, "signal_sec": 50}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\necho '9:00:00|10:00:00'\n")
    squeue.chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    task = [sys.executable, repo_root / "utils" / "_slurm_task.py", tmp_path, "1"]
    assert subprocess.run(task, cwd=tmp_path, env=environ, check=False, timeout=60).returncode == 128 + signal.SIGTERM
    left = json.loads((tmp_path / "done.1").read_text())
    assert left["code"] == 143 and "the scheduler asked for it" in left["cause"]
    assert "slurm: stopped: the scheduler asked for it" in (tmp_path / "x.log").read_text()


@pytest.mark.parametrize(
    ("said", "code", "found"),
    [
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", 1, "None"),
        ("slurm_load_jobs error: Invalid job id specified", 1, "{}"),
        ("", 0, "{}"),
    ],
)
def test_a_controller_that_does_not_answer_is_no_word_about_the_job(tmp_path, repo_root, said, code, found):
    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit {code}\n")
    squeue.chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(repo_root / "utils")}
    ask_it = [sys.executable, "-c", "import _slurm_queue as q; print(q.look('7'))"]
    assert subprocess.run(ask_it, env=environ, capture_output=True, text=True).stdout.strip() == found


# ------------------------------------------------------------------------------------------------ a real Slurm


@pytest.mark.slurm
def test_array_of_jobs(cluster, place, repo_root):
    usage = place / "usage"
    result = slurm(
        repo_root, place, "JOB=1:4", "logs/x.JOB.log", "bash", "-c", "echo part JOB of $SLURM_ARRAY_TASK_ID",
        env={**os.environ, "ESPNET_AV_USAGE": str(usage)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    for number in range(1, 5):
        text = (place / "logs" / f"x.{number}.log").read_text()
        assert f"\npart {number} of {number}\n" in text
        assert "# Ended (code 0)" in text
    assert len(usage.read_text().splitlines()) == 4


@pytest.mark.slurm
def test_failure_shows_the_log_and_named_jobs(cluster, place, repo_root):
    script = "echo working on JOB; if [ JOB = valid ]; then echo broken clip; exit 7; fi"
    result = slurm(repo_root, place, "JOB=train,valid,test", "logs/x.JOB.log", "bash", "-c", script)
    assert result.returncode == 1
    assert "slurm: 1 / 3 failed, log is in logs/x.*.log" in result.stderr
    assert "slurm: job valid: exit 7" in result.stderr
    assert "  | broken clip" in result.stderr


@pytest.mark.slurm
def test_code_99_is_requeued(cluster, place, repo_root):
    script = "if [ -e saved ]; then echo going on; else touch saved; echo saving; exit 99; fi"
    result = slurm(repo_root, place, "logs/train.log", "bash", "-c", script)
    assert result.returncode == 0, result.stderr
    assert "saving" in (place / "logs" / "train.log.1").read_text()
    assert "going on" in (place / "logs" / "train.log").read_text()


@pytest.mark.slurm
def test_sigterm_cancels_the_jobs(cluster, place, repo_root):
    runner = subprocess.Popen([repo_root / "utils" / "slurm", "JOB=1:2", "logs/x.JOB.log", "sleep", "555"], cwd=place)
    wait_for(lambda: len(list(place.glob("logs/x.*.log"))) == 2)
    runner.terminate()
    assert runner.wait(timeout=200) == 128 + signal.SIGTERM
    wait_for(lambda: not ask("squeue", "-h"))
    assert subprocess.run(["pgrep", "-f", "sleep 555"], check=False).returncode != 0


@pytest.mark.slurm
def test_the_jobs_of_a_killed_call_are_taken_over(cluster, place, repo_root):
    script = "echo working; while [ ! -e go ]; do sleep 0.2; done; echo JOB >>ends"
    command = [repo_root / "utils" / "slurm", "JOB=1:2", "logs/x.JOB.log", "bash", "-c", script]
    first = subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL)
    wait_for(lambda: len(list(place.glob("logs/x.*.log"))) == 2)
    first.kill()  # the login node went away
    first.wait()
    other = slurm(repo_root, place, "JOB=1:2", "logs/x.JOB.log", "true")
    assert other.returncode == 2
    assert "of an earlier call is still in the queue (2 running)" in other.stderr
    assert "end it with: scancel" in other.stderr
    second = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, text=True)
    assert "of an earlier call, still there: 2 task(s)" in second.stdout.readline()
    (place / "go").touch()
    assert second.wait(timeout=200) == 0
    assert sorted((place / "ends").read_text().split()) == ["1", "2"]
    assert "earlier call" not in slurm(repo_root, place, "JOB=1:2", "logs/x.JOB.log", "bash", "-c", script).stdout
