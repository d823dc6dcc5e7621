# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The grid that an agent walks on: nodes one metre apart, four headings, moves and shortest ways.

Positions are in the habitat frame: +Y up, -Z ahead at rotation 0, +X right. ``rotation`` counts counter-clockwise
about +Y in degrees, one of 0, 90, 180, 270. ``orientation`` is the direction of view measured as atan2(dz, dx), and
``azimuth`` is what the folders of impulse responses are named by, clockwise from mesh +Y.
"""

import collections
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from espnet_av.activesep.safe_pickle import GraphRecord, read_pickle
from espnet_av.utils.errors import DataError, MissingDataError, describe

ROTATIONS = (0, 90, 180, 270)
EYE_HEIGHT = 1.5  # metres that points.txt lies above the floor
FORWARD, LEFT, RIGHT, STAY = range(4)  # actions; policies have the first three
NEAR = 0.01  # metres within which a position is that of a node


def azimuth_of(rotation: int) -> int:
    """Return the azimuth of a rotation (degrees)."""
    return -rotation % 360


def orientation_of(rotation: int) -> int:
    """Return the direction of view of a rotation as atan2(dz, dx) in degrees."""
    return (270 - rotation) % 360


def rotation_of(quaternion: Sequence[float]) -> int:
    """Return the rotation nearest to a quaternion about +Y.

    Args:
        quaternion: ``(x, y, z, w)`` of either sign; the published programs decode only those with y >= 0 rightly.
    """
    angle = math.degrees(2 * math.atan2(quaternion[1], quaternion[3]))
    return int(round(angle / 90) * 90) % 360


def quaternion_of(rotation: int) -> list[float]:
    """Return the quaternion ``[x, y, z, w]`` of a rotation, with y >= 0 as published programs need it."""
    half = math.radians(rotation % 360) / 2
    return [0.0, math.sin(half), 0.0, math.cos(half)]


def read_points(path: str | os.PathLike) -> np.ndarray:
    """Read ``points.txt``: lines ``index x y z`` in the mesh frame (z up, y ahead).

    Returns:
        float64 ``(n, 3)`` in the habitat frame, at floor height.

    Raises:
        MissingDataError: There is no such file.
        DataError: A line is malformed, or the indices do not count up from 0.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(describe("a scene has no list of points", got=str(path)))
    points: list[tuple[float, float, float]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            index, x, y, z = line.split()
            if int(index) != len(points):
                raise ValueError(f"index {index} where {len(points)} was due")
            points.append((float(x), float(z) - EYE_HEIGHT, -float(y)))
        except ValueError as error:
            raise DataError(describe(f"{path}:{number}: malformed point ({error})", got=line[:80])) from error
    return np.array(points, dtype=np.float64).reshape(-1, 3)


def write_points(path: str | os.PathLike, points: np.ndarray) -> None:
    """Write ``points.txt`` from positions ``(n, 3)`` in the habitat frame."""
    lines = [f"{i}\t{x:.6f}\t{-z + 0.0:.6f}\t{y + EYE_HEIGHT:.6f}\n" for i, (x, y, z) in enumerate(points)]
    Path(path).write_text("".join(lines), encoding="utf-8")


class NavigationGraph:
    """Nodes, their neighbours and what a step ahead leads to.

    Args:
        positions: Node -> position (3,) in metres, habitat frame.
        neighbours: Node -> its neighbours, in the order in which a step ahead looks for one.
        allow_diagonal: Also step to a neighbour 45 degrees off the direction of view, as the reference does.
    """

    def __init__(
        self,
        positions: Mapping[int, Sequence[float] | np.ndarray],
        neighbours: Mapping[int, Iterable[int]],
        *,
        allow_diagonal: bool = False,
    ) -> None:
        self.positions = {int(node): np.asarray(position, dtype=np.float64) for node, position in positions.items()}
        self.neighbours = {int(node): tuple(int(other) for other in others) for node, others in neighbours.items()}
        self.nodes = tuple(self.positions)
        lost = [
            node
            for node, others in self.neighbours.items()
            if node not in self.positions or set(others) - set(self.positions)
        ]
        if lost:
            raise DataError(describe("the graph has edges to nodes without a position", got=lost[:5]))
        self._places = np.array([self.positions[node] for node in self.nodes]).reshape(-1, 3)
        self._ahead = {
            (node, rotation): self._find_ahead(node, orientation_of(rotation), allow_diagonal)
            for node in self.nodes
            for rotation in ROTATIONS
        }
        self._steps: dict[int, dict[int, int]] = {}

    def _find_ahead(self, node: int, orientation: int, allow_diagonal: bool) -> int:
        x, _, z = self.positions[node]
        for other in self.neighbours.get(node, ()):
            x_other, _, z_other = self.positions[other]
            direction = round(math.degrees(math.atan2(z_other - z, x_other - x))) % 360
            if direction == orientation or (allow_diagonal and abs(direction - orientation) == 45):
                return other
        return node

    def __len__(self) -> int:
        return len(self.nodes)

    def __contains__(self, node: object) -> bool:
        return node in self.positions

    def step_ahead(self, node: int, rotation: int) -> int:
        """Return the node that a step ahead leads to: ``node`` itself where there is no way."""
        return self._ahead[node, rotation]

    def node_at(self, position: Sequence[float]) -> int | None:
        """Return the nearest node when it lies within 1 cm of a position in every direction, else None."""
        if not self.nodes:
            return None
        offsets = np.abs(self._places - np.asarray(position, dtype=np.float64)).max(axis=1)
        nearest = int(offsets.argmin())
        return self.nodes[nearest] if offsets[nearest] <= NEAR + 1e-9 else None

    def steps_from(self, node: int) -> Mapping[int, int]:
        """Return how many steps every reachable node is away from ``node``."""
        if node not in self._steps:
            steps, pending = {node: 0}, collections.deque([node])
            while pending:
                here = pending.popleft()
                for other in self.neighbours.get(here, ()):
                    if other not in steps:
                        steps[other] = steps[here] + 1
                        pending.append(other)
            self._steps[node] = steps
        return self._steps[node]

    def distance(self, node: int, other: int) -> float:
        """Return the number of steps between two nodes, infinity where there is no way."""
        return float(self.steps_from(node).get(other, math.inf))


def turn_towards(rotation: int, wanted: int) -> int:
    """Return the action that turns one rotation (degrees) into another by the shorter way; staying where they agree."""
    difference = (wanted - rotation) % 360
    return STAY if difference == 0 else RIGHT if difference == 270 else LEFT


def step_of_way(graph: NavigationGraph, node: int, rotation: int, target: int) -> int:
    """Return the next action on a shortest way to ``target``; of several ways that with the fewest turns."""
    left = graph.distance(node, target)
    if node == target or not math.isfinite(left):
        return STAY
    for turn in (0, 90, 270, 180):
        wanted = (rotation + turn) % 360
        if graph.distance(graph.step_ahead(node, wanted), target) < left:
            return FORWARD if turn == 0 else turn_towards(rotation, wanted)
    return STAY  # the way leads over an edge that no quarter turn faces


def graph_from_record(record: object, name: str = "graph", *, allow_diagonal: bool = False) -> NavigationGraph:
    """Make a graph of an unpickled ``networkx.Graph``.

    Raises:
        DataError: It holds something else, or a node without ``point``.
    """
    if not isinstance(record, GraphRecord) or not hasattr(record, "_node") or not hasattr(record, "_adj"):
        raise DataError(describe(f"{name} holds no networkx.Graph", got=type(record).__name__))
    try:
        positions = {int(node): tuple(map(float, attributes["point"])) for node, attributes in record._node.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(describe(f"{name} has a node without attribute 'point' ({error})")) from error
    neighbours = {int(node): [int(other) for other in others] for node, others in record._adj.items()}
    return NavigationGraph(positions, neighbours, allow_diagonal=allow_diagonal)


def read_graph(path: str | os.PathLike, *, allow_diagonal: bool = False) -> NavigationGraph:
    """Read ``graph.pkl``, a pickled ``networkx.Graph`` of any version from 2.2, without importing networkx."""
    return graph_from_record(read_pickle(path), str(path), allow_diagonal=allow_diagonal)
