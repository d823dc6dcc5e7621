# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Generated houses as scenes: computed when asked for, or written in the tree of SoundSpaces or packed."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from espnet_av.activesep.ears import choose_ears
from espnet_av.activesep.graph import ROTATIONS, NavigationGraph, write_points
from espnet_av.activesep.packed import pack_scene
from espnet_av.activesep.safe_pickle import write_pickle
from espnet_av.activesep.scene import SceneStore, WavTree
from espnet_av.activesep.scene_files import AZIMUTHS, DEPTH_RANGE, SAMPLE_RATE, Observation, ScenePaths
from espnet_av.activesep.world_acoustics import WorldAcoustics
from espnet_av.activesep.world_layout import LayoutRules, World, draw_world
from espnet_av.activesep.world_render import WorldCamera
from espnet_av.utils.errors import usage_error
from espnet_av.utils.folders import atomic_folder
from espnet_av.utils.optional import require
from espnet_av.utils.progress import progress

logger = logging.getLogger(__name__)
FORMATS = ("packed", "wavdir", "on_the_fly")


class GeneratedScene:
    """A house as a backend of :class:`SceneStore`: nothing is stored, all is computed.

    Args:
        world: The house.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.points, self.graph = world.points, world.graph()
        self._acoustics: WorldAcoustics | None = None
        self._camera: WorldCamera | None = None

    @property
    def sources(self) -> Sequence[int]:
        """Return the nodes at which something can sound."""
        return self.world.sources

    def rir(self, azimuth: int, receiver: int, source: int) -> np.ndarray | None:
        """Return an impulse response, float32 ``(L, 2)``, or None where there is none."""
        if receiver not in self.graph or source not in self.world.sources or azimuth not in AZIMUTHS:
            return None
        if self._acoustics is None:
            self._acoustics = WorldAcoustics(self.world)
        return self._acoustics.rir(source, receiver, -azimuth % 360)

    def observation(self, node: int, rotation: int) -> Observation | None:
        """Return image and depth, or None where there are none."""
        if node not in self.graph or rotation not in ROTATIONS:
            return None
        if self._camera is None:
            self._camera = WorldCamera(self.world)
        return self._camera.observation(node, rotation)


def open_world(path: str | os.PathLike) -> GeneratedScene:
    """Open the plan of a house, ``world.json``."""
    return GeneratedScene(World.read(path))


def generate_scene(
    root: str | os.PathLike,
    name: str,
    seed: int,
    rules: LayoutRules | None = None,
    *,
    formats: Sequence[str] = ("packed",),
    dataset: str = "mp3d",
    rir_type: str = "int16",
    ears: str = "auto",
    **options: object,
) -> SceneStore:
    """Draw a house and write it as a scene. The same seed and options give the same files.

    Args:
        root: Folder above ``metadata/`` and the rest.
        name: Of the scene.
        seed: Of chance.
        rules: What the house is like.
        formats: ``packed``, ``wavdir`` (the tree of SoundSpaces) or ``on_the_fly`` (the plan only), or several.
        dataset: Folder between ``metadata/`` and the scenes.
        rir_type: Of the packed form, see :func:`pack_scene`.
        ears: ``kemar``, ``sphere``, or ``auto``.
        **options: Further fields of :class:`World`, as ``num_taps``.

    Returns:
        The scene, computed when asked.
    """
    unknown = set(formats) - set(FORMATS)
    if unknown:
        usage_error("unknown form of a scene", got=sorted(unknown), allowed=FORMATS)
    world = draw_world(name, seed, rules, ears=choose_ears(ears), **options)
    paths = ScenePaths.below(root, dataset)
    store = SceneStore(name, GeneratedScene(world), rir_cache=0, observation_cache=0)
    write_metadata(paths, world, store.graph)
    if "packed" in formats:
        pack_scene(store, paths.packed / name, rir_type=rir_type)
    if "wavdir" in formats:
        write_wav_tree(store, paths)
    return store


def write_metadata(paths: ScenePaths, world: World, graph: NavigationGraph) -> None:
    """Write ``points.txt``, ``graph.pkl`` and ``world.json`` of a house."""
    with atomic_folder(paths.metadata / world.name) as folder:
        write_points(folder / "points.txt", world.points)
        write_pickle(folder / "graph.pkl", to_networkx(graph))
        world.write(folder / "world.json")


def to_networkx(graph: NavigationGraph) -> object:
    """Return a graph as a ``networkx.Graph`` with attribute ``point``, as published files hold it."""
    networkx = require("networkx", "rl")
    found = networkx.Graph()
    for node in graph.nodes:
        found.add_node(int(node), point=tuple(graph.positions[node].tolist()))
    found.add_edges_from((node, other) for node in graph.nodes for other in graph.neighbours.get(node, ()))
    return found


def write_wav_tree(store: SceneStore, paths: ScenePaths) -> None:
    """Write impulse responses and images of a scene in the tree of SoundSpaces (images as before July 2022)."""
    from scipy.io import wavfile  # soundfile would write the time into the files

    with atomic_folder(paths.rirs / store.name) as folder:
        for azimuth in AZIMUTHS:
            (folder / str(azimuth)).mkdir()
        order = [(a, r, s) for s in store.sources for r in store.graph.nodes for a in AZIMUTHS]
        for azimuth, receiver, source in progress(order, title=f"files of {store.name}", unit="file"):
            response = store.backend.rir(azimuth, receiver, source)
            if response is not None:
                name = folder / str(azimuth) / f"{receiver}_{source}.wav"
                wavfile.write(name, SAMPLE_RATE, response)
    seen = {}
    for node in store.graph.nodes:
        for rotation in ROTATIONS:
            found = store.backend.observation(node, rotation)
            if found is not None:
                opaque = np.full((*found["rgb"].shape[:2], 1), 255, np.uint8)
                metres = found["depth"][:, :, 0] * np.float32(DEPTH_RANGE)
                seen[node, rotation] = {"rgb": np.concatenate([found["rgb"], opaque], axis=2), "depth": metres}
    write_pickle(paths.observations / f"{store.name}.pkl", seen)


def pack_tree(root: str | os.PathLike, name: str, *, dataset: str = "mp3d", rir_type: str = "float32") -> Path:
    """Pack a scene that lies in the tree of SoundSpaces; return the folder of the packed form."""
    paths = ScenePaths.below(root, dataset)
    store = SceneStore(name, WavTree(paths, name))
    return pack_scene(store, paths.packed / name, rir_type=rir_type)
