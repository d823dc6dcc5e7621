# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The policy against numbers of the reference."""

from pathlib import Path

import pytest
import torch
from activesep_recipe import assert_close, read, reference_agent

from espnet_av.activesep.policy import ActiveSeparationPolicy


@pytest.fixture(scope="module")
def folder(fixtures_dir) -> Path:
    return fixtures_dir("activesep")


@pytest.fixture(scope="module")
def data(folder) -> dict[str, torch.Tensor]:
    return read(folder / "policy.npz")


@pytest.fixture(scope="module")
def policy(folder) -> ActiveSeparationPolicy:
    return reference_agent(folder).policy


def observations(data: dict[str, torch.Tensor], number: int | None = None) -> tuple[torch.Tensor, ...]:
    names = ("mixed_log1p", "binSepMasks", "monoFromMem")
    return (data["rgb"][:number], *(data[name][:number].float() for name in names))


@torch.no_grad()
def test_encoders(data, policy):
    rgb, mixed, mask, mono = observations(data)
    assert_close(policy.see(rgb), data["visual"])
    assert_close(policy.hear(mixed, mask), data["bin"])
    assert_close(policy.hear_mono(mono), data["mono"])


@torch.no_grad()
def test_sequence(data, policy):
    features = policy.encode(*observations(data))
    output, hidden = policy.remember(features, data["h0"], data["masks"])
    assert_close(output, data["gru_out"])
    assert_close(hidden, data["h_n"])
    assert_close(policy.actor(output).log_softmax(-1), data["logits"].log_softmax(-1))
    assert_close(policy.actor(output).softmax(-1), data["probs"])


@torch.no_grad()
def test_evaluate(data, policy):
    result = policy(*observations(data), data["h0"], data["masks"], data["actions"])
    assert_close(result.value, data["value"])
    assert_close(result.log_prob, data["action_log_probs"])
    assert_close(result.entropy, data["entropy_mean"])
    assert_close(result.hidden, data["h_n"])


@torch.no_grad()
def test_act(data, policy):
    batch = data["h0"].shape[1]
    inputs = observations(data, batch)
    decision = policy.act(*inputs, data["h0"], data["masks"][:batch], deterministic=True)
    assert torch.equal(decision.action, data["act_action"])
    assert_close(decision.value, data["act_value"])
    assert_close(decision.log_prob, data["act_log_prob"])
    assert_close(decision.hidden, data["act_h"])
    assert_close(policy.value(*inputs, data["h0"], data["masks"][:batch]), data["act_value"])
