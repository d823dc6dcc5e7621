# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Head poses as vectors: rotation as a quaternion ``w x y z``, then translation, every value standardised.

A rotation has two quaternions, ``q`` and ``-q``. The conversion of a single frame makes one of the large values
positive, as the published system does; along a recording :func:`align_signs` keeps the sign of the frame before, so
that nothing jumps. Motion is resampled as quaternions; the published system interpolates the nine entries of the
matrices and keeps the jumps, which ``reference_compat=True`` reproduces for data of its own.

Axes: ``N`` frames of motion at 30 Hz, ``T`` frames at any rate, ``D`` values of a vector: 7, or 4 joint angles.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from espnet_av.avgen.clock import resample_linear
from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.untrusted import load_npy, open_npz

POSE_DIM = 7  # 4 of the quaternion, 3 of the translation
ANGLE_DIM = 4  # neck and head, of data that holds joint angles
HEAD_STATISTICS = "headpose/headpose_normstats"  # of the 50h layout
STATISTICS_FILES = ("head_qvec_mean", "head_qvec_std", "head_translation_mean", "head_translation_std")
_SMALLEST_STD = 1e-6


def matrix_to_quaternion(rotation: Tensor) -> Tensor:
    """Return quaternions ``w x y z`` of rotations.

    Every quaternion can be computed from each of its values. The signs of three sums of the diagonal choose one that is
    not small, and it becomes positive.

    Args:
        rotation: ``(..., 3, 3)``.

    Returns:
        ``(..., 4)``.
    """
    m = rotation
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    squares = torch.stack((1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz), dim=-1)
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    w2, x2, y2, z2 = squares.unbind(-1)
    rows = ((w2, wx, wy, wz), (wx, x2, xy, xz), (wy, xy, y2, yz), (wz, xz, yz, z2))
    products = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)  # 4 q_i q_j
    best = torch.where(zz < 0, torch.where(xx > yy, 1, 2), torch.where(xx < -yy, 3, 0))
    chosen = products.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    return chosen / (2 * squares.gather(-1, best.unsqueeze(-1)).clamp_min(1e-8).sqrt())


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """Return the rotations of quaternions of any length but 0.

    Args:
        quaternion: ``w x y z``, ``(..., 4)``.

    Returns:
        ``(..., 3, 3)``.
    """
    w, x, y, z = quaternion.unbind(-1)
    s = 2.0 / quaternion.square().sum(dim=-1).clamp_min(torch.finfo(quaternion.dtype).tiny)
    rows = (
        (1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)),
        (s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)),
        (s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def align_signs(quaternion: Tensor) -> Tensor:
    """Give every frame the sign that is nearer to the frame before; the first frame stays.

    Args:
        quaternion: ``(T, 4)``.
    """
    if len(quaternion) < 2:
        return quaternion
    agree = (quaternion[1:] * quaternion[:-1]).sum(dim=-1) >= 0
    sign = torch.where(agree, 1.0, -1.0).to(quaternion.dtype).cumprod(dim=0)
    return torch.cat((quaternion[:1], quaternion[1:] * sign.unsqueeze(-1)))


def resample_rotations(rotation: Tensor, num_out: int, *, ratio: float | None = None) -> Tensor:
    """Resample rotations along the shorter arcs between them.

    Args:
        rotation: ``(N, 3, 3)``.
        num_out: Frames to give, see :func:`~espnet_av.avgen.clock.resample_linear`.
        ratio: Output frames per input frame.

    Returns:
        Orthonormal ``(num_out, 3, 3)``.
    """
    quaternion = align_signs(matrix_to_quaternion(rotation))
    return quaternion_to_matrix(resample_linear(quaternion, num_out, 0, ratio=ratio))


def pose_to_vector(
    pose: Tensor, num_out: int | None = None, *, ratio: float | None = None, reference_compat: bool = False
) -> Tensor:
    """Turn poses into vectors that are not yet standardised.

    Args:
        pose: Rotation and translation ``(N, 3, 4)``.
        num_out: Resample to so many frames; None: as many as there are.
        ratio: Output frames per input frame, for ``num_out``.
        reference_compat: Interpolate the entries of the matrices, and let signs jump.

    Returns:
        ``(num_out, 7)``.

    Raises:
        DataError: ``pose`` has another shape.
    """
    if pose.dim() != 3 or tuple(pose.shape[1:]) != (3, 4):
        raise DataError(describe("no head poses", tuple(pose.shape), "(N, 3, 4): rotation | translation"))

    def fit(x: Tensor) -> Tensor:
        return x if num_out is None else resample_linear(x, num_out, 0, ratio=ratio)

    if reference_compat:
        pose = fit(pose)
        return torch.cat((matrix_to_quaternion(pose[..., :3]), pose[..., 3]), dim=-1)
    quaternion = fit(align_signs(matrix_to_quaternion(pose[..., :3])))
    quaternion = quaternion / quaternion.norm(dim=-1, keepdim=True).clamp_min(1e-8)
    return torch.cat((quaternion, fit(pose[..., 3])), dim=-1)


def vector_to_pose(vector: Tensor) -> tuple[Tensor, Tensor]:
    """Return rotation ``(..., 3, 3)`` and translation ``(..., 3)`` of vectors ``(..., 7)`` in natural units.

    Raises:
        DataError: The vectors have another number of values.
    """
    if vector.shape[-1] != POSE_DIM:
        raise DataError(describe("no vectors of head poses", tuple(vector.shape), f"(..., {POSE_DIM})"))
    return quaternion_to_matrix(vector[..., :4]), vector[..., 4:]


@dataclass(frozen=True)
class HeadStatistics:
    """What vectors are standardised with.

    Attributes:
        mean: ``(D,)``.
        std: ``(D,)``, above 0.

    Raises:
        DataError: The shapes differ, or a value is not finite or a deviation not above 0.
    """

    mean: Tensor
    std: Tensor

    def __post_init__(self) -> None:
        if self.mean.dim() != 1 or self.mean.shape != self.std.shape:
            shapes = (tuple(self.mean.shape), tuple(self.std.shape))
            raise DataError(describe("statistics of the head do not fit", shapes, "(D,) and (D,)"))
        if not (self.mean.isfinite().all() and self.std.isfinite().all() and (self.std > 0).all()):
            fix = "compute the statistics again from frames that move"
            raise DataError(describe("statistics of the head are unusable", self.std.tolist(), "above 0", fix))

    @property
    def dim(self) -> int:
        """Values of a vector."""
        return len(self.mean)

    def standardise(self, vector: Tensor) -> Tensor:
        """Return ``(vector - mean) / std`` of ``(..., D)``."""
        return (vector - self.mean.to(vector)) / self.std.to(vector)

    def restore(self, vector: Tensor) -> Tensor:
        """Undo :meth:`standardise`."""
        return vector * self.std.to(vector) + self.mean.to(vector)

    def encode(self, pose: Tensor, num_out: int | None = None, *, reference_compat: bool = False) -> Tensor:
        """Return standardised vectors ``(T, 7)`` of poses ``(N, 3, 4)``; see :func:`pose_to_vector`.

        Signs agree with the statistics in the first frame.
        """
        vector = pose_to_vector(pose, num_out, reference_compat=reference_compat)
        if not reference_compat and len(vector) and (vector[0, :4] * self.mean[:4].to(vector)).sum() < 0:
            vector = torch.cat((-vector[:, :4], vector[:, 4:]), dim=-1)
        return self.standardise(vector)

    def decode(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Return rotation and translation of standardised vectors ``(..., 7)``."""
        return vector_to_pose(self.restore(vector))

    @classmethod
    def from_vectors(cls, vectors: Tensor) -> "HeadStatistics":
        """Return mean and standard deviation over frames ``(N, D)``; a value that never changes gets deviation 1.

        Raises:
            DataError: There are no frames.
        """
        if vectors.dim() != 2 or len(vectors) == 0:
            raise DataError(describe("statistics of the head need frames", tuple(vectors.shape), "(N, D)"))
        std, mean = torch.std_mean(vectors.double(), dim=0, correction=0)
        std = torch.where(std < _SMALLEST_STD, torch.ones_like(std), std)
        return cls(mean.float(), std.float())

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> "HeadStatistics":
        """Read a folder with the files of :data:`STATISTICS_FILES`, or a ``.npz`` with ``head_mean`` and ``head_std``.

        Raises:
            MissingDataError: A file or array is not there.
            DataError: A file is damaged or its values are unusable.
        """
        arrays = _read_statistics(Path(path))
        return cls(*(torch.from_numpy(np.asarray(array, dtype=np.float32).reshape(-1)) for array in arrays))


def _read_statistics(path: Path) -> tuple[np.ndarray, np.ndarray]:
    fix = "run the stage that computes statistics"
    try:
        if path.is_dir():
            parts = [load_npy(path / f"{name}.npy").reshape(-1) for name in STATISTICS_FILES]
            return np.concatenate(parts[::2]), np.concatenate(parts[1::2])
        with open_npz(path) as archive:
            return archive["head_mean"], archive["head_std"]
    except (FileNotFoundError, KeyError) as error:
        raise MissingDataError(describe(f"{path}: no statistics of the head ({error})", fix=fix)) from error
    except (ValueError, EOFError, OSError) as error:
        raise DataError(describe(f"{path}: damaged statistics of the head ({error})", fix=fix)) from error
