# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Mouth crops by their properties; the values of the reference are in test/golden/test_avsr_mouth_crop.py."""

import cv2
import numpy as np
import pytest

from espnet_av.data.face_detector import LiteRTFaceMesh
from espnet_av.data.mouth_roi import (
    MEAN_FACE,
    ClipRejected,
    CropRules,
    centre_crop,
    check_detection,
    crop_mouth,
    estimate_alignment,
    extract_mouth,
    interpolate_missing,
    longest_gap,
    smooth_landmarks,
    to_gray,
)
from espnet_av.data.video_io import read_video
from espnet_av.utils.assets import fetch_asset
from espnet_av.utils.errors import EnvironmentProblem


def face_points() -> np.ndarray:
    """A face (68, 2) whose stable points are the mean face's; the lips lie round (130, 157)."""
    points = np.tile([128.0, 120.0], (68, 1))
    angles = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    points[48:] = np.c_[130 + 22 * np.cos(angles), 157 + 8 * np.sin(angles)]
    for index, place in MEAN_FACE.items():
        points[index] = place
    return points


def moved(points: np.ndarray, scale: float, degrees: float, shift: tuple) -> tuple[np.ndarray, np.ndarray]:
    angle = np.deg2rad(degrees)
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ matrix.T + shift, np.c_[matrix, shift]


class Fixed:
    def __init__(self, landmarks):
        self.landmarks = landmarks

    def detect(self, frames):
        return self.landmarks


@pytest.fixture
def picture():
    rng = np.random.default_rng(0)
    return cv2.GaussianBlur(rng.integers(0, 255, (256, 256, 3)).astype(np.uint8), (0, 0), 5)


def test_crop_does_not_see_position_size_and_tilt(picture):
    straight = crop_mouth(picture[None], face_points()[None])[0]
    points, matrix = moved(face_points(), 1.7, 20, (60, -30))
    tilted = cv2.warpAffine(picture, matrix, (560, 560))
    crop = crop_mouth(tilted[None], points[None])[0]
    assert crop.shape == (96, 96, 3)
    assert np.abs(crop.astype(int) - straight.astype(int)).mean() < 2


def test_only_the_needed_part_is_warped_and_it_is_the_same(picture):
    points = moved(face_points(), 1.2, -10, (5, 12))[0]
    matrix = estimate_alignment(points)
    whole = cv2.warpAffine(picture, matrix, (256, 256), flags=cv2.INTER_LINEAR)
    center = (points[48:68] @ matrix[:, :2].T + matrix[:, 2]).mean(axis=0)
    x, y = (round(float(value)) for value in center - 48)
    np.testing.assert_array_equal(crop_mouth(picture[None], points[None])[0], whole[y : y + 96, x : x + 96])


def test_alignment_survives_one_wild_point():
    points = moved(face_points(), 1.3, 15, (20, 10))[0]
    expected = estimate_alignment(points)
    points[36] += 40
    np.testing.assert_allclose(estimate_alignment(points), expected, atol=0.02)


def test_smoothing_keeps_the_centroid_and_the_ends():
    rng = np.random.default_rng(0)
    landmarks = rng.standard_normal((30, 68, 2)) + np.arange(30)[:, None, None]
    smoothed = smooth_landmarks(landmarks)
    np.testing.assert_allclose(smoothed.mean(axis=1), landmarks.mean(axis=1))
    np.testing.assert_allclose(smoothed[0], landmarks[0])
    np.testing.assert_allclose(smoothed[-1], landmarks[-1])
    window = landmarks[9:22].mean(axis=0)  # +-6 frames round frame 15
    np.testing.assert_allclose(smoothed[15], window - window.mean(axis=0) + landmarks[15].mean(axis=0))
    window = landmarks[0:5].mean(axis=0)  # +-2 round frame 2
    np.testing.assert_allclose(smoothed[2], window - window.mean(axis=0) + landmarks[2].mean(axis=0))


def test_interpolation():
    points = face_points()
    filled = interpolate_missing([None, points, None, None, points + 3, None])
    np.testing.assert_allclose(filled[:, 0, 0] - points[0, 0], [0, 0, 1, 2, 3, 3])
    assert filled.shape == (6, 68, 2)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [("." * 50, "no_face"), ("x" * 11, "too_few_frames"), ("xx....." + "x" * 13, "low_detection")],
)
def test_refused_clips(pattern, reason):
    landmarks = [face_points() if letter == "x" else None for letter in pattern]
    with pytest.raises(ClipRejected) as raised:
        check_detection(landmarks, CropRules())
    assert raised.value.reason == reason


def test_gaps():
    points = face_points()
    landmarks = [points] * 100 + [None] * 5 + [points] * 100
    assert longest_gap(landmarks) == 5
    assert check_detection(landmarks, CropRules()) == 200
    landmarks[105] = None
    with pytest.raises(ClipRejected, match="6 frames") as raised:
        check_detection(landmarks, CropRules())
    assert raised.value.reason == "long_gap"
    assert check_detection([None] * 30 + [points], CropRules.reference_compat()) == 1


def test_mouth_outside_the_aligned_face():
    points = face_points()
    points[48:] += [0, 60]
    points[48], points[54] = MEAN_FACE[48], MEAN_FACE[54]
    with pytest.raises(ClipRejected, match="x 1") as raised:
        crop_mouth(np.zeros((1, 256, 256), np.uint8), points[None])
    assert raised.value.reason == "off_centre"


def test_landmarks_in_one_point():
    with pytest.raises(ClipRejected) as raised:
        crop_mouth(np.zeros((1, 64, 64), np.uint8), np.zeros((1, 68, 2)))
    assert raised.value.reason == "degenerate_landmarks"


def test_extract_counts_and_turns_gray(picture):
    landmarks = [face_points()] * 39 + [None]
    frames = np.stack([picture] * 40)
    crops = extract_mouth(frames, Fixed(landmarks), gray=True)
    assert crops.frames.shape == (40, 96, 96)
    assert (crops.num_detected, crops.num_interpolated) == (39, 1)
    assert crops.detected_share == 39 / 40
    colour = extract_mouth(frames, Fixed(landmarks)).frames
    assert np.abs(to_gray(colour).astype(int) - crops.frames.astype(int)).max() <= 1


def test_centre_crop():
    frames = np.arange(2 * 100 * 110, dtype=np.uint32).reshape(2, 100, 110).astype(np.uint8)
    np.testing.assert_array_equal(centre_crop(frames), frames[:, 2:98, 7:103])
    with pytest.raises(ClipRejected, match="110x100"):
        centre_crop(frames, 101)


@pytest.fixture(scope="module")
def detector():
    pytest.importorskip("ai_edge_litert", reason="needs the extra 'face'")
    try:
        fetch_asset("face_landmark.tflite")
    except EnvironmentProblem as error:
        pytest.skip(f"no model files: {error}")
    return LiteRTFaceMesh()


def test_crops_of_a_real_clip_are_steady(detector, shared_data):
    frames = read_video(sorted((shared_data("grid_s1") / "video").glob("*.mpg"))[1]).frames
    crops = extract_mouth(frames, detector, gray=True)
    assert crops.detected_share == 1.0
    pictures = crops.frames.astype(np.float32)
    window = cv2.createHanningWindow((96, 96), cv2.CV_32F)
    pairs = zip(pictures[:-1], pictures[1:], strict=True)
    shifts = [np.hypot(*cv2.phaseCorrelate(first, second, window)[0]) for first, second in pairs]
    assert np.mean(shifts) < 0.8  # pixels from one frame to the next; a crop that jumps gives several


def test_damaged_clip_is_dropped_with_the_reason(detector, shared_data):
    path = shared_data("grid_s1") / "video" / "pbio7a.mpg"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with pytest.raises(ClipRejected, match="of 75 frames") as raised:
        extract_mouth(read_video(path).frames, detector)
    assert raised.value.reason == "low_detection"
