# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A folder is whole or absent."""

import os
from pathlib import Path

import pytest

from espnet_av.utils.folders import atomic_folder, remove_leftovers


def test_replaces_the_older_folder_as_a_whole(tmp_path):
    target = tmp_path / "set"
    for name in ("first", "second"):
        with atomic_folder(target) as folder:
            (folder / name).write_text(name)
            assert target.exists() == (name == "second")
    assert [path.name for path in target.iterdir()] == ["second"]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_an_error_leaves_the_older_folder(tmp_path):
    target = tmp_path / "set"
    with atomic_folder(target) as folder:
        (folder / "good").write_text("good")
    with pytest.raises(RuntimeError), atomic_folder(target) as folder:
        (folder / "bad").write_text("bad")
        raise RuntimeError
    assert [path.name for path in target.iterdir()] == ["good"]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_leftovers_of_killed_runs_go(tmp_path):
    (tmp_path / ".set.abc.tmp").mkdir()
    (tmp_path / ".other.abc.tmp").mkdir()
    remove_leftovers(tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == [".other.abc.tmp"]


def test_what_killed_runs_left_goes_with_the_next_run(tmp_path):
    (tmp_path / ".pack.abc.tmp" / "new").mkdir(parents=True)
    (tmp_path / ".pack.abc.tmp" / "new" / "weights").write_text("half")
    (tmp_path / ".other.abc.tmp").mkdir()
    with atomic_folder(tmp_path / "pack") as first:
        (first / "weights").write_text("whole")
        with atomic_folder(tmp_path / "pack"):  # another process at the same time
            pass
        assert (first / "weights").read_text() == "whole"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.abc.tmp", "pack"]
    assert (tmp_path / "pack" / "weights").read_text() == "whole"


def test_an_older_folder_stays_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "weights").write_text("old")
    real = os.replace

    def replace(source, target):
        if Path(source).name == "new":
            raise OSError("the disk is gone")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="the disk is gone"), atomic_folder(tmp_path / "pack"):
        pass
    assert (tmp_path / "pack" / "weights").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]
