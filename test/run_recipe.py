# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Recipes that run for real in tests, with all their folders in a place of their own."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

EGS = Path(__file__).resolve().parents[1] / "egs"


def run_recipe(
    place: Path, recipe: str, *words: object, environ: Mapping[str, str] | None = None, timeout: float = 1500
) -> subprocess.CompletedProcess:
    """Run a recipe with one job, one thread, and ``data``, ``dump`` and ``exp`` below ``place``.

    Args:
        place: A folder.
        recipe: ``<dataset>/<task>``.
        words: Options.
        environ: Further variables; those of the user that say where corpora lie are not passed on.
        timeout: Seconds.
    """
    command = ["bash", str(EGS / recipe / "run.sh"), "--nj", "1", *map(str, words)]
    for folder in ("data", "dump", "exp"):
        command += [f"--{folder}dir", str(place / folder)]
    clean = {key: value for key, value in os.environ.items() if not key.endswith("_ROOT")}
    variables = {**clean, "ESPNET_AV_MIN_DISK_GB": "0", "OMP_NUM_THREADS": "1", **(environ or {})}
    return subprocess.run(command, capture_output=True, text=True, env=variables, timeout=timeout, check=False)


def output_of(place: Path, recipe: str, *words: object) -> str:
    """Run a recipe, which must succeed, and return what it printed."""
    done = run_recipe(place, recipe, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
