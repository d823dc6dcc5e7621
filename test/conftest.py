# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What all tests share: where golden data and real clips lie, and few threads."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("OMP_NUM_THREADS", "1")


def _shared() -> Path:
    return ROOT.parent / "shared"


@pytest.fixture(scope="session")
def fixtures_dir():
    """Return a function task -> folder of golden data; the test is skipped where there is none."""
    base = Path(os.environ.get("ESPNET_AV_FIXTURES", _shared() / "specs" / "fixtures"))

    def find(task: str) -> Path:
        folder = base / task
        if not folder.is_dir():
            pytest.skip(f"no golden data in {folder}; set ESPNET_AV_FIXTURES")
        return folder

    return find


@pytest.fixture(scope="session")
def shared_data():
    """Return a function name -> folder of real clips; the test is skipped where there is none."""
    base = Path(os.environ.get("ESPNET_AV_TEST_DATA", _shared() / "data"))

    def find(name: str) -> Path:
        folder = base / name
        if not folder.is_dir():
            pytest.skip(f"no real clips in {folder}; set ESPNET_AV_TEST_DATA")
        return folder

    return find


@pytest.fixture(scope="session", autouse=True)
def torchrun_logs(tmp_path_factory):
    """Keep the folders of logs that torchrun makes for each start where pytest removes them."""
    os.environ["PET_LOG_DIR"] = str(tmp_path_factory.mktemp("torchrun"))


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """Return the folder of the checkout."""
    return ROOT
