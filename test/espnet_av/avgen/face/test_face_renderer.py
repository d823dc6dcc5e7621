# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Faces: same numbers, same pixels; the mouth shows what the phones say; the detector finds everyone."""

import numpy as np
import pytest

from espnet_av.avgen.face.identity import make_identity
from espnet_av.avgen.face.motion import blink_track, gaze_track, idle_mouth, pose_track
from espnet_av.avgen.face.renderer import FRAME_SIDE, FaceRenderer, MotionTracks
from espnet_av.avgen.face.visemes import VISEMES


def _tracks(identity, visemes, seed=0, moving=True):
    articulation = np.array([VISEMES[name] for name in visemes], dtype=np.float32)
    count, rng = len(visemes), np.random.default_rng(seed)
    pose = pose_track(identity, count, rng) if moving else np.tile(np.float32([0, 0, 0, 1, 0, 0]), (count, 1))
    blink = blink_track(count, rng) if moving else np.zeros(count, np.float32)
    gaze = gaze_track(count, rng) if moving else np.zeros((count, 2), np.float32)
    return MotionTracks(articulation, pose, blink, gaze).rounded()


@pytest.fixture(scope="module")
def face():
    identity = make_identity(0, 0, high_voice=False)
    return identity, FaceRenderer(identity)


def test_same_tracks_same_pixels(face):
    identity, renderer = face
    tracks = _tracks(identity, ["sil", "AA", "IY"])
    first = renderer.render(tracks, 7)
    assert first.shape == (3, FRAME_SIDE, FRAME_SIDE, 3) and first.dtype == np.uint8
    assert np.array_equal(first, FaceRenderer(identity).render(tracks, 7))
    assert not np.array_equal(first, renderer.render(tracks, 8))


def test_open_mouth_is_darker_than_a_closed_one_and_eyes_do_not_care(face):
    identity, renderer = face
    closed, wide = renderer.render(_tracks(identity, ["PBM", "AA"], moving=False), 1).astype(float)
    row = int((identity.mouth_y * identity.zoom / 1.25 + 1) * FRAME_SIDE / 2)
    mouth = (slice(row + 2, row + 14), slice(104, 120))
    assert wide[mouth].mean() < 0.75 * closed[mouth].mean()
    assert np.abs(wide - closed)[:90].mean() < 3


def test_visemes_look_different(face):
    identity, renderer = face
    names = ["PBM", "FV", "TH", "SH", "W", "AA", "IY", "L"]
    frames = renderer.render(_tracks(identity, names, moving=False), 1)[:, 120:200, 70:154].astype(float)
    for k in range(len(names)):
        for j in range(k):
            assert np.abs(frames[k] - frames[j]).mean() > 2.0, (names[k], names[j])


def test_identities_differ():
    frames = []
    for index in range(4):
        identity = make_identity(index, 0, high_voice=index == 2)
        frames.append(FaceRenderer(identity).render(_tracks(identity, ["sil"], moving=False), 1)[0].astype(float))
    for k in range(4):
        for j in range(k):
            assert np.abs(frames[k] - frames[j]).mean() > 15
    assert make_identity(1, 0, high_voice=False) != make_identity(1, 1, high_voice=False)


def test_idle_mouth_moves_a_little_and_never_speaks():
    rest = np.tile(np.float32(VISEMES["sil"]), (60, 1))
    moved = idle_mouth(rest, np.random.default_rng(0))
    assert not np.array_equal(moved, rest) and moved[:, 0].max() < 0.1


def test_the_face_front_end_finds_every_identity():
    pytest.importorskip("ai_edge_litert")
    from espnet_av.data.face_detector import LiteRTFaceMesh
    from espnet_av.utils.assets import cached_asset

    for name in ("face_detection_short_range.tflite", "face_landmark.tflite"):
        if cached_asset(name) is None:
            pytest.skip(f"{name} has not been fetched")
    detector = LiteRTFaceMesh()
    for index in range(14):
        identity = make_identity(index, 0, high_voice=index in (2, 5, 12))
        names = list(VISEMES)[::4]
        meshes = detector.detect(FaceRenderer(identity).render(_tracks(identity, names, seed=index), index))
        assert all(mesh is not None for mesh in meshes), index
