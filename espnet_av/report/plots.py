# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Figures of the report, drawn without a display and returned as SVG or PNG bytes. All look like ``style.mplstyle``."""

import contextlib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from espnet_av.report.published import PublishedSystem
from espnet_av.report.results import MODALITY_TITLES
from espnet_av.utils.experiment import NoiseCondition, modality_order, noise_condition, set_order
from espnet_av.utils.optional import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE = Path(__file__).with_name("style.mplstyle")
COLORS = {"av": "#0072B2", "audio": "#D55E00", "video": "#009E73"}
MARKERS = {"av": "o", "audio": "s", "video": "^"}
MAX_CURVES_PER_PANEL = 6
MAX_BAR_SETS = 12
OTHERS_COLOR = "#718096"
OTHERS_STYLES = ((":", "v"), ("--", "D"), ("-.", "P"), ((0, (1, 1)), "X"))  # lines and marks of published systems
Panel = tuple[str, str, tuple[str, ...]]  # of the training figure: title, unit of the y axis, names of the statistics
TRAINING_PANELS: tuple[Panel, ...] = (
    ("Loss", "loss (nats)", ("loss",)),
    ("Loss terms", "loss (nats)", ("loss_ctc", "loss_att")),
    ("Accuracy", "share of tokens", ("acc",)),
    ("Error rate", "rate", ("wer_ctc", "wer", "cer_ctc", "cer")),
)


@contextlib.contextmanager
def figure(**layout: Any) -> Iterator[tuple["Figure", Any]]:
    """Give a figure and its axes in the project's style; both are closed when the block ends."""
    require("matplotlib", "report").use("Agg")
    from matplotlib import pyplot

    with pyplot.style.context(STYLE):
        drawn, axes = pyplot.subplots(squeeze=False, **layout)
        try:
            yield drawn, axes
        finally:
            pyplot.close(drawn)


def to_svg(drawn: "Figure") -> bytes:
    """Return a figure as SVG; equal figures give equal bytes."""
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def training_curves(history: Sequence[Mapping[str, Any]], panels: Sequence[Panel] = TRAINING_PANELS) -> bytes | None:
    """Draw training and validation statistics over epochs.

    Args:
        history: Lines of ``history.jsonl``: epoch, train and valid statistics, learning rate.
        panels: What to draw, as far as the history has it.

    Returns:
        SVG, or None without epochs.
    """
    panels = [panel for panel in panels if _series(history, panel[2])]
    rates = [(item["epoch"], _learning_rate(item)) for item in history if _learning_rate(item) is not None]
    count = len(panels) + bool(rates)
    if count == 0:
        return None
    columns = min(3, count)
    rows = math.ceil(count / columns)
    with figure(nrows=rows, ncols=columns, figsize=(3.6 * columns, 2.6 * rows)) as (drawn, axes):
        cells = list(axes.flat)
        for axis, (title, unit, names) in zip(cells, panels, strict=False):
            _draw_series(axis, _series(history, names), title, unit)
        if rates:
            axis = cells[len(panels)]
            axis.plot(*zip(*rates, strict=True), color="#4a5568", marker=_marker(rates))
            axis.set(title="Learning rate", xlabel="epoch", ylabel="step size")
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        for axis in cells[count:]:
            axis.set_visible(False)
        return to_svg(drawn)


def compared_curves(
    histories: Mapping[str, Sequence[Mapping[str, Any]]], wanted: Sequence[tuple[str, str]]
) -> bytes | None:
    """Draw statistics of several trainings over epochs, one panel each.

    Args:
        histories: Name of an experiment -> lines of its ``history.jsonl``.
        wanted: Phase and name of the statistics, e.g. ``("valid", "loss")``.

    Returns:
        SVG, or None where no training has one of them.
    """
    panels = []
    for phase, name in wanted:
        lines = {run: _points(history, phase, name) for run, history in histories.items()}
        if any(lines.values()):
            panels.append((f"{name}, {phase}", {run: points for run, points in lines.items() if points}))
    if not panels:
        return None
    with figure(ncols=len(panels), figsize=(4.6 * len(panels), 3.0)) as (drawn, axes):
        for axis, (title, lines) in zip(axes[0], panels, strict=True):
            for number, (run, points) in enumerate(lines.items()):
                style = ("-", "--", "-.", ":")[number % 4]
                axis.plot(*zip(*points, strict=True), linestyle=style, marker=_marker(points), label=run)
            axis.set(title=title, xlabel="epoch", ylabel=title.split(",")[0])
            axis.legend()
        return to_svg(drawn)


def _marker(points: Sequence[Any]) -> str | None:
    """Return what makes the single point of a training of one epoch visible."""
    return "o" if len(points) == 1 else None


def _points(history: Sequence[Mapping[str, Any]], phase: str, name: str) -> list[tuple[int, float]]:
    values = {item["epoch"]: (item.get(phase) or {}).get(name) for item in history if "epoch" in item}
    return [
        (epoch, value)
        for epoch, value in sorted(values.items())
        if isinstance(value, (int, float)) and math.isfinite(value)
    ]


def epoch_times(history: Sequence[Mapping[str, Any]]) -> bytes | None:
    """Draw seconds per epoch, split into computing and waiting for data; None without times."""
    timed = [item for item in history if isinstance(item.get("time_sec"), (int, float))]
    if not timed:
        return None
    epochs = [item["epoch"] for item in timed]
    seconds = np.array([item["time_sec"] for item in timed], dtype=float)
    waiting = seconds * np.array([float(item.get("data_wait_share") or 0.0) for item in timed])
    with figure(figsize=(5.4, 2.6)) as (drawn, axes):
        axis = axes[0, 0]
        axis.bar(epochs, seconds - waiting, color="#56B4E9", label="computing")
        axis.bar(epochs, waiting, bottom=seconds - waiting, color="#E69F00", label="waiting for data")
        axis.set(title="Time per epoch", xlabel="epoch", ylabel="seconds")
        axis.legend(loc="lower right", frameon=True, framealpha=0.85, edgecolor="none")
        return to_svg(drawn)


def wer_over_snr(rows: Sequence[Mapping[str, Any]], published: Sequence[PublishedSystem] = ()) -> bytes | None:
    """Draw WER over the signal-to-noise ratio, one panel per clean set and number of interferers.

    Bars at the points are confidence intervals. The clean set is the last point. A modality that was decoded on the
    clean set alone, as lips are, for noise does not change them, is a level line. None without noisy sets.

    Args:
        rows: Result rows.
        published: Systems of others, thin and gray, as far as they have two points or more in a panel.
    """
    panels: dict[tuple[str, int], list[tuple[NoiseCondition, Mapping[str, Any]]]] = {}
    for row in rows:
        noise = noise_condition(row["set"])
        if noise is not None and row["wer"] is not None:
            panels.setdefault((noise.base, noise.num_interferers), []).append((noise, row))
    if not panels:
        return None
    clean = {(row["set"], row["modality"]): row for row in rows if row["wer"] is not None}
    columns = min(2, len(panels))
    lines = math.ceil(len(panels) / columns)
    layout = {"nrows": lines, "ncols": columns, "figsize": (4.9 * columns, 3.1 * lines), "sharey": True}
    with figure(**layout) as (drawn, axes):
        for axis, ((base, count), points) in zip(axes.flat, sorted(panels.items()), strict=False):
            levels = sorted({noise.snr_db for noise, _ in points})
            _draw_snr_panel(axis, base, count, points, clean)
            _draw_published(axis, base, count, levels, published)
            axis.set_ylim(0, None)
        for axis in list(axes.flat)[len(panels) :]:
            axis.set_visible(False)
        _add_snr_legend(drawn, axes.flat[0], 2 * columns)
        return to_svg(drawn)


def wer_bars(rows: Sequence[Mapping[str, Any]]) -> bytes | None:
    """Draw WER with confidence intervals, one group of bars per set; None without a WER, or with too many sets."""
    usable = [row for row in rows if row["wer"] is not None]
    sets = sorted({row["set"] for row in usable}, key=set_order)
    if not 0 < len(sets) <= MAX_BAR_SETS:
        return None
    names = sorted({row["modality"] for row in usable}, key=modality_order)
    width = 0.8 / len(names)
    with figure(figsize=(max(4.2, 1.1 + 0.55 * len(sets) * len(names)), 3.0)) as (drawn, axes):
        axis = axes[0, 0]
        for offset, name in enumerate(names):
            chosen = [row for row in usable if row["modality"] == name]
            places = [sets.index(row["set"]) + (offset - (len(names) - 1) / 2) * width for row in chosen]
            heights = [100 * row["wer"] for row in chosen]
            axis.bar(places, heights, width * 0.92, color=_color(name), label=MODALITY_TITLES.get(name, name))
            _, errors = _heights_and_errors(chosen)
            axis.errorbar(places, heights, yerr=errors, fmt="none", ecolor="#2d3748", elinewidth=1)
            for place, height, above in zip(places, heights, errors[1], strict=True):
                axis.annotate(f"{height:.1f}", (place, height + above), (0, 4), textcoords="offset points", ha="center")
        axis.set_xticks(range(len(sets)), sets)
        axis.set(title="Word error rate", ylabel="WER (%)")
        axis.margins(y=0.15)
        axis.legend(ncols=len(names), loc="upper center", bbox_to_anchor=(0.5, -0.12))
        return to_svg(drawn)


def duration_histogram(durations_sec: Mapping[str, Sequence[float]]) -> bytes | None:
    """Draw how long the clips of each set are; None without clips."""
    usable = {name: np.asarray(values, dtype=float) for name, values in durations_sec.items() if len(values)}
    if not usable:
        return None
    usable = dict(sorted(usable.items(), key=lambda item: -len(item[1]))[:MAX_CURVES_PER_PANEL])
    longest = max(values.max() for values in usable.values())
    edges = np.linspace(0, longest * 1.02 + 1e-6, 31)
    with figure(figsize=(5.4, 2.6)) as (drawn, axes):
        axis = axes[0, 0]
        for name, values in usable.items():
            share = np.full(len(values), 100 / len(values))
            axis.hist(
                values, bins=edges, weights=share, histtype="step", linewidth=1.6, label=f"{name} ({len(values)})"
            )
        axis.set(title="Length of the clips", xlabel="seconds", ylabel="clips of the set (%)")
        axis.legend()
        return to_svg(drawn)


def spectrogram(log_mel: np.ndarray, duration_sec: float, top_hz: float) -> bytes:
    """Draw a log-mel spectrogram ``(bands, frames)`` in dB as PNG, with seconds and the mel scale in Hz on the axes."""
    with figure(figsize=(4.6, 1.9)) as (drawn, axes):
        axis = axes[0, 0]
        top_db = float(log_mel.max()) if log_mel.size else 0.0
        picture = axis.imshow(
            log_mel,
            origin="lower",
            aspect="auto",
            extent=(0, duration_sec, 0, log_mel.shape[0]),
            vmin=top_db - 70,
            vmax=top_db,
        )
        mel_axis(axis, log_mel.shape[0], top_hz)
        axis.set(xlabel="time (s)", ylabel="frequency (Hz)")
        axis.grid(visible=False)
        drawn.colorbar(picture, ax=axis, label="level (dB)", pad=0.02)
        buffer = io.BytesIO()
        drawn.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
        return buffer.getvalue()


def mel_axis(
    axis: "Axes", num_bands: int, top_hz: float, ticks_hz: Sequence[int] = (250, 1000, 2000, 4000, 8000, 12000)
) -> None:
    """Label the y axis of a spectrogram of ``num_bands`` mel bands up to ``top_hz`` with frequencies in Hz."""
    shown = [hz for hz in ticks_hz if hz <= top_hz]
    axis.set_yticks([hz_to_mel(hz) / hz_to_mel(top_hz) * num_bands for hz in shown], [str(hz) for hz in shown])


def hz_to_mel(hz: float) -> float:
    """Mel scale of O'Shaughnessy (1987), 2595 log10(1 + f/700)."""
    return 2595.0 * math.log10(1.0 + hz / 700.0)


def _series(history: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[tuple[str, str], tuple[list, list]]:
    """Return (statistic, train or valid) -> (epochs, values) of what the history has."""
    found: dict[tuple[str, str], tuple[list, list]] = {}
    for name in names:
        for part in ("train", "valid"):
            points = [
                (item["epoch"], item[part][name])
                for item in history
                if isinstance(item.get(part), Mapping) and _is_number(item[part].get(name))
            ]
            if points:
                epochs, values = zip(*points, strict=True)
                found[name, part] = (list(epochs), list(values))
    return found


def _draw_series(axis: "Axes", series: Mapping[tuple[str, str], tuple[list, list]], title: str, unit: str) -> None:
    colors = dict(zip(dict.fromkeys(name for name, _ in series), COLORS.values(), strict=False))
    for (name, part), (epochs, values) in series.items():
        line, mark = "--" if part == "train" else "-", "." if len(epochs) < 25 else None
        label = part if len(colors) == 1 else f"{name} {part}"
        axis.plot(epochs, values, color=colors.get(name, "#4a5568"), label=label, linestyle=line, marker=mark)
    names = sorted({name for name, _ in series})
    axis.set(title=title, xlabel="epoch", ylabel=f"{unit}, {names[0]}" if len(names) == 1 else unit)
    axis.legend()


def _draw_snr_panel(
    axis: "Axes",
    base: str,
    count: int,
    points: Sequence[tuple[NoiseCondition, Mapping[str, Any]]],
    clean: Mapping[tuple[str, str], Mapping[str, Any]],
) -> None:
    levels = sorted({noise.snr_db for noise, _ in points})
    names = sorted({row["modality"] for _, row in points}, key=modality_order)
    for offset, name in enumerate(names):
        shift = 0.07 * (offset - (len(names) - 1) / 2)  # keeps the intervals apart
        chosen = sorted((item for item in points if item[1]["modality"] == name), key=lambda item: item[0].snr_db)
        places = [levels.index(noise.snr_db) for noise, _ in chosen]
        rows = [row for _, row in chosen]
        if (base, name) in clean:
            places.append(len(levels))
            rows.append(clean[base, name])
        heights, errors = _heights_and_errors(rows)
        axis.errorbar(
            [place + shift for place in places],
            heights,
            yerr=errors,
            color=_color(name),
            marker=MARKERS.get(name, "D"),
            label=MODALITY_TITLES.get(name, name),
        )
    _draw_level_lines(axis, base, len(levels), names, clean)
    labels = [f"{level:g}" for level in levels] + (["clean"] if any(key[0] == base for key in clean) else [])
    axis.set_xticks(range(len(labels)), labels)
    talkers = "1 interfering talker" if count == 1 else f"{count} interfering talkers"
    axis.set(title=f"{base}, {talkers}", xlabel="signal-to-noise ratio (dB)", ylabel="WER (%)")


def _add_snr_legend(drawn: "Figure", axis: "Axes", columns: int) -> None:
    """Inside a panel while it is short, else below the figure, which grows by it; ours before others."""
    if not any(handle.get_color() == OTHERS_COLOR for handle in axis.lines):
        axis.legend()
        return
    handles, names = axis.get_legend_handles_labels()
    ours = list(MODALITY_TITLES.values())
    pairs = sorted(zip(handles, names, strict=True), key=lambda pair: not pair[1].startswith(tuple(ours)))
    drawn.set_figheight(drawn.get_figheight() + 0.2 * math.ceil(len(pairs) / columns))
    drawn.legend(*zip(*pairs, strict=True), loc="outside lower center", ncols=columns)


def _draw_level_lines(
    axis: "Axes",
    base: str,
    last: int,
    names: Sequence[str],
    clean: Mapping[tuple[str, str], Mapping[str, Any]],
) -> None:
    """Draw the modalities that have the clean set alone: the level with its interval, the point at the clean set."""
    alone = sorted((key[1] for key in clean if key[0] == base and key[1] not in names), key=modality_order)
    for name in alone:
        row = clean[base, name]
        heights, errors = _heights_and_errors([row])
        axis.plot([0, last], 2 * heights, color=_color(name), linestyle="--", linewidth=1.2)
        style: dict[str, Any] = {"color": _color(name), "marker": MARKERS.get(name, "D"), "linestyle": "--"}
        title = MODALITY_TITLES.get(name, name)
        axis.errorbar([last + 0.07], heights, yerr=errors, label=f"{title}, whatever the noise", **style)


def _draw_published(
    axis: "Axes", base: str, count: int, levels: Sequence[float], published: Sequence[PublishedSystem]
) -> None:
    usable = []
    for system in published:
        points = {}
        for name, wer in system.wer.items():
            noise = noise_condition(name)
            if noise is not None and (noise.base, noise.num_interferers) == (base, count) and noise.snr_db in levels:
                points[levels.index(noise.snr_db)] = 100 * wer
        if points and base in system.wer:
            points[len(levels)] = 100 * system.wer[base]
        if len(points) > 1:
            usable.append((system.name, sorted(points.items())))
    for (name, curve), (line, mark) in zip(usable, OTHERS_STYLES, strict=False):
        style: dict[str, Any] = {
            "color": OTHERS_COLOR,
            "linewidth": 1,
            "markersize": 4,
            "linestyle": line,
            "marker": mark,
            "zorder": 1.5,
        }
        axis.plot(*zip(*curve, strict=True), label=name, **style)


def _heights_and_errors(rows: Sequence[Mapping[str, Any]]) -> tuple[list[float], np.ndarray]:
    heights = [100 * row["wer"] for row in rows]
    low = [
        max(0.0, h - 100 * r["ci_low"]) if _is_number(r.get("ci_low")) else 0.0
        for h, r in zip(heights, rows, strict=True)
    ]
    high = [
        max(0.0, 100 * r["ci_high"] - h) if _is_number(r.get("ci_high")) else 0.0
        for h, r in zip(heights, rows, strict=True)
    ]
    return heights, np.array([low, high])


def _learning_rate(item: Mapping[str, Any]) -> float | None:
    rate = item.get("lr")
    if isinstance(rate, Mapping):
        rate = next((value for value in rate.values() if _is_number(value)), None)
    if isinstance(rate, (list, tuple)):
        rate = rate[0] if rate else None
    return float(rate) if _is_number(rate) else None


def _color(modality: str) -> str:
    return COLORS.get(modality, "#CC79A7")


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
