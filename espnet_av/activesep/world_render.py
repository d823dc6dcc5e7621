# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Images and depth of a generated house, by casting one ray per pixel at upright and level rectangles.

Frame as in :mod:`espnet_av.activesep.world_layout`: x right, y ahead, z up, metres.
"""

from dataclasses import dataclass

import numpy as np

from espnet_av.activesep.scene_files import DEPTH_RANGE, Observation
from espnet_av.activesep.world_layout import World

CAMERA_HEIGHT = 1.25  # metres
_SKIRTING = 0.12  # metres
_CEILING = (236, 234, 228)
_LIGHT = np.array([0.35, 0.25, 0.9])


@dataclass(frozen=True)
class Panel:
    """A rectangle across one axis.

    Attributes:
        axis: 0, 1 or 2: which coordinate is the same everywhere on it.
        place: That coordinate.
        low: Smallest of the two other coordinates, in their order.
        high: Largest of them.
        colour: RGB 0 to 255.
        kind: ``wall``, ``floor``, ``ceiling`` or ``box``: how it is painted.
    """

    axis: int
    place: float
    low: tuple[float, float]
    high: tuple[float, float]
    colour: tuple[int, int, int]
    kind: str


class WorldCamera:
    """Takes pictures of a house with a pinhole camera, 90 degrees wide.

    Args:
        world: The house.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.panels = list(_walls(world)) + list(_boxes(world))
        size = world.image_size
        steps = (np.arange(size) + 0.5) / size * 2 - 1
        self._right, self._up = np.meshgrid(steps, -steps)

    def observation(self, node: int, rotation: int) -> Observation:
        """Return what is seen from a node.

        Returns:
            ``rgb`` uint8 (H, W, 3) and ``depth`` float32 (H, W, 1), 0 to 1 for 0 to 10 m along the line of view.
        """
        turned = np.radians(rotation)
        ahead, right = np.array([-np.sin(turned), np.cos(turned)]), np.array([np.cos(turned), np.sin(turned)])
        rays = np.stack(
            [ahead[0] + self._right * right[0], ahead[1] + self._right * right[1], self._up], axis=-1
        )  # (H, W, 3), one metre along the line of view
        origin = np.array([*self.world.cells[node], CAMERA_HEIGHT], dtype=np.float64)
        depth = np.full(rays.shape[:2], np.inf)
        seen = np.full(rays.shape[:2], -1)
        for index, panel in enumerate(self.panels):
            self._cast(panel, index, origin, rays, depth, seen)
        points = origin + rays * np.where(np.isfinite(depth), depth, 0.0)[..., None]
        rgb = np.zeros(rays.shape, np.float64)
        for index in np.unique(seen):
            if index >= 0:
                here = seen == index
                rgb[here] = _paint(self.panels[index], points[here])
        rgb *= np.clip(1.12 - 0.045 * np.where(np.isfinite(depth), depth, DEPTH_RANGE), 0.45, 1.0)[..., None]
        near = np.clip(depth / DEPTH_RANGE, 0, 1).astype(np.float32)
        return {"rgb": np.clip(np.rint(rgb), 0, 255).astype(np.uint8), "depth": near[:, :, None]}

    @staticmethod
    def _cast(
        panel: Panel, index: int, origin: np.ndarray, rays: np.ndarray, depth: np.ndarray, seen: np.ndarray
    ) -> None:
        along = rays[..., panel.axis]
        offset = panel.place - origin[panel.axis]
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = offset / along
        near = (reach > 1e-3) & (reach < depth)
        if not near.any():
            return
        first, second = (axis for axis in range(3) if axis != panel.axis)
        reach_near = reach[near]
        a = origin[first] + reach_near * rays[..., first][near]
        b = origin[second] + reach_near * rays[..., second][near]
        inside = (a >= panel.low[0]) & (a <= panel.high[0]) & (b >= panel.low[1]) & (b <= panel.high[1])
        near[near] = inside
        depth[near] = reach[near]
        seen[near] = index


def _paint(panel: Panel, points: np.ndarray) -> np.ndarray:
    """Return the colours of points ``(n, 3)`` of a panel."""
    colour = np.tile(np.array(panel.colour, dtype=np.float64), (len(points), 1))
    colour *= 0.78 + 0.24 * _LIGHT[panel.axis]
    if panel.kind == "floor":
        checker = (np.floor(points[:, 0] * 2) + np.floor(points[:, 1] * 2)) % 2
        colour *= (0.9 + 0.2 * checker)[:, None]
    elif panel.kind == "wall":
        along, height = points[:, 1 - panel.axis], points[:, 2]
        stripe = np.floor(along * 4) % 2
        colour *= (0.97 + 0.05 * stripe)[:, None]
        colour *= (0.86 + 0.14 * np.clip(height / 1.2, 0, 1))[:, None]  # corners near the floor are darker
        colour[height < _SKIRTING] = (92, 78, 66)
    elif panel.kind == "box":
        a, b = (axis for axis in range(3) if axis != panel.axis)
        edge = np.minimum(
            np.minimum(points[:, a] - panel.low[0], panel.high[0] - points[:, a]),
            np.minimum(points[:, b] - panel.low[1], panel.high[1] - points[:, b]),
        )
        colour[edge < 0.03] *= 0.6
    return colour


def _walls(world: World) -> list[Panel]:
    """Return floors, ceilings, walls with doors cut out, and lintels over the doors."""
    panels = []
    for index, room in enumerate(world.rooms):
        (x, y), (width, depth, height) = room.corner, room.size
        panels.append(Panel(2, 0.0, (x, y), (x + width, y + depth), room.floor, "floor"))
        panels.append(Panel(2, height, (x, y), (x + width, y + depth), _CEILING, "ceiling"))
        # The two sides of a wall are painted by the rooms they face, so each lies a little inside its room.
        for axis, place, inward in ((0, x, 0.01), (0, x + width, -0.01), (1, y, 0.01), (1, y + depth, -0.01)):
            start, end = (y, y + depth) if axis == 0 else (x, x + width)
            panels += _wall(world, index, axis, place, inward, (start, end))
    return panels


def _wall(world: World, index: int, axis: int, place: float, inward: float, span: tuple[float, float]) -> list[Panel]:
    room = world.rooms[index]
    here = [
        door
        for door in world.doors
        if door.axis == axis and index in door.rooms and abs(door.centre[axis] - place) < 1e-6
    ]
    panels, start = [], span[0]
    for door in sorted(here, key=lambda door: door.centre[1 - axis]):
        left, right = door.centre[1 - axis] - door.width / 2, door.centre[1 - axis] + door.width / 2
        panels.append(Panel(axis, place + inward, (start, 0.0), (left, room.height), room.colour, "wall"))
        panels.append(Panel(axis, place + inward, (left, door.height), (right, room.height), room.colour, "wall"))
        start = right
    panels.append(Panel(axis, place + inward, (start, 0.0), (span[1], room.height), room.colour, "wall"))
    return panels


def _boxes(world: World) -> list[Panel]:
    panels = []
    for piece in world.furniture:
        low = np.array([piece.cell[0] - piece.size[0] / 2, piece.cell[1] - piece.size[1] / 2, 0.0])
        high = low + np.array(piece.size)
        for axis in range(3):
            a, b = (other for other in range(3) if other != axis)
            for place in (low[axis], high[axis]) if axis < 2 else (high[axis],):
                panels.append(Panel(axis, float(place), (low[a], low[b]), (high[a], high[b]), piece.colour, "box"))
    return panels


def top_view(world: World, pixels_per_metre: int = 32) -> np.ndarray:
    """Return a map seen from above, ahead is up: uint8 ``(H, W, 3)``.

    The pixel of a point (x, y) is ``world_to_pixel(world, x, y, pixels_per_metre)``.
    """
    (left, bottom), (right, top) = extent(world)
    width, height = round((right - left) * pixels_per_metre), round((top - bottom) * pixels_per_metre)
    x = left + (np.arange(width) + 0.5) / pixels_per_metre
    y = top - (np.arange(height) + 0.5) / pixels_per_metre
    image = np.full((height, width, 3), 250, np.uint8)
    thickness = 0.06
    for room in world.rooms:
        (x0, y0), (w, d, _) = room.corner, room.size
        inside = ((y >= y0) & (y < y0 + d))[:, None] & ((x >= x0) & (x < x0 + w))[None]
        image[inside] = np.array(room.colour) // 4 + 190
        core = ((y >= y0 + thickness) & (y < y0 + d - thickness))[:, None] & (
            (x >= x0 + thickness) & (x < x0 + w - thickness)
        )[None]
        image[inside & ~core] = 60
    for door in world.doors:
        half = np.array([door.width / 2, door.width / 2])
        half[door.axis] = 2 * thickness
        here = (np.abs(y - door.centre[1]) < half[1])[:, None] & (np.abs(x - door.centre[0]) < half[0])[None]
        image[here] = 225
    for piece in world.furniture:
        here = (np.abs(y - piece.cell[1]) < piece.size[1] / 2)[:, None]
        image[here & (np.abs(x - piece.cell[0]) < piece.size[0] / 2)[None]] = piece.colour
    return image


def extent(world: World) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the smallest and the largest corner of the house, with a small margin, metres."""
    low = np.min([room.low for room in world.rooms], axis=0) - 0.6
    high = np.max([room.high for room in world.rooms], axis=0) + 0.6
    return (float(low[0]), float(low[1])), (float(high[0]), float(high[1]))


def world_to_pixel(world: World, x: float, y: float, pixels_per_metre: int = 32) -> tuple[float, float]:
    """Return column and row of a point in :func:`top_view`; ``x`` and ``y`` in the mesh frame (habitat x and -z)."""
    (left, _), (_, top) = extent(world)
    return (x - left) * pixels_per_metre, (top - y) * pixels_per_metre
