# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Figures of a speech codec: quality over bit rate, use of the codebooks, spectrograms, training curves."""

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from espnet_av.report.codec_results import (
    CODEC,
    INPUT,
    OPUS,
    SYSTEM_TITLES,
    is_number,
    ordered,
    shown_metrics,
    title_of,
)
from espnet_av.report.plots import Panel, figure, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = {CODEC: "#0072B2", OPUS: "#D55E00", INPUT: "#4a5568"}
MARKERS = {CODEC: "o", OPUS: "s"}
OTHER_STYLES = (("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"))
CURVE_METRICS = ("pesq_wb", "estoi", "visqol", "dnsmos_ovrl")
MAX_CURVE_SETS = 3
MAX_USAGE_SETS = 4
WINDOW_SEC, HOP_SEC = 0.032, 0.008
RANGE_DB = 75.0  # of a spectrogram, below the loudest point of the first signal
PANELS: tuple[Panel, ...] = (
    ("Generator, all terms", "weighted", ("loss",)),
    ("Mel loss", "weighted loss", ("mel_loss",)),
    ("Against the discriminator", "weighted loss", ("adv_loss", "feat_match_loss")),
    ("Commitment", "weighted", ("codec_commit_loss",)),
    ("Discriminator", "loss", ("discriminator_loss", "real_loss", "fake_loss")),
)


def training_panels(history: Sequence[Mapping[str, Any]]) -> tuple[Panel, ...]:
    """Return the panels of the training figure; the mel loss of each bit rate where validation has several."""
    found = {name for item in history for part in ("train", "valid") for name in item.get(part) or ()}
    rates = sorted((name for name in found if name.startswith("mel_loss_") and name.endswith("kbps")), key=_rate_of)
    return tuple((title, unit, (*names, *rates) if names == ("mel_loss",) else names) for title, unit, names in PANELS)


def rate_curves(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str] | None = None) -> bytes | None:
    """Draw metrics over bit rate, a line of panels per test set, a curve per system; None without bit rates.

    ``metrics`` None takes those that tell most, else the first that are there. Bars are confidence intervals. A dashed
    line is the input as it was, without coding.
    """
    rated = [row for row in rows if is_number(_kbps(row))]
    sets = list(dict.fromkeys(row["set"] for row in ordered(rated)))[:MAX_CURVE_SETS]
    names = [name for name in metrics or CURVE_METRICS if any(is_number(row.get(name)) for row in rated)]
    if metrics is None and not names:
        names = shown_metrics(rated)[: len(CURVE_METRICS)]
    if not sets or not names:
        return None
    layout = {"nrows": len(sets), "ncols": len(names), "figsize": (3.1 * len(names), 2.7 * len(sets) + 0.3)}
    with figure(**layout, sharex=True, sharey="col") as (drawn, axes):
        ticks = sorted({round(_kbps(row), 1) for row in rated})
        for line, set_name in zip(axes, sets, strict=True):
            here = [row for row in ordered(rows) if row["set"] == set_name]
            for axis, metric in zip(line, names, strict=True):
                _draw_curves(axis, here, metric)
                axis.set_title(f"{title_of(metric)}, {set_name}" if len(sets) > 1 else title_of(metric))
                axis.set_xscale("log")
                axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
                axis.minorticks_off()
        for axis in axes[-1]:
            axis.set_xlabel("kbit/s")
        handles: dict[str, Any] = {}
        for axis in axes.flat:
            handles |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
        drawn.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(5, len(handles)))
        return to_svg(drawn)


def _draw_curves(axis: "Axes", rows: Sequence[Mapping[str, Any]], metric: str) -> None:
    systems = [name for name in dict.fromkeys(row["system"] for row in rows) if name != INPUT]
    others = [name for name in systems if name not in COLORS]
    for system in systems:
        points = [row for row in rows if row["system"] == system and is_number(row.get(metric))]
        points = sorted((row for row in points if is_number(_kbps(row))), key=_kbps)
        if not points:
            continue
        color, marker = COLORS.get(system), MARKERS.get(system)
        if system in others:
            color, marker = OTHER_STYLES[others.index(system) % len(OTHER_STYLES)]
        values = [row[metric] for row in points]
        errors = np.array([_errors(row, metric) for row in points]).T
        title = SYSTEM_TITLES.get(system, system)
        axis.errorbar([_kbps(row) for row in points], values, yerr=errors, color=color, marker=marker, label=title)
    for row in rows:
        if row["system"] == INPUT and is_number(row.get(metric)):
            axis.axhline(row[metric], color=COLORS[INPUT], linestyle="--", linewidth=1, label=SYSTEM_TITLES[INPUT])


def usage_bars(rows: Sequence[Mapping[str, Any]]) -> bytes | None:
    """Draw entries used and perplexity of each layer of the quantiser, a panel per test set; None without codes."""
    best: dict[str, Mapping[str, Any]] = {}
    for row in ordered(rows):
        if row.get("codebooks") and len(row["codebooks"]) >= len((best.get(row["set"]) or {}).get("codebooks") or ()):
            best[row["set"]] = row
    shown = dict(list(best.items())[:MAX_USAGE_SETS])
    if not shown:
        return None
    layers = max(len(row["codebooks"]) for row in shown.values())
    width = max(2.6, 1.2 + 0.5 * layers)
    with figure(ncols=len(shown), figsize=(max(4.4, width * len(shown)), 2.9), sharey=True) as (drawn, axes):
        for axis, (name, row) in zip(axes.flat, shown.items(), strict=True):
            places = [item["layer"] for item in row["codebooks"]]
            axis.bar(places, [item["used"] for item in row["codebooks"]], 0.8, color="#a8cfe6", label="entries used")
            heights = [item["perplexity"] for item in row["codebooks"]]
            axis.bar(places, heights, 0.5, color=COLORS[CODEC], label="perplexity")
            for place, height in zip(places, heights, strict=True):
                axis.annotate(
                    f"{height:.0f}", (place, height), (0, 3), textcoords="offset points", ha="center", fontsize=8
                )
            size = row["codebooks"][0]["size"]
            axis.axhline(size, color="#4a5568", linestyle="--", linewidth=1, label=f"entries in all ({size})")
            axis.set_xticks(places)
            axis.set(title=name, xlabel="layer of the quantiser")
            axis.margins(y=0.12)
        axes.flat[0].set_ylabel("codebook entries")
        handles, labels = axes.flat[0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower center", ncols=3)
        return to_svg(drawn)


def spectrogram_picture(signals: Mapping[str, np.ndarray], sample_rate: int) -> bytes:
    """Draw spectrograms side by side on one scale of level, time and frequency.

    Args:
        signals: Title -> ``(N,)``; the level of the first is the top of the scale.
        sample_rate: Hz.

    Returns:
        PNG.
    """
    spectra = {title: _spectrum_db(wave, sample_rate) for title, wave in signals.items()}
    top = next(iter(spectra.values())).max()
    longest = max(len(wave) for wave in signals.values()) / sample_rate
    columns = min(4 if len(spectra) == 4 else 3, len(spectra))
    rows = math.ceil(len(spectra) / columns)
    layout = {"nrows": rows, "ncols": columns, "figsize": (0.6 + 11.4 / max(3, columns) * columns, 2.5 * rows)}
    with figure(**layout, sharex=True, sharey=True) as (drawn, axes):
        images = []
        for axis, (title, spectrum) in zip(axes.flat, spectra.items(), strict=False):
            extent = (0, len(signals[title]) / sample_rate, 0, sample_rate / 2000)
            style = {"origin": "lower", "aspect": "auto", "cmap": "magma", "vmin": top - RANGE_DB, "vmax": top}
            images.append(axis.imshow(spectrum, extent=extent, **style))
            axis.set(title=textwrap.fill(title, 108 // columns - 4), xlim=(0, longest))
            axis.grid(visible=False)
        for number, axis in enumerate(axes.flat):
            axis.set_visible(number < len(spectra))
            if number + columns >= len(spectra):
                axis.set_xlabel("time (s)")
                axis.tick_params(labelbottom=True)
            if number % columns == 0:
                axis.set_ylabel("frequency (kHz)")
        drawn.colorbar(images[-1], ax=list(axes.flat), label="level (dB)", pad=0.01, aspect=12 * rows)
        buffer = io.BytesIO()
        drawn.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
        return buffer.getvalue()


def _spectrum_db(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    from scipy.signal import stft

    window, hop = round(WINDOW_SEC * sample_rate), round(HOP_SEC * sample_rate)
    wave = np.pad(np.asarray(wave, np.float64), (0, max(0, window - len(wave))))
    return 20 * np.log10(np.abs(stft(wave, sample_rate, "hann", window, window - hop)[2]) + 1e-7)


def _errors(row: Mapping[str, Any], metric: str) -> tuple[float, float]:
    bounds = (row.get("ci") or {}).get(metric)
    if not bounds or not all(map(is_number, bounds)):
        return 0.0, 0.0
    return max(0.0, row[metric] - bounds[0]), max(0.0, bounds[1] - row[metric])


def _kbps(row: Mapping[str, Any]) -> Any:
    measured = row.get("measured_kbps")
    return row.get("bitrate_kbps") if measured is None else measured


def _rate_of(name: str) -> float:
    text = name.removeprefix("mel_loss_").removesuffix("kbps")
    try:
        return float(text)
    except ValueError:
        return math.inf
