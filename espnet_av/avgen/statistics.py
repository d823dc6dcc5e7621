# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Means, deviations and ranges of a data set, computed from the windows that training cuts.

The generator stores them with its weights. Axes: ``T`` frames of a window, ``D`` values of a frame, ``K`` controls.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.avgen.dataset import Windows
from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error
from espnet_av.utils.files import atomic_write
from espnet_av.utils.progress import progress

FACE_MODES = ("per_value", "flat", "none")
MOST_WINDOWS = 1000  # evenly spread over a larger set
_SMALLEST_STD = 1e-6


class Moments:
    """Count, mean and sum of squared deviations of frames that come piece by piece."""

    def __init__(self) -> None:
        self.count = 0
        self.mean, self.squares = np.zeros(()), np.zeros(())
        self.low, self.high = np.array(np.inf), np.array(-np.inf)

    def add(self, frames: np.ndarray) -> None:
        """Take in frames ``(T, D)``."""
        if not len(frames):
            return
        frames = frames.astype(np.float64)
        count, mean = len(frames), frames.mean(axis=0)
        away = mean - self.mean
        total = self.count + count
        self.squares = self.squares + ((frames - mean) ** 2).sum(axis=0) + away**2 * self.count * count / total
        self.mean = self.mean + away * count / total
        self.low, self.high = np.minimum(self.low, frames.min(axis=0)), np.maximum(self.high, frames.max(axis=0))
        self.count = total

    def std(self) -> np.ndarray:
        """Return the deviation of each value, ``(D,)``; 1 where it never changes."""
        std = np.sqrt(self.squares / max(self.count, 1))
        return np.where(std < _SMALLEST_STD, 1.0, std)

    def flat_std(self) -> float:
        """Return the deviation around the mean of each value, over all values."""
        std = float(np.sqrt(np.mean(self.squares) / max(self.count, 1)))
        return std if std >= _SMALLEST_STD else 1.0


def compute_statistics(
    windows: Windows,
    *,
    face: str = "per_value",
    mouth: np.ndarray | None = None,
    partner_range: tuple[np.ndarray, np.ndarray] | None = None,
    most_windows: int = MOST_WINDOWS,
) -> dict[str, np.ndarray]:
    """Return what :meth:`~espnet_av.avgen.model_statistics.Statistics.set_statistics` takes.

    Args:
        windows: The training set. Its windows are taken as a validation set would, if it was opened so.
        face: ``per_value``: each value of the face code by its own deviation; ``flat``: all by one; ``none``: codes
            stay as they are, as in the published system.
        mouth: Direction ``(D,)``: its product with a face code is how far the mouth is open.
        partner_range: Least and greatest values of the partner's face, each ``(58,)``; None: those of the windows,
            where they have a partner.
        most_windows: Look at no more windows than this.

    Returns:
        ``mel_mean``, ``mel_std`` (one number each), ``head_mean``, ``head_std``, unless ``none`` ``face_mean``,
        ``face_std``, perhaps ``partner_min``, ``partner_max``, ``mouth_direction``; float32.

    Raises:
        UsageError: A name is unknown.
        DataError: The mouth's direction does not fit the codes, or no face was seen.
    """
    if face not in FACE_MODES:
        usage_error("unknown way to standardise faces", face, FACE_MODES)
    if most_windows < 1:
        usage_error("no windows to look at", most_windows, "1 or more")
    moments = {name: Moments() for name in ("mel", "head", "face", "partner")}
    keys = windows.keys[:: -(-len(windows.keys) // most_windows)]
    for key in progress(keys, title="statistics", unit="window"):
        _, item = windows[(1, key)]
        moments["mel"].add(item["mel"].reshape(-1, 1))
        moments["head"].add(item["head"])
        moments["face"].add(item["face"][item["valid"]] if "valid" in item else item["face"])
        if windows.participant:
            moments["partner"].add(np.concatenate([item["other_expression"], item["other_head"]], axis=1))
    if not moments["face"].count:
        raise DataError(describe("not one frame of the face was seen", fix="look into the lists of missing frames"))
    found = {"mel_mean": moments["mel"].mean[0], "mel_std": moments["mel"].std()[0]}
    found |= {"head_mean": moments["head"].mean, "head_std": moments["head"].std()}
    if face != "none":
        found["face_mean"] = moments["face"].mean
        deviation = moments["face"].std() if face == "per_value" else moments["face"].flat_std()
        found["face_std"] = np.broadcast_to(deviation, found["face_mean"].shape)
    if partner_range is None and moments["partner"].count:
        partner_range = moments["partner"].low, moments["partner"].high
    if partner_range is not None:
        found["partner_min"], found["partner_max"] = partner_range
    if mouth is not None:
        if np.shape(mouth) != moments["face"].mean.shape:
            got, allowed = np.shape(mouth), moments["face"].mean.shape
            raise DataError(describe("the direction of the mouth does not fit the face codes", got, allowed))
        found["mouth_direction"] = mouth
    return {name: np.asarray(value, dtype=np.float32) for name, value in found.items()}


def write_statistics(path: str | os.PathLike, statistics: dict[str, np.ndarray]) -> None:
    """Write a ``.npz`` file, whole or not at all."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {**statistics}
    with atomic_write(path, "wb") as out:
        np.savez(out, **arrays)


def mouth_direction(folder: str | os.PathLike, basis: str | os.PathLike | None = None) -> np.ndarray | None:
    """Return which direction of the face codes opens the mouth, ``(D,)``.

    Args:
        folder: The data; ``face_basis.npz`` is looked for there and above.
        basis: That file; None: look for it.

    Returns:
        None where there is no basis, or none of its controls is an opening.

    Raises:
        MissingDataError: The named file does not exist.
        DataError: It holds no matrix.
    """
    from espnet_av.avgen.score_files import find_basis

    found = find_basis(folder, basis)
    if found is None:
        return None
    place = found.column("opening")
    return None if place is None else found.matrix[place]


def published_range(folders: Sequence[str | os.PathLike]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the range of the partner's face that a data set in the 50h layout brings along; None where there is none.

    Raises:
        DataError: The files are damaged.
    """
    from espnet_av.avgen.participant import PARTNER_RANGE, read_range

    for folder in folders:
        try:
            return read_range(Path(folder) / PARTNER_RANGE)
        except MissingDataError:
            continue
    return None


def find_statistics(source: str | os.PathLike) -> dict[str, np.ndarray]:
    """Return the statistics of a ``.npz`` file, or those that lie in a data set of the 50h layout.

    Args:
        source: The file, or the folder of the data: its statistics of the head, and of the partner's face if any.

    Raises:
        MissingDataError: There is no such file, or the folder has no statistics of the head.
        DataError: A file is damaged.
    """
    from espnet_av.avgen.model_statistics import read_statistics
    from espnet_av.avgen.pose import HEAD_STATISTICS, HeadStatistics

    if not Path(source).is_dir():
        return read_statistics(source)
    head = HeadStatistics.from_file(Path(source) / HEAD_STATISTICS)
    found = {"head_mean": head.mean.numpy(), "head_std": head.std.numpy()}
    ranges = published_range([source])
    return found if ranges is None else {**found, "partner_min": ranges[0], "partner_max": ranges[1]}
