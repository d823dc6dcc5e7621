# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A folder is whole or absent."""

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
