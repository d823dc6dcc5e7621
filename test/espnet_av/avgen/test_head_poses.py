# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Head poses as vectors: round trips, no jumps of sign, resampling along the arc."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_av.avgen.pose import (
    STATISTICS_FILES,
    HeadStatistics,
    align_signs,
    matrix_to_quaternion,
    pose_to_vector,
    quaternion_to_matrix,
    resample_rotations,
    vector_to_pose,
)
from espnet_av.utils.errors import DataError, MissingDataError


def turning(frames: int, turns: float = 1.0) -> torch.Tensor:
    """Rotations about a slanted axis, ``(N, 3, 3)``."""
    half = torch.linspace(0, np.pi * turns, frames, dtype=torch.float64)
    axis = torch.tensor([0.6, -0.64, 0.48], dtype=torch.float64)
    return quaternion_to_matrix(torch.cat((half.cos()[:, None], half.sin()[:, None] * axis), dim=-1))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: sum(x * x for x in q) > 1e-2))
def test_a_rotation_comes_back_from_its_quaternion(values):
    rotation = quaternion_to_matrix(torch.tensor(values, dtype=torch.float64))
    quaternion = matrix_to_quaternion(rotation)
    assert float(quaternion.norm()) == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(quaternion_to_matrix(3 * quaternion), rotation, atol=1e-6, rtol=0)


def test_signs_do_not_jump_within_a_whole_turn():
    alone = matrix_to_quaternion(turning(50, 2.0))
    along = align_signs(alone)
    assert (alone.diff(dim=0).norm(dim=-1) > 1).any()
    assert (along.diff(dim=0).norm(dim=-1) < 0.2).all()
    torch.testing.assert_close(quaternion_to_matrix(along), quaternion_to_matrix(alone))


def test_resampled_rotations_stay_rotations():
    rotation = turning(10, 1.5)
    dense = resample_rotations(rotation, 28)
    identity = torch.eye(3, dtype=dense.dtype).expand(28, 3, 3)
    torch.testing.assert_close(dense @ dense.transpose(1, 2), identity, atol=1e-6, rtol=0)
    torch.testing.assert_close(resample_rotations(rotation, 10), rotation, atol=1e-6, rtol=0)


def test_reference_interpolates_matrices_and_ours_does_not():
    pose = torch.cat((turning(10, 1.5), torch.ones(10, 3, 1)), dim=-1)
    ours, theirs = (pose_to_vector(pose, 28, reference_compat=flag) for flag in (False, True))
    assert (ours[:, :4].norm(dim=-1) - 1).abs().max() < 1e-6
    assert (ours[:, :4].diff(dim=0).norm(dim=-1) < 0.4).all()
    assert (theirs[:, :4].diff(dim=0).norm(dim=-1) > 1).any()
    torch.testing.assert_close(vector_to_pose(ours)[1], torch.ones(28, 3, dtype=ours.dtype))


def test_first_frame_takes_the_sign_of_the_statistics():
    pose = torch.cat((turning(6, 0.2), torch.zeros(6, 3, 1)), dim=-1).float()
    mean = torch.tensor([-1.0, 0, 0, 0, 0, 0, 0])
    statistics = HeadStatistics(mean, torch.ones(7))
    vectors = statistics.restore(statistics.encode(pose))
    assert (vectors[:, 0] < 0).all()
    rotation, translation = statistics.decode(statistics.encode(pose))
    torch.testing.assert_close(rotation, pose[..., :3], atol=1e-6, rtol=0)
    torch.testing.assert_close(translation, pose[..., 3], atol=1e-6, rtol=0)


def test_statistics_of_frames_and_of_files(tmp_path):
    vectors = torch.randn(50, 7) * torch.arange(7) + 3
    found = HeadStatistics.from_vectors(vectors)
    assert found.dim == 7 and float(found.std[0]) == 1  # never changes
    normal = found.standardise(vectors)
    torch.testing.assert_close(normal[:, 1:].std(dim=0, correction=0), torch.ones(6))
    parts = (found.mean[:4], found.std[:4], found.mean[4:], found.std[4:])
    for name, values in zip(STATISTICS_FILES, parts, strict=True):
        np.save(tmp_path / f"{name}.npy", values.numpy())
    np.savez(tmp_path / "all.npz", head_mean=found.mean.numpy(), head_std=found.std.numpy())
    for path in (tmp_path, tmp_path / "all.npz"):
        read = HeadStatistics.from_file(path)
        assert torch.equal(read.mean, found.mean) and torch.equal(read.std, found.std)


def test_bad_input(tmp_path):
    with pytest.raises(MissingDataError, match="no statistics"):
        HeadStatistics.from_file(tmp_path)
    with pytest.raises(DataError, match="unusable"):
        HeadStatistics(torch.zeros(7), torch.zeros(7))
    with pytest.raises(DataError, match="rotation"):
        pose_to_vector(torch.zeros(5, 4, 3))
    with pytest.raises(DataError, match="need frames"):
        HeadStatistics.from_vectors(torch.zeros(0, 7))


def test_statistics_of_the_published_layout(fixtures_dir):
    folder = fixtures_dir("avgen") / "format_50h" / "headpose"
    statistics = HeadStatistics.from_file(folder / "headpose_normstats")
    for path in sorted(folder.glob("*--headpose.npy")):
        pose = torch.from_numpy(np.load(path)).float()
        rotation, _ = statistics.decode(statistics.encode(pose))
        torch.testing.assert_close(rotation, quaternion_to_matrix(matrix_to_quaternion(pose[..., :3])))
