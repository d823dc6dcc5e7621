# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""utils/run: jobs with logs, exit codes, and no process left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.fixture()
def run(tmp_path, repo_root):
    def call(*words: str, program: str = "run", **kwargs) -> subprocess.CompletedProcess:
        command = [repo_root / "utils" / program, *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False, **kwargs)

    call.folder = tmp_path
    call.tool = repo_root / "utils" / "run"
    return call


def processes_with(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if text.encode() in words:
            found.append(path.parent.name)
    return found


def wait_until(condition, seconds: float = 15.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.05)


def test_log_has_header_output_and_end(run):
    assert run("logs/x.log", "echo", "hello world").returncode == 0
    lines = (run.folder / "logs" / "x.log").read_text().splitlines()
    assert lines[0] == "# command: echo 'hello world'"
    heads = [line.split(":")[0] for line in lines if line.startswith("# ")]
    assert heads[:6] == ["# command", "# directory", "# host", "# commit", "# versions", "# started"]
    assert "hello world" in lines
    assert lines[-1].startswith("# Ended (code 0) at ")


def test_logs_are_rotated_and_never_overwritten(run):
    for word in ("one", "two", "three"):
        run("x.log", "echo", word)
    texts = [(run.folder / name).read_text() for name in ("x.log.1", "x.log.2", "x.log")]
    assert [word in text for word, text in zip(("\none\n", "\ntwo\n", "\nthree\n"), texts, strict=True)] == [True] * 3


def test_array(run):
    assert run("JOB=2:4", "x.JOB.log", "echo", "part-JOB").returncode == 0
    assert "\npart-3\n" in (run.folder / "x.3.log").read_text()
    assert not (run.folder / "x.1.log").exists()


def test_named_jobs(run):
    assert run("JOB=train,test_a.b", "x.JOB.log", "echo", "data/JOB").returncode == 0
    assert "\ndata/test_a.b\n" in (run.folder / "x.test_a.b.log").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["JOB=0:2", "x.JOB.log", "true"], "numbered from 1"),
        (["JOB=3:2", "x.JOB.log", "true"], "numbered from 1"),
        (["JOB=1:2", "x.log", "true"], "would share the log"),
        (["JOB=a,a", "x.JOB.log", "true"], "comes twice"),
        (["x.log"], "expected [JOB=1:N] LOG COMMAND"),
        (["--tee", "JOB=1:2", "x.JOB.log", "true"], "--tee shows one job"),
        (["--max-jobs-run", "-1", "x.log", "true"], "from 0"),
        (["--no-such-option", "x.log", "true"], "usage"),
    ],
)
def test_wrong_usage(run, words, message):
    result = run(*words)
    assert result.returncode == 2
    assert message in result.stderr


def test_log_that_cannot_be_written(run):
    (run.folder / "file").touch()
    result = run("JOB=1:2", "file/x.JOB.log", "touch", "ran")
    assert result.returncode == 2 and not (run.folder / "ran").exists()
    assert result.stderr == (
        "run: error: no log can be written at file/x.1.log: file: File exists; fix: name another place for it\n"
    )


def test_words_are_data(run):
    run("x.log", "echo", "$(touch pwned)", "$(touch${IFS}pwned)", "`touch pwned`", "*", ";touch pwned")
    assert "\n$(touch pwned) $(touch${IFS}pwned) `touch pwned` * ;touch pwned\n" in (run.folder / "x.log").read_text()
    assert not (run.folder / "pwned").exists()


def test_operators_act_and_other_words_stay_data(run):
    assert run("x.log", "echo", "b a", "|", "tr", " ", "\n", "|", "sort", ">", "$(touch pwned)").returncode == 0
    assert (run.folder / "$(touch pwned)").read_text() == "a\nb\n"
    assert not (run.folder / "pwned").exists()


def test_pipe_fails_when_its_first_part_does(run):
    assert run("x.log", "false", "|", "cat").returncode == 1


def test_no_shell(run):
    run("--no-shell", "x.log", "echo", "a", "|", "b")
    assert "\na | b\n" in (run.folder / "x.log").read_text()


def test_failure_shows_codes_and_the_end_of_the_first_failing_log(run):
    script = "seq 1 50; [ JOB -lt 3 ] || { echo 'broken clip JOB'; exit 7; }"
    result = run("JOB=1:4", "logs/x.JOB.log", "bash", "-c", script)
    assert result.returncode == 1
    assert "run: 2 / 4 failed, log is in logs/x.*.log" in result.stderr
    assert "run: job 3: exit 7" in result.stderr
    shown = [line for line in result.stderr.splitlines() if line.startswith("  | ")]
    assert len(shown) == 30
    assert shown[-1] == "  | broken clip 3"


def test_killed_job_is_explained(run):
    result = run("x.log", "bash", "-c", "kill -9 $$")
    assert result.returncode == 1
    assert "exit 137, likely out of memory" in result.stderr


@pytest.mark.parametrize("code", [2, 3, 4, 99])
def test_meaningful_codes_are_passed_on(run, code):
    assert run("JOB=1:2", "x.JOB.log", "bash", "-c", f"exit {code}").returncode == code
    assert run("JOB=1:2", "y.JOB.log", "bash", "-c", f"exit $(( JOB == 1 ? {code} : 1 ))").returncode == 1


def test_absent_command(run):
    result = run("x.log", "no-such-command")
    assert result.returncode == 1
    assert "exit 127, command not found" in result.stderr
    assert (run.folder / "x.log").read_text().endswith("\n")


def test_status_and_usage_for_a_driver(run):
    environ = {**os.environ, "ESPNET_AV_STATUS": "failed", "ESPNET_AV_USAGE": "usage"}
    script = "x = bytearray(60_000_000)\nimport sys, time\nb = time.process_time()\n" \
        "while time.process_time() - b < 0.3: pass\nsys.exit(JOB - 1)"  # fmt: skip
    result = run("JOB=1:2", "x.JOB.log", sys.executable, "-c", script, env=environ)
    assert result.returncode == 1
    assert (run.folder / "failed").read_text() == "1\t2\t2\tx.2.log\t\n"
    assert "last lines" not in result.stderr  # the driver shows them
    for line in (run.folder / "usage").read_text().splitlines():
        _, wall, cpu, peak, _, _ = line.split("\t")
        assert float(wall) >= float(cpu) * 0.5 > 0.1
        assert 60 < float(peak) < 300


def test_at_most_n_jobs_at_a_time(run):
    script = "echo start >>seen; sleep 0.15; echo end >>seen"
    run("--max-jobs-run", "1", "JOB=1:3", "x.JOB.log", "bash", "-c", script)
    assert (run.folder / "seen").read_text().split() == ["start", "end"] * 3


def test_stdin_is_empty(run):
    result = run("x.log", "cat", input="would wait for more")
    assert result.returncode == 0
    assert "would wait" not in (run.folder / "x.log").read_text()


def test_tee_shows_the_output_without_the_header(run):
    assert run("--tee", "x.log", "echo", "hello").stdout == "hello\n"


def test_progress_shows_progress_lines_only(run):
    lines = [
        "12:00:00 INFO espnet_av.utils.progress: format: 3/9 clips in 00:00:20 (0.1/s, 00:01:00 left)",
        "12:00:00 INFO espnet_av.data.x: loading",
        "[host] 2026-01-01 12:00:00,123 (trainer:99) INFO: epoch 1/3, step 4, 2.0/s, 00:00:10 left",
        "12:00:00 WARNING other: noise",
    ]
    result = run("--progress", "x.log", "printf", "%s\\n", *lines)
    assert result.stdout.splitlines() == [
        "  format: 3/9 clips in 00:00:20 (0.1/s, 00:01:00 left)",
        "  epoch 1/3, step 4, 2.0/s, 00:00:10 left",
    ]


def test_gpus_are_handed_out(run):
    script = "echo gpu=$CUDA_VISIBLE_DEVICES >>seen; sleep 0.2"
    result = run("--gpu", "1", "--gpus", "4,7", "--max-jobs-run", "9", "JOB=1:4", "x.JOB.log", "bash", "-c", script)
    assert result.returncode == 0
    assert sorted((run.folder / "seen").read_text().split()) == ["gpu=4", "gpu=4", "gpu=7", "gpu=7"]


def test_more_gpus_than_there_are(run):
    result = run("--gpu", "2", "--gpus", "0", "x.log", "true")
    assert result.returncode == 4
    assert "--ngpu 0" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_leaves_no_orphans(run, number):
    token = f"31{number.value}.5"
    command = [run.tool, "JOB=1:2", "x.JOB.log", "bash", "-c", f"sleep {token} & sleep {token}"]
    runner = subprocess.Popen(command, cwd=run.folder)
    wait_until(lambda: len(processes_with(token)) == 4)
    runner.send_signal(number)
    assert runner.wait(timeout=20) == 128 + number
    wait_until(lambda: not processes_with(token))


def test_job_that_ignores_sigterm_is_killed_with_what_left_its_session(run):
    script = "trap '' TERM; setsid sleep 321.5 & while :; do sleep 0.1; done"
    runner = subprocess.Popen([run.tool, "--grace", "0.5", "x.log", "bash", "-c", script], cwd=run.folder)
    wait_until(lambda: processes_with("321.5"))
    runner.terminate()
    assert runner.wait(timeout=20) == 143
    wait_until(lambda: not processes_with("321.5"))


@pytest.mark.skipif(sys.platform != "linux", reason="Linux ends children with their parent")
def test_runner_killed_hard_takes_its_job_along(run):
    runner = subprocess.Popen([run.tool, "x.log", "sleep", "322.5"], cwd=run.folder)
    wait_until(lambda: len(processes_with("322.5")) == 2)  # the runner has the word, too
    runner.kill()
    assert runner.wait() == -signal.SIGKILL
    wait_until(lambda: not processes_with("322.5"))
    assert "# Ended" not in (run.folder / "x.log").read_text()  # nobody was left to write it


def test_saved_state_on_sigterm_gives_the_requeue_code(run):
    script = "trap 'echo saved; exit 99' TERM; touch ready; while :; do sleep 0.05; done"
    runner = subprocess.Popen([run.tool, "x.log", "bash", "-c", script], cwd=run.folder)
    wait_until((run.folder / "ready").exists)
    runner.terminate()
    assert runner.wait(timeout=20) == 99
    assert "saved" in (run.folder / "x.log").read_text()


@pytest.mark.parametrize("name", ["run.pl"])
def test_known_names(run, name):
    assert run("x.log", "true", program=name).returncode == 0


@pytest.mark.parametrize("name", ["run", "slurm", "run.pl", "slurm.pl"])
def test_help(run, name):
    result = run("--help", program=name)
    assert result.returncode == 0
    assert "JOB=1:N" in result.stdout


# ------------------------------------------------------------------------------------------------ torchrun


def start_torchrun(run, script: str) -> subprocess.Popen:
    pytest.importorskip("torch")
    command = [run.tool.with_name("torchrun"), "2", "bash", "-c", script]
    (run.folder / "scratch").mkdir()
    environ = {**os.environ, "ESPNET_AV_PYTHON": sys.executable, "TMPDIR": str(run.folder / "scratch")}
    return subprocess.Popen(
        command,
        cwd=run.folder,
        env=environ,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(("first", "code"), [(99, 99), (1, 1)])
def test_torchrun_passes_the_requeue_code_on_when_all_saved(run, first, code):
    script = (
        f"trap 'exit $((RANK == 0 ? {first} : 99))' TERM; [ $WORLD_SIZE = 2 ] && touch ready.$RANK; "
        "while :; do sleep 0.05; done"
    )
    process = start_torchrun(run, script)
    wait_until(lambda: (run.folder / "ready.0").exists() and (run.folder / "ready.1").exists(), 60)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(timeout=60) == code
    assert not list((run.folder / "scratch").iterdir())


def test_torchrun_that_ends_by_itself(run):
    assert start_torchrun(run, "exit 0").wait(timeout=60) == 0
    assert not list((run.folder / "scratch").iterdir())


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), ([], 2), (["0", "true"], 2), (["2"], 2)])
def test_torchrun_usage(run, words, code):
    result = run(*words, program="torchrun")
    assert result.returncode == code
    assert "N COMMAND" in result.stdout
