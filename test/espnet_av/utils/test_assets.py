# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Model files out of wheels: right content or nothing, one download for many askers, clear words offline."""

import hashlib
import os
import subprocess
import threading
import zipfile
from pathlib import Path

import pytest

from espnet_av.bin import fetch_asset as command
from espnet_av.utils import assets
from espnet_av.utils.assets import WheelAsset, cache_dir, cached_asset, fetch_asset
from espnet_av.utils.errors import EnvironmentProblem, UsageError

CONTENT = b"weights of a small model" * 40


def make_asset(name: str = "small.tflite", content: bytes = CONTENT) -> WheelAsset:
    return WheelAsset(
        name=name,
        requirement="pkg==1.0",
        member=f"pkg/{name}",
        sha256=hashlib.sha256(content).hexdigest(),
        num_bytes=len(content),
        licence="Apache-2.0",
        description="a test",
    )


def make_wheel(folder: Path, members: dict[str, bytes]) -> Path:
    wheel = folder / "pkg-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return wheel


@pytest.fixture
def registry(monkeypatch):
    table = {asset.name: asset for asset in (make_asset(), make_asset("other.tflite", b"other"))}
    monkeypatch.setattr(assets, "ASSETS", table)
    monkeypatch.setattr(command, "ASSETS", table)
    return table


@pytest.fixture
def downloads(monkeypatch, registry):
    """Replace pip by a local wheel and count the calls."""
    calls = []

    def fake_pip(asset, folder):
        calls.append(asset.requirement)
        make_wheel(folder, {"pkg/small.tflite": CONTENT, "pkg/other.tflite": b"other"})

    monkeypatch.setattr(assets, "_run_pip", fake_pip)
    return calls


def test_one_download_serves_all_files_of_a_wheel_and_leaves_no_wheel(tmp_path, downloads):
    assert cached_asset("small.tflite", tmp_path) is None
    assert fetch_asset("small.tflite", tmp_path).read_bytes() == CONTENT
    assert fetch_asset("other.tflite", tmp_path).read_bytes() == b"other"
    assert downloads == ["pkg==1.0"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".assets.lock", "other.tflite", "small.tflite"]
    assert cached_asset("small.tflite", tmp_path) == tmp_path / "small.tflite"


def test_a_changed_file_in_the_cache_is_replaced(tmp_path, downloads):
    path = fetch_asset("small.tflite", tmp_path)
    path.write_bytes(CONTENT[:-1] + b"!")
    assert cached_asset("small.tflite", tmp_path) is None
    assert fetch_asset("small.tflite", tmp_path).read_bytes() == CONTENT
    assert len(downloads) == 2


def test_what_killed_calls_left_is_cleared_away(tmp_path, downloads):
    (tmp_path / ".wheel.x1y2").mkdir()
    (tmp_path / ".wheel.x1y2" / "pkg-1.0-py3-none-any.whl").write_bytes(b"half")
    fetch_asset("small.tflite", tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".assets.lock", "other.tflite", "small.tflite"]


def test_many_askers_at_once_download_once(tmp_path, downloads):
    threads = [threading.Thread(target=fetch_asset, args=("small.tflite", tmp_path)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert downloads == ["pkg==1.0"]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"pkg/small.tflite": CONTENT[:-1] + b"!"}, "is not the expected file"),
        ({"pkg/small.tflite": CONTENT + b"more"}, "is not the expected file"),
        ({"../small.tflite": CONTENT}, "cannot read pkg/small.tflite"),
    ],
)
def test_wrong_content_is_refused(tmp_path, registry, members, words):
    wheel = make_wheel(tmp_path, members)
    cache = tmp_path / "cache"
    with pytest.raises(EnvironmentProblem, match=words):
        fetch_asset("small.tflite", cache, wheel=wheel)
    assert not (cache / "small.tflite").exists()


def test_a_file_that_is_no_wheel(tmp_path, registry):
    (tmp_path / "x.whl").write_bytes(b"no archive")
    with pytest.raises(EnvironmentProblem, match=r"use the wheel pkg==1\.0"):
        fetch_asset("small.tflite", tmp_path, wheel=tmp_path / "x.whl")


def test_offline_says_how_to_go_on(tmp_path, registry, monkeypatch):
    def no_network(*args, **kwargs):
        raise subprocess.CalledProcessError(1, args[0], stderr="ERROR: No matching distribution found for pkg==1.0\n")

    monkeypatch.setattr(assets.subprocess, "run", no_network)
    with pytest.raises(EnvironmentProblem, match="No matching distribution") as raised:
        fetch_asset("small.tflite", tmp_path)
    assert "--wheel FILE" in str(raised.value)
    assert raised.value.exit_code == 4


def test_pip_gets_a_list_of_arguments(tmp_path):
    arguments = assets.pip_command(make_asset(), tmp_path)
    assert arguments[1:4] == ["-m", "pip", "download"]
    assert arguments[-1] == "pkg==1.0"
    assert "--no-deps" in arguments
    assert "--only-binary=:all:" in arguments


def test_cache_folder(monkeypatch, tmp_path, repo_root):
    monkeypatch.setenv("ESPNET_AV_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("ESPNET_AV_CACHE")
    if os.access(repo_root / "tools", os.W_OK):
        assert cache_dir() == repo_root / "tools" / "cache"


def test_known_files_are_pinned():
    for asset in assets.ASSETS.values():
        assert len(asset.sha256) == 64
        assert "==" in asset.requirement
        assert asset.licence


def test_command(tmp_path, downloads, capsys):
    assert command.main(["--list", "--cache", str(tmp_path)]) == 0
    assert "small.tflite  absent" in capsys.readouterr().out
    assert command.main(["small.tflite", "--cache", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "small.tflite")
    with pytest.raises(UsageError, match="unknown model file"):
        command.main(["nothing", "--cache", str(tmp_path)])
    with pytest.raises(UsageError, match="no model file named"):
        command.main([])
