# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Rules for all shell scripts of the project, and the small sourced files."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LISTED = subprocess.run(
    ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard"],
    capture_output=True,
    text=True,
    check=False,
).stdout.split("\n")


def is_bash(path: Path) -> bool:
    """Return whether a file is a shell script, by its suffix or its first line."""
    if path.suffix == ".sh":
        return path.is_file()
    if path.suffix not in ("", ".pl") or not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(19) == b"#!/usr/bin/env bash"


SCRIPTS = [name for name in LISTED if name and is_bash(ROOT / name)]
SOURCED = (
    "training.sh",
    "model_stages.sh",
    "options.sh",
    "policy.sh",
    "parts.sh",
    "systems.sh",
    "parse_options.sh",
    "common.sh",
    "stages.sh",
    "path.sh",
)


def test_there_are_scripts():
    assert {"utils/common.sh", "utils/torchrun", "utils/run.pl", "egs/mini_av/avsr/run.sh"} <= set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_syntax(name):
    result = subprocess.run(["bash", "-n", ROOT / name], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_shellcheck_finds_nothing():
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("no shellcheck; bash tools/install.sh brings it")
    result = subprocess.run(
        [program, "-x", "-e", "SC1091", *SCRIPTS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_habits(name):
    text = (ROOT / name).read_text()
    code = [line.split(" #")[0] for line in text.splitlines() if not line.lstrip().startswith("#")]
    assert not [line for line in code if re.search(r"(^|[;&|({!]|\bthen|\bdo|\belse)\s*eval\s", line)], "eval runs data"
    assert not [line for line in code if "perl" in line.split()], "no perl"
    if Path(name).name not in SOURCED and not name.endswith(".pl"):
        assert "set -euo pipefail" in text
    if not text.startswith("# shellcheck"):
        assert text.startswith("#!/usr/bin/env bash\n")


@pytest.mark.parametrize("name", [name for name in SCRIPTS if Path(name).name == "run.sh"])
def test_run_scripts_are_thin(name):
    assert len((ROOT / name).read_text().splitlines()) <= 60
    assert not (ROOT / name).is_symlink()


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name.startswith("egs/TEMPLATE") and name.count("/") == 3])
def test_drivers_are_short(name):
    assert len((ROOT / name).read_text().splitlines()) <= 250


# ------------------------------------------------------------------------------------------------ path.sh, preflight.sh


def bash(script: str, folder: Path, **environ: str) -> subprocess.CompletedProcess:
    ours = ("ESPNET_AV", "CONDA", "VIRTUAL_ENV", "PYTHONPATH")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return subprocess.run(
        ["bash", "-euc", script], cwd=folder, env={**clean, **environ}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


@pytest.fixture()
def checkout(tmp_path):
    """A checkout without an environment."""
    shutil.copytree(ROOT / "utils", tmp_path / "checkout" / "utils", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "checkout"


def make_venv(folder: Path) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    return folder


def test_path_takes_the_named_environment(checkout):
    venv = make_venv(checkout.parent / "my venv")
    result = bash('. utils/path.sh; command -v python; echo "${PYTHONPATH}"', checkout, ESPNET_AV_VENV=str(venv))
    assert result.stdout.splitlines() == [f"{venv}/bin/python", str(checkout)]


def test_path_takes_the_own_environment_before_an_active_one(checkout):
    make_venv(checkout / "tools" / "venv")
    active = make_venv(checkout.parent / "active")
    (active / "lib" / "python3.11" / "site-packages" / "torch").mkdir(parents=True)
    shown = "unset PYTHONPATH; . utils/path.sh; command -v python"
    assert bash(shown, checkout, VIRTUAL_ENV=str(active)).stdout.strip() == f"{checkout}/tools/venv/bin/python"
    shutil.rmtree(checkout / "tools")
    assert bash(shown, checkout, VIRTUAL_ENV=str(active)).stdout.strip() == f"{active}/bin/python"
    assert bash(shown, checkout, CONDA_PREFIX=str(active)).stdout.strip() == f"{active}/bin/python"


def test_path_without_an_environment(checkout):
    result = bash(". utils/path.sh; echo alive", checkout)
    assert result.returncode == 4
    assert f"fix: bash {checkout}/tools/install.sh" in result.stderr
    assert "alive" not in result.stdout


def test_path_with_a_wrong_name(checkout):
    result = bash(". utils/path.sh", checkout, ESPNET_AV_VENV="/nowhere")
    assert result.returncode == 4
    assert "ESPNET_AV_VENV=/nowhere has no bin/python" in result.stderr


def test_path_puts_the_checkout_first_and_only_once(checkout):
    venv = make_venv(checkout.parent / "venv")
    script = '. utils/path.sh; . utils/path.sh; echo "${PYTHONPATH}"; echo "${PATH}" | tr ":" "\\n" | grep -c venv/bin'
    result = bash(script, checkout, ESPNET_AV_VENV=str(venv), PYTHONPATH="/other", PATH="/usr/bin:/bin")
    assert result.stdout.splitlines() == [f"{checkout}:/other", "1"]


def test_preflight_names_versions_and_disk():
    result = bash("utils/preflight.sh", ROOT, ESPNET_AV_PYTHON=sys.executable)
    assert result.returncode == 0, result.stderr
    assert "versions: python " in result.stdout
    assert "free disk: " in result.stdout


def test_preflight_wants_disk():
    result = bash("utils/preflight.sh 0 999999999", ROOT, ESPNET_AV_PYTHON=sys.executable)
    assert result.returncode == 4
    assert "less than 999999999 GB free" in result.stderr


def test_preflight_wants_gpus():
    result = bash("utils/preflight.sh 99", ROOT, ESPNET_AV_PYTHON=sys.executable)
    assert result.returncode == 4
    assert "--ngpu 99 was asked for" in result.stderr


def test_new_recipe_needs_no_environment():
    result = bash("utils/new_recipe.sh mini_av/avsr", ROOT, PATH="/usr/local/bin:/usr/bin:/bin")
    assert result.returncode == 2
    assert "the recipe exists" in result.stderr


def test_source_tables_are_those_that_lie_there(tmp_path):
    (tmp_path / "kaldi" / "a").mkdir(parents=True)
    (tmp_path / "kaldi" / "a" / "wav.scp").touch()
    script = (
        f". '{ROOT}/utils/common.sh'; here='{tmp_path}' unset='' recipe_roots=(here unset) source_tables=(old); "
        'recipe_source_tables "*.scp" "kaldi/*/wav.scp"; printf "%s\\n" "${source_tables[@]}"'
    )
    result = bash(script, tmp_path)
    assert result.stdout.splitlines() == [f"{tmp_path}/kaldi/*/wav.scp"], result.stderr


def test_a_training_whose_files_are_gone_needs_no_place_aside(tmp_path):
    script = f". '{ROOT}/utils/training.sh'; say() {{ printf '%s\\n' \"$*\"; }}; exp='{tmp_path}/gone'; set_aside"
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "taken"), [("tag", True), ("clips", True), ("seeds", True), ("cat_names", False)])
def test_an_option_of_a_recipe_is_no_variable_of_its_driver(tmp_path, name, taken):
    driver = str(ROOT / "egs" / "TEMPLATE" / "activesep" / "activesep.sh")
    words = ["--called_as", "run.sh", str(tmp_path), "0", "--recipe_option", name, "", "how", "--help"]
    done = subprocess.run(["bash", driver, *words], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == (2 if taken else 0), done.stderr
    assert (f"--recipe_option {name}: the driver has a variable of that name" in done.stderr) == taken
