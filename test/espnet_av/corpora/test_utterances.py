# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Data folders of readers."""

from pathlib import Path

import pytest

from espnet_av.corpora.utterances import (
    Utterance,
    Word,
    clean_text,
    merge_drops,
    read_lines,
    read_report,
    write_set,
)
from espnet_av.data.data_dir import DataDir
from espnet_av.data.drops import Drops, TooManyDropped
from espnet_av.utils.errors import DataError, MissingDataError

META = {"fps": 25, "licence": "CC0-1.0"}


def item(utt, **more):
    return Utterance(utt, "s1", "HELLO", Path(f"/clips/{utt[:1]}.mp4"), **more)


def test_whole_clips(tmp_path):
    drops = Drops(3)
    drops.add("c", "missing_video", "/clips/c.mp4")
    items = [item("b", tags={"utt2noise": "NF"}), item("a", words=(Word("HELLO", 0.1, 0.4),))]
    assert (
        write_set(items, tmp_path / "set", drops, META, max_dropped_share=0.5)
        == "2 of 3 kept; dropped: missing_video 1"
    )
    data = DataDir(tmp_path / "set")
    assert data.read("video.scp") == {"a": "/clips/a.mp4", "b": "/clips/b.mp4"}
    assert not data.has("segments") and not data.has("wav.scp") and not data.has("utt2roi")
    assert data.read("utt2noise") == {"b": "NF"}
    assert (data / "words.ctm").read_text() == "a 1 0.100 0.300 HELLO\n"
    assert read_report(data.path)["reasons"]["missing_video"]["utterances"] == {"c": "/clips/c.mp4"}
    assert data.meta == META


def test_cut_clips_are_keyed_by_recording(tmp_path):
    items = [
        item("a-0", start_sec=0.0, end_sec=1.2),
        item("a-1", start_sec=1.2, end_sec=2.0),
        item("b", wav=Path("/clips/b.m4a"), roi="center"),
    ]
    write_set(items, tmp_path / "set", Drops(2), META)
    data = DataDir(tmp_path / "set")
    assert data.read("segments") == {"a-0": "a-0 0.00 1.20", "a-1": "a-0 1.20 2.00", "b": "b 0.00 -1"}
    assert data.read("video.scp") == {"a-0": "/clips/a.mp4", "b": "/clips/b.mp4"}
    assert data.read("wav.scp") == {"a-0": "/clips/a.mp4", "b": "/clips/b.m4a"}
    assert data.read("utt2roi") == {"b": "center"}


def test_too_many_lost_clips_leave_nothing_behind(tmp_path):
    drops = Drops(2)
    drops.add("a", "missing_video", "gone")
    with pytest.raises(TooManyDropped, match=r"a: gone.*got '50.0 %'.*set\.prepare_report\.json"):
        write_set([item("b")], tmp_path / "set", drops, META)
    assert [path.name for path in tmp_path.iterdir()] == ["set.prepare_report.json"]
    write_set([item("b")], tmp_path / "set", drops, META, max_dropped_share=0.5)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    with pytest.raises(DataError, match="exists twice"):
        write_set([item("b"), item("b")], tmp_path / "other", Drops(2), META)
    assert not (tmp_path / "other").exists()


def test_merged_drops():
    first, second = Drops(2), Drops(3)
    first.add("a", "missing_video", "x")
    second.add("b", "bad_text", "y")
    assert merge_drops([first, second]).one_line() == "3 of 5 kept; dropped: bad_text 1, missing_video 1"


def test_lists(tmp_path):
    path = tmp_path / "list"
    with pytest.raises(MissingDataError, match="no thing.*fix: get it"):
        read_lines(path, "thing", "get it")
    path.write_text("\ufeff# a comment\na b\n\nc\n")
    assert read_lines(path, "thing", "") == [(2, ["a", "b"]), (4, ["c"])]
    path.write_text("\n")
    with pytest.raises(DataError, match="is empty"):
        read_lines(path, "thing", "get it")
    path.write_bytes(b"\xff")
    with pytest.raises(DataError, match="no UTF-8"):
        read_lines(path, "thing", "")
    assert clean_text(" it\u2019s  fine\t") == "IT'S FINE"
