# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Segmentation, conversations and session scores against golden data of the reference system."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from espnet_av.avsr.clustering import cluster, pair_scores, score_clustering
from espnet_av.avsr.segmentation import fixed_chunks, segment_by_asd
from espnet_av.avsr.session_scoring import score_chunks
from espnet_av.avsr.vtt import Caption, parse_vtt

OUR_NAMES = {"max_chunk_size": "max_duration", "min_chunk_size": "min_chunk"}


@pytest.fixture(scope="module")
def segmentation(fixtures_dir) -> dict:
    return json.loads((fixtures_dir("avsr") / "d_segmentation.json").read_text())


def options(params: dict) -> dict:
    return {OUR_NAMES.get(name, name): value for name, value in params.items()}


def tracks(segmentation: dict) -> dict[int, dict[int, float]]:
    """Scores of every track, which are listed once."""
    cases = [case for case in segmentation["segment_by_asd"] if "scores" in case]
    return {case["track"]: dict(enumerate(case["scores"], case["start"])) for case in cases}


def test_segments_of_the_reference(segmentation):
    scores = tracks(segmentation)
    assert len(segmentation["segment_by_asd"]) >= len(scores) > 0
    for case in segmentation["segment_by_asd"]:
        known = {frame: score for frame, score in scores[case["track"]].items() if score is not None}
        found = [
            {
                "first": segment.frames[0],
                "last": segment.frames[-1],
                "n_frames": len(segment.frames),
                "frames_crc32": zlib.crc32(np.array(segment.frames, "<i4").tobytes()),
            }
            for segment in segment_by_asd(known, legacy=True, **options(case["params"]))
        ]
        assert found == case["segments"], (case["track"], case["params"])
    empty = [[segment.start_frame, segment.end_frame] for segment in segment_by_asd({}, legacy=True)]
    assert empty == segmentation["empty"]


def test_repaired_rules_keep_their_limits(segmentation):
    fps = 25
    for case in segmentation["segment_by_asd"]:
        known = {f: s for f, s in tracks(segmentation)[case["track"]].items() if s is not None}
        given = {"max_duration": 10.0, "min_duration_on": 1.0, **options(case["params"])}
        segments = segment_by_asd(known, **given)
        assert all(segment.num_frames <= int(given["max_duration"] * fps) for segment in segments)
        ends = [edge for segment in segments for edge in (segment.start_frame, segment.end_frame)]
        assert ends == sorted(ends)


def test_chunks_in_seconds(segmentation):
    case = segmentation["asd_chunks_seconds"]
    scores = {int(frame): score for frame, score in case["scores"].items()}
    segments = segment_by_asd(scores, max_duration=case["max_length"], legacy=True)
    found = [segment.times(min(scores), legacy=True) for segment in segments]
    np.testing.assert_allclose(found, case["segments"], rtol=0, atol=1e-9)
    assert segmentation["fixed_chunks"]
    for case in segmentation["fixed_chunks"]:
        found = fixed_chunks(case["duration"], case["max_length"])
        np.testing.assert_allclose(found, case["segments"], rtol=0, atol=1e-9)


def test_conversations(segmentation):
    assert segmentation["clustering"]
    for case in segmentation["clustering"]:
        people = sorted(case["labels"])
        if case["segments"] is not None:
            speech = {name: case["segments"][name] for name in people}
            np.testing.assert_allclose(pair_scores(speech), case["scores"], rtol=0, atol=1e-9)
        found = cluster(np.array(case["scores"]), case["threshold"])
        pairs = set(zip((case["labels"][name] for name in people), found, strict=True))
        assert len(pairs) == len(set(found)) == len(set(case["labels"].values())), case["threshold"]


def test_f1_of_conversations(segmentation):
    assert segmentation["f1"]
    for case in segmentation["f1"]:
        names = [str(index) for index in range(len(case["true"]))]
        score = score_clustering(
            dict(zip(names, case["pred"], strict=True)), dict(zip(names, case["true"], strict=True))
        )
        assert score.f1 == pytest.approx(case["pairwise_f1"], abs=1e-9)
        assert [score.f1_of[name] for name in names] == pytest.approx(case["per_speaker"], abs=1e-9)


def test_word_error_rate_of_a_video(fixtures_dir: object):
    case = json.loads((fixtures_dir("avsr") / Path("k_session_wer.json")).read_text())
    captions = parse_vtt(case["label_vtt"])
    assert case["hypotheses"].keys() == case["expected_wer"].keys()
    for name, chunks in case["hypotheses"].items():
        score = score_chunks(captions, [Caption(*chunk) for chunk in chunks], uid=name)
        assert score.wer == pytest.approx(case["expected_wer"][name], abs=1e-9), name
        assert score.words.num_reference == case["num_words"]
