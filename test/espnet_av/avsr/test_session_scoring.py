# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import json
import math
import sys

import pytest

from espnet_av.avsr.session_scoring import (
    inside,
    normalize_english,
    score_chunks,
    score_session,
    spoken,
    summarize,
)
from espnet_av.avsr.vtt import Caption
from espnet_av.utils.errors import EnvironmentProblem

REFERENCE = [Caption(12, 14, "how are you?"), Caption(10, 12, "Hello,")]


def test_chunks_in_a_row():
    score = score_chunks(REFERENCE, [Caption(12, 15, "HOW ARE <unk> YOU"), Caption(9, 12, "HELLO")], uid="v")
    assert score.wer == 0
    assert score.reference == "HELLO HOW ARE YOU"


def test_chunks_outside_the_captions_do_not_count():
    more = [Caption(8.9, 12, "EARLY"), Caption(13, 15.1, "LATE"), Caption(9.5, 14.5, "HELLO HOW ARE YOU")]
    assert score_chunks(REFERENCE, more).wer == 0
    assert score_chunks(REFERENCE, more, margin_sec=2).words.insertions == 2


def test_nobody_speaks():
    score = score_chunks([], [Caption(0, 1, "A B"), Caption(1, 2, "<unk>")])
    assert math.isnan(score.wer)
    assert score.words.insertions == 2
    assert score_chunks(REFERENCE, []).wer == 1.0


def test_normalisation_of_sessions():
    assert normalize_english("Um, I can't, erm, COLOUR twenty-five dollars <unk> hmm") == "i can not color $25"
    assert normalize_english("ah well", disfluencies=()) == "ah well"
    assert spoken(" <unk> ") == ""


def test_missing_package_is_named(monkeypatch):
    from espnet_av.avsr import session_scoring

    session_scoring._whisper_normalizer.cache_clear()
    monkeypatch.setitem(sys.modules, "whisper_normalizer.english", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'espnet_av\[avsr\]'"):
        normalize_english("a")


def session(**changes):
    options = {
        "name": "s",
        "true_clusters": {"a": 0, "b": 0, "c": 1, "d": 1},
        "clusters": {"a": 3, "b": 3, "c": 4, "d": 5},
        "uem": {name: (10.0, 70.0) for name in "abcd"},
    }
    references = {
        "a": [Caption(20, 21, "red blue"), Caption(9, 11, "not inside")],
        "b": [Caption(20, 21, "green white")],
        "c": [Caption(20, 21, "Hello there, um")],
        "d": [],
    }
    hypotheses = {
        "a": [Caption(20, 21, "RED BLUE"), Caption(69, 71, "NOT EITHER")],
        "b": [Caption(20, 21, "GREEN GREY")],
        "d": [Caption(30, 31, "YES")],
    }
    return score_session(references, hypotheses, **{**options, **changes})


def test_session():
    score = session()
    wer = {item.speaker: item.words.wer for item in score.speakers}
    assert wer["a"] == 0 and wer["c"] == 1.0 and math.isnan(wer["d"])
    assert 0 < wer["b"] <= 1
    assert score.wer == pytest.approx((wer["a"] + wer["b"] + wer["c"]) / 3)
    assert {item.speaker: item.f1 for item in score.speakers} == {"a": 1, "b": 1, "c": 0, "d": 0}
    assert score.clustering_f1 == pytest.approx(2 * 2 / (2 + 4))
    assert score.joint_error == pytest.approx((0 + wer["b"] / 2 + (1 + 1) / 2) / 3)
    assert score.silent_insertions_per_minute == pytest.approx(1.0)


def test_without_conversations_or_limits():
    score = session(true_clusters=None, uem=None)
    assert math.isnan(score.clustering_f1) and math.isnan(score.joint_error)
    assert (score.speakers[0].words.reference, score.speakers[0].words.hypothesis) == (
        "not inside red blue",
        "red blue not either",
    )
    assert session(clusters=None).clustering_f1 == 0.0


def test_summary_is_json():
    summary = summarize([session(), session(name="t", clusters={"a": 0, "b": 0, "c": 1, "d": 1})])
    text = json.dumps(summary, allow_nan=False)
    assert json.loads(text)["num_silent"] == 2
    assert summary["clustering_f1"] == pytest.approx((2 / 3 + 1) / 2)
    assert summary["sessions"]["s"]["speakers"]["d"]["wer"] is None
    assert summary["num_speakers"] == 8


def test_only_what_is_fully_inside():
    captions = [Caption(0, 1, "a"), Caption(1, 2, "b"), Caption(1.5, 2.5, "c")]
    assert [item.text for item in inside(captions, (1, 2))] == ["b"]
    assert inside(captions, None) == captions
