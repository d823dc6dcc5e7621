# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Debian packages are fetched whole or not at all. Reading them is tested with the corpus, in test_debian_speech.py."""

import fcntl
import hashlib
import os
import threading

import pytest

from espnet_av.corpora import debian_packages
from espnet_av.corpora.debian_packages import DebPackage, fetch_packages
from espnet_av.utils.errors import EnvironmentProblem

CONTENT = b"sound" * 1000
PACKAGE = DebPackage("sounds", "1.0", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), "MIT")
NAME = "sounds_1.0_all.deb"


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """Replace apt-get by a script; return a function that sets it, and notes its calls in the file ``calls``."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (tmp_path / "content").write_bytes(CONTENT)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def become(script):
        (programs / "apt-get").write_text(f"#!/bin/sh\necho call >>'{tmp_path}/calls'\n{script}\n")
        (programs / "apt-get").chmod(0o755)

    become(f"cp '{tmp_path}/content' {NAME}")
    return become


def entries(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ".apt.lock")


def test_a_package_is_fetched_once(tmp_path, apt):
    cache = tmp_path / "cache"
    for _ in range(2):
        assert fetch_packages([PACKAGE], cache)["sounds"].read_bytes() == CONTENT
    assert entries(cache) == [NAME] and (tmp_path / "calls").read_text() == "call\n"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (f"head -c 100 /dev/zero >{NAME}", "is not the expected file"),
        (f"head -c 100 /dev/zero >{NAME}; echo 'E: no network' >&2; exit 100", "E: no network"),
        ("true", "left no single file"),
    ],
)
def test_what_is_wrong_is_not_kept(tmp_path, apt, script, words):
    apt(script)
    with pytest.raises(EnvironmentProblem, match=words):
        fetch_packages([PACKAGE], tmp_path / "cache")
    assert entries(tmp_path / "cache") == []


def test_what_killed_calls_left_is_cleared_away(tmp_path, apt):
    cache = tmp_path / "cache"
    for left in (".apt.x1y2", f".apt.{NAME}"):
        (cache / left).mkdir(parents=True)
        (cache / left / NAME).write_bytes(CONTENT[:100])
    fetch_packages([PACKAGE], cache)
    assert entries(cache) == [NAME]


def test_an_apt_get_that_outlived_its_call_is_waited_for(tmp_path, apt):
    cache = tmp_path / "cache"
    scratch = cache / f".apt.{NAME}"
    scratch.mkdir(parents=True)
    (scratch / NAME).write_bytes(CONTENT[:100])
    with open(cache / ".apt.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        call = threading.Thread(target=fetch_packages, args=([PACKAGE], cache))
        call.start()
        call.join(0.3)
        assert call.is_alive()
        (scratch / NAME).write_bytes(CONTENT)
    call.join(10)
    assert entries(cache) == [NAME] and not (tmp_path / "calls").exists()


def test_apt_get_holds_the_lock(tmp_path, apt, monkeypatch):
    kept = []
    real = debian_packages.subprocess.run
    monkeypatch.setattr(debian_packages.subprocess, "run", lambda *a, **k: kept.append(k["pass_fds"]) or real(*a, **k))
    cache = tmp_path / "cache"
    apt(f"cp '{tmp_path}/content' {NAME}; ls -l /proc/self/fd >'{tmp_path}/open'")
    fetch_packages([PACKAGE], cache)
    assert len(kept) == 1 and ".apt.lock" in (tmp_path / "open").read_text()
