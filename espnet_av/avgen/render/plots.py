# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Curves of a sample with a line that runs along: mel, what the face does, where the head points.

Where the meaning of face codes is not known, the face is shown by its strongest directions of movement, which are no
face. Axes: ``F`` frames of motion, ``K`` curves.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from espnet_av.avgen.render.head_angles import head_angles

if TYPE_CHECKING:
    from espnet_av.avgen.output import Generated
    from espnet_av.avgen.score_files import FaceBasis

WIDTH, PANEL_HEIGHT, MARGIN = 640, 150, 22
COLOURS = (
    *((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189)),
    *((140, 86, 75), (227, 119, 194), (23, 190, 207), (188, 189, 34)),
)
NAME_WIDTH, TITLE_WIDTH = 90, 300
NUM_ANGLES = 4  # of joints; poses of another width are values of a latent that nobody decoded
GREY = (90, 90, 90)
NUM_DIRECTIONS = 3


class Plots:
    """Draw curves.

    Args:
        face_basis: What face codes mean; None: not known.
    """

    def __init__(self, face_basis: "FaceBasis | None" = None) -> None:
        self.face_basis = face_basis

    def __call__(self, sample: "Generated") -> Iterator[np.ndarray]:
        """Yield a picture ``(450, 640, 3)`` for each frame of the motion."""
        page = self.page(sample)
        last = max(1, len(sample.face) - 1)
        for index in range(len(sample.face)):
            picture = page.copy()
            place = round(index / last * (WIDTH - 1))
            cv2.line(picture, (place, 0), (place, len(page) - 1), (255, 120, 0), 2)
            yield picture

    def page(self, sample: "Generated") -> np.ndarray:
        """Return the picture without the line, uint8 ``(H, W, 3)``."""
        curves, names = self._face(sample)
        title = "mouth" if self.face_basis is not None else "directions of the face code (not a face)"
        panels = [draw_mel(sample.mel), draw_curves(curves, names, title), draw_curves(*head_curves(sample))]
        return np.concatenate(panels)

    def _face(self, sample: "Generated") -> tuple[np.ndarray, Sequence[str]]:
        if self.face_basis is not None:
            return self.face_basis.controls(sample.face)[:, :2], ("opening", "width")
        centred = sample.face - sample.face.mean(axis=0)
        _, _, directions = np.linalg.svd(centred, full_matrices=False)
        curves = centred @ directions[:NUM_DIRECTIONS].T
        return curves, tuple(str(number + 1) for number in range(curves.shape[1]))


def head_curves(sample: "Generated") -> tuple[np.ndarray, Sequence[str], str]:
    """Return what the head does ``(F, K)``, the names of its curves, and a title."""
    if sample.head_R is not None:
        return head_angles(sample.head_R), ("yaw", "pitch", "roll"), "head"
    numbers = range(1, sample.head.shape[1] + 1)
    if len(numbers) == NUM_ANGLES:
        return sample.head, [f"angle {number}" for number in numbers], "head"
    return sample.head, [str(number) for number in numbers], "head latent (no pose)"


def draw_mel(mel: np.ndarray) -> np.ndarray:
    """Return a spectrogram ``(T, bands)`` as a picture of a panel's size."""
    low, high = float(mel.min()), float(mel.max())
    grey = np.rint((mel.T[::-1] - low) / max(high - low, 1e-6) * 255).astype(np.uint8)
    panel = cv2.resize(grey, (WIDTH, PANEL_HEIGHT), interpolation=cv2.INTER_AREA)
    return cv2.applyColorMap(panel, cv2.COLORMAP_VIRIDIS)[..., ::-1].copy()


def draw_curves(curves: np.ndarray, names: Sequence[str], title: str) -> np.ndarray:
    """Return curves ``(F, K)`` over time, in one scale, as a picture of a panel's size."""
    picture = np.full((PANEL_HEIGHT, WIDTH, 3), 255, dtype=np.uint8)
    low, high = float(curves.min()), float(curves.max())
    across = np.linspace(0, WIDTH - 1, len(curves))
    room = PANEL_HEIGHT - MARGIN - 6
    cv2.putText(picture, f"{title}  [{low:.2f}, {high:.2f}]", (6, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, GREY, 1)
    step = min(NAME_WIDTH, (WIDTH - TITLE_WIDTH) // len(names))
    left = WIDTH - step * len(names)
    for number, name in enumerate(names):
        colour = COLOURS[number % len(COLOURS)]
        down = PANEL_HEIGHT - 4 - (curves[:, number] - low) / max(high - low, 1e-9) * room
        points = np.stack((across, down), axis=1).round().astype(np.int32)
        cv2.polylines(picture, [points], False, colour, 1, cv2.LINE_AA)
        cv2.putText(picture, name, (left + step * number, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1)
    cv2.line(picture, (0, 0), (WIDTH - 1, 0), GREY, 1)
    return picture
