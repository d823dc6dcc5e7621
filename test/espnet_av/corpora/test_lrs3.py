# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The LRS3 reader on a tiny tree in the official layout, and on one that auto_avsr prepared."""

import logging

import pytest
from lrs_trees import make_auto_avsr, make_lrs3

from espnet_av.corpora.lrs3 import main
from espnet_av.corpora.lrs_sets import hold_out
from espnet_av.data.data_dir import DataDir
from espnet_av.utils.errors import DataError, MissingDataError, UsageError


@pytest.fixture
def corpus(tmp_path):
    return make_lrs3(tmp_path / "lrs3")


def run(corpus, output, *more):
    words = ["--lrs3_root", str(corpus), "--output_dir", str(output), "--interferer_snrs", "", *map(str, more)]
    return main(words)


def texts(output, name):
    return DataDir(output / name).read("text")


def test_whole_talks_are_held_out(corpus, tmp_path):
    assert run(corpus, tmp_path / "a") == 0
    valid, train = texts(tmp_path / "a", "valid"), texts(tmp_path / "a", "train")
    talks = {utt.rsplit("-", 1)[0] for utt in valid}
    assert len(valid) == 2 and len(talks) == 1
    assert not [utt for utt in train if utt.startswith(tuple(talks))]  # neither trainval nor pretrain
    assert len(train) == 4 + 2
    assert len(texts(tmp_path / "a", "test")) == 3
    run(corpus, tmp_path / "b")
    assert texts(tmp_path / "b", "valid") == valid
    drawn = set()
    for seed in range(6):
        run(corpus, tmp_path / "c", "--seed", seed)
        drawn.add(tuple(texts(tmp_path / "c", "valid")))
    assert len(drawn) > 1


def test_ids_that_begin_with_a_dash(corpus, tmp_path):
    run(corpus, tmp_path / "data", "--valid_share", 0.9)
    run(corpus, tmp_path / "data", "--seed", 3)
    utts = {utt for name in ("train", "valid") for utt in texts(tmp_path / "data", name)}
    assert "lrs3_-UUCSKoHeMA-50001" in utts


def test_valid_list(corpus, tmp_path):
    path = tmp_path / "lrs3-valid.id"
    path.write_text("trainval/-UUCSKoHeMA/50001\n0af00UcTOSc/50002\nshort-pretrain/2vn_zk/00001\n")
    assert run(corpus, tmp_path / "data", "--valid_list", path) == 0
    assert list(texts(tmp_path / "data", "valid")) == ["lrs3_-UUCSKoHeMA-50001", "lrs3_0af00UcTOSc-50002"]
    train = texts(tmp_path / "data", "train")
    assert len(train) == 4 + 3 and "lrs3_-UUCSKoHeMA-50002" in train
    path.write_text("2vn_zk\n")
    run(corpus, tmp_path / "data", "--valid_list", path)
    assert list(texts(tmp_path / "data", "valid")) == ["lrs3_2vn_zk-50001", "lrs3_2vn_zk-50002"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("nobody/1\n", "1 unknown clips; got .'nobody/1'."), ("pretrain/x/1\n", "names no clip of trainval")],
)
def test_bad_valid_list(corpus, tmp_path, text, message):
    (tmp_path / "list").write_text(text)
    with pytest.raises(DataError, match=message):
        run(corpus, tmp_path / "data", "--valid_list", tmp_path / "list")
    with pytest.raises(MissingDataError, match="no validation list"):
        run(corpus, tmp_path / "data", "--valid_list", tmp_path / "absent")


def test_missing_corpus(tmp_path):
    with pytest.raises(MissingDataError, match="no LRS3 corpus.*--lrs3_root DIR"):
        run(tmp_path, tmp_path / "data")
    (tmp_path / "trainval").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(MissingDataError, match="no clips"):
        run(tmp_path, tmp_path / "data")


def test_hold_out():
    sources = {f"{talk}{index}": talk for talk in "abcdefgh" for index in range(5)}
    assert len(hold_out(sources, 0.2, 0)) == 2
    assert len(hold_out(sources, 0.99, 0)) == 7  # something is left to train on
    for share, table in ((0.0, sources), (1.0, sources), (0.1, {"a": "x"})):
        with pytest.raises(UsageError, match="cannot be held out"):
            hold_out(table, share, 0)


def test_prepared_by_auto_avsr(tmp_path, caplog, capsys):
    root = make_auto_avsr(tmp_path / "auto")
    (tmp_path / "list").write_text("x\n")
    with caplog.at_level(logging.WARNING):
        assert (
            run(
                root,
                tmp_path / "data",
                "--valid_list",
                tmp_path / "list",
                "--interferer_snrs",
                "0",
                "--interferer_numbers",
                "1",
            )
            == 0
        )
    assert "--valid_list has no effect" in caplog.text
    assert "train: 2 utterances; clips: 2 of 2 kept" in capsys.readouterr().out
    train, valid, test = (DataDir(tmp_path / "data" / name) for name in ("train", "valid", "test"))
    assert (len(train.read("text")), len(valid.read("text")), len(test.read("text"))) == (2, 1, 2)
    assert set(test.read("utt2roi").values()) == {"center"}
    assert test.read("text")["lrs3_test-tt-00001_00"].startswith("SENTENCE ")
    assert test.read("wav.scp")["lrs3_test-tt-00001_00"].endswith(".wav")
    noisy = DataDir(tmp_path / "data" / "test_snr_0_interferer_1")
    assert noisy.read("utt2roi") == test.read("utt2roi")
