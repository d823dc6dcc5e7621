# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""utils/slurm: the configuration grammar, and real jobs on a one-node Slurm that this test starts.

The second half needs munged, slurmctld and slurmd (Debian: slurmctld slurmd slurm-client munge) and root:
``pytest -m slurm test/utils/test_slurm.py``.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

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
    return subprocess.run(
        [root / "utils" / "slurm", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **kwargs,
    )


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


def test_bad_line_of_the_configuration(fake):
    (fake.folder / "conf" / "slurm.conf").write_text("command sbatch\nflag x=1 -x\n")
    result = fake("x.log", "true")
    assert result.returncode == 2
    assert "slurm.conf:2" in result.stderr


def test_no_slurm_here(tmp_path, repo_root):
    (tmp_path / "slurm.conf").write_text("command sbatch-that-is-not-here\n")
    result = slurm(repo_root, tmp_path, "--config", "slurm.conf", "x.log", "true")
    assert result.returncode == 4
    assert "--backend local" in result.stderr


# ------------------------------------------------------------------------------------------------ a real Slurm


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Start munged, slurmctld and slurmd without systemd, cgroups or a database; stop them by their ids."""
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if not find_tool(name)]
    if missing:
        pytest.skip(
            f"no {', '.join(missing)}; apt-get install --no-install-recommends slurmctld slurmd slurm-client munge"
        )
    if os.geteuid() != 0:
        pytest.skip("starting slurmctld and slurmd needs root")
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o755)
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "slurm.conf").write_text(
        f"""ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={free_port()}
SlurmdPort={free_port()}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=5
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,sched_interval=1,bf_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} RealMemory=2000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(munge_running())
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
        stack.callback(os.environ.pop, "SLURM_CONF", None)
        for name in ("slurmctld", "slurmd"):
            process = subprocess.Popen([find_tool(name), "-D"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(end, process)
        wait_for(lambda: "idle" in subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True).stdout)
        yield folder


def find_tool(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


@contextlib.contextmanager
def munge_running():
    if subprocess.run(["munge", "-n"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
        yield
        return
    subprocess.run(["install", "-d", "-o", "munge", "-g", "munge", "/run/munge"], check=True)
    munged = subprocess.Popen(
        ["runuser", "-u", "munge", "--", find_tool("munged"), "-F"], start_new_session=True, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: subprocess.run(["munge", "-n"], capture_output=True).returncode == 0)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(munged.pid, signal.SIGTERM)
        munged.wait(timeout=20)


def end(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(condition, seconds: float = 30.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not come up"
        time.sleep(0.2)


@pytest.fixture()
def place(tmp_path):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "slurm.conf").write_text(CONF)
    return tmp_path


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
def test_time_limit_saves_and_goes_on(cluster, place, repo_root):
    # The scheduler sends SIGTERM 50 s before the limit of one minute; the job "saves" and is queued again.
    (place / "conf" / "slurm.conf").write_text(CONF.replace("TERM@120", "TERM@50"))
    script = "[ ! -e saved ] || { echo going on; exit; }; trap 'touch saved; exit 99' TERM; while :; do sleep 0.2; done"
    result = slurm(repo_root, place, "--time", "1", "logs/train.log", "bash", "-c", script)
    assert result.returncode == 0, result.stderr
    assert "# Ended (code 99)" in (place / "logs" / "train.log.1").read_text()
    assert "going on" in (place / "logs" / "train.log").read_text()


@pytest.mark.slurm
def test_sigterm_cancels_the_jobs(cluster, place, repo_root):
    runner = subprocess.Popen([repo_root / "utils" / "slurm", "JOB=1:2", "logs/x.JOB.log", "sleep", "555"], cwd=place)
    wait_for(lambda: len(list(place.glob("logs/x.*.log"))) == min(2, os.cpu_count() or 1))
    runner.terminate()
    assert runner.wait(timeout=100) == 128 + signal.SIGTERM
    wait_for(lambda: not subprocess.run(["squeue", "-h"], capture_output=True, text=True).stdout.strip())
    assert subprocess.run(["pgrep", "-f", "sleep 555"], check=False).returncode != 0


@pytest.mark.slurm
def test_job_that_vanishes(cluster, place, repo_root):
    script = "echo $PPID >pid.tmp; mv pid.tmp pid; sleep 600"
    runner = subprocess.Popen(
        [repo_root / "utils" / "slurm", "logs/x.log", "bash", "-c", script],
        cwd=place,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for((place / "pid").exists)
    os.kill(int((place / "pid").read_text()), signal.SIGKILL)  # what the memory limit of a node does
    _, errors = runner.communicate(timeout=120)
    assert runner.returncode == 1
    assert "left the queue without an exit code: FAILED" in errors
