# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Lists of noises and rooms: two and three columns, missing files, shared ids."""

import json

import numpy as np
import pytest
import soundfile

from espnet_av.bin import sound_lists
from espnet_av.data.data_dir import read_scp
from espnet_av.utils.errors import DataError, MissingDataError


@pytest.fixture()
def lists(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("n1", "n2", "r1", "r2"):
        soundfile.write(folder / f"{name}.wav", np.full(100, 0.1), 24000)
    lines = {"noise": ["n1", "n2"], "noise_val": ["n2"], "rirs": ["r1"], "rirs_val": ["r2"]}
    for name, ids in lines.items():
        middle = "24000 " if name.startswith("noise") else ""
        (folder / f"{name}.scp").write_text("".join(f"{key} {middle}{folder}/{key}.wav\n" for key in ids))
    return folder


def run(lists, out):
    return sound_lists.main(["--lists_dir", str(lists), "--output_dir", str(out)])


def test_two_columns_come_out(lists, tmp_path):
    assert run(lists, tmp_path / "out") == 0
    assert read_scp(tmp_path / "out" / "noise.scp") == {key: f"{lists}/{key}.wav" for key in ("n1", "n2")}
    about = json.loads((tmp_path / "out" / "sound_lists.json").read_text())
    assert about["noise"]["columns"] == [3] and about["rirs"]["columns"] == [2]
    assert about["noise"]["num_shared_with_validation"] == 1 and about["rirs"]["num_shared_with_validation"] == 0
    assert about["noise"]["rates"] == {"24000": 2}


def test_relative_paths_become_absolute(lists, tmp_path, monkeypatch):
    (lists / "rirs.scp").write_text("r1 data/r1.wav\n")
    monkeypatch.chdir(tmp_path)
    run("data", tmp_path / "out")
    assert read_scp(tmp_path / "out" / "rirs.scp") == {"r1": f"{lists}/r1.wav"}


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, MissingDataError, r"lacks lists of noises or room responses; got \['rirs.scp'\]"),
        ("", DataError, "the list is empty"),
        ("r1 24000 /no/such.wav\n", MissingDataError, "1 of 1 files do not exist"),
        ("r1 cat x |\n", DataError, "commands are not run"),
        ("r1\n", DataError, "has no value"),
    ],
)
def test_bad_lists(lists, tmp_path, content, error, message):
    (lists / "rirs.scp").unlink()
    if content is not None:
        (lists / "rirs.scp").write_text(content)
    with pytest.raises(error, match=message):
        run(lists, tmp_path / "out")
