# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The mouth crop against values of the reference system (fixture h)."""

import dataclasses

import numpy as np
import pytest

from espnet_av.data.mouth_roi import CropRules, check_detection, crop_mouth, interpolate_missing, to_gray

MAX_MEAN_DIFFERENCE = 0.5  # levels of 255


@pytest.fixture(scope="module")
def golden(fixtures_dir):
    path = fixtures_dir("avsr") / "h_mouth_crop.npz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with np.load(path) as loaded:
        return dict(loaded)


def crop(golden, frames: np.ndarray) -> np.ndarray:
    missing = set(golden["missing"].tolist())
    landmarks = [None if index in missing else points for index, points in enumerate(golden["landmarks"])]
    rules = dataclasses.replace(CropRules.reference_compat(), crop_size=golden["crops_gray"].shape[-1])
    check_detection(landmarks, rules)
    return crop_mouth(frames, interpolate_missing(landmarks), rules=rules)


def mean_difference(crops: np.ndarray, expected: np.ndarray) -> float:
    assert crops.shape == expected.shape
    assert crops.dtype == np.uint8
    return float(np.abs(crops.astype(int) - expected.astype(int)).mean())


def test_colour_crops(golden):
    assert mean_difference(crop(golden, golden["frames"]), golden["crops_rgb"]) <= MAX_MEAN_DIFFERENCE


def test_gray_crops(golden):
    assert mean_difference(crop(golden, to_gray(golden["frames"])), golden["crops_gray"]) <= MAX_MEAN_DIFFERENCE


def test_gray_made_at_load_time(golden):
    gray = to_gray(crop(golden, golden["frames"]))
    assert mean_difference(gray, golden["crops_gray"]) <= MAX_MEAN_DIFFERENCE
