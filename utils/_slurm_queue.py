# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What `slurm` asks the scheduler, and what the answers mean in words.

Nothing but sbatch, squeue, scontrol and scancel is used, so that a cluster without a database will do.
"""

from __future__ import annotations

import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

# What Slurm says about a job that left no exit code: the exit code it would have had, and the cause in words.
STATES = {
    "OUT_OF_MEMORY": (137, "more memory than the job asked for"),
    "TIMEOUT": (124, "time limit reached"),
    "DEADLINE": (124, "deadline reached"),
    "NODE_FAIL": (1, "the node failed"),
    "BOOT_FAIL": (1, "the node did not start"),
    "CANCELLED": (143, "cancelled (scancel, or an administrator)"),
    "PREEMPTED": (143, "preempted by another job"),
}
# Beginnings of reasons for which a job waits and that do not go away by themselves as other jobs end.
STUCK = {
    "Nodes required for job are DOWN": "the node is down",
    "ReqNodeNotAvail": "the node is down or reserved",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition is closed",
    "PartitionTimeLimit": "a longer time limit than the partition allows",
    "PartitionNodeLimit": "more nodes than the partition allows",
    "PartitionConfig": "more than a node of the partition has",
    "BadConstraints": "no node has what the job asks for",
    "JobHeld": "the job is held",
    "JobHoldMaxRequeue": "the job is held: it was requeued too often",
    "launch failed requeued held": "the job is held: it could not be started",
    "AccountNotAllowed": "the account may not use this partition",
    "QOSNotAllowed": "the quality of service is not allowed here",
    "InvalidAccount": "no such account",
    "InvalidQOS": "no such quality of service",
    "AssocMaxWallDurationPerJobLimit": "a longer time limit than the account allows",
    "QOSMaxWallDurationPerJobLimit": "a longer time limit than the quality of service allows",
    "DependencyNeverSatisfied": "a job that this one waits for failed",
}
# What sbatch says when it refuses, and what that means.
REFUSALS = {
    "temporarily unable": "the queue is full",
    "queue full": "the queue is full",
    "Resource temporarily unavailable": "the queue is full",
    "job submit limit": "your limit of jobs in the queue is reached",
    "Job violates accounting/QOS policy": "a limit of your account is reached",
    "Invalid job array specification": "more jobs than an array may have here (MaxArraySize); fix: a smaller --nj",
    "Requested time limit is invalid": "a longer time limit than the partition allows",
    "Requested node configuration is not available": "no node has what the job asks for",
    "More processors requested than permitted": "more nodes or cores than the partition has",
    "Memory required by task is not available": "no node has that much memory",
    "invalid partition specified": "no such partition",
    "Invalid account": "no such account, or not for this partition",
    "Unable to contact slurm controller": "the controller (slurmctld) does not answer",
}
# Those of them that may be over in a while.
FULL = (
    *("temporarily unable", "queue full", "temporarily unavailable", "job submit limit"),
    *("Job violates accounting", "Unable to contact"),
)


class Refused(Exception):
    """sbatch did not take the jobs.

    Attributes:
        command: What was called.
        errors: What it said.
        cause: What that means, or the last line of it.
    """

    def __init__(self, command: Sequence[str], errors: str) -> None:
        last = errors.strip().rpartition("\n")[2].removeprefix("sbatch: ").removeprefix("error: ")
        self.command = list(command)
        self.errors = errors
        self.cause = next((meaning for sign, meaning in REFUSALS.items() if sign in errors), last or "no word why")
        super().__init__(f"{shlex.join(command)}\n{errors}")


class Place(NamedTuple):
    """Where a job stands: state such as ``RUNNING``, why it waits, on which nodes."""

    state: str
    reason: str
    nodes: str

    def stuck(self) -> str:
        """Return why the job cannot start as things are, or nothing."""
        if self.state != "PENDING":
            return ""
        return next((words for sign, words in STUCK.items() if self.reason.strip("()").startswith(sign)), "")


def submit(command: Sequence[str], patience: float, say: Callable[[str], None], stop: Sequence[int]) -> str:
    """Hand a script to sbatch, again and again while the queue is full, and return the number of the job.

    Args:
        command: sbatch with its flags and the script.
        patience: Seconds after which a full queue is a failure.
        say: Shows a line to the user.
        stop: Filled when the user wants no more.

    Raises:
        Refused: sbatch did not take it.
    """
    until = time.monotonic() + patience
    told = False
    while True:
        errors: list[str] = []
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        reader = threading.Thread(target=errors.extend, args=(process.stderr or (),), daemon=True)
        reader.start()
        while True:
            try:
                code = process.wait(timeout=0.2)
                break
            except subprocess.TimeoutExpired:  # sbatch tries again by itself for two minutes
                if _is_full(errors) and not told:
                    told = True
                    say(f"slurm takes no more jobs now ({_meaning(errors)}); trying for {patience:.0f} s")
                if (stop or time.monotonic() > until) and _is_full(errors):
                    process.kill()
        reader.join(timeout=5.0)
        if code == 0 and process.stdout:
            return process.stdout.read().strip().split(";")[0]
        if stop or time.monotonic() > until or not _is_full(errors):
            raise Refused(command, "".join(errors))
        time.sleep(1.0)


def _is_full(errors: Sequence[str]) -> bool:
    return any(sign in line for line in list(errors) for sign in FULL)


def _meaning(errors: Sequence[str]) -> str:
    return Refused([], "".join(errors)).cause


def look(job: str) -> dict[str, Place] | None:
    """Return where a job or the jobs of an array stand, those that ended left out; None without an answer."""
    command = ["squeue", "-h", "-r", "-j", job, "-o", "%i|%T|%r|%N"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        return {} if "Invalid job id" in listed.stderr else None
    rows = (line.split("|", 3) for line in listed.stdout.splitlines() if line.count("|") >= 3)
    return {row[0]: Place(*row[1:]) for row in rows}


def end_of(job: str) -> tuple[int, str]:
    """Return the exit code of a job that left none itself, and the cause in words."""
    shown = subprocess.run(["scontrol", "show", "job", "-o", job], capture_output=True, text=True, check=False)
    fields = dict(word.split("=", 1) for word in shown.stdout.split() if "=" in word)
    state = fields.get("JobState", "gone without a trace")
    code, words = STATES.get(state, (1, "the job's program was ended from outside"))
    nodes = fields.get("NodeList", "")
    where = f" on {nodes}" if nodes not in ("", "(null)") else ""
    return code, f"{words}{where} (slurm: {state})"


def summary(places: dict[str, Place]) -> str:
    """Return a line such as ``2 running, 3 waiting (Resources)``; the same line as long as nothing changed.

    >>> summary({"7_1": Place("RUNNING", "None", "n1"), "7_2": Place("PENDING", "Resources", "")})
    '1 running, 1 waiting (Resources)'
    """
    running = sum(place.state in ("RUNNING", "COMPLETING") for place in places.values())
    reasons = [place.reason for place in places.values() if place.state == "PENDING"]
    parts = [f"{running} running"] if running else []
    if reasons:
        parts.append(f"{len(reasons)} waiting ({', '.join(sorted(set(reasons)))})")
    other = [
        place.state.lower() for place in places.values() if place.state not in ("RUNNING", "COMPLETING", "PENDING")
    ]
    parts += [f"{other.count(state)} {state}" for state in sorted(set(other))]
    return ", ".join(parts)


def reasons(places: dict[str, Place]) -> frozenset[str]:
    """Return why jobs wait, apart from waiting for their turn."""
    usual = ("None", "Resources", "Priority", "JobArrayTaskLimit", "(null)")
    return frozenset(
        place.reason for place in places.values() if place.state == "PENDING" and place.reason not in usual
    )
