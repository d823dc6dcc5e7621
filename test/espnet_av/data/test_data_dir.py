# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import os
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_av.data.data_dir import DataDir, Stream, read_ints, read_scp, read_text, spk2utt, write_scp
from espnet_av.utils.errors import DataError, MissingDataError, UsageError


def test_written_tables_are_sorted_as_the_c_locale_sorts(tmp_path):
    table = {"b": "2", "B": "1", "ä": "4", "a-1": "5", "a_1": "6", "a1": "7", "𝄞": "8", "\uffee": "9"}
    write_scp(tmp_path / "x", table)
    environment = {**os.environ, "LC_ALL": "C"}
    subprocess.run(["sort", "-c", str(tmp_path / "x")], check=True, env=environment)
    assert read_scp(tmp_path / "x") == table


WORDS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1).filter(lambda word: word.split() == [word])


@given(st.dictionaries(WORDS.filter(lambda word: "\ufeff" not in word), st.lists(WORDS, max_size=4).map(" ".join)))
@settings(max_examples=100, deadline=None)
def test_tables_round_trip(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("scp") / "x"
    write_scp(path, table)
    assert read_text(path, allow_empty=True) == table


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"a 1\nb 2\na 3\n", r"x:3: duplicate id 'a' \(first in line 1\)"),
        (b"a 1\nb\n", r"x:2: malformed line, 'b' has no value"),
        (b"a 1\n\nb 2\n", "x:2: empty line"),
        (b"a 1\nb \xff\xfe\n", "x:2: not UTF-8"),
        (b"\xef\xbb\xbfa 1\n", "x:1: starts with a byte-order mark"),
    ],
)
def test_malformed_tables_are_refused_with_the_line(tmp_path, content, match):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match=match):
        read_scp(tmp_path / "x")


def test_odd_but_harmless_tables(tmp_path):
    (tmp_path / "x").write_bytes(b"a  two words \r\nb\t2")
    assert read_scp(tmp_path / "x") == {"a": "two words", "b": "2"}
    (tmp_path / "y").write_bytes(b"")
    assert read_scp(tmp_path / "y") == {}
    with pytest.raises(MissingDataError, match="none"):
        read_scp(tmp_path / "none")


def test_keys_and_values_that_would_break_a_table_are_not_written(tmp_path):
    for table in ({"a b": "1"}, {"": "1"}, {"a": "1\n2"}):
        with pytest.raises(DataError):
            write_scp(tmp_path / "x", table)
    assert not (tmp_path / "x").exists()


def test_numbers(tmp_path):
    write_scp(tmp_path / "x", {"a": 75, "b": "75,88,88"})
    assert read_ints(tmp_path / "x") == {"a": 75, "b": 75}
    write_scp(tmp_path / "x", {"a": "-3"})
    with pytest.raises(DataError, match="whole number"):
        read_ints(tmp_path / "x")


def test_folder(corpus):
    assert corpus.streams[1] == Stream("mouth.scp", "video", "video_npy")
    assert corpus.path_name_type_list(["text", "video"]) == [
        (str(corpus / "text"), "text", "text"),
        (str(corpus / "mouth.scp"), "video", "video_npy"),
    ]
    assert corpus.keys[:2] == ["utt00", "utt01"] and len(corpus.keys) == 10
    assert corpus.num_frames()["utt01"] == 23 and corpus.num_samples()["utt01"] == 23 * 640 + 7
    assert corpus.meta["fps"] == 25
    assert corpus.read("spk2utt") == {"anna": " ".join(corpus.keys)}
    with pytest.raises(UsageError, match="lips.*speech, video, text"):
        corpus.path_name_type_list(["lips"])


def test_broken_descriptions(corpus, tmp_path):
    (corpus / "streams").write_text("wav.scp speech\n")
    with pytest.raises(DataError, match="streams:1"):
        _ = corpus.streams
    (corpus / "streams").write_text("wav.scp speech sound\nb.scp speech sound\n")
    with pytest.raises(DataError, match="'speech' occurs twice"):
        _ = corpus.streams
    (corpus / "data.json").write_text("{")
    with pytest.raises(DataError, match="no JSON"):
        _ = corpus.meta
    with pytest.raises(MissingDataError, match="no data folder"):
        _ = DataDir(tmp_path / "none").keys
    assert DataDir(tmp_path / "none").meta == {}


def test_spk2utt_inverts():
    assert spk2utt({"u2": "s1", "u1": "s1", "u3": "s0"}) == {"s1": "u1 u2", "s0": "u3"}
