# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the face codes of a drawn actor mean: controls of the face in a hidden basis, and poses as rotations.

``code = controls @ Q + noise`` with orthonormal rows of ``Q``, so that ``controls = code @ Q.T``; ``Q`` lies beside the
data as ``face_basis.npz``. Axes: ``N`` frames of motion, ``K`` controls, ``D`` values of a code.
"""

import os
from collections.abc import Sequence

import numpy as np

from espnet_av.avgen.face.motion import POSE
from espnet_av.avgen.face.renderer import MotionTracks
from espnet_av.avgen.face.visemes import ARTICULATION, WIDTH
from espnet_av.utils.errors import DataError, describe
from espnet_av.utils.files import atomic_write

#: The controls in their order: how the mouth moves, opening first, then the rest of the face.
CONTROLS = (*ARTICULATION, "brow", "blink", "smile", "gaze_x", "gaze_y")
CODE_DIM = 256
NOISE = 0.01  # of the codes
GAZE_UNIT = 0.05  # face units that a gaze of 1 stands for
LEVER = 0.6  # face units that the nearest point of a face moves aside for each radian of yaw or pitch
_SMILE_WIDENS = 0.5
_ROLL, _X, _Y, _SCALE, _YAW, _PITCH = range(len(POSE))


def make_basis(seed: int, dim: int = CODE_DIM, num_controls: int = len(CONTROLS)) -> np.ndarray:
    """Return orthonormal rows, float64 ``(K, D)``."""
    random = np.random.default_rng([seed, 81]).standard_normal((dim, num_controls))
    rows, signs = np.linalg.qr(random)
    return (rows * np.where(np.diag(signs) < 0, -1, 1)).T


def write_basis(path: str | os.PathLike, basis: np.ndarray, names: Sequence[str] = CONTROLS) -> None:
    """Write ``face_basis.npz``: ``Q (K, D)`` and the ``names`` of the controls."""
    with atomic_write(path, "wb") as out:
        np.savez(out, Q=basis.astype(np.float32), names=np.array(names))


def controls_to_codes(controls: np.ndarray, basis: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    """Return face codes, float32 ``(N, D)``.

    Args:
        controls: ``(N, K)``.
        basis: ``(K, D)``.
        rng: Source of the noise; None: no noise.
    """
    codes = controls @ basis
    if rng is not None:
        codes = codes + NOISE * rng.standard_normal(codes.shape)
    return codes.astype(np.float32)


def codes_to_controls(codes: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Return controls ``(N, K)`` of codes ``(N, D)``.

    Raises:
        DataError: The codes are of another width.
    """
    if codes.shape[-1] != basis.shape[1]:
        raise DataError(describe("face codes do not belong to the basis", codes.shape, (-1, basis.shape[1])))
    return np.asarray(codes, dtype=np.float64) @ np.asarray(basis, dtype=np.float64).T


def controls_to_tracks(controls: np.ndarray, pose: np.ndarray) -> MotionTracks:
    """Return what the face renderer draws; it has no brows that move.

    Args:
        controls: ``(N, K)`` in the order of :data:`CONTROLS`; values out of range are cut, as networks give them.
        pose: ``(N, 6)`` in the order of ``face_motion.POSE``.
    """
    values = dict(zip(CONTROLS, np.asarray(controls, dtype=np.float32).T, strict=True))
    articulation = np.stack([values[name] for name in ARTICULATION], axis=1)
    articulation[:, WIDTH] += _SMILE_WIDENS * values["smile"]
    low = np.where(np.arange(len(ARTICULATION)) == WIDTH, -1.0, 0.0)
    gaze = GAZE_UNIT * np.stack([values["gaze_x"], values["gaze_y"]], axis=1)
    return MotionTracks(
        np.clip(articulation, low, 1.0).astype(np.float32),
        np.asarray(pose, dtype=np.float32),
        np.clip(values["blink"], 0, 1),
        np.clip(gaze, (-0.045, -0.018), (0.045, 0.018)).astype(np.float32),
    )


def pose_to_head(pose: np.ndarray) -> np.ndarray:
    """Return rotation | translation, float32 ``(N, 3, 4)``, of drawn poses.

    Args:
        pose: ``(N, 6)`` in the order of ``face_motion.POSE``. Roll, yaw and pitch become rotations about the axis to
            the camera, the vertical and the horizontal one, in this order from the left; the translation is the shift,
            and how much larger than usual the face is.
    """
    roll, yaw, pitch = pose[:, _ROLL], pose[:, _YAW] / LEVER, pose[:, _PITCH] / LEVER
    rotation = _turn(roll, 2) @ _turn(yaw, 1) @ _turn(pitch, 0)
    shift = np.stack([pose[:, _X], pose[:, _Y], pose[:, _SCALE] - 1], axis=1)
    return np.concatenate([rotation, shift[:, :, None]], axis=2).astype(np.float32)


def head_to_pose(head: np.ndarray) -> np.ndarray:
    """Undo :func:`pose_to_head`: ``(N, 3, 4)`` to float32 ``(N, 6)``."""
    rotation, shift = np.asarray(head, dtype=np.float64)[..., :3], np.asarray(head)[..., 3]
    pose = np.zeros((len(head), len(POSE)))
    pose[:, _ROLL] = np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0])
    pose[:, _YAW] = LEVER * np.arcsin(np.clip(-rotation[:, 2, 0], -1, 1))
    pose[:, _PITCH] = LEVER * np.arctan2(rotation[:, 2, 1], rotation[:, 2, 2])
    pose[:, _X], pose[:, _Y], pose[:, _SCALE] = shift[:, 0], shift[:, 1], shift[:, 2] + 1
    return pose.astype(np.float32)


def _turn(angle: np.ndarray, axis: int) -> np.ndarray:
    """Return rotations ``(N, 3, 3)`` about an axis, right-handed."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turned = np.zeros((len(angle), 3, 3))
    turned[:, axis, axis] = 1
    turned[:, first, first] = turned[:, second, second] = np.cos(angle)
    turned[:, second, first], turned[:, first, second] = np.sin(angle), -np.sin(angle)
    return turned
