# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Losses, schedules and storage of policy optimisation."""

import pytest
import torch

from espnet_av.train.ppo_options import PPOOptions
from espnet_av.train.ppo_update import descend, policy_loss, update_auxiliary, update_policy, value_loss
from espnet_av.train.rollout import RolloutStorage
from espnet_av.train.update import NonFiniteError
from espnet_av.utils.errors import UsageError


def storage(steps=3, envs=4):
    made = RolloutStorage(steps, envs, {"x": ((2,), torch.float32)}, hidden_shape=(1, 5))
    made.start(torch.ones(envs), torch.arange(envs * 5.0).reshape(1, envs, 5))
    for step in range(steps):
        x = torch.stack([torch.full((envs,), float(step)), torch.arange(envs).float()], -1)
        each = torch.arange(envs) + 10 * step
        made.put(step, {"x": x}, {"actions": each, "log_probs": each / 100, "values": each * 1.0})
        made.masks[step + 1] = 1
    return made


def test_losses_clip_both_ways():
    old, new = torch.zeros(4), torch.log(torch.tensor([2.0, 0.5, 2.0, 0.5]))
    advantages = torch.tensor([1.0, 1.0, -1.0, -1.0])
    expected = -torch.tensor([1.1, 0.5, -2.0, -0.9]).mean()  # the pessimistic of clipped and unclipped
    torch.testing.assert_close(policy_loss(new, old, advantages, 0.1), expected)
    values, before, returns = torch.tensor([3.0, 0.05]), torch.zeros(2), torch.tensor([4.0, 1.0])
    torch.testing.assert_close(value_loss(values, before, returns, 0.1), 0.5 * torch.tensor([3.9**2, 0.95**2]).mean())


def test_schedules():
    options = PPOOptions(output_dir="x", num_updates=4)
    assert [options.rate(update) for update in range(4)] == [0.75, 0.5, 0.25, 0.0]
    assert [options.clip(update) for update in range(4)] == pytest.approx([0.1, 0.075, 0.05, 0.025])
    still = PPOOptions(output_dir="x", num_updates=4, use_linear_lr_decay=False, use_linear_clip_decay=False)
    assert still.rate(3) == 1.0 and still.clip(3) == 0.1


@pytest.mark.parametrize(
    "wrong", [{"gamma": 1.5}, {"num_updates": 0}, {"lr": 0.0}, {"resume_mode": "maybe"}, {"save_interval": -1}]
)
def test_options_are_checked(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        PPOOptions(output_dir="x", **wrong)


def test_minibatches_hold_whole_sequences():
    made = storage()
    made.finish(torch.zeros(4), gamma=0.9, tau=0.5)
    seen = []
    for batch in made.batches(2, made.advantages()):
        envs = batch["envs"]
        assert batch["inputs"]["x"].shape == (6, 2) and batch["hidden"].shape == (1, 2, 5)
        assert batch["inputs"]["x"][:, 0].tolist() == [0, 0, 1, 1, 2, 2]  # time first
        assert batch["inputs"]["x"][:2, 1].tolist() == envs.tolist()
        assert batch["actions"].tolist() == [10 * step + env for step in range(3) for env in envs.tolist()]
        torch.testing.assert_close(batch["hidden"][0, :, 0], envs * 5.0)
        seen += envs.tolist()
    assert sorted(seen) == [0, 1, 2, 3]
    with pytest.raises(UsageError, match="whole environments"):
        next(made.batches(3, made.advantages()))


def test_bytes_of_storage():
    assert storage(3, 4).nbytes == 4 * (3 * 4 * 2 + 3 * 3 * 4 + 2 * 4 * 4 + 4 * 5) + 8 * 3 * 4 * 2


@pytest.mark.parametrize(("epochs", "passes"), [(0, 3), (2, 2)])
def test_the_part_beside_the_policy_may_have_its_own_number_of_passes(epochs, passes):
    weight = torch.nn.Parameter(torch.ones(1))
    calls = []
    batches = lambda: calls.append(1) or iter([1.0, 2.0])  # noqa: E731
    options = PPOOptions(output_dir="x", ppo_epoch=3, auxiliary_epoch=epochs)
    stats = update_auxiliary(lambda batch: (weight * batch).sum(), torch.optim.SGD([weight], 0.1), batches, options)
    assert len(calls) == passes and set(stats) == {"loss", "grad_norm"}


def test_imitation_raises_the_probability_of_the_expert():
    made = storage()
    made.expert.fill_(1)
    made.finish(torch.zeros(4), gamma=0.9, tau=0.5)
    made.actions.fill_(0)
    logits = torch.nn.Parameter(torch.zeros(2))

    def evaluate(batch):
        log_probs = logits.log_softmax(0)[batch["actions"]]
        return batch["values"] + 0 * logits.sum(), log_probs, torch.zeros(1)

    options = PPOOptions(output_dir="x", entropy_coef=0.0, imitation_epoch=4)
    optimizer = torch.optim.SGD([logits], 1.0)
    stats = update_policy(evaluate, optimizer, made, made.advantages(), options, 0.1, imitate=True)
    assert logits[1] > 0.5 > 0 > logits[0]
    assert 0 < stats["action_loss"] < torch.log(torch.tensor(2.0))


def test_gradients_that_are_not_finite_change_nothing():
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([weight])
    with pytest.raises(NonFiniteError, match="nan"):
        descend((weight * float("nan")).sum(), optimizer, [weight], 0.5)
    assert torch.equal(weight, torch.ones(2))
    norm = descend((3 * weight).sum(), optimizer, [weight], 0.5)
    assert norm.item() == pytest.approx(3 * 2**0.5) and not torch.equal(weight, torch.ones(2))
