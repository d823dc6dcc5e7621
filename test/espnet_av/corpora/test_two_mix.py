# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The readers of the 2Mix benchmarks, from folders, lists and mixing lists."""

import json

import numpy as np
import pytest
from mixture_trees import CLIPS, PAIRS, make_two_mix, wave, write_json_lists, write_mouth

from espnet_av.corpora import two_mix
from espnet_av.corpora.two_mix import clip_ids
from espnet_av.data.audio_io import read_audio, write_audio
from espnet_av.data.data_dir import DataDir
from espnet_av.data.drops import TooManyDropped
from espnet_av.data.mixture_dir import read_mixtures
from espnet_av.utils.errors import DataError, MissingDataError


def read(root, corpus, output, *words):
    """Run the reader and return its sets."""
    command = ["--corpus", corpus, "--root", root, "--output_dir", output, *words]
    assert two_mix.main([str(word) for word in command]) == 0
    return {name: read_mixtures(output / name) for name in ("train", "valid", "test")}


@pytest.mark.parametrize("corpus", sorted(CLIPS))
def test_folders(tmp_path, corpus):
    root = make_two_mix(tmp_path / "root", corpus)
    sets = read(root, corpus, tmp_path / "data")
    for name, split in (("train", "tr"), ("valid", "cv"), ("test", "tt")):
        mixtures = {mixture.utt: mixture for mixture in sets[name]}
        assert len(mixtures) == 3
        for first, second, level in PAIRS:
            clips = [CLIPS[corpus][first], CLIPS[corpus][second]]
            mixture = mixtures[f"{clips[0]}_{level}_{clips[1]}_-{level}"]
            assert mixture.mouths == tuple(str(root / "mouths" / f"{clip}.npz") for clip in clips)
            assert f"/{split}/s2/" in mixture.sources[1]
    assert "redistributable" in DataDir(tmp_path / "data" / "train").meta["licence"] or corpus != "lrs2"


@pytest.mark.parametrize(
    ("corpus", "stem"),
    [
        ("lrs2", "a_00001_0.5_b_00002"),
        ("lrs3", "Xq62iZyOLY0_00003_2.1_short_00012_-2.1"),
        ("vox2", "id017_01dfn2spqyE_00001_1_id00419_1zffAxBod_c_00018_-1"),
    ],
)
def test_names_that_follow_no_rule(corpus, stem):
    with pytest.raises(DataError, match="names no two clips"):
        clip_ids(stem, corpus)


def test_names_with_many_digits():
    assert clip_ids("Xq6_2iZyOLY_00003_12345_-UUCSKoHeMA_00012_-12345", "lrs3") == CLIPS["lrs3"][1:2] + (
        "-UUCSKoHeMA_00012",
    )
    assert clip_ids("1_00001_-3.25_2_00002_3.25", "lrs2") == ("1_00001", "2_00002")


def test_what_is_missing_is_counted(tmp_path):
    root = make_two_mix(tmp_path / "root", "lrs2")
    (root / "mouths" / f"{CLIPS['lrs2'][2]}.npz").unlink()
    next((root / "audio/wav16k/min/tt/s1").iterdir()).unlink()
    with pytest.raises(TooManyDropped, match="no_mouth"):
        read(root, "lrs2", tmp_path / "data")
    assert json.loads((tmp_path / "data" / "train.prepare_report.json").read_text())["num_dropped"] == 2
    assert not (tmp_path / "data" / "train").exists()


def test_json_lists_of_another_machine(tmp_path):
    root = make_two_mix(tmp_path / "root", "lrs3")
    lists = write_json_lists(root, tmp_path / "lists", "lrs3")
    assert read(root, "lrs3", tmp_path / "data", "--lists_dir", lists) == read(root, "lrs3", tmp_path / "other")
    rows = json.loads((lists / "cv" / "s2.json").read_text())
    (lists / "cv" / "s2.json").write_text(json.dumps(rows[::-1]))
    with pytest.raises(DataError, match=r"mix\.json and s2\.json do not match"):
        read(root, "lrs3", tmp_path / "data", "--lists_dir", lists)


def test_mixing_lists(tmp_path):
    root, lists = tmp_path / "root", tmp_path / "lists"
    lists.mkdir()
    lines = []
    for number, clip in enumerate(CLIPS["lrs2"]):
        write_mouth(root / "mouths" / f"{clip}.npz", number, 75)
        write_audio(root / "main" / f"{clip.replace('_', '/')}.wav", wave(number, 48000), 16000)
    for first, second, level in PAIRS:
        paths = [f"/data/LRS2/main/{CLIPS['lrs2'][number].replace('_', '/')}.wav" for number in (first, second)]
        lines.append(f"{paths[0]} {level} {paths[1]} -{level}\n")
    for split in ("tr", "cv", "tt"):
        (lists / f"mix_2_spk_{split}.scp").write_text("".join(lines))
    mixture = read(root, "lrs2", tmp_path / "data", "--lists_dir", lists)["test"][0]
    mix, *sources = (read_audio(path)[0] for path in (mixture.mix, *mixture.sources))
    assert len(mix) == 32000 and np.array_equal(mix, sources[0] + sources[1])
    ratio = 10 * np.log10(np.sum(sources[0] ** 2) / np.sum(sources[1] ** 2))
    assert ratio == pytest.approx(float(mixture.facts["utt2level"]), abs=0.3)
    (lists / "mix_2_spk_tr.scp").write_text("one two three\n")
    with pytest.raises(DataError, match="line 1 names no mixture"):
        read(root, "lrs2", tmp_path / "data", "--lists_dir", lists)
    (lists / "mix_2_spk_tr.scp").unlink()
    with pytest.raises(MissingDataError, match="not one list of 'tr'"):
        read(root, "lrs2", tmp_path / "data", "--lists_dir", lists)


def test_no_corpus(tmp_path):
    with pytest.raises(MissingDataError, match="no two-speaker mixtures found"):
        read(tmp_path, "lrs2", tmp_path / "data")
    make_two_mix(tmp_path, "lrs2")
    for path in (tmp_path / "mouths").iterdir():
        path.unlink()
    (tmp_path / "mouths").rmdir()
    with pytest.raises(MissingDataError, match="--mouth_dir"):
        read(tmp_path, "lrs2", tmp_path / "data")
