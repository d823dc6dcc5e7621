# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Scoring from files: which belong together, means over pairs, what is counted, bad input."""

import csv
import json

import numpy as np
import pytest
import soundfile

from espnet_av.avss.metrics import measure
from espnet_av.avss.pair_scores import read_scores
from espnet_av.avss.scoring import ScoreOptions, find_items, has_truth, score_set, uses_pit, write_set
from espnet_av.utils.errors import DataError, MissingDataError, UsageError

RATE = 16000
FAST = ScoreOptions(metrics=("si_snr", "si_snri"), pit=False, num_resamples=20)
NAMES = ("a_b", "c_d", "e_f")


def write(path, wave, rate=RATE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, subtype="FLOAT" if path.suffix == ".wav" else None, **options)


@pytest.fixture
def folders(tmp_path):
    """Three mixtures of noises; the voices leak by -20 dB, and the last mixture is longer."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(NAMES):
        voices = 0.1 * rng.standard_normal((2, 3200 if number < 2 else 4800))
        write(tmp_path / "gt" / "mix" / f"{name}.wav", voices.sum(0))
        for index, voice in enumerate(voices):
            write(tmp_path / "gt" / f"s{index + 1}" / f"{name}.wav", voice)
            write(tmp_path / "out" / f"s{index + 1}" / f"{name}.wav", voice + 0.1 * voices[1 - index])
    return tmp_path / "gt", tmp_path / "out"


@pytest.fixture
def data_dir(folders):
    gt, _ = folders
    data = gt.parent / "data" / "test"
    data.mkdir(parents=True)
    for name in ("mix", "s1", "s2"):
        (data / f"{name}.scp").write_text("".join(f"{uid} {gt / name / uid}.wav\n" for uid in NAMES), encoding="utf-8")
    (data / "pair_kind").write_text("a_b other\nc_d same_speaker\ne_f other\n", encoding="utf-8")
    return data


def read(path):
    return soundfile.read(path)[0]


def test_means_are_over_pairs(folders):
    gt, out = folders
    scored = score_set(gt, out, FAST)
    values = [
        measure("si_snr", read(out / voice / f"{uid}.wav"), read(gt / voice / f"{uid}.wav"))
        for uid in NAMES
        for voice in ("s1", "s2")
    ]
    assert scored.row["si_snr"] == pytest.approx(np.mean(values), abs=1e-9)
    assert scored.row["si_snr"] == pytest.approx(20, abs=1)
    assert (scored.row["n_mixtures"], scored.row["n_pairs"], scored.row["n_silent"]) == (3, 6, 0)
    assert (scored.row["set"], scored.row["permutation"], scored.row["right_share"]) == ("gt", "fixed", 1)
    assert scored.row["ci_low"] <= scored.row["si_snri"] <= scored.row["ci_high"]


def test_data_folder_and_kinds(data_dir, folders):
    scored = score_set(data_dir, folders[1], FAST, lips="swapped")
    kinds = scored.row["kinds"]
    assert {kind: kinds[kind]["n_pairs"] for kind in kinds} == {"other": 4, "same_speaker": 2}
    both = 4 * kinds["other"]["si_snri"] + 2 * kinds["same_speaker"]["si_snri"]
    assert scored.row["si_snri"] == pytest.approx(both / 6)
    assert (scored.row["set"], scored.row["lips"]) == ("test", "swapped")


def test_processes_change_nothing(folders):
    gt, out = folders
    assert score_set(gt, out, FAST, nj=2) == score_set(gt, out, FAST)


def test_swapped_voices_and_permutation(folders):
    gt, out = folders
    (out / "s1").rename(out / "s3")
    (out / "s2").rename(out / "s1")
    (out / "s3").rename(out / "s2")
    fixed = score_set(gt, out, FAST).row
    assert fixed["si_snri"] < -10 and fixed["other_si_snri"] > 10 and fixed["right_share"] == 0
    free = score_set(gt, out, ScoreOptions(metrics=("si_snri",), pit=True, num_resamples=0)).row
    assert free["si_snri"] > 10 and free["right_share"] == 1 and free["permutation"] == "pit"


def test_silence_is_counted(folders):
    gt, out = folders
    write(gt / "s2" / "a_b.wav", np.zeros(3200))
    write(out / "s1" / "c_d.wav", np.zeros(3200))
    scored = score_set(gt, out, FAST)
    row = scored.row
    assert (row["n_silent"], row["n_pairs"], row["n_silent_estimates"]) == (1, 5, 1)
    values = [voice.values["si_snr"] for item in scored.mixtures for voice in item.voices if voice.values]
    assert len(values) == 5 and -30.0 in values and row["si_snr"] == pytest.approx(np.mean(values))
    write_set(scored, out)
    with open(out / "scores.csv", encoding="utf-8", newline="") as stream:
        notes = {(line["mixture"], line["voice"]): line["note"] for line in csv.DictReader(stream)}
    assert notes["a_b", "s2"] == "silent reference" and notes["c_d", "s1"] == "silent estimate"
    assert notes["e_f", "s1"] == ""


def test_files(folders):
    gt, out = folders
    scored = score_set(gt, out, ScoreOptions(metrics=("snr", "sd_sdr"), num_resamples=0))
    write_set(scored, out)
    pairs = read_scores(out / "scores.csv")
    assert [(pair.mixture, pair.voice) for pair in pairs] == [(uid, voice) for uid in NAMES for voice in ("s1", "s2")]
    found = [voice.values["si_snri"] for item in scored.mixtures for voice in item.voices]
    np.testing.assert_allclose([pair.values["si_snri"] for pair in pairs], found, atol=1e-6)
    row = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    assert row == scored.row and row["sd_sdr"] == pytest.approx(20, abs=1)


def test_undefined_metrics_are_counted(folders):
    row = score_set(*folders, ScoreOptions(metrics=("pesq_wb",), pit=False, num_resamples=0)).row
    assert row["n_undefined"] == {"pesq_wb": 4}  # of the two mixtures of 0.2 s
    assert 1 <= row["pesq_wb"] <= 4.65


@pytest.mark.parametrize("suffix", [".flac", ".mp3"])
def test_other_sound_files(folders, suffix):
    gt, out = folders
    rng = np.random.default_rng(1)
    for folder in ("gt/mix", "gt/s1", "gt/s2", "out/s1", "out/s2"):
        for path in (gt.parent / folder).iterdir():
            path.unlink()
        write(gt.parent / folder / f"x{suffix}", 0.1 * rng.standard_normal(16000))
    assert score_set(gt, out, FAST).row["n_pairs"] == 2


def test_who_decides_about_permutations(tmp_path):
    auto = ScoreOptions()
    assert uses_pit(tmp_path, auto) and uses_pit(tmp_path, auto, "audio")
    (tmp_path / "infer.json").write_text('{"lips_mode": "own"}', encoding="utf-8")
    assert not uses_pit(tmp_path, auto)
    (tmp_path / "infer.json").write_text('{"task": "avss"}', encoding="utf-8")
    assert uses_pit(tmp_path, auto)
    assert not uses_pit(tmp_path, ScoreOptions(pit=False)) and uses_pit(tmp_path, ScoreOptions(pit="true"), "own")
    (tmp_path / "infer.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="no JSON"):
        uses_pit(tmp_path, auto)


def test_missing_estimates(folders):
    gt, out = folders
    (out / "s2" / "a_b.wav").unlink()
    with pytest.raises(DataError, match="1 of 3 mixtures.*'a_b'.*allow_missing"):
        find_items(gt, out)
    row = score_set(gt, out, ScoreOptions(metrics=("si_snri",), allow_missing=True, num_resamples=0)).row
    assert (row["n_missing"], row["n_mixtures"]) == (1, 2)
    bad = {"reasons": {"unusable": {"count": 1, "utterances": {"a_b": "too short"}}}}
    (out / "bad.json").write_text(json.dumps(bad), encoding="utf-8")
    assert find_items(gt, out)[1] == 1


def test_estimates_of_nothing(folders):
    gt, out = folders
    write(out / "s1" / "x_y.wav", np.ones(100))
    with pytest.raises(DataError, match="no mixture.*x_y"):
        find_items(gt, out)


def test_no_ground_truth(folders):
    gt, out = folders
    assert has_truth(gt)
    for name in ("s1", "s2"):
        for path in (gt / name).iterdir():
            path.unlink()
        (gt / name).rmdir()
    assert not has_truth(gt)
    with pytest.raises(MissingDataError, match="no ground truth"):
        find_items(gt, out)


def test_nothing_there(folders, tmp_path):
    gt, _ = folders
    with pytest.raises(MissingDataError, match="no estimates"):
        find_items(gt, tmp_path)
    with pytest.raises(MissingDataError, match="no mixtures"):
        find_items(tmp_path, gt)


def test_lists_that_differ(folders):
    gt, out = folders
    (gt / "s2" / "a_b.wav").unlink()
    with pytest.raises(DataError, match="s2 and mix.*a_b"):
        find_items(gt, out)
    write(gt / "s2" / "a_b.wav", np.ones(3200))
    write(gt / "s2" / "a_b.flac", np.ones(3200))
    with pytest.raises(DataError, match="two files"):
        find_items(gt, out)


@pytest.mark.parametrize(
    "wave, rate, message",
    [
        (np.ones(3199), RATE, "another length.*3199.*3200"),
        (np.ones((3200, 2)), RATE, "several channels"),
        (np.ones(3200), 44100, "sample rate.*44100"),
        (np.full(3200, np.nan), RATE, "not finite"),
    ],
)
def test_bad_files(folders, wave, rate, message):
    gt, out = folders
    write(out / "s1" / "a_b.wav", wave, rate)
    with pytest.raises(DataError, match=f"s1/a_b.wav.*{message}"):
        score_set(gt, out, FAST)


def test_damaged_file(folders):
    gt, out = folders
    (out / "s1" / "a_b.wav").write_bytes(b"RIFF")
    with pytest.raises(DataError, match="cannot be read"):
        score_set(gt, out, FAST)


def test_wrong_options():
    with pytest.raises(UsageError, match="unknown metric"):
        ScoreOptions(metrics=("sisdr",))
    with pytest.raises(UsageError, match="pit"):
        ScoreOptions(pit="maybe")
    assert ScoreOptions(metrics=("snr",)).metrics == ("si_snri", "snr")
