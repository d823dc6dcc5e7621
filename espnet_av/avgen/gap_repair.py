# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Frames of a face that a tracker has lost: linear between the seen frames around a gap, held at both ends.

Axes: ``N`` frames of motion, ``D`` values of a frame.
"""

from dataclasses import dataclass

import numpy as np

from espnet_av.utils.errors import DataError, describe


@dataclass(frozen=True)
class Gaps:
    """From which seen frames each frame comes; nothing is read for it, so that long recordings stay on disk.

    Attributes:
        before: Seen frame at or before each frame, ``(N,)`` int64.
        after: Seen frame at or behind it, ``(N,)`` int64.
        weight: Share of ``after``, ``(N,)``.
        valid: True where the frame itself was seen, ``(N,)``.
    """

    before: np.ndarray
    after: np.ndarray
    weight: np.ndarray
    valid: np.ndarray


def find_gaps(num_frames: int, missing: np.ndarray) -> Gaps:
    """Return how to fill the gaps of a recording; where nothing was seen, every frame stays as it is.

    Args:
        num_frames: N.
        missing: Numbers of the frames that were lost, in any order.

    Raises:
        DataError: A number is no frame of the recording.
    """
    valid = _seen(num_frames, missing)
    own = np.arange(num_frames)
    if not valid.any():
        return Gaps(own, own, np.zeros(num_frames), valid)
    seen = own[valid]
    place = np.searchsorted(seen, own)  # the first seen frame at or behind each frame
    after = seen[np.minimum(place, len(seen) - 1)]
    before = np.where(valid, own, seen[np.maximum(place - 1, 0)])
    span = after - before
    weight = np.where(span > 0, (own - before) / np.maximum(span, 1), 0.0)
    return Gaps(before, after, weight, valid)


def repair(motion: np.ndarray, missing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fill the gaps of a recording.

    Args:
        motion: ``(N, D)``.
        missing: Numbers of the frames that were lost.

    Returns:
        ``(motion (N, D), valid (N,))``; seen frames are unchanged.

    Raises:
        DataError: A number is no frame of the recording.
    """
    gaps = find_gaps(len(motion), missing)
    weight = gaps.weight.reshape(-1, *[1] * (motion.ndim - 1))
    filled = (1 - weight) * motion[gaps.before] + weight * motion[gaps.after]
    return filled.astype(motion.dtype), gaps.valid


def repair_as_published(motion: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Fill gaps as the published loader does, with its defects.

    The last gap of a recording stays open. A gap at the start takes the recording's last frame as the one before it.
    Two neighbours are stretched over the gap, so that a gap of two frames repeats them and longer ones start and end
    with plain copies.

    Args:
        motion: ``(N, D)``.
        missing: Numbers of the frames that were lost.

    Returns:
        ``(N, D)``.

    Raises:
        DataError: A number is no frame of the recording.
    """
    from espnet_av.avgen.clock import resample_linear

    lost = np.flatnonzero(~_seen(len(motion), missing))
    filled = np.array(motion)
    runs = np.split(lost, np.flatnonzero(np.diff(lost) > 1) + 1)
    for run in runs[:-1]:
        around = np.stack([filled[run[0] - 1], filled[run[-1] + 1]])
        filled[run] = resample_linear(around, len(run))
    return filled


def _seen(num_frames: int, missing: np.ndarray) -> np.ndarray:
    missing = np.asarray(missing).reshape(-1).astype(np.int64)
    if len(missing) and not (0 <= missing.min() and missing.max() < num_frames):
        what = "a missing frame lies outside of the recording"
        raise DataError(describe(what, (int(missing.min()), int(missing.max())), f"0 to {num_frames - 1}"))
    valid = np.ones(num_frames, dtype=bool)
    valid[missing] = False
    return valid
