# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from espnet_av.train import checkpoint
from espnet_av.train.checkpoint import (
    CheckpointStore,
    UnsafeCheckpointError,
    differing_keys,
    place_copy,
    read_tensors,
    to_plain,
    write_tensors,
)
from espnet_av.utils.errors import CheckpointError, EnvironmentProblem
from espnet_av.utils.files import sha256_file

ROOT = Path(__file__).resolve().parents[3]


def state(number):
    return {"number": number, "weights": torch.full((5000,), float(number))}


def saved(folder, *numbers):
    store = CheckpointStore(folder)
    for number in numbers:
        store.save(state(number))
    return store


class Payload:
    """An object whose unpickling makes a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_a_state_comes_back_as_it_was(tmp_path):
    value = {
        "a": torch.arange(3),
        "nested": [1, 2.5, None, True, "x", (torch.zeros(0), 2**130)],
        "numpy": [np.float64(0.5), np.int32(3), np.arange(2)],
        3: np.bool_(True),
    }
    CheckpointStore(tmp_path).save(value)
    back = CheckpointStore(tmp_path).load()
    assert torch.equal(back["a"], torch.arange(3)) and back["nested"][:5] == [1, 2.5, None, True, "x"]
    assert back["nested"][5][1] == 2**130
    assert back["numpy"][:2] == [0.5, 3] and torch.equal(back["numpy"][2], torch.arange(2)) and back[3] is True


def test_what_cannot_be_read_back_safely_is_refused_with_its_place():
    with pytest.raises(CheckpointError, match=r"state\['a'\]\[1\] cannot be stored; got 'Path|PosixPath'"):
        to_plain({"a": [1, Path("x")]})


def test_the_previous_checkpoint_is_kept_and_digests_are_those_of_the_files(tmp_path):
    store = saved(tmp_path, 1, 2, 3)
    assert store.load()["number"] == 3
    assert read_tensors(tmp_path / "checkpoint.prev.pth")["number"] == 2
    listed = dict(line.split("  ")[::-1] for line in (tmp_path / "checkpoint.sha256").read_text().splitlines())
    assert listed == {name: sha256_file(tmp_path / name) for name in ("checkpoint.pth", "checkpoint.prev.pth")}
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.prev.pth", "checkpoint.pth", "checkpoint.sha256"]


def damage_cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def damage_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def damage_empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [damage_cut, damage_bit, damage_empty, os.unlink])
def test_a_damaged_checkpoint_falls_back_loudly(tmp_path, caplog, damage):
    saved(tmp_path, 1, 2)
    damage(tmp_path / "checkpoint.pth")
    store = CheckpointStore(tmp_path)
    assert store.load()["number"] == 1
    assert "FALLING BACK to the previous checkpoint" in caplog.text
    store.save(state(5))  # must not put the damaged file over the good one
    assert CheckpointStore(tmp_path).load()["number"] == 5
    assert read_tensors(tmp_path / "checkpoint.prev.pth")["number"] == 1
    damage(tmp_path / "checkpoint.pth")
    assert CheckpointStore(tmp_path).load()["number"] == 1


def test_a_file_without_digests_is_read_if_it_is_whole(tmp_path):
    saved(tmp_path, 1, 2)
    (tmp_path / "checkpoint.sha256").unlink()
    assert CheckpointStore(tmp_path).load()["number"] == 2
    damage_cut(tmp_path / "checkpoint.pth")
    assert CheckpointStore(tmp_path).load()["number"] == 1


def test_nothing_readable_is_an_error_and_nothing_at_all_is_none(tmp_path):
    assert CheckpointStore(tmp_path).load() is None and CheckpointStore(tmp_path).peek("number") is None
    saved(tmp_path, 1, 2)
    damage_cut(tmp_path / "checkpoint.pth")
    damage_cut(tmp_path / "checkpoint.prev.pth")
    with pytest.raises(CheckpointError, match="no checkpoint in .* can be read.*--init_param"):
        CheckpointStore(tmp_path).load()


def test_peek_reads_one_entry(tmp_path):
    store = saved(tmp_path, 1, 2)
    assert store.peek("number") == 2 and store.peek("absent") is None
    damage_cut(tmp_path / "checkpoint.pth")
    assert store.peek("number") == 1


def test_a_hostile_file_is_refused_and_not_run(tmp_path):
    saved(tmp_path, 1, 2)
    target = tmp_path / "pwned"
    torch.save({"number": 3, "weights": Payload(target)}, tmp_path / "checkpoint.pth")
    (tmp_path / "checkpoint.sha256").unlink()
    with pytest.raises(UnsafeCheckpointError, match="was not loaded.*mkdir.*safetensors"):
        CheckpointStore(tmp_path).load()
    with pytest.raises(UnsafeCheckpointError):
        CheckpointStore(tmp_path).peek("number")
    assert not target.exists()


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_checkpoint_and_names_folder_and_space(tmp_path, monkeypatch, function):
    store = saved(tmp_path, 1, 2)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, function, full)
    with pytest.raises(EnvironmentProblem, match=f"checkpoint.pth could not be written.*MiB free in {tmp_path}"):
        store.save(state(3))
    monkeypatch.undo()
    assert CheckpointStore(tmp_path).load()["number"] == 2
    assert not list(tmp_path.glob(".*"))
    store.save(state(4))
    assert CheckpointStore(tmp_path).load()["number"] == 4


def test_a_write_that_the_system_cuts_short(tmp_path):
    saved(tmp_path, 1, 2)
    program = (
        "import resource, sys, torch\n"
        "from espnet_av.train.checkpoint import CheckpointStore\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "store = CheckpointStore(sys.argv[1]); store.load()\n"
        "store.save({'number': 3, 'weights': torch.zeros(1_000_000)})\n"
    )
    assert resource.RLIMIT_FSIZE is not None
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and "EnvironmentProblem: checkpoint.pth could not be written" in done.stderr
    assert f"MiB free in {tmp_path}" in done.stderr
    assert CheckpointStore(tmp_path).load()["number"] == 2
    assert not list(tmp_path.glob(".*"))


def test_other_errors_of_the_system_are_not_called_a_full_disk(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        write_tensors(tmp_path / "x.pth", state(1))


def test_leftovers_of_killed_writers_are_removed(tmp_path):
    store = saved(tmp_path, 1)
    for name in (
        ".checkpoint.pth.abc.tmp",
        ".3epoch.pth.x1.tmp",
        ".valid.acc.best.pth.12.link",
        ".history.jsonl.q.tmp",
    ):
        (tmp_path / name).touch()
    exports = tmp_path / "data"
    exports.mkdir()
    (exports / ".ckpt.3.pth.q1.tmp").touch()
    (exports / "ckpt.2.pth").touch()
    store.remove_leftovers()
    assert not list(tmp_path.glob(".*")) and len(list(exports.iterdir())) == 2
    store.remove_leftovers(exports)
    assert [path.name for path in exports.iterdir()] == ["ckpt.2.pth"]


@pytest.mark.parametrize("links", [True, False])
def test_place_copy_makes_a_real_file(tmp_path, monkeypatch, links):
    def refused(*_):
        raise OSError(errno.EPERM, "no hard links here")

    if not links:
        monkeypatch.setattr(checkpoint.os, "link", refused)
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_text("new")
    target.write_text("old")
    place_copy(source, target)
    place_copy(source, target)
    assert target.read_text() == "new" and not target.is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_differing_keys_are_listed_with_both_values():
    lines = differing_keys({"seed": 1, "same": [1], "old": "x"}, {"seed": 2, "same": [1], "new": "y" * 200})
    assert lines[0].startswith("new: '<absent>' -> 'yyy") and lines[0].endswith("...")
    assert lines[1:] == ["old: 'x' -> '<absent>'", "seed: 1 -> 2"]


def test_long_settings_show_where_they_differ():
    saved = {"conf": {"first": "x" * 90, "sizes": {"width": 3, "depth": 2}}, "name": "y" * 100 + "old" + "z" * 100}
    now = {"conf": {"first": "x" * 90, "sizes": {"width": 4, "depth": 2}}, "name": "y" * 100 + "new" + "z" * 100}
    width, name = differing_keys(saved, now)
    assert width == "conf.sizes.width: 3 -> 4"
    assert "old" in name and "new" in name and len(name) < 200
