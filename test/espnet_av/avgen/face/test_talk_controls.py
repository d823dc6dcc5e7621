# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Controls of a drawn face: codes and poses can be turned back, and tracks can be drawn."""

import numpy as np
import pytest

from espnet_av.avgen.face import controls as talk_controls
from espnet_av.avgen.face.controls import CONTROLS
from espnet_av.avgen.face.motion import POSE
from espnet_av.avgen.score_files import find_basis
from espnet_av.utils.errors import DataError


def test_codes_give_their_controls_back(tmp_path):
    rng = np.random.default_rng(0)
    basis = talk_controls.make_basis(3)
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(CONTROLS)), atol=1e-12)
    np.testing.assert_array_equal(basis, talk_controls.make_basis(3))
    controls = rng.uniform(-1, 1, (50, len(CONTROLS)))
    codes = talk_controls.controls_to_codes(controls, basis, rng)
    assert codes.dtype == np.float32
    away = talk_controls.codes_to_controls(codes, basis) - controls
    assert 0.5 * talk_controls.NOISE < away.std() < 1.5 * talk_controls.NOISE
    talk_controls.write_basis(tmp_path / "face_basis.npz", basis)
    found = find_basis(tmp_path)
    assert found.names == CONTROLS
    assert found.column("opening") == 0
    np.testing.assert_allclose(found.controls(codes) - controls, away, atol=1e-5)
    with pytest.raises(DataError, match="basis"):
        talk_controls.codes_to_controls(codes[:, 1:], basis)


def test_poses_are_rotations_and_can_be_turned_back():
    rng = np.random.default_rng(1)
    pose = rng.uniform(-0.2, 0.2, (20, len(POSE)))
    pose[:, POSE.index("scale")] += 1
    head = talk_controls.pose_to_head(pose)
    rotation = head[..., :3]
    np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.tile(np.eye(3), (20, 1, 1)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-6)
    np.testing.assert_allclose(talk_controls.head_to_pose(head), pose, atol=1e-6)


def test_tracks_stay_in_the_range_that_can_be_drawn():
    controls = np.zeros((4, len(CONTROLS)))
    controls[:, 0] = (-1, 0.2, 0.6, 7)
    controls[:, CONTROLS.index("smile")] = 1
    controls[:, CONTROLS.index("gaze_x")] = 9
    pose = np.zeros((4, len(POSE)))
    tracks = talk_controls.controls_to_tracks(controls, pose)
    np.testing.assert_allclose(tracks.articulation[:, 0], (0, 0.2, 0.6, 1))
    np.testing.assert_allclose(tracks.articulation[:, 1], 0.5)
    np.testing.assert_allclose(tracks.gaze[:, 0], 0.045)
    assert [len(value) for value in vars(tracks).values()] == [4] * 4
