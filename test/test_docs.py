# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The pages of the Python interface are written without a complaint."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def build(folder, *modules):
    pytest.importorskip("pdoc")
    command = [sys.executable, "-m", "pdoc", "--docformat", "google"]
    command += ["--no-show-source", "--output-directory", str(folder), *modules]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_page_shows_arguments_and_what_is_raised(tmp_path):
    build(tmp_path, "espnet_av.utils.files")
    page = (tmp_path / "espnet_av/utils/files.html").read_text()
    assert '<h6 id="arguments">Arguments:</h6>' in page and "atomic_write" in page


@pytest.mark.slow
def test_every_module_has_a_page(tmp_path):
    shown = subprocess.run(["make", "-n", "docs"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (line,) = (line for line in shown.splitlines() if "-m pdoc" in line)
    complaints = build(tmp_path, *line.split("build/docs ")[1].split())
    assert "Error importing" not in complaints and "Couldn't import" not in complaints
    pages = {path.relative_to(tmp_path).with_suffix("").as_posix() for path in tmp_path.rglob("*.html")}
    modules = {path.relative_to(ROOT).with_suffix("").as_posix() for path in (ROOT / "espnet_av").rglob("*.py")}
    public = {
        name.removesuffix("/__init__") for name in modules if not Path(name).name.startswith("_") or "__init__" in name
    }
    assert not {name for name in public - pages if "/_" not in name and not name.endswith("__main__")}
