# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Downloads that are killed: nothing half fetched is taken, the next call goes on, and nothing is left lying about.

What is downloaded comes from this machine, slowly: a stand-in for apt-get and for pip that copies a file in pieces, and
a hub on a port of its own.
"""

import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fetch_once
from fault_bench import Line, descendants, signal_process
from fetch_once import CONTENT, FILES, NAME

KINDS = {
    "debian": "SIGKILL in apt-get download",
    "wheel": "SIGKILL in pip download",
    "hub": "SIGKILL in a hub's download",
}
LONGEST_SEC = 120.0
SLOW_COPY = """#!/bin/sh
echo call >>"$CALLS"
echo started >"$STARTED"
size=$(($(stat -c %s "$FROM") / 12 + 1))
for piece in 0 1 2 3 4 5 6 7 8 9 10 11; do
  dd if="$FROM" of="$(basename "$FROM")" bs=$size skip=$piece seek=$piece count=1 conv=notrunc 2>/dev/null
  sleep 0.05
done
"""


class Fetching:
    """A source and a cache folder, and calls that fetch.

    Args:
        kind: One of :data:`KINDS`.
        place: An empty folder.
    """

    def __init__(self, kind: str, place: Path, source: str) -> None:
        self.kind, self.place, self.source = kind, place, source
        self.cache, self.started, self.calls = place / "cache", place / "started", place / "calls"
        programs = place / "programs"
        programs.mkdir(parents=True)
        for name in ("apt-get", "slow-copy"):
            (programs / name).write_text(SLOW_COPY)
            (programs / name).chmod(0o755)
        origin = place / ("sounds_1.0_all.deb" if kind == "debian" else "pkg-1.0-py3-none-any.whl")
        if kind == "debian":
            origin.write_bytes(CONTENT)
        elif kind == "wheel":
            with zipfile.ZipFile(origin, "w") as archive:
                archive.writestr("pkg/a.bin", CONTENT)
        self.environ = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "FROM": str(origin)}
        self.environ |= {"CALLS": str(self.calls), "STARTED": str(self.started), "OMP_NUM_THREADS": "1"}
        self.environ |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

    def start(self) -> subprocess.Popen:
        """Start a call, and wait until it has begun to fetch."""
        self.started.unlink(missing_ok=True)
        command = [sys.executable, fetch_once.__file__, self.kind, str(self.cache), self.source]
        process = subprocess.Popen(
            command, env=self.environ, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        while process.poll() is None and not self.started.exists():
            time.sleep(0.005)
        return process

    def end(self, process: subprocess.Popen) -> tuple[int, str]:
        """Wait for the end of a call; return its exit code and what it said."""
        try:
            said = process.communicate(timeout=LONGEST_SEC)[1]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return 124, f"no end after {LONGEST_SEC} s"
        return process.returncode, said.decode(errors="replace")

    def wrong(self) -> list[str]:
        """Return files that have their final name and not their content."""
        wanted = {"sounds_1.0_all.deb": CONTENT, "a.bin": CONTENT, **FILES}
        found = [*self.cache.glob("*"), *self.cache.glob("models--*/snapshots/*/*")]
        return [path.name for path in found if path.name in wanted and path.read_bytes() != wanted[path.name]]

    def whole(self) -> bool:
        """Return whether all is there."""
        if self.kind == "hub":
            names = {path.name for path in self.cache.glob("models--*/snapshots/*/*")}
            return names == set(FILES) and not self.wrong()
        return (self.cache / ("a.bin" if self.kind == "wheel" else "sounds_1.0_all.deb")).is_file() and not self.wrong()

    def litter(self) -> list[str]:
        """Return folders of downloads that are left."""
        return [path.name for path in self.cache.glob(".*") if path.is_dir() and path.name[1:4] in ("apt", "whe")]


@contextmanager
def source_of(kind: str) -> Iterator[str]:
    """Serve what is fetched; give its address."""
    if kind != "hub":
        yield ""
        return
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from fake_hub import Repository, running_hub

    with running_hub() as hub:
        repository = hub.repositories.setdefault(NAME, Repository())
        repository.commit("main", FILES)
        hub.pause_sec = 0.05
        yield hub.address


def kill_fetches(kind: str, place: Path, times: int, dice: random.Random, deadline: float) -> Line:
    """Kill calls at random moments, in rows of up to three; the call after them must end well."""
    line = Line(f"fetch-{kind}", KINDS[kind])
    began, number = time.monotonic(), 0
    with source_of(kind) as source:
        while line.tried < times and not line.lost and time.monotonic() < deadline:
            number += 1
            fetching = Fetching(kind, place / f"{kind}{number}", source)
            for _ in range(min(dice.randint(1, 3), times - line.tried)):
                process = fetching.start()
                time.sleep(dice.uniform(0, 0.6))
                victims = [process.pid, *descendants(process.pid)]
                alone = dice.random() < 0.3
                for pid in victims[:1] if alone else victims:
                    signal_process(pid)
                if process.wait() == 0:
                    line.note("ended before its kill")
                    break
                line.tried += 1
                line.note("the call alone killed" if alone else "all killed")
                line.check(not fetching.wrong(), f"half a file is taken for a whole one: {fetching.wrong()}")
            code, said = fetching.end(fetching.start())
            line.check(code == 0 and fetching.whole(), f"could not go on (exit {code}): {said[-400:]}")
            line.check(not fetching.litter(), f"left lying about: {fetching.litter()}")
    line.seconds = time.monotonic() - began
    return line
