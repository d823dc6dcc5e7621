# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Rotations of a head as angles that can be drawn. Axes: ``F`` frames of motion."""

import numpy as np


def head_angles(rotation: np.ndarray) -> np.ndarray:
    """Return yaw, pitch and roll in rad, ``(F, 3)``, of ``R = R_y(yaw) R_x(pitch) R_z(roll)``.

    Args:
        rotation: ``(F, 3, 3)``.
    """
    pitch = np.arcsin(np.clip(-rotation[:, 1, 2], -1.0, 1.0))
    yaw = np.arctan2(rotation[:, 0, 2], rotation[:, 2, 2])
    roll = np.arctan2(rotation[:, 1, 0], rotation[:, 1, 1])
    return np.stack((yaw, pitch, roll), axis=1)
