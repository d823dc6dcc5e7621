# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A scene as a habitat ``Simulator``, for programs that are written against habitat-lab.

habitat-lab is not a dependency: it needs an environment of its own (NumPy 1.26, gym) and is imported only here, when a
simulator is asked for. Nothing of habitat-sim is needed, as all that is seen and heard comes from the scene.

    simulator = make_simulator(store)          # a subclass of habitat.core.simulator.Simulator
    simulator = SceneSimulator(store)          # the same methods without habitat
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from espnet_av.activesep.graph import azimuth_of, quaternion_of, rotation_of
from espnet_av.activesep.scene import SceneStore
from espnet_av.utils.errors import DataError, EnvironmentProblem, describe, usage_error

ACTIONS = ("MOVE_FORWARD", "TURN_LEFT", "TURN_RIGHT")


@dataclass
class AgentState:
    """Where the agent is.

    Attributes:
        position: (3,) metres, habitat frame.
        rotation: Quaternion (x, y, z, w).
        sensor_states: Empty; programs look for it.
    """

    position: np.ndarray
    rotation: np.ndarray
    sensor_states: dict[str, Any] = field(default_factory=dict)


class SceneSimulator:
    """The methods of a habitat simulator that tasks on a graph use.

    Args:
        store: The scene.
        node: Where the agent starts; the first node when None.
        rotation: Where it looks.
    """

    def __init__(self, store: SceneStore, *, node: int | None = None, rotation: int = 0) -> None:
        self.store = store
        self.node = store.graph.nodes[0] if node is None else node
        self.rotation = rotation

    def reset(self) -> dict[str, np.ndarray]:
        """Return the observation at the present place."""
        return self.get_observations_at()

    def step(self, action: int | str, *args: Any, **kwargs: Any) -> dict[str, np.ndarray]:
        """Move and return the observation.

        Args:
            action: Index or name of :data:`ACTIONS`.
            *args: Taken and not used, as habitat passes more.
            **kwargs: As ``args``.
        """
        name = ACTIONS[action] if isinstance(action, (int, np.integer)) and 0 <= action < len(ACTIONS) else action
        if name == "MOVE_FORWARD":
            self.node = self.store.graph.step_ahead(self.node, self.rotation)
        elif name in ACTIONS:
            self.rotation = (self.rotation + (90 if name == "TURN_LEFT" else -90)) % 360
        else:
            usage_error("unknown action", got=action, allowed=ACTIONS)
        return self.get_observations_at()

    def seed(self, seed: int) -> None:
        """Do nothing: the scene holds no chance."""

    def get_agent_state(self, agent_id: int = 0) -> AgentState:
        """Return where the agent is."""
        position = self.store.graph.positions[self.node].astype(np.float32)
        return AgentState(position, np.array(quaternion_of(self.rotation), dtype=np.float32))

    def set_agent_state(
        self, position: Sequence[float], rotation: Sequence[float], agent_id: int = 0, reset_sensors: bool = True
    ) -> bool:
        """Put the agent on a node; return False where there is none within 1 cm."""
        node = self.store.node_at(position)
        if node is None:
            return False
        self.node, self.rotation = node, rotation_of(rotation)
        return True

    def get_observations_at(
        self,
        position: Sequence[float] | None = None,
        rotation: Sequence[float] | None = None,
        keep_agent_at_new_pose: bool = False,
    ) -> dict[str, np.ndarray]:
        """Return ``rgb`` and ``depth`` at the present place, or at another one.

        Raises:
            DataError: There is no node at ``position``.
        """
        node = self.node
        if position is not None:
            found = self.store.node_at(position)
            if found is None:
                allowed = "within 1 cm of a node"
                raise DataError(describe("no node at this position", got=list(position), allowed=allowed))
            node = found
        turned = self.rotation if rotation is None else rotation_of(rotation)
        if keep_agent_at_new_pose:
            self.node, self.rotation = node, turned
        return dict(self.store.observation(node, turned))

    def sample_navigable_point(self) -> list[float]:
        """Return the position of a node by chance (NumPy's global state, as habitat seeds it)."""
        nodes = self.store.graph.nodes
        return self.store.graph.positions[nodes[np.random.randint(len(nodes))]].tolist()

    def is_navigable(self, point: Sequence[float]) -> bool:
        """Return whether there is a node within 1 cm."""
        return self.store.node_at(point) is not None

    def geodesic_distance(self, position_a: Sequence[float], position_b: Any, episode: Any = None) -> float:
        """Return the number of steps between two positions, or to the nearest of several; infinity off the graph."""
        several = np.atleast_2d(np.asarray(position_b, dtype=np.float64))
        start, ends = self.store.node_at(position_a), [self.store.node_at(end) for end in several]
        if start is None:
            return float("inf")
        return min((self.store.graph.distance(start, end) for end in ends if end is not None), default=float("inf"))

    def rir(self, source: int) -> np.ndarray:
        """Return the impulse response from a node to the present place, float32 ``(L, 2)``."""
        return self.store.rir(azimuth_of(self.rotation), self.node, source)

    def close(self) -> None:
        """Do nothing: nothing is held."""


def make_simulator(store: SceneStore, **options: Any) -> Any:
    """Return the scene as a subclass of habitat-lab's ``Simulator``.

    Args:
        store: The scene.
        **options: Keywords of :class:`SceneSimulator`.

    Raises:
        EnvironmentProblem: habitat-lab is not installed.
    """
    try:
        simulator = importlib.import_module("habitat.core.simulator")
    except ImportError as error:
        raise EnvironmentProblem(
            describe(
                f"habitat-lab is needed here ({error})",
                fix="install habitat-lab into an environment of its own (it wants NumPy 1.26), or use SceneSimulator",
            )
        ) from error

    base: Any = simulator.Simulator

    class HabitatScene(SceneSimulator, base):
        """A scene that habitat-lab takes as its simulator."""

    return HabitatScene(store, **options)
