# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Figures of active separation: returns, curves of training, refinement over the seconds, maps with trajectories."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from espnet_av.report.activesep_results import is_number, sets_of, title_of
from espnet_av.report.plots import figure, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REWARD, L2 = "Environment/Reward", "Environment/STFT_L2_loss/"
KIND_COLORS = {"policy": "#0072B2", "mover": "#E69F00"}
PATH_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
SECONDS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("alone", "separators alone", "#718096", {"linestyle": "--"}),
    ("at_once", "memory, when the second is new", "#E69F00", {"linewidth": 5.0, "alpha": 0.6}),  # seen below the next
    ("refined", "memory, refined afterwards", "#0072B2", {}),
)
ACTIONS = ("forward", "left", "right")
PASSIVE_PANELS = (
    ("Mono estimate, L1", "magnitude", ("mono_loss", "unheard_mono_loss")),
    ("Target at the ears, L1", "magnitude", ("bin_loss", "unheard_bin_loss")),
)


def return_bars(rows: Sequence[Mapping[str, Any]]) -> bytes | None:
    """Draw the return of all policies and movers with 95 % intervals, a panel per test set; None without returns."""
    usable = [row for row in rows if is_number((row.get("return") or {}).get("mean"))]
    sets = sets_of(usable)
    if not sets:
        return None
    systems = list(dict.fromkeys(row["system"] for row in usable))
    height = 0.9 + 0.32 * len(systems)
    with figure(ncols=len(sets), figsize=(1.6 + 3.9 * len(sets), height), sharey=True, sharex=True) as (drawn, axes):
        for axis, name in zip(axes.flat, sets, strict=True):
            here = {row["system"]: row for row in usable if row["set"] == name}
            for place, system in enumerate(systems):
                if system not in here:
                    continue
                facts = here[system]["return"]
                half = facts["ci95"] if is_number(facts.get("ci95")) else 0.0
                color = KIND_COLORS.get(str(here[system].get("kind")), "#4a5568")
                axis.errorbar(facts["mean"], place, xerr=half, color=color, marker="o", capsize=3, linestyle="")
            axis.set(title=name, xlabel="return of an episode")
            axis.set_yticks(range(len(systems)), [title_of(system) for system in systems])
            axis.margins(y=0.08)
        axes.flat[0].invert_yaxis()
        return to_svg(drawn)


def seconds_curves(rows: Sequence[Mapping[str, Any]], system: str) -> bytes | None:
    """Draw the STFT distance of each second of an episode, alone, when it is new and refined; None without figures."""
    usable = [row for row in rows if row["system"] == system and row.get("seconds")]
    if not usable:
        return None
    with figure(ncols=len(usable), figsize=(1.0 + 4.2 * len(usable), 3.3), sharey=True) as (drawn, axes):
        for axis, row in zip(axes.flat, usable, strict=True):
            for key, label, color, style in SECONDS:
                values = [value if is_number(value) else np.nan for value in row["seconds"].get(key) or ()]
                if values:
                    axis.plot(range(1, len(values) + 1), values, color=color, marker=".", label=label, **style)
            axis.set(title=row["set"], xlabel="second of the episode")
        axes.flat[0].set_ylabel("STFT distance")
        handles, labels = axes.flat[0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower center", ncols=1 if len(usable) == 1 else 3)
        return to_svg(drawn)


def policy_curves(histories: Mapping[str, Sequence[Mapping[str, Any]]], main: str) -> bytes | None:
    """Draw what policy trainings noted over environment steps; None without notes.

    Args:
        histories: ``<reward>_seed<k>`` -> lines of ``history.jsonl``.
        main: The reward whose curve of rewards is drawn; those of others have other units.
    """
    histories = {name: rows for name, rows in histories.items() if rows}
    if not histories:
        return None
    rewards = list(dict.fromkeys(name.rpartition("_seed")[0] for name in histories))
    colors = dict(zip(rewards, [*PATH_COLORS, *["#4a5568"] * len(rewards)], strict=False))
    with figure(nrows=2, ncols=2, figsize=(9.0, 5.2), sharex=True) as (drawn, axes):
        for name, rows in histories.items():
            reward = name.rpartition("_seed")[0]
            style = {"color": colors[reward], "label": title_of(reward)}
            if reward == main:
                _line(axes[0, 0], rows, REWARD, **style)
                for number, action in enumerate(ACTIONS):
                    _line(axes[1, 0], rows, f"Policy/Action_prob_{number}", color=PATH_COLORS[number], label=action)
            _line(axes[0, 1], rows, f"{L2}monoFromMem_avgAllSteps", **style)
            _line(axes[1, 1], rows, "entropy", **style)
        first = next(iter(histories.values()))
        _line(axes[0, 1], first, f"{L2}mono_avgAllSteps", color="#718096", label="separators alone", linestyle="--")
        for axis, title in zip(
            axes.flat, ("Reward of an episode", "STFT distance, mean of seconds", "Actions", "Entropy"), strict=True
        ):
            axis.set_title(title)
            handles, labels = axis.get_legend_handles_labels()
            found = dict(zip(labels, handles, strict=True))
            if len(found) > 1:
                axis.legend(found.values(), found.keys(), fontsize=7)
        for axis in axes[1]:
            axis.set_xlabel("environment steps")
        return to_svg(drawn)


def _line(axis: "Axes", rows: Sequence[Mapping[str, Any]], key: str, **style: Any) -> None:
    points = [
        (row["env_steps"], row[key]) for row in rows if is_number(row.get(key)) and is_number(row.get("env_steps"))
    ]
    if points:
        axis.plot(*zip(*points, strict=True), marker="." if len(points) < 25 else None, **style)


def trajectory_map(
    positions: Mapping[int, Sequence[float] | np.ndarray],
    paths: Mapping[str, Sequence[int]],
    sources: Sequence[int],
    background: tuple[np.ndarray, tuple[float, float, float, float]] | None = None,
) -> bytes:
    """Draw a scene from above with the ways of one episode.

    Args:
        positions: Node -> habitat position (x, y, z), metres.
        paths: Who walks -> nodes, second by second.
        sources: Node of the target, then those of the others.
        background: A picture uint8 (H, W, 3) and its left, right, bottom and top in metres.

    Returns:
        PNG.
    """
    places = {node: (position[0], -position[2]) for node, position in positions.items()}
    points = np.array(list(places.values())).reshape(-1, 2)
    width, depth = np.ptp(points, axis=0) + 1.6 if len(points) else (2.0, 2.0)
    scale = 4.6 / max(width, depth)
    with figure(figsize=(width * scale + 1.9, depth * scale + 0.5)) as (drawn, axes):
        axis = axes[0, 0]
        if background is not None:
            axis.imshow(background[0], extent=background[1], alpha=0.55)
        axis.plot(points[:, 0], points[:, 1], ".", color="#a0aec0", markersize=3)
        for number, (name, nodes) in enumerate(paths.items()):
            shift = 0.07 * (number - (len(paths) - 1) / 2)
            walked = np.array([places[node] for node in nodes if node in places]).reshape(-1, 2) + shift
            color = PATH_COLORS[number % len(PATH_COLORS)]
            axis.plot(walked[:, 0], walked[:, 1], "-", color=color, linewidth=1.6, label=name)
            if len(walked):
                axis.plot(*walked[0], "o", color=color, markersize=6, markerfacecolor="white")
                axis.plot(*walked[-1], "s", color=color, markersize=5)
        for number, node in enumerate(node for node in sources if node in places):
            mark = {"marker": "X", "color": "black"} if number else {"marker": "*", "color": "#d62728"}
            size, label = (7, "distractor") if number else (13, "target")
            axis.plot(*places[node], linestyle="", markersize=size, label=label, zorder=5, **mark)
        axis.set_aspect("equal")
        axis.set(xlabel="metres", xlim=_span(points[:, 0]), ylim=_span(points[:, 1]))
        axis.grid(visible=False)
        handles, labels = axis.get_legend_handles_labels()
        found = dict(zip(labels, handles, strict=True))
        drawn.legend(found.values(), found.keys(), loc="outside right upper", fontsize=7)
        buffer = io.BytesIO()
        drawn.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
        return buffer.getvalue()


def _span(values: np.ndarray) -> tuple[float, float]:
    return (float(values.min()) - 0.8, float(values.max()) + 0.8) if len(values) else (-1.0, 1.0)
