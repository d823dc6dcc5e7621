# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Sounds for the passive training of the separators: one second at a fixed place, new clips at every access.

A point fixes scene, listener and sources. Which classes and clips sound there is drawn from the seed, the epoch
and the point alone, whatever the number of loader workers. Validation draws once.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from espnet_av.activesep.binaural import hear
from espnet_av.activesep.classes import ClassTable
from espnet_av.activesep.passive_points import PassivePoint
from espnet_av.activesep.scene import SceneLibrary, Scenes
from espnet_av.activesep.scene_files import SAMPLE_RATE, ScenePaths
from espnet_av.activesep.sounds import ClipLibrary, take_chunk
from espnet_av.train.rng import derive_seed
from espnet_av.utils.errors import DataError, describe

MAX_DRAWS = 1000
Key = tuple[int, str]


@dataclass(frozen=True)
class PassiveSet:
    """Points, and the clips that sound there.

    Attributes:
        name: ``train``, ``heard`` or ``unheard``.
        points: Places.
        clips: Clips.
        fixed: Draw the same in every epoch.
    """

    name: str
    points: Sequence[PassivePoint]
    clips: ClipLibrary
    fixed: bool = False


class ClipChooser:
    """Draws a clip for each source: different classes, uniform within a class.

    Args:
        clips: What there is.

    Raises:
        DataError: A clip is of an unknown class, or no class may be a target.
    """

    def __init__(self, clips: ClipLibrary) -> None:
        self.table: ClassTable = clips.classes
        self.clips = {name: files for name, files in clips.by_class().items() if name in self.table.labels}
        strange = sorted(set(clips.by_class()) - set(self.clips))
        if strange:
            fix = "rename them, leave them out, or give a table of classes that has them"
            raise DataError(describe(f"{clips.folder}: clips of unknown classes", got=strange[:5], fix=fix))
        self.names = sorted(self.clips)
        if not set(self.names) - self.table.never_target:
            raise DataError(describe(f"{clips.folder}: no class may be a target", got=self.names))

    def draw(self, rng: np.random.Generator, count: int) -> tuple[list[str], int]:
        """Return one clip for each of ``count`` sources, the target first, and the target's label.

        Raises:
            DataError: There are fewer classes than sources.
        """
        if len(self.names) < count:
            raise DataError(describe("fewer classes of clips than sources", got=len(self.names), allowed=count))
        for _ in range(MAX_DRAWS):
            classes = [self.names[number] for number in rng.permutation(len(self.names))[:count]]
            if classes[0] not in self.table.never_target:
                break
        else:
            raise DataError(describe("no target was drawn", got=self.names[:5]))
        return [str(rng.choice(self.clips[name])) for name in classes], self.table.labels[classes[0]]


def passive_item(
    scenes: Scenes,
    point: PassivePoint,
    clips: ClipLibrary,
    names: Sequence[str],
    label: int,
    *,
    convolution: str = "same",
    wrap_int16: bool = False,
) -> dict[str, np.ndarray]:
    """Return one second at a point.

    Args:
        scenes: Scene name -> :class:`~espnet_av.activesep.scene.SceneStore`.
        point: Where.
        clips: What there is to play.
        names: Clip of each source, from its beginning, in a circle where it is shorter than a second.
        label: Of the target.
        convolution: ``same`` or ``causal``.
        wrap_int16: Let loud samples wrap around, as the published program does.

    Returns:
        ``mixture_wave`` float32 (2, 16000) in [-1, 1), ``target_ears`` int16 (2, 16000), ``target_dry`` int16 (16000,),
        ``target_class`` int64 (1,).
    """
    store = scenes[point.scene]
    waves = [clips[name] for name in names]
    ears = [
        hear(
            *(store, point.azimuth, point.receiver, source, wave, 0, SAMPLE_RATE),
            convolution=convolution,
            wrap_int16=wrap_int16,
        )
        for source, wave in zip(point.sources, waves, strict=True)
    ]
    total = np.stack(ears).sum(axis=0, dtype=np.int32)
    return {
        "mixture_wave": (total / np.float32(32768 * len(ears))).astype(np.float32),
        "target_ears": ears[0],
        "target_dry": take_chunk(waves[0], 0, SAMPLE_RATE).copy(),
        "target_class": np.array([label], dtype=np.int64),
    }


class PassiveDataset(torch.utils.data.Dataset):
    """Items by ``(epoch, id)``; ids are ``<set>:<number of the point>``.

    Args:
        root: See :func:`~espnet_av.activesep.scene.open_scene`.
        sets: What there is.
        seed: Of all draws.
        convolution: ``same`` or ``causal``.
        wrap_int16: See :func:`passive_item`.
        scene_options: Keywords of :func:`~espnet_av.activesep.scene.open_scene`.
    """

    def __init__(
        self,
        root: str | os.PathLike | ScenePaths,
        sets: Sequence[PassiveSet],
        *,
        seed: int = 0,
        convolution: str = "same",
        wrap_int16: bool = False,
        scene_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.sets = {each.name: each for each in sets}
        self.choosers = {each.name: ClipChooser(each.clips) for each in sets}
        self.seed, self.convolution, self.wrap_int16 = seed, convolution, wrap_int16
        self.scenes = SceneLibrary(root, **(scene_options or {}))

    def __len__(self) -> int:
        return sum(len(each.points) for each in self.sets.values())

    def __getitem__(self, key: Key) -> tuple[str, dict[str, np.ndarray]]:
        """Return the id and the item."""
        epoch, uid = key
        name, _, number = uid.partition(":")
        chosen = self.sets[name]
        point = chosen.points[int(number)]
        rng = np.random.default_rng(derive_seed(self.seed, "passive", name, 0 if chosen.fixed else epoch, number))
        names, label = self.choosers[name].draw(rng, len(point.sources))
        item = passive_item(
            *(self.scenes, point, chosen.clips, names, label), convolution=self.convolution, wrap_int16=self.wrap_int16
        )
        return uid, {**item, "unheard": np.array(name == "unheard")}


class PointBatches:
    """Batches of points of one set each.

    Args:
        sizes: Set -> number of points.
        batch_size: Points of a batch.
        seed: Of the order.
        least: Smallest batch; a smaller rest joins the batch before it.
    """

    def __init__(self, sizes: Mapping[str, int], batch_size: int, *, seed: int = 0, least: int = 1) -> None:
        self.sizes, self.batch_size, self.seed, self.least = dict(sizes), batch_size, seed, least

    def batches(self, epoch: int, shuffle: bool | None = None) -> list[list[str]]:
        """Return the batches of a pass over all points."""
        found = []
        for name, size in self.sizes.items():
            rng = np.random.default_rng(derive_seed(self.seed, "batches", name, epoch))
            order = rng.permutation(size) if shuffle else np.arange(size)
            ids = [f"{name}:{number}" for number in order]
            own = [ids[start : start + self.batch_size] for start in range(0, size, self.batch_size)]
            if len(own) > 1 and len(own[-1]) < self.least:
                rest = own.pop()
                own[-1] += rest
            found += own
        return found


def stack_items(items: Sequence[tuple[str, dict[str, np.ndarray]]]) -> tuple[list[str], dict[str, torch.Tensor]]:
    """Put items into a batch."""
    names = list(items[0][1])
    return [uid for uid, _ in items], {
        name: torch.from_numpy(np.stack([item[name] for _, item in items])) for name in names
    }
