# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Follow a velocity field from noise (time 0) to data (time 1).

Euler asks the field once per step, midpoint and Heun twice and are of second order. The ``sway`` grid takes smaller
steps where the path begins: ``t + c (cos(pi t / 2) - 1 + t)`` with ``c = -1``.
"""

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from espnet_av.utils.errors import usage_error

SOLVERS = ("euler", "midpoint", "heun")
GRIDS = ("uniform", "sway")

#: Velocity of ``x`` at a time.
Field = Callable[[Tensor, float], Tensor]
#: Replaces what is known of ``x`` at a time; the last number counts the calls.
Constraint = Callable[[Tensor, float, int], Tensor]


def time_grid(steps: int, grid: str = "uniform", sway: float = -1.0) -> np.ndarray:
    """Return the times between steps, float64 ``(steps + 1,)`` from 0 to 1.

    Args:
        steps: Number of steps.
        grid: ``uniform`` or ``sway``.
        sway: Coefficient of the sway grid, -1 to 2 / (pi - 2); negative: smaller steps near 0.

    Raises:
        UsageError: A value is out of range.
    """
    if steps < 1:
        usage_error("too few steps of the solver", steps, "1 or more")
    if grid not in GRIDS:
        usage_error("unknown time grid", grid, GRIDS)
    times = np.arange(steps + 1) / steps
    if grid == "sway":
        times = times + sway * (np.cos(np.pi / 2 * times) - 1 + times)
        times[-1] = 1.0
        if (np.diff(times) <= 0).any():
            usage_error("the sway grid does not go forward", sway, "-1 to 1.75")
    return times


def evaluations(steps: int, solver: str = "euler") -> int:
    """Return how often a solver asks the field."""
    return steps if solver == "euler" else 2 * steps


def integrate(
    field: Field,
    x0: Tensor,
    steps: int,
    solver: str = "euler",
    grid: str = "uniform",
    *,
    sway: float = -1.0,
    constrain: Constraint | None = None,
    trajectory: list[Tensor] | None = None,
) -> Tensor:
    """Follow a field from ``x0``.

    Args:
        field: Gives the velocity of ``x`` at a time.
        x0: State at time 0.
        steps: Number of steps.
        solver: ``euler``, ``midpoint`` or ``heun``.
        grid: ``uniform`` or ``sway``.
        sway: See :func:`time_grid`.
        constrain: Called with every state that the field is asked about, and with the last one, its time, and the
            number of calls before; its result takes the place of the state.
        trajectory: Gets the states between steps, ``x0`` first.

    Returns:
        The state at time 1.

    Raises:
        UsageError: A value is out of range.
    """
    if solver not in SOLVERS:
        usage_error("unknown solver", solver, SOLVERS)
    times = time_grid(steps, grid, sway).tolist()
    calls = 0

    def pin(x: Tensor, t: float) -> Tensor:
        nonlocal calls
        calls += 1
        return x if constrain is None else constrain(x, t, calls - 1)

    x = x0
    for start, end in zip(times[:-1], times[1:], strict=True):
        x = pin(x, start)
        if trajectory is not None:
            trajectory.append(x)
        step = end - start
        slope = field(x, start)
        if solver == "midpoint":
            middle = start + step / 2
            slope = field(pin(x + step / 2 * slope, middle), middle)
        elif solver == "heun":
            slope = (slope + field(pin(x + step * slope, end), end)) / 2
        x = x + step * slope
    x = pin(x, 1.0)
    if trajectory is not None:
        trajectory.append(x)
    return x


def guide(conditional: Tensor, others: Sequence[tuple[Tensor, float]]) -> Tensor:
    """Return the guided velocity ``v_c + sum of weight (v_c - v_other)``; without others the conditional one."""
    velocity = conditional
    for other, weight in others:
        velocity = velocity + weight * (conditional - other)
    return velocity
