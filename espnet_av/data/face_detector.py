# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Where the face is in every frame: detectors behind one interface.

* :class:`LiteRTFaceMesh` runs BlazeFace (Bazarevsky et al., arXiv 1907.05047) and the 468-point face mesh (Kartynnik et
  al., arXiv 1907.06724) on the LiteRT interpreter; the weights come from :mod:`espnet_av.utils.assets`.
* :class:`GivenLandmarks` takes landmarks somebody else made.
* :class:`NoDetector` finds nothing and asks for nothing: the clip is already a mouth video, or a centre crop will do.

Legend: T frames, H and W the frame size, N landmarks. Coordinates are pixels of the frame, x to the right, y down.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from espnet_av.utils.assets import fetch_asset
from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.optional import require

Landmarks = Sequence[np.ndarray | None]

# The 468-point mesh index of each point of the 68-point (iBUG) scheme. The points the mouth crop depends on (28, 33,
# 36, 39, 42, 45 and 48-67) are the correspondences under which the mesh reproduces the reference crop.
MESH_TO_68 = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),  # 0-16 jaw
    *(71, 63, 105, 66, 107, 336, 296, 334, 293, 301),  # 17-26 brows
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),  # 27-35 nose
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),  # 36-47 eyes
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),  # 48-59 outer lip
    *(78, 82, 13, 312, 308, 317, 14, 87),  # 60-67 inner lip
)
MESH_EYE_RIGHT, MESH_EYE_LEFT = 33, 263  # outer corners, as the person sees them
NUM_MESH_POINTS = 468
DETECTOR_SIZE = 128
MESH_SIZE = 192
ROI_SCALE = 1.5  # the mesh looks at a square of 1.5 times the face box


class FaceDetector(Protocol):
    """Anything that finds the landmarks of one face in every frame of a clip."""

    def detect(self, frames: np.ndarray) -> list[np.ndarray | None]:
        """Find one face per frame.

        Args:
            frames: RGB video (T, H, W, 3) uint8.

        Returns:
            T entries: landmarks (N, 2) float32 in pixels, or None where there is no face.
        """
        ...


def to_68_points(points: np.ndarray) -> np.ndarray:
    """Return landmarks in the 68-point scheme.

    Args:
        points: (68, 2), or a face mesh (468, 2) or (478, 2); a third column (depth) is dropped.

    Returns:
        Landmarks (68, 2), dtype kept.

    Raises:
        DataError: If the number of points is another.
    """
    points = points[:, :2]
    if len(points) == 68:
        return points
    if len(points) in (NUM_MESH_POINTS, NUM_MESH_POINTS + 10):
        return points[list(MESH_TO_68)]
    raise DataError(describe("unknown landmark scheme", got=f"{len(points)} points", allowed=[68, 468, 478]))


@dataclass(frozen=True)
class FaceBox:
    """One detected face: centre (2,), size (2,), six key points (6, 2) in pixels, and the detector's score."""

    center: np.ndarray
    size: np.ndarray
    key_points: np.ndarray
    score: float

    def contains(self, point: np.ndarray) -> bool:
        """Tell whether a point (2,) lies in the box."""
        return bool(np.all(np.abs(point - self.center) <= self.size / 2))


@dataclass(frozen=True)
class SquareROI:
    """A rotated square: centre (2,) and side in pixels, angle of the eye line in radians."""

    center: np.ndarray
    side: float
    angle: float

    def matrix(self, size: int) -> np.ndarray:
        """Return the (2, 3) map from frame pixels to a ``size`` x ``size`` picture of the square."""
        scale = size / self.side
        cos, sin = np.cos(self.angle) * scale, np.sin(self.angle) * scale
        x, y = self.center
        return np.array(
            [[cos, sin, size / 2 - cos * x - sin * y], [-sin, cos, size / 2 + sin * x - cos * y]], dtype=np.float32
        )


class LiteRTFaceMesh:
    """BlazeFace + 468-point face mesh with tracking.

    The mesh of a frame gives the square in which the next frame's face is looked for; the detector runs on the first
    frame, wherever the mesh loses the face, and every ``redetect_every`` frames. Of several faces the one with the
    largest width + height counts.

    Args:
        cache: Folder of the model files; None takes the usual one, and downloads into it what is missing.
        min_score: Lowest detector score and lowest face presence of the mesh, both in (0, 1).
        redetect_every: Frames between two looks for a larger face; 1 runs the detector on every frame (no tracking).
        num_threads: Threads of the interpreter.

    Raises:
        EnvironmentProblem: If ai-edge-litert or the model files are missing.
    """

    def __init__(
        self,
        cache: str | os.PathLike | None = None,
        *,
        min_score: float = 0.5,
        redetect_every: int = 25,
        num_threads: int = 1,
    ) -> None:
        self.min_score = min_score
        self.redetect_every = redetect_every
        self._box_net = _Interpreter(fetch_asset("face_detection_short_range.tflite", cache), num_threads)
        self._mesh_net = _Interpreter(fetch_asset("face_landmark.tflite", cache), num_threads)
        self._anchors = blazeface_anchors()

    def detect(self, frames: np.ndarray) -> list[np.ndarray | None]:
        """Find the largest face of every frame: T entries, mesh (468, 2) float32 or None. ``frames``: (T, H, W, 3)."""
        found: list[np.ndarray | None] = []
        roi: SquareROI | None = None
        for index, frame in enumerate(frames):
            if index % self.redetect_every == 0:
                roi = self._roi_of_largest(frame, roi)
            mesh = self.fit_mesh(frame, roi) if roi is not None else None
            if mesh is None and index % self.redetect_every:  # lost, or never found: look at the whole frame
                roi = self._roi_of_largest(frame, None)
                mesh = self.fit_mesh(frame, roi) if roi is not None else None
            roi = roi_of_mesh(mesh) if mesh is not None else None
            found.append(mesh)
        return found

    def _roi_of_largest(self, frame: np.ndarray, tracked: SquareROI | None) -> SquareROI | None:
        """Return the square of the largest face; the tracked square is kept when it lies on that face."""
        boxes = self.find_faces(frame)
        if not boxes:
            return tracked
        largest = max(boxes, key=lambda box: float(box.size.sum()))
        if tracked is not None and self.redetect_every > 1 and largest.contains(tracked.center):
            return tracked
        return roi_of_box(largest)

    def find_faces(self, frame: np.ndarray) -> list[FaceBox]:
        """Run BlazeFace on one frame (H, W, 3), letterboxed to 128x128 in [-1, 1]; best score first."""
        height, width = frame.shape[:2]
        scale = DETECTOR_SIZE / max(height, width)
        new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
        left, top = (DETECTOR_SIZE - new_width) // 2, (DETECTOR_SIZE - new_height) // 2
        picture = np.zeros((DETECTOR_SIZE, DETECTOR_SIZE, 3), np.float32)
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        picture[top : top + new_height, left : left + new_width] = cv2.resize(
            frame, (new_width, new_height), interpolation=interpolation
        )
        raw_boxes, raw_scores = self._box_net(picture / 127.5 - 1.0)
        scores = _sigmoid(raw_scores.reshape(-1))
        chosen = np.flatnonzero(scores > self.min_score)
        points = raw_boxes.reshape(-1, 8, 2)[chosen] / DETECTOR_SIZE  # centre, size, six key points
        points[:, 0] += self._anchors[chosen]
        points[:, 2:] += self._anchors[chosen][:, None]
        merged = _merge_overlapping(points, scores[chosen])
        offset = np.array([left, top])
        return [
            FaceBox(
                center=(box[0] * DETECTOR_SIZE - offset) / scale,
                size=box[1] * DETECTOR_SIZE / scale,
                key_points=(box[2:] * DETECTOR_SIZE - offset) / scale,
                score=score,
            )
            for box, score in merged
        ]

    def fit_mesh(self, frame: np.ndarray, roi: SquareROI) -> np.ndarray | None:
        """Run the mesh on one square of a frame (H, W, 3): (468, 2) float32 in frame pixels, or None if no face."""
        matrix = roi.matrix(MESH_SIZE)
        picture = cv2.warpAffine(frame, matrix, (MESH_SIZE, MESH_SIZE), flags=cv2.INTER_LINEAR)
        raw_mesh, raw_presence = self._mesh_net(picture.astype(np.float32) / np.float32(255.0))
        if _sigmoid(raw_presence.reshape(-1))[0] <= self.min_score:
            return None
        back = cv2.invertAffineTransform(matrix)
        mesh = raw_mesh.reshape(NUM_MESH_POINTS, 3)[:, :2]
        return (mesh @ back[:, :2].T + back[:, 2]).astype(np.float32)


class GivenLandmarks:
    """Landmarks made elsewhere, one file per clip.

    A ``.npy`` file holds (T, N, 2) with N = 68, 468 or 478; frames without a face are all NaN. A ``.npz`` file holds
    the same under ``landmarks`` and may list frames without a face under ``missing``.

    Args:
        path: The file.

    Raises:
        MissingDataError: If there is no such file.
        DataError: If it does not hold landmarks.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise MissingDataError(describe("no landmark file", got=str(path), fix="check landmarks.scp"))
        try:
            loaded = np.load(self.path, allow_pickle=False)
            landmarks, missing = loaded, np.zeros(0, int)
            if isinstance(loaded, np.lib.npyio.NpzFile):
                landmarks = loaded["landmarks"]
                missing = loaded["missing"] if "missing" in loaded else missing
        except (ValueError, KeyError, OSError, EOFError) as error:
            raise DataError(
                describe(f"cannot read landmarks ({error})", got=str(path), fix="write (T, N, 2) as .npy or .npz")
            ) from error
        if landmarks.ndim != 3 or landmarks.shape[1] not in (68, 468, 478) or landmarks.shape[2] not in (2, 3):
            raise DataError(
                describe("wrong shape of landmarks", got=f"{landmarks.shape} in {path}", allowed="(T, 68|468|478, 2)")
            )
        gone = set(np.asarray(missing, dtype=int).tolist())
        self.landmarks: list[np.ndarray | None] = [
            None if index in gone or not np.isfinite(points).all() else points[:, :2]
            for index, points in enumerate(landmarks)
        ]

    def detect(self, frames: np.ndarray) -> list[np.ndarray | None]:
        """Return the landmarks of the file; ``frames`` (T, H, W, 3) must have as many frames."""
        if len(frames) != len(self.landmarks):
            raise DataError(
                describe(
                    f"landmarks and video differ in length ({self.path})",
                    got=f"{len(self.landmarks)} landmarks, {len(frames)} frames",
                    fix="make the landmarks anew from this video",
                )
            )
        return list(self.landmarks)


class NoDetector:
    """Finds no face in any frame; for clips that are cropped at their centre."""

    def detect(self, frames: np.ndarray) -> list[np.ndarray | None]:
        """Return T times None for ``frames`` (T, H, W, 3)."""
        return [None] * len(frames)


def blazeface_anchors() -> np.ndarray:
    """Return the centres (896, 2) of the short-range detector's anchors: 2 per cell of 16x16, 6 per cell of 8x8."""
    rows = []
    for cells, repeats in ((16, 2), (8, 6)):
        centers = (np.arange(cells, dtype=np.float32) + 0.5) / cells
        y, x = np.meshgrid(centers, centers, indexing="ij")
        rows.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2), repeats, axis=0))
    return np.concatenate(rows)


def roi_of_box(box: FaceBox) -> SquareROI:
    """Return the square the mesh wants for a detected face."""
    eyes = box.key_points[1] - box.key_points[0]
    return SquareROI(box.center, float(box.size.max()) * ROI_SCALE, float(np.arctan2(eyes[1], eyes[0])))


def roi_of_mesh(mesh: np.ndarray) -> SquareROI:
    """Return the square round a mesh (468, 2), for the next frame."""
    eyes = mesh[MESH_EYE_LEFT] - mesh[MESH_EYE_RIGHT]
    angle = float(np.arctan2(eyes[1], eyes[0]))
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    upright = mesh @ rotation.T
    low, high = upright.min(axis=0), upright.max(axis=0)
    return SquareROI(((low + high) / 2) @ rotation, float((high - low).max()) * ROI_SCALE, angle)


class _Interpreter:
    """One LiteRT model: picture (S, S, 3) in, list of outputs out."""

    def __init__(self, path: Path, num_threads: int) -> None:
        litert = require("ai_edge_litert.interpreter", "face")
        self._net = litert.Interpreter(str(path), num_threads=num_threads)
        self._net.allocate_tensors()
        self._input = self._net.get_input_details()[0]["index"]
        self._outputs = [output["index"] for output in self._net.get_output_details()]

    def __call__(self, picture: np.ndarray) -> list[np.ndarray]:
        self._net.set_tensor(self._input, picture[None])
        self._net.invoke()
        return [self._net.get_tensor(output) for output in self._outputs]


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.clip(values, -80.0, 80.0)))


def _merge_overlapping(points: np.ndarray, scores: np.ndarray, min_overlap: float = 0.3) -> list[tuple]:
    """Join the boxes that overlap the best remaining one by their score-weighted mean.

    Args:
        points: (K, 8, 2): centre, size and six key points of K raw boxes.
        scores: (K,).
        min_overlap: Intersection over union from which two boxes are one face.

    Returns:
        List of (points (8, 2), score), best first.
    """
    faces = []
    order = np.argsort(-scores, kind="stable")
    while len(order):
        near = _overlap(points[order], points[order[0]]) >= min_overlap
        near[0] = True
        group = order[near]
        weights = scores[group] / scores[group].sum()
        faces.append((np.tensordot(weights, points[group], axes=1), float(scores[group[0]])))
        order = order[~near]
    return faces


def _overlap(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    low = np.maximum(boxes[:, 0] - boxes[:, 1] / 2, box[0] - box[1] / 2)
    high = np.minimum(boxes[:, 0] + boxes[:, 1] / 2, box[0] + box[1] / 2)
    common = np.clip(high - low, 0, None).prod(axis=1)
    union = boxes[:, 1].prod(axis=1) + box[1].prod() - common
    return common / np.maximum(union, 1e-12)
