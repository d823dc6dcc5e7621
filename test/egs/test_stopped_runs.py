# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Runs of run.sh that are stopped or killed, and two at once, with stand-ins for the stage commands."""

import os
import signal
import subprocess
import time

import pytest


def wait_until(condition, seconds: float = 30.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopping(recipe, number, code):
    nap = f"sleep 41{code}.{os.getpid()}"  # a command line that no other test has
    environ = recipe.environ(STUB_FAIL="mini_av", STUB_HOW=f"touch sleeping; {nap}")
    process = subprocess.Popen(
        recipe.command("--seed", "3"),
        cwd=recipe.folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # jobs in the background start with SIGINT ignored
    )
    wait_until((recipe.folder / "sleeping").exists)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    name = "TERM" if number == signal.SIGTERM else "INT"
    assert f'stage 1 "prepare" stopped by SIG{name} after' in errors
    assert "--seed 3 --stage 1" in errors
    assert "FAILED" not in errors
    wait_until(lambda: subprocess.run(["pgrep", "-f", nap], stdout=subprocess.DEVNULL).returncode == 1)
    result = recipe.run("--stage", "2")
    assert result.returncode == 3
    assert recipe.run("--seed", "3", "--stop_stage", "2").returncode == 0


def test_stopped_training_that_saved_ends_with_the_requeue_code(finished):
    how = "trap 'exit 99' TERM; touch sleeping; while :; do sleep 0.05; done"
    environ = finished.environ(STUB_FAIL="avsr_train", STUB_HOW=how)
    process = subprocess.Popen(
        finished.command("--stage", "5", "--seed", "0", "--force"),
        cwd=finished.folder,
        env=environ,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    wait_until((finished.folder / "sleeping").exists)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 99
    assert "the state of training is saved" in errors


def test_two_runs_at_once(recipe):
    environ = recipe.environ(STUB_FAIL="mini_av", STUB_HOW="touch sleeping; sleep 60")
    first = subprocess.Popen(recipe.command(), cwd=recipe.folder, env=environ, stdout=subprocess.DEVNULL)
    try:
        wait_until((recipe.folder / "sleeping").exists)
        second = recipe.run("--tag", "other")
        assert second.returncode == 5
        assert f"is being run by process {first.pid}" in second.stderr
    finally:
        first.terminate()
        first.wait(timeout=60)


@pytest.mark.parametrize("another", [False, True])
def test_killed_run_is_not_taken_for_a_running_one(recipe, another):
    """A killed process stays as a zombie in a container without an init; later its number may be another process's."""
    environ = recipe.environ(STUB_FAIL="mini_av", STUB_HOW="touch sleeping; sleep 60")
    first = subprocess.Popen(
        recipe.command(), cwd=recipe.folder, env=environ, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_until((recipe.folder / "sleeping").exists)
        os.killpg(first.pid, signal.SIGKILL)
        os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is a zombie
        if another:
            started = recipe.folder / "data" / ".stages" / "1.prepare.started"
            started.write_text(started.read_text().replace(f" {first.pid} ", f" {os.getpid()} "))
        result = recipe.run("--stop_stage", "1")
        assert result.returncode == 0, result.stderr
    finally:
        first.wait(timeout=60)
