# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the acoustic memory remembers: a ring of earlier estimates for each environment.

All environments write to the same slot. As the end of an episode empties the whole ring of an environment, what is
filled are always the latest slots, and which they are follows from their age.

Axes: ``B`` environments, ``S`` slots, ``F`` bins, ``T`` frames.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from espnet_av.activesep.spectra import NUM_BINS, NUM_FRAMES
from espnet_av.utils.errors import usage_error

CAPACITY = 19
REFINED_PAST = 14
POSE_SIZE = 4


class MemoryBuffer:
    """A ring of estimates, poses and marks of what is filled.

    Args:
        num_envs: Environments.
        capacity: Earlier seconds that are remembered.
        num_slots: Slots of the ring; None: one more than the capacity. The reference has ``capacity + num_steps`` (39),
            which gives the same results.
        features: Values of one estimate.
        device: Where tensors lie.

    Attributes:
        slots: Estimates of the separators, ``(S, B, F * T)``.
        poses: ``(S, B, 4)``.
        mask: Which slots are filled, ``(B, S)`` bool.
        next_index: Slot that is written next.
    """

    def __init__(
        self,
        num_envs: int,
        *,
        capacity: int = CAPACITY,
        num_slots: int | None = None,
        features: int = NUM_BINS * NUM_FRAMES,
        device: torch.device | str = "cpu",
    ) -> None:
        num_slots = capacity + 1 if num_slots is None else num_slots
        if num_slots < capacity:
            usage_error("the ring is smaller than its capacity", got=num_slots, allowed=f"at least {capacity}")
        self.capacity = capacity
        self.slots = torch.zeros(num_slots, num_envs, features, device=device)
        self.poses = torch.zeros(num_slots, num_envs, POSE_SIZE, device=device)
        self.mask = torch.zeros(num_envs, num_slots, dtype=torch.bool, device=device)
        self.next_index = 0

    @property
    def num_slots(self) -> int:
        """Slots of the ring."""
        return len(self.slots)

    def insert(self, mono: Tensor, pose: Tensor, not_done: Tensor) -> None:
        """Remember a second; the oldest is forgotten when the memory is full.

        Args:
            mono: Estimate of the separators, ``(B, F, T, 1)``.
            pose: ``(B, 4)``.
            not_done: 0 where the action after that second ended the episode: that memory is emptied, ``(B,)``.
        """
        index = self.next_index
        self.slots[index] = mono.flatten(1)
        self.poses[index] = pose
        self.mask[:, (index - self.capacity) % self.num_slots] = False
        self.mask[:, index] = True
        self.mask &= (not_done.reshape(-1, 1) > 0).to(self.mask.device)
        self.next_index = (index + 1) % self.num_slots

    def clear(self, envs: Tensor | slice = slice(None)) -> None:
        """Forget all seconds of some environments."""
        self.mask[envs] = False

    def ages(self) -> Tensor:
        """Return for each slot how many seconds ago it was written, the latest 0, ``(S,)``."""
        slots = torch.arange(self.num_slots, device=self.mask.device)
        return (self.next_index - 1 - slots) % self.num_slots

    def window(self, size: int = REFINED_PAST) -> Tensor:
        """Return which slots are filled and among the latest ``size``, ``(B, S)`` bool."""
        return self.mask & (self.ages() < size)

    def latest(self, size: int = REFINED_PAST) -> Tensor:
        """Return the slots of the latest ``size`` seconds in the order of time, filled or not, ``(size,)``."""
        back = torch.arange(min(size, self.num_slots), 0, -1, device=self.mask.device)
        return (self.next_index - back) % self.num_slots

    def state_dict(self) -> dict[str, Any]:
        """Return all that the buffer holds."""
        return {"slots": self.slots, "poses": self.poses, "mask": self.mask, "next_index": self.next_index}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned.

        Raises:
            UsageError: It is of another size.
        """
        for name in ("slots", "poses", "mask"):
            own = getattr(self, name)
            if own.shape != state[name].shape:
                usage_error(f"'{name}' of the memory buffer", got=list(state[name].shape), allowed=[list(own.shape)])
            own.copy_(state[name])
        self.next_index = int(state["next_index"])


def rollout_visibility(
    starts: Tensor, *, capacity: int = CAPACITY, refine: int = REFINED_PAST
) -> tuple[Tensor, Tensor]:
    """Return which seconds of a rollout the memory knows at each step, for a memory that is empty at its start.

    Args:
        starts: Where an episode begins, ``(steps, B)`` bool; the first step is one in any case.
        capacity: Earlier seconds that are remembered.
        refine: Earlier seconds that are refined.

    Returns:
        ``visible`` and ``wanted``, both ``(steps, B, steps)`` bool: the seconds known at a step and those refined
        there, the step itself among both.
    """
    episode = starts.long().cumsum(0)  # (steps, B)
    steps = torch.arange(len(starts), device=starts.device)
    age = (steps[:, None] - steps[None, :])[:, None, :]
    same = (episode[:, :, None] == episode.t()[None]) & (age >= 0)
    return same & (age <= capacity), same & (age <= min(refine, capacity))


def commit_schedule(num_steps: int, *, refine: int = REFINED_PAST) -> list[tuple[int, list[int]]]:
    """Return when the estimates of an episode become final.

    Args:
        num_steps: Steps of the episode.
        refine: Earlier seconds that are refined.

    Returns:
        Pairs of a step and the steps whose refined estimate of that moment is the last: step ``s`` is final at step
        ``s + refine``, or at the last step.
    """
    last = num_steps - 1
    schedule = [(step, [step - refine]) for step in range(refine, last)]
    return [*schedule, (last, list(range(max(last - refine, 0), num_steps)))] if num_steps else []
