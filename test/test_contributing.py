# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The guide to a new recipe in CONTRIBUTING.md, followed word by word in a copy of the checkout."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("\n## A new recipe\n")[1].split("\n## ")[0]
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", GUIDE, re.S) for line in block.splitlines() if line]
TASKS = sorted(path.parent.name for path in ROOT.glob("egs/TEMPLATE/*/new_recipe"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of the checkout without what recipes made."""
    place = tmp_path / "checkout"
    for name in ("espnet_av", "utils", "egs/TEMPLATE"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for conf in ROOT.glob("egs/mini_av/*/conf"):
        shutil.copytree(conf, place / conf.relative_to(ROOT))
        shutil.copy(conf.parent / "run.sh", place / conf.parent.relative_to(ROOT))
    return place


def run(place: Path, command: str) -> str:
    """Run a line of the guide as a reader would, in bash at the top of the checkout."""
    programs = place / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "espnet-av").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m espnet_av.bin.cli "$@"\n')
    (programs / "espnet-av").chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if name != "ESPNET_AV_VENV"}
    environ |= {"PYTHONPATH": str(place), "ESPNET_AV_PYTHON": sys.executable, "ESPNET_AV_MIN_DISK_GB": "0"}
    environ |= {"PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    shell = ["bash", "-euo", "pipefail", "-c", command]
    done = subprocess.run(shell, cwd=place, env=environ, capture_output=True, text=True, timeout=3000, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_guide_makes_a_recipe_of_every_task(checkout: Path) -> None:
    """The first command works for every task that the guide names, and what it makes shows its help and its stages."""
    first = COMMANDS[0]
    assert first.startswith("espnet-av new-recipe --task avsr ")
    named = re.findall(r"`(\w+)`", GUIDE.split("for any task (")[1].split(")")[0])
    assert sorted(named) == TASKS == ["activesep", "avgen", "avsr", "avss", "codec"]
    for task in TASKS:
        shown = run(checkout, first.replace("avsr", task))
        assert f"bash egs/mydata/{task}/run.sh --debug" in shown
        assert "--mydata_root" in run(checkout, f"bash egs/mydata/{task}/run.sh --help")
        for path in (checkout / "egs" / "mydata" / task).rglob("*"):
            assert path.is_dir() or "my_dataset" not in path.read_text(encoding="utf-8").lower(), path


def test_files_that_the_guide_names_exist(checkout: Path) -> None:
    """What the guide tells to change or to remove is there, in the recipe of every task."""
    for task in TASKS:
        folder = checkout / "egs" / "TEMPLATE" / task / "new_recipe" / "local"
        assert {"data.sh", "example.sh"} <= {path.name for path in folder.iterdir()}
        assert "example.sh" in (folder / "data.sh").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_guide_word_by_word(checkout: Path) -> None:
    """All commands of the guide, in order."""
    assert len(COMMANDS) == 5
    for command in COMMANDS:
        run(checkout, command)
    recipe = checkout / "egs" / "mydata" / "avsr"
    assert (recipe / "debug" / "doctor" / "doctor.html").is_file()
    assert list(recipe.glob("debug/exp/*/report.html")) and list(recipe.glob("debug/exp/*/RESULTS.md"))


@pytest.mark.slow
@pytest.mark.parametrize("task", [task for task in TASKS if task != "avsr"])
def test_recipes_of_other_tasks_run_at_once(checkout: Path, task: str) -> None:
    """The first two commands of the guide, for the other tasks."""
    for command in COMMANDS[:2]:
        run(checkout, command.replace("avsr", task))
    assert list((checkout / "egs" / "mydata" / task).glob("debug/exp/*/report.html"))
