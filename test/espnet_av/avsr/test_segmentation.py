# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest

from espnet_av.avsr.segmentation import Segment, find_gaps, fixed_chunks, merge_scores, segment_by_asd
from espnet_av.utils.errors import UsageError


def scores_of(text: str, first: int = 0) -> dict[int, float]:
    """Scores of a drawing: # speech, . none, ~ in between, a blank without score."""
    values = {"#": 2.0, ".": 0.0, "~": 0.9}
    return {frame: values[mark] for frame, mark in enumerate(text, first) if mark != " "}


def spans(text: str, **options) -> list[tuple[int, int]]:
    options = {
        "fps": 10,
        "min_duration_on": 0.3,
        "min_duration_off": 0.2,
        "max_duration": 1.0,
        "min_chunk": 0.1,
        **options,
    }
    return [(segment.start_frame, segment.end_frame) for segment in segment_by_asd(scores_of(text), **options)]


def test_regions_begin_and_end():
    assert spans("..####..") == [(2, 6)]
    assert spans("######") == [(0, 6)]  # still speaking at the end
    assert spans("..~~####~~~...") == [(4, 11)]  # between the thresholds nothing changes
    assert spans("......") == spans("") == []


def test_short_pauses_are_joined_and_short_regions_dropped():
    assert spans("####..####") == [(0, 10)]
    assert spans("####...####") == [(0, 4), (7, 11)]
    assert spans("####....##....###") == [(0, 4), (14, 17)]
    assert spans("##..##") == [(0, 6)]  # joined first; the length counts the pause
    assert spans("###...###", min_duration_off=0.3) == [(0, 9)]


def test_long_regions_are_cut_evenly():
    assert spans("#" * 10) == [(0, 10)]
    assert spans("#" * 11) == [(0, 5), (5, 11)]
    assert spans("#" * 25) == [(0, 8), (8, 16), (16, 25)]
    pieces = spans("##.." * 50, min_duration_off=0.5)
    assert max(end - start for start, end in pieces) <= 10
    assert [start for start, _ in pieces[1:]] == [end for _, end in pieces[:-1]]  # nothing is lost between pieces


def test_missing_scores_end_a_region():
    assert spans("####    ####") == [(0, 4), (8, 12)]
    assert spans("####  ####") == [(0, 10)]
    assert spans("####    ####", legacy=True) == [(0, 12)]


def test_slips_of_the_reference_come_back():
    assert spans("##.....###", min_duration_off=None) == [(0, 10)]  # 0.5 s
    assert spans("####.....####", min_duration_off=None, min_duration_on=0.4, legacy=True) == [(0, 4), (9, 13)]
    speech = "####" + "." * 8  # 0.4 s of speech every 1.2 s
    long = segment_by_asd(scores_of(speech * 40), fps=10, legacy=True)
    assert max(segment.num_frames for segment in long) > 100
    repaired = segment_by_asd(scores_of(speech * 40), fps=10, min_duration_off=1.0)
    assert max(segment.num_frames for segment in repaired) <= 100


def test_frames_and_times():
    scores = {**scores_of("###", 50), **scores_of("###", 54)}
    (segment,) = segment_by_asd(scores, fps=10, min_duration_on=0.1)
    assert segment.frames == (50, 51, 52, 54, 55, 56)
    assert segment.num_frames == 7
    assert segment.times(50, 10) == (0.0, 0.7)
    assert segment.times(50, 10, legacy=True) == (0.0, 0.6)
    assert Segment(25, 50, ()).times() == (1.0, 2.0)


def test_order_of_the_frames_does_not_matter():
    scores = scores_of("..######...########")
    shuffled = dict(reversed(scores.items()))
    assert segment_by_asd(scores, fps=10) == segment_by_asd(shuffled, fps=10)


@pytest.mark.parametrize(
    "options",
    [
        {"onset": 0.5},
        {"max_duration": 0.0},
        {"min_duration_on": -1},
        {"min_chunk": math.nan},
        {"min_duration_off": -0.1},
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(UsageError):
        segment_by_asd({}, **options)


@pytest.mark.parametrize("max_sec", [0.7, 1, 2.5, 10, 15])
def test_fixed_chunks_cover_the_clip(max_sec):
    for duration in np.random.default_rng(0).uniform(0.03, 100, 200):
        chunks = fixed_chunks(duration, max_sec)
        assert chunks[0][0] == 0
        assert chunks[-1][1] == duration
        assert [start for start, _ in chunks[1:]] == [end for _, end in chunks[:-1]]
        assert max(end - start for start, end in chunks) <= max_sec + 0.011
    assert fixed_chunks(0) == fixed_chunks(-1) == []


def test_fixed_chunks_refuse_nonsense():
    for duration, max_sec in ((10, 0), (10, -1), (math.nan, 10), (math.inf, 10)):
        with pytest.raises(UsageError, match="cannot be cut"):
            fixed_chunks(duration, max_sec)


def test_scores_of_several_tracks():
    assert list(merge_scores([{5: 1.0, 6: 1.0}, {1: 0.0, 5: 3.0}]).items()) == [(1, 0.0), (5, 3.0), (6, 1.0)]
    assert find_gaps({2: 0.0, 3: 0.0, 6: 0.0}, 1, 9) == [(1, 2), (4, 6), (7, 9)]
    assert find_gaps({0: 0.0}, 0, 1) == []
