# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""README, CONTRIBUTING and Makefile agree with what is there."""

import re
import subprocess
from pathlib import Path

import pytest

from espnet_av.bin.stage import STAGES, stages_of

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")


@pytest.fixture(scope="module")
def recipes() -> list[str]:
    """Return all recipes as dataset/task."""
    return sorted(path.parent.relative_to(ROOT / "egs").as_posix() for path in ROOT.glob("egs/*/*/run.sh"))


def _help(script: Path) -> str:
    return subprocess.run(["bash", str(script), "--help"], capture_output=True, text=True, check=True).stdout


def _section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    """Every relative link of a document leads to a file."""
    links = re.findall(r"\]\(([^)#]+)", (ROOT / name).read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_every_recipe_is_listed(recipes: list[str]) -> None:
    """Every recipe has its row in the table of the README, and its own README."""
    table = _section("Tasks and recipes")
    assert recipes
    assert [name for name in recipes if f"`{name}`" not in table] == []
    assert [name for name in recipes if not (ROOT / "egs" / name / "README.md").is_file()] == []


def test_options_of_recipes_exist(recipes: list[str]) -> None:
    """The options that the README describes are options of every run.sh."""
    named = set(re.findall(r"(?<=`)--[a-z_]+", _section("Running a recipe")))
    assert len(named) > 20
    for name in recipes:
        shown = _help(ROOT / "egs" / name / "run.sh")
        assert [option for option in sorted(named) if option not in shown and option != "--help"] == [], name


def test_options_of_the_installer_exist() -> None:
    """The options that the README describes are options of tools/install.sh."""
    named = set(re.findall(r"(?<=[ `])--[a-z-]+", _section("Installing")))
    shown = _help(ROOT / "tools" / "install.sh")
    assert {"--venv", "--conda", "--uv"} <= named
    assert [option for option in sorted(named) if option not in shown] == []


def test_stages_have_one_name(recipes: list[str]) -> None:
    """The stages of the README, of espnet-av stage and of every recipe's --list have the same numbers and names."""
    rows = re.findall(r"\n\| (\d) \| ([a-z]+) \|", _section("Running a recipe"))
    assert {name: int(number) for number, name in rows} == STAGES
    for recipe in recipes:
        command = ["bash", str(ROOT / "egs" / recipe / "run.sh"), "--list"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        listed = dict(re.findall(r"(?m)^(\d)\s+([a-z]+)\s", shown))
        numbers = {name: int(number) for number, name in listed.items()}
        if "evaluate.sh" in (ROOT / "egs" / recipe / "run.sh").read_text(encoding="utf-8"):  # nothing to train on
            assert numbers.items() <= STAGES.items() and "infer" in numbers, recipe
        else:
            assert numbers == stages_of(recipe.split("/")[1]), recipe


def test_make_targets_exist() -> None:
    """Every `make <target>` in a document is a target, and the default shows the list."""
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        named = set(re.findall(r"(?:`|\n)make ([a-z-]+)", text))
        assert named <= targets, name
    shown = subprocess.run(["make", "-C", str(ROOT)], capture_output=True, text=True, check=True).stdout
    assert all(f"make {target} " in shown for target in ("demo", "test", "check", "env", "clean", "bench"))


def test_variables_are_read_somewhere() -> None:
    """Every ESPNET_AV variable of the README is read by the code."""
    sources = [path for folder in ("espnet_av", "utils", "tools", "test") for path in (ROOT / folder).rglob("*.*")]
    sources = [path for path in sources if path.suffix in (".py", ".sh") and "venv" not in path.parts]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources if path != Path(__file__))
    named = set(re.findall(r"ESPNET_AV_[A-Z]+", README))
    assert named and [name for name in sorted(named) if name not in text] == []


def test_ci_runs_make_test() -> None:
    """The check of every change is `make test` and nothing else."""
    lines = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "set -euo pipefail" and lines[-1] == "exec make test" and len(lines) == 3
