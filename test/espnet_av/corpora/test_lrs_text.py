# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Transcript files of LRS2 and LRS3, and cuts by word times."""

from pathlib import Path

import numpy as np
import pytest
from lrs_trees import LONG_TABLE, write_transcript

from espnet_av.corpora.lrs_text import FPS, cut_utterances, cut_words, read_transcript
from espnet_av.corpora.utterances import Utterance, Word
from espnet_av.utils.errors import DataError, MissingDataError, UsageError


def words_of(*times):
    return [Word(f"W{index}", start, end) for index, (start, end) in enumerate(times)]


def test_headers_boxes_and_words(tmp_path):
    path = tmp_path / "00001.txt"
    write_transcript(path, "  And so {LG} it  WENT ", LONG_TABLE, boxes=True)
    transcript = read_transcript(path)
    assert transcript.text == "AND SO IT WENT"
    assert [word.text for word in transcript.words] == ["AND", "SO", "WE", "WENT", "OUT", "AGAIN"]
    assert transcript.words[2] == Word("WE", 1.0, 1.2)
    assert read_transcript(path, legacy=True).text == "AND SO LG IT WENT"
    write_transcript(path, "NO TABLE", boxes=True)
    assert read_transcript(path).words == ()


def test_table_without_scores_ends_at_a_blank_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("Text:  OH\nConf: 3\n\nWORD START END\nOH 0.1 0.2\n\nthe end of it\n")
    assert read_transcript(path).words == (Word("OH", 0.1, 0.2),)


@pytest.mark.parametrize("row", ["OH 0.3", "OH 0.3 0.2 1", "OH a b 1", "OH nan 0.2 1", "OH -1 0.2 1", "OH 0.05 0.2 1"])
def test_bad_rows_are_named(tmp_path, row):
    path = tmp_path / "bad.txt"
    path.write_text(f"Text:  OH\n\nWORD START END ASDSCORE\nAH 0.1 0.2 1\n{row}\n")
    with pytest.raises(DataError, match=r"bad\.txt, line 5 is no word"):
        read_transcript(path)


def test_files_that_are_no_transcripts(tmp_path):
    with pytest.raises(MissingDataError, match="no transcript"):
        read_transcript(tmp_path / "absent.txt")
    (tmp_path / "a.txt").write_text("Conf: 3\n")
    with pytest.raises(DataError, match="no line 'Text: ...'"):
        read_transcript(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_bytes(b"Text: \xff\n")
    with pytest.raises(DataError, match="UTF-8"):
        read_transcript(tmp_path / "a.txt")


def test_cuts_hold_as_many_words_as_fit():
    words = words_of((0.5, 1.0), (1.1, 1.5), (3.0, 3.4), (3.5, 4.0))
    cuts, lost = cut_words(words, 2.0)
    assert lost == 0
    assert [[word.text for word in cut.words] for cut in cuts] == [["W0", "W1"], ["W2", "W3"]]
    # margins: 0.2 s, in whole frames outwards
    assert [(cut.start_sec, cut.end_sec) for cut in cuts] == [(0.28, 1.72), (2.8, 4.2)]
    assert cuts[1].words[0].start_sec == pytest.approx(0.2)
    whole, _ = cut_words(words, 16.0)
    assert [len(cut.words) for cut in whole] == [4]


def test_legacy_cuts_have_no_margins():
    cuts, _ = cut_words(words_of((0.52, 1.0), (1.1, 1.52), (3.0, 3.4)), 2.0, legacy=True)
    assert [(cut.start_sec, cut.end_sec) for cut in cuts] == [(0.0, 1.52), (3.0, 3.4)]


def test_a_word_that_is_too_long_is_left_out():
    cuts, lost = cut_words(words_of((0.0, 0.5), (0.5, 5.0), (5.0, 5.5)), 2.0)
    assert lost == 1
    assert [[word.text for word in cut.words] for cut in cuts] == [["W0"], ["W2"]]
    with pytest.raises(UsageError, match="at least one frame"):
        cut_words([], 0.01)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("legacy", [False, True])
def test_cuts_keep_words_order_and_limit(seed, legacy):
    rng = np.random.default_rng(seed)
    ends = np.cumsum(rng.uniform(0.05, 1.5, 80))
    words = words_of(*((round(end - rng.uniform(0.04, 0.6) * 0.05, 2), round(end, 2)) for end in ends))
    limit = float(rng.uniform(2, 16))
    cuts, lost = cut_words(words, limit, legacy=legacy)
    assert lost == 0
    assert [word.text for cut in cuts for word in cut.words] == [word.text for word in words]
    for cut in cuts:
        assert cut.end_sec - cut.start_sec <= limit + 1e-9
        assert round(cut.start_sec * FPS) == pytest.approx(cut.start_sec * FPS, abs=1e-6)
        assert all(0 <= word.start_sec <= word.end_sec <= cut.end_sec - cut.start_sec + 0.02001 for word in cut.words)
    frames = [round(time * FPS) for cut in cuts for time in (cut.start_sec, cut.end_sec)]
    # two cuts share at most the frame in the middle of a pause
    assert all(after >= before - 1 for before, after in zip(frames[1::2], frames[2::2], strict=False))


def test_utterances_of_a_clip(tmp_path):
    write_transcript(tmp_path / "a.txt", "X", LONG_TABLE)
    whole = Utterance("a", "s", "X", Path("a.mp4"))
    parts = cut_utterances(whole, read_transcript(tmp_path / "a.txt"), 2.0)
    assert [(part.utt, part.text) for part in parts] == [("a-00", "AND SO WE WENT"), ("a-01", "OUT AGAIN")]
    assert all(part.is_cut and part.video == whole.video for part in parts)
    write_transcript(tmp_path / "a.txt", "X")
    assert cut_utterances(whole, read_transcript(tmp_path / "a.txt")) == [whole]
