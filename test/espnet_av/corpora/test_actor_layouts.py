# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Published recordings of actors: what differs from the layout is found, named and left out."""

import json

import avgen_trees
import numpy as np
import pytest
import soundfile

from espnet_av.corpora import audio2photoreal, fifty_hours
from espnet_av.data.data_dir import DataDir
from espnet_av.data.drops import TooManyDropped
from espnet_av.utils.errors import DataError, MissingDataError

FIRST = avgen_trees.SEGMENTS[0]
SMIRK = "participant/camera01/smirk_outputs"


@pytest.fixture()
def fifty(tmp_path):
    return avgen_trees.make_50h(tmp_path / "50h")


@pytest.fixture()
def person(tmp_path):
    return avgen_trees.make_a2p(tmp_path / "PXB184")


def test_sets_of_the_50h_layout(fifty, tmp_path):
    np.savez(fifty / "face_basis.npz", Q=np.eye(2, 256))
    counts = fifty_hours.write_sets(fifty, tmp_path / "data", licence="CC-BY-NC-4.0")
    assert counts == {"train": 2, "valid": 1, "test": 1}
    train, test = DataDir(tmp_path / "data" / "train"), DataDir(tmp_path / "data" / "test")
    assert sorted(train.read("wav.scp")) == sorted(avgen_trees.SEGMENTS[:2])
    assert list(test.read("tokens.scp")) == [avgen_trees.SEGMENTS[3]]
    assert train.meta["licence"] == "CC-BY-NC-4.0" and (tmp_path / "data" / "face_basis.npz").is_file()
    assert train.has("other_expression.scp") and not train.has("text")


def test_a_partner_may_be_missing_of_some_segments(fifty, tmp_path):
    for part in ("expression", "headpose"):
        (fifty / SMIRK / f"{FIRST}--{part}.npy").unlink()
    fifty_hours.write_sets(fifty, tmp_path / "data")
    train = DataDir(tmp_path / "data" / "train")
    assert FIRST in train.read("wav.scp") and FIRST not in train.read("other_head.scp")


def spoil_mono(root):
    path = root / "audio" / f"{FIRST}.wav"
    soundfile.write(path, soundfile.read(path)[0][:, 0], avgen_trees.RATE)


def spoil_rate(root):
    path = root / "audio" / f"{FIRST}.wav"
    soundfile.write(path, soundfile.read(path)[0], 44100)


def spoil_length(root):
    path = root / "audio" / f"{FIRST}.wav"
    soundfile.write(path, soundfile.read(path)[0][: -5 * avgen_trees.STEP], avgen_trees.RATE)


def spoil_face(root):
    np.save(root / "expression_codes" / f"{FIRST}.npy", np.zeros((60, 255), dtype=np.float32))


def spoil_head(root):
    np.save(root / "headpose" / f"{FIRST}--headpose.npy", np.zeros((59, 3, 4), dtype=np.float32))


def spoil_tokens(root):
    np.save(root / avgen_trees.TOKENS / f"{FIRST}.npy", np.zeros((1, 99, 29), dtype=np.float32))


def spoil_partner(root):
    np.save(root / SMIRK / f"{FIRST}--expression.npy", np.zeros((60, 54), dtype=np.float32))


def spoil_half_partner(root):
    (root / SMIRK / f"{FIRST}--headpose.npy").unlink()


def spoil_array(root):
    (root / "expression_codes" / f"{FIRST}.npy").write_bytes(b"no array")


def lose_head(root):
    (root / "headpose" / f"{FIRST}--headpose.npy").unlink()


def lose_face(root):
    (root / "expression_codes" / f"{FIRST}.npy").unlink()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_mono, "wrong_sound"),
        (spoil_rate, "wrong_sound"),
        (spoil_length, "wrong_length"),
        (spoil_face, "wrong_shape"),
        (spoil_head, "wrong_shape"),
        (spoil_tokens, "wrong_shape"),
        (spoil_partner, "wrong_shape"),
        (spoil_half_partner, "missing_file"),
        (spoil_array, "unreadable"),
        (lose_head, "missing_file"),
        (lose_face, "missing_file"),
    ],
)
def test_a_segment_that_differs_is_left_out(fifty, tmp_path, spoil, reason):
    spoil(fifty)
    with pytest.raises(TooManyDropped, match=r"layout_report\.json.*raise --max_wrong_share"):
        fifty_hours.write_sets(fifty, tmp_path / "data")
    counts = fifty_hours.write_sets(fifty, tmp_path / "data", max_dropped_share=0.3)
    report = json.loads((tmp_path / "data" / "layout_report.json").read_text())
    assert list(report["reasons"]) == [reason] and list(report["reasons"][reason]["utterances"]) == [FIRST]
    assert counts["train"] == 1


@pytest.mark.parametrize("name", ["audio", "expression_codes", "headpose/headpose_normstats/head_qvec_std.npy"])
def test_what_belongs_to_the_whole_must_be_there(fifty, tmp_path, name):
    (fifty / name).rename(tmp_path / "away")
    with pytest.raises(MissingDataError, match=name.rsplit("/", 1)[-1]):
        fifty_hours.check_layout(fifty)


def test_statistics_of_another_size_are_refused(fifty):
    np.save(fifty / SMIRK / "stats" / "expression_max.npy", np.zeros(54))
    with pytest.raises(DataError, match="55 numbers"):
        fifty_hours.check_layout(fifty)


def test_sets_of_audio2photoreal(person, tmp_path):
    assert audio2photoreal.write_sets(person, tmp_path / "data") == {"train": 2, "valid": 2, "test": 4}
    test = DataDir(tmp_path / "data" / "test")
    assert sorted(test.read("wav.scp")) == ["scene05", "scene06", "scene07", "scene08"]
    head, pose = np.load(test.read("head.scp")["scene05"]), np.load(person / "scene05_body_pose.npy")
    np.testing.assert_array_equal(head, pose[:, 12:16])
    assert set(test.read("utt2spk").values()) == {"PXB184"} and test.has("missing.scp")
    assert audio2photoreal.write_sets(person, tmp_path / "b", split="avflow") == {"train": 6, "valid": 2, "test": 2}


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("scene01_missing_face_frames.npy", np.array([46]), "bad_missing"),
        ("scene01_body_pose.npy", np.zeros((46, 103), dtype=np.float32), "wrong_shape"),
        ("scene01_face_expression.npy", np.zeros((45, 256), dtype=np.float32), "wrong_shape"),
    ],
)
def test_a_scene_that_differs_is_named(person, name, values, reason):
    np.save(person / name, values)
    drops = audio2photoreal.check_layout(person).summary()
    assert list(drops["reasons"]) == [reason] and list(drops["reasons"][reason]["utterances"]) == ["scene01"]


def test_a_stray_file_is_a_scene_that_lacks_the_others(person):
    np.save(person / "_face_expression.npy", np.zeros((60, 256), dtype=np.float32))
    assert audio2photoreal.check_layout(person).summary()["reasons"]["missing_file"]["utterances"].keys() == {""}
    with pytest.raises(MissingDataError, match="_audio.wav"):
        audio2photoreal.find_scenes(person)


def test_sound_of_a_scene_has_1600_samples_a_frame(person):
    path = person / "scene02_audio.wav"
    soundfile.write(path, soundfile.read(path)[0][:-1], avgen_trees.RATE)
    assert "wrong_length" in audio2photoreal.check_layout(person).summary()["reasons"]


def test_statistics_of_a_person(person):
    stats = audio2photoreal.read_data_stats(person / "data_stats.pth")
    assert stats["code_mean"].shape == (256,) and stats["audio_std_flat"].size == 1
    (person / "data_stats.pth").unlink()
    with pytest.raises(MissingDataError, match="data_stats.pth"):
        audio2photoreal.check_layout(person)
    with pytest.raises(MissingDataError, match="PXB184"):
        audio2photoreal.check_layout(person.parent)
    with pytest.raises(MissingDataError, match=f"no folder .*NOBODY; allowed: {person.name};"):
        audio2photoreal.check_layout(person.parent / "NOBODY")
