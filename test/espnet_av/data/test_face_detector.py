# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Detectors: geometry without weights, real faces with them."""

import numpy as np
import pytest

from espnet_av.data.face_detector import (
    MESH_TO_68,
    FaceBox,
    GivenLandmarks,
    LiteRTFaceMesh,
    NoDetector,
    _merge_overlapping,
    blazeface_anchors,
    roi_of_box,
    roi_of_mesh,
    to_68_points,
)
from espnet_av.data.video_io import read_video
from espnet_av.utils.assets import fetch_asset
from espnet_av.utils.errors import DataError, EnvironmentProblem, MissingDataError


@pytest.fixture(scope="module")
def detector():
    pytest.importorskip("ai_edge_litert", reason="needs the extra 'face'")
    try:
        fetch_asset("face_landmark.tflite")
    except EnvironmentProblem as error:
        pytest.skip(f"no model files: {error}")
    return LiteRTFaceMesh()


@pytest.fixture(scope="module")
def clip(shared_data):
    """About one second of a real face, (25, 288, 360, 3)."""
    return read_video(sorted((shared_data("grid_s1") / "video").glob("*.mpg"))[0]).frames[:25]


def test_anchors():
    anchors = blazeface_anchors()
    assert anchors.shape == (896, 2)
    np.testing.assert_allclose(anchors[0], [1 / 32, 1 / 32])
    np.testing.assert_allclose(anchors[2], [3 / 32, 1 / 32])  # two per cell, x runs first
    np.testing.assert_allclose(anchors[512], [1 / 16, 1 / 16])
    np.testing.assert_allclose(anchors[-1], [15 / 16, 15 / 16])


def test_points_of_the_68_scheme():
    stable = {28: 197, 33: 2, 36: 33, 39: 133, 42: 362, 45: 263, 48: 61, 54: 291}
    assert {index: MESH_TO_68[index] for index in stable} == stable
    ring = [61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87]
    assert list(MESH_TO_68[48:]) == ring
    assert len(set(MESH_TO_68)) == 68
    mesh = np.arange(478 * 3, dtype=np.float32).reshape(478, 3)
    np.testing.assert_array_equal(to_68_points(mesh)[48], mesh[61, :2])
    assert to_68_points(mesh[:68]).shape == (68, 2)
    with pytest.raises(DataError, match="5 points"):
        to_68_points(mesh[:5])


def test_overlapping_boxes_are_one_face():
    boxes = np.zeros((4, 8, 2))
    boxes[:, 0] = [[0.3, 0.3], [0.32, 0.3], [0.7, 0.7], [0.28, 0.3]]
    boxes[:, 1] = 0.2
    faces = _merge_overlapping(boxes, np.array([0.6, 0.9, 0.7, 0.9]))
    assert [score for _, score in faces] == [0.9, 0.7]
    np.testing.assert_allclose(faces[0][0][0], [(0.3 * 0.6 + 0.32 * 0.9 + 0.28 * 0.9) / 2.4, 0.3])
    assert _merge_overlapping(boxes[:0], np.zeros(0)) == []


def test_square_follows_the_eye_line():
    points = np.array([[10.0, 10], [20, 20], [0, 0], [0, 0], [0, 0], [0, 0]])
    roi = roi_of_box(FaceBox(np.array([50.0, 60]), np.array([20.0, 30]), points, 0.9))
    assert roi.side == 45
    assert roi.angle == pytest.approx(np.pi / 4)
    matrix = roi.matrix(192)
    np.testing.assert_allclose(matrix @ [50, 60, 1], [96, 96], atol=1e-4)
    eyes = matrix[:, :2] @ (points[1] - points[0])
    assert eyes[1] == pytest.approx(0, abs=1e-4)  # level in the picture
    assert np.hypot(*eyes) == pytest.approx(np.hypot(10, 10) * 192 / 45, rel=1e-5)


def test_given_landmarks(tmp_path):
    landmarks = np.random.default_rng(0).random((4, 68, 2))
    landmarks[1] = np.nan
    np.save(tmp_path / "a.npy", landmarks)
    np.savez(tmp_path / "b.npz", landmarks=np.nan_to_num(landmarks), missing=[1, 3])
    frames = np.zeros((4, 8, 8, 3), np.uint8)
    assert [p is None for p in GivenLandmarks(tmp_path / "a.npy").detect(frames)] == [False, True, False, False]
    assert [p is None for p in GivenLandmarks(tmp_path / "b.npz").detect(frames)] == [False, True, False, True]
    with pytest.raises(DataError, match="4 landmarks, 3 frames"):
        GivenLandmarks(tmp_path / "a.npy").detect(frames[:3])


def test_bad_landmark_files(tmp_path):
    with pytest.raises(MissingDataError):
        GivenLandmarks(tmp_path / "none.npy")
    np.save(tmp_path / "a.npy", np.zeros((4, 5, 2)))
    with pytest.raises(DataError, match="wrong shape"):
        GivenLandmarks(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot read landmarks"):
        GivenLandmarks(tmp_path / "a.npy")
    (tmp_path / "a.npy").write_bytes(b"")
    with pytest.raises(DataError, match="cannot read landmarks"):
        GivenLandmarks(tmp_path / "a.npy")


def test_no_detector():
    assert NoDetector().detect(np.zeros((3, 8, 8, 3), np.uint8)) == [None] * 3


def test_real_face(detector, clip):
    tracked = detector.detect(clip)
    assert all(mesh is not None and mesh.shape == (468, 2) and mesh.dtype == np.float32 for mesh in tracked)
    every_frame = LiteRTFaceMesh(redetect_every=1).detect(clip)
    distance = np.mean([np.abs(a - b).mean() for a, b in zip(tracked, every_frame, strict=True)])
    assert distance < 2.0  # pixels: tracking and detection agree
    mouth, nose = tracked[0][[61, 291]].mean(axis=0), tracked[0][4]
    assert mouth[1] > nose[1]


def test_no_face_is_none(detector):
    rng = np.random.default_rng(0)
    frames = np.full((3, 120, 160, 3), 128, np.uint8)
    frames[2] = rng.integers(0, 255, frames[2].shape)
    assert detector.detect(frames) == [None, None, None]


def test_found_again_after_a_gap(detector, clip):
    frames = clip[:8].copy()
    frames[3:5] = 128
    assert [mesh is None for mesh in detector.detect(frames)] == [False] * 3 + [True] * 2 + [False] * 3


def test_the_largest_face_counts(detector, clip):
    import cv2

    face = clip[0]
    small = cv2.resize(face, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    canvas = np.full((face.shape[0], face.shape[1] + small.shape[1], 3), 128, np.uint8)
    canvas[: small.shape[0], : small.shape[1]] = small
    alone = canvas.copy()
    canvas[:, small.shape[1] :] = face
    assert len(detector.find_faces(canvas)) == 2
    # a small face is tracked, then a larger one enters: from the next look on, that one counts
    meshes = LiteRTFaceMesh(redetect_every=4).detect(np.stack([alone] * 3 + [canvas] * 3))
    sides = [mesh[:, 0].mean() > small.shape[1] for mesh in meshes]
    assert sides == [False, False, False, False, True, True]


def test_next_square_contains_the_face(detector, clip):
    mesh = detector.detect(clip[:1])[0]
    roi = roi_of_mesh(mesh)
    inside = (roi.matrix(192) @ np.c_[mesh, np.ones(len(mesh))].T).T
    assert inside.min() > 20
    assert inside.max() < 172
