# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A drawn face that moves as the codes say: the face of the small corpus, driven through the basis of its codes.

Axes: ``F`` frames of motion, ``K`` controls.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from espnet_av.avgen.face.controls import CONTROLS, GAZE_UNIT, controls_to_tracks, head_to_pose
from espnet_av.avgen.face.identity import Identity, make_identity
from espnet_av.avgen.face.motion import POSE
from espnet_av.avgen.face.renderer import FaceRenderer, MotionTracks
from espnet_av.avgen.face.visemes import ARTICULATION
from espnet_av.avgen.render.head_angles import head_angles
from espnet_av.utils.errors import DataError, describe

if TYPE_CHECKING:
    from espnet_av.avgen.output import Generated
    from espnet_av.avgen.score_files import FaceBasis

BLOCK_FRAMES = 100  # drawn together, so that long samples need no more memory than short ones
DEPTH = 0.8  # how far the nearest point of the face lies before the axis of the head, in face units
MAX_SHIFT = 0.25  # farther shifts would leave the picture
LIMITS = {"opening": (0.0, 1.2), "width": (-1.0, 1.0)}  # other controls go from 0 to 1


class Sketch:
    """Draw a face.

    Args:
        face_basis: What face codes mean; controls are found by their names (those of ``visemes.ARTICULATION``,
            ``blink``, ``gaze_x``, ``gaze_y``), and what is not named keeps still.
        identity: Whose face; None: one of the small corpus.

    Raises:
        DataError: No control is the opening of the mouth.
    """

    def __init__(self, face_basis: "FaceBasis", identity: Identity | None = None) -> None:
        if face_basis.column("opening") is None:
            raise DataError(describe("the face basis names no opening of the mouth", list(face_basis.names)))
        self.face_basis = face_basis
        self._renderer = _EvenlyLit(identity or make_identity(0, 0, high_voice=True))

    def __call__(self, sample: "Generated") -> Iterator[np.ndarray]:
        """Yield a picture ``(224, 224, 3)`` for each frame of the motion."""
        tracks = self.tracks(sample)
        for first in range(0, len(sample.face), BLOCK_FRAMES):
            block = MotionTracks(*(track[first : first + BLOCK_FRAMES] for track in vars(tracks).values()))
            yield from self._renderer.render(block, first)

    def tracks(self, sample: "Generated") -> MotionTracks:
        """Return what the drawn face does."""
        controls = self.face_basis.controls(sample.face).astype(np.float32)
        rotation, shift = sample.head_R, sample.head_t
        if self.face_basis.names == CONTROLS and rotation is not None and shift is not None:
            # the actor of the small corpus
            head = np.concatenate((rotation, shift[..., None]), axis=2)
            pose = head_to_pose(head)
            pose[:, POSE.index("scale")] = pose[:, POSE.index("scale")].clip(0.7, 1.3)
            return controls_to_tracks(controls, pose.clip(-1.3, 1.3))
        length = len(controls)

        def control(name: str) -> np.ndarray:
            column = self.face_basis.column(name)
            return np.zeros(length, dtype=np.float32) if column is None else controls[:, column]

        articulation = np.stack([control(name).clip(*LIMITS.get(name, (0.0, 1.0))) for name in ARTICULATION], axis=1)
        gaze = GAZE_UNIT * np.stack((control("gaze_x"), control("gaze_y")), axis=1).clip((-0.9, -0.36), (0.9, 0.36))
        return MotionTracks(articulation, head_track(sample), control("blink").clip(0, 1), gaze)


def head_track(sample: "Generated") -> np.ndarray:
    """Return the pose of the drawn head ``(F, 6)`` in the order of ``POSE``; still where only joint angles are known.

    Shifts are told from the middle position of the sample; a translation of 1 is taken for half a face.
    """
    pose = np.zeros((len(sample.face), len(POSE)), dtype=np.float32)
    pose[:, POSE.index("scale")] = 1.0
    rotation, shift = sample.head_R, sample.head_t
    if rotation is None or shift is None:
        return pose
    yaw, pitch, roll = head_angles(rotation).T
    moved = (shift - np.median(shift, axis=0)).clip(-MAX_SHIFT, MAX_SHIFT)
    values = {
        "roll": roll,
        "yaw": (DEPTH * np.sin(yaw)).clip(-MAX_SHIFT, MAX_SHIFT),
        "pitch": (DEPTH * np.sin(pitch)).clip(-MAX_SHIFT, MAX_SHIFT),
        "shift_x": moved[:, 0],
        "shift_y": moved[:, 1],
    }
    for name, track in values.items():
        pose[:, POSE.index(name)] = track
    return pose


class _EvenlyLit(FaceRenderer):
    """Light that does not wander, so that blocks of a clip fit together."""

    def _lighting(self, num_frames: int, rng: np.random.Generator) -> list[float]:
        return [0.5] * num_frames
