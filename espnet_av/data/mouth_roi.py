# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The mouth crop of AV-HuBERT, auto_avsr and AVSRCocktail: align the face to a mean face, cut 96x96 round the mouth.

Steps (the reference system's, in its order): fill missing landmarks by linear interpolation; smooth them over a window
that stays symmetric; fit a similarity to eight stable points; warp to 256x256; cut round the mean of the lip points.
Legend: T frames, H and W the frame size, C colours, landmarks in pixels of the frame in the 68-point scheme.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from espnet_av.data.face_detector import FaceDetector, Landmarks, LiteRTFaceMesh, to_68_points
from espnet_av.utils.errors import DataError, describe

ALIGNED_SIZE = 256
# index in the 68-point scheme -> x, y in the 256x256 mean face
MEAN_FACE = {
    28: (128.4885, 106.9246),
    33: (128.8702, 137.3025),
    36: (92.5225, 94.3688),
    39: (112.7724, 94.9436),
    42: (145.5251, 94.5350),
    45: (166.6771, 93.5656),
    48: (107.1676, 157.1961),
    54: (152.1928, 156.9871),
}
STABLE_POINTS = list(MEAN_FACE)
STABLE_TARGETS = np.array(list(MEAN_FACE.values()))
MOUTH_POINTS = slice(48, 68)
CENTRE_TOLERANCE = 5  # pixels the mouth centre may lie beyond half a crop from the middle of the mean face


class ClipRejected(DataError):
    """A clip that cannot give a mouth crop.

    Attributes:
        reason: Short name for counting: ``no_face``, ``low_detection``, ``long_gap``, ``too_few_frames``,
            ``off_centre``, ``degenerate_landmarks``, ``too_small``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class MouthCrops:
    """Crops of one clip.

    Attributes:
        frames: (T, S, S, 3) RGB uint8, or (T, S, S) when gray.
        num_detected: Frames in which a face was found.
        num_interpolated: Frames whose landmarks come from their neighbours.
    """

    frames: np.ndarray
    num_detected: int
    num_interpolated: int

    @property
    def detected_share(self) -> float:
        """Share of frames with a face, 0 to 1."""
        return self.num_detected / max(1, len(self.frames))


@dataclass(frozen=True)
class CropRules:
    """Sizes of the crop and what a clip must fulfil.

    Attributes:
        crop_size: Side of the crop in pixels.
        window: Width of the smoothing window in frames; +-``window // 2`` round each frame.
        min_frames: Shorter clips are refused.
        min_detected: Share of frames with a face below which a clip is refused.
        max_gap: Longest run of frames without a face that is interpolated; None interpolates any gap.
    """

    crop_size: int = 96
    window: int = 12
    min_frames: int = 12
    min_detected: float = 0.95
    max_gap: int | None = 5

    @classmethod
    def reference_compat(cls) -> "CropRules":
        """Return the rules of the reference system: one frame with a face is enough, any gap is interpolated."""
        return cls(min_detected=0.0, max_gap=None)


def extract_mouth(
    frames: np.ndarray, detector: FaceDetector | None = None, *, rules: CropRules = CropRules(), gray: bool = False
) -> MouthCrops:
    """Find the face in a clip and cut the aligned mouth out of every frame.

    Args:
        frames: RGB video (T, H, W, 3) uint8.
        detector: Finds the landmarks; None makes a :class:`LiteRTFaceMesh` (make one yourself for many clips).
        rules: Sizes and limits.
        gray: Return luma (T, S, S). The frames are turned gray before the warp, which is three times less work; gray
            made of a colour crop differs from it by at most one level.

    Returns:
        The crops.

    Raises:
        ClipRejected: With the reason, if the clip breaks a rule.
    """
    landmarks = (detector or LiteRTFaceMesh()).detect(frames)
    num_detected = check_detection(landmarks, rules)
    crops = crop_mouth(to_gray(frames) if gray else frames, interpolate_missing(landmarks), rules=rules)
    return MouthCrops(crops, num_detected, len(landmarks) - num_detected)


def check_detection(landmarks: Landmarks, rules: CropRules) -> int:
    """Apply the rules on missing faces and length.

    Args:
        landmarks: T entries, (N, 2) or None.
        rules: The limits.

    Returns:
        Number of frames with a face.

    Raises:
        ClipRejected: If there is no face at all, too few, too long a gap, or too few frames.
    """
    total = len(landmarks)
    num_detected = sum(points is not None for points in landmarks)
    if num_detected == 0:
        raise ClipRejected("no_face", describe(f"no face in any of {total} frames", fix="use a clip with a face"))
    if total < rules.min_frames:
        raise ClipRejected(
            "too_few_frames", describe("the clip is too short", got=total, allowed=f"at least {rules.min_frames}")
        )
    if num_detected < rules.min_detected * total:
        share = f"{num_detected} of {total} frames ({100 * num_detected / total:.1f} %)"
        raise ClipRejected(
            "low_detection",
            describe("too few frames show a face", got=share, allowed=f"at least {100 * rules.min_detected:g} %"),
        )
    gap = longest_gap(landmarks)
    if rules.max_gap is not None and gap > rules.max_gap:
        raise ClipRejected(
            "long_gap", describe("too long without a face", got=f"{gap} frames", allowed=f"at most {rules.max_gap}")
        )
    return num_detected


def longest_gap(landmarks: Landmarks) -> int:
    """Return the length of the longest run of None."""
    longest = run = 0
    for points in landmarks:
        run = run + 1 if points is None else 0
        longest = max(longest, run)
    return longest


def interpolate_missing(landmarks: Landmarks) -> np.ndarray:
    """Fill frames without a face: linear between the neighbours, the nearest one at the ends.

    Args:
        landmarks: T entries, (68|468|478, 2) or None, at least one of them not None.

    Returns:
        Landmarks (T, 68, 2) float64.
    """
    known = [index for index, points in enumerate(landmarks) if points is not None]
    values = np.stack([to_68_points(np.asarray(landmarks[index], dtype=np.float64)) for index in known])
    if len(known) == len(landmarks):
        return values
    frames = np.arange(len(landmarks))
    columns = [np.interp(frames, known, column) for column in values.reshape(len(known), -1).T]
    return np.stack(columns, axis=-1).reshape(len(landmarks), 68, 2)


def smooth_landmarks(landmarks: np.ndarray, window: int = 12) -> np.ndarray:
    """Mean over a symmetric window, moved back so that each frame keeps the centroid it had.

    Args:
        landmarks: (T, N, 2).
        window: The window reaches ``window // 2`` frames to both sides and shrinks at the ends of the clip.

    Returns:
        Smoothed landmarks (T, N, 2).
    """
    total = len(landmarks)
    smoothed = np.empty_like(landmarks)
    for index in range(total):
        reach = min(window // 2, index, total - 1 - index)
        mean = landmarks[index - reach : index + reach + 1].mean(axis=0)
        smoothed[index] = mean + landmarks[index].mean(axis=0) - mean.mean(axis=0)
    return smoothed


def crop_mouth(frames: np.ndarray, landmarks: np.ndarray, *, rules: CropRules = CropRules()) -> np.ndarray:
    """Cut the aligned mouth out of every frame.

    Args:
        frames: (T, H, W, 3) or (T, H, W) uint8.
        landmarks: (T, 68, 2), no gaps.
        rules: ``crop_size`` and ``window`` are used.

    Returns:
        Crops (T, S, S[, 3]) uint8.

    Raises:
        ClipRejected: If the landmarks give no similarity, or the mouth lies outside the aligned face.
    """
    smoothed = smooth_landmarks(landmarks, rules.window)
    crops = np.empty((len(frames), rules.crop_size, rules.crop_size, *frames.shape[3:]), np.uint8)
    for index, (frame, points) in enumerate(zip(frames, smoothed, strict=True)):
        matrix = estimate_alignment(points)
        x, y = _crop_corner(points @ matrix[:, :2].T + matrix[:, 2], rules.crop_size)
        # Pixels right of and below the crop are never looked at, so they are not made.
        right, bottom = x + rules.crop_size, y + rules.crop_size
        aligned = cv2.warpAffine(frame, matrix, (right, bottom), flags=cv2.INTER_LINEAR, borderValue=0)
        crops[index] = aligned[y:bottom, x:right]
    return crops


def estimate_alignment(points: np.ndarray) -> np.ndarray:
    """Fit the similarity (2, 3) from the eight stable points of a face (68, 2) to the mean face, by least median."""
    matrix, _ = cv2.estimateAffinePartial2D(points[STABLE_POINTS], STABLE_TARGETS, method=cv2.LMEDS)
    if matrix is None:
        raise ClipRejected("degenerate_landmarks", describe("the landmarks do not form a face", fix="check the clip"))
    return matrix


def _crop_corner(points: np.ndarray, size: int) -> tuple[int, int]:
    """Return the left and top edge of the crop round the mouth of aligned landmarks (68, 2)."""
    center = points[MOUTH_POINTS].mean(axis=0)
    limit = size / 2 + CENTRE_TOLERANCE
    if (np.abs(center - ALIGNED_SIZE / 2) > limit).any():
        raise ClipRejected(
            "off_centre",
            describe(
                "the mouth is too far from the middle of the aligned face",
                got=f"x {center[0]:.1f}, y {center[1]:.1f}",
                allowed=f"{ALIGNED_SIZE // 2} +- {limit:g}",
            ),
        )
    edges = np.clip(center - size / 2, 0, ALIGNED_SIZE - size)
    return round(float(edges[0])), round(float(edges[1]))


def centre_crop(frames: np.ndarray, size: int = 96) -> np.ndarray:
    """Cut the middle out of every frame, for clips that already are mouth videos.

    Args:
        frames: (T, H, W[, 3]).
        size: Side of the crop in pixels.

    Returns:
        (T, S, S[, 3]).

    Raises:
        ClipRejected: If the frames are smaller than the crop.
    """
    height, width = frames.shape[1:3]
    if height < size or width < size:
        raise ClipRejected(
            "too_small", describe("the frames are smaller than the crop", got=f"{width}x{height}", allowed=f">= {size}")
        )
    top, left = round((height - size) / 2), round((width - size) / 2)
    return np.ascontiguousarray(frames[:, top : top + size, left : left + size])


def to_gray(frames: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Return 8-bit luma (T, H, W) of RGB frames (T, H, W, 3), rounded as OpenCV does."""
    return np.stack([cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in frames])
