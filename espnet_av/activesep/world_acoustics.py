# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Impulse responses of a generated house.

In the room of the source each reflection up to an order is one image source (pyroomacoustics), heard through the ears
from its own direction. Into other rooms sound takes the shortest ways through doors: every bend around a door frame
costs level and treble, the last door sounds like a source of its own, with reflections of the room it opens into. Later
reverberation is noise that decays with the room, with the correlation between ears of a diffuse field.

Frame as in :mod:`espnet_av.activesep.world_layout`: x right, y ahead, z up. Legend: n arrivals of sound, L taps.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.signal

from espnet_av.activesep.cache import LRUCache
from espnet_av.activesep.ears import SPEED_OF_SOUND, Ears, load_ears
from espnet_av.activesep.scene_files import SAMPLE_RATE
from espnet_av.activesep.world_layout import Door, World
from espnet_av.utils.optional import require

EAR_HEIGHT = 1.5  # metres
SOURCE_HEIGHT = 1.2  # below the ears, so that nothing sounds inside the head
NEAREST = 0.5  # metres within which sound gets no louder
_BEND_LEVELS = 6  # filters for bends of 0, 30, ..., 150 degrees together
_DOOR_ORDER = 2  # of the reflections of sound that comes through a door
_NUM_WAYS = 2  # through different doors
_NUM_NOISES = 24
_EAR_SPACING = 0.18  # metres, of the correlation of diffuse sound


@dataclass(frozen=True)
class Arrivals:
    """Sound that arrives at a point.

    Attributes:
        directions: ``(n, 3)`` unit vectors towards where it comes from, in the frame of the house.
        delays: ``(n,)`` seconds.
        gains: ``(n,)``, 1 at one metre from the source.
        bends: ``(n,)`` index of the filter for bends.
    """

    directions: np.ndarray
    delays: np.ndarray
    gains: np.ndarray
    bends: np.ndarray


@dataclass(frozen=True)
class Way:
    """A way through doors.

    Attributes:
        doors: Indices of doors, from the source on.
        rooms: Indices of rooms, one more than doors.
    """

    doors: tuple[int, ...]
    rooms: tuple[int, ...]


class WorldAcoustics:
    """Computes impulse responses of a house.

    Args:
        world: The house.
        ears: What listens; None takes those that the world names.
    """

    def __init__(self, world: World, ears: Ears | None = None) -> None:
        self.world = world
        self.ears = ears or load_ears(world.ears)
        self.filtered = _bend_filters(self.ears.responses)
        self._images = LRUCache(256)
        self._arrivals = LRUCache(64)
        self._noises = _diffuse_noise(_NUM_NOISES, world.num_taps, world.seed)
        fade = max(1, world.num_taps // 10)
        self._fade = np.ones(world.num_taps)
        self._fade[-fade:] = np.cos(np.linspace(0, np.pi / 2, fade)) ** 2

    def rir(self, source: int, receiver: int, rotation: int) -> np.ndarray:
        """Return a binaural impulse response.

        Args:
            source: Node where the sound is, at 1.2 m height.
            receiver: Node where the listener is, ears at 1.5 m height.
            rotation: Where the listener looks.

        Returns:
            float32 ``(L, 2)``.
        """
        arrivals = self._arrivals.get((source, receiver), lambda: self._arrive(source, receiver))
        turned = math.radians(rotation)
        ahead = np.array([-math.sin(turned), math.cos(turned), 0.0])
        head = np.stack([ahead, [-ahead[1], ahead[0], 0.0], [0.0, 0.0, 1.0]])  # ahead, left, up
        which = self.ears.nearest(arrivals.directions @ head.T)
        response = self._tail(source, receiver, rotation)
        taps = self.filtered.shape[2]
        starts = np.rint(arrivals.delays * SAMPLE_RATE).astype(np.int64)
        padded = np.zeros((len(response) + taps, 2))
        sounds = self.filtered[arrivals.bends, which] * arrivals.gains[:, None, None]
        for start, sound in zip(starts, sounds, strict=True):
            if start < len(response):
                padded[start : start + taps] += sound
        response += padded[: len(response)]
        return (response * self._fade[:, None]).astype(np.float32)

    # -- early sound ---------------------------------------------------------------------------------------------

    def _arrive(self, source: int, receiver: int) -> Arrivals:
        cells, world = self.world.cells, self.world
        start, end = np.array([*cells[source], SOURCE_HEIGHT]), np.array([*cells[receiver], EAR_HEIGHT])
        rooms = world.room_of(cells[source]), world.room_of(cells[receiver])
        if rooms[0] == rooms[1]:
            images, damping = self._room_images(rooms[0], tuple(start), world.image_order)
            return _arrivals(images - end, 0.0, damping, 0)
        found = [self._through_doors(way, start, end) for way in self._ways(*rooms)]
        return Arrivals(*(np.concatenate([getattr(part, name) for part in found]) for name in Arrivals.__annotations__))

    def _room_images(self, room: int, position: tuple[float, ...], order: int) -> tuple[np.ndarray, np.ndarray]:
        """Return image sources ``(n, 3)`` of a position in a room and their damping ``(n,)``."""
        return self._images.get((room, position, order), lambda: self._make_images(room, position, order))

    def _make_images(self, index: int, position: tuple[float, ...], order: int) -> tuple[np.ndarray, np.ndarray]:
        pyroomacoustics = require("pyroomacoustics", "sim")
        room = self.world.rooms[index]
        corner = np.array([*room.corner, 0.0])
        margin = 0.05
        inside = np.clip(np.array(position) - corner, margin, np.array(room.size) - margin)
        box = pyroomacoustics.ShoeBox(
            room.size, fs=SAMPLE_RATE, materials=pyroomacoustics.Material(room.absorption), max_order=order
        )
        box.add_source(inside)
        box.add_microphone(np.array(room.size) / 2)
        box.image_source_model()
        images = box.sources[0].images.T + corner
        damping = np.atleast_2d(box.sources[0].damping).mean(axis=0)
        nearest_first = np.lexsort((*images.T, -damping))  # the order of the library is not promised
        return images[nearest_first], damping[nearest_first]

    def _ways(self, first: int, last: int) -> list[Way]:
        """Return the ways with the fewest doors from one room to another."""
        return list(itertools.islice(_ways(self.world.doors, first, last, len(self.world.rooms)), _NUM_WAYS))

    def _through_doors(self, way: Way, start: np.ndarray, end: np.ndarray) -> Arrivals:
        doors = [self.world.doors[index] for index in way.doors]
        crossings = _pull_string(start, doors, end)
        path = [start, *crossings, end]
        inner = sum(float(np.linalg.norm(b - a)) for a, b in itertools.pairwise(path[:-1]))
        bend = min(_BEND_LEVELS - 1, int(round(math.degrees(_total_bend(path)) / 30)))
        into = np.array(self.world.rooms[way.rooms[-1]].corner) + np.array(self.world.rooms[way.rooms[-1]].size[:2]) / 2
        axis = doors[-1].axis
        door = crossings[-1].copy()
        door[axis] += 0.06 * np.sign(into[axis] - door[axis])
        images, damping = self._room_images(way.rooms[-1], tuple(np.round(door, 3)), _DOOR_ORDER)
        direct = _arrivals(images - end, inner, damping, bend)
        # What the walls of the source's room throw at the first door comes a little later.
        first = crossings[0]
        behind, loss = self._room_images(way.rooms[0], tuple(start), 1)
        detours = np.linalg.norm(behind - first, axis=1) - np.linalg.norm(start - first)
        parts = [direct]
        for detour, gain in zip(detours, loss, strict=True):
            if detour > 0.05:
                parts.append(
                    _arrivals(images - end, inner + float(detour), damping * gain, min(bend + 1, _BEND_LEVELS - 1))
                )
        joined = [np.concatenate([getattr(part, name) for part in parts]) for name in Arrivals.__annotations__]
        loud = joined[2] > 0.03 * joined[2].max()
        return Arrivals(*(values[loud] for values in joined))

    # -- late sound ----------------------------------------------------------------------------------------------

    def _tail(self, source: int, receiver: int, rotation: int) -> np.ndarray:
        """Return late reverberation, ``(L, 2)``."""
        world, cells = self.world, self.world.cells
        first, last = world.room_of(cells[source]), world.room_of(cells[receiver])
        room = world.rooms[first]
        width, depth, height = room.size
        volume, surface = width * depth * height, 2 * (width * depth + depth * height + width * height)
        path, coupling = 4 * volume / surface, 1.0
        reverberation, onset = room.reverberation_sec(), world.image_order * path / SPEED_OF_SOUND
        if first != last:
            way = self._ways(first, last)[0]
            for index, into in zip(way.doors, way.rooms[1:], strict=True):
                door, target = world.doors[index], world.rooms[into]
                opening = door.width * door.height
                w, d, h = target.size
                coupling *= opening / (opening + 2 * (w * d + d * h + w * h) * target.absorption)
                reverberation = max(reverberation, target.reverberation_sec())
            onset = float(np.linalg.norm(np.subtract(cells[source], cells[receiver]))) / SPEED_OF_SOUND
        time = np.arange(world.num_taps) / SAMPLE_RATE
        energy = 4 * np.pi * SPEED_OF_SOUND / volume * np.exp(-13.8 * time / reverberation) / SAMPLE_RATE * coupling
        ramp = np.clip((time - 0.5 * onset) / max(onset, 1e-4), 0, 1)
        which = (source * 7919 + receiver * 104729 + rotation * 31) % _NUM_NOISES
        return self._noises[which] * np.sqrt(energy * ramp)[:, None]


def _arrivals(towards: np.ndarray, travelled: float, damping: np.ndarray, bend: int) -> Arrivals:
    """Return arrivals from image sources at offsets ``(n, 3)``, metres, that sound after ``travelled`` metres."""
    distance = np.linalg.norm(towards, axis=1)
    total = distance + travelled
    return Arrivals(
        directions=towards / np.maximum(distance, 1e-6)[:, None],
        delays=total / SPEED_OF_SOUND,
        gains=damping / np.maximum(total, NEAREST),
        bends=np.full(len(towards), bend),
    )


def _ways(doors: Sequence[Door], first: int, last: int, num_rooms: int) -> Iterator[Way]:
    """Yield ways without loops from room to room, those with few doors first."""
    pending = [Way((), (first,))]
    while pending:
        way = pending.pop(0)
        here = way.rooms[-1]
        if here == last:
            yield way
            continue
        if len(way.doors) >= num_rooms:
            continue
        for index, door in enumerate(doors):
            if here in door.rooms:
                there = door.rooms[1] if door.rooms[0] == here else door.rooms[0]
                if there not in way.rooms:
                    pending.append(Way((*way.doors, index), (*way.rooms, there)))


def _pull_string(start: np.ndarray, doors: Sequence[Door], end: np.ndarray) -> list[np.ndarray]:
    """Return where the shortest way crosses each door, points (3,)."""
    points = [np.array([*door.centre, (start[2] + end[2]) / 2]) for door in doors]
    for _ in range(8):
        path = [start, *points, end]
        for index, door in enumerate(doors):
            before, after = path[index], path[index + 2]
            along, across = 1 - door.axis, door.axis
            span = after[across] - before[across]
            share = (points[index][across] - before[across]) / span if abs(span) > 1e-9 else 0.5
            wanted = before[along] + min(max(share, 0.0), 1.0) * (after[along] - before[along])
            half = door.width / 2 - 0.05
            points[index][along] = np.clip(wanted, door.centre[along] - half, door.centre[along] + half)
            path[index + 1] = points[index]
    return points


def _total_bend(path: Sequence[np.ndarray]) -> float:
    """Return by how much a way turns, radians."""
    legs = [b[:2] - a[:2] for a, b in itertools.pairwise(path)]
    legs = [leg / np.linalg.norm(leg) for leg in legs if np.linalg.norm(leg) > 1e-6]
    return sum(math.acos(float(np.clip(a @ b, -1, 1))) for a, b in itertools.pairwise(legs))


def _bend_filters(responses: np.ndarray) -> np.ndarray:
    """Return the responses of the ears ``(n, taps, 2)`` behind 0, 30, ... degrees of bends: ``(6, n, taps, 2)``."""
    filtered = [responses]
    for level in range(1, _BEND_LEVELS):
        cutoff = 7000.0 * 10 ** (-0.28 * level)
        sections = scipy.signal.butter(1, cutoff, fs=SAMPLE_RATE, output="sos")
        filtered.append(scipy.signal.sosfilt(sections, responses, axis=1) * 10 ** (-2.2 * level / 20))
    return np.stack(filtered).astype(np.float32)


def _diffuse_noise(count: int, num_taps: int, seed: int) -> np.ndarray:
    """Return noise with the correlation between ears of a diffuse field, ``(count, num_taps, 2)``, variance 1."""
    rng = np.random.default_rng([seed, 11])
    spectra = np.fft.rfft(rng.standard_normal((2, count, num_taps)), axis=-1)
    frequency = np.fft.rfftfreq(num_taps, 1 / SAMPLE_RATE)
    coherence = np.sinc(2 * frequency * _EAR_SPACING / SPEED_OF_SOUND)
    right = coherence * spectra[0] + np.sqrt(1 - coherence**2) * spectra[1]
    air = np.exp(-((frequency / 7000.0) ** 2) * 0.7)  # treble dies first
    return np.moveaxis(np.fft.irfft(np.stack([spectra[0], right]) * air, num_taps, axis=-1), 0, -1)
