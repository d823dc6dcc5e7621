# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Sets with planted faults: each is found, named with its measure, and only what is asked for is left out."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from doctor_plants import RATE, as_mp3, clip, faster, later, spoil, write_set

from espnet_av.data.doctor.clips import name_sets, read_clips
from espnet_av.data.doctor.examine import Settings, examine, to_json
from espnet_av.data.doctor.measure import Depth
from espnet_av.data.doctor.units import UnitRules
from espnet_av.data.drops import doctor_drops
from espnet_av.data.filter_set import FilterRules, filter_set
from espnet_av.data.video_writer import write_video
from espnet_av.report.doctor_page import write_page
from espnet_av.utils.errors import DataError, MissingDataError, UsageError
from espnet_av.utils.experiment import write_json


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Look into a training and a test set with a fault of every kind."""
    root = tmp_path_factory.mktemp("sets")
    good = {f"a-{number:02d}": clip(number) for number in range(8)}
    test = {f"b-{number:02d}": clip(100 + number) for number in range(6)}
    train = good | {f"a-{name}": clip(200 + number) for number, name in enumerate(FAULTS)}
    train = spoil(train, lambda pair: later(pair, 3), "a-shift")
    train["a-drift"] = faster(clip(300, 12.0), 1.042)
    train = spoil(train, lambda pair: (np.clip(20 * pair[0], -1, 1), pair[1]), "a-clipped")
    train = spoil(train, lambda pair: (0 * pair[0], pair[1]), "a-silent")
    train = spoil(train, lambda pair: (pair[0], pair[1][np.arange(75) // 2 * 2]), "a-frozen")
    train = spoil(train, lambda pair: (pair[0], np.repeat(pair[1][:1], 75, axis=0)), "a-still")
    train = spoil(train, lambda pair: (pair[0], np.full_like(pair[1], 9)), "a-blank")
    train = spoil(train, lambda pair: (pair[0][:32000], pair[1]), "a-short")
    train = spoil(train, lambda pair: (0.02 * pair[0], pair[1]), "a-soft")
    train["a-twin"], train["a-again"] = good["a-03"], (0.4 * good["a-04"][0][2000:], clip(220)[1][:72])
    train["a-dubbed"] = (clip(221)[0], good["a-05"][1])
    train["a-leak"] = (0.3 * as_mp3(test["b-02"][0])[1500:], test["b-02"][1][:72])
    write_set(root / "train", train, {"a-fast": "LETTERS " * 20, "a-mute": ""})
    write_set(root / "test", test, {"b-01": "HUÜM"})
    cut = root / "train_media" / "a-cut.flac"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    result = examine([root / "train", root / "test"])
    return root, result, {(f.set_name, f.utt, f.kind): f for f in result.findings}


FAULTS = ("shift", "clipped", "silent", "frozen", "still", "blank", "short", "cut", "fast", "mute", "soft")
PLANTED = {
    *(("train", f"a-{utt}", kind) for utt, kind in (("shift", "av_offset"), ("drift", "av_drift"))),
    *(("train", f"a-{utt}", kind) for utt, kind in (("clipped", "clipped"), ("silent", "silent"))),
    *(("train", f"a-{utt}", kind) for utt, kind in (("frozen", "repeated_frames"), ("still", "no_lip_motion"))),
    *(("train", f"a-{utt}", kind) for utt, kind in (("blank", "blank_video"), ("short", "length_mismatch"))),
    *(("train", f"a-{utt}", kind) for utt, kind in (("cut", "unreadable"), ("fast", "speaking_rate"))),
    *(("train", f"a-{utt}", kind) for utt, kind in (("mute", "empty_text"), ("soft", "loudness"))),
    *(("train", f"a-{utt}", kind) for utt, kind in (("twin", "duplicate"), ("again", "near_duplicate"))),
    *(("train", f"a-{utt}", kind) for utt, kind in (("dubbed", "duplicate_video"), ("leak", "leak"))),
    ("test", "b-01", "unknown_units"),
}


def test_every_planted_fault_is_found(found):
    assert PLANTED - set(found[2]) == set()


def test_good_clips_are_left_alone(found):
    """Nothing is said of a clip without a fault."""
    known = {utt for _, utt, _ in PLANTED} | {""}
    assert [key for key in found[2] if key[1] not in known] == []


def test_findings_say_what_and_how_much(found):
    _, result, findings = found
    said = re.match(r"the sound comes ([\d.]+) frames after the lips", findings["train", "a-shift", "av_offset"].detail)
    assert float(said[1]) == pytest.approx(3.0, abs=1.0)
    assert "b-02 of test" in findings["train", "a-leak", "leak"].detail
    assert "a-03" in findings["train", "a-twin", "duplicate"].detail
    assert "a-04" in findings["train", "a-again", "near_duplicate"].detail
    assert "-25.0 frames" in findings["train", "a-short", "length_mismatch"].detail
    assert "'Ü'" in findings["test", "b-01", "unknown_units"].detail
    leak = next(pair for pair in result.pairs if pair["kind"] == "leak")
    assert leak["first"] == ["train", "a-leak"] and leak["second"] == ["test", "b-02"]
    assert leak["shift_sec"] == pytest.approx(1500 / RATE, abs=0.02)
    whole = next(group for group in result.groups if group["set"] == "test" and not group["speaker"])
    assert abs(whole["offset_frames"]) < 1


def test_only_damage_is_left_out(found):
    _, result, findings = found
    assert {key[1] for key, finding in findings.items() if finding.drop} == {"a-cut", "a-silent"}
    assert result.num_dropped() == 2


def test_filter_takes_what_is_dropped(found, tmp_path):
    """Stage 3 leaves out what the doctor says, with its reason, and keeps what it only warns of."""
    root, result, _ = found
    report = write_json(tmp_path / "doctor.json", to_json(result, Settings()), sort_keys=True)
    rules = FilterRules(keep_empty_text=True, check_media=False, max_drift_frames=100)
    filter_set(root / "train", tmp_path / "out", rules, doctor_report=report)
    reasons = json.loads((tmp_path / "out" / "filter_report.json").read_text())["reasons"]
    assert set(reasons) == {"unreadable", "silent"}
    assert reasons["silent"]["utterances"] == {"a-silent": "peak -120 dB of full scale; limit -60 dB"}
    assert doctor_drops(report, root / "test") == {} == doctor_drops(report, tmp_path)
    with pytest.raises(MissingDataError, match="check-data"):
        doctor_drops(tmp_path / "none.json", root / "train")
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(DataError, match="no report"):
        doctor_drops(tmp_path / "bad.json", root / "train")


def test_what_is_dropped_can_be_chosen(tmp_path):
    clips = {f"a-{number}": clip(number) for number in range(3)}
    write_set(tmp_path / "train", clips | {"a-9": clips["a-1"]})
    write_set(tmp_path / "test", spoil(clips, lambda pair: (0 * pair[0], pair[1]), "a-2"))
    folders = [tmp_path / "train", tmp_path / "test"]
    result = examine(folders, Settings(drop=("duplicate", "leak"), train_sets=("train",)))
    dropped = {(f.utt, f.kind) for f in result.findings if f.drop}
    assert dropped == {("a-9", "duplicate"), ("a-9", "leak"), ("a-0", "leak"), ("a-1", "leak")}
    assert not any(f.drop for f in examine(folders, Settings(drop=())).findings)
    assert any(f.drop and f.set_name == "test" for f in examine(folders, Settings(drop_sets=("test",))).findings)
    with pytest.raises(UsageError, match="--train_sets"):
        examine(folders, Settings(train_sets=("trian",)))
    assert len(examine(folders, Settings(max_clips=2)).rows) == 4


def test_result_does_not_depend_on_the_number_of_processes(tmp_path, monkeypatch):
    monkeypatch.setattr("espnet_av.data.parallel.MIN_ITEMS", 2)
    write_set(tmp_path / "train", {f"a-{number}": later(clip(number, 2.0), 3) for number in range(4)})
    alone, together = (to_json(examine([tmp_path / "train"], Settings(nj=nj)), Settings()) for nj in (1, 2))
    for each in (alone, together):
        each.pop("seconds"), each.pop("clips_per_sec")
    assert alone == together


def test_a_token_list_says_what_may_be_said(tmp_path):
    clips = {"a-0": clip(0), "a-1": clip(1)}
    write_set(tmp_path / "train", clips, {"a-0": "A B", "a-1": "A C"})
    (tmp_path / "tokens").write_text("<blank>\n<unk>\nA\nB\n<space>\n<eos>\n")
    for token_type in ("char", "word", "bpe"):
        rules = UnitRules(str(tmp_path / "tokens"), token_type)
        faults = examine([tmp_path / "train"], Settings(units=rules)).findings
        assert [(f.utt, f.kind, "'C'" in f.detail) for f in faults] == [("a-1", "unknown_units", True)]
    with pytest.raises(MissingDataError, match="no token list"):
        examine([tmp_path / "train"], Settings(units=UnitRules(str(tmp_path / "none"))))


def test_folders_of_other_kinds(tmp_path):
    """Mixtures are looked at by talker, a tree of files by folder, and stretches of a recording by segment."""
    mixed = tmp_path / "mixed"
    pairs = [clip(0), clip(1)]
    for name, wave in (("mix", pairs[0][0] + pairs[1][0]), ("s1", pairs[0][0]), ("s2", later(pairs[1], 4)[0])):
        soundfile.write(_made(mixed / f"{name}.wav"), wave, RATE)
        (mixed / f"{name}.scp").write_text(f"m {mixed}/{name}.wav\n")
    for part, (_, mouth) in zip(("s1", "s2"), pairs, strict=True):
        np.save(mixed / f"{part}.npy", mouth)
        (mixed / f"mouth_{part}.scp").write_text(f"m {mixed}/{part}.npy\n")
    (mixed / "utt2spk").write_text("m m\n")
    result = examine([mixed])
    assert [row.clip.part for row in result.rows] == ["mix", "s1", "s2"]
    assert [(f.utt, f.part, f.kind) for f in result.findings] == [("m", "s2", "av_offset")]
    tree = tmp_path / "tree"
    soundfile.write(_made(tree / "anna" / "one.wav"), pairs[0][0], RATE)
    soundfile.write(_made(tree / "anna" / "two.wav"), pairs[0][0], RATE)
    found = examine([tree]).findings
    assert ("anna/two", "duplicate") in {(f.utt, f.kind) for f in found}
    long = tmp_path / "long"
    soundfile.write(_made(long / "r.wav"), np.concatenate([pairs[0][0], 0 * pairs[1][0]]), RATE)
    (long / "wav.scp").write_text(f"r {long}/r.wav\n")
    (long / "segments").write_text("r-1 r 0.0 2.5\nr-2 r 3.5 5.5\n")
    assert [(f.utt, f.kind) for f in examine([long]).findings] == [("r-2", "silent")]
    with pytest.raises(MissingDataError, match="nothing to look at"):
        read_clips(_made(tmp_path / "empty" / "x").parent, "empty")
    with pytest.raises(MissingDataError, match="no folder"):
        name_sets([tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="once"):
        name_sets([tree, tree])


def test_a_wav_file_that_was_cut_is_truncated(tmp_path):
    path = _made(tmp_path / "tree" / "one.wav")
    soundfile.write(path, clip(0)[0], RATE)
    path.write_bytes(path.read_bytes()[:40000])
    assert [f.kind for f in examine([tmp_path / "tree"]).findings] == ["truncated"]


def test_what_was_not_looked_for_is_said(tmp_path):
    """Without a training set nothing is said of leaks but that they were not looked for; named, the set has them."""
    for name in ("foo", "bar"):
        write_set(tmp_path / name, {"a-0": clip(0), f"a-{name}": clip(len(name) + ord(name[0]))})
    folders = [tmp_path / "foo", tmp_path / "bar"]
    found = examine(folders)
    assert found.not_sought == ("unknown_units", "leak")
    assert [note.partition(" (")[0] for note in found.notes] == [
        "not looked for: leak",
        "not looked for: unknown_units",
    ]
    assert to_json(found, Settings())["not_looked_for"] == ["unknown_units", "leak"]
    assert "not looked for: see" in write_page(found, tmp_path / "x.html").read_text()
    named = examine(folders, Settings(train_sets=("foo",)))
    assert named.not_sought == () == tuple(named.notes) and [f.kind for f in named.findings] == ["leak"]
    assert "not looked for: see" not in write_page(named, tmp_path / "x.html").read_text()
    hasty = examine(folders, Settings(train_sets=("foo", "bar"), depth=Depth(sync=False, prints=False)))
    assert hasty.not_sought == ("av_offset", "av_drift", "near_duplicate", "leak")
    assert examine(folders, Settings(train_sets=("foo", "bar"))).not_sought == ("leak",)


def test_a_broken_file_counts_once_and_has_its_own_name(tmp_path):
    """A clip whose sound and pictures cannot be read is one finding; files of one stem are told apart."""
    for name in ("one.mp4", "one.mpg", "a b.mp4", "a_b.mp4", "two.mkv"):
        _made(tmp_path / "clips" / name).write_bytes(b"no clip")
    found = examine([tmp_path / "clips"])
    assert [f.kind for f in found.findings] == ["unreadable"] * 5
    names = {row.clip.utt: Path(row.clip.sound).name for row in found.rows}
    assert names == {
        "a_b.mp4": "a b.mp4",
        "a_b.mp4-1": "a_b.mp4",
        "one.mp4": "one.mp4",
        "one.mpg": "one.mpg",
        "two": "two.mkv",
    }
    assert {f.utt for f in found.findings} == set(names)


def test_what_lossy_coding_hides(tmp_path):
    """Frames repeated to make 30 a second of 25, and a sound clipped 40 times over, behind H.264 and AAC."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for number, name in enumerate(("good", "repeated", "clipped")):
        wave, mouth = clip(number)
        frames = mouth[(np.arange(90) / 1.2).astype(int)] if name == "repeated" else mouth
        wave = np.clip(40 * wave / np.abs(wave).max(), -1, 1) if name == "clipped" else wave
        colour = np.repeat(frames[..., None], 3, axis=-1)
        write_video(folder / f"{name}.mp4", colour, 30 if name == "repeated" else 25, wave, crf=23)
    found = {f.utt: f for f in examine([folder]).findings}
    assert {utt: f.kind for utt, f in found.items()} == {"repeated": "repeated_frames", "clipped": "clipped"}
    assert re.match(r"1\d % of the frames are nearly the one before", found["repeated"].detail)
    assert re.match(r"\d\d % of the samples within 3 dB of the top", found["clipped"].detail)


def test_a_wrong_frame_rate_of_a_whole_set(tmp_path):
    """Pictures of 24 a second that pass for 25: the lengths of sound and video differ by the same ratio."""
    clips = {}
    for number in range(6):
        wave, mouth = clip(number, 2.0 + number)
        clips[f"a-{number}"] = (wave, mouth[: len(mouth) * 24 // 25])
    write_set(tmp_path / "train", clips)
    found = [f for f in examine([tmp_path / "train"]).findings if f.kind == "frame_rate"]
    assert len(found) == 1 and found[0].utt == "" and "25 fps may be 24" in found[0].detail


def _made(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
