# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Face codes and head poses that were measured on a real talker.

A face mesh is fitted to every frame. What the lips, the jaw, the brows and the lids do is measured between its points,
in a frame of reference that moves with the eyes; teeth and the look of the mouth are measured in its picture. A
:class:`Talker` turns measurements into controls around 0 to 1, and controls become codes as those of a drawn actor do:
``code = controls @ Q + noise``. So the opening of the mouth is known for every code, real or generated.

Axes: ``T`` video frames, ``N`` frames of motion, ``P`` points of the mesh, ``M`` measures, ``K`` controls. Lengths are
told in distances of the outer eye corners ("eyes") unless said otherwise; x to the right of the picture, y down.
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from espnet_av.data.face_detector import Landmarks
from espnet_av.data.mouth_roi import ClipRejected
from espnet_av.utils.errors import DataError, describe
from espnet_av.utils.files import atomic_write

#: Measured between points or counted in the picture; larger means more of it.
MEASURES = ("opening", "width", "upper_raise", "lower_tuck", "teeth", "press", "jaw", "smile", "brow", "blink")
_LEAST_MOTION = 0.005  # of the opening, in eyes
MIN_FRAMES = 50  # to learn a talker from
NUM_LOOKS = 4  # principal pictures of the mouth
#: The controls in their order, opening first; names that the drawn face knows have its meaning.
CONTROLS = (*MEASURES, *(f"look_{number + 1}" for number in range(NUM_LOOKS)))
PLACES = ("centre_x", "centre_y", "eyes", "angle", "nose_x", "nose_y", "height")
PICTURE = (24, 36)  # rows and columns of the mouth
_PICTURE_EYES = 0.9  # width of that picture
_FINE = 2  # times finer is the picture in which teeth are counted

# points of the 468-point mesh
_EYE_CORNERS = (33, 263)
_LIDS = ((159, 145), (386, 374))
_EYE_WIDTHS = ((33, 133), (263, 362))
_BROWS = (105, 66, 334, 296)
_INNER_LIPS = ((13, 14), (82, 87), (312, 317))
_INNER_OUTLINE = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
_CORNERS, _NOSE_TIP, _CHEEKS = (61, 291), (1, 4, 5), (50, 280, 205, 425)
_BELOW_NOSE, _LIP_TOP, _LIP_BOTTOM, _CHIN, _FOREHEAD = 2, 0, 17, 152, 10

_JUMP_EYES, _JUMP_SIZE = 0.15, 0.08  # a frame this far from its neighbours is a slip of the mesh
_TOOTH_LEVEL = 0.68  # of the green of the cheeks: lips and the hollow of the mouth are darker
_HEAD_SIGMA = 1.5  # frames; heads are slow
_CLOSED = 0.1  # opening below which the face is taken to rest
_PARTED = 0.25  # opening from which lips cannot press each other
_FOLLOWERS = ("upper_raise", "lower_tuck", "press", "smile")  # told from what is usual at the same opening
_RANGES = {"opening": (10, 99), "teeth": (10, 97), "blink": (50, 99.7)}  # percentiles of 0 and 1
_TURNED = ("width", "upper_raise", "lower_tuck", "press", "jaw", "smile", "brow")  # seem to change as the head turns


@dataclass(frozen=True)
class FaceMotion:
    """What was measured in a clip.

    Attributes:
        fps: Of the clip.
        seen: Whether the mesh held, bool ``(T,)``.
        measures: ``(T, M)`` in the order of :data:`MEASURES`; NaN where not seen.
        places: Of the head, ``(T, 7)`` in the order of :data:`PLACES`: centre and distance of the eyes in pixels, angle
            of the line of the eyes in rad, tip of the nose and height of the face in eyes; NaN where not seen.
        pictures: Gray mouths, uint8 ``(T, 24, 36)``; black where not seen.
    """

    fps: float
    seen: np.ndarray
    measures: np.ndarray
    places: np.ndarray
    pictures: np.ndarray

    def save(self, path: Path) -> None:
        """Write ``.npz``, whole or not at all."""
        packed = io.BytesIO()
        np.savez_compressed(packed, **vars(self))
        with atomic_write(path, "wb") as stream:
            stream.write(packed.getbuffer())

    @classmethod
    def load(cls, path: Path) -> "FaceMotion":
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                content = {name: archive[name] for name in archive.files}
            return cls(float(content.pop("fps")), **content)
        except (ValueError, OSError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise DataError(
                describe(f"{path} cannot be read ({error})", fix="delete it and run stage 1 again")
            ) from error


def drop_slips(landmarks: Landmarks) -> list[np.ndarray | None]:
    """Return landmarks with None where the mesh jumps away from its neighbours for a frame or two.

    Args:
        landmarks: T entries, ``(P, 2)`` in pixels or None.
    """
    from scipy.ndimage import median_filter

    seen = [index for index, points in enumerate(landmarks) if points is not None]
    kept = list(landmarks)
    if len(seen) < 3:
        return kept
    corners = list(_EYE_CORNERS)
    eyes = np.stack([points[corners] for points in landmarks if points is not None]).astype(np.float64)
    size = np.linalg.norm(eyes[:, 1] - eyes[:, 0], axis=1)
    centre = eyes.mean(axis=1)
    usual = median_filter(size, 5, mode="nearest")
    moved = np.linalg.norm(centre - median_filter(centre, (5, 1), mode="nearest"), axis=1)
    for place in np.flatnonzero((moved > _JUMP_EYES * usual) | (np.abs(size - usual) > _JUMP_SIZE * usual)):
        kept[seen[place]] = None
    return kept


def measure_face(frames: np.ndarray, landmarks: Landmarks, fps: float) -> FaceMotion:
    """Measure a clip.

    Args:
        frames: RGB ``(T, H, W, 3)`` uint8.
        landmarks: T entries: meshes ``(468, 2)`` in pixels, or None; at least one is not None.
        fps: Of the clip.

    Raises:
        ClipRejected: The points form no face.
    """
    seen = np.array([points is not None for points in landmarks])
    points = np.stack([np.asarray(each, dtype=np.float64) for each in landmarks if each is not None])
    upright, places = to_head_frame(points)
    if not np.isfinite(upright).all():
        raise ClipRejected("degenerate_landmarks", describe("the landmarks form no face", fix="check the clip"))
    middle = np.median(upright[:, list(_CORNERS)].mean(axis=1), axis=0)
    measures = np.full((len(seen), len(MEASURES)), np.nan)
    measures[seen] = _measure_points(upright)
    pictures = np.zeros((len(seen), *PICTURE), np.uint8)
    for row, index in enumerate(np.flatnonzero(seen)):
        fine, to_fine = _cut_mouth(frames[index], places[row], middle)
        measures[index, MEASURES.index("teeth")] = _count_teeth(fine, frames[index], points[row], to_fine)
        gray = cv2.cvtColor(fine, cv2.COLOR_RGB2GRAY)
        pictures[index] = cv2.resize(gray, PICTURE[::-1], interpolation=cv2.INTER_AREA)
    all_places = np.full((len(seen), len(PLACES)), np.nan)
    all_places[seen] = places
    return FaceMotion(float(fps), seen, measures, all_places, pictures)


def to_head_frame(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return points in eyes, upright and told from the middle between the eyes, and where the head was.

    Args:
        points: Meshes ``(T, 468, 2)`` in pixels.

    Returns:
        ``(points (T, 468, 2), places (T, 7))``.
    """
    from scipy.ndimage import gaussian_filter1d

    right, left = points[:, _EYE_CORNERS[0]], points[:, _EYE_CORNERS[1]]
    line, centre = left - right, (left + right) / 2
    line = gaussian_filter1d(line, _HEAD_SIGMA, axis=0, mode="nearest")  # its jitter would be seen in all measures
    size, angle = np.linalg.norm(line, axis=1), np.arctan2(line[:, 1], line[:, 0])
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([cos, sin], axis=1), np.stack([-sin, cos], axis=1)], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        upright = np.einsum("tij,tpj->tpi", turn, points - centre[:, None]) / size[:, None, None]
    nose = upright[:, list(_NOSE_TIP)].mean(axis=1)
    height = upright[:, _CHIN, 1] - upright[:, _FOREHEAD, 1]
    return upright, np.column_stack([centre, size, angle, nose, height])


def _measure_points(upright: np.ndarray) -> np.ndarray:
    """Return measures ``(T, M)`` of upright meshes ``(T, 468, 2)``; teeth are left at 0."""

    def apart(first: int, second: int) -> np.ndarray:
        return np.linalg.norm(upright[:, first] - upright[:, second], axis=1)

    def above(first: int, second: int) -> np.ndarray:
        return upright[:, second, 1] - upright[:, first, 1]

    upper, lower = _INNER_LIPS[0]
    lids = np.mean([apart(*lid) / apart(*width) for lid, width in zip(_LIDS, _EYE_WIDTHS, strict=True)], axis=0)
    values = {
        "opening": np.mean([apart(*pair) for pair in _INNER_LIPS], axis=0),
        "width": apart(*_CORNERS),
        "upper_raise": -above(_BELOW_NOSE, upper),
        "lower_tuck": -above(lower, _LIP_BOTTOM),
        "teeth": np.zeros(len(upright)),
        "press": -above(_LIP_TOP, upper) - above(lower, _LIP_BOTTOM),
        "jaw": above(_BELOW_NOSE, _CHIN),
        "smile": np.mean([above(corner, upper) for corner in _CORNERS], axis=0),
        "brow": -upright[:, list(_BROWS), 1].mean(axis=1),
        "blink": -lids,
    }
    return np.stack([values[name] for name in MEASURES], axis=1)


def _cut_mouth(frame: np.ndarray, place: np.ndarray, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mouth, upright and finer than its picture, and the map ``(2, 3)`` from the frame to it."""
    height, width = (side * _FINE for side in PICTURE)
    x, y, size, angle = place[:4]
    scale = width / (_PICTURE_EYES * size)
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    left, top = width / 2 - middle[0] * size * scale, height / 2 - middle[1] * size * scale
    matrix = np.array([[cos, sin, left - cos * x - sin * y], [-sin, cos, top + sin * x - cos * y]])
    picture = cv2.warpAffine(frame, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return picture, matrix


def _count_teeth(mouth: np.ndarray, frame: np.ndarray, points: np.ndarray, to_mouth: np.ndarray) -> float:
    """Return the bright area between the lips, in eyes squared."""
    outline = points[list(_INNER_OUTLINE)] @ to_mouth[:, :2].T + to_mouth[:, 2]
    inside = np.zeros(mouth.shape[:2], np.uint8)
    cv2.fillPoly(inside, [np.round(outline).astype(np.int32)], 1)
    rows, columns = points[list(_CHEEKS)].round().astype(int).T[::-1]
    inner_rows, inner_columns = rows.clip(0, frame.shape[0] - 1), columns.clip(0, frame.shape[1] - 1)
    cheek = float(np.median(frame[inner_rows, inner_columns, 1]))
    bright = (mouth[..., 1] > _TOOTH_LEVEL * cheek) & (inside > 0)
    return float(bright.sum()) * (_PICTURE_EYES / mouth.shape[1]) ** 2


class Talker:
    """What is usual for a talker: the zero and the unit of every control, principal pictures, the usual place.

    Args:
        clips: Clips to learn from; those of training only.

    Raises:
        DataError: They are too few, or nothing moves.
    """

    def __init__(self, clips: Sequence[FaceMotion]) -> None:
        measures = (
            np.concatenate([clip.measures[clip.seen] for clip in clips]) if clips else np.zeros((0, len(MEASURES)))
        )
        places = np.concatenate([clip.places[clip.seen] for clip in clips]) if clips else np.zeros((0, len(PLACES)))
        if len(measures) < 50:
            raise DataError(describe("too few frames with a face to learn from", len(measures), "50 or more"))
        self.place = np.median(places, axis=0)
        self._turns = self._learn_turns(clips)
        self.zero, self.unit = np.zeros(len(MEASURES)), np.ones(len(MEASURES))
        self._opened = np.zeros((2, len(MEASURES)))
        upright = measures - self._seeming(places)
        low, high = np.percentile(upright[:, 0], _RANGES["opening"])
        if high - low < _LEAST_MOTION:
            raise DataError(describe("the mouth does not move", high - low, "a talking face", "check the clips"))
        opening = (upright[:, 0] - low) / (high - low)
        self._learn_units(upright, opening)
        self.mean_picture, self.looks = _principal_pictures(
            np.concatenate([flat_pictures(clip)[::3] for clip in clips])
        )

    def _learn_units(self, upright: np.ndarray, opening: np.ndarray) -> None:
        """Learn 0 and 1 of all measures ``(frames, M)``, and how some of them go with the opening ``(frames,)``."""
        rest = opening < _CLOSED
        for column, name in enumerate(MEASURES):
            values = upright[:, column]
            if name in _RANGES:
                zero, one = np.percentile(values, _RANGES[name])
            else:
                zero = np.median(values[rest])
                if name in _FOLLOWERS:
                    self._opened[:, column] = np.linalg.lstsq(_bend(opening), values - zero, rcond=None)[0]
                    values = values - _bend(opening) @ self._opened[:, column]
                one = zero + np.abs(np.percentile(values, [1, 99]) - zero).max()
            self.zero[column], self.unit[column] = zero, max(one - zero, 1e-4)

    def _learn_turns(self, clips: Sequence[FaceMotion]) -> np.ndarray:
        """Return how measures of a face seem to change with its turn, ``(2, M)``, from clips with other turns."""
        nose = np.array([np.median(clip.places[clip.seen][:, 4:6], axis=0) for clip in clips])
        rest = np.array([np.median(clip.measures[clip.seen], axis=0) for clip in clips])
        turns = np.zeros((2, len(MEASURES)))
        if len(clips) >= 20:
            chosen = [MEASURES.index(name) for name in _TURNED]
            turns[:, chosen] = np.linalg.lstsq(
                nose - nose.mean(axis=0), (rest - rest.mean(axis=0))[:, chosen], rcond=None
            )[0]
        return turns

    def _seeming(self, places: np.ndarray) -> np.ndarray:
        return (places[:, 4:6] - self.place[4:6]) @ self._turns

    def controls(self, clip: FaceMotion) -> np.ndarray:
        """Return clean controls at the rate of the clip, float64 ``(T, K)``: gaps filled, jitter smoothed."""
        from scipy.signal import savgol_filter

        places = _smooth_head(fill(clip.places, clip.seen))
        values = fill(clip.measures, clip.seen) - self._seeming(places) - self.zero
        opening = values[:, 0] / self.unit[0]
        values = (values - _bend(opening) @ self._opened) / self.unit
        values[:, MEASURES.index("press")] *= (1 - opening / _PARTED).clip(0, 1)
        looks = np.zeros((len(clip.seen), NUM_LOOKS))
        looks[clip.seen] = (flat_pictures(clip) - self.mean_picture) @ self.looks.T
        values = np.concatenate([values, fill(looks, clip.seen)], axis=1)
        return savgol_filter(values, 5, 2, axis=0, mode="nearest") if len(values) >= 5 else values

    def pose(self, clip: FaceMotion) -> np.ndarray:
        """Return poses at the rate of the clip, ``(T, 6)`` in the order of ``face_motion.POSE`` and in its units."""
        x, y, eyes, angle, nose_x, nose_y, _ = _smooth_head(fill(clip.places, clip.seen)).T
        half = self.place[6] / 2  # a face is 2 high
        usual = self.place[2]
        shift = np.stack([x - self.place[0], y - self.place[1]]) / (half * usual)
        turn = np.stack([nose_x - self.place[4], nose_y - self.place[5]]) / half
        return np.stack([angle, *shift, eyes / usual, *turn], axis=1)


def _bend(opening: np.ndarray) -> np.ndarray:
    """Return what a measure that goes with the opening ``(T,)`` is made of, ``(T, 2)``."""
    return np.stack([opening, opening**2], axis=1)


def _principal_pictures(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean ``(pixels,)`` of pictures ``(count, pixels)`` and the rows ``(4, pixels)`` that give looks."""
    mean = pictures.mean(axis=0)
    variances, columns = np.linalg.eigh(np.cov(pictures.T, bias=True))
    rows, variances = columns.T[::-1][:NUM_LOOKS], variances[::-1][:NUM_LOOKS]
    signs = np.sign(rows[np.arange(NUM_LOOKS), np.abs(rows).argmax(axis=1)])
    return mean, rows * signs[:, None] / np.maximum(3 * np.sqrt(np.maximum(variances, 0)), 1e-6)[:, None]


def _smooth_head(places: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(places, _HEAD_SIGMA, axis=0, mode="nearest")


def flat_pictures(clip: FaceMotion) -> np.ndarray:
    """Return the seen mouths as rows of mean 0 and length 1, ``(seen, pixels)``: light and exposure fall out."""
    rows = clip.pictures[clip.seen].reshape(int(clip.seen.sum()), -1).astype(np.float64)
    rows -= rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def fill(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Fill frames that were not seen: linear between the neighbours, held at the ends.

    Args:
        values: ``(T, D)``.
        seen: ``(T,)``, one True at least.
    """
    from espnet_av.avgen.gap_repair import repair

    return repair(np.where(seen[:, None], values, 0.0), np.flatnonzero(~seen))[0]


def to_motion_rate(track: np.ndarray, fps: float, motion_fps: float, num_out: int) -> np.ndarray:
    """Resample without overshoot, so that a closed mouth stays closed; the ends are held.

    Args:
        track: ``(T, D)``; frame ``i`` stands for the time ``(i + 0.5) / fps``.
        fps: Its rate.
        motion_fps: The wanted rate.
        num_out: N.

    Returns:
        ``(N, D)``.
    """
    from scipy.interpolate import PchipInterpolator

    if len(track) < 2:
        return np.repeat(track, num_out, axis=0)
    times = ((np.arange(num_out) + 0.5) * fps / motion_fps - 0.5).clip(0, len(track) - 1)
    return PchipInterpolator(np.arange(len(track)), track, axis=0)(times)


def lost_frames(seen: np.ndarray, fps: float, motion_fps: float, num_out: int) -> np.ndarray:
    """Return the numbers of frames of motion that are made of a frame that was not seen, int64 ``(L,)``."""
    times = ((np.arange(num_out) + 0.5) * fps / motion_fps - 0.5).clip(0, len(seen) - 1)
    low = np.floor(times).astype(int)
    high = np.minimum(np.ceil(times).astype(int), len(seen) - 1)
    return np.flatnonzero(~(seen[low] & seen[high]))
