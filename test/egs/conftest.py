# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A copy of the recipes whose stage commands are stand-ins."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STUB = Path(__file__).with_name("stub_python.py")
PYTHON = f"""#!/usr/bin/env bash
if [[ ${{1-}} == -m ]]; then shift; exec "{sys.executable}" "{STUB}" "$@"; fi
exec "{sys.executable}" "$@"
"""


class Recipe:
    """A copy of the recipes in a folder of its own.

    Args:
        checkout: Where the copy is.
        name: Recipe to run.
    """

    def __init__(self, checkout: Path, name: str = "mini_av/avsr") -> None:
        self.checkout = checkout
        self.folder = checkout / "egs" / name
        self.calls_file = checkout / "calls.jsonl"

    @classmethod
    def make(cls, checkout: Path, name: str = "mini_av/avsr") -> "Recipe":
        """Copy scripts and configurations; the environment is a stand-in."""
        no_data = shutil.ignore_patterns("__pycache__", "data", "dump", "exp", "debug", "downloads")
        shutil.copytree(ROOT / "utils", checkout / "utils", ignore=no_data)
        shutil.copytree(ROOT / "egs", checkout / "egs", ignore=no_data)
        for recipe in (checkout / "egs").glob("*/avsr"):
            for config in ("train.yaml", "infer.yaml"):
                (recipe / "conf").mkdir(exist_ok=True)
                (recipe / "conf" / config).write_text("# a configuration\n")
        python = checkout / "tools" / "venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(PYTHON)
        python.chmod(0o755)
        return cls(checkout, name)

    def copy(self, checkout: Path) -> "Recipe":
        """Return a copy with everything that was made so far."""
        shutil.copytree(self.checkout, checkout, symlinks=True)
        return Recipe(checkout, "/".join(self.folder.parts[-2:]))

    def environ(self, **more: str) -> dict[str, str]:
        """Return the environment of a run."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("ESPNET_AV", "GRID_ROOT"))}
        return {**clean, "STUB_CALLS": str(self.calls_file), "ESPNET_AV_MIN_DISK_GB": "0", **more}

    def command(self, *words: str) -> list[str]:
        """Return the command line of a run; two small test sets unless told otherwise."""
        own = [] if any("--test_sets" in word for word in words) else self.sets()
        return ["bash", "run.sh", *own, *words]

    def sets(self) -> list[str]:
        """Return the options that choose the test sets."""
        mini = "mini_av" in self.folder.parts
        return ["--test_sets", "test_seen test_seen_snr_0_interferer_1" if mini else "test"]

    def run(self, *words: str, cwd: Path | None = None, **environ: str) -> subprocess.CompletedProcess:
        """Run the recipe with an open standard input that nothing is written to."""
        command = self.command(*words)
        command[1] = "run.sh" if cwd is None else os.path.relpath(self.folder / "run.sh", cwd)
        self.calls_file.write_text("")
        reader, writer = os.pipe()
        try:
            return subprocess.run(
                command,
                cwd=cwd or self.folder,
                env=self.environ(**environ),
                stdin=reader,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
        finally:
            os.close(reader)
            os.close(writer)

    def calls(self, name: str | None = None) -> list[list[str]]:
        """Return how the stand-ins were called in the last run: [module, argument, ...]."""
        noted = [json.loads(line) for line in self.calls_file.read_text().splitlines()]
        return [call for call in noted if name in (None, call[0])]

    def names(self) -> list[str]:
        """Return the stand-ins of the last run in order, repeats in a row once."""
        names = [call[0] for call in self.calls()]
        return [name for index, name in enumerate(names) if index == 0 or names[index - 1] != name]


@pytest.fixture()
def recipe(tmp_path):
    """A recipe that has not run."""
    return Recipe.make(tmp_path / "my checkout")


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory):
    """A recipe that has run through, with what it printed."""
    made = Recipe.make(tmp_path_factory.mktemp("finished") / "checkout")
    result = made.run()
    assert result.returncode == 0, result.stdout + result.stderr
    return made, result


@pytest.fixture()
def finished(finished_once, tmp_path):
    """A fresh copy of a recipe that has run through."""
    return finished_once[0].copy(tmp_path / "checkout")
