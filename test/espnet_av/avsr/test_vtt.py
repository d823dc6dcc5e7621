# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import logging

import pytest

from espnet_av.avsr.vtt import Caption, parse_vtt, read_vtt, write_vtt
from espnet_av.utils.errors import DataError, MissingDataError, UsageError

FILE = """\ufeffWEBVTT - a session
Kind: captions

STYLE
::cue { color: red }

NOTE not a caption

1
00:12.500 --> 00:14.000 align:start position:10%
<v.loud Ann Lee>So, what's your
<i>favourite</i> hero &amp; why?

00:00:10.000 --> 00:00:13.000
<unk>

100:00:01.000 --> 100:00:01.000
"""


def test_everything_the_format_has():
    assert parse_vtt(FILE) == [
        Caption(12.5, 14.0, "So, what's your favourite hero & why?"),
        Caption(10.0, 13.0, "<unk>"),  # overlaps the one before, and comes after it
        Caption(360001.0, 360001.0, ""),
    ]


@pytest.mark.parametrize("break_", ["\n", "\r\n"])
def test_line_ends(break_):
    assert parse_vtt(break_.join(["WEBVTT", "", "00:01.000 --> 00:02.000", "a", "b"])) == [Caption(1, 2, "a b")]


def test_what_is_written_is_read(tmp_path):
    captions = [
        Caption(0, 0.0004, ""),
        Caption(3661.0, 3662.9996, "a --> b  & <unk> <i>c</i>\nd"),
        Caption(1.5, 4000.25, "übung"),
    ]
    path = tmp_path / "made" / "a.vtt"
    write_vtt(path, captions)
    assert read_vtt(path) == [
        Caption(0, 0, ""),
        Caption(3661.0, 3663.0, "a --> b & <unk> <i>c</i> d"),
        Caption(1.5, 4000.25, "übung"),
    ]
    assert "a --&gt; b &amp; &lt;unk&gt; &lt;i&gt;c" in path.read_text()
    write_vtt(path, [])
    assert read_vtt(path) == []


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("00:01,000 --> 00:02,000\na", r"x.vtt:3: malformed times '00:01,000"),
        ("00:01.000 -> 00:02.000\na", "x.vtt:3: no times"),
        ("7\n00:01.0 --> 00:02.000\na", "x.vtt:4: malformed times"),
        ("00:61.000 --> 02:02.000\na", "x.vtt:3: malformed"),
        ("00:03.000 --> 00:02.000\na", "x.vtt:3: ends before"),
        ("just a text", "x.vtt:3: no times in this block, 'just a text'"),
    ],
)
def test_malformed_lines_are_named(tmp_path, caplog, block, message):
    path = tmp_path / "x.vtt"
    path.write_text(f"WEBVTT\n\n{block}\n\n00:05.000 --> 00:06.000\ngood\n")
    with pytest.raises(DataError, match=message):
        read_vtt(path)
    with caplog.at_level(logging.WARNING):
        assert read_vtt(path, strict=False) == [Caption(5, 6, "good")]
    assert "1 malformed captions are left out" in caplog.text


def test_other_files_are_refused(tmp_path):
    with pytest.raises(MissingDataError, match="none.vtt"):
        read_vtt(tmp_path / "none.vtt")
    for content in ("", "1\n00:01 --> 00:02\n", "WEBVTTX\n"):
        with pytest.raises(DataError, match=":1: no WebVTT"):
            parse_vtt(content)
    (tmp_path / "x.vtt").write_bytes(b"WEBVTT\n\n\xff")
    with pytest.raises(DataError, match="UTF-8"):
        read_vtt(tmp_path / "x.vtt")


@pytest.mark.parametrize("times", [(-1, 2), (2, 1), (0, float("nan")), (0, float("inf"))])
def test_impossible_times_are_not_written(tmp_path, times):
    with pytest.raises(UsageError, match="impossible"):
        write_vtt(tmp_path / "x.vtt", [Caption(0, 1, "good"), Caption(*times, "bad")])
    assert not list(tmp_path.iterdir())
