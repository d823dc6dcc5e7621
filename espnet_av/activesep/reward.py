# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What an action is worth: quality of the next estimate, or what the baselines strive for.

    reward = make_reward("near_target")
    reward.start(facts)              # of the first observation of all environments
    value = reward(facts)            # of the observation after an action

Where the action ended the episode, the observation belongs to the next one: the reward is 0, and what is remembered
begins anew with it.

Axes: ``B`` environments, ``F`` 512 bins, ``T`` 32 frames.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from espnet_av.activesep.spectra import TARGET_RMS
from espnet_av.utils.errors import usage_error

T = TypeVar("T")
#: Mean square of a normalised target: dividing by it gives the normalised error, and -1 for an estimate of all zeros.
TARGET_POWER = TARGET_RMS**2


@dataclass(frozen=True)
class Facts:
    """What is known about an observation.

    Attributes:
        estimate: Refined magnitude of its second, ``(B, F, T, 1)``.
        target: Normalised magnitude, ``(B, F, T, 1)``.
        not_done: 0 where the action before it ended the episode, ``(B,)``.
        distance: Metres along the graph to the target, ``(B,)``.
        places: Where each agent stands: anything that names scene and node.
    """

    not_done: Tensor
    estimate: Tensor | None = None
    target: Tensor | None = None
    distance: Tensor | None = None
    places: Sequence[Hashable] | None = None


def _known(fact: T | None, name: str) -> T:
    """Return a fact that a reward has among its ``needs``."""
    if fact is None:
        usage_error("the reward needs a fact that is not given", got=name)
    return fact


def mean_square_error(estimate: Tensor, target: Tensor) -> Tensor:
    """Return the mean square of the difference of magnitudes, ``(B, F, T, 1)`` -> ``(B,)``."""
    return (estimate.float() - target.float()).square().flatten(1).mean(1)


def near_target_reward(estimate: Tensor, target: Tensor, not_done: Tensor) -> Tensor:
    """Return minus the normalised error of the second after the action, 0 where the action ended the episode.

    Args:
        estimate: Refined magnitude of the second after the action, ``(B, F, T, 1)``.
        target: Its normalised magnitude, ``(B, F, T, 1)``.
        not_done: 0 where the action ended the episode, ``(B,)``.

    Returns:
        ``(B,)``, at most 0; -1 for an estimate of all zeros.
    """
    return -mean_square_error(estimate, target) / TARGET_POWER * not_done.reshape(-1)


class Reward:
    """A reward and what it remembers of the episodes. The base class gives 0.

    Attributes:
        needs: Attributes of :class:`Facts` that it reads.
    """

    needs: tuple[str, ...] = ()

    def start(self, facts: Facts) -> None:
        """Take note of the first observations."""

    def __call__(self, facts: Facts) -> Tensor:
        """Return the rewards ``(B,)`` of the actions that led to an observation."""
        return torch.zeros_like(facts.not_done.reshape(-1).float())

    def state_dict(self) -> dict[str, Any]:
        """Return what it remembers, as tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""


class NearTargetReward(Reward):
    """Quality of the refined estimate of the second after the action; see :func:`near_target_reward`."""

    needs = ("estimate", "target")

    def __call__(self, facts: Facts) -> Tensor:
        """Return minus the normalised errors, ``(B,)``."""
        estimate, target = _known(facts.estimate, "estimate"), _known(facts.target, "target")
        return near_target_reward(estimate, target, facts.not_done)


class ImprovementReward(Reward):
    """Improvement of quality by the action, of Move2Hear (Majumder et al., ICCV 2021).

    Quality is minus the error divided by the mean square of the target. The last rewarded action also gets the final
    quality, which counts ten times.

    Args:
        num_steps: Steps of an episode; its last action is not rewarded, the one before is the last rewarded.
        final_weight: Of the final quality.
        twice_quirk: Add the final quality twice and leave the improvement out, as the original program does.
    """

    needs = ("estimate", "target")

    def __init__(self, num_steps: int = 20, *, final_weight: float = 10.0, twice_quirk: bool = False) -> None:
        self.num_steps, self.final_weight, self.twice_quirk = num_steps, final_weight, twice_quirk
        self.quality: Tensor = torch.zeros(0)
        self.steps: Tensor = torch.zeros(0)

    def _quality(self, facts: Facts) -> Tensor:
        estimate, target = _known(facts.estimate, "estimate"), _known(facts.target, "target")
        power = target.float().square().flatten(1).mean(1)
        error = mean_square_error(estimate, target)
        return -error / torch.where(power > 0, power, torch.full_like(power, TARGET_POWER))

    def start(self, facts: Facts) -> None:
        """Take note of the quality before the first action."""
        self.quality = self._quality(facts)
        self.steps = torch.zeros_like(self.quality)

    def __call__(self, facts: Facts) -> Tensor:
        """Return improvements, ``(B,)``."""
        not_done = facts.not_done.reshape(-1).to(self.quality)
        quality = self._quality(facts)
        self.steps = (self.steps + 1) * not_done
        reward = quality - self.quality
        final = self.steps == self.num_steps - 1
        last = 2 * self.final_weight * quality if self.twice_quirk else reward + self.final_weight * quality
        self.quality = quality
        return torch.where(final, last, reward) * not_done

    def state_dict(self) -> dict[str, Any]:
        """Return quality and number of steps of each environment."""
        return {"quality": self.quality, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        self.quality, self.steps = state["quality"], state["steps"]


class NavigationReward(Reward):
    """Metres that the action brought the agent nearer to the target, as of audio-visual navigation.

    Args:
        slack: Added to each reward, per step.
        scale: Of the distance.
    """

    needs = ("distance",)

    def __init__(self, *, slack: float = -0.01, scale: float = 1.0) -> None:
        self.slack, self.scale = slack, scale
        self.distance: Tensor = torch.zeros(0)

    def start(self, facts: Facts) -> None:
        """Take note of the distance before the first action."""
        self.distance = _known(facts.distance, "distance").reshape(-1).float()

    def __call__(self, facts: Facts) -> Tensor:
        """Return the distance gained, ``(B,)``."""
        distance = _known(facts.distance, "distance").reshape(-1).float()
        gained, self.distance = self.distance - distance, distance
        return (self.scale * gained + self.slack) * facts.not_done.reshape(-1).to(gained)

    def state_dict(self) -> dict[str, Any]:
        """Return the distance of each environment."""
        return {"distance": self.distance}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        self.distance = state["distance"]


class NoveltyReward(Reward):
    """One by the root of how often the agent has stood there in this episode, this time included."""

    needs = ("places",)

    def __init__(self) -> None:
        self.counts: list[dict[str, int]] = []

    def _visit(self, env: int, place: Hashable) -> int:
        counts = self.counts[env]
        counts[str(place)] = counts.get(str(place), 0) + 1
        return counts[str(place)]

    def start(self, facts: Facts) -> None:
        """Count the places before the first action."""
        places = _known(facts.places, "places")
        self.counts = [{} for _ in places]
        for env, place in enumerate(places):
            self._visit(env, place)

    def __call__(self, facts: Facts) -> Tensor:
        """Return the bonuses, ``(B,)``."""
        places, alive = _known(facts.places, "places"), facts.not_done.reshape(-1) > 0
        bonus = []
        for env, (place, lives) in enumerate(zip(places, alive.tolist(), strict=True)):
            if not lives:
                self.counts[env] = {}
            visits = self._visit(env, place)
            bonus.append(visits**-0.5 if lives else 0.0)
        return torch.tensor(bonus, device=alive.device)

    def state_dict(self) -> dict[str, Any]:
        """Return the visits of each environment."""
        return {"counts": [dict(counts) for counts in self.counts]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        self.counts = [dict(counts) for counts in state["counts"]]


REWARDS: dict[str, Callable[..., Reward]] = {
    "near_target": NearTargetReward,
    "improvement": ImprovementReward,
    "navigation": NavigationReward,
    "novelty": NoveltyReward,
}


def make_reward(name: str, **keywords: object) -> Reward:
    """Return a reward by its name.

    Raises:
        UsageError: There is none of that name.
    """
    if name not in REWARDS:
        usage_error("unknown reward", got=name, allowed=list(REWARDS))
    return REWARDS[name](**keywords)
