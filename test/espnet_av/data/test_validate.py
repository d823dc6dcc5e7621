# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from espnet_av.data.audio_io import write_audio
from espnet_av.data.data_dir import DataDir
from espnet_av.data.validate import CODES, require_valid, summarise, validate_data_dir
from espnet_av.data.video_io import write_video
from espnet_av.utils.errors import DataError, MissingDataError


def codes(problems):
    assert all(problem.code in CODES and problem.message for problem in problems)
    return summarise(problems)


def of(problems, code):
    return [problem for problem in problems if problem.code == code]


def test_a_good_folder_has_no_problems(corpus):
    assert validate_data_dir(corpus.path) == []
    assert validate_data_dir(corpus.path, decode=True) == []
    require_valid([], corpus.path)


def test_every_kind_of_bad_media_is_named(corpus, stamped):
    (corpus / "utt00.npy").unlink()
    (corpus / "utt01.npy").write_bytes((corpus / "utt01.npy").read_bytes()[:1000])
    write_audio(corpus / "utt02.flac", stamped.clicks(26), 8000)
    write_audio(corpus / "utt03.flac", stamped.clicks(29, extra=3000), 16000)
    np.save(corpus / "utt04.npy", stamped.frames(31))
    (corpus / "utt05.flac").write_text("no sound")
    problems = validate_data_dir(corpus.path)
    by_utt = {utt: {problem.code for problem in problems if problem.utt == utt} for utt in corpus.keys}
    assert by_utt["utt00"] == {"missing_file"} and by_utt["utt01"] == {"unreadable"}
    assert "wrong_rate" in by_utt["utt02"]
    assert by_utt["utt03"] == {"drift", "wrong_length"}
    assert by_utt["utt04"] == {"wrong_length"}
    assert by_utt["utt05"] == {"unreadable"}
    assert not any(by_utt[f"utt0{number}"] for number in range(6, 10))
    assert "+4.69 frames" in next(problem.message for problem in of(problems, "drift") if problem.utt == "utt03")
    assert validate_data_dir(corpus.path, utts=["utt07"]) == []
    assert validate_data_dir(corpus.path, media=False) == []


def test_clips(tmp_path, stamped):
    folder = DataDir(tmp_path / "raw")
    clips = {name: tmp_path / f"{name}.mp4" for name in ("good", "silent", "fast", "cut")}
    write_video(clips["good"], stamped.frames(25, 32), 25, stamped.clicks(25))
    write_video(clips["silent"], stamped.frames(25, 32))
    write_video(clips["fast"], stamped.frames(30, 32), 30, stamped.clicks(25))
    noise = np.random.default_rng(0).integers(0, 256, (25, 64, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "whole.mkv", noise, 25, stamped.clicks(25))
    clips["cut"] = tmp_path / "cut.mkv"
    clips["cut"].write_bytes((tmp_path / "whole.mkv").read_bytes()[:-2000])
    folder.write("video.scp", clips)
    folder.write_streams([("video.scp", "speech", "video_sound"), ("video.scp", "face", "video")])
    found = {problem.utt: problem.code for problem in validate_data_dir(folder.path)}
    assert found == {"silent": "no_audio", "fast": "wrong_fps"}
    found = {problem.utt: problem.code for problem in validate_data_dir(folder.path, decode=True)}
    assert found == {"silent": "no_audio", "fast": "wrong_fps", "cut": "unreadable"}


def test_a_folder_edited_by_hand(corpus):
    lines = (corpus / "text").read_text().splitlines()
    lines[1], lines[2] = lines[2], lines[1]
    lines[5] = "utt05"
    (corpus / "text").write_text("\n".join([*lines, lines[3]]) + "\n")
    (corpus / "spk2utt").write_text("anna utt00 utt01\n")
    problems = validate_data_dir(corpus.path)
    assert codes(problems) == {"unsorted": 1, "empty_text": 1, "duplicate_id": 1, "speaker_mismatch": 1}
    assert f"{corpus / 'text'}:3: 'utt01' is not in byte order" in of(problems, "unsorted")[0].message
    assert "text:11: duplicate id 'utt03'" in of(problems, "duplicate_id")[0].message
    with pytest.raises(DataError, match=r"4 problems \(unsorted 1, .*the first:\n"):
        require_valid(problems, corpus.path)


def test_tables_of_different_length(corpus):
    for name in ("mouth.scp", "text"):
        table = corpus.read(name)
        del table["utt05"]
        corpus.write(name, table)
    problems = validate_data_dir(corpus.path)
    assert {(problem.utt, problem.code) for problem in problems} == {("utt05", "no_face"), ("utt05", "key_mismatch")}
    (corpus / "mouth.scp").unlink()
    assert codes(validate_data_dir(corpus.path))["missing_table"] == 1


def test_broken_descriptions(corpus, tmp_path):
    (corpus / "data.json").write_text("{")
    (corpus / "utt2num_frames").write_text("utt00 many\n")
    assert of(validate_data_dir(corpus.path), "malformed")
    (corpus / "streams").write_text("wav.scp\n")
    assert of(validate_data_dir(corpus.path), "malformed")
    (tmp_path / "empty").mkdir()
    assert codes(validate_data_dir(tmp_path / "empty")) == {"missing_table": 1}
    with pytest.raises(MissingDataError, match="no data folder"):
        validate_data_dir(tmp_path / "none")


def test_folders_without_a_list_of_streams(corpus):
    (corpus / "streams").unlink()
    assert validate_data_dir(corpus.path) == []
    (corpus / "utt00.npy").unlink()
    assert codes(validate_data_dir(corpus.path)) == {"missing_file": 1}
