# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The record of what a training read is equal for equal data, wherever they lie, and for no others."""

import shutil

import pytest

from espnet_av.data.data_record import data_record


@pytest.fixture
def folder(tmp_path):
    """A data folder of two clips."""
    folder = tmp_path / "train"
    folder.mkdir()
    for name, values in (("wav.scp", "/a/{}.wav"), ("utt2num_samples", "16000"), ("text", "A B")):
        (folder / name).write_text("".join(f"{uid} {values.format(uid)}\n" for uid in ("u1", "u2")))
    (folder / "data.json").write_text("{}")
    return folder


def test_a_copy_is_the_same_also_with_another_stream(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "wav.scp").write_text("u1 /b/u1.wav\nu2 /b/u2.wav\n")
    (other / "lips.scp").write_text("u1 x\nu2 y\n")
    (other / "streams").write_text("lips.scp lips npy\n")
    found = data_record([folder, folder])
    assert (
        found == data_record([str(other)]) and found["clips"] == 2 and len(found["ids"]) == len(found["tables"]) == 12
    )


@pytest.mark.parametrize(("name", "text", "ids"), [("text", "u1 A\nu2 B\n", False), ("wav.scp", "u1 a\nu3 b\n", True)])
def test_other_data_differ(folder, name, text, ids):
    before = data_record([folder])
    (folder / name).write_text(text)
    after = data_record([folder])
    assert before["tables"] != after["tables"] and (before["ids"] != after["ids"]) == ids


def test_folders_of_files(tmp_path):
    (tmp_path / "bell").mkdir()
    (tmp_path / "bell" / "a.wav").write_bytes(b"12")
    (tmp_path / "scene.pkl").write_bytes(b"12")
    seen = [data_record([tmp_path])]
    assert seen[0]["clips"] == 2
    for name, content in (("bell/a.wav", b"123"), ("scene.pkl", b"21"), ("bell/b.wav", b"")):
        (tmp_path / name).write_bytes(content)
        seen.append(data_record([tmp_path]))
    assert len({item["tables"] for item in seen}) == 4 and seen[1]["ids"] == seen[0]["ids"]
    assert data_record([tmp_path / "scene.pkl"])["clips"] == 1
    assert data_record([tmp_path / "nothing"]) == {} and data_record([]) == {}
