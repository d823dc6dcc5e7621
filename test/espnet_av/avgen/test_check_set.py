# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stages 2 to 4a of generation: recordings are checked and dropped with a reason, and get their tokens."""

import json

import avgen_trees
import numpy as np
import pytest
import soundfile

from espnet_av.avgen.check_set import FilterRules, check_set, filter_set, write_sounds
from espnet_av.avgen.token_files import TokenSettings
from espnet_av.avgen.token_set import extract_sets, take_given
from espnet_av.corpora import fifty_hours
from espnet_av.data.data_dir import DataDir
from espnet_av.data.drops import TooManyDropped
from espnet_av.utils.errors import MissingDataError, UsageError

NAMES = tuple(f"l--2024030{number}--0900--ABC123--pilot--Chatsy" for number in range(1, 5))


@pytest.fixture()
def place(tmp_path):
    """A data folder of four recordings; the files lie in ``tmp_path/root``."""
    avgen_trees.make_50h(tmp_path / "root", NAMES, text=True)
    np.savez(tmp_path / "root" / "face_basis.npz", Q=np.eye(2, 256))
    fifty_hours.write_sets(tmp_path / "root", tmp_path / "data")
    return tmp_path


def reasons(path):
    content = json.loads(path.read_text())
    return {uid: reason for reason, entry in content["reasons"].items() for uid in entry["utterances"]}


def change(place, name, function, table):
    path = DataDir(place / "data" / "train").read(table)[name]
    np.save(path, function(np.load(path)))


def test_good_recordings_are_kept(place):
    assert check_set(place / "data" / "train", place / "org") == "4 of 4 kept"
    new = DataDir(place / "org")
    assert new.num_frames() == {name: 60 + 3 * number for number, name in enumerate(NAMES)}
    assert float(new.read("utt2dur")[NAMES[1]]) == pytest.approx(63 / 30)
    assert new.meta["motion_fps"] == 30 and (place / "org" / "face_basis.npz").is_file()
    assert check_set(place / "data" / "train", place / "few", max_recordings=2) == "2 of 2 kept"
    assert sorted(DataDir(place / "few").read("wav.scp")) == [NAMES[0], NAMES[-1]]


def nan_in_face(values):
    values[7, 3] = np.nan
    return values


def mirrored(values):
    values[5, 0, :3] *= -1
    return values


@pytest.mark.parametrize(
    ("table", "function", "reason"),
    [
        ("face.scp", nan_in_face, "not_finite"),
        ("face.scp", lambda face: face[:, 0], "wrong_shape"),
        ("face.scp", lambda face: face[:, :255], "other_width"),
        ("face.scp", lambda face: face.astype(np.int64), "wrong_shape"),
        ("head.scp", mirrored, "not_rotations"),
        ("head.scp", lambda head: 1.1 * head, "not_rotations"),
        ("head.scp", lambda head: head[:-1], "wrong_length"),
        ("head.scp", lambda head: head[:, :2], "wrong_shape"),
        ("tokens.scp", lambda tokens: tokens[:, :-9], "wrong_length"),
        ("tokens.scp", lambda tokens: tokens[..., :28], "wrong_shape"),
        ("other_head.scp", lambda head: head[:, :2], "wrong_shape"),
        ("other_expression.scp", lambda face: face[:-20], "wrong_length"),
    ],
)
def test_bad_arrays(place, table, function, reason):
    change(place, NAMES[1], function, table)
    check_set(place / "data" / "train", place / "org", max_dropped_share=0.25)
    assert reasons(place / "org" / "format_report.json") == {NAMES[1]: reason}
    assert NAMES[1] not in DataDir(place / "org").read("head.scp")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "incomplete"),
        (lambda path: path.write_bytes(b"RIFF"), "unreadable"),
        (lambda path: soundfile.write(path, np.zeros(8000 * 2), 8000), "wrong_rate"),
        (lambda path: soundfile.write(path, np.zeros(48000), 48000), "wrong_length"),
    ],
)
def test_bad_sounds(place, spoil, reason):
    spoil(place / "root" / "audio" / f"{NAMES[2]}.wav")
    check_set(place / "data" / "train", place / "org", max_dropped_share=0.25)
    assert reasons(place / "org" / "format_report.json") == {NAMES[2]: reason}


def test_too_many_bad_recordings_are_an_error(place):
    change(place, NAMES[0], nan_in_face, "face.scp")
    with pytest.raises(TooManyDropped, match="org.format_report.json"):
        check_set(place / "data" / "train", place / "org")
    assert not (place / "org").exists() and NAMES[0] in reasons(place / "org.format_report.json")
    (place / "data" / "train" / "face.scp").unlink()
    with pytest.raises(MissingDataError, match="face.scp"):
        check_set(place / "data" / "train", place / "org")


def test_lost_frames_must_be_frames(place):
    np.save(place / "missing.npy", np.array([60]))
    (place / "data" / "train" / "missing.scp").write_text(f"{NAMES[0]} {place}/missing.npy\n")
    check_set(place / "data" / "train", place / "org", max_dropped_share=0.25)
    assert reasons(place / "org" / "format_report.json") == {NAMES[0]: "bad_missing"}


def test_every_reason_of_the_filter(place):
    np.save(place / "missing.npy", np.arange(40))
    (place / "data" / "train" / "missing.scp").write_text(f"{NAMES[1]} {place}/missing.npy\n")
    change(place, NAMES[2], np.zeros_like, "face.scp")
    path = place / "root" / "audio" / f"{NAMES[3]}.wav"
    loud = soundfile.read(path)[0]
    loud[:, 0] *= 1e-4  # the partner is heard
    soundfile.write(path, loud, avgen_trees.RATE, subtype="FLOAT")
    check_set(place / "data" / "train", place / "org")
    filter_set(place / "org", place / "kept", max_dropped_share=0.75)
    expected = {NAMES[1]: "face_lost", NAMES[2]: "face_still", NAMES[3]: "silent"}
    assert reasons(place / "kept" / "filter_report.json") == expected
    assert list(DataDir(place / "kept").read("wav.scp")) == [NAMES[0]]
    filter_set(place / "org", place / "long", FilterRules(2.05, 2.15, 1.0), max_dropped_share=1)
    found = reasons(place / "long" / "filter_report.json")
    assert found == {NAMES[0]: "too_short", NAMES[2]: "too_long", NAMES[3]: "too_long"}


def test_partners_are_needed_only_for_conversations(place):
    for name in ("other_expression.scp", "other_head.scp"):
        path = place / "data" / "train" / name
        path.write_text("".join(line for line in path.read_text().splitlines(True) if NAMES[0] not in line))
    check_set(place / "data" / "train", place / "org")
    assert filter_set(place / "org", place / "kept") == "4 of 4 kept"
    filter_set(place / "org", place / "kept", FilterRules(participant=True), max_dropped_share=0.25)
    assert reasons(place / "kept" / "filter_report.json") == {NAMES[0]: "no_partner"}


def test_rules_out_of_range():
    with pytest.raises(UsageError, match="--min_sec"):
        FilterRules(3, 2)
    with pytest.raises(UsageError, match="--max_missing_share"):
        FilterRules(max_missing_share=1.5)


def test_sounds_for_trainings(place):
    check_set(place / "data" / "train", place / "org")
    org = DataDir(place / "org")
    org.write_meta({**org.meta, "licence": "CC-BY-NC-4.0"})
    assert write_sounds(place / "org", place / "sound", 16000, with_text=True) == 4
    new = DataDir(place / "sound")
    assert new.meta["licence"] == "CC-BY-NC-4.0" and new.meta["sample_rate"] == 16000
    sound = soundfile.info(new.read("wav.scp")[NAMES[0]])
    assert (sound.samplerate, sound.channels, sound.frames) == (16000, 1, new.num_samples()[NAMES[0]])
    assert new.read("text")[NAMES[0]] == "HELLO THERE" and sound.frames == 32000
    (place / "org" / "text").write_text("")
    with pytest.raises(MissingDataError, match="--token_model"):
        write_sounds(place / "org", place / "none", 16000, with_text=True)


class Counting:
    """An extractor that counts what it is asked for."""

    sample_rate = 16000

    def __init__(self):
        self.calls, self.silence = 0, np.zeros(29, dtype=np.float32)

    def extract(self, wave):
        self.calls += 1
        return np.full((len(wave), (wave.shape[1] - 400) // 320 + 1, 29), self.calls, dtype=np.float32)

    def set_silence(self, vector):
        self.silence = vector

    def measure_silence(self, sounds):
        self.silence = np.full(29, len(list(sounds)), dtype=np.float32)


def test_tokens_are_extracted_once(place):
    check_set(place / "data" / "train", place / "org" / "train")
    where = ([place / "org" / "train"], place / "dump", place / "dump" / "tokens")
    extractor = Counting()
    assert extract_sets(*where, extractor, TokenSettings("a"))[0].endswith("4 of 4 kept")
    assert extractor.calls == 4
    paths = DataDir(place / "dump" / "train").read("tokens.scp")
    assert np.load(paths[NAMES[0]]).shape == (2, 99, 29) and "tokens" in paths[NAMES[0]]
    extract_sets(*where, extractor, TokenSettings("a"))
    assert extractor.calls == 4  # they were there
    report = place / "dump" / "train" / "tokens_report.json"
    before = report.read_text()
    extract_sets(*where, extractor, TokenSettings("b", vad="energy"), measure_silence=True)
    assert report.read_text() != before  # stages that read the folder are done anew
    assert extractor.calls == 8 and np.load(place / "dump" / "tokens" / "silence.npy")[0] == 4
    (place / "root" / "audio" / f"{NAMES[0]}.wav").write_bytes(b"RIFF")
    for path in (place / "dump" / "tokens" / "train").glob("*.npy"):
        path.unlink()
    with pytest.raises(TooManyDropped):
        extract_sets(*where, extractor, TokenSettings("b", vad="energy"))


def test_given_tokens(place):
    check_set(place / "data" / "train", place / "org" / "train")
    path = place / "org" / "train" / "tokens.scp"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if NAMES[3] not in line))
    lines = take_given([place / "org" / "train"], place / "dump", max_dropped_share=0.25)
    assert lines[0].endswith("3 of 4 kept; dropped: no_tokens 1")
    assert len(DataDir(place / "dump" / "train").read("wav.scp")) == 3
    path.unlink()
    with pytest.raises(MissingDataError, match="--token_model wav2vec2"):
        take_given([place / "org" / "train"], place / "dump")
