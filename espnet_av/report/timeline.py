# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A picture of a transcribed session: who was seen, when they spoke by the scores, and what was recognised."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from espnet_av.avsr.vtt import Caption
from espnet_av.report.plots import figure

SEEN, SPOKEN, LINE = "#E2E8F0", "#0072B2", "#D55E00"
MAX_INCHES = 40.0
INCHES_PER_SEC = 0.5
CHARACTERS_PER_INCH = 14.0
MAX_LINES = 3  # of a caption; longer texts are cut


@dataclass(frozen=True)
class TimelineRow:
    """One person.

    Attributes:
        name: Shown at the left.
        seen: Start and end of every track in seconds.
        scores: Time in seconds and score of each frame, one pair of arrays per track.
        captions: What was recognised.
    """

    name: str
    seen: Sequence[tuple[float, float]]
    scores: Sequence[tuple[np.ndarray, np.ndarray]]
    captions: Sequence[Caption]


def draw_timeline(rows: Sequence[TimelineRow], title: str, onset: float = 1.0) -> bytes:
    """Draw a session.

    Args:
        rows: The people, from top to bottom.
        title: Of the picture.
        onset: Score above which speech begins.

    Returns:
        PNG.
    """
    end = max([stop for row in rows for _, stop in row.seen], default=1.0)
    width = min(MAX_INCHES, max(7.0, INCHES_PER_SEC * end))
    per_sec = CHARACTERS_PER_INCH * 0.9 * width / end
    with figure(nrows=max(1, len(rows)), sharex=True, figsize=(width, 0.8 + 1.1 * max(1, len(rows)))) as (drawn, axes):
        for row, panel in zip(rows, axes[:, 0], strict=False):
            for start, stop in row.seen:
                panel.axvspan(start, stop, color=SEEN, zorder=0, linewidth=0)
            for times, scores in row.scores:
                panel.plot(times, scores, color=LINE, linewidth=0.8)
            panel.axhline(onset, color=LINE, linewidth=0.5, linestyle=":")
            low, high = panel.get_ylim()
            for caption in row.captions:
                panel.axvspan(caption.start, caption.end, color=SPOKEN, alpha=0.25, linewidth=0)
                panel.text(caption.start, high, _wrapped(caption, per_sec), fontsize=7, va="top", clip_on=True)
            panel.set_ylim(low, high)
            panel.set_ylabel(row.name)
        axes[0, 0].set_title(title)
        axes[-1, 0].set_xlabel("time (s); gray: seen, line: active speaker score, blue: recognised")
        axes[-1, 0].set_xlim(0, end)
        buffer = io.BytesIO()
        drawn.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def scores_over_time(scores: Mapping[int, float], fps: float) -> tuple[np.ndarray, np.ndarray]:
    """Turn frame -> score into times in seconds and scores; missing frames break the line.

    Returns:
        ``(N,)`` and ``(N,)`` float64.
    """
    if not scores:
        return np.zeros(0), np.zeros(0)
    frames = np.arange(min(scores), max(scores) + 1)
    return frames / fps, np.array([scores.get(int(frame), np.nan) for frame in frames])


def _wrapped(caption: Caption, characters_per_sec: float) -> str:
    """Break a text into lines that fit into the bar of its caption."""
    room = max(6, int(characters_per_sec * (caption.end - caption.start)))
    return "\n".join(textwrap.wrap(caption.text, room, max_lines=MAX_LINES, placeholder="\u2026"))
