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


def test_killed_run_whose_end_nobody_asked_for(recipe):
    """In a container without an init a killed process stays as a zombie, and signals can be sent to it."""
    environ = recipe.environ(STUB_FAIL="mini_av", STUB_HOW="touch sleeping; sleep 60")
    first = subprocess.Popen(
        recipe.command(), cwd=recipe.folder, env=environ, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_until((recipe.folder / "sleeping").exists)
        os.killpg(first.pid, signal.SIGKILL)
        os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is a zombie
        assert recipe.run("--stop_stage", "1").returncode == 0
    finally:
        first.wait(timeout=60)


def test_number_of_a_killed_run_that_another_process_has_now(finished):
    started = finished.folder / "data" / ".stages" / "1.prepare.started"
    started.write_text(f"{os.uname().nodename} {os.getpid()} 1 2026-01-01T00:00:00+0000\n")
    result = finished.run("--stage", "1", "--stop_stage", "1", "--force")
    assert result.returncode == 0, result.stderr
    assert not started.exists()
