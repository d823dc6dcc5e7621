# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The heuristic for active speakers on faces that are drawn by numbers."""

import numpy as np
import pytest

from espnet_av.avsr.mouth_motion import MouthMotionScorer, lip_motion, sound_level
from espnet_av.data.face_tracks import FaceTrack
from espnet_av.utils.errors import UsageError

T = 150
TALK = slice(50, 100)


def face(opening: np.ndarray, size: float = 1.0) -> FaceTrack:
    """A face with eyes 100 apart and lips ``opening`` apart."""
    points = np.zeros((len(opening), 68, 2))
    points[:, 36], points[:, 45] = (-50, -60), (50, -60)
    points[:, 60], points[:, 64] = (-20, 0), (20, 0)
    points[:, 61:64] = [(-10, 0), (0, 0), (10, 0)]
    points[:, 65:68] = [(10, 0), (0, 0), (-10, 0)]
    points[:, 65:68, 1] = np.asarray(opening)[:, None]
    noise = np.random.default_rng(0).normal(0, 0.2, points.shape)
    points = (points + noise) * size
    return FaceTrack(0, np.zeros((len(opening), 4), np.float32), points.astype(np.float32), np.ones(len(opening), bool))


def talking() -> np.ndarray:
    opening = np.full(T, 2.0)
    opening[TALK] = 8 + 6 * np.sin(2 * np.pi * 4 * np.arange(50) / 25)
    return opening


def sound() -> np.ndarray:
    wave = np.random.default_rng(1).normal(0, 0.001, T * 640)
    wave[TALK.start * 640 : TALK.stop * 640] *= 100
    return wave


def test_speech_is_moving_lips_with_sound():
    scores = MouthMotionScorer().score_track(face(talking()), sound())
    assert scores.shape == (T,)
    assert scores.dtype == np.float32
    assert (scores[TALK.start + 5 : TALK.stop - 5] > 1.0).all()
    assert (scores[: TALK.start - 15] < 0.8).all()
    assert (scores[TALK.stop + 15 :] < 0.8).all()


def test_sound_without_lips_and_lips_without_sound_are_silence():
    scorer = MouthMotionScorer()
    assert (scorer.score_track(face(np.full(T, 2.0)), sound()) < 0.8).all()
    quiet = np.zeros(T * 640)
    assert (scorer.score_track(face(talking()), quiet) < 0.8).all()


def test_the_size_of_the_face_and_the_type_of_the_sound_do_not_matter():
    scorer = MouthMotionScorer()
    scores = scorer.score_track(face(talking()), sound())
    np.testing.assert_allclose(scorer.score_track(face(talking(), 3.0), sound()), scores, atol=1e-3)
    as_int = np.round(sound() * 32768).astype(np.int16)
    np.testing.assert_allclose(scorer.score_track(face(talking()), as_int), scores, atol=0.02)


def test_level_and_motion():
    level = sound_level(np.full(640 * 2, 0.1), 3)
    np.testing.assert_allclose(level, [-20, -20, -100])
    assert lip_motion(face(talking()).landmarks)[75] > 5 * lip_motion(face(talking()).landmarks)[10]
    with pytest.raises(UsageError, match="above 0"):
        MouthMotionScorer(window_sec=0)
