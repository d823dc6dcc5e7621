# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Running figures of the episodes of a training, under the names of the published curves.

Axes: ``B`` environments, ``R`` refined seconds, ``A`` actions, ``F`` 512 bins, ``T`` 32 frames.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from espnet_av.activesep.metrics import stft_l2, stft_l2_binaural

REWARD = "Environment/Reward"
LENGTH = "Environment/Episode_length"
L2 = "Environment/STFT_L2_loss/"


def stft_distance(estimate: Tensor, target: Tensor) -> Tensor:
    """Return the STFT distance of each second: twice ``(..., F, T, 1)`` -> ``(...)``."""
    return stft_l2(estimate.flatten(0, -4), target.flatten(0, -4)).reshape(estimate.shape[:-3])


class EpisodeFigures:
    """Sums over the running episode of each environment.

    Args:
        num_envs: Environments.
        num_actions: Actions.
        max_steps: Longest episode.
        device: Where the figures are collected.
    """

    def __init__(self, num_envs: int, num_actions: int, max_steps: int, device: torch.device | str = "cpu") -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(num_envs, *shape, device=device)

        self.state = {
            "steps": zeros().long(),
            "reward": zeros(),
            "probs": zeros(num_actions),
            "ears": zeros(),
            "mono": zeros(),
            "mono_last": zeros(),
            "refined": zeros(max_steps),  # of each second, its latest estimate
            "refined_last": zeros(),
        }

    def hear(self, mixed: Tensor, mask: Tensor, mono: Tensor, target_ears: Tensor, target: Tensor) -> None:
        """Take what the separators say about the present second.

        Args:
            mixed: ``log(1 + magnitude)`` of the mixture, ``(B, F, T, 2)``.
            mask: ``(B, F, T, 2)``.
            mono: ``(B, F, T, 1)``.
            target_ears: ``(B, F, T, 2)``.
            target: ``(B, F, T, 1)``.
        """
        self.state["ears"] += stft_l2_binaural(mixed, mask, target_ears)
        self.state["mono_last"] = stft_distance(mono, target)
        self.state["mono"] += self.state["mono_last"]

    def refine(self, refined: Tensor, targets: Tensor, exist: Tensor) -> None:
        """Take refined estimates, the present second last; each second keeps the latest.

        Args:
            refined: ``(R, B, F, T, 1)``.
            targets: ``(R, B, F, T, 1)``.
            exist: ``(B, R)`` bool.
        """
        distance = stft_distance(refined, targets).t()  # (B, R)
        counted = exist.to(distance)
        self.state["refined_last"] = (distance * counted).sum(-1) / counted.sum(-1)
        number = exist.shape[1]
        second = self.state["steps"][:, None] - torch.arange(number - 1, -1, -1, device=exist.device)
        env, place = exist.nonzero(as_tuple=True)
        self.state["refined"][env, second[env, place]] = distance[env, place]

    def act(self, probs: Tensor, rewards: Tensor) -> None:
        """Take the probabilities of the actions ``(B, A)`` and the rewards ``(B,)``; the second is over."""
        self.state["probs"] += probs
        self.state["reward"] += rewards
        self.state["steps"] += 1

    def end(self, done: Tensor) -> dict[str, tuple[float, float]]:
        """Return sums and counts of the episodes that ended, and start anew there.

        Args:
            done: ``(B,)`` bool.
        """
        if not bool(done.any()):
            return {}
        state = {name: value[done].double() for name, value in self.state.items()}
        steps = state["steps"]
        found = {
            REWARD: state["reward"],
            LENGTH: steps,
            f"{L2}mono_lastStep": state["mono_last"],
            f"{L2}mono_avgAllSteps": state["mono"] / steps,
            f"{L2}monoFromMem_lastStep": state["refined_last"],
            f"{L2}monoFromMem_avgAllSteps": state["refined"].sum(-1) / steps,
            f"{L2}bin_avgAllSteps": state["ears"] / steps,
        }
        for action in range(state["probs"].shape[1]):
            found[f"Policy/Action_prob_{action}"] = state["probs"][:, action] / steps
        for value in self.state.values():
            value[done] = 0
        return {name: (float(values.sum()), float(len(values))) for name, values in found.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the sums of the running episodes."""
        return dict(self.state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        for name, value in self.state.items():
            value.copy_(state[name])
