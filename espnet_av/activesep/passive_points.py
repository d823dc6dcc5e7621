# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Places to listen from without moving: what the passive separators learn on.

A file per scene, ``<folder>/<version>/<split>/<scene>.pkl``: ``{scene: [{"r", "azimuth", "all_s"}, ...]}``.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.activesep.graph import ROTATIONS, azimuth_of
from espnet_av.activesep.safe_pickle import read_pickle, write_pickle
from espnet_av.activesep.scene import SceneStore
from espnet_av.activesep.scene_files import AZIMUTHS
from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error


@dataclass(frozen=True)
class PassivePoint:
    """A listener and sources around it.

    Attributes:
        scene: Name of the scene.
        receiver: Node of the listener.
        azimuth: Where it looks, as the folders of impulse responses are named.
        sources: Nodes of the sources, the target first.
    """

    scene: str
    receiver: int
    azimuth: int
    sources: tuple[int, ...]


def read_passive_points(
    folder: str | os.PathLike, split: str, *, version: str = "v1", scenes: Iterable[str] | None = None
) -> list[PassivePoint]:
    """Read the points of a split, scene by scene.

    Args:
        folder: Above ``<version>/<split>/``.
        split: ``train`` or ``val``.
        version: Version of the data.
        scenes: Scenes to read; None reads all that are there.

    Raises:
        MissingDataError: The folder or a scene is not there.
        DataError: A file holds something else, or an azimuth out of range.
    """
    place = Path(folder) / version / split
    names = sorted(path.stem for path in place.glob("*.pkl")) if scenes is None else list(scenes)
    if not names:
        raise MissingDataError(describe("no passive data points", got=str(place), allowed="<scene>.pkl"))
    return [point for name in names for point in _points_of(read_pickle(place / f"{name}.pkl"), place / f"{name}.pkl")]


def _points_of(found: Any, path: Path) -> Iterable[PassivePoint]:
    try:
        points = [
            PassivePoint(str(scene), int(item["r"]), int(item["azimuth"]), tuple(int(node) for node in item["all_s"]))
            for scene, items in found.items()
            for item in items
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(describe(f"{path} holds no passive data points ({error!r})")) from error
    for point in points:
        if point.azimuth not in AZIMUTHS or not point.sources:
            raise DataError(
                describe(f"{path}: malformed data point", got=point, allowed=f"azimuths {AZIMUTHS}, 1+ sources")
            )
    return points


def write_passive_points(
    folder: str | os.PathLike, split: str, points: Sequence[PassivePoint], *, version: str = "v1"
) -> None:
    """Write the points of a split, one file per scene."""
    for scene in sorted({point.scene for point in points}):
        rows = [
            {"r": point.receiver, "azimuth": point.azimuth, "all_s": list(point.sources)}
            for point in points
            if point.scene == scene
        ]
        write_pickle(Path(folder) / version / split / f"{scene}.pkl", {scene: rows})


def draw_passive_points(
    store: SceneStore,
    num_points: int,
    *,
    num_distractors: int = 1,
    near_share: float = 0.5,
    max_distance: float = 6.0,
    min_distance: float = 2.0,
    seed: int = 0,
) -> list[PassivePoint]:
    """Draw points of a scene.

    Args:
        store: The scene.
        num_points: How many.
        num_distractors: Other sources of each.
        near_share: Share of points where the listener stands at the target.
        max_distance: Largest number of steps from listener to target at the other points.
        min_distance: Smallest number of steps between target and each distractor.
        seed: Of chance.

    Raises:
        UsageError: The scene is too small for that.
    """
    rng = np.random.default_rng(seed)
    chooser = SourceChooser(store, num_distractors, min_distance)
    points = []
    for _ in range(num_points):
        target, distractors = chooser.draw(rng)
        receiver = target
        if rng.random() >= near_share:
            steps = store.graph.steps_from(target)
            receiver = int(rng.choice([node for node, count in steps.items() if count <= max_distance]))
        azimuth = azimuth_of(int(rng.choice(ROTATIONS)))
        points.append(PassivePoint(store.name, receiver, azimuth, (target, *distractors)))
    return points


class SourceChooser:
    """Draws a target and distractors among the sources of a scene, with enough steps between.

    Args:
        store: The scene.
        num_distractors: How many distractors.
        min_distance: Smallest number of steps between the target and each of them.

    Raises:
        UsageError: No target has enough of them.
    """

    def __init__(self, store: SceneStore, num_distractors: int, min_distance: float) -> None:
        self.num_distractors = num_distractors
        sources = [node for node in store.sources if node in store.graph]
        self._far = {
            target: [other for other in sources if min_distance <= store.graph.distance(target, other) < np.inf]
            for target in sources
        }
        self._targets = [target for target, others in self._far.items() if len(others) >= num_distractors]
        if not self._targets:
            usage_error(
                f"scene {store.name} is too small for {num_distractors} distractors {min_distance:g} steps away",
                got=f"{len(sources)} sources",
                fix="take fewer distractors, a smaller min_distance, or a larger scene",
            )

    def draw(self, rng: np.random.Generator) -> tuple[int, list[int]]:
        """Return the node of a target and those of its distractors."""
        target = int(rng.choice(self._targets))
        return target, [int(n) for n in rng.choice(self._far[target], self.num_distractors, replace=False)]
