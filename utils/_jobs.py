# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What `run` and `slurm` share: the command line, log files, one job as a process session, last words of a failure.

Standard library only, so that it works before anything is installed.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

EXIT_USAGE = 2
EXIT_BAD_ENVIRONMENT = 4
EXIT_REQUEUE = 99
# Codes that mean the same whoever passes them on: usage, missing or wrong data, bad environment, please requeue.
PASSED_ON = (EXIT_USAGE, 3, EXIT_BAD_ENVIRONMENT, EXIT_REQUEUE)
TAIL_LINES = 30
OWN_LINE = re.compile(r"# (command|directory|host|commit|versions|started|Accounting|Ended)\b|#$")
OPERATORS = re.compile(r"\d?>>?|\d?>&\d|&>>?|<|\||\|\||&&|;")
ARRAY = re.compile(r"([A-Za-z_]\w*)=(?:(-?\d+)(?::(-?\d+))?|([\w.@+-]+(?:,[\w.@+-]+)*))")
MEANINGS = {
    2: "wrong option",
    3: "missing or wrong data",
    4: "bad environment",
    28: "disk full",
    99: "stopped on request with its state saved",
    124: "ran into its time limit",
    126: "command cannot be executed",
    127: "command not found",
    130: "interrupted",
    134: "aborted",
    137: "likely out of memory",
    139: "segmentation fault",
    143: "terminated",
}


class UsageProblem(Exception):
    """A command line that cannot be run."""


@dataclass
class Request:
    """A command line of `run` or `slurm`, checked."""

    words: list[str]
    log: str
    name: str = ""
    jobs: list[str] = field(default_factory=lambda: ["1"])
    options: argparse.Namespace = field(default_factory=argparse.Namespace)

    def log_of(self, job: str) -> Path:
        """Return the log file of one job."""
        return Path(self._fill(self.log, job))

    def log_pattern(self) -> str:
        """Return the log files of all jobs as one pattern for messages."""
        return self.log.replace(self.name, "*") if len(self.jobs) > 1 else str(self.log_of(self.jobs[0]))

    def argv_of(self, job: str) -> list[str]:
        """Return the program and arguments of one job.

        Words are data. Only words that are a shell operator (``|``, ``>``, ``&&`` ...) make it a shell command, and
        then all other words are quoted.
        """
        words = [self._fill(word, job) for word in self.words]
        if self.options.no_shell or not any(OPERATORS.fullmatch(word) for word in self.words):
            return words
        line = " ".join(word if OPERATORS.fullmatch(word) else shlex.quote(word) for word in words)
        return ["bash", "-c", "set -o pipefail; " + line]

    def _fill(self, text: str, job: str) -> str:
        return text.replace(self.name, job) if self.name else text


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every back end takes."""

    def add(name: str, **kwargs: object) -> None:
        dashed = "--" + name.replace("_", "-")
        names = ["--" + name] if dashed == "--" + name else ["--" + name, dashed]
        parser.add_argument(*names, **kwargs)

    add("max_jobs_run", type=int, default=0, metavar="N", help="jobs at a time (default: one per CPU core)")
    add("num_threads", type=int, default=0, metavar="N", help="CPU cores of a job (used by slurm)")
    add("gpu", type=int, default=0, metavar="N", help="GPUs of a job, on each of its nodes")
    add("num_nodes", type=int, default=0, metavar="N", help="nodes of a job, which starts once on each (needs slurm)")
    add("mem", metavar="X", help="memory of a job, such as 8G (used by slurm)")
    add("time", metavar="T", help="time limit of a job, such as 4:00:00 (used by slurm)")
    add("no_shell", action="store_true", help="take |, > and the like as plain words")
    add("progress", action="store_true", help="show the progress lines of the logs")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="[JOB=1:N] LOG COMMAND...")


def parse_request(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> Request:
    """Read a command line.

    Raises:
        UsageProblem: The job range, the log file or the command is wrong or absent.
    """
    options = parser.parse_args(argv)
    rest = list(options.rest)
    name, jobs = "", ["1"]
    array = ARRAY.fullmatch(rest[0]) if rest else None
    if array:
        name, jobs = array[1], read_jobs(array)
        rest = rest[1:]
    if len(rest) < 2:
        raise UsageProblem("expected [JOB=1:N] LOG COMMAND...; --help explains")
    if len(jobs) > 1 and name not in rest[0]:
        raise UsageProblem(f"{len(jobs)} jobs would share the log {rest[0]}; put {name} into its name")
    for option in ("max_jobs_run", "num_threads", "gpu", "num_nodes"):
        if getattr(options, option) < 0:
            raise UsageProblem(f"--{option} takes a number from 0; got {getattr(options, option)}")
    return Request(rest[1:], rest[0], name, jobs, options)


def read_jobs(array: re.Match[str]) -> list[str]:
    """Return what stands for JOB in each job, from ``JOB=1:N``, ``JOB=N`` or ``JOB=name,name``.

    Raises:
        UsageProblem: The range is empty or starts below 1, or a name comes twice.
    """
    if array[4]:
        names = array[4].split(",")
        if len(set(names)) < len(names):
            raise UsageProblem(f"a job comes twice in {array[0]}")
        return names
    first = int(array[2])
    last = int(array[3]) if array[3] else first
    if first < 1 or last < first:
        raise UsageProblem(f"jobs are numbered from 1 upwards; got {array[0]}")
    return [str(number) for number in range(first, last + 1)]


def make_log_folders(request: Request) -> None:
    """Make the folders that the logs go to.

    Raises:
        UsageProblem: A log cannot be written.
    """
    for log in map(request.log_of, request.jobs):
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.exists()  # its name may be too long
            if not os.access(log.parent, os.W_OK | os.X_OK):
                raise PermissionError(0, "no permission to write here", str(log.parent))
        except OSError as error:
            raise UsageProblem(
                f"no log can be written at {log}: {error.filename}: {error.strerror}; fix: name another place for it"
            ) from error


def start_log(path: Path, command: Sequence[str]) -> None:
    """Begin a log file with command, host, commit and versions; an older one is kept under another name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rotate(path)
    head = {
        "command": shlex.join(command),
        "directory": os.getcwd(),
        "host": socket.gethostname(),
        "commit": os.environ.get("ESPNET_AV_COMMIT") or source_commit(),
        "versions": os.environ.get("ESPNET_AV_VERSIONS") or "python " + sys.version.split()[0],
        "started": now(),
    }
    path.write_text("".join(f"# {key}: {value}\n" for key, value in head.items()) + "#\n", encoding="utf-8")


def rotate(path: Path) -> None:
    """Rename an existing file to the first free of ``name.1``, ``name.2``, ..."""
    if path.exists():
        count = 1
        while (older := path.with_name(f"{path.name}.{count}")).exists():
            count += 1
        path.rename(older)


def now() -> str:
    """Return the local time with its zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def source_commit() -> str:
    """Return the short commit of the checkout these tools lie in, or ``unknown``."""
    command = ["git", "-C", str(Path(__file__).resolve().parent), "rev-parse", "--short", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return result.stdout.strip() or "unknown"


class Job:
    """One process with its own session and log file."""

    def __init__(self, name: str, argv: Sequence[str], log: Path, environ: dict[str, str] | None = None) -> None:
        self.name = name
        self.log = log
        self.code: int | None = None
        self.wall_s = self.cpu_s = self.max_rss_mb = 0.0
        start_log(log, argv)
        self.shown = log.stat().st_size
        self._began = time.monotonic()
        self._process: subprocess.Popen | None = None
        with open(log, "ab") as stream:
            try:
                self._process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **(environ or {})},
                    start_new_session=True,
                    preexec_fn=die_with_parent,
                )
            except OSError as error:
                stream.write(f"{argv[0]}: {error.strerror}\n".encode())
                self.code = 127 if isinstance(error, FileNotFoundError) else 126
        if self.code is not None:
            self._end()

    def poll(self) -> bool:
        """Return whether the job has ended, and note its exit code, CPU time and peak memory when it just has."""
        if self.code is not None:
            return True
        process = self._process
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid == 0:
            return False
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
        process.returncode = self.code = code
        self.cpu_s = usage.ru_utime + usage.ru_stime
        self.max_rss_mb = usage.ru_maxrss / (1024.0 if sys.platform != "darwin" else 1024.0**2)
        if code != 0:
            _signal_group(process.pid, signal.SIGKILL)
        self._end()
        return True

    def _end(self) -> None:
        self.wall_s = time.monotonic() - self._began
        with open(self.log, "a", encoding="utf-8") as stream:
            stream.write(
                f"# Accounting: wall {self.wall_s:.1f} s, CPU {self.cpu_s:.1f} s, "
                f"peak memory {self.max_rss_mb:.0f} MB\n"
                f"# Ended (code {self.code}) at {now()}\n"
            )

    def terminate(self) -> None:
        """Ask everything in the session to stop."""
        if self.code is None:
            _signal_group(self._process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End the session and every descendant that left it."""
        if self.code is None:
            family = descendants(self._process.pid)
            _signal_group(self._process.pid, signal.SIGKILL)
            for pid in family:
                _signal(os.kill, pid, signal.SIGKILL)

    def usage_line(self) -> str:
        """Return job, wall seconds, CPU seconds, peak megabytes, exit code and log, separated by tabs."""
        return f"{self.name}\t{self.wall_s:.2f}\t{self.cpu_s:.2f}\t{self.max_rss_mb:.1f}\t{self.code}\t{self.log}\n"


def _signal_group(pid: int, number: int) -> None:
    _signal(os.killpg, pid, number)


def _signal(send: object, pid: int, number: int) -> None:
    try:
        send(pid, number)  # type: ignore[operator]
    except (ProcessLookupError, PermissionError):
        return


def die_with_parent() -> None:
    """Ask Linux to end this process when the one that started it is gone, however it went."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def descendants(pid: int) -> list[int]:
    """Return the processes below ``pid`` (Linux; elsewhere none)."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def explain(code: int) -> str:
    """Return what an exit code usually means, or nothing.

    >>> explain(137)
    'exit 137, likely out of memory'
    """
    meaning = MEANINGS.get(code)
    return f"exit {code}" + (f", {meaning}" if meaning else "")


def tail(path: Path, lines: int = TAIL_LINES) -> list[str]:
    """Return the last lines that a job wrote into its log; none when it cannot be read."""
    try:
        with open(path, "rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 65536))
            text = stream.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line for line in text.replace("\r", "\n").splitlines() if not OWN_LINE.match(line)][-lines:]


def exit_code(codes: Iterable[int]) -> int:
    """Return the code to end with: 0, the one meaningful code that all failures share, or 1."""
    failed = {code for code in codes if code != 0}
    return 0 if not failed else (failed.pop() if len(failed) == 1 and failed <= set(PASSED_ON) else 1)


def on_nodes(argv: Sequence[str], num_nodes: int) -> list[str]:
    """Return a command that starts another one on all nodes of a Slurm job, or that command itself for one node."""
    if num_nodes <= 1:
        return list(argv)
    number = str(num_nodes)
    return [
        "srun",
        f"--nodes={number}",
        f"--ntasks={number}",
        "--ntasks-per-node=1",
        "--kill-on-bad-exit=0",
        "--wait=120",
        *argv,
    ]


def report_failures(
    program: str, request: Request, codes: dict[str, int], causes: dict[str, str] | None = None
) -> None:
    """Say which jobs failed, where the logs are, and show the end of the first failing log.

    Below a recipe driver (``ESPNET_AV_STATUS`` names a file) the facts go into that file, and the driver shows them.

    Args:
        program: Who says it.
        request: The command line.
        codes: Exit codes by job.
        causes: What is known about why a job failed, in words, beyond its code.
    """
    causes = causes or {}
    failed = [job for job in request.jobs if codes.get(job, 0) != 0]
    first = failed[0]
    log = request.log_of(first)
    status = os.environ.get("ESPNET_AV_STATUS")
    if status:
        facts = (codes[first], first, len(request.jobs), log, causes.get(first, ""))
        Path(status).write_text("\t".join(map(str, facts)) + "\n", encoding="utf-8")
        return
    lines = [f"{program}: {len(failed)} / {len(request.jobs)} failed, log is in {request.log_pattern()}"]
    for job in failed[:10]:
        lines.append(
            f"{program}: job {job}: {f'exit {codes[job]}, {causes[job]}' if job in causes else explain(codes[job])}"
        )
    lines += [f"{program}: ... and {len(failed) - 10} more"] if len(failed) > 10 else []
    lines += [f"{program}: last lines of {log}:"] + [f"  | {line}" for line in tail(log)]
    sys.stderr.write("\n".join(lines) + "\n")


# Lines for the screen: those of espnet_av.utils.progress and of the trainer, in our and in ESPnet's log format.
PROGRESS_LINE = re.compile(
    r"^(?:\d\d:\d\d:\d\d INFO espnet_av\.(?:utils\.progress|train\.trainer)|.*\(trainer:\d+\) INFO): (.*)"
)


class Follower:
    """Shows what running jobs write into their logs: all of it, or the progress lines."""

    def __init__(self, everything: bool) -> None:
        self.everything = everything
        self._in_place = sys.stdout.isatty()
        self._open_line = False

    def show(self, job: Job) -> None:
        """Show what is new in the log of a job."""
        with open(job.log, "rb") as stream:
            stream.seek(job.shown)
            new = stream.read()
        if not self.everything:
            new = new[: new.rfind(b"\n") + 1]
        job.shown += len(new)
        text = new.decode("utf-8", errors="replace")
        if self.everything:
            sys.stdout.write("".join(line for line in text.splitlines(True) if not OWN_LINE.match(line)))
        else:
            for line in text.splitlines():
                found = PROGRESS_LINE.match(line)
                if found:
                    self._line(found[1])
        sys.stdout.flush()

    def _line(self, text: str) -> None:
        if self._in_place:
            width = os.get_terminal_size(sys.stdout.fileno()).columns
            sys.stdout.write("\r\033[K  " + text[: max(10, width - 3)])
            self._open_line = True
        else:
            sys.stdout.write(f"  {text}\n")

    def close(self) -> None:
        """End a line that was rewritten in place."""
        if self._open_line:
            sys.stdout.write("\n")
            sys.stdout.flush()
