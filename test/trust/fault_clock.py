# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Clocks that are set: times of files in the future and the past, and a clock that jumps while stages run."""

import os
import time
from pathlib import Path

from fault_bench import Bench, Line
from fault_damage import copy_folders, cut_training
from warm_python import JUMPS

DAY = 86400.0
#: What times files get: words -> a function of the time now and the dice.
TIMES = {
    "ten days ahead": lambda now, dice: now + 10 * DAY,
    "in 1971": lambda now, dice: 2 * 365 * DAY,
    "in 2100": lambda now, dice: 130 * 365.25 * DAY,
    "at random": lambda now, dice: now + dice.uniform(-1000, 1000) * DAY,
}


def set_times(bench: Bench, how: str) -> None:
    """Give every file of the recipe another time."""
    for name in ("data", "dump", "exp"):
        for path in (bench.folder / name).rglob("*"):
            if path.is_file():
                moment = TIMES[how](time.time(), bench.dice)
                os.utime(path, (moment, moment))


def shift_marks(bench: Bench, last: str) -> Line:
    """Stages that are done stay so whatever the times of their files; a changed input counts whatever its time."""
    bench.prepare(last)
    following = [*bench.stages][: [*bench.stages].index(last) + 1]
    line = Line("clock-marks", "times of all files in the future and the past")
    began = time.monotonic()
    for how in TIMES:
        restore_finished(bench, last)
        set_times(bench, how)
        for name in following:
            code, said = bench.run(name)
            line.tried += 1
            line.check(code == 0 and "already done" in said, f"{name} ran again with times {how}: {said[-300:]}")
            if name == "train":
                line.check(not bench.differences(name), f"another training with times {how}")
    text = bench.folder / "data" / "train" / "text"
    moment = text.stat()
    text.write_text(text.read_text().replace("BLUE", "GREY", 1))
    os.utime(text, ns=(moment.st_atime_ns, moment.st_mtime_ns))
    code, said = bench.run("format")
    line.tried += 1
    line.check(
        code == 0 and "text changed" in said, f"an input that changed with the same size and time: {said[-300:]}"
    )
    line.seconds = time.monotonic() - began
    return line


def restore_finished(bench: Bench, last: str) -> None:
    """Go to the state after the last stage."""
    kept: Path = bench.place / "before" / f"after {last}"
    if not kept.exists():
        bench.restore(last)
        bench.run(last)
        copy_folders(bench.folder, kept)
    copy_folders(kept, bench.folder)


def jump(bench: Bench, names: tuple[str, ...]) -> Line:
    """Stages and a training that was cut give the same while the clock jumps by days."""
    line = Line("clock-jumps", "a clock that jumps by days while stages run")
    began = time.monotonic()
    for name in names:
        bench.prepare(name)
        bench.restore(name)
        if name == "train":
            copy_folders(cut_training(bench), bench.folder)
            set_times(bench, "at random")
        code, said = bench.run(name, **{JUMPS: str(30 * DAY)})
        line.tried += 1
        line.check(code == 0, f"{name} fails with a jumping clock (exit {code}): {said[-300:]}")
        changed = bench.differences(name)
        line.check(not changed, f"{name} gave other outputs with a jumping clock: {changed[:3]}")
    line.seconds = time.monotonic() - began
    return line
