# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""One update of a policy: the clipped losses of PPO (Schulman et al., 2017) over a rollout."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from espnet_av.train.distributed import World
from espnet_av.train.ppo_options import PPOOptions
from espnet_av.train.rollout import RolloutStorage
from espnet_av.train.update import NonFiniteError
from espnet_av.utils.errors import describe

Evaluation = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def policy_loss(log_probs: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor, clip: float) -> torch.Tensor:
    """Return minus the clipped surrogate objective; all of shape (B,)."""
    ratio = torch.exp(log_probs - old)
    return -torch.min(ratio * advantages, torch.clamp(ratio, 1.0 - clip, 1.0 + clip) * advantages).mean()


def value_loss(values: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, clip: float) -> torch.Tensor:
    """Return half the mean of the larger of two squared errors, one with the change of the value clipped; (B,) all."""
    clipped = old + (values - old).clamp(-clip, clip)
    return 0.5 * torch.max((values - returns) ** 2, (clipped - returns) ** 2).mean()


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give all groups of an optimizer one learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def descend(
    loss: torch.Tensor, optimizer: torch.optim.Optimizer, parameters: Sequence[torch.Tensor], max_grad_norm: float
) -> torch.Tensor:
    """Make one step down a loss; return the norm of the gradient before clipping.

    Raises:
        NonFiniteError: The gradient is not finite; nothing was changed.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    if not torch.isfinite(norm):
        optimizer.zero_grad(set_to_none=True)
        what = f"the gradient norm is {norm.item()} at a loss of {loss.item()}"
        raise NonFiniteError(describe(what, fix="lower the learning rates and go on from the last checkpoint"))
    optimizer.step()
    return norm


def update_policy(
    evaluate: Callable[[dict[str, Any]], Evaluation],
    optimizer: torch.optim.Optimizer,
    storage: RolloutStorage,
    advantages: torch.Tensor,
    options: PPOOptions,
    clip: float,
    *,
    imitate: bool = False,
) -> dict[str, torch.Tensor]:
    """Train a policy on a finished rollout.

    Args:
        evaluate: Gives the values (B,), the log-probabilities of its actions (B,) and the entropies (any shape) of a
            minibatch of :meth:`~espnet_av.train.rollout.RolloutStorage.batches`.
        optimizer: Of the policy; its rate is set already.
        storage: The rollout.
        advantages: Normalised, (T, N).
        options: Epochs, minibatches, weights.
        clip: Clipping range of this update.
        imitate: Raise the probability of the expert's actions instead; the value is trained all the same.

    Returns:
        Means over all steps: ``value_loss``, ``action_loss``, ``entropy`` and ``grad_norm``.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    rows = []
    for _ in range(options.imitation_epoch if imitate else options.ppo_epoch):
        for batch in storage.batches(options.num_mini_batch, advantages):
            actions = batch["expert"] if imitate else batch["actions"]
            values, log_probs, entropies = evaluate({**batch, "actions": actions})
            if imitate:
                action = -log_probs.mean()
            else:
                action = policy_loss(log_probs, batch["log_probs"], batch["advantages"], clip)
            value = value_loss(values, batch["values"], batch["returns"], clip)
            entropy = entropies.mean()
            loss = options.value_loss_coef * value + action - options.entropy_coef * entropy
            norm = descend(loss, optimizer, parameters, options.max_grad_norm)
            rows.append(torch.stack([value.detach(), action.detach(), entropy.detach(), norm]))
    return dict(zip(("value_loss", "action_loss", "entropy", "grad_norm"), torch.stack(rows).mean(0), strict=True))


def update_auxiliary(
    objective: Callable[[Any], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    batches: Callable[[], Iterator[Any]],
    options: PPOOptions,
) -> dict[str, torch.Tensor]:
    """Train the part beside the policy on the same rollout.

    Args:
        objective: Gives the loss of a minibatch.
        optimizer: Its optimizer; its rate is set already.
        batches: Gives the minibatches of one pass.
        options: Epochs and clipping.

    Returns:
        Means over all steps: ``loss`` and ``grad_norm``.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    rows = []
    for _ in range(options.auxiliary_epoch or options.ppo_epoch):
        for batch in batches():
            loss = objective(batch)
            norm = descend(loss, optimizer, parameters, options.max_grad_norm)
            rows.append(torch.stack([loss.detach(), norm]))
    return dict(zip(("loss", "grad_norm"), torch.stack(rows).mean(0), strict=True))


def reduce_mean(stats: dict[str, torch.Tensor], world: World) -> dict[str, float]:
    """Return the means of all processes' values as numbers."""
    names = sorted(stats)
    values = world.sum_(torch.stack([stats[name].float() for name in names])) / world.size
    return dict(zip(names, values.tolist(), strict=True))
