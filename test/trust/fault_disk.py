# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Disks that are full in the middle of a stage: a small tmpfs is put under the folder that the stage writes to."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from fault_bench import Bench, Line, empty_folder

#: Stage -> the folder that is a small disk.
FOLDERS = {"train": "exp", "format": "dump", "infer": "exp", "report": "exp"}
LARGE = "256m"


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Put a disk under a folder.

    Raises:
        PermissionError: The user may not.
    """
    empty_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={LARGE}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise PermissionError("there is no command mount") from error
    if done.returncode != 0:
        raise PermissionError(done.stderr.strip() or "mount failed")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def resize(folder: Path, size: str) -> None:
    """Give the disk another size."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True, capture_output=True)


def used_kb(folder: Path) -> int:
    """Return the kilobytes that a disk holds."""
    answer = subprocess.run(["df", "-Pk", str(folder)], capture_output=True, text=True, check=True)
    return int(answer.stdout.splitlines()[1].split()[2])


def fill_disk(bench: Bench, name: str, times: int, deadline: float) -> Line:
    """Run a stage on a disk that is full after a random part of its outputs; with room it must end as ever."""
    bench.prepare(name)
    disk = bench.folder / FOLDERS[name]
    line = Line(f"disk-{name}", f"disk full in stage {bench.stages[name].number} ({name})")
    began = time.monotonic()
    try:
        with small_disk(disk):
            bench.restore(name)
            before = used_kb(disk)
            code, said = bench.run(name)
            line.check(code == 0 and not bench.differences(name), f"{name} fails on a disk of its own: {said[-300:]}")
            need = used_kb(disk) - before
            while line.tried < times and not line.lost and time.monotonic() < deadline:
                run_on_full_disk(bench, name, disk, need, line)
    except PermissionError as error:
        line.skipped = f"needs the right to mount a small disk ({error})"
    line.seconds = time.monotonic() - began
    return line


def run_on_full_disk(bench: Bench, name: str, disk: Path, need_kb: int, line: Line) -> None:
    """Let the disk be full after a part of ``need_kb``, look at the failure, make room and run again."""
    resize(disk, LARGE)
    bench.restore(name)
    resize(disk, f"{used_kb(disk) + max(4, int(need_kb * bench.dice.uniform(0.0, 0.9)))}k")
    code, said = bench.run(name)
    line.tried += 1
    line.note({0: "there was room", 124: "hung"}.get(code, f"exit {code}"))
    line.check(code != 124, f"{name} hangs on a full disk")
    if code != 0:
        told = "disk full" in said or "No space left" in said
        line.note("said that the disk is full" if told else "did not say why")
        line.check(told, f"{name} does not say that the disk is full (exit {code}): {said[-400:]}")
        done = bench.mark(name, "done")
        line.check(done is None, f"half-written outputs of {name} are taken for done: {bench.differences(name)[:3]}")
    resize(disk, LARGE)
    code, said = bench.run(name)
    changed = bench.differences(name)
    line.check(code == 0, f"{name} could not go on with room on the disk (exit {code}): {said[-400:]}")
    line.check(not changed, f"{name} gave other outputs after a full disk: {changed[:3]}")
