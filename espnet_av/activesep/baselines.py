# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What a learned policy is compared with: fixed ways to move, and estimates that need no agent.

Movers share separators and memory with the policy; only the motion differs. Those that know where the target is
(``doa``, ``proximity``, ``approach``) say what motion alone could gain. The trained baselines are policies of other
rewards (:data:`espnet_av.activesep.reward.REWARDS`) and need no code here.
"""

import abc
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from espnet_av.activesep.evaluate import Estimator, Move, Mover
from espnet_av.activesep.graph import FORWARD, LEFT, RIGHT, STAY, NavigationGraph, step_of_way, turn_towards
from espnet_av.activesep.rollout_buffers import Sensed
from espnet_av.activesep.scene import Scenes
from espnet_av.activesep.separators import Separation
from espnet_av.activesep.spectra import TARGET_RMS
from espnet_av.utils.errors import usage_error

NUM_ACTIONS = 3  # of the policy, without staying
PROXIMITY_RADIUS = 2  # steps


def facing(graph: NavigationGraph, node: int, other: int) -> int:
    """Return the rotation from which ``other`` lies ahead of ``node``, to the nearest quarter turn."""
    x, _, z = graph.positions[other] - graph.positions[node]
    orientation = round(math.degrees(math.atan2(z, x)) / 90) * 90
    return (270 - orientation) % 360


def stand(move: Move) -> np.ndarray:
    """Hold the first pose."""
    return np.full(len(move.episodes), STAY)


def rotate(move: Move) -> np.ndarray:
    """Turn left at every step."""
    return np.full(len(move.episodes), LEFT)


def random_walk(move: Move) -> np.ndarray:
    """Take each of the policy's actions with the same probability."""
    return np.minimum((np.asarray(move.draw) * NUM_ACTIONS).astype(int), NUM_ACTIONS - 1)


class GraphMover(abc.ABC):
    """A mover that knows the map and where the target is.

    Args:
        scenes: Scene name -> :class:`SceneStore`.
    """

    def __init__(self, scenes: Scenes) -> None:
        self.scenes = scenes

    def __call__(self, move: Move) -> np.ndarray:
        """Return the actions ``(B,)``."""
        actions = []
        for env, episode in enumerate(move.episodes):
            store = self.scenes[str(move.infos["scene"][env])]
            target = store.node_at(episode.goals[0]) if episode.scene == store.name else None
            if target is None:  # an environment without an episode of its own
                actions.append(STAY)
                continue
            node, rotation = int(move.infos["node"][env]), int(move.infos["rotation"][env])
            actions.append(self.act(store.graph, node, rotation, target, float(move.draw[env])))
        return np.array(actions)

    @abc.abstractmethod
    def act(self, graph: NavigationGraph, node: int, rotation: int, target: int, draw: float) -> int:
        """Return one action; ``draw`` is a number in [0, 1)."""


class DirectionOfArrival(GraphMover):
    """Step off the target where it starts there, then face the target and stay."""

    def act(self, graph: NavigationGraph, node: int, rotation: int, target: int, draw: float) -> int:
        """See :meth:`GraphMover.act`."""
        if node != target:
            return turn_towards(rotation, facing(graph, node, target))
        for turn in (0, 90, 270, 180):
            if graph.step_ahead(node, (rotation + turn) % 360) != node:
                return FORWARD if turn == 0 else turn_towards(rotation, (rotation + turn) % 360)
        return STAY


class Proximity(GraphMover):
    """Walk at random no further than a few steps from the target; walk there first.

    Args:
        scenes: Scene name -> :class:`SceneStore`.
        radius: Steps.
    """

    def __init__(self, scenes: Scenes, radius: int = PROXIMITY_RADIUS) -> None:
        super().__init__(scenes)
        self.radius = radius

    def act(self, graph: NavigationGraph, node: int, rotation: int, target: int, draw: float) -> int:
        """See :meth:`GraphMover.act`."""
        if graph.distance(node, target) > self.radius:
            return step_of_way(graph, node, rotation, target)
        ahead = graph.step_ahead(node, rotation)
        free = ahead != node and graph.distance(ahead, target) <= self.radius
        choices = [*([FORWARD] if free else []), LEFT, RIGHT]
        return choices[min(int(draw * len(choices)), len(choices) - 1)]


class Approach(GraphMover):
    """Walk to the target by a shortest way and stay there."""

    def act(self, graph: NavigationGraph, node: int, rotation: int, target: int, draw: float) -> int:
        """See :meth:`GraphMover.act`."""
        return step_of_way(graph, node, rotation, target)


#: Name -> what makes the mover of some scenes.
MOVERS: dict[str, Callable[[Scenes], Mover]] = {
    "stand": lambda scenes: stand,
    "rotate": lambda scenes: rotate,
    "random": lambda scenes: random_walk,
    "doa": DirectionOfArrival,
    "proximity": Proximity,
    "approach": Approach,
}


def make_mover(name: str, scenes: Scenes) -> Mover:
    """Return a mover by its name.

    Raises:
        UsageError: There is none of that name.
    """
    if name not in MOVERS:
        usage_error("unknown mover", got=name, allowed=list(MOVERS))
    return MOVERS[name](scenes)


def to_target_level(magnitude: Tensor) -> Tensor:
    """Scale magnitudes ``(B, F, T, 1)`` to the root mean square that targets have; zeros stay zeros."""
    rms = magnitude.square().mean((1, 2, 3), keepdim=True).sqrt()
    return magnitude * torch.where(rms > 0, TARGET_RMS / rms.clamp_min(1e-12), torch.zeros_like(rms))


def zero(sensed: Sensed, separation: Separation) -> Tensor:
    """Estimate silence; its STFT distance is 0.72."""
    return torch.zeros_like(sensed.target)


def mixture(sensed: Sensed, separation: Separation) -> Tensor:
    """Estimate what is heard, the mean of the ears."""
    return to_target_level(torch.expm1(sensed.mixed).mean(-1, keepdim=True))


def oracle_ears(sensed: Sensed, separation: Separation) -> Tensor:
    """Estimate the target as it arrives at the ears, with the room and without the others."""
    return to_target_level(sensed.target_ears.mean(-1, keepdim=True))


#: Name -> estimate that is measured beside those of the agent.
ESTIMATORS: dict[str, Estimator] = {"zero": zero, "mixture": mixture, "oracle_ears": oracle_ears}
