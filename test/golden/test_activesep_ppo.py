# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Returns, advantages and a full policy update against recorded values of the published trainer."""

import numpy as np
import pytest
import torch
from torch import nn

from espnet_av.train.advantage import discounted_returns, gae_returns, normalise, normalise_population
from espnet_av.train.ppo_options import PPOOptions
from espnet_av.train.ppo_update import set_rate, update_policy
from espnet_av.train.rollout import RolloutStorage

GAMMA, TAU = 0.99, 0.95  # of the published configuration
RETURNS = 1e-5
CLIP, LR = 0.1, 1e-4


def load(path):
    if not path.is_file():
        pytest.skip(f"no {path}")
    with np.load(path) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def recorded(fixtures_dir):
    return load(fixtures_dir("activesep") / "ppo.npz")


class Toy(nn.Module):
    """The actor-critic of the recording."""

    def __init__(self, recorded):
        super().__init__()
        for name in ("pol_net", "action_dist", "critic"):
            weight = recorded[f"w0.{name}.weight"]
            self.add_module(name, nn.Linear(weight.shape[1], weight.shape[0]))
        self.load_state_dict({name[3:]: value.clone() for name, value in recorded.items() if name.startswith("w0.")})

    def forward(self, batch):
        x = torch.tanh(self.pol_net(batch["inputs"]["feat"]))
        actions = torch.distributions.Categorical(logits=self.action_dist(x))
        return self.critic(x).squeeze(-1), actions.log_prob(batch["actions"]), actions.entropy()


def fill(recorded):
    """Return the storage of the recording, before returns are computed."""
    steps, envs = recorded["rewards"].shape[:2]
    feat = recorded["feat"]
    storage = RolloutStorage(steps, envs, {"feat": (tuple(feat.shape[2:]), feat.dtype)})
    storage.start(recorded["masks"][0, :, 0])
    for step in range(steps):
        action = {
            "actions": recorded["actions"][step, :, 0],
            "log_probs": recorded["old_log_probs"][step, :, 0],
            "values": recorded["value_preds"][step, :, 0],
        }
        storage.put(step, {"feat": feat[step]}, action)
        storage.rewards[step] = recorded["rewards"][step, :, 0]
        storage.masks[step + 1] = recorded["masks"][step + 1, :, 0]
    return storage


def test_returns(recorded):
    squeezed = {name: recorded[name][..., 0] for name in ("rewards", "value_preds", "masks", "returns")}
    found = gae_returns(squeezed["rewards"], squeezed["value_preds"], squeezed["masks"], GAMMA, TAU)
    torch.testing.assert_close(found, squeezed["returns"][: len(found)], rtol=0, atol=RETURNS)


def test_returns_of_storage_and_advantages(recorded):
    storage = fill(recorded)
    storage.finish(recorded["value_preds"][-1, :, 0], gamma=GAMMA, tau=TAU)
    torch.testing.assert_close(storage.returns, recorded["returns"][:-1, :, 0], rtol=0, atol=RETURNS)
    found = normalise(storage.advantages())
    torch.testing.assert_close(found, recorded["advantages_norm"][..., 0], rtol=0, atol=RETURNS)


def test_other_formulas(recorded, fixtures_dir):
    extra = load(fixtures_dir("activesep") / "ppo_extra.npz")
    squeezed = {name: recorded[name][..., 0] for name in ("rewards", "value_preds", "masks", "returns")}
    found = discounted_returns(squeezed["rewards"], squeezed["value_preds"][-1], squeezed["masks"], GAMMA)
    torch.testing.assert_close(found, extra["returns_no_gae"][: len(found), :, 0], rtol=0, atol=RETURNS)
    advantages = squeezed["returns"][:-1] - squeezed["value_preds"][:-1]
    found = normalise_population(advantages)
    torch.testing.assert_close(found, extra["advantages_ddppo"][..., 0], rtol=0, atol=RETURNS)


def test_update(recorded, tmp_path):
    toy = Toy(recorded)
    options = PPOOptions(output_dir=str(tmp_path), clip_param=CLIP, lr=LR)
    optimizer = torch.optim.Adam(toy.parameters(), lr=LR, eps=options.eps)
    set_rate(optimizer, LR)
    storage = fill(recorded)
    storage.finish(recorded["value_preds"][-1, :, 0], gamma=GAMMA, tau=TAU)
    stats = update_policy(toy, optimizer, storage, normalise(storage.advantages()), options, CLIP)
    found = [float(stats[name]) for name in ("value_loss", "action_loss", "entropy")]
    np.testing.assert_allclose(found, recorded["mean_losses_value_action_entropy"], rtol=1e-4)
    for name, value in toy.state_dict().items():
        change = value - recorded[f"w0.{name}"]
        expected = recorded[f"w1.{name}"] - recorded[f"w0.{name}"]
        torch.testing.assert_close(
            change, expected, rtol=1e-2, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}"
        )
