# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Cut a talker's time line into chunks that the recogniser can take, from active speaker scores or without them.

The rules are those of AVSRCocktail, with its slips repaired; ``legacy=True`` brings them back. A frame number counts
from the start of the session, so that the tracks of one speaker share a time line.
"""

import bisect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from espnet_av.utils.errors import usage_error

FPS = 25
DEFAULT_GAP_SEC = 0.5
Interval = tuple[float, float]


@dataclass(frozen=True)
class Segment:
    """A stretch of speech.

    Attributes:
        start_frame: First frame.
        end_frame: Frame after the last one.
        frames: Frames inside that have a score (with ``legacy=True``: that were active), rising.
    """

    start_frame: int
    end_frame: int
    frames: tuple[int, ...]

    @property
    def num_frames(self) -> int:
        """Length in frames, pauses included."""
        return self.end_frame - self.start_frame

    def times(self, first_frame: int = 0, fps: float = FPS, *, legacy: bool = False) -> Interval:
        """Return start and end in seconds from the start of ``first_frame``.

        Args:
            first_frame: Frame that counts as time zero, e.g. the first one of a track.
            fps: Frames per second.
            legacy: Give the start of the last frame instead of its end, which loses 40 ms.
        """
        end = self.end_frame - 1 if legacy else self.end_frame
        return (self.start_frame - first_frame) / fps, (end - first_frame) / fps


def segment_by_asd(
    scores: Mapping[int, float],
    *,
    onset: float = 1.0,
    offset: float = 0.8,
    min_duration_on: float = 1.0,
    min_duration_off: float | None = None,
    max_duration: float = 10.0,
    min_chunk: float = 1.0,
    fps: float = FPS,
    legacy: bool = False,
) -> list[Segment]:
    """Find the chunks of speech in active speaker scores.

    Speech begins at a frame above ``onset`` and ends before a frame below ``offset``, or where scores are missing.
    Regions with short pauses between them are joined, short ones dropped, long ones cut into equal pieces. Durations
    are cut down to whole frames and count from the first to the last frame of a region.

    Args:
        scores: Frame number -> score; frames may be missing.
        onset: Speech begins above this score. 2.4 with ``offset=1.6`` suits a camera that the listener wears.
        offset: Speech ends below this score.
        min_duration_on: Shortest speech in seconds.
        min_duration_off: Longest pause in seconds over which regions are joined; None is 0.5, with ``legacy=True`` the
            value of ``min_duration_on``.
        max_duration: Longest chunk in seconds.
        min_chunk: Shortest piece of a region that was cut, in seconds.
        fps: Frames per second.
        legacy: As AVSRCocktail does it: speech goes on over missing scores, and lengths count active frames only, so
            that chunks with pauses in them get longer than ``max_duration``.

    Returns:
        Chunks in the order of time; empty where nobody speaks.

    Raises:
        UsageError: A duration or threshold makes no sense.

    >>> [chunk.times() for chunk in segment_by_asd({frame: 2.0 for frame in range(25, 75)})]
    [(1.0, 3.0)]
    """
    _check(onset, offset, min_duration_on, min_duration_off, max_duration, min_chunk, fps)
    if min_duration_off is None:
        min_duration_off = min_duration_on if legacy else DEFAULT_GAP_SEC
    gap, shortest, longest, shortest_piece = (
        int(seconds * fps) for seconds in (min_duration_off, min_duration_on, max_duration, min_chunk)
    )
    regions = _join(_active_regions(scores, onset, offset, legacy), gap)
    if legacy:
        return _cut_lists(regions, shortest, longest, shortest_piece)
    frames = sorted(scores)
    spans = ((region[0], region[-1] + 1) for region in regions if region[-1] + 1 - region[0] >= shortest)
    return [
        Segment(start, end, _between(frames, start, end))
        for span in spans
        for start, end in _cut_span(*span, longest, shortest_piece)
    ]


def fixed_chunks(duration_sec: float, max_sec: float = 15.0) -> list[Interval]:
    """Cut a clip into pieces of about the same length, whole seconds but for the last piece.

    Args:
        duration_sec: Length of the clip in seconds.
        max_sec: Longest piece in seconds.

    Returns:
        ``(start, end)`` of every piece in seconds; the last one ends with the clip. Empty for an empty clip.

    Raises:
        UsageError: ``max_sec`` is not above 0, or ``duration_sec`` is no number.

    >>> fixed_chunks(31, 15)
    [(0.0, 11.0), (11.0, 22.0), (22.0, 31.0)]
    """
    if not math.isfinite(duration_sec) or not max_sec > 0:
        usage_error("a clip cannot be cut like this", got=(duration_sec, max_sec), allowed="finite length, max_sec > 0")
    if duration_sec <= 0:
        return []
    count = math.ceil(duration_sec / max_sec)
    step = round(100 * min(math.ceil(duration_sec / count), max_sec))
    starts = [start / 100 for start in range(0, max(1, int(duration_sec * 100)), max(1, step))]
    return list(zip(starts, [*starts[1:], float(duration_sec)], strict=True))


def merge_scores(tracks: Iterable[Mapping[int, float]]) -> dict[int, float]:
    """Put the scores of several tracks of one speaker on one time line; a later track wins where two have a frame."""
    merged: dict[int, float] = {}
    for scores in tracks:
        merged.update(scores)
    return dict(sorted(merged.items()))


def find_gaps(scores: Mapping[int, float], first_frame: int, end_frame: int) -> list[tuple[int, int]]:
    """Return the runs of frames in ``[first_frame, end_frame)`` without a score, each half open."""
    gaps: list[tuple[int, int]] = []
    for frame in range(first_frame, end_frame):
        if frame in scores:
            continue
        if gaps and gaps[-1][1] == frame:
            gaps[-1] = (gaps[-1][0], frame + 1)
        else:
            gaps.append((frame, frame + 1))
    return gaps


def _check(
    onset: float,
    offset: float,
    min_duration_on: float,
    min_duration_off: float | None,
    max_duration: float,
    min_chunk: float,
    fps: float,
) -> None:
    durations = (min_duration_on, min_duration_off or 0.0, min_chunk)
    if not all(math.isfinite(value) and value >= 0 for value in durations):
        usage_error("durations in seconds must not be negative", got=durations, allowed=">= 0")
    if not offset <= onset:
        usage_error("speech must end at a lower score than it begins", got=(onset, offset), allowed="offset <= onset")
    if not (fps > 0 and max_duration * fps >= 1):
        usage_error("no chunk is this short", got=max_duration, allowed="max_duration of one frame or more")


def _active_regions(scores: Mapping[int, float], onset: float, offset: float, over_holes: bool) -> list[list[int]]:
    regions: list[list[int]] = []
    active = False
    previous = -1
    for frame in sorted(scores):
        if active and not over_holes and frame != previous + 1:
            active = False
        if not active and scores[frame] > onset:
            active = True
            regions.append([])
        elif active and scores[frame] < offset:
            active = False
        if active:
            regions[-1].append(frame)
        previous = frame
    return regions


def _join(regions: Sequence[list[int]], gap: int) -> list[list[int]]:
    joined: list[list[int]] = []
    for region in regions:
        if joined and region[0] - joined[-1][-1] - 1 <= gap:
            joined[-1] = joined[-1] + region
        else:
            joined.append(region)
    return joined


def _cut_lists(regions: Iterable[list[int]], shortest: int, longest: int, shortest_piece: int) -> list[Segment]:
    """Drop and cut as the reference does, by the number of active frames."""
    pieces: list[list[int]] = []
    for region in regions:
        if len(region) < shortest:
            continue
        if len(region) <= longest:
            pieces.append(region)
            continue
        size = math.ceil(len(region) / math.ceil(len(region) / longest))
        cut = (region[start : start + size] for start in range(0, len(region), size))
        pieces.extend(piece for piece in cut if len(piece) >= shortest_piece)
    return [Segment(piece[0], piece[-1] + 1, tuple(piece)) for piece in pieces if piece]


def _cut_span(start: int, end: int, longest: int, shortest_piece: int) -> list[tuple[int, int]]:
    count = math.ceil((end - start) / longest)
    if count == 1:
        return [(start, end)]
    edges = [start + (end - start) * index // count for index in range(count + 1)]
    return [(first, last) for first, last in zip(edges[:-1], edges[1:], strict=True) if last - first >= shortest_piece]


def _between(frames: Sequence[int], start: int, end: int) -> tuple[int, ...]:
    return tuple(frames[bisect.bisect_left(frames, start) : bisect.bisect_left(frames, end)])
