# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Durations, monotonic alignment and the losses that come with them, as Matcha-TTS has them, reproduced."""

import re

import numpy as np
import pytest
import torch
from torch import Tensor

from espnet_av.avgen.alignment import log_prior, maximum_path, prior_loss
from espnet_av.avgen.durations import (
    duration_loss,
    duration_path,
    expand,
    frame_counts,
    sequence_mask,
    total_frames,
)

ATOL = 1e-6


@pytest.fixture(scope="module")
def golden(fixtures_dir) -> dict[str, Tensor]:
    with np.load(fixtures_dir("avgen") / "durations_alignment.npz") as file:
        return {name: torch.from_numpy(np.asarray(file[name])) for name in file.files}


@pytest.fixture(scope="module")
def symbols(golden) -> Tensor:
    return sequence_mask(golden["x_lengths"], golden["logw"].shape[-1]).unsqueeze(1).double()


@pytest.fixture(scope="module")
def frames(golden) -> Tensor:
    return sequence_mask(golden["mas_y_lengths"], golden["y"].shape[-1]).unsqueeze(1).double()


def test_length_regulation(golden, symbols):
    scales = [match[1] for name in golden if (match := re.fullmatch(r"path_(.+)", name))]
    assert scales
    mask = symbols.float()
    for scale in scales:
        counts = frame_counts(golden["logw"], mask, float(scale))
        torch.testing.assert_close(counts, golden[f"w_ceil_{scale}"], atol=ATOL, rtol=0)
        lengths = total_frames(counts)
        assert torch.equal(lengths, golden[f"y_lengths_{scale}"])
        path = golden[f"path_{scale}"]
        both = mask.transpose(1, 2) * sequence_mask(lengths, path.shape[-1]).unsqueeze(1)
        assert torch.equal(duration_path(counts.squeeze(1), both).to(path.dtype), path)


def test_alignment(golden):
    path = maximum_path(golden["mas_logp"], golden["x_lengths"], golden["mas_y_lengths"])
    assert torch.equal(path.to(golden["mas_path"].dtype), golden["mas_path"])


def test_losses(golden, symbols, frames):
    path = golden["mas_path"].double()
    mu = expand(golden["mu_x"], path)
    losses = {
        "log_prior": log_prior(golden["mu_x"], golden["y"]),
        "mu_y": mu,
        "prior_loss": prior_loss(golden["y"], mu, frames),
        "duration_loss": duration_loss(golden["logw"].double(), path.sum(dim=-1), symbols),
    }
    for name, value in losses.items():
        torch.testing.assert_close(value, golden[name], atol=ATOL, rtol=1e-9, msg=name)
