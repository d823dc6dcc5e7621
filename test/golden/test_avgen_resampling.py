# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Changes of the frame rate against golden data (``ESPNET_AV_FIXTURES``), from which all sizes and values come."""

import numpy as np
import pytest
import torch

from espnet_av.avgen import clock

CLOSE = {"atol": 2e-5, "rtol": 0}


@pytest.fixture(scope="module")
def golden(fixtures_dir):
    with np.load(fixtures_dir("avgen") / "frame_rate_resampling.npz") as arrays:
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}


def test_motion_goes_up_and_down(golden):
    rate = float(golden["frame_rate"])
    up = clock.resample_rate(golden["motion30"], clock.MOTION_RATE, rate)
    torch.testing.assert_close(up, golden["motion_up"], **CLOSE)
    rotations = clock.resample_rate(golden["rot30"], clock.MOTION_RATE, rate)
    torch.testing.assert_close(rotations, golden["rot_up"], **CLOSE)
    down = clock.resample_rate(golden["motion_up"], rate, clock.MOTION_RATE)
    torch.testing.assert_close(down, golden["motion_down"], **CLOSE)


def test_tokens_go_up(golden):
    rate = float(golden["frame_rate"])
    up = clock.resample_rate(golden["tokens50"], clock.REFERENCE_TOKEN_RATE, rate, dim=1)
    torch.testing.assert_close(up, golden["tokens_up"], **CLOSE)


def test_arrays_give_what_tensors_give(golden):
    for name, rates in {"motion30": (30.0, 86.0), "tokens50": (50.0, 86.0)}.items():
        dim = golden[name].dim() - 2
        given = clock.resample_rate(golden[name], *rates, dim=dim).numpy()
        np.testing.assert_array_equal(clock.resample_rate(golden[name].numpy(), *rates, dim=dim), given)
