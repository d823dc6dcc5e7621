# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 1 of the LRAC recipes: both layouts, and what must be told."""

import json
import shutil

import pytest
from lrac_trees import make_2025, make_2026, write_test, write_wav

from espnet_av.corpora import lrac
from espnet_av.data.data_dir import read_scp
from espnet_av.utils.errors import DataError, MissingDataError, UsageError

SETS = ["speech", "speech_validation", *(f"open_testset_track1_{c}" for c in ("clean", "noisy", "reverb"))]


def run(root, output, *words):
    return lrac.main(["--lrac_root", str(root), "--output_dir", str(output), "--check_files", "all", *words])


def report(output):
    return json.loads((output / lrac.REPORT).read_text())


def test_2025_in_place(tmp_path):
    root = make_2025(tmp_path / "data")
    before = {path: path.read_bytes() for path in root.glob("*/*")}
    assert run(root, root, "--lists", "true") == 0
    assert {path: path.read_bytes() for path in root.glob("*/*")} == before
    found = report(root)
    assert found["layout"] == "2025" and list(found["sets"])[:5] != []
    speech = found["sets"]["speech"]
    assert (speech["num_utterances"], speech["num_speakers"], speech["num_within_limits"]) == (6, 3, 6)
    assert speech["durations"] == {"2.9-5 s": 6} and not speech["errors"] and not speech["warnings"]
    assert found["sets"]["open_testset_track1_clean"]["num_reference_is_input"] == 2
    lists = found["sets"]["lists of noise and room responses"]
    assert lists["noise"] == {"num_listed": 3, "columns": [3], "num_shared_with_validation": 1}
    assert "are in noise.scp too" in lists["warnings"][0]


def test_2026_gets_the_names_of_the_recipe(tmp_path, caplog):
    root = make_2026(tmp_path / "release", track=2)
    assert run(root, tmp_path / "data", "--track", "2") == 0
    found = report(tmp_path / "data")
    assert found["layout"] == "2026"
    wavs = read_scp(tmp_path / "data" / "speech" / "wav.scp")
    assert len(wavs) == 4 and all(path.startswith(str(root)) for path in wavs.values())  # absolute now
    assert "1 channel(s), FLOAT" in str(found["sets"]["speech"]["formats"])
    assert "spk2gender is missing" in caplog.text
    assert len(read_scp(tmp_path / "data" / "noise.scp")) == 3


def test_missing_folders_are_named(tmp_path):
    root = make_2025(tmp_path / "data")
    shutil.rmtree(root / "open_testset_track1_noisy")
    shutil.rmtree(root / "speech_validation")
    with pytest.raises(MissingDataError) as caught:
        run(root, root)
    text = str(caught.value)
    assert "2 of 5 data folders are missing" in text and f"{root}/open_testset_track1_noisy" in text
    assert f"{root}/speech_validation or {root}/train_validation" in text and "lrac_data_generation" in text
    with pytest.raises(MissingDataError, match="no folder of LRAC data"):
        run(tmp_path / "none", tmp_path / "out")


def breaks(name):
    def mark(function):
        function.title = name
        return function

    return mark


@breaks("1 speakers are in both speech and speech_validation")
def same_speaker(root):
    for name in ("utt2spk", "spk2utt"):
        path = root / "speech_validation" / name
        path.write_text(path.read_text().replace("vctk_p300", "vctk_p225", 1 if name == "spk2utt" else -1))
    text = (root / "speech_validation" / "utt2spk").read_text()
    (root / "speech_validation" / "utt2spk").write_text(text.replace("vctk_p225-utt", "vctk_p300-utt"))


@breaks("utt2spk and wav.scp do not have the same ids")
def lost_line(root):
    path = root / "speech" / "utt2spk"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


@breaks("1 of 6 files cannot be used; ears_p001-utt0")
def lost_file(root):
    path = read_scp(root / "speech" / "wav.scp")["ears_p001-utt0"]
    (root.parent / path).unlink()


@breaks("holds no samples")
def empty_file(root):
    write_wav(root.parent / "data_audio" / "train" / "ears_p001-utt0.wav", 0, 0)


@breaks("allowed: m, f or o")
def wrong_gender(root):
    (root / "speech" / "spk2gender").write_text("ears_p001 female\n")


@breaks("spk2utt disagree")
def wrong_spk2utt(root):
    (root / "speech" / "spk2utt").write_text("ears_p001 ears_p001-utt0\n")


@breaks("reference.scp do not have the same ids")
def other_ids(root):
    (root / "open_testset_track1_noisy" / "reference.scp").write_text("T1_file001 /bin/sh\n")


@breaks("blind recordings have none")
def no_reference(root):
    (root / "open_testset_track1_reverb" / "reference.scp").unlink()


@breaks("differ by more than 240 samples")
def other_length(root):
    folder = root / "open_testset_track1_noisy"
    shutil.rmtree(folder)
    write_test(folder, root.parent / "x", False)
    write_wav(root.parent / "x" / "ref" / "T1_file001.wav", 1, 1.1)


@breaks("duplicate id")
def duplicate(root):
    path = root / "speech" / "wav.scp"
    path.write_text(path.read_text() + path.read_text().splitlines(keepends=True)[0])


@breaks("noise.scp: 1 of 1 files do not exist")
def lost_noise(root):
    (root / "noise.scp").write_text("n1 24000 /no/such.wav\n")


BROKEN = [same_speaker, lost_line, lost_file, empty_file, wrong_gender, wrong_spk2utt, other_ids, no_reference]


@pytest.mark.parametrize("damage", [*BROKEN, other_length, duplicate, lost_noise], ids=lambda f: f.__name__)
def test_problems_are_told(tmp_path, damage):
    root = make_2025(tmp_path / "data")
    damage(root)
    with pytest.raises(DataError) as caught:
        run(root, root, "--lists", "true")
    assert damage.title in str(caught.value)
    assert sum(len(entry["errors"]) for entry in report(root)["sets"].values()) >= 1


def test_wrong_options(tmp_path):
    with pytest.raises(UsageError, match="--check_files takes a number or all"):
        lrac.main(["--check_files", "some"])
