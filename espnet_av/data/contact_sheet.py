# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A picture of many clips at once: one row per clip, time from left to right."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from espnet_av.utils.files import atomic_write

LABEL_WIDTH, HEADER_HEIGHT, LINE_HEIGHT, GAP = 210, 22, 16, 2
DARK, LIGHT, RED = 24, 230, (90, 90, 250)  # BGR


@dataclass(frozen=True)
class SheetRow:
    """One clip: its label (up to three lines) and its frames (T, S, S) or (T, S, S, 3) RGB uint8."""

    label: str
    frames: np.ndarray


def write_contact_sheet(
    path: str | os.PathLike,
    rows: Sequence[SheetRow],
    *,
    title: str = "",
    num_columns: int = 12,
    notes: Sequence[str] = (),
) -> None:
    """Write a PNG with ``num_columns`` evenly spaced frames of every clip.

    Args:
        path: The PNG file.
        rows: The clips, all with frames of one size.
        title: Text above the rows.
        num_columns: Frames per clip.
        notes: Lines of text below the rows, e.g. the clips that were left out.
    """
    import cv2

    size = rows[0].frames.shape[1] if rows else 96
    width = LABEL_WIDTH + num_columns * (size + GAP)
    height = HEADER_HEIGHT + len(rows) * (size + GAP) + len(notes) * LINE_HEIGHT + GAP * 4
    sheet = np.full((height, width, 3), DARK, np.uint8)
    _put(sheet, title, 6, 15)
    top = HEADER_HEIGHT
    for row in rows:
        for line, text in enumerate(row.label.split("\n")[:3]):
            _put(sheet, text, 6, top + 20 + line * (LINE_HEIGHT + 2))
        picks = np.linspace(0, len(row.frames) - 1, num_columns).round().astype(int)
        for column, index in enumerate(picks):
            frame = row.frames[index]
            left = LABEL_WIDTH + column * (size + GAP)
            sheet[top : top + size, left : left + size] = frame[..., ::-1] if frame.ndim == 3 else frame[..., None]
        top += size + GAP
    for line, text in enumerate(notes):
        _put(sheet, text, 6, top + GAP * 2 + 12 + line * LINE_HEIGHT, RED)
    _, encoded = cv2.imencode(".png", sheet)
    with atomic_write(path, "wb") as stream:
        stream.write(encoded.tobytes())


def _put(sheet: np.ndarray, text: str, x: int, y: int, color: tuple[int, int, int] = (LIGHT, LIGHT, LIGHT)) -> None:
    import cv2

    printable = text.encode("ascii", "replace").decode()
    cv2.putText(sheet, printable, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, color, 1, cv2.LINE_AA)
