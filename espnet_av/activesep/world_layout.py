# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Floor plans of generated houses: rooms on a one-metre grid, doors between them, furniture, materials.

Everything here is in the mesh frame, metres: x to the right, y ahead, z up; the floor is at z = 0. A cell (i, j) is the
square metre around (i, j), so walls lie at half metres and the nodes of the graph at whole ones.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.activesep.graph import NavigationGraph
from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error
from espnet_av.utils.files import atomic_write

FORMAT = 1
Cell = tuple[int, int]
_TRIES = 200


@dataclass(frozen=True)
class Room:
    """A box with a floor of whole cells.

    Attributes:
        low: Smallest cell; ``high`` is the largest, both inside.
        high: See ``low``.
        height: Metres.
        absorption: Share of sound energy that a surface takes.
        colour: Of the walls, RGB 0 to 255.
        floor: Of the floor, RGB 0 to 255.
    """

    low: Cell
    high: Cell
    height: float
    absorption: float
    colour: tuple[int, int, int]
    floor: tuple[int, int, int]

    @property
    def size(self) -> tuple[float, float, float]:
        """Return width, depth and height in metres."""
        return self.high[0] - self.low[0] + 1.0, self.high[1] - self.low[1] + 1.0, self.height

    @property
    def corner(self) -> tuple[float, float]:
        """Return the corner with the smallest coordinates."""
        return self.low[0] - 0.5, self.low[1] - 0.5

    def __contains__(self, cell: Cell) -> bool:
        i, j = cell
        return self.low[0] <= i <= self.high[0] and self.low[1] <= j <= self.high[1]

    def cells(self) -> list[Cell]:
        """Return all cells."""
        return [(i, j) for i in range(self.low[0], self.high[0] + 1) for j in range(self.low[1], self.high[1] + 1)]

    def reverberation_sec(self) -> float:
        """Return the reverberation time by Sabine's formula."""
        width, depth, height = self.size
        surface = 2 * (width * depth + depth * height + width * height)
        return 0.161 * width * depth * height / (surface * self.absorption)


@dataclass(frozen=True)
class Door:
    """An opening in the wall between two neighbouring cells of different rooms.

    Attributes:
        rooms: Indices of the rooms, of the cell with the smaller coordinates first.
        cells: The two cells.
        width: Metres.
        height: Metres.
    """

    rooms: tuple[int, int]
    cells: tuple[Cell, Cell]
    width: float = 0.9
    height: float = 2.1

    @property
    def axis(self) -> int:
        """Return the axis across the wall: 0 for x, 1 for y."""
        return 0 if self.cells[0][1] == self.cells[1][1] else 1

    @property
    def centre(self) -> tuple[float, float]:
        """Return the middle of the opening."""
        (i, j), (k, m) = self.cells
        return (i + k) / 2, (j + m) / 2


@dataclass(frozen=True)
class Furniture:
    """A box that stands on one cell: nobody can walk there.

    Attributes:
        cell: Where it stands.
        size: Width, depth and height in metres.
        colour: RGB 0 to 255.
    """

    cell: Cell
    size: tuple[float, float, float]
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class World:
    """A house.

    Attributes:
        name: Of the scene.
        seed: What it was drawn from.
        rooms: The rooms.
        doors: Between them.
        furniture: In them.
        sources: Nodes at which something may sound.
        num_taps: Length of impulse responses in samples.
        image_order: Of reflections that are computed one by one.
        ears: ``kemar`` or ``sphere``.
        image_size: Width and height of images in pixels.
    """

    name: str
    seed: int
    rooms: tuple[Room, ...]
    doors: tuple[Door, ...]
    furniture: tuple[Furniture, ...]
    sources: tuple[int, ...] = ()
    num_taps: int = 4000
    image_order: int = 4
    ears: str = "sphere"
    image_size: int = 128
    cells: tuple[Cell, ...] = field(init=False)

    def __post_init__(self) -> None:
        cells = [cell for room in self.rooms for cell in room.cells()]
        object.__setattr__(self, "cells", tuple(sorted(cells, key=lambda cell: (cell[1], cell[0]))))

    @property
    def points(self) -> np.ndarray:
        """Return all points, those under furniture too: (n, 3) metres, habitat frame, at floor height."""
        return np.array([(i, 0.0, -j + 0.0) for i, j in self.cells], dtype=np.float64).reshape(-1, 3)

    def room_of(self, cell: Cell) -> int:
        """Return the index of the room of a cell."""
        return next(index for index, room in enumerate(self.rooms) if cell in room)

    def graph(self) -> NavigationGraph:
        """Return where one can walk: all cells but those under furniture; through walls only by doors."""
        blocked = {piece.cell for piece in self.furniture}
        node_of = {cell: index for index, cell in enumerate(self.cells) if cell not in blocked}
        passages = {frozenset(door.cells) for door in self.doors}
        room = {cell: self.room_of(cell) for cell in node_of}
        points, neighbours = self.points, {}
        for (i, j), node in node_of.items():
            around = [cell for cell in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)) if cell in node_of]
            neighbours[node] = [
                node_of[cell] for cell in around if room[cell] == room[i, j] or frozenset([(i, j), cell]) in passages
            ]
        return NavigationGraph({node: points[node] for node in node_of.values()}, neighbours)

    def write(self, path: str | os.PathLike) -> None:
        """Write the plan as JSON."""
        found = {"format": FORMAT, **asdict(self)}
        found.pop("cells")
        with atomic_write(path) as stream:
            json.dump(found, stream, indent=1)

    @classmethod
    def read(cls, path: str | os.PathLike) -> "World":
        """Read a plan of :meth:`write`.

        Raises:
            MissingDataError: There is no such file.
            DataError: It holds something else.
        """
        path = Path(path)
        if not path.is_file():
            raise MissingDataError(describe("no such plan of a world", got=str(path), fix="generate the world"))
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found.pop("format") != FORMAT:
                raise DataError(describe(f"{path}: unknown format", allowed=FORMAT, fix="generate the world again"))
            for key, kind in (("rooms", Room), ("doors", Door), ("furniture", Furniture)):
                found[key] = tuple(kind(**_tuples(item)) for item in found[key])
            return cls(**{**found, "sources": tuple(found["sources"])})
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise DataError(describe(f"{path} holds no plan of a world ({error!r})")) from error


def _tuples(value: Any) -> Any:
    """Turn lists of JSON into tuples, below a dictionary too."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


@dataclass(frozen=True)
class LayoutRules:
    """What houses are like.

    Attributes:
        width: Of the house in metres.
        depth: Of the house in metres.
        num_rooms: How many rooms.
        min_room: Smallest side of a room in metres.
        extra_doors: Doors beyond those that connect all rooms, where walls allow.
        furniture_share: Share of cells under furniture.
        absorption: Range of the absorption of rooms.
        num_sources: Nodes at which something may sound, spread over the house; 0 takes all.
    """

    width: int = 8
    depth: int = 6
    num_rooms: int = 4
    min_room: int = 2
    extra_doors: int = 1
    furniture_share: float = 0.1
    absorption: tuple[float, float] = (0.25, 0.45)
    num_sources: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.num_rooms <= 12 or min(self.width, self.depth) < self.min_room or self.min_room < 1:
            usage_error("wrong rules of a house", got=self, allowed="1 to 12 rooms, sides of min_room or more")


_WALLS = ((214, 188, 150), (150, 182, 206), (176, 204, 160), (212, 160, 150), (196, 176, 214), (224, 206, 130))
_FLOORS = ((128, 96, 66), (110, 110, 116), (150, 128, 96), (92, 84, 100))


def draw_world(name: str, seed: int, rules: LayoutRules | None = None, **options: Any) -> World:
    """Draw a house.

    Args:
        name: Of the scene.
        seed: Of chance.
        rules: What it is like.
        **options: Further fields of :class:`World`.

    Raises:
        UsageError: No house fits the rules.
    """
    rules = rules or LayoutRules()
    rng = np.random.default_rng([seed, 7])
    for _ in range(_TRIES):
        boxes = _cut(((0, 0), (rules.width - 1, rules.depth - 1)), rules, rng)
        if boxes is None:
            continue
        rooms = tuple(_make_room(box, index, rules, rng) for index, box in enumerate(boxes))
        doors = _draw_doors(rooms, rules.extra_doors, rng)
        if doors is None:
            continue
        world = World(name, seed, rooms, doors, _draw_furniture(rooms, doors, rules, rng), **options)
        graph = world.graph()
        if len(graph.steps_from(graph.nodes[0])) == len(graph):
            return World(
                *(name, seed, rooms, doors, world.furniture),
                **{"sources": _spread(graph, rules.num_sources or len(graph), rng), **options},
            )
    usage_error("no house fits these rules", got=rules, fix="take fewer rooms or a larger house")


def _cut(house: tuple[Cell, Cell], rules: LayoutRules, rng: np.random.Generator) -> list[tuple[Cell, Cell]] | None:
    """Cut the largest box in two until there are enough; None when none can be cut any more."""
    boxes = [house]
    while len(boxes) < rules.num_rooms:
        sizes = [(high[0] - low[0] + 1) * (high[1] - low[1] + 1) for low, high in boxes]
        low, high = boxes.pop(int(np.argmax(sizes)))
        sides = [high[k] - low[k] + 1 for k in (0, 1)]
        axis = int(sides[1] > sides[0]) if sides[0] != sides[1] else int(rng.integers(2))
        if sides[axis] < 2 * rules.min_room:
            return None
        first = int(rng.integers(rules.min_room, sides[axis] - rules.min_room + 1))
        end, start = list(high), list(low)
        end[axis], start[axis] = low[axis] + first - 1, low[axis] + first
        boxes += [(low, (end[0], end[1])), ((start[0], start[1]), high)]
    return boxes


def _make_room(box: tuple[Cell, Cell], index: int, rules: LayoutRules, rng: np.random.Generator) -> Room:
    colour = np.clip(np.array(_WALLS[index % len(_WALLS)]) + rng.integers(-14, 15, 3), 0, 255)
    floor = np.clip(np.array(_FLOORS[int(rng.integers(len(_FLOORS)))]) + rng.integers(-10, 11, 3), 0, 255)
    return Room(
        *box,
        height=round(float(rng.uniform(2.5, 2.9)), 2),
        absorption=round(float(rng.uniform(*rules.absorption)), 3),
        colour=tuple(colour.tolist()),
        floor=tuple(floor.tolist()),
    )


def _draw_doors(rooms: Sequence[Room], extra: int, rng: np.random.Generator) -> tuple[Door, ...] | None:
    """Connect all rooms by a random tree of doors, then add ``extra`` ones; None when they cannot be connected."""
    shared: dict[tuple[int, int], list[tuple[Cell, Cell]]] = {}
    for a, room in enumerate(rooms):
        for i, j in room.cells():
            for other in ((i + 1, j), (i, j + 1)):
                b = next((b for b, another in enumerate(rooms) if other in another), a)
                if b != a:
                    shared.setdefault((a, b), []).append(((i, j), other))
    pairs = [tuple(pair) for pair in rng.permutation(sorted(shared))] if shared else []
    group, doors, left = list(range(len(rooms))), [], []
    for a, b in pairs:
        if group[a] == group[b]:
            left.append((a, b))
            continue
        group = [group[a] if member == group[b] else member for member in group]
        doors.append(_make_door((a, b), shared[a, b], rng))
    if len(set(group)) > 1:
        return None
    return tuple(doors + [_make_door(pair, shared[pair], rng) for pair in left[:extra]])


def _make_door(pair: tuple[int, int], places: Sequence[tuple[Cell, Cell]], rng: np.random.Generator) -> Door:
    return Door((int(pair[0]), int(pair[1])), places[int(rng.integers(len(places)))])


def _draw_furniture(
    rooms: Sequence[Room], doors: Sequence[Door], rules: LayoutRules, rng: np.random.Generator
) -> tuple[Furniture, ...]:
    """Put boxes on cells along walls, never beside a door."""
    kept_free = {cell for door in doors for cell in door.cells}
    cells = [
        cell
        for room in rooms
        for cell in room.cells()
        if cell not in kept_free and (cell[0] in (room.low[0], room.high[0]) or cell[1] in (room.low[1], room.high[1]))
    ]
    wanted = round(rules.furniture_share * sum(len(room.cells()) for room in rooms))
    chosen = rng.permutation(len(cells))[:wanted]
    return tuple(
        Furniture(
            cells[int(index)],
            tuple(np.round(rng.uniform((0.6, 0.6, 0.4), (0.95, 0.95, 1.9)), 2).tolist()),
            tuple(rng.integers(40, 230, 3).tolist()),
        )
        for index in chosen
    )


def _spread(graph: NavigationGraph, count: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Choose nodes far from each other: each next one is the farthest from those chosen."""
    nodes = list(graph.nodes)
    if count >= len(nodes):
        return tuple(sorted(nodes))
    chosen = [nodes[int(rng.integers(len(nodes)))]]
    while len(chosen) < count:
        distance = [min(graph.distance(node, other) for other in chosen) for node in nodes]
        farthest = [node for node, steps in zip(nodes, distance, strict=True) if steps == max(distance)]
        chosen.append(farthest[int(rng.integers(len(farthest)))])
    return tuple(sorted(chosen))
