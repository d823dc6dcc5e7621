# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The picture of an alignment: lips, spectrogram, CTC posteriors and decoder attention over one time axis."""

import functools
import io
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from espnet_av.report.alignment import Alignment, Span
from espnet_av.report.media import log_mel
from espnet_av.report.plots import figure, mel_axis
from espnet_av.report.results import MODALITY_TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NUM_CROPS = 18
WIDTH_INCH = 10.5
MARGIN_INCH = 1.1  # what labels take of the width
BLANK_COLOR = "#a0aec0"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
NUM_LEVELS, LEVEL_HEIGHT = 3, 0.15  # of the labels above the CTC probabilities
LETTER_SHARE = 0.0075  # width of a letter of a label, as a share of the picture's
DYNAMIC_RANGE_DB = 70


def alignment_picture(alignment: Alignment) -> bytes:
    """Draw an alignment as PNG.

    From top to bottom: mouth crops; log-mel spectrogram with the times of the spoken words where they are known; CTC
    probability of each token, its greedy runs as labels and bars; decoder attention of each token. Streams that the
    modality does not use are left out.
    """
    clip = alignment.clip
    duration_sec = len(alignment.blank) * alignment.frame_sec
    panels: list[tuple[Callable[[Axes, Alignment], None], float]] = []
    if clip.frames is not None and alignment.modality != "audio":
        crops = functools.partial(_draw_crops, frames=clip.frames)
        panels.append((crops, (WIDTH_INCH - MARGIN_INCH) / NUM_CROPS + 0.1))
    if clip.wave is not None and alignment.modality != "video":
        panels.append((functools.partial(_draw_sound, wave=clip.wave), 1.5))
    panels += [(_draw_ctc, 1.6), (_draw_attention, 0.5 + max(1.3, min(6.0, 0.17 * len(alignment.tokens))))]
    heights = [height for _, height in panels]
    layout = {"figsize": (WIDTH_INCH, sum(heights) + 0.5), "gridspec_kw": {"height_ratios": heights}, "sharex": True}
    with figure(nrows=len(panels), **layout) as (drawn, axes):
        for (draw, _), axis in zip(panels, axes[:, 0], strict=True):
            draw(axis, alignment)
            axis.grid(visible=False)
        axes[0, 0].set_xlim(0, duration_sec)
        axes[-1, 0].set_xlabel("time (s)")
        axes[0, 0].set_title(_title(alignment), fontsize=10.5)
        drawn.align_ylabels(axes[:, 0])
        buffer = io.BytesIO()
        drawn.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
        return buffer.getvalue()


def _title(alignment: Alignment) -> str:
    title = MODALITY_TITLES.get(alignment.modality, alignment.modality)
    head = f"{alignment.set_name}, {alignment.uid}, {title}"
    reference, hypothesis = _shortened(alignment.reference), _shortened(alignment.hypothesis)
    if alignment.reference.split() == alignment.hypothesis.upper().split():
        return f"{head}\nrecognised without error: {hypothesis}"
    return f"{head}\nspoken: {reference}\nrecognised: {hypothesis or '(nothing)'}"


def _shortened(text: str, size: int = 120) -> str:
    return text if len(text) <= size else text[: size - 1] + "…"


def _draw_crops(axis: "Axes", alignment: Alignment, frames: np.ndarray) -> None:
    """One crop per slot of time, the frame in the middle of the slot."""
    duration_sec = len(alignment.blank) * alignment.frame_sec
    count = min(NUM_CROPS, len(frames))
    edges = np.linspace(0, duration_sec, count + 1)
    for left, right in zip(edges[:-1], edges[1:], strict=True):
        frame = frames[min(len(frames) - 1, int((left + right) / 2 * alignment.clip.fps))]
        axis.imshow(frame, cmap="gray", vmin=0, vmax=255, extent=(left, right, 0, 1), aspect="auto")
    for edge in edges[1:-1]:
        axis.axvline(edge, color="white", linewidth=1.2)
    axis.set(ylim=(0, 1), yticks=[], ylabel="lips")
    axis.tick_params(bottom=False)
    axis.spines[["left", "bottom"]].set_visible(False)


def _draw_sound(axis: "Axes", alignment: Alignment, wave: np.ndarray) -> None:
    sample_rate = alignment.clip.sample_rate
    picture = log_mel(wave, sample_rate)
    top_db = float(picture.max())
    extent = (0, len(wave) / sample_rate, 0, picture.shape[0])
    axis.imshow(picture, origin="lower", aspect="auto", extent=extent, vmin=top_db - DYNAMIC_RANGE_DB, vmax=top_db)
    mel_axis(axis, picture.shape[0], sample_rate / 2, (500, 1000, 2000, 4000, 8000))
    axis.set_ylabel("frequency (Hz)")
    _write_words(axis, alignment.words, picture.shape[0])


def _write_words(axis: "Axes", words: Sequence[Span], top: float) -> None:
    style: dict[str, Any] = {"ha": "center", "va": "top", "color": "white", "fontsize": 8, "clip_on": True}
    for word in words:
        for edge in (word.start_sec, word.end_sec):
            axis.axvline(edge, color="white", linewidth=0.7, alpha=0.8)
        axis.text((word.start_sec + word.end_sec) / 2, top * 0.97, word.text, **style)


def _draw_ctc(axis: "Axes", alignment: Alignment) -> None:
    """Probability of each token over time; the greedy runs are labels above and bars below."""
    times = (np.arange(len(alignment.blank)) + 0.5) * alignment.frame_sec
    axis.plot(times, alignment.blank, color=BLANK_COLOR, linestyle="--", linewidth=1.2)
    colors = {name: COLORS[number % len(COLORS)] for number, name in enumerate(alignment.posteriors)}
    for name, values in alignment.posteriors.items():
        axis.plot(times, values, color=colors[name], linewidth=1.4)
    for run, level in zip(alignment.greedy, label_levels(alignment.greedy, times[-1]), strict=True):
        color, ends = colors[run.text], [run.start_sec, run.end_sec]
        place = (sum(ends) / 2, 1.04 + LEVEL_HEIGHT * level)
        axis.text(*place, run.text, color=color, ha="center", va="bottom", fontsize=8, clip_on=True)
        axis.plot(ends, [-0.06, -0.06], color=color, linewidth=3.5, solid_capstyle="butt")
    axis.set(ylim=(-0.12, 1.06 + LEVEL_HEIGHT * NUM_LEVELS), yticks=[0, 0.5, 1], ylabel="CTC probability")
    axis.text(0.995, 0.5, "dashed: blank", transform=axis.transAxes, ha="right", fontsize=8, color="#4a5568")


def label_levels(runs: Sequence[Span], duration_sec: float) -> list[int]:
    """Return the height, 0 to 2, at which each label stands clear of those before it; the top one takes what is left.

    Args:
        runs: Labelled times, rising.
        duration_sec: Width of the picture, which decides how long a letter is.
    """
    letter_sec = duration_sec * LETTER_SHARE
    ends = [-math.inf] * NUM_LEVELS
    levels = []
    for run in runs:
        middle, half = (run.start_sec + run.end_sec) / 2, (len(run.text) + 1) * letter_sec / 2
        free = [level for level, end in enumerate(ends) if end <= middle - half]
        levels.append(free[0] if free else NUM_LEVELS - 1)
        ends[levels[-1]] = middle + half
    return levels


def _draw_attention(axis: "Axes", alignment: Alignment) -> None:
    """One row per token, the first on top; each row is scaled to its own peak."""
    weights = alignment.attention / np.maximum(alignment.attention.max(axis=1, keepdims=True), 1e-9)
    rows = len(alignment.tokens)
    extent = (0, weights.shape[1] * alignment.frame_sec, rows, 0)
    axis.imshow(weights, aspect="auto", extent=extent, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axis.set_yticks(np.arange(rows) + 0.5, alignment.tokens, fontsize=8 if rows <= 30 else 5.5)
    axis.tick_params(left=False)
    axis.set_ylabel(f"attention, layer {alignment.layer}")
    for word in alignment.words:
        for edge in (word.start_sec, word.end_sec):
            axis.axvline(edge, color=BLANK_COLOR, linewidth=0.6)
