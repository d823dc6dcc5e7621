# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""One look over all data of active separation before a long training: what is missing or malformed, by name."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_av.activesep.classes import ClassTable
from espnet_av.activesep.episodes import Episode, read_episodes
from espnet_av.activesep.graph import ROTATIONS
from espnet_av.activesep.passive_points import PassivePoint, read_passive_points
from espnet_av.activesep.scene import SceneStore, WavTree, open_scene
from espnet_av.activesep.scene_files import AZIMUTHS, SAMPLE_RATE, ScenePaths
from espnet_av.activesep.sounds import ClipLibrary, class_of, read_clip
from espnet_av.utils.errors import DataError, UsageError, describe
from espnet_av.utils.progress import progress


@dataclass(frozen=True)
class Problem:
    """Something that is wrong.

    Attributes:
        kind: A few words, the same for all problems of a kind.
        where: The file, node or episode.
        blocks: Whether training would stop there; otherwise it goes on with silence.
    """

    kind: str
    where: str
    blocks: bool = True


def check_scene(store: SceneStore, *, images: bool = True) -> Iterator[Problem]:
    """Yield what a scene lacks.

    Args:
        store: The scene.
        images: Look for an observation of every node and rotation as well.
    """
    name, graph = store.name, store.graph
    for node in graph.nodes:
        if node >= len(store.points):
            yield Problem("node that is not in points.txt", f"{name}: node {node}")
    reached = graph.steps_from(graph.nodes[0]) if graph.nodes else {}
    if len(reached) < len(graph):
        yield Problem(
            "nodes that cannot be walked to", f"{name}: {len(graph) - len(reached)} of {len(graph)}", blocks=False
        )
    if not store.sources:
        yield Problem("scene without impulse responses", name)
    for source in store.sources:
        for receiver in graph.nodes:
            for azimuth in AZIMUTHS:
                yield from _check_rir(store, azimuth, receiver, source)
    if not images:
        return
    for node in graph.nodes:
        for rotation in ROTATIONS:
            try:
                if store.backend.observation(node, rotation) is None:
                    yield Problem("graph node without observation", f"{name}: node {node} at {rotation} degrees")
            except DataError as error:
                yield Problem("observation that cannot be used", f"{name}: {error}")
                if not isinstance(store.backend, WavTree) or store.backend._observations is None:
                    return  # the file as a whole


def _check_rir(store: SceneStore, azimuth: int, receiver: int, source: int) -> Iterator[Problem]:
    where = f"{store.name}: {azimuth}/{receiver}_{source}"
    try:
        if store.backend.rir(azimuth, receiver, source) is None:
            yield Problem("impulse response missing or empty", where, blocks=store.missing_rir == "error")
    except DataError as error:
        yield Problem("impulse response that cannot be used", str(error))


def check_episodes(
    episodes: Iterable[Episode], stores: dict[str, SceneStore], clips: ClipLibrary | None
) -> Iterator[Problem]:
    """Yield what is wrong with episodes: places off the graph, labels, clips that are not there."""
    seen: set[str] = set()
    for episode in episodes:
        where = f"{episode.scene}, episode {episode.episode_id}"
        store = stores.get(episode.scene)
        if store is None:
            if episode.scene not in seen:
                yield Problem("episodes of a scene that is not there", episode.scene)
                seen.add(episode.scene)
        else:
            yield from _check_places(episode, store, where)
        if clips is None:
            continue
        for sound in episode.sounds:
            if sound.clip not in clips:
                yield Problem("episode with a clip that is not there", f"{where}: {clips.folder / sound.clip}.wav")
        first = class_of(episode.sounds[0].clip)
        if first in clips.classes and clips.classes.label(first) != episode.target_label:
            yield Problem(
                "target label that is not that of the first clip", f"{where}: {episode.target_label} for {first}"
            )


def _check_places(episode: Episode, store: SceneStore, where: str) -> Iterator[Problem]:
    start = store.node_at(episode.start_position)
    if start is None:
        yield Problem("episode that starts off the graph", f"{where}: {episode.start_position}")
    for number, goal in enumerate(episode.goals):
        node = store.node_at(goal)
        if node is None:
            yield Problem("source off the graph", f"{where}: source {number} at {goal}")
        elif node not in store.sources:
            yield Problem("source without impulse responses", f"{where}: source {number} at node {node}", blocks=False)


def check_clips(folder: str | os.PathLike, classes: ClassTable, *, min_sec: float = 0.0) -> Iterator[Problem]:
    """Yield clips that are not 16 kHz, mono and 16 bit, too short, or of an unknown class."""
    for path in progress(sorted(Path(folder).glob("*.wav")), title=f"clips of {folder}"):
        try:
            seconds = len(read_clip(path)) / SAMPLE_RATE
        except DataError as error:
            yield Problem("clip that cannot be used", str(error))
            continue
        if seconds < min_sec:
            yield Problem("clip that is too short", f"{path}: {seconds:.2f} s of {min_sec:g} s", blocks=False)
        if class_of(path.stem) not in classes:
            yield Problem("clip of a class without a label", str(path), blocks=False)


def check_points(points: Iterable[PassivePoint], stores: dict[str, SceneStore]) -> Iterator[Problem]:
    """Yield passive data points that name nodes which are not there."""
    for point in points:
        store = stores.get(point.scene)
        if store is None:
            yield Problem("data points of a scene that is not there", point.scene)
            continue
        for node in (point.receiver, *point.sources):
            if node not in store.graph:
                yield Problem("data point off the graph", f"{point.scene}: node {node}")


@dataclass(frozen=True)
class CheckRequest:
    """What to look at.

    Attributes:
        paths: Folders of the scenes.
        scenes: Their names; all that are there when empty.
        backend: See :func:`open_scene`.
        clips: Folders of long clips, or of any clips.
        classes: Labels of the classes.
        active: Folder above ``v1/<split>``, with ``splits``.
        splits: Splits of episodes.
        passive: Folder above ``v1/<split>``, with ``passive_splits``.
        passive_splits: Splits of data points.
        images: Look at the images as well.
    """

    paths: ScenePaths
    scenes: tuple[str, ...] = ()
    backend: str = "auto"
    clips: tuple[Path, ...] = ()
    classes: ClassTable | None = None
    active: Path | None = None
    splits: tuple[str, ...] = ()
    passive: Path | None = None
    passive_splits: tuple[str, ...] = ()
    images: bool = True


def check_all(request: CheckRequest) -> tuple[list[Problem], list[str]]:
    """Look over everything.

    Returns:
        The problems, and one line about each part that was looked at.

    Raises:
        UsageError: Splits are named, and the folder that holds them is not.
    """
    problems: list[Problem] = []
    lines: list[str] = []
    classes = request.classes or ClassTable.published()
    stores: dict[str, SceneStore] = {}
    names = request.scenes or request.paths.scenes()
    if not names:
        problems.append(Problem("no scenes", str(request.paths.metadata)))
    for name in names:
        try:
            stores[name] = store = open_scene(request.paths, name, request.backend, rir_cache=0, observation_cache=0)
            problems += check_scene(store, images=request.images)
            responses = 4 * len(store.graph) * len(store.sources)
            lines.append(f"scene {name}: {len(store.graph)} nodes, {len(store.sources)} sources, {responses} responses")
        except DataError as error:
            problems.append(Problem("scene that cannot be opened", str(error)))
    libraries = []
    for folder in request.clips:
        try:
            libraries.append(ClipLibrary(folder, classes=classes))
            problems += check_clips(folder, classes)
            lines.append(f"clips {folder}: {len(libraries[-1])} of {len(libraries[-1].by_class())} classes")
        except DataError as error:
            problems.append(Problem("clips that cannot be used", str(error)))
    for split in request.splits:
        try:
            episodes = read_episodes(_given(request.active, "active"), split, num_classes=classes.num_classes)
            problems += check_episodes(episodes, stores, libraries[0] if libraries else None)
            lines.append(f"split {split}: {len(episodes)} episodes in {len({e.scene for e in episodes})} scenes")
        except DataError as error:
            problems.append(Problem("episodes that cannot be read", str(error)))
    for split in request.passive_splits:
        try:
            points = read_passive_points(_given(request.passive, "passive"), split)
            problems += check_points(points, stores)
            lines.append(f"passive split {split}: {len(points)} data points")
        except DataError as error:
            problems.append(Problem("data points that cannot be read", str(error)))
    return problems, lines


def _given(folder: Path | None, name: str) -> Path:
    if folder is None:
        raise UsageError(describe("splits are named without their folder", fix=f"set {name}"))
    return folder


def summarise(problems: Sequence[Problem], *, most: int = 5) -> list[str]:
    """Return lines that count the problems by kind and name the first few of each."""
    lines = []
    for kind, count in Counter(problem.kind for problem in problems).most_common():
        of_kind = [problem for problem in problems if problem.kind == kind]
        severity = "error" if any(problem.blocks for problem in of_kind) else "warning"
        lines.append(f"{severity}: {kind}: {count}")
        lines += [f"  {problem.where}" for problem in of_kind[:most]]
        if count > most:
            lines.append(f"  ... and {count - most} more")
    return lines
