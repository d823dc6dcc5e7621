# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Data stages of the recipes: scenes packed, scenes and clips looked over, episodes and passive points given or drawn.

What cannot be used is left out with a reason and a count, in ``filter_report.json`` beside what is kept.
"""

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from espnet_av.activesep.classes import ClassTable
from espnet_av.activesep.data_check import check_scene
from espnet_av.activesep.episode_generator import EpisodeRules, draw_episodes
from espnet_av.activesep.episodes import Episode, read_episodes, write_episodes
from espnet_av.activesep.packed import pack_scene
from espnet_av.activesep.passive_points import (
    PassivePoint,
    draw_passive_points,
    read_passive_points,
    write_passive_points,
)
from espnet_av.activesep.scene import SceneStore, open_scene
from espnet_av.activesep.scene_files import SAMPLE_RATE, ScenePaths
from espnet_av.activesep.sounds import ClipLibrary, class_of
from espnet_av.data.drops import Drops
from espnet_av.train.rng import derive_seed
from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.experiment import read_json
from espnet_av.utils.files import atomic_write
from espnet_av.utils.folders import atomic_folder
from espnet_av.utils.progress import progress

REPORT = "filter_report.json"
KINDS = ("min20s_clips", "1s_chunks")
PLAN = "world.json"


def pack_into(world: Path, dataset: str, name: str, output: Path, rir_type: str) -> Path:
    """Pack a scene of any form into another root, with the plan of a generated house."""
    store = open_scene(world, name, dataset=dataset, rir_cache=0, observation_cache=0)
    folder = pack_scene(store, ScenePaths.below(output, dataset).packed / name, rir_type=rir_type)
    plan = ScenePaths.below(world, dataset).metadata / name / PLAN
    if plan.is_file():
        place = ScenePaths.below(output, dataset).metadata / name / PLAN
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(plan, place)
    return folder


def read_names(path: str | os.PathLike) -> list[str]:
    """Read a list of names, one a line.

    Raises:
        MissingDataError: There is no such list, or nothing in it.
    """
    path = Path(path)
    names = path.read_text(encoding="utf-8").split() if path.is_file() else []
    if not names:
        raise MissingDataError(describe("no list of scenes", got=str(path), fix="run stage 1 (prepare)"))
    return names


def _write_report(folder: Path, drops: Drops) -> None:
    with atomic_write(folder / REPORT) as stream:
        json.dump(drops.summary(), stream, indent=1)


def filter_scenes(
    world: Path, dataset: str, lists: Path, sets: Sequence[str], output: Path, *, full: bool, max_share: float
) -> Drops:
    """Write the lists of scenes that can be used.

    Args:
        world: Root of the scenes.
        dataset: Folder between there and the scenes.
        lists: Folder with one list of names for each set.
        sets: Names of the sets.
        output: Folder for the new lists and the report.
        full: Look at every impulse response and image; otherwise only open the scenes.
        max_share: More lost scenes than this are an error.

    Raises:
        DataError: A set has no scene left, or too many are lost.
    """
    wanted = {name: read_names(lists / name) for name in sets}
    scenes = sorted({scene for names in wanted.values() for scene in names})
    drops = Drops(len(scenes))
    for scene in progress(scenes, len(scenes), "scenes", "scene"):
        reason, detail = _scene_problem(world, dataset, scene, full)
        if reason:
            drops.add(scene, reason, detail)
    output.mkdir(parents=True, exist_ok=True)
    _write_report(output, drops)
    drops.check(max_share, output / REPORT)
    for name, names in wanted.items():
        kept = [scene for scene in names if scene not in drops]
        if not kept:
            raise DataError(describe(f"the set '{name}' has no scene that can be used; see {output / REPORT}"))
        with atomic_write(output / name) as stream:
            stream.writelines(f"{scene}\n" for scene in kept)
    return drops


def _scene_problem(world: Path, dataset: str, scene: str, full: bool) -> tuple[str, str]:
    try:
        store = open_scene(world, scene, dataset=dataset, rir_cache=0, observation_cache=0)
        if not len(store.graph) or not store.sources:
            return "empty", f"{len(store.graph)} nodes, {len(store.sources)} sources"
        for problem in check_scene(store) if full else ():
            if problem.blocks:
                return problem.kind.replace(" ", "_"), problem.where
    except DataError as error:
        return "cannot_be_opened", str(error)
    return "", ""


def filter_clips(source: Path, split: str, classes: ClassTable, output: Path, *, max_share: float) -> Drops:
    """Link the clips of a split that can be used: ``<output>/<kind>/<clip>.wav``.

    Args:
        source: Above ``<kind>/<split>_preprocessed/``.
        split: ``train``, ``valUnheard`` or ``testUnheard``.
        classes: Labels.
        output: Folder to make; an earlier one is replaced.
        max_share: More lost clips than this are an error.

    Raises:
        MissingDataError: There are no long clips of this split.
        DataError: Too many are lost.
    """
    found = {kind: sorted((source / kind / f"{split}_preprocessed").glob("*.wav")) for kind in KINDS}
    if not found[KINDS[0]]:
        raise MissingDataError(describe("no clips", got=str(source / KINDS[0] / f"{split}_preprocessed")))
    drops = Drops(sum(map(len, found.values())))
    with atomic_folder(output) as folder:
        for kind, paths in found.items():
            (folder / kind).mkdir()
            for path in progress(paths, len(paths), f"{kind} of {split}"):
                reason, detail = _clip_problem(path, classes)
                if reason:
                    drops.add(f"{kind}/{path.stem}", reason, detail)
                else:
                    (folder / kind / path.name).symlink_to(os.path.abspath(path.resolve()))
        _write_report(folder, drops)
        shutil.copyfile(folder / REPORT, output.parent / f".{output.name}.{REPORT}")  # stays when the next line raises
        drops.check(max_share, output.parent / f".{output.name}.{REPORT}")
    (output.parent / f".{output.name}.{REPORT}").unlink()
    return drops


def _clip_problem(path: Path, classes: ClassTable) -> tuple[str, str]:
    import soundfile

    try:
        facts = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError) as error:
        return "unreadable", str(error)
    if (facts.samplerate, facts.channels, facts.subtype) != (SAMPLE_RATE, 1, "PCM_16"):
        return "wrong_format", f"{facts.samplerate} Hz, {facts.channels} channels, {facts.subtype}"
    if facts.frames < SAMPLE_RATE:
        return "too_short", f"{facts.frames / SAMPLE_RATE:.2f} s"
    return ("", "") if class_of(path.stem) in classes else ("class_without_label", class_of(path.stem))


class Stores:
    """Opens scenes once.

    Args:
        world: Root of the scenes.
        dataset: Folder between there and the scenes.
    """

    def __init__(self, world: Path, dataset: str) -> None:
        self.world, self.dataset = world, dataset
        self._open: dict[str, SceneStore] = {}

    def __getitem__(self, name: str) -> SceneStore:
        """Return a scene."""
        if name not in self._open:
            self._open[name] = open_scene(self.world, name, dataset=self.dataset, rir_cache=0, observation_cache=0)
        return self._open[name]


def make_episodes(
    name: str,
    scenes: Sequence[str],
    stores: Stores,
    clips: ClipLibrary,
    output: Path,
    *,
    given: Path | None,
    count: int,
    rules: EpisodeRules,
    seed: int,
    max_share: float,
) -> Drops:
    """Write the episodes of a set: those that are given and can be played, or drawn ones.

    Args:
        name: Of the set, which becomes the split.
        scenes: Scenes to play in.
        stores: The scenes.
        clips: Long clips with their labels.
        output: Folder above ``v1/<set>/``.
        given: Folder with ``<set>.json`` (``{"split": name}``) and ``active_datasets``; None: draw.
        count: Episodes to draw, in all scenes together; of given ones, at most this many where it is not 0.
        rules: Of drawn episodes.
        seed: Of chance.
        max_share: More lost episodes than this are an error.
    """
    note = read_json(given / f"{name}.json") if given else None
    if given and note:
        episodes = read_episodes(given / "active_datasets", note["split"], num_classes=clips.classes.num_classes)
        episodes = episodes[:count] if count else episodes
    else:
        each = -(-count // len(scenes))
        drawn = [
            draw_episodes(stores[scene], clips, each, rules, seed=derive_seed(seed, "episodes", name, scene))
            for scene in scenes
        ]
        episodes = [episode for turn in zip(*drawn, strict=True) for episode in turn][:count]
    drops = Drops(len(episodes))
    kept = []
    for number, episode in enumerate(episodes):
        reason, detail = _episode_problem(episode, scenes, stores, clips)
        if reason:
            drops.add(f"{episode.scene}-{episode.episode_id}-{number}", reason, detail)
        else:
            kept.append(episode)
    folder = output / "v1" / name
    folder.mkdir(parents=True, exist_ok=True)
    _write_report(folder, drops)
    drops.check(max_share, folder / REPORT)
    write_episodes(output, name, kept)
    return drops


def _episode_problem(episode: Episode, scenes: Iterable[str], stores: Stores, clips: ClipLibrary) -> tuple[str, str]:
    if episode.scene not in scenes:
        return "scene_left_out", episode.scene
    store = stores[episode.scene]
    if store.node_at(episode.start_position) is None:
        return "starts_off_the_graph", str(episode.start_position)
    if any(store.node_at(goal) is None for goal in episode.goals):
        return "source_off_the_graph", str(episode.goals)
    missing = [sound.clip for sound in episode.sounds if sound.clip not in clips]
    if missing:
        return "clip_left_out", missing[0]
    first = class_of(episode.sounds[0].clip)
    if first in clips.classes and clips.classes.label(first) != episode.target_label:
        return "other_label", f"{episode.target_label} for {first}"
    return "", ""


def make_points(
    split: str,
    scenes: Sequence[str],
    stores: Stores,
    output: Path,
    *,
    given: Path | None,
    count: int,
    draw: dict[str, Any],
    seed: int,
) -> Drops:
    """Write passive data points: those that are given for these scenes, or drawn ones.

    Args:
        split: ``train`` or ``val``.
        scenes: Scenes to listen in.
        stores: The scenes.
        output: Folder above ``v1/<split>/``.
        given: Folder with ``passive_datasets``; None: draw.
        count: Points of each scene.
        draw: Keywords of :func:`draw_passive_points`.
        seed: Of chance.
    """
    published = given / "passive_datasets" if given else None
    points: list[PassivePoint] = []
    if published is not None and published.is_dir():
        there = [path.stem for path in sorted((published / "v1" / split).glob("*.pkl"))]
        available = ScenePaths.below(stores.world, stores.dataset).scenes()
        names = [scene for scene in there if scene in available] or there
        for scene in names:
            points += read_passive_points(published, split, scenes=[scene])[: count or None]
    else:
        for scene in scenes:
            own = derive_seed(seed, "points", split, scene)
            points += draw_passive_points(stores[scene], count, **draw, seed=own)
    drops = Drops(len(points))
    kept = []
    for number, point in enumerate(points):
        reason = _point_problem(point, stores)
        if reason:
            drops.add(f"{point.scene}-{number}", reason, str(point))
        else:
            kept.append(point)
    folder = output / "v1" / split
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _write_report(folder, drops)
    drops.check(1.0, folder / REPORT)
    write_passive_points(output, split, kept)
    return drops


def _point_problem(point: PassivePoint, stores: Stores) -> str:
    try:
        graph = stores[point.scene].graph
    except DataError:
        return "scene_left_out"
    return "" if all(node in graph for node in (point.receiver, *point.sources)) else "off_the_graph"


def library(folder: Path, table: Path) -> ClipLibrary:
    """Return the clips of a folder with a table of labels."""
    return ClipLibrary(folder, classes=ClassTable.read(table))
