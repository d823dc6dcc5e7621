# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""One scene behind one interface, wherever its sounds and images come from.

``wavdir`` reads the tree of SoundSpaces, ``packed`` a few mapped files, ``on_the_fly`` computes from the plan of a
generated world. The environment knows :class:`SceneStore` only.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import scipy.fft

from espnet_av.activesep.cache import LRUCache
from espnet_av.activesep.graph import NavigationGraph, read_graph, read_points
from espnet_av.activesep.packed import PackedScene
from espnet_av.activesep.scene_files import (
    Observation,
    ScenePaths,
    normalise_observation,
    read_observations,
    read_rir,
    require_folder,
)
from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error

logger = logging.getLogger(__name__)
BACKENDS = ("auto", "packed", "wavdir", "on_the_fly")
MISSING_RIR = ("zeros", "error")


class Backend(Protocol):
    """Where the content of a scene comes from."""

    points: np.ndarray
    graph: NavigationGraph

    @property
    def sources(self) -> Sequence[int]:
        """Return the nodes at which something can sound."""

    def rir(self, azimuth: int, receiver: int, source: int) -> np.ndarray | None:
        """Return an impulse response, float32 ``(L, 2)``, or None where there is none."""

    def observation(self, node: int, rotation: int) -> Observation | None:
        """Return image and depth, or None where there are none."""


class WavTree:
    """A scene in the tree of SoundSpaces 1.0.

    Args:
        paths: Where the tree lies.
        name: The scene.
        allow_diagonal: See :class:`NavigationGraph`.
    """

    def __init__(self, paths: ScenePaths, name: str, *, allow_diagonal: bool = False) -> None:
        self.paths, self.name = paths, name
        folder = require_folder(
            paths.metadata / name, f"scene {name}", "name a scene of this data, or fetch its metadata"
        )
        self.points = read_points(folder / "points.txt")
        self.graph = read_graph(folder / "graph.pkl", allow_diagonal=allow_diagonal)
        self._sources: tuple[int, ...] | None = None
        self._observations: dict | None = None

    @property
    def sources(self) -> Sequence[int]:
        """Return the nodes at which something can sound: those that some response is from."""
        if self._sources is None:
            names = (path.stem.split("_")[1] for path in (self.paths.rirs / self.name).glob("*/*_*.wav"))
            self._sources = tuple(sorted({int(name) for name in names}))
        return self._sources

    def rir(self, azimuth: int, receiver: int, source: int) -> np.ndarray | None:
        """Return an impulse response, float32 ``(L, 2)``, or None where there is none."""
        return read_rir(self.paths.rir(self.name, azimuth, receiver, source))

    def observation(self, node: int, rotation: int) -> Observation | None:
        """Return image and depth, or None where there are none."""
        path = self.paths.observations / f"{self.name}.pkl"
        if self._observations is None:
            self._observations = read_observations(path)
        found = self._observations.get((node, rotation))
        return None if found is None else normalise_observation(found, f"{path}: node {node} at {rotation} degrees")


class SceneStore:
    """A scene: where one can stand, what is heard and what is seen there. Recently used parts are kept.

    Args:
        name: The scene.
        backend: Where its content comes from.
        missing_rir: ``zeros`` makes a source silent where its response is absent or empty, as in the reference, and
            says so once; ``error`` stops.
        rir_cache: How many impulse responses, and as many spectra of them, are kept.
        observation_cache: How many observations are kept.

    Attributes:
        points: (n, 3) metres, habitat frame; indices are node numbers.
        graph: Where one can walk.
        missing: (azimuth, receiver, source) of responses that were asked for and are not there.
    """

    def __init__(
        self,
        name: str,
        backend: Backend,
        *,
        missing_rir: str = "zeros",
        rir_cache: int = 1024,
        observation_cache: int = 1024,
    ) -> None:
        if missing_rir not in MISSING_RIR:
            usage_error("unknown way with missing impulse responses", got=missing_rir, allowed=MISSING_RIR)
        self.name, self.backend, self.missing_rir = name, backend, missing_rir
        self.points, self.graph = backend.points, backend.graph
        self.missing: set[tuple[int, int, int]] = set()
        self._rirs, self._spectra = LRUCache(rir_cache), LRUCache(rir_cache)
        self._observations = LRUCache(observation_cache)

    @property
    def sources(self) -> Sequence[int]:
        """Return the nodes at which something can sound."""
        return self.backend.sources

    def node_at(self, position: Sequence[float]) -> int | None:
        """Return the node within 1 cm of a position in the habitat frame, or None."""
        return self.graph.node_at(position)

    def rir(self, azimuth: int, receiver: int, source: int) -> np.ndarray:
        """Return the binaural impulse response from a source to a receiver that looks towards an azimuth.

        Returns:
            float32 ``(L, 2)``; do not change it.

        Raises:
            MissingDataError: There is none, and ``missing_rir`` is ``error``.
        """
        return self._rirs.get((azimuth, receiver, source), lambda: self._read_rir(azimuth, receiver, source))

    def _read_rir(self, azimuth: int, receiver: int, source: int) -> np.ndarray:
        response = self.backend.rir(azimuth, receiver, source)
        if response is not None:
            return response
        message = describe(
            f"scene {self.name}: impulse response missing or empty",
            got=f"azimuth {azimuth}, receiver {receiver}, source {source}",
            fix="fetch it again; 'espnet-av check-world' lists all; missing_rir=zeros takes silence",
        )
        if self.missing_rir == "error":
            raise MissingDataError(message)
        if not self.missing:
            logger.warning("%s; silence is used, and further ones of this scene are not reported", message)
        self.missing.add((azimuth, receiver, source))
        return np.zeros((1, 2), np.float32)

    def rir_spectrum(self, azimuth: int, receiver: int, source: int, size: int) -> np.ndarray:
        """Return the FFT of an impulse response.

        Args:
            azimuth: See :meth:`rir`; so are ``receiver`` and ``source``.
            size: Length of the transform in samples.

        Returns:
            complex64 ``(2, size // 2 + 1)``; do not change it.
        """

        def make() -> np.ndarray:
            return scipy.fft.rfft(self.rir(azimuth, receiver, source).T, size)

        return self._spectra.get((azimuth, receiver, source, size), make)

    def observation(self, node: int, rotation: int) -> Observation:
        """Return what is seen.

        Returns:
            ``rgb`` uint8 (H, W, 3) and ``depth`` float32 (H, W, 1) from 0 to 1; do not change them.

        Raises:
            DataError: There is nothing for this node and rotation.
        """
        return self._observations.get((node, rotation), lambda: self._read_observation(node, rotation))

    def _read_observation(self, node: int, rotation: int) -> Observation:
        found = self.backend.observation(node, rotation)
        if found is None:
            raise DataError(
                describe(
                    f"scene {self.name}: graph node without observation",
                    got=f"node {node} at {rotation} degrees",
                    fix="fetch or render the observations of this scene again; 'espnet-av check-world' lists all",
                )
            )
        for array in found.values():
            array.flags.writeable = False
        return found


def open_scene(
    root: str | os.PathLike | ScenePaths,
    name: str,
    backend: str = "auto",
    *,
    dataset: str = "mp3d",
    allow_diagonal: bool = False,
    missing_rir: str = "zeros",
    rir_cache: int = 1024,
    observation_cache: int = 1024,
) -> SceneStore:
    """Open a scene.

    Args:
        root: Folder above ``metadata/`` and the rest, or the folders one by one.
        name: The scene.
        backend: ``packed``, ``wavdir`` or ``on_the_fly``; ``auto`` takes the first of them that is there.
        dataset: Folder between ``metadata/`` and the scenes.
        allow_diagonal: Let a step ahead also lead 45 degrees to the side where an edge does.
        missing_rir: See :class:`SceneStore`.
        rir_cache: See :class:`SceneStore`.
        observation_cache: See :class:`SceneStore`.

    Raises:
        MissingDataError: There is no such scene.
        DataError: A file of it cannot be used.
    """
    if backend not in BACKENDS:
        usage_error("unknown backend", got=backend, allowed=BACKENDS)
    paths = root if isinstance(root, ScenePaths) else ScenePaths.below(root, dataset)
    if backend == "auto":
        backend = _choose(paths, name)
    if backend == "packed":
        content: Backend = PackedScene(paths.packed / name)
        if allow_diagonal:
            content.graph = NavigationGraph(content.graph.positions, content.graph.neighbours, allow_diagonal=True)
    elif backend == "wavdir":
        content = WavTree(paths, name, allow_diagonal=allow_diagonal)
    else:
        from espnet_av.activesep.world_generator import open_world

        content = open_world(paths.metadata / name / "world.json")
    return SceneStore(name, content, missing_rir=missing_rir, rir_cache=rir_cache, observation_cache=observation_cache)


def _choose(paths: ScenePaths, name: str) -> str:
    if (paths.packed / name / "scene.json").is_file():
        return "packed"
    if (paths.rirs / name).is_dir():
        return "wavdir"
    if (paths.metadata / name / "world.json").is_file():
        return "on_the_fly"
    raise MissingDataError(
        describe(
            "no such scene",
            got=name,
            allowed=paths.scenes()[:20] or f"nothing in {paths.metadata}",
            fix=f"it needs {paths.rirs / name} (or a packed or generated form)",
        )
    )


class Scenes(Protocol):
    """What gives a scene by its name: a mapping, or a :class:`SceneLibrary`."""

    def __getitem__(self, name: str, /) -> SceneStore:
        """Return the scene of this name."""


class SceneLibrary:
    """Opens scenes when they are asked for and keeps them, so that environments of one process share caches.

    Args:
        root: See :func:`open_scene`, to which the keywords go as well.
        keep: How many scenes stay open.
        **options: Keywords of :func:`open_scene`.
    """

    def __init__(self, root: str | os.PathLike | ScenePaths, *, keep: int = 128, **options: Any) -> None:
        self.root = root if isinstance(root, ScenePaths) else Path(root)
        self.options = options
        self._open = LRUCache(keep)

    def __getitem__(self, name: str) -> SceneStore:
        """Return the scene of this name."""
        return self._open.get(name, lambda: open_scene(self.root, name, **self.options))
