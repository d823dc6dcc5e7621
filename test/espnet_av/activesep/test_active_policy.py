# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The policy and the whole agent: recurrence, choice of actions, what gets gradients."""

import math

import pytest
import torch

from espnet_av.activesep.agent import ActiveSeparationAgent
from espnet_av.activesep.memory_buffer import MemoryBuffer
from espnet_av.activesep.policy import ActiveSeparationPolicy
from espnet_av.activesep.separators import masked_magnitude
from espnet_av.utils.errors import UsageError

SMALL = {"hidden_size": 8, "channels": (2, 3, 2)}
TINY = {"separator": {"base_channels": 2}, "memory": {"channels": 1, "ffn_dim": 8}, "policy": SMALL}


def observations(number: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    random = torch.Generator().manual_seed(seed)
    rgb = torch.randint(0, 256, (number, 128, 128, 3), generator=random, dtype=torch.uint8)
    spectra = (torch.rand(number, 512, 32, channels, generator=random) for channels in (2, 2, 1))
    return (rgb, *spectra)


@pytest.fixture
def policy() -> ActiveSeparationPolicy:
    torch.manual_seed(0)
    made = ActiveSeparationPolicy(**SMALL)
    torch.nn.init.orthogonal_(made.actor.weight)  # larger than at the start, so that actions differ
    return made.eval()


@torch.no_grad()
def test_sequence_is_what_steps_are(policy):
    steps, batch = 5, 2
    inputs = observations(steps * batch)
    not_done = torch.ones(steps * batch, 1)
    not_done[0], not_done[5], not_done[6], not_done[7] = 0, 0, 0, 0
    start = hidden = torch.rand(1, batch, SMALL["hidden_size"])
    values, log_probs, actions = [], [], []
    for step in range(steps):
        rows = slice(step * batch, (step + 1) * batch)
        decision = policy.act(*(x[rows] for x in inputs), hidden, not_done[rows])
        hidden = decision.hidden
        values.append(decision.value)
        log_probs.append(decision.log_prob)
        actions.append(decision.action)
    result = policy.evaluate(*inputs, start, not_done, torch.cat(actions))
    torch.testing.assert_close(result.value, torch.cat(values))
    torch.testing.assert_close(result.log_prob, torch.cat(log_probs))
    torch.testing.assert_close(result.hidden, hidden)


@torch.no_grad()
def test_end_of_an_episode_empties_the_state(policy):
    inputs, hidden = observations(2), torch.rand(1, 2, SMALL["hidden_size"])
    emptied = policy.act(*inputs, hidden, torch.zeros(2, 1))
    assert torch.equal(emptied.hidden, policy.act(*inputs, torch.zeros_like(hidden), torch.ones(2, 1)).hidden)
    assert not torch.equal(emptied.hidden, policy.act(*inputs, hidden, torch.ones(2, 1)).hidden)


@torch.no_grad()
def test_choice(policy):
    inputs, hidden = observations(4), policy.initial_hidden(4)
    greedy = policy.act(*inputs, hidden, torch.ones(4, 1), deterministic=True)
    assert torch.equal(greedy.action, greedy.probs.argmax(-1, keepdim=True))
    torch.testing.assert_close(greedy.probs.sum(-1), torch.ones(4))
    torch.testing.assert_close(greedy.log_prob, greedy.probs.log().gather(-1, greedy.action))

    def sample(seed: int) -> list[int]:
        source = torch.Generator().manual_seed(seed)
        drawn = [policy.act(*inputs, hidden, torch.ones(4, 1), generator=source).action for _ in range(6)]
        return torch.cat(drawn).flatten().tolist()

    assert sample(1) == sample(1) and sample(1) != sample(2)


def test_no_gradient_reaches_what_is_heard(policy):
    rgb, mixed, mask, mono = observations(2)
    mask.requires_grad_()
    mono.requires_grad_()
    result = policy(rgb, mixed, mask, mono, policy.initial_hidden(2), torch.ones(2, 1), torch.zeros(2, 1).long())
    (result.value.sum() + result.log_prob.sum() + result.entropy).backward()
    assert mask.grad is None and mono.grad is None
    assert all(parameter.grad is not None for parameter in policy.parameters())
    assert 0 < result.entropy.item() <= math.log(3) + 1e-6


@torch.no_grad()
def test_images():
    both = ActiveSeparationPolicy(**SMALL, images=("rgb", "depth")).eval()
    rgb, mixed, mask, mono = observations(2)
    depth = torch.rand(2, 128, 128, 1)
    seen = both.see({"rgb": rgb, "depth": depth})
    assert seen.shape == (2, SMALL["hidden_size"])
    assert not torch.equal(seen, both.see({"rgb": rgb, "depth": 1 - depth}))
    with pytest.raises(UsageError, match="smell"):
        ActiveSeparationPolicy(**SMALL, images=("rgb", "smell"))
    with pytest.raises(UsageError, match="too small"):
        ActiveSeparationPolicy(**SMALL, image_size=16)


@pytest.mark.parametrize(("mode", "factor"), [("he", 1.0), ("reference", math.sqrt(1 / 3))])
def test_initialisation(mode, factor):
    torch.manual_seed(0)
    policy = ActiveSeparationPolicy(init=mode)
    weight = policy.visual.linear.weight
    assert weight.std().item() == pytest.approx(factor * math.sqrt(2 / weight.shape[1]), rel=0.02)
    assert not policy.visual.linear.bias.any() and not policy.gru.bias_ih_l0.any()
    actor = policy.actor.weight
    torch.testing.assert_close(actor @ actor.t(), 1e-4 * torch.eye(3), rtol=1e-4, atol=1e-7)
    with pytest.raises(UsageError, match="unknown initialisation"):
        ActiveSeparationPolicy(**SMALL, init="zeros")


@pytest.fixture
def agent() -> ActiveSeparationAgent:
    torch.manual_seed(0)
    return ActiveSeparationAgent(**TINY)


def test_separators_stay_frozen(agent):
    agent.train()
    assert agent.policy.training and agent.memory.training
    assert not any(module.training for module in agent.separator.modules())
    before = {name: tensor.clone() for name, tensor in agent.separator.state_dict().items()}
    _, mixed, _, _ = observations(3)
    agent.separate(mixed, torch.tensor([[1], [2], [3]]))
    assert all(torch.equal(tensor, before[name]) for name, tensor in agent.separator.state_dict().items())
    trained = {name.split(".")[0] for name, parameter in agent.named_parameters() if parameter.requires_grad}
    assert trained == {"memory", "policy"}


def test_agent_hears_and_acts(agent):
    rgb, mixed, _, _ = observations(2)
    labels, pose, ring = torch.tensor([[3], [5]]), torch.zeros(2, 4), MemoryBuffer(2, capacity=3)
    heard = agent.hear(mixed, labels, pose, ring)
    mask, mono = agent.separator(mixed, labels)
    assert torch.equal(heard.mask, mask) and torch.equal(heard.mono, mono)
    assert heard.refined.shape == (5, 2, 512, 32, 1) and torch.equal(heard.present, heard.refined[-1])
    decision = agent.act(rgb, mixed, heard, agent.initial_hidden(2), torch.zeros(2, 1))
    assert decision.action.shape == (2, 1) and not decision.value.requires_grad
    other = agent.hear(mixed, torch.tensor([[3], [90]]), pose, ring)
    assert torch.equal(other.mask[0], mask[0]) and not torch.equal(other.mask[1], mask[1])


def test_no_gradient_from_mono_into_the_mask(agent):
    separator = agent.separator.requires_grad_(True)
    _, mixed, ears, mono = observations(2)
    losses = separator.loss(mixed, torch.tensor([0, 1]), ears, mono)
    losses.mono.backward(retain_graph=True)
    assert all(parameter.grad is None for parameter in separator.extractor.parameters())
    losses.binaural.backward()
    assert all(parameter.grad is not None for parameter in separator.extractor.parameters())
    assert losses.total.item() == pytest.approx(losses.mono.item() + losses.binaural.item())
    assert losses.binaural.item() == pytest.approx(
        (masked_magnitude(mixed, separator(mixed, torch.tensor([0, 1])).mask) - ears).abs().mean().item(), rel=1e-5
    )
