# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Kills with SIGKILL at random moments, of trainings and of every other kind of stage, and what came of it."""

import subprocess
import time

from fault_bench import Bench, Line

#: What is killed, and how often of a hundred: the whole machine, the work of the stage, or the driver around it.
HOW = (("all", 80), ("job", 10), ("driver", 10))
IN_A_ROW = 4  # kills before a stage may end
EARLY_SHARE = 0.1  # of kills: also before the work of the stage begins


def kill_stage(bench: Bench, name: str, kills: int, deadline: float, kind: str = "") -> Line:
    """Kill one kind of stage so often; after up to four kills in a row it may end, and must give the right outputs."""
    bench.prepare(name)
    line = Line(
        f"kill-{kind or name}", f"SIGKILL in stage {bench.stages[name].number} of {bench.recipe.folder} ({name})"
    )
    began = time.monotonic()
    while line.tried < kills and time.monotonic() < deadline:
        bench.restore(name)
        for _ in range(min(bench.dice.randint(1, IN_A_ROW), kills - line.tried)):
            if not kill_once(bench, name, line):
                break
            if line.lost:
                break
        code, said = bench.run(name)
        line.check(code == 0, f"{name} could not go on after a kill (exit {code}): {said[-300:]}")
        changed = bench.differences(name)
        line.check(not changed, f"{name} gave other outputs after a kill: {changed[:3]}")
        for left in bench.folder.rglob(".*.tmp"):
            line.note(f"temporary left: {left.name.split('.')[1]}")
        if line.lost:
            break
    if line.tried < kills and not line.lost:
        line.note("the time was over")
    line.seconds = time.monotonic() - began
    return line


def kill_once(bench: Bench, name: str, line: Line) -> bool:
    """Start a stage, kill it at a random moment, and look at what is left; return False when it came to its end."""
    how = bench.dice.choices([how for how, _ in HOW], [share for _, share in HOW])[0]
    early = bench.dice.random() < EARLY_SHARE
    fresh = bench.mark(name, "started") is None
    process = bench.start(name)
    while not early and process.poll() is None and bench.mark(name, "started") is None:
        time.sleep(0.005)
    began = time.monotonic()
    if not wait(process, bench.dice.uniform(0, bench.seconds[name])):
        line.note("ended before its kill")
        if fresh:  # the machine is less busy than it was
            bench.seconds[name] = max(0.2, min(bench.seconds[name], time.monotonic() - began))
        return False
    bench.kill(process, how)
    line.tried += 1
    if how == "job" and process.returncode not in (0, 5):
        line.check(False, f"{name}: a killed job gave exit code {process.returncode} and not 5")
    if how != "driver":  # what is left of a driver's job may still be ending
        line.note("done, kept" if bench.mark(name, "done") else "not done")
        if bench.mark(name, "done"):
            changed = bench.differences(name)
            line.check(not changed, f"half-written outputs of {name} are taken for done: {changed[:3]}")
        elif bench.dice.random() < 0.2:
            check_that_the_next_stage_refuses(bench, name, line)
    else:
        line.note("driver alone killed")
    return True


def wait(process: subprocess.Popen, seconds: float) -> bool:
    """Wait so long; return whether the process still runs."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def check_that_the_next_stage_refuses(bench: Bench, name: str, line: Line) -> None:
    """A stage must not read what an unfinished one has left."""
    names = list(bench.stages)
    following = names[names.index(name) + 1 :]
    if name == "report" or not following:
        return
    code, said = bench.run(following[0])
    line.note("the next stage refused" if code == 3 else "the next stage ran")
    line.check(code == 3, f"{following[0]} ran on what a killed {name} had left (exit {code}): {said[-200:]}")
