# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The steps between two updates of a policy, kept once, in tensors made once."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from espnet_av.train.advantage import discounted_returns, gae_returns
from espnet_av.utils.errors import usage_error

Field = tuple[Sequence[int], torch.dtype]


class RolloutStorage:
    """T steps of N environments, time first.

    ``masks[t]`` is 0 where observation ``t`` is the first of an episode that began inside the rollout, as it follows
    the end of another. The recurrent state is kept for the first step only: a minibatch holds whole sequences.

    Args:
        num_steps: T.
        num_envs: N.
        fields: What the policy sees at each step: name -> (shape of one environment's entry, type).
        hidden_shape: Shape (layers, H) of one environment's recurrent state; None for a policy without.
        device: Where the tensors lie.

    Attributes:
        inputs: The fields, each (T, N, *shape).
        actions: (T, N), integers.
        expert: Actions to imitate, where there are any, (T, N).
        log_probs: Of the actions under the policy that took them, (T, N).
        values: (T + 1, N).
        rewards: (T, N).
        masks: (T + 1, N).
        returns: (T, N), after :meth:`finish`.
        hidden: State before the first step, (layers, N, H), or None.
    """

    def __init__(
        self,
        num_steps: int,
        num_envs: int,
        fields: Mapping[str, Field],
        hidden_shape: tuple[int, int] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if num_steps < 1 or num_envs < 1:
            usage_error("a rollout needs steps and environments", (num_steps, num_envs), "1 or more each")
        self.num_steps = num_steps
        self.num_envs = num_envs
        self.inputs = {
            name: torch.zeros((num_steps, num_envs, *shape), dtype=dtype, device=device)
            for name, (shape, dtype) in fields.items()
        }
        self.actions = torch.zeros((num_steps, num_envs), dtype=torch.long, device=device)
        self.expert = torch.zeros_like(self.actions)
        self.log_probs = torch.zeros((num_steps, num_envs), device=device)
        self.rewards = torch.zeros((num_steps, num_envs), device=device)
        self.returns = torch.zeros((num_steps, num_envs), device=device)
        self.values = torch.zeros((num_steps + 1, num_envs), device=device)
        self.masks = torch.zeros((num_steps + 1, num_envs), device=device)
        self.hidden = None
        if hidden_shape is not None:
            layers, width = hidden_shape
            self.hidden = torch.zeros((layers, num_envs, width), device=device)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        own = (self.actions, self.expert, self.log_probs, self.rewards, self.returns, self.values, self.masks)
        kept = [*self.inputs.values(), *own, *([self.hidden] if self.hidden is not None else [])]
        return sum(tensor.numel() * tensor.element_size() for tensor in kept)

    def start(self, masks: torch.Tensor, hidden: torch.Tensor | None = None) -> None:
        """Begin a rollout.

        Args:
            masks: 0 for environments whose episode begins with the first observation, (N,).
            hidden: Recurrent state before the first step, (layers, N, H).
        """
        self.masks[0] = masks
        if self.hidden is not None and hidden is not None:
            self.hidden.copy_(hidden)

    def put(self, step: int, inputs: Mapping[str, torch.Tensor], action: Mapping[str, torch.Tensor]) -> None:
        """Keep what was seen and done at a step.

        Args:
            step: From 0.
            inputs: The fields, each (N, *shape).
            action: ``actions``, ``log_probs`` and ``values``, and ``expert`` where it is known, each (N,).
        """
        for name, target in self.inputs.items():
            target[step] = inputs[name]
        self.actions[step] = action["actions"]
        if "expert" in action:
            self.expert[step] = action["expert"]
        self.log_probs[step] = action["log_probs"]
        self.values[step] = action["values"]

    def finish(self, next_value: torch.Tensor, *, gamma: float, tau: float, use_gae: bool = True) -> None:
        """Compute the returns.

        Args:
            next_value: Value after the last step, (N,); not used where an episode ended there.
            gamma: Discount.
            tau: See :func:`~espnet_av.train.advantage.gae_returns`.
            use_gae: False takes plain discounted sums.
        """
        self.values[-1] = next_value
        if use_gae:
            self.returns.copy_(gae_returns(self.rewards, self.values, self.masks, gamma, tau))
        else:
            self.returns.copy_(discounted_returns(self.rewards, next_value, self.masks, gamma))

    def advantages(self) -> torch.Tensor:
        """Return the advantages before normalisation, (T, N)."""
        return self.returns - self.values[:-1]

    def batches(
        self, num_mini_batch: int, advantages: torch.Tensor, generator: torch.Generator | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield minibatches of whole sequences, the environments in random order.

        Args:
            num_mini_batch: Number of minibatches; it divides the number of environments.
            advantages: Normalised advantages, (T, N).
            generator: Gives the order; None: torch's global generator.

        Yields:
            ``inputs`` (time-major and flattened: (T * n, ...) each), ``actions``, ``expert``, ``log_probs``,
            ``values``, ``returns``, ``advantages``, ``masks`` (each (T * n,)), ``hidden`` (layers, n, H) and ``envs``
            (n,).

        Raises:
            UsageError: The environments cannot be shared out evenly.
        """
        if num_mini_batch < 1 or self.num_envs % num_mini_batch:
            allowed = f"a divisor of the {self.num_envs} environments of this process"
            usage_error("minibatches hold whole environments", num_mini_batch, allowed, "change num_mini_batch")
        order = torch.randperm(self.num_envs, generator=generator)
        for chosen in order.chunk(num_mini_batch):
            envs = chosen.to(self.actions.device)
            yield {
                "inputs": {name: _flat(tensor, envs) for name, tensor in self.inputs.items()},
                "actions": _flat(self.actions, envs),
                "expert": _flat(self.expert, envs),
                "log_probs": _flat(self.log_probs, envs),
                "values": _flat(self.values[:-1], envs),
                "returns": _flat(self.returns, envs),
                "advantages": _flat(advantages, envs),
                "masks": _flat(self.masks[:-1], envs),
                "hidden": self.hidden[:, envs] if self.hidden is not None else None,
                "envs": envs,
            }


def _flat(tensor: torch.Tensor, envs: torch.Tensor) -> torch.Tensor:
    return tensor[:, envs].flatten(0, 1)
