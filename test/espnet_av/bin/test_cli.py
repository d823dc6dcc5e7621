# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The program ``espnet-av``: verbs, tasks, options, and what it says about mistakes."""

import errno
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from espnet_av import __version__
from espnet_av.bin import cli, doctor
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import UsageError


@pytest.fixture(autouse=True)
def keep_argv() -> Iterator[None]:
    """Put back the arguments that a verb replaces."""
    before = sys.argv
    yield
    sys.argv = before


def test_help_and_version(capsys: pytest.CaptureFixture) -> None:
    """Help lists every verb; no verb at all shows the help too."""
    for command in ([], ["--help"], ["help"]):
        assert cli.main(command) == 0
        shown = capsys.readouterr().out
        assert all(verb in shown for verb in cli.VERBS)
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"espnet_av {__version__}\n"


@pytest.mark.parametrize("verb", [name for name, verb in cli.VERBS.items() if "{task}" not in verb.module])
def test_help_of_a_verb(verb: str, capsys: pytest.CaptureFixture) -> None:
    """The help of a verb calls it by its name, and shows values as one would write them."""
    with pytest.raises(SystemExit) as end:
        cli.main([verb, "--help"])
    shown = capsys.readouterr().out
    assert end.value.code == 0 and shown.startswith(f"usage: espnet-av {verb} ")
    assert "PosixPath" not in shown


@pytest.mark.parametrize("verb", ["train", "infer", "score", "eval"])
def test_help_of_a_verb_of_a_task(verb: str, capsys: pytest.CaptureFixture) -> None:
    """The same where the task is a word of its own."""
    with pytest.raises(SystemExit):
        cli.main([verb, "activesep", "--help"])
    assert capsys.readouterr().out.startswith(f"usage: espnet-av {verb} activesep ")


def test_help_names_every_task(capsys: pytest.CaptureFixture) -> None:
    """A task that some verb has is in the help."""
    cli.main(["--help"])
    shown = capsys.readouterr().out.partition("tasks: ")[2]
    assert {task for verb in cli.VERBS.values() for task in verb.tasks} <= set(re.findall(r"\w+", shown))


def test_verb_runs_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb hands its options over, with dashes as underscores, and returns the exit code."""
    seen = []

    def main(options: list[str]) -> int:
        seen.append((options, sys.argv[0]))
        return 7

    monkeypatch.setattr(doctor, "main", main)
    assert cli.main(["doctor", "--problems-only", "--path=a-b", "x-y", "--"]) == 7
    assert seen == [(["--problems_only", "--path=a-b", "x-y", "--"], "espnet-av doctor")]


def test_verbs_with_a_task() -> None:
    """Verbs that each task has on its own take the task as next word."""
    assert cli.find_module(["train", "avsr", "--max-epoch", "3"]) == (
        "espnet_av.bin.avsr_train",
        "espnet-av train avsr",
        ["--max_epoch", "3"],
    )
    assert cli.find_module(["new_recipe"])[0] == "espnet_av.bin.new_recipe"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["docter"], "did you mean 'doctor'?"),
        (["train", "asr"], "did you mean 'avsr'?"),
        (["evaluate", "avss"], "task of 'evaluate'"),
        (["train", "--config", "x.yaml"], "espnet-av train avsr --config x.yaml"),
        (["score"], "espnet-av score avsr --help"),
    ],
)
def test_mistakes(command: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    """An unknown verb or task ends with exit code 2 and the nearest name."""
    assert run_main(cli.main, command) == 2
    assert message in capsys.readouterr().err


def test_verb_without_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb whose module is missing is a clear error; a missing package inside a module is not hidden."""
    monkeypatch.setitem(cli.VERBS, "ghost", cli.Verb("espnet_av.bin.ghost", "nothing"))
    with pytest.raises(UsageError, match="not part of this version"):
        cli.main(["ghost"])
    monkeypatch.setitem(cli.VERBS, "ghost", cli.Verb("no_such_package.module", "nothing"))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["ghost"])


def test_every_verb_has_its_module() -> None:
    """Every verb leads to a module that exists."""
    modules = [verb.module.format(task=task) for verb in cli.VERBS.values() for task in verb.tasks]
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []


def test_installed_program() -> None:
    """The program runs as a module in a process of its own."""
    answer = subprocess.run([sys.executable, "-m", "espnet_av.bin.cli", "fetsh"], capture_output=True, text=True)
    assert answer.returncode == 2 and "did you mean 'fetch'?" in answer.stderr


@pytest.mark.parametrize(
    "main",
    [
        "lambda cmd: sys.stdout.write('line\\n' * 50000) and 0",
        "argparse.ArgumentParser(description='x ' * 9).parse_args",
    ],
)
def test_output_that_nobody_reads(main: str) -> None:
    """A command whose output is no longer read (``| head``) ends without a word, in its work or in its help."""
    code = f"import argparse, sys\nfrom espnet_av.utils.cli import run_main\nsys.exit(run_main({main}, ['--help']))"
    reader, writer = os.pipe()
    os.close(reader)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(writer)
    assert (answer.returncode, answer.stderr) == (141, "")


def test_broken_pipe_of_another_program() -> None:
    """A pipe to a helper program that broke is no end of our output."""

    def main(_: object) -> int:
        raise BrokenPipeError(errno.EPIPE, "ffmpeg has ended")

    with pytest.raises(BrokenPipeError):
        run_main(main)


def test_path_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A place to write that is none is told in one line; an error without a path of the user passes through."""
    (tmp_path / "file").touch()
    assert run_main(lambda _: (tmp_path / "file" / "page.html").write_text("") and 0) == 4
    shown = capsys.readouterr().err
    assert f"error: cannot use {tmp_path}/file/page.html: Not a directory; fix: name another place" in shown

    def main(_: object) -> int:
        raise PermissionError("of something else")

    with pytest.raises(PermissionError):
        run_main(main)


@pytest.mark.parametrize(("ending", "code"), [("return 3", 3), ("raise SystemExit(99)", 99), ("pass", 0)])
def test_one_of_several_processes_ends_without_taking_python_apart(ending, code):
    """Threads of PyTorch's process groups that ask for the interpreter at that time abort the process."""
    program = f"""
import atexit, sys, threading, time, torch.distributed
from espnet_av.utils.cli import run_main
class Tail:
    def __del__(self):
        sys.stderr.write("taken apart")
tail = Tail()
tail.itself = tail
def main(words):
    atexit.register(lambda: sys.stdout.write("at the end"))
    sys.stdout.write("worked, ")
    {ending}
sys.exit(run_main(main))
"""
    environ = {**os.environ, "RANK": "1", "WORLD_SIZE": "2"}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (code, "worked, at the end", "")
    alone = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (alone.returncode, alone.stdout, alone.stderr) == (code, "worked, at the end", "taken apart")
