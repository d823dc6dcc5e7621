# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Figures of speech separation: improvement per kind of pair, input against output, spectrograms and masks."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from espnet_av.avss.pair_scores import KIND_TITLES, PairScore, kind_order
from espnet_av.report.plots import Panel, figure, to_svg
from espnet_av.report.separation_results import LIPS_TITLES, lips_order, ordered, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LIPS_COLORS = {"own": "#0072B2", "audio": "#D55E00", "none": "#E69F00", "other": "#CC79A7", "swapped": "#009E73"}
KIND_COLORS = {"same_speaker": "#D55E00", "same_gender": "#009E73", "other": "#0072B2", "": "#4a5568"}
KIND_MARKERS = {"same_speaker": "s", "same_gender": "^", "other": "o", "": "o"}
MAX_BAR_SETS = 4
WINDOW, HOP = 512, 128  # samples of the pictures' Fourier transform, at 16 kHz
RANGE_DB = 60.0  # of a spectrogram, below the loudest point of the mixture
GAIN_RANGE_DB = 30.0  # of a mask, below 0 dB


def training_panels(history: Sequence[Mapping[str, Any]]) -> tuple[Panel, ...]:
    """Return the panels of the training figure: loss, improvement and, where there are several, terms of the loss."""
    found = {name for item in history for part in ("train", "valid") for name in item.get(part) or ()}
    terms = tuple(sorted(name for name in found if name.startswith("loss_")))
    panels = (("Loss", "value", ("loss",)), ("Improvement in validation", "dB", ("si_snri",)))
    return (*panels, ("Terms of the loss", "value", terms)) if len(terms) > 1 else panels


def kind_bars(rows: Sequence[Mapping[str, Any]]) -> bytes | None:
    """Draw SI-SNRi with intervals per kind of pair, a panel per set, a colour per kind of lips; None without kinds."""
    usable = [row for row in ordered(rows) if row.get("kinds")]
    sets = list(dict.fromkeys(row["set"] for row in usable))
    if not 0 < len(sets) <= MAX_BAR_SETS:
        return None
    kinds = sorted({kind for row in usable for kind in row["kinds"]}, key=kind_order)
    names = sorted({row["lips"] for row in usable}, key=lips_order)
    width = 0.8 / len(names)
    size = max(3.6, 0.9 + 0.4 * len(kinds) * len(names))
    with figure(ncols=len(sets), figsize=(size * len(sets), 3.2), sharey=True) as (drawn, axes):
        for axis, set_name in zip(axes.flat, sets, strict=True):
            for row in (row for row in usable if row["set"] == set_name):
                shift = (names.index(row["lips"]) - (len(names) - 1) / 2) * width
                _draw_bars(axis, row, [(kinds.index(kind) + shift, kind) for kind in row["kinds"]], 0.92 * width)
            axis.axhline(0, color="#4a5568", linewidth=0.8)
            axis.set_xticks(range(len(kinds)), [KIND_TITLES.get(kind, kind) for kind in kinds])
            axis.set(title=set_name, ylabel="SI-SNRi (dB)")
            axis.margins(y=0.15)
        handles, labels = axes.flat[0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)))
        return to_svg(drawn)


def _draw_bars(axis: "Axes", row: Mapping[str, Any], places: Sequence[tuple[float, str]], width: float) -> None:
    known = [(place, part) for place, kind in places if (part := row["kinds"][kind]).get("si_snri") is not None]
    heights = np.array([part["si_snri"] for _, part in known])
    lows = np.array(
        [
            height if part.get("ci_low") is None else part["ci_low"]
            for (_, part), height in zip(known, heights, strict=True)
        ]
    )
    highs = np.array(
        [
            height if part.get("ci_high") is None else part["ci_high"]
            for (_, part), height in zip(known, heights, strict=True)
        ]
    )
    x = [place for place, _ in known]
    axis.bar(x, heights, width, color=_color(row["lips"]), label=LIPS_TITLES.get(row["lips"], row["lips"]))
    errors = np.maximum(0, [heights - lows, highs - heights])
    axis.errorbar(x, heights, yerr=errors, fmt="none", ecolor="#2d3748", elinewidth=1, capsize=2)
    for place, height, error in zip(x, heights, errors.T, strict=True):
        edge, offset = (height + error[1], 4) if height >= 0 else (height - error[0], -10)
        axis.annotate(
            f"{shown(height, 1)}", (place, edge), (0, offset), textcoords="offset points", ha="center", fontsize=8
        )


def input_output(scores: Sequence[PairScore], title: str) -> bytes | None:
    """Draw SI-SNR of each separated voice over that of the mixture, a colour per kind of pair; None without scores."""
    usable = [item for item in scores if {"si_snr", "si_snri"} <= set(item.values)]
    if not usable:
        return None
    with figure(figsize=(4.2, 3.7)) as (drawn, axes):
        axis = axes[0, 0]
        for kind in sorted({item.kind for item in usable}, key=kind_order):
            chosen = [item for item in usable if item.kind == kind]
            after = [item.values["si_snr"] for item in chosen]
            before = [item.values["si_snr"] - item.values["si_snri"] for item in chosen]
            style = {"color": KIND_COLORS.get(kind, "#4a5568"), "marker": KIND_MARKERS.get(kind, "D")}
            axis.scatter(before, after, s=12, alpha=0.6, linewidths=0, label=KIND_TITLES.get(kind, kind), **style)
        low, high = axis.get_xlim()
        axis.plot([low, high], [low, high], color="#718096", linewidth=1, linestyle="--", label="no improvement")
        axis.set(title=title, xlabel="SI-SNR of the mixture (dB)", ylabel="SI-SNR of the voice (dB)", xlim=(low, high))
        drawn.legend(loc="outside lower center", ncols=2)
        return to_svg(drawn)


def separation_picture(
    mix: np.ndarray,
    references: Sequence[np.ndarray],
    estimates: Sequence[np.ndarray],
    sample_rate: int,
    swapped: np.ndarray | None = None,
) -> bytes:
    """Draw a mixture and, a row per voice, its true and its separated spectrogram and the gain of both as masks.

    Args:
        mix: ``(N,)``.
        references: Per voice ``(N,)``.
        estimates: Per voice ``(N,)``.
        sample_rate: Hz.
        swapped: Estimate of the first voice with the lips of the second ``(N,)``, drawn under the mixture.

    Returns:
        PNG. All spectrograms have one scale; a mask is the level of the voice against the mixture at each point.
    """
    mixture = _spectrum(mix, sample_rate)
    top = _decibel(mixture).max()
    count = len(references)
    with figure(nrows=count, ncols=5, figsize=(13.2, 2.15 * count), sharex=True, sharey=True) as (drawn, axes):
        extent = (0, len(mix) / sample_rate, 0, sample_rate / 2000)
        layout = {"origin": "lower", "aspect": "auto", "extent": extent}
        level = {**layout, "vmin": top - RANGE_DB, "vmax": top, "cmap": "magma"}
        mask = {**layout, "vmin": -GAIN_RANGE_DB, "vmax": 0, "cmap": "viridis"}
        first = axes[0, 0].imshow(_decibel(mixture), **level)
        axes[0, 0].set_title("mixture")
        for axis in axes[1:, 0]:
            axis.set_visible(False)
        if swapped is not None and count > 1:
            axes[1, 0].set_visible(True)
            axes[1, 0].imshow(_decibel(_spectrum(swapped, sample_rate)), **level)
            axes[1, 0].set_title("asked for 1, lips of 2")
        for row, (reference, estimate) in enumerate(zip(references, estimates, strict=True)):
            spectra = [_spectrum(reference, sample_rate), _spectrum(estimate, sample_rate)]
            for column, (spectrum, title) in enumerate(zip(spectra, ("true", "separated"), strict=True), 1):
                axes[row, column].imshow(_decibel(spectrum), **level)
                axes[row, column].set_title(f"voice {row + 1}, {title}")
            for column, (spectrum, title) in enumerate(zip(spectra, ("ideal", "applied"), strict=True), 3):
                last = axes[row, column].imshow(gain_db(spectrum, mixture, top), **mask)
                axes[row, column].set_title(f"mask {row + 1}, {title}")
        for axis in axes.flat:
            axis.grid(visible=False)
        for axis in (*axes[-1, 1:], axes[-1 if swapped is not None else 0, 0]):
            axis.set_xlabel("time (s)")
            axis.tick_params(labelbottom=True)
        for row, axis in enumerate(axes[:, 0]):
            (axis if axis.get_visible() else axes[row, 1]).set_ylabel("frequency (kHz)")
        drawn.colorbar(first, ax=axes[:, 2], label="level (dB)", pad=0.02, aspect=18 * count)
        drawn.colorbar(last, ax=axes[:, 4], label="gain (dB)", pad=0.02, aspect=18 * count)
        buffer = io.BytesIO()
        drawn.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
        return buffer.getvalue()


def gain_db(voice: np.ndarray, mixture: np.ndarray, top_db: float) -> np.ndarray:
    """Return the mask that leads from the mixture to a voice, as gain in dB.

    Args:
        voice: Magnitudes ``(F, T)``.
        mixture: Magnitudes ``(F, T)``.
        top_db: Level of the loudest point of the mixture; points :data:`RANGE_DB` below it get the lowest gain, for
            there is nothing to mask.

    Returns:
        ``(F, T)`` dB, between ``-GAIN_RANGE_DB`` and 0.
    """
    gain = np.clip(_decibel(voice) - _decibel(mixture), -GAIN_RANGE_DB, 0.0)
    return np.where(_decibel(mixture) < top_db - RANGE_DB, -GAIN_RANGE_DB, gain)


def _spectrum(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    from scipy.signal import stft

    wave = np.pad(np.asarray(wave, np.float64), (0, max(0, WINDOW - len(wave))))
    return np.abs(stft(wave, sample_rate, "hann", WINDOW, WINDOW - HOP)[2])


def _decibel(magnitude: np.ndarray) -> np.ndarray:
    return 20 * np.log10(magnitude + 1e-7)


def _color(lips: str) -> str:
    return LIPS_COLORS.get(lips, "#4a5568")
