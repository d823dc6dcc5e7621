# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Path, velocity, losses and solvers of flow matching against numbers in float64.

All sizes and values come from the files of the golden folder (``ESPNET_AV_FIXTURES``).
"""

import re

import numpy as np
import pytest
import torch

from espnet_av.avgen.flow import FlowMatching
from espnet_av.avgen.solvers import SOLVERS, guide, integrate, time_grid

CLOSE = {"atol": 1e-10, "rtol": 0}


def read(folder, name):
    with np.load(folder / name) as arrays:
        return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}


@pytest.fixture(scope="module")
def objective(fixtures_dir):
    return read(fixtures_dir("avgen"), "ot_cfm.npz")


@pytest.fixture(scope="module")
def trajectories(fixtures_dir):
    return read(fixtures_dir("avgen"), "ode_trajectories.npz")


def toy_field(data, weight="field_W"):
    def field(x, t):
        t = torch.as_tensor(t, dtype=x.dtype).view(-1, *[1] * (x.dim() - 1))
        return torch.tanh(x @ data[weight] + t * data["field_b"] + data["field_c"])

    return field


def test_path_velocity_and_losses(objective):
    data = objective
    x0, x1, t = data["x0"], data["x1"], data["t"]
    assert len(data["sigma_min"])
    for index, sigma in enumerate(data["sigma_min"].tolist()):
        flow, squared = FlowMatching(sigma), FlowMatching(sigma, "l2")
        xt = flow.path(x0, x1, t)
        velocity = toy_field(data)(xt, t)
        torch.testing.assert_close(xt, data[f"xt_{index}"], **CLOSE)
        torch.testing.assert_close(flow.velocity(x0, x1), data[f"ut_{index}"], **CLOSE)
        torch.testing.assert_close(velocity, data[f"v_{index}"], **CLOSE)
        torch.testing.assert_close(flow.data_from_velocity(velocity, x0), data[f"x1_pred_{index}"], **CLOSE)
        for name, loss in {
            "l1_mean": flow.loss(velocity, x0, x1),
            "l2_mean": squared.loss(velocity, x0, x1),
            "l1_masked": flow.loss(velocity, x0, x1, data["mask"]),
            "l2_masked_matcha": squared.loss(velocity, x0, x1, data["mask"]),
        }.items():
            torch.testing.assert_close(loss, data[f"loss_{name}_{index}"], **CLOSE)
        assert flow.loss(flow.velocity(x0, x1), x0, x1) == 0


def test_single_precision_and_gradient(objective):
    data = {name: each.float() for name, each in objective.items()}
    name = next(name for name in data if name.startswith("grad_W_l1_sigma"))
    sigma = float(name.removeprefix("grad_W_l1_sigma"))
    index = int((objective["sigma_min"] - sigma).abs().argmin())
    flow = FlowMatching(sigma)
    torch.testing.assert_close(flow.path(data["x0"], data["x1"], data["t"]), data[f"xt_{index}"], atol=1e-5, rtol=0)
    weight = objective["field_W"].clone().requires_grad_()
    xt = flow.path(objective["x0"], objective["x1"], objective["t"])
    velocity = toy_field({**objective, "field_W": weight})(xt, objective["t"])
    flow.loss(velocity, objective["x0"], objective["x1"]).backward()
    torch.testing.assert_close(weight.grad, objective[name], **CLOSE)


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers(trajectories, solver):
    data = trajectories
    steps = [int(found[1]) for name in data if (found := re.fullmatch(rf"{solver}_(\d+)", name))]
    assert steps
    for number in steps:
        x1 = integrate(toy_field(data), data["x0"], number, solver)
        torch.testing.assert_close(x1, data[f"{solver}_{number}"], **CLOSE)


def test_sway_grid(trajectories):
    data = trajectories
    names = {name: found for name in data if (found := re.fullmatch(r"sway_grid_s(-?[\d.]+)_(\d+)", name))}
    assert names
    for name, found in names.items():
        sway, steps = float(found[1]), int(found[2])
        torch.testing.assert_close(torch.from_numpy(time_grid(steps, "sway", sway)), data[name], **CLOSE)
        x1 = integrate(toy_field(data), data["x0"], steps, grid="sway", sway=sway)
        torch.testing.assert_close(x1, data[f"euler_sway_{steps}"], **CLOSE)


def test_trajectories(trajectories):
    data = trajectories
    for name in [name for name in data if name.endswith("_trajectory")]:
        solver, steps, _ = name.split("_")
        states: list[torch.Tensor] = []
        integrate(toy_field(data), data["x0"], int(steps), solver, trajectory=states)
        torch.testing.assert_close(torch.stack(states), data[name], **CLOSE)


def test_order_of_convergence(trajectories):
    data = trajectories
    exact = data["reference_dopri5_1e-10"]

    def error(solver, steps):
        return float((integrate(toy_field(data), data["x0"], steps, solver) - exact).abs().max())

    assert 1.7 < error("euler", 64) / error("euler", 128) < 2.3
    for solver in ("midpoint", "heun"):
        assert 3.4 < error(solver, 32) / error(solver, 64) < 4.6


def test_guidance(trajectories):
    data = trajectories
    names = {name: found for name in data if (found := re.fullmatch(r"cfg_(\w+?)_(\d+)_w([\d.]+)", name))}
    assert names
    for name, found in names.items():
        conditional, unconditional = toy_field(data), toy_field(data, "uncond_field_W")

        def field(x, t, weight=float(found[3]), c=conditional, u=unconditional):
            return guide(c(x, t), [(u(x, t), weight)])

        torch.testing.assert_close(integrate(field, data["x0"], int(found[2]), found[1]), data[name], **CLOSE)
