# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Runs inside a Slurm job: one job of a `slurm` command line, its log, its exit code for the one who waits.

Called by the script that `slurm` writes: ``python3 _slurm_task.py FOLDER INDEX``.
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


def main(folder: Path, index: int) -> int:
    """Run a job and leave ``done.INDEX``, or put the job back into the queue when it asks for that."""
    spec = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    options = argparse.Namespace(no_shell=spec["no_shell"])
    request = _jobs.Request(spec["words"], spec["log"], spec["name"], spec["jobs"], options)
    for name in ("ESPNET_AV_STATUS", "ESPNET_AV_USAGE"):
        os.environ.pop(name, None)
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stop.append(number))
    name = request.jobs[index - 1]
    job = _jobs.Job(name, request.argv_of(name), request.log_of(name))
    told = False
    while not job.poll():
        if stop and not told:
            told = True
            job.terminate()
        time.sleep(0.1)
    code = int(job.code or 0)
    if code == _jobs.EXIT_REQUEUE and requeue(folder, int(spec["max_requeues"])):
        time.sleep(120)  # Slurm ends this process on its way back into the queue
        return code
    temporary = folder / f".done.{index}.tmp"
    temporary.write_text(json.dumps({"code": code, "usage": job.usage_line()}), encoding="utf-8")
    temporary.replace(folder / f"done.{index}")
    return code


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
