# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Separation of long recordings in overlapping windows, and how well neighbouring windows agree.

Separators see all of their input at once and were trained on a few seconds; their memory grows with length. A long
recording is therefore cut into windows of equal length that begin on a video frame, so that lips are cut alike.
Neighbours overlap; in the middle of the overlap one fades into the other. The samples nearest to the end of a window,
which know the least of their surroundings, are not used.

    plan = plan_windows(num_samples, WindowRules())
    joiner = WindowJoiner(plan, num_targets=2)
    blocks = [joiner.add(separate(mix[w.start : w.end])) for w in plan.windows]
    voices = np.concatenate(blocks, axis=1)

Axes: ``K`` targets, ``N`` samples, ``T`` video frames.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from espnet_av.data.av_clock import AVClock
from espnet_av.utils.errors import usage_error

DEFAULT_CLOCK = AVClock()

FLOOR_DB = -120.0  # of a seam without any difference
SILENT_RMS = 1e-5  # under which a seam is not judged


@dataclass(frozen=True)
class WindowRules:
    """Lengths in seconds; each is rounded to whole video frames.

    Attributes:
        window_sec: Length of a window. A recording up to this long goes through the network as a whole; infinity never
            cuts.
        overlap_sec: Least overlap of two windows, at most a third of a window.
        margin_sec: At the inner ends of a window, not used; at most a third of the overlap.
    """

    window_sec: float = 4.0
    overlap_sec: float = 1.0
    margin_sec: float = 0.2

    def __post_init__(self) -> None:
        if not self.window_sec > 0:
            usage_error("window_sec is out of range", got=self.window_sec, allowed="above 0, .inf for no windows")
        if not 0 < self.overlap_sec <= self.window_sec / 3:
            usage_error("overlap_sec is out of range", got=self.overlap_sec, allowed="above 0, to window_sec / 3")
        if not 0 <= self.margin_sec <= self.overlap_sec / 3:
            usage_error("margin_sec is out of range", got=self.margin_sec, allowed="0 to overlap_sec / 3")


@dataclass(frozen=True)
class Window:
    """A stretch of a recording.

    Attributes:
        start: First sample.
        end: Sample after the last one.
        first_frame: First video frame.
        last_frame: Video frame after the last one.
    """

    start: int
    end: int
    first_frame: int
    last_frame: int

    @property
    def num_samples(self) -> int:
        """Length in samples."""
        return self.end - self.start

    @property
    def num_frames(self) -> int:
        """Length in video frames."""
        return self.last_frame - self.first_frame


@dataclass(frozen=True)
class WindowPlan:
    """The windows of a recording.

    Attributes:
        num_samples: Length of the recording.
        windows: At least one, in order of time.
        fades: First and last sample (exclusive) of the fade between each window and the next.
    """

    num_samples: int
    windows: tuple[Window, ...]
    fades: tuple[tuple[int, int], ...]


def plan_windows(num_samples: int, rules: WindowRules, clock: AVClock = DEFAULT_CLOCK) -> WindowPlan:
    """Lay windows over a recording: as few as the least overlap allows, evenly spread.

    Args:
        num_samples: Length of the recording, 1 or more.
        rules: Lengths.
        clock: Sample rate and frame rate.

    Returns:
        The plan. All windows but the last are equally long; the last may be up to one video frame shorter.
    """
    total = math.ceil(num_samples / clock.ratio)
    if math.isinf(rules.window_sec) or total <= (size := max(3, _frames(rules.window_sec, clock))):
        return WindowPlan(num_samples, (Window(0, num_samples, 0, total),), ())
    overlap = min(max(1, _frames(rules.overlap_sec, clock)), size // 3)
    count = -(-(total - overlap) // (size - overlap))
    firsts = [index * (total - size) // (count - 1) for index in range(count)]
    windows = tuple(
        Window(
            clock.frames_to_samples(first), min(clock.frames_to_samples(first + size), num_samples), first, first + size
        )
        for first in firsts
    )
    length = clock.frames_to_samples(max(1, overlap - 2 * _frames(rules.margin_sec, clock)))
    fades = []
    for before, after in itertools.pairwise(windows):
        middle = (after.start + before.end) // 2
        fades.append((middle - length // 2, middle - length // 2 + length))
    return WindowPlan(num_samples, windows, tuple(fades))


def _frames(seconds: float, clock: AVClock) -> int:
    return round(seconds * float(clock.fps))


class WindowJoiner:
    """Joins the voices of windows to voices of the whole.

    Args:
        plan: The windows.
        align: The targets of a window may come in any order (a separator that does not know who is who): take the order
            that fits the window before best.

    Attributes:
        seams_db: For each seam, the energy of the difference of both windows in the fade over that of their mean, dB
            per target (lower is better; -120: equal; NaN: silent).
    """

    def __init__(self, plan: WindowPlan, *, align: bool = False) -> None:
        self.plan = plan
        self.align = align
        self.seams_db: list[np.ndarray] = []
        self._index = 0
        self._kept = np.zeros((0, 0), np.float32)  # of the window before, from sample _position on
        self._position = 0

    def add(self, voices: np.ndarray) -> np.ndarray:
        """Add the next window.

        Args:
            voices: ``(K, samples of the window)``.

        Returns:
            ``(K, n)``: the samples that are finished now, which follow those returned before.
        """
        window = self.plan.windows[self._index]
        if voices.shape[1] != window.num_samples:
            usage_error("a window has another length", got=voices.shape[1], allowed=window.num_samples)
        finished = []
        if self._index:
            start, end = self.plan.fades[self._index - 1]
            old = self._kept[:, start - self._position : end - self._position]
            order = self._order(old, voices[:, start - window.start : end - window.start])
            voices = voices[order]
            new = voices[:, start - window.start : end - window.start]
            self.seams_db.append(seam_error(old, new))
            gain = fade_in(end - start)
            finished += [self._kept[:, : start - self._position], old * (1 - gain) + new * gain]
            self._kept, self._position = voices[:, end - window.start :], end
        else:
            self._kept = voices
        self._index += 1
        if self._index == len(self.plan.windows):
            finished.append(self._kept)
            return np.concatenate(finished, axis=1)
        ready = self.plan.fades[self._index - 1][0] - self._position
        finished.append(self._kept[:, :ready])
        self._kept, self._position = self._kept[:, ready:].copy(), self._position + ready
        return np.concatenate(finished, axis=1)

    def _order(self, old: np.ndarray, new: np.ndarray) -> list[int]:
        """Return which new target goes on with each old one."""
        if not self.align or len(old) < 2:
            return list(range(len(old)))
        from scipy.optimize import linear_sum_assignment

        return linear_sum_assignment(-(old @ new.T))[1].tolist()


def fade_in(length: int) -> np.ndarray:
    """Return a rising half cosine ``(length,)`` float32; with its mirror image it sums to 1."""
    return (0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / length)).astype(np.float32)


def seam_error(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return how much two estimates of the same stretch differ.

    Args:
        old: ``(K, n)``.
        new: ``(K, n)``.

    Returns:
        ``(K,)`` float64, dB: energy of the difference over energy of the mean; NaN where both are silent.
    """
    difference = np.square(np.asarray(old, np.float64) - new).mean(axis=1)
    level = np.square((np.asarray(old, np.float64) + new) / 2).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.maximum(10 * np.log10(difference / level), FLOOR_DB)
    silent = np.maximum(difference, level) < SILENT_RMS**2
    return np.where(silent, np.nan, np.where(difference == 0, FLOOR_DB, error))


def summarise_seams(seams_db: Sequence[np.ndarray]) -> dict[str, float | int | None]:
    """Return the number of seams, the mean and the worst of those that are not silent (None without any)."""
    values = np.concatenate(list(seams_db)) if seams_db else np.zeros(0)
    known = values[~np.isnan(values)]
    return {
        "num_seams": len(seams_db),
        "mean_seam_db": round(float(known.mean()), 2) if len(known) else None,
        "worst_seam_db": round(float(known.max()), 2) if len(known) else None,
    }
