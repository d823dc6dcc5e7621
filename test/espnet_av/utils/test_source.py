# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A commit says whether, and in what, the code that runs differs from it."""

import subprocess

import pytest

from espnet_av.utils import source
from espnet_av.utils.source import source_commit, split_commit


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with one commit, from which the package seems to run."""
    root = tmp_path / "checkout"
    (root / "espnet_av").mkdir(parents=True)
    (root / "espnet_av" / "layer.py").write_text("one")
    (root / ".gitignore").write_text("*.pyc\n")
    git = ["git", "-C", root, "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(source, "PACKAGE_ROOT", root / "espnet_av")
    return root


def test_changes_are_told_apart(checkout):
    clean = source_commit()
    assert split_commit(clean) == (clean, None) and len(clean) == 12
    seen = {clean}
    for name, text in (("layer.py", "two"), ("layer.py", "three"), ("own.py", "x"), ("own.py", "y")):
        (checkout / "espnet_av" / name).write_text(text)
        seen.add(source_commit())
        assert split_commit(source_commit())[0] == clean and len(split_commit(source_commit())[1]) == 10
    assert len(seen) == 5 and source_commit() == source_commit()
    (checkout / "espnet_av" / "own.py").unlink()
    (checkout / "espnet_av" / "layer.py").unlink()
    assert source_commit() not in seen
    (checkout / "espnet_av" / "layer.py").write_text("one")
    assert source_commit() == clean


def test_what_git_ignores_or_lies_elsewhere_is_no_change(checkout):
    clean = source_commit()
    (checkout / "espnet_av" / "layer.pyc").write_text("")
    (checkout / "notes.txt").write_text("")
    assert source_commit() == clean


def test_without_git(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert source_commit() is None
