# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of the reference's semantic loss with a stand-in for the speech model, reproduced."""

import json
import math
import re

import pytest
import torch
from codec_formula import LOSS_REL, read
from torch import Tensor

from espnet_av.codec.semantic import SemanticLoss

FRAME, NUM_COSINES, END = 320, 8, 3.14159265  # of the stand-in


def extract(wav: Tensor) -> list[Tensor]:
    basis = torch.stack([torch.cos(k * torch.linspace(0, END, FRAME)) for k in range(1, NUM_COSINES + 1)])
    frames = wav[:, : wav.shape[1] // FRAME * FRAME].unflatten(1, (-1, FRAME))
    features = frames @ basis.t()
    return [features, torch.tanh(features), features.square()]


@pytest.fixture(scope="module")
def golden(fixtures_dir) -> dict[str, Tensor]:
    return read(fixtures_dir("codec") / "semantic_loss.npz")


def test_losses(golden):
    cases = [match for key in golden if (match := re.fullmatch(r"loss\.ids=(.*),sr=(\d+)", key))]
    assert cases
    for match in cases:
        ids = None if match[1] == "None" else json.loads(match[1])
        loss = SemanticLoss(extract, int(match[2]), ids)(golden["x"][None], golden["y"][None])
        assert math.isclose(float(loss), float(golden[match[0]]), rel_tol=LOSS_REL), match[0]


def test_resampling(golden):
    loss = SemanticLoss(extract, 24000)
    torch.testing.assert_close(loss._resample(golden["x"][None])[0], golden["x_16k"], atol=1e-6, rtol=0)
