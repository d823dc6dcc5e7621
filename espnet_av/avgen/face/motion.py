# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""How a head moves besides its mouth: slow sway, blinks and glances. Legend: T video frames."""

import numpy as np

from espnet_av.avgen.face.identity import Identity

POSE = ("roll", "shift_x", "shift_y", "scale", "yaw", "pitch")
_POSE_SPAN = np.array((0.030, 0.030, 0.020, 0.018, 0.055, 0.040))
_BLINK_SHAPE = (0.45, 1.0, 0.85, 0.35)


def pose_track(identity: Identity, num_frames: int, rng: np.random.Generator, fps: float = 25.0) -> np.ndarray:
    """Return the head pose.

    Args:
        identity: Whose manner of moving it is (``sway``).
        num_frames: T.
        rng: Source of chance of the clip.
        fps: Frames per second.

    Returns:
        float32 ``(T, 6)`` in the order of ``POSE``: roll in rad, shifts in face units, scale around 1, yaw and pitch
        as the shift of the nearest point of the face in face units.
    """
    times = np.arange(num_frames)[:, None] / fps
    track = np.zeros((num_frames, len(POSE)))
    for strength in (0.75, 0.35):
        frequency = rng.uniform(0.10, 0.30, len(POSE)) / strength
        phase = rng.uniform(0, 2 * np.pi, len(POSE))
        track += strength * np.sin(2 * np.pi * frequency * times + phase)
    rest = rng.uniform(-0.5, 0.5, len(POSE))
    track = (track * identity.sway + rest) * _POSE_SPAN
    track[:, POSE.index("scale")] += 1.0
    return track.astype(np.float32)


def blink_track(num_frames: int, rng: np.random.Generator, fps: float = 25.0) -> np.ndarray:
    """Return how far the lids are shut, float32 ``(T,)``: 0 open, 1 shut; a blink every 1.5 to 5 s."""
    track = np.zeros(num_frames, dtype=np.float32)
    start = int(rng.uniform(0.1, 3.0) * fps)
    while start < num_frames:
        for k, value in enumerate(_BLINK_SHAPE[: num_frames - start]):
            track[start + k] = value
        start += int(rng.uniform(1.5, 5.0) * fps)
    return track


def gaze_track(num_frames: int, rng: np.random.Generator, fps: float = 25.0) -> np.ndarray:
    """Return where the eyes look, float32 ``(T, 2)`` in face units: mostly the camera, with quick glances aside."""
    track = np.zeros((num_frames, 2))
    start = 0
    while start < num_frames:
        away = rng.uniform() < 0.35
        target = rng.normal(0, (0.020, 0.008) if away else (0.005, 0.003))
        stop = start + int(rng.uniform(0.25, 0.6) * fps if away else rng.uniform(0.5, 2.0) * fps)
        track[start:stop] = target
        start = stop
    track[1:] = 0.75 * track[1:] + 0.25 * track[:-1]  # a glance takes about two frames
    return np.clip(track, (-0.045, -0.018), (0.045, 0.018)).astype(np.float32)


def idle_mouth(articulation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give a mouth that does not speak a little life: lips that part, press or smile slowly.

    Args:
        articulation: Rest position, float32 ``(T, A)`` in the order of ``visemes.ARTICULATION``.
        rng: Source of chance of the clip.

    Returns:
        float32 ``(T, A)``.
    """
    num_frames = len(articulation)
    times = np.arange(num_frames) / 25
    moved = articulation.copy()
    for column, span in ((0, 0.05), (1, 0.30), (6, 0.35)):  # opening, width, press
        centre, width = rng.uniform(0, num_frames / 25), rng.uniform(0.3, 0.9)
        moved[:, column] += span * rng.uniform(0.2, 1.0) * np.exp(-(((times - centre) / width) ** 2))
    return moved.astype(np.float32)
