# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Runs inside a Slurm job: one job of a `slurm` command line, its log, its exit code for the one who waits.

Called by the script that `slurm` writes: ``python3 _slurm_task.py FOLDER INDEX``. With several nodes it runs on the
first of them, and starts the command on all with srun.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import _jobs

LOOK_SEC = 2.0
TOGETHER_SEC = 1.0  # within which Slurm sends one signal to all processes of a job
EARLY_SEC = 60  # Slurm may send a signal up to this much earlier than it was asked to


class Turn:
    """Which start of a job counts: Slurm starts one again when it lost sight of a node; both may run then."""

    def __init__(self, folder: Path, index: int) -> None:
        self._file = folder / f"turn.{index}"
        self._mine = f"{os.uname().nodename} {os.getpid()} {time.time()}"
        temporary = folder / f".turn.{index}.{os.getpid()}.tmp"
        temporary.write_text(self._mine, encoding="utf-8")
        temporary.replace(self._file)
        self._looked = time.monotonic()

    def is_mine(self, now: bool = False) -> bool:
        """Return whether no later start has taken over; looks every few seconds, or ``now``."""
        if not now and time.monotonic() - self._looked < LOOK_SEC:
            return True
        self._looked = time.monotonic()
        try:
            return self._file.read_text(encoding="utf-8") == self._mine
        except OSError:
            return True  # the file system is away for a moment


def main(folder: Path, index: int) -> int:
    """Run a job and leave ``done.INDEX``, or put the job back into the queue when it asks for that."""
    spec = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    options = argparse.Namespace(no_shell=spec["no_shell"])
    request = _jobs.Request(spec["words"], spec["log"], spec["name"], spec["jobs"], options)
    for name in ("ESPNET_AV_STATUS", "ESPNET_AV_USAGE"):
        os.environ.pop(name, None)
    if os.environ.get("SLURM_CPUS_PER_TASK"):  # srun does not take it over by itself
        os.environ.setdefault("SRUN_CPUS_PER_TASK", os.environ["SLURM_CPUS_PER_TASK"])
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stop.append(number))
    turn = Turn(folder, index)
    name = request.jobs[index - 1]
    num_nodes = int(spec["num_nodes"])
    job = _jobs.Job(name, _jobs.on_nodes(request.argv_of(name), num_nodes), request.log_of(name))
    cause = ""
    while not job.poll():
        if stop and not cause:
            cause = why_stopped(int(spec["signal_sec"]))
            ask_to_stop(job, num_nodes)
        if not turn.is_mine():
            job.kill()
        time.sleep(0.1)
    code = int(job.code or 0)
    if not cause and was_told_to_stop(code, stop):  # Slurm tells the command at the same time as this process
        cause = why_stopped(int(spec["signal_sec"]))
    if not turn.is_mine(now=True):
        return code
    if code == _jobs.EXIT_REQUEUE and requeue(folder, int(spec["max_requeues"])):
        time.sleep(120)  # Slurm ends this process on its way back into the queue
        return code
    if cause and code not in (0, _jobs.EXIT_REQUEUE):
        code = 124 if "time limit" in cause else code
        with open(job.log, "a", encoding="utf-8") as stream:
            stream.write(f"slurm: stopped: {cause}\n")
    else:
        cause = ""
    temporary = folder / f".done.{index}.tmp"
    temporary.write_text(json.dumps({"code": code, "usage": job.usage_line(), "cause": cause}), encoding="utf-8")
    temporary.replace(folder / f"done.{index}")
    return code


def was_told_to_stop(code: int, stop: list[int]) -> bool:
    """Return whether SIGTERM came; a command that was ended by one may be a moment ahead of ours."""
    if code == 128 + signal.SIGTERM and not stop:
        time.sleep(TOGETHER_SEC)
    return bool(stop)


def ask_to_stop(job: _jobs.Job, num_nodes: int) -> None:
    """Send SIGTERM to the command; srun would not pass it on but kill, so that Slurm has to deliver it to the nodes."""
    if num_nodes <= 1:
        job.terminate()
    else:
        subprocess.run(["scancel", "--signal=TERM", os.environ.get("SLURM_JOB_ID", "")], check=False)


def why_stopped(signal_sec: int) -> str:
    """Return why Slurm asks this job to stop, in words.

    Args:
        signal_sec: How long before the time limit the job wanted to be told.
    """
    job = os.environ.get("SLURM_JOB_ID", "")
    left = subprocess.run(["squeue", "-h", "-j", job, "-o", "%L|%l"], capture_output=True, text=True, check=False)
    rest, _, limit = left.stdout.strip().partition("|")
    seconds = 0 if rest == "INVALID" else _seconds(rest)
    if seconds is not None and seconds <= signal_sec + EARLY_SEC:
        return f"the time limit of {limit} is near; fix: a longer one (default time=... in conf/slurm.conf)"
    return "the scheduler asked for it (scancel, or a job that goes first)"


def _seconds(text: str) -> int | None:
    """Return the seconds of ``[days-][[hours:]minutes:]seconds``, or None for ``UNLIMITED`` and the like.

    >>> _seconds("1-00:01:05"), _seconds("UNLIMITED")
    (86465, None)
    """
    days, dash, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts) or (dash and not days.isdigit()):
        return None
    seconds = 0
    for part in parts:
        seconds = 60 * seconds + int(part)
    return seconds + 86400 * int(days or 0)


def requeue(folder: Path, most: int) -> bool:
    """Put this job back into the queue, unless it was cancelled or went on too often; return whether that was done."""
    job = os.environ.get("SLURM_JOB_ID", "")
    if (folder / "cancelled").exists() or int(os.environ.get("SLURM_RESTART_COUNT", "0")) >= most:
        return False
    state = subprocess.run(["squeue", "-h", "-j", job, "-o", "%T"], capture_output=True, text=True, check=False)
    if state.stdout.strip() not in ("RUNNING", ""):
        return False
    return subprocess.run(["scontrol", "requeue", job], check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
