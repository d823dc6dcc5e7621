# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Any folder of mixtures: with and without ground truth, parts, mouth crops; names with underscores."""

import pytest
import soundfile
from mixture_trees import make_layout, write_mouth

from espnet_av.corpora import avss_layout, two_mix
from espnet_av.data.audio_io import read_audio
from espnet_av.data.data_dir import DataDir
from espnet_av.data.mixture_dir import read_mixtures
from espnet_av.utils.errors import DataError, MissingDataError, UsageError


def read(root, output, *words):
    """Run the reader and return its sets."""
    assert avss_layout.main([str(word) for word in ("--root", root, "--output_dir", output, *words)]) == 0
    return {path.name: read_mixtures(path) for path in sorted(output.iterdir())}


def test_all_parts(tmp_path):
    root = make_layout(tmp_path / "root")
    sets = read(root, tmp_path / "data", "--licence", "CC-BY-4.0")
    assert set(sets) == {"train", "valid", "test"}
    assert [mixture.facts["utt2clips"] for mixture in sets["valid"]] == ["a_1 b", "b c", "c a_1"]
    assert sets["valid"][0].mouths == (str(root / "mouths" / "a_1.npz"), str(root / "mouths" / "b.npz"))
    assert DataDir(tmp_path / "data" / "test").meta["licence"] == "CC-BY-4.0"
    assert set(read(root, tmp_path / "part", "--partition", "val")) == {"valid"}
    with pytest.raises(UsageError, match="no such part"):
        read(root, tmp_path / "part", "--partition", "dev")


def test_without_ground_truth_and_parts(tmp_path):
    root = make_layout(tmp_path / "root", ("",), truth=False)
    (root / "mouths").rename(root / "video")
    mixtures = read(root, tmp_path / "data")["test"]
    assert len(mixtures) == 3 and mixtures[0].sources == () and len(mixtures[0].mouths) == 2
    assert [stream.name for stream in DataDir(tmp_path / "data" / "test").streams] == ["mix"]


def test_without_mouths(tmp_path):
    root = make_layout(tmp_path / "root", ("test",))
    (root / "mouths").rename(root / "elsewhere")
    mixtures = read(root, tmp_path / "data")["test"]
    assert mixtures[0].mouths == () and len(mixtures[0].sources) == 2
    assert read(root, tmp_path / "given", "--mouth_dir", root / "elsewhere")["test"][0].mouths


@pytest.mark.parametrize("suffix", ["flac", "mp3"])
def test_other_kinds_of_files(tmp_path, suffix):
    root = make_layout(tmp_path / "root", ("test",))
    for path in (root / "audio").rglob("*.wav"):
        soundfile.write(path.with_suffix(f".{suffix}"), *read_audio(path))
        path.unlink()
    assert all(mixture.mix.endswith(suffix) for mixture in read(root, tmp_path / "data")["test"])


def test_bad_folders(tmp_path):
    with pytest.raises(MissingDataError, match="no mixtures found"):
        read(tmp_path, tmp_path / "data")
    root = make_layout(tmp_path / "root", ("test",))
    write_mouth(root / "mouths" / "a.npz", 1)
    write_mouth(root / "mouths" / "1_b.npz", 1)
    with pytest.raises(DataError, match="ambiguous_name 1"):
        read(root, tmp_path / "data")
    for path in (root / "audio" / "test" / "s2").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="has s1 alone"):
        read(root, tmp_path / "data")


def test_the_recipes_of_the_benchmarks_read_it_too(tmp_path):
    root = make_layout(tmp_path / "root")
    assert two_mix.main(["--corpus", "lrs2", "--root", str(root), "--output_dir", str(tmp_path / "data")]) == 0
    assert len(read_mixtures(tmp_path / "data" / "train")) == 3
