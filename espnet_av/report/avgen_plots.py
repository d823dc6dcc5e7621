# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Figures of generation: quality over solver steps, mouth against voice, correlation over delays, training curves."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from espnet_av.report.avgen_results import METRICS, REAL, RESYNTHESIS, SYSTEM_TITLES, is_number, ordered, system_title
from espnet_av.report.plots import Panel, figure, to_svg

STEP_METRICS = ("closure_f1", "lip_sync_r", "wer", "fd_face")
BAR_METRICS = ("closure_f1", "lip_sync_r", "opening_r", "wer")
STEPS_IN_NAME = re.compile(r"^(?P<base>.+?)[_-]?(?:steps?|nfe)[_-]?(?P<steps>\d+)$")
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
REAL_COLOR, BOUND_COLOR = "#4a5568", "#a0aec0"
MAX_BARS = 12
MOTION_FPS = 30.0
PANELS: tuple[Panel, ...] = (
    ("All terms", "weighted loss", ("loss",)),
    ("Face", "loss", ("loss_face",)),
    ("Head", "loss", ("loss_head",)),
    ("Sound", "loss", ("loss_mel",)),
    ("By time of the flow, validation", "loss", tuple(f"loss_t{number}" for number in range(1, 6))),
)


def base_and_steps(row: Mapping[str, Any]) -> tuple[str, int] | None:
    """Return the system of a row without its number of steps, and that number; None where it is not known."""
    found = STEPS_IN_NAME.match(row["system"])
    steps = row.get("steps")
    if found:
        return found["base"], int(steps if is_number(steps) else found["steps"])
    return (row["system"], int(steps)) if is_number(steps) else None


def step_curves(rows: Sequence[Mapping[str, Any]]) -> bytes | None:
    """Draw metrics over the solver's steps, a curve for each system of the first set; None with fewer than two points.

    A dashed line is what real recordings reach.
    """
    scored = [row for row in ordered(rows) if row["system"] not in SYSTEM_TITLES]
    here = [row for row in scored if row["set"] == scored[0]["set"]]
    groups: dict[str, dict[int, Mapping[str, Any]]] = {}
    for row in here:
        if (found := base_and_steps(row)) is not None:
            groups.setdefault(found[0], {})[found[1]] = row
    groups = {name: points for name, points in groups.items() if len(points) > 1}
    names = [name for name in STEP_METRICS if any(is_number(row.get(name)) for row in here)]
    if not groups or not names:
        return None
    real = next((row for row in rows if row["system"] == REAL and row["set"] == here[0]["set"]), {})
    with figure(ncols=len(names), figsize=(3.1 * len(names), 2.9)) as (drawn, axes):
        ticks = sorted({steps for points in groups.values() for steps in points})
        for axis, name in zip(axes[0], names, strict=True):
            factor = METRICS[name].factor
            for color, (system, points) in zip(COLORS, groups.items(), strict=False):
                usable = [(steps, row) for steps, row in sorted(points.items()) if is_number(row.get(name))]
                values = [factor * row[name] for _, row in usable]
                errors = np.array([_errors(row, name) for _, row in usable]).T.reshape(2, -1) * factor
                places = [steps for steps, _ in usable]
                axis.errorbar(places, values, yerr=errors, color=color, marker="o", label=system_title(system))
            if is_number(real.get(name)):
                axis.axhline(
                    factor * real[name], color=REAL_COLOR, linestyle="--", linewidth=1, label="real recordings"
                )
            axis.set(title=METRICS[name].title, xlabel="steps", xscale="log")
            axis.set_xticks(ticks, [str(tick) for tick in ticks])
            axis.minorticks_off()
        axes[0, 0].legend(loc="best", fontsize="small")
        return to_svg(drawn)


def system_bars(rows: Sequence[Mapping[str, Any]]) -> bytes | None:
    """Draw the main metrics of all systems of the first set with their confidence intervals; None without any."""
    names = [name for name in BAR_METRICS if any(is_number(row.get(name)) for row in rows)]
    rows = ordered(rows)
    here = [row for row in rows if row["set"] == rows[0]["set"] and any(is_number(row.get(name)) for name in names)]
    if not names or not 1 < len(here) <= MAX_BARS:
        return None
    special = {REAL: REAL_COLOR, RESYNTHESIS: BOUND_COLOR}
    places = np.arange(len(here))[::-1]
    layout = {"ncols": len(names), "figsize": (2.3 * len(names) + 1.6, 0.34 * len(here) + 1.1), "sharey": True}
    with figure(**layout) as (drawn, axes):
        for axis, name in zip(axes[0], names, strict=True):
            factor = METRICS[name].factor
            values = np.array([factor * row[name] if is_number(row.get(name)) else 0.0 for row in here])
            errors = np.array([_errors(row, name) for row in here]).T * factor
            colors = [special.get(row["system"], COLORS[number % len(COLORS)]) for number, row in enumerate(here)]
            axis.barh(places, values, xerr=errors, color=colors, height=0.7, error_kw={"linewidth": 1})
            axis.set_title(METRICS[name].title)
            axis.grid(visible=False, axis="y")
        axes[0, 0].set_yticks(places, [system_title(row["system"]) for row in here])
        return to_svg(drawn)


def mouth_curves(curves: Mapping[str, Sequence[float]], fps: float = MOTION_FPS) -> bytes | None:
    """Draw the opening of a mouth over time, generated and real, above the loudness of the generated voice.

    Args:
        curves: ``envelope``, ``opening`` and perhaps ``real_opening``, one value per frame.
        fps: Frames per second.

    Returns:
        SVG, or None without curves.
    """
    if not curves.get("opening") or not curves.get("envelope"):
        return None
    with figure(figsize=(7.4, 2.1)) as (drawn, axes):
        axis = axes[0, 0]
        envelope = np.asarray(curves["envelope"], dtype=float)
        opening = np.asarray(curves["opening"], dtype=float)
        top = max(1.0, float(opening.max()))
        times = (np.arange(len(envelope)) + 0.5) / fps
        scaled = envelope / max(float(envelope.max()), 1e-9) * top
        axis.fill_between(times, 0, scaled, color="#cbd5e0", linewidth=0, label="loudness of the voice")
        if curves.get("real_opening"):
            real = np.asarray(curves["real_opening"], dtype=float)
            axis.plot((np.arange(len(real)) + 0.5) / fps, real, color=REAL_COLOR, linewidth=1, label="real mouth")
        axis.plot(times, opening, color=COLORS[0], linewidth=1.4, label="generated mouth")
        axis.set(xlabel="seconds", ylabel="opening", xlim=(0, times[-1]))
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.24), ncols=3, fontsize="small", frameon=False)
        return to_svg(drawn)


def _errors(row: Mapping[str, Any], name: str) -> tuple[float, float]:
    low, high = (row.get("ci") or {}).get(name) or (None, None)
    value = row.get(name)
    if not (is_number(low) and is_number(high) and is_number(value)):
        return 0.0, 0.0
    return max(0.0, value - low), max(0.0, high - value)
