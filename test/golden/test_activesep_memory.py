# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The acoustic memory against numbers of the reference."""

from pathlib import Path

import pytest
import torch
from activesep_recipe import assert_close, read, reference_agent

from espnet_av.activesep.memory import AcousticMemory


@pytest.fixture(scope="module")
def folder(fixtures_dir) -> Path:
    return fixtures_dir("activesep")


@pytest.fixture(scope="module")
def data(folder) -> dict[str, torch.Tensor]:
    return {name: value.float() for name, value in read(folder / "memory.npz").items()}


@pytest.fixture(scope="module")
def memory(folder) -> AcousticMemory:
    return reference_agent(folder).memory


def test_time_code(data, memory):
    expected = data["time_encoding_0_19"]
    assert_close(memory.time_code(torch.arange(len(expected))), expected)


@torch.no_grad()
def test_encoder(data, memory):
    features, skips = memory.encoder(data["pred_mono"])
    assert_close(features, data["encoded_current"])
    assert_close(skips, data["current_skip"])


@torch.no_grad()
def test_transformer(data, memory):
    present = memory.encode(data["pred_mono"], data["pose"]).features
    slots = data["mem_spec"].unflatten(-1, data["pred_mono"].shape[1:])
    earlier = memory.encode(slots, data["mem_pose"]).features
    tokens = torch.cat((earlier, present[None])).transpose(0, 1)
    visible = torch.cat((data["mem_mask"] > 0, torch.ones(len(present), 1, dtype=torch.bool)), 1)
    assert_close(memory.relate(tokens, visible).transpose(0, 1), data["attn_out"])


@torch.no_grad()
def test_refined(data, memory):
    mask = data["mem_mask"] > 0
    refined = memory(data["pred_mono"], data["pose"], data["mem_spec"], data["mem_pose"], mask)
    assert_close(refined, data["monoFromMem"])
