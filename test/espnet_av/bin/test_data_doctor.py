# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The command of the data doctor and its page."""

import json
import re

import numpy as np
import pytest
import soundfile

from espnet_av.bin.data_doctor import list_kinds, main
from espnet_av.corpora.example_corpus import make_example, talk
from espnet_av.data.doctor.findings import KINDS
from espnet_av.utils.errors import UsageError


@pytest.fixture
def folders(tmp_path):
    """A folder of voices to train on and one to test on, which share one recording."""
    for number, name in enumerate(("train", "train", "train", "test", "test")):
        (tmp_path / name / "anna").mkdir(parents=True, exist_ok=True)
        wave, _ = talk(2.0, 100.0 + 20 * number, np.random.default_rng(number))
        soundfile.write(tmp_path / name / "anna" / f"clip{number}.wav", wave, 16000)
        if number == 3:
            soundfile.write(tmp_path / "train" / "anna" / "<b>leak.wav", 0.5 * wave, 16000)
    return [str(tmp_path / "train"), str(tmp_path / "test")]


def test_command(folders, tmp_path, capsys):
    output = tmp_path / "out"
    assert main([*folders, "--output_dir", str(output), "--title", "Voices & all"]) == 0
    shown = capsys.readouterr().out
    assert "leak: 1; e.g. train anna/<b>leak: the same recording as anna/clip3 of test" in shown
    assert re.search(r"6 clips in [\d.]+ s \([\d.]+ a second\): 1 findings, 0 utterances to leave out", shown)
    content = json.loads((output / "doctor.json").read_text())
    assert content["num_clips"] == 6 and content["train_sets"] == ["train"]
    assert [finding["kind"] for finding in content["findings"]] == ["leak"]
    assert content["sets"]["train"]["clips"] == 4 and content["sets"]["test"]["dropped"] == 0
    page = (output / "doctor.html").read_text()
    assert "Voices &amp; all" in page and "data:audio/flac;base64," in page and "<svg" in page
    assert "<b>leak" not in page and "&lt;b&gt;leak" in page  # names of files are text
    assert not re.search(r"(src|href)=\"(?!data:|#)", page) and "default-src 'none'" in page
    assert main([*folders, "--output_dir", str(output), "--fail_on", "leak", "--skip_sync"]) == 3
    assert main([*folders, "--output_dir", str(output), "--fail_on", "leak", "--skip_fingerprints"]) == 0


def test_pictures_of_clips_with_mouths(tmp_path):
    """Clips with something show their pictures."""
    make_example("avss", tmp_path / "example", seed=1)
    folder = tmp_path / "set"
    folder.mkdir()
    names = ["train0low", "train0high"]
    (folder / "mouth.scp").write_text("".join(f"{n} {tmp_path}/example/mouths/{n}.npz\n" for n in sorted(names)))
    source = next((tmp_path / "example" / "audio" / "train" / "s1").glob("train0low_*"))
    wave, _ = soundfile.read(source)
    soundfile.write(tmp_path / "soft.wav", 0.0 * wave, 16000)
    (folder / "wav.scp").write_text(f"train0high {tmp_path}/soft.wav\ntrain0low {source}\n")
    assert main([str(folder), "--output_dir", str(tmp_path / "out"), "--drop_sets", "set"]) == 0
    page = (tmp_path / "out" / "doctor.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 1 and "left out" in page
    findings = json.loads((tmp_path / "out" / "doctor.json").read_text())["findings"]
    assert [(f["utt"], f["kind"], f["drop"]) for f in findings] == [("train0high", "silent", True)]


def test_bad_options(folders, tmp_path):
    with pytest.raises(UsageError, match="--drop: unknown kind"):
        main([*folders, "--drop", "leek", "--output_dir", str(tmp_path / "out")])
    with pytest.raises(UsageError, match="--train_sets"):
        main([*folders, "--train_sets", "tarin", "--output_dir", str(tmp_path / "out")])
    for option in ("--max_clips=-3", "--max_clips=0", "--max_offset_frames=-1", "--max_drift_frames=nan", "--nj=0"):
        with pytest.raises(SystemExit) as end:
            main([*folders, option, "--output_dir", str(tmp_path / "out")])
        assert end.value.code == 2
    assert not (tmp_path / "out").exists()
    assert [line.split()[0] for line in list_kinds().splitlines()] == list(KINDS)


def test_kinds_are_listed_one_a_line(capsys):
    with pytest.raises(SystemExit):
        main(["--list_kinds"])
    assert capsys.readouterr().out.strip() == list_kinds().strip()
