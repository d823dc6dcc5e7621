# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Returns and advantages of a rollout; everything is time first, (T, N) for T steps of N environments."""

import torch

from espnet_av.train.distributed import World

EPS = 1e-5


def gae_returns(
    rewards: torch.Tensor, values: torch.Tensor, masks: torch.Tensor, gamma: float = 0.99, tau: float = 0.95
) -> torch.Tensor:
    """Return what generalised advantage estimation (Schulman et al., 2016) makes of a rollout: advantage plus value.

    ``delta_t = r_t + gamma v_{t+1} m_{t+1} - v_t`` and ``A_t = delta_t + gamma tau m_{t+1} A_{t+1}``.

    Args:
        rewards: Reward of each action, (T, N).
        values: Value before each action, and after the last one, (T + 1, N).
        masks: 0 where a new episode begins at that step, otherwise 1, (T + 1, N).
        gamma: Discount.
        tau: Weight of longer sums, the lambda of the paper.

    Returns:
        (T, N).
    """
    advantage = torch.zeros_like(rewards[0])
    returns = torch.empty_like(rewards)
    for step in reversed(range(len(rewards))):
        delta = rewards[step] + gamma * values[step + 1] * masks[step + 1] - values[step]
        advantage = delta + gamma * tau * masks[step + 1] * advantage
        returns[step] = advantage + values[step]
    return returns


def discounted_returns(
    rewards: torch.Tensor, next_value: torch.Tensor, masks: torch.Tensor, gamma: float = 0.99
) -> torch.Tensor:
    """Return the discounted sums of rewards, (T, N), with the value after the last step in place of what follows it.

    Args:
        rewards: (T, N).
        next_value: Value after the last step, (N,).
        masks: As for :func:`gae_returns`, (T + 1, N).
        gamma: Discount.
    """
    following = next_value
    returns = torch.empty_like(rewards)
    for step in reversed(range(len(rewards))):
        following = rewards[step] + gamma * masks[step + 1] * following
        returns[step] = following
    return returns


def compare_groups(advantages: torch.Tensor, group_size: int) -> torch.Tensor:
    """Take off the mean advantage of the other environments of the group, at every step.

    Where a group plays the same episode, what was easy or hard for all of it falls out. The mean of the others does
    not depend on an environment's own action, so the gradient stays unbiased (leave-one-out baseline: Kool et al.,
    "Buy 4 REINFORCE samples, get a baseline for free!", 2019).

    Args:
        advantages: (T, N); neighbours form a group.
        group_size: Of a group, a divisor of N; 1 changes nothing.
    """
    if group_size == 1:
        return advantages
    groups = advantages.unflatten(1, (-1, group_size))
    others = (groups.sum(-1, keepdim=True) - groups) / (group_size - 1)
    return (groups - others).flatten(1)


def normalise(advantages: torch.Tensor, world: World | None = None) -> torch.Tensor:
    """Return advantages of mean 0 and deviation 1 over the whole rollout.

    One process divides by the unbiased deviation. Several processes take the mean and the population variance over all
    of them. Both divide by the deviation plus 1e-5.

    Args:
        advantages: (T, N).
        world: The processes that train together; None: this one alone.
    """
    if world is None or world.size == 1:
        return (advantages - advantages.mean()) / (advantages.std() + EPS)
    return normalise_population(advantages, world)


def normalise_population(advantages: torch.Tensor, world: World | None = None) -> torch.Tensor:
    """Return :func:`normalise` with the mean and the population variance over all processes."""
    count = torch.tensor(float(advantages.numel()), device=advantages.device)
    sums = torch.stack([advantages.sum(), count])
    if world is not None:
        world.sum_(sums)
    mean = sums[0] / sums[1]
    squares = ((advantages - mean) ** 2).sum()
    if world is not None:
        world.sum_(squares)
    return (advantages - mean) / ((squares / sums[1]).sqrt() + EPS)
