# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Examples in the report of active separation: maps with ways, spectrograms before and after, sound."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.activesep.checkpoint_search import MAIN_REWARD, read_played
from espnet_av.activesep.episodes import Episode, read_episodes
from espnet_av.activesep.eval_results import EpisodeRecord, EvaluationResult
from espnet_av.activesep.recipe_data import PLAN, Stores
from espnet_av.activesep.scene_files import ScenePaths
from espnet_av.activesep.world_layout import World
from espnet_av.activesep.world_render import extent, top_view
from espnet_av.report.activesep_plots import trajectory_map
from espnet_av.report.activesep_results import sets_of, title_of
from espnet_av.report.codec_plots import spectrogram_picture
from espnet_av.report.media import data_uri, flac_bytes
from espnet_av.report.room import Room
from espnet_av.train.provenance import changed_sets, check_unchanged
from espnet_av.utils.errors import DataError

logger = logging.getLogger(__name__)
SOUNDS = {
    "mixture": "mixture at the ears",
    "mono": "estimate of the separators",
    "monoFromMem": "estimate refined by the memory",
    "target": "target at the ears",
}
WALKERS = (MAIN_REWARD, "approach", "random")
MAX_PER_SET = 3


@dataclass
class EpisodeExample:
    """One episode to look at and to listen to.

    Attributes:
        title: Scene and number.
        set_name: Test set.
        note: What came out.
        map: Address of the map; None: the scene is not there.
        picture: Address of the spectrograms.
        picture_png: The spectrograms themselves.
        map_png: The map itself.
        sounds: ``title`` and ``address`` of each sound.
    """

    title: str
    set_name: str
    note: str
    map: str | None = None
    picture: str | None = None
    picture_png: bytes | None = None
    map_png: bytes | None = None
    sounds: list[dict[str, str]] = field(default_factory=list)


def find_world(config: Mapping[str, Any] | None, dump_dir: Path) -> tuple[Path, str] | None:
    """Return root and data set of the scenes: those of the training, else what is packed in ``dump_dir``."""
    config = config or {}
    root = config.get("world_root")
    if root and Path(root).is_dir():
        return Path(root), str(config.get("world_dataset") or "mp3d")
    packed = sorted((dump_dir / "world" / "packed").glob("*"))
    return (dump_dir / "world", packed[0].name) if packed else None


class Maps:
    """Draws maps of episodes.

    Args:
        world: Root and data set of the scenes; None: there are no maps.
        dump_dir: With ``episodes/v1/<set>``.
        changed: Sets whose episodes are no longer those that were played.
    """

    def __init__(self, world: tuple[Path, str] | None, dump_dir: Path, changed: Collection[str] = ()) -> None:
        self.changed = changed
        self.stores = Stores(*world) if world else None
        self.paths = ScenePaths.below(*world) if world else None
        self.folder = dump_dir / "episodes"
        self._episodes: dict[str, dict[tuple[str, str], Episode]] = {}

    def episode(self, set_name: str, record: EpisodeRecord) -> Episode | None:
        """Return the episode that was played."""
        if set_name not in self._episodes:
            found = read_episodes(self.folder, set_name)
            self._episodes[set_name] = {(item.scene, item.episode_id): item for item in found}
        return self._episodes[set_name].get((record.scene, record.episode_id))

    def draw(self, set_name: str, records: Mapping[str, EpisodeRecord]) -> bytes | None:
        """Return the map of an episode with the ways of several systems as PNG; None where something is missing."""
        record = next(iter(records.values()))
        if self.stores is None or self.paths is None:
            return None
        try:
            check_unchanged(set_name, self.changed)
            store, episode = self.stores[record.scene], self.episode(set_name, record)
            plan = self.paths.metadata / record.scene / PLAN
            world = World.read(plan) if plan.is_file() else None
        except DataError as error:
            logger.warning("no map in the report: %s", error)
            return None
        background = None
        if world is not None:
            (left, bottom), (right, top) = extent(world)
            background = (top_view(world), (left, right, bottom, top))
        sources = [store.node_at(goal) for goal in episode.goals] if episode else []
        ways = {title_of(name): item.nodes for name, item in records.items()}
        return trajectory_map(store.graph.positions, ways, [node for node in sources if node is not None], background)


def examples(
    exp_dir: Path, dump_dir: Path, config: Mapping[str, Any] | None, results: Mapping[str, Any], max_bytes: int
) -> tuple[list[EpisodeExample], Room]:
    """Return examples of all sets whose sound was kept, and the room they took, which knows what was left out.

    Args:
        exp_dir: The experiment.
        dump_dir: Data folders.
        config: Its configuration.
        results: Content of ``results.json``.
        max_bytes: Room for sound and pictures.
    """
    maps = Maps(find_world(config, dump_dir), dump_dir, changed_sets(results, dump_dir))
    found, room = [], Room(max_bytes)
    for set_name, systems in read_played(exp_dir, sets_of(results["rows"])).items():
        played = systems.get(MAIN_REWARD) or next(iter(systems.values()))
        seed, result = next(iter(sorted(played.items())))
        system = MAIN_REWARD if MAIN_REWARD in systems else next(iter(systems))
        folder = exp_dir / "test" / set_name / system / f"seed{seed}" / "sounds"
        numbers = sorted(int(path.name.split("_")[0]) for path in folder.glob("[0-9]*_*"))[:MAX_PER_SET] or [1]
        for number in numbers:
            record = result.episodes[number - 1]
            example = _describe(set_name, record)
            ways = {name: way for name in WALKERS if (way := _same(systems.get(name), record)) is not None}
            example.map_png = maps.draw(set_name, ways or {system: record})
            if example.map_png:
                example.map = room.take(data_uri(example.map_png, "image/png"), f"map of {example.title}")
            places = sorted(folder.glob(f"{number:04d}_*"))
            _add_sounds(example, places[0] if places else None, room)
            found.append(example)
    return found, room


def _same(played: Mapping[int, EvaluationResult] | None, record: EpisodeRecord) -> EpisodeRecord | None:
    result = next(iter(sorted(played.items())))[1] if played else None
    items = result.episodes if result else ()
    return next((item for item in items if (item.scene, item.episode_id) == (record.scene, record.episode_id)), None)


def _describe(set_name: str, record: EpisodeRecord) -> EpisodeExample:
    refined = record.metrics.get("monoFromMem", {})
    parts = [f"return {sum(record.rewards):.2f}"]
    distance = refined.get("paper", {}).get("stft_l2")
    if distance:
        parts.append(f"STFT distance {np.mean(distance):.3f}")
    gain = refined.get("honest", {}).get("si_sdri")
    if gain and np.isfinite(gain).all():
        parts.append(f"SI-SDRi {np.mean(gain):.1f} dB")
    parts.append(f"{record.distances[0]:g} steps from the target at first, {record.distances[-1]:g} at last")
    return EpisodeExample(f"{record.scene}, episode {record.episode_id}", set_name, ", ".join(parts))


def _add_sounds(example: EpisodeExample, folder: Path | None, room: Room) -> None:
    """Add players and spectrograms as far as there is room."""
    import soundfile

    shown = {}
    for name, title in SOUNDS.items():
        path = folder / f"{name}.wav" if folder else None
        if path is None or not path.is_file():
            continue
        wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
        shown[title] = wave.mean(axis=1)
        what = f"sound '{title}' of {example.title}"
        address = room.take(data_uri(flac_bytes(wave, rate), "audio/flac"), what)
        if address:
            example.sounds.append({"title": title, "address": address})
    if shown:
        example.picture_png = spectrogram_picture(shown, rate)
        address = data_uri(example.picture_png, "image/png")
        example.picture = room.take(address, f"spectrograms of {example.title}")
