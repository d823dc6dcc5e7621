# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What it costs to start: CPU time of imports, and which heavy packages they pull in."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "torchaudio", "espnet", "espnet2", "cv2", "av", "matplotlib", "scipy", "numpy", "librosa")
LIGHT_MODULES = (
    "espnet_av",
    "espnet_av._espnet",
    "espnet_av.registry",
    "espnet_av.bin.cli",
    "espnet_av.bin.doctor",
    "espnet_av.bin.stage",
    "espnet_av.utils.cli",
    "espnet_av.utils.errors",
    "espnet_av.utils.files",
    "espnet_av.utils.progress",
)


def cpu_seconds(*arguments: str, rounds: int) -> float:
    """Return the CPU time of a Python process, user and system; the smallest of some rounds."""
    times = []
    for _ in range(rounds):
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).resolve().parents[1],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        errors = process.stderr.read().decode()
        process.stderr.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, errors
        times.append(usage.ru_utime + usage.ru_stime)
    return min(times)


def test_import_of_package_is_cheap() -> None:
    """``import espnet_av`` costs less than 0.1 CPU seconds beyond Python itself."""
    bare = cpu_seconds("-c", "pass", rounds=5)
    assert cpu_seconds("-c", "import espnet_av", rounds=5) - bare < 0.1


def test_help_of_program_is_instant() -> None:
    """``espnet-av --help`` costs less than 0.15 CPU seconds beyond Python itself."""
    bare = cpu_seconds("-c", "pass", rounds=5)
    assert cpu_seconds("-m", "espnet_av.bin.cli", "--help", rounds=5) - bare < 0.15


def test_light_modules_import_nothing_heavy() -> None:
    """Package, gateway, registry and utilities import no torch, no ESPnet and no media library."""
    code = "import sys, importlib\n"
    code += f"[importlib.import_module(name) for name in {LIGHT_MODULES!r}]\n"
    code += f"print([name for name in {HEAVY!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("task", ["avsr"])
def test_help_of_training_is_quick(task: str) -> None:
    """``<task>_train --help`` costs at most 3 CPU seconds more than ``import torch``."""
    module = f"espnet_av.bin.{task}_train"
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"no {module} here")
    torch = cpu_seconds("-c", "import torch", rounds=2)
    assert cpu_seconds("-m", module, "--help", rounds=2) - torch < 3.0
