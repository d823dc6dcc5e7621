# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Episodes: where an agent starts, what sounds where, and in which order environments play them."""

import gzip
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.activesep.classes import NUM_CLASSES, check_label
from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error
from espnet_av.utils.files import atomic_write
from espnet_av.utils.untrusted import gunzip, parse_json

GOAL_RADIUS = 1e-5


@dataclass(frozen=True)
class Sound:
    """What one source plays.

    Attributes:
        clip: File name without suffix.
        start_idx: Second of the clip at which it begins.
        target_label: Label of the target (of every source the same).
        num_action: Carried along for other programs.
    """

    clip: str
    start_idx: int = 0
    target_label: int = 0
    num_action: int = 20


@dataclass(frozen=True)
class Episode:
    """One task: hear the first source among others.

    Attributes:
        episode_id: Unique in its scene.
        scene: Name of the scene.
        start_position: (x, y, z) in metres, habitat frame; a node of the graph.
        start_rotation: Quaternion (x, y, z, w).
        goals: Positions of the sources, the target first.
        sounds: What they play, in the same order.
        distances: Carried along: steps between agent and sources where known.
    """

    episode_id: str
    scene: str
    start_position: tuple[float, float, float]
    start_rotation: tuple[float, float, float, float]
    goals: tuple[tuple[float, float, float], ...]
    sounds: tuple[Sound, ...]
    distances: Any = None

    @property
    def target_label(self) -> int:
        """Return the label that is asked for."""
        return self.sounds[0].target_label

    def to_json(self) -> dict[str, Any]:
        """Return the episode as published files hold it."""
        return {
            "episode_id": self.episode_id,
            "scene_id": f"{self.scene}/{self.scene}.glb",
            "start_position": list(self.start_position),
            "start_rotation": list(self.start_rotation),
            "info": [
                {
                    "sound": sound.clip,
                    "start_idx": sound.start_idx,
                    "target_label": sound.target_label,
                    "num_action": sound.num_action,
                }
                for sound in self.sounds
            ],
            "goals": [{"position": list(position), "radius": GOAL_RADIUS} for position in self.goals],
            "start_room": None,
            "shortest_paths": None,
            "all_geodesic_distances": self.distances,
            "gt_actions": None,
        }


def episode_from_json(found: Any, where: str = "episode", *, num_classes: int = NUM_CLASSES) -> Episode:
    """Read one episode.

    Raises:
        DataError: A field is missing or out of range; ``where`` names it.
    """
    try:
        name = f"{where}: episode {found['episode_id']}"
        sounds = tuple(
            Sound(
                clip=str(sound["sound"]),
                start_idx=int(sound["start_idx"]),
                target_label=check_label(sound["target_label"], num_classes, name),
                num_action=int(sound.get("num_action", 20)),
            )
            for sound in found["info"]
        )
        episode = Episode(
            episode_id=str(found["episode_id"]),
            scene=_scene_of(str(found["scene_id"])),
            start_position=_position(found["start_position"]),
            start_rotation=_rotation(found["start_rotation"]),
            goals=tuple(_position(goal["position"]) for goal in found["goals"]),
            sounds=sounds,
            distances=found.get("all_geodesic_distances"),
        )
    except DataError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        reason = f"{type(error).__name__}: {str(error)[:80]}"
        raise DataError(describe(f"{where}: malformed episode ({reason})", got=_brief(found))) from error
    if len(episode.goals) != len(sounds) or not sounds:
        raise DataError(
            describe(
                f"{name}: one entry of 'info' per goal is needed", got=f"{len(sounds)} for {len(episode.goals)} goals"
            )
        )
    if any(sound.start_idx < 0 for sound in sounds):
        raise DataError(describe(f"{name}: start_idx out of range", [s.start_idx for s in sounds], "0 or more seconds"))
    return episode


def _brief(found: Any) -> str:
    try:
        return str(found)[:80]
    except (RecursionError, ValueError):  # nested too deep, or a number too long to be written
        return type(found).__name__


def _numbers(values: Sequence[float], count: int) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if len(numbers) != count or not all(map(np.isfinite, numbers)):
        raise TypeError(f"{count} finite numbers expected, got {values}")
    return numbers


def _position(values: Sequence[float]) -> tuple[float, float, float]:
    x, y, z = _numbers(values, 3)
    return x, y, z


def _rotation(values: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, z, w = _numbers(values, 4)
    return x, y, z, w


def _scene_of(scene_id: str) -> str:
    parts = Path(scene_id).parts
    return parts[-2] if len(parts) >= 2 else Path(scene_id).stem


def read_episodes(
    data_path: str | os.PathLike,
    split: str | None = None,
    *,
    version: str = "v1",
    scenes: Iterable[str] = ("*",),
    num_classes: int = NUM_CLASSES,
) -> list[Episode]:
    """Read the episodes of a split: those of its top file, then those of its content files by name.

    Args:
        data_path: The top file (``.json.gz`` or ``.json``); or with ``split`` a pattern with ``{version}`` and
            ``{split}``, or the folder above ``<version>/<split>/``.
        split: Name of the split.
        version: Version of the data.
        scenes: Scenes to keep; ``*`` keeps all.
        num_classes: Labels run from 0 to this, less one.

    Raises:
        MissingDataError: There is no such file, or not a single episode.
        DataError: An episode is malformed.
    """
    path = Path(str(data_path).replace("{version}", version).replace("{split}", split or ""))
    if split is not None and path.is_dir():
        path = path / version / split / f"{split}.json.gz"
    top = _read_json(path)
    episodes = list(_episodes_of(top, path, num_classes))
    if "content_scenes_path" in top:
        content = _content_files(top["content_scenes_path"], path)
    else:
        content = sorted(path.parent.glob("content/*.json.gz"))
    wanted = set(scenes)
    for file in content:
        if "*" in wanted or file.name.removesuffix(".gz").removesuffix(".json") in wanted:
            episodes += _episodes_of(_read_json(file), file, num_classes)
    if "*" not in wanted:
        episodes = [episode for episode in episodes if episode.scene in wanted]
    if not episodes:
        raise MissingDataError(
            describe("a split without episodes", got=str(path), fix="write it again, or widen scenes")
        )
    return episodes


def _content_files(pattern: Any, path: Path) -> list[Path]:
    """Return the content files that a top file names by a pattern with ``{data_path}`` and ``{scene}``."""
    try:
        place = Path(pattern.replace("{data_path}", str(path.parent)).replace("{scene}", "*"))
        return sorted(place.parent.glob(place.name))
    except (AttributeError, ValueError, NotImplementedError, OSError) as error:
        allowed = "{data_path}/content/{scene}.json.gz"
        raise DataError(describe(f"{path}: bad content_scenes_path", got=_brief(pattern), allowed=allowed)) from error


def _episodes_of(found: dict, path: Path, num_classes: int) -> Iterable[Episode]:
    if not isinstance(found, dict) or not isinstance(found.get("episodes"), list):
        raise DataError(describe(f"{path} holds no episodes", allowed='{"episodes": [...]}'))
    return (episode_from_json(item, str(path), num_classes=num_classes) for item in found["episodes"])


def _read_json(path: Path) -> Any:
    if not path.is_file():
        raise MissingDataError(describe("no such file of episodes", got=str(path), fix="check data_path and split"))
    try:
        content = path.read_bytes()
        return parse_json(gunzip(content) if path.suffix == ".gz" else content)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(describe(f"{path} is no JSON that can be read ({error})")) from error


def write_episodes(folder: str | os.PathLike, split: str, episodes: Sequence[Episode], *, version: str = "v1") -> Path:
    """Write a split in the published layout, one content file per scene and an empty top file.

    Args:
        folder: Above ``<version>/<split>/``.
        split: Name of the split.
        episodes: What to write.
        version: Version of the data.

    Returns:
        The top file.
    """
    place = Path(folder) / version / split
    scenes = sorted({episode.scene for episode in episodes})
    for scene in scenes:
        of_scene = [episode.to_json() for episode in episodes if episode.scene == scene]
        _write_json(place / "content" / f"{scene}.json.gz", {"episodes": of_scene})
    for left in (place / "content").glob("*.json.gz"):
        if left.name.removesuffix(".json.gz") not in scenes:
            left.unlink()
    _write_json(place / f"{split}.json.gz", {"episodes": []})
    return place / f"{split}.json.gz"


def _write_json(path: Path, value: Any) -> None:
    with atomic_write(path, "wb") as stream:
        stream.write(gzip.compress(json.dumps(value).encode(), mtime=0))


class EpisodeIterator:
    """Gives episodes one after the other, for ever.

    Args:
        episodes: What to give.
        shuffle: Draw a new order in every pass; otherwise that of ``episodes``.
        group_by_scene: Keep the episodes of a scene together.
        max_scene_steps: After about this many steps in a scene go to the next and come back later; None never.
        step_jitter: Share by which ``max_scene_steps`` is drawn up or down each time.
        seed: Of the order.
    """

    def __init__(
        self,
        episodes: Sequence[Episode],
        *,
        shuffle: bool = False,
        group_by_scene: bool = True,
        max_scene_steps: int | None = None,
        step_jitter: float = 0.2,
        seed: int = 0,
    ) -> None:
        if not episodes:
            usage_error("an environment needs episodes", got=0, allowed="1 or more")
        self.episodes = tuple(episodes)
        self.shuffle, self.group_by_scene = shuffle, group_by_scene
        self.max_scene_steps, self.step_jitter = max_scene_steps, step_jitter
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Begin anew with another seed."""
        self._rng = np.random.default_rng(seed)
        self._queue: list[int] = []
        self._steps_here = 0
        self._scene: str | None = None
        self._limit = self._draw_limit()

    def _draw_limit(self) -> float:
        if self.max_scene_steps is None:
            return float("inf")
        return self.max_scene_steps * (1 + self.step_jitter * self._rng.uniform(-1, 1))

    def _refill(self) -> None:
        count = len(self.episodes)
        order: list[int] = (self._rng.permutation(count) if self.shuffle else np.arange(count)).tolist()
        if self.group_by_scene and self.shuffle:
            first: dict[str, int] = {}
            for rank, index in enumerate(order):
                first.setdefault(self.episodes[index].scene, rank)
            order.sort(key=lambda index: first[self.episodes[index].scene])
        self._queue = order

    def next(self) -> Episode:
        """Return the next episode."""
        if not self._queue:
            self._refill()
        if self._steps_here >= self._limit:
            here = [index for index in self._queue if self.episodes[index].scene == self._scene]
            self._queue = [index for index in self._queue if self.episodes[index].scene != self._scene] + here
            self._steps_here, self._limit = 0, self._draw_limit()
        episode = self.episodes[self._queue.pop(0)]
        if episode.scene != self._scene:
            self._scene, self._steps_here = episode.scene, 0
        return episode

    def count_step(self) -> None:
        """Count a step in the present scene."""
        self._steps_here += 1

    def state_dict(self) -> dict[str, Any]:
        """Return all that decides what comes next."""
        return {
            "queue": list(self._queue),
            "steps_here": self._steps_here,
            "scene": self._scene,
            "limit": self._limit,
            "rng": self._rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of :meth:`state_dict`."""
        self._queue, self._scene = [int(index) for index in state["queue"]], state["scene"]
        self._steps_here, self._limit = int(state["steps_here"]), float(state["limit"])
        self._rng.bit_generator.state = state["rng"]


def split_episodes(
    episodes: Sequence[Episode], num_parts: int, *, by: str = "auto", seed: int | None = None
) -> list[list[Episode]]:
    """Deal episodes to several environments.

    Args:
        episodes: What to deal.
        num_parts: How many environments.
        by: ``scene`` deals whole scenes in turn, as the reference does; ``episode`` single episodes; ``auto`` takes
            ``scene`` where there are enough of them.
        seed: Shuffles the scenes first.

    Raises:
        UsageError: There are fewer scenes, or episodes, than parts.
    """
    scenes = list(dict.fromkeys(episode.scene for episode in episodes))
    if by == "auto":
        by = "scene" if len(scenes) >= num_parts else "episode"
    units: list[Any] = scenes if by == "scene" else list(episodes)
    if by not in ("scene", "episode") or len(units) < num_parts:
        usage_error(f"cannot deal {len(units)} by {by}", got=num_parts, allowed=f"1 to {len(units)} environments")
    if by == "episode":
        return [list(episodes[part::num_parts]) for part in range(num_parts)]
    if seed is not None:
        scenes = [scenes[i] for i in np.random.default_rng(seed).permutation(len(scenes))]
    part_of = {scene: rank % num_parts for rank, scene in enumerate(scenes)}
    return [[episode for episode in episodes if part_of[episode.scene] == part] for part in range(num_parts)]
