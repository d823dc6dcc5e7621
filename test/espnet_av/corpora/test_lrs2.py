# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The LRS2 reader on a tiny tree in the official layout."""

import pytest
from lrs_trees import make_lrs2, make_vox2

from espnet_av.corpora.lrs2 import main
from espnet_av.corpora.utterances import read_report
from espnet_av.data.data_dir import DataDir
from espnet_av.data.drops import TooManyDropped
from espnet_av.utils.errors import DataError, MissingDataError, UsageError


@pytest.fixture
def corpus(tmp_path):
    return make_lrs2(tmp_path / "lrs2")


def run(corpus, output, *more):
    words = ["--lrs2_root", str(corpus), "--output_dir", str(output), "--interferer_snrs", "", *map(str, more)]
    return main(words)


def test_sets(corpus, tmp_path, capsys):
    assert run(corpus, tmp_path / "data", "--max_cut_sec", 2) == 0
    train, valid, test = (DataDir(tmp_path / "data" / name) for name in ("train", "valid", "test"))
    assert len(train.read("text")) == 4 + 2 and len(valid.read("text")) == 2
    assert train.read("text")["lrs2_50000-00001"] == "AND SO WE WENT"
    segments = train.read("segments")
    assert segments["lrs2_50000-00001"] == "lrs2_50000-00001 0.00 -1"
    assert segments["lrs2_90000-pretrain-00001-01"] == "lrs2_90000-pretrain-00001-00 2.20 3.72"
    assert train.read("text")["lrs2_90000-pretrain-00001-01"] == "OUT AGAIN"
    assert test.read("utt2noise") == {"lrs2_41007-00002": "NF", "lrs2_41009-00004": "NF"}
    assert test.read("utt2spk")["lrs2_41007-00002"] == "lrs2_41007"
    assert not test.has("segments")
    assert str(corpus / "main" / "41007" / "00002.mp4") == test.read("video.scp")["lrs2_41007-00002"]
    assert "train: 6 utterances; clips: 5 of 5 kept" in capsys.readouterr().out
    assert "BBC" in test.meta["licence"]


def test_lists_one_level_up_and_folder_of_the_archive(corpus, tmp_path):
    (tmp_path / "outer").mkdir()
    corpus.rename(tmp_path / "outer" / "mvlrs_v1")
    for path in list((tmp_path / "outer" / "mvlrs_v1").glob("*.txt")):
        path.rename(tmp_path / "outer" / path.name)
    assert run(tmp_path / "outer", tmp_path / "data", "--include_pretrain", "false") == 0
    assert not DataDir(tmp_path / "data" / "train").has("segments")


def test_pretrain_without_its_list(corpus, tmp_path):
    (corpus / "pretrain.txt").unlink()
    assert run(corpus, tmp_path / "data") == 0
    assert "lrs2_90000-pretrain-00001-00" in DataDir(tmp_path / "data" / "train").read("text")


def test_lost_clips_are_counted(corpus, tmp_path):
    (corpus / "main" / "50000" / "00001.mp4").unlink()
    (corpus / "main" / "51001" / "00002.txt").unlink()
    (corpus / "main" / "50002" / "00003.txt").write_text("Text:  {NS} \n")
    (corpus / "pretrain" / "90000" / "00001.txt").write_text("Text: A\n\nWORD START END ASDSCORE\nA x y\n")
    with pytest.raises(TooManyDropped, match="1 of 5 kept; dropped: bad_text 1, empty_text 1, missing_text 1"):
        run(corpus, tmp_path / "data")
    assert not (tmp_path / "data" / "train").exists()
    assert run(corpus, tmp_path / "data", "--max_dropped_share", 0.9) == 0
    reasons = read_report(tmp_path / "data" / "train")["reasons"]
    assert "00001.txt, line 4 is no word" in reasons["bad_text"]["utterances"]["lrs2_90000-pretrain-00001"]
    assert list(DataDir(tmp_path / "data" / "train").read("text")) == ["lrs2_51003-00004"]


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("test.txt", "41007", "line 5 names no clip"),
        ("test.txt", "a/b/c", "line 5 names no clip"),
        ("test.txt", "41007/00002 NF x", "line 5 names no clip"),
        ("test.txt", "41007/00002 NF", "for the second time"),
        ("val.txt", "41007/00002", r"val\.txt and test\.txt share a clip"),
    ],
)
def test_bad_lists(corpus, tmp_path, name, line, message):
    with (corpus / name).open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(DataError, match=message):
        run(corpus, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_missing_corpus_and_lists(corpus, tmp_path):
    with pytest.raises(MissingDataError, match=r"no LRS2 corpus.*lrs2\.html") as raised:
        run(tmp_path / "nowhere", tmp_path / "data")
    assert raised.value.exit_code == 3
    (corpus / "val.txt").unlink()
    with pytest.raises(MissingDataError, match=r"no list of LRS2.*val\.txt"):
        run(corpus, tmp_path / "data")


def test_few_clips(corpus, tmp_path):
    assert run(corpus, tmp_path / "data", "--max_clips", 2) == 0
    assert len(DataDir(tmp_path / "data" / "train").read("text")) == 3  # two of main, one of pretrain
    assert len(DataDir(tmp_path / "data" / "test").read("text")) == 2


def test_interferers_and_bad_levels(corpus, tmp_path):
    assert run(corpus, tmp_path / "data", "--interferer_snrs", "-5 10") == 0
    names = sorted(path.name for path in (tmp_path / "data").glob("test_*"))
    assert names == [f"test_snr_{level}_interferer_{number}" for level in ("10", "n5") for number in (1, 2)]
    noisy, clean = DataDir(tmp_path / "data" / names[-1]), DataDir(tmp_path / "data" / "test")
    for table in ("text", "video.scp", "utt2noise", "utt2spk"):
        assert noisy.read(table) == clean.read(table)
    with pytest.raises(UsageError, match="whole numbers"):
        run(corpus, tmp_path / "other", "--interferer_snrs", "loud")
    with pytest.raises(UsageError, match="unknown number of interferers"):
        run(corpus, tmp_path / "other", "--interferer_numbers", "3")
    assert not (tmp_path / "other").exists()


def test_vox2_joins_training(corpus, tmp_path):
    vox2 = make_vox2(tmp_path / "vox2", m4a=True)
    more = ["--vox2_root", vox2, "--vox2_transcript_file", vox2 / "transcripts.txt"]
    assert run(corpus, tmp_path / "data", *more) == 0
    train = DataDir(tmp_path / "data" / "train")
    assert train.read("text")["vox2_id00015--fx-00001"] == "IT'S ME"
    assert train.read("wav.scp")["vox2_id00015--fx-00001"].endswith("aac/id00015/-fx/00001.m4a")
    assert train.read("wav.scp")["lrs2_50000-00001"] == train.read("video.scp")["lrs2_50000-00001"]
    with pytest.raises(UsageError, match="have no transcripts"):
        run(corpus, tmp_path / "other", "--vox2_root", vox2)
