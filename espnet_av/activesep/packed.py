# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A scene in a few files that are mapped into memory and shared by all processes that read it.

scene.json      points, nodes, edges, sources, what the files hold
rirs.npy        all impulse responses one after the other, (total, 2), float32 or int16
rir_index.npz   offset, length and scale of each by (azimuth, receiver, source); length 0: there is none
rgb.npy         (nodes, 4, H, W, 3) uint8
depth.npy       (nodes, 4, H, W, 1) float32, 0 to 1; NaN: there is none
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from espnet_av.activesep.graph import ROTATIONS, NavigationGraph
from espnet_av.activesep.scene_files import AZIMUTHS, SAMPLE_RATE, Observation
from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error
from espnet_av.utils.folders import atomic_folder
from espnet_av.utils.progress import progress
from espnet_av.utils.untrusted import load_npy, open_npz, parse_json

if TYPE_CHECKING:
    from espnet_av.activesep.scene import SceneStore

FORMAT = 1
_RIR_TYPES = {"float32": np.float32, "int16": np.int16}


class PackedScene:
    """Reads a packed scene; the arrays are mapped, so that opening costs nothing.

    Args:
        folder: ``packed/<dataset>/<scene>``.

    Raises:
        MissingDataError: A file is absent.
        DataError: It is of another format.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)
        try:
            described = parse_json((self.folder / "scene.json").read_bytes())
            if described.get("format") != FORMAT:
                raise DataError(
                    describe(f"{self.folder}: unknown format", described.get("format"), FORMAT, "pack the scene again")
                )
            self._rirs = load_npy(self.folder / "rirs.npy", mmap=True)
            with open_npz(self.folder / "rir_index.npz") as index:
                self._offset, self._length, self._scale = index["offset"], index["length"], index["scale"]
            self._rgb, self._depth = (
                load_npy(self.folder / name, mmap=True) if (self.folder / name).is_file() else None
                for name in ("rgb.npy", "depth.npy")
            )
        except FileNotFoundError as error:
            raise MissingDataError(
                describe("a packed scene lacks a file", error.filename, fix="pack it again")
            ) from error
        except DataError:
            raise
        except (ValueError, KeyError, AttributeError) as error:
            raise DataError(
                describe(f"{self.folder}: a damaged packed scene ({error})", fix="pack it again")
            ) from error
        self.points = np.array(described["points"], dtype=np.float64).reshape(-1, 3)
        positions = {int(node): position for node, position in described["nodes"].items()}
        self.graph = NavigationGraph(positions, {int(n): others for n, others in described["neighbours"].items()})
        self.sources = tuple(described["sources"])
        self._row = {node: row for row, node in enumerate(self.graph.nodes)}
        self._column = {source: column for column, source in enumerate(self.sources)}

    def rir(self, azimuth: int, receiver: int, source: int) -> np.ndarray | None:
        """Return an impulse response, float32 ``(L, 2)``, or None."""
        if receiver not in self._row or source not in self._column or azimuth not in AZIMUTHS:
            return None
        place = AZIMUTHS.index(azimuth), self._row[receiver], self._column[source]
        length, start = int(self._length[place]), int(self._offset[place])
        if not length:
            return None
        response = self._rirs[start : start + length]
        if response.dtype == np.int16:
            return response.astype(np.float32) * self._scale[place]
        return np.array(response)

    def observation(self, node: int, rotation: int) -> Observation | None:
        """Return image and depth, or None."""
        if self._depth is None or self._rgb is None or node not in self._row:
            return None
        place = self._row[node], ROTATIONS.index(rotation)
        depth = np.array(self._depth[place])
        if np.isnan(depth.flat[0]):
            return None
        return {"rgb": np.array(self._rgb[place]), "depth": depth}


def pack_scene(store: "SceneStore", folder: str | os.PathLike, *, rir_type: str = "float32") -> Path:
    """Write a scene in the packed form, whole or not at all.

    Args:
        store: The scene, of any backend.
        folder: ``packed/<dataset>/<scene>``.
        rir_type: ``float32`` (exact) or ``int16`` (half the size, noise 90 dB below the largest sample of a response).

    Returns:
        ``folder``.
    """
    if rir_type not in _RIR_TYPES:
        usage_error("unknown type of impulse responses", got=rir_type, allowed=sorted(_RIR_TYPES))
    nodes, sources = store.graph.nodes, tuple(store.sources)
    shape = (len(AZIMUTHS), len(nodes), len(sources))
    offset, length, scale = np.zeros(shape, np.int64), np.zeros(shape, np.int32), np.ones(shape, np.float32)
    with atomic_folder(folder) as made:
        with open(made / "rirs.raw", "wb") as stream:
            total = 0
            order = [(s, r, a) for s in range(len(sources)) for r in range(len(nodes)) for a in range(len(AZIMUTHS))]
            for s, r, a in progress(order, title=f"impulse responses of {store.name}", unit="response"):
                response = store.backend.rir(AZIMUTHS[a], nodes[r], sources[s])
                if response is None:
                    continue
                if rir_type == "int16":
                    scale[a, r, s] = max(float(np.abs(response).max()), 1e-9) / 32767
                    response = np.rint(response / scale[a, r, s]).astype(np.int16)
                stream.write(np.ascontiguousarray(response, dtype=_RIR_TYPES[rir_type]).tobytes())
                offset[a, r, s], length[a, r, s] = total, len(response)
                total += len(response)
        _wrap_raw(made / "rirs.raw", made / "rirs.npy", (total, 2), _RIR_TYPES[rir_type])
        np.savez(made / "rir_index.npz", offset=offset, length=length, scale=scale)
        _pack_observations(store, made)
        (made / "scene.json").write_text(json.dumps(_describe(store, sources)), encoding="utf-8")
    return Path(folder)


def _describe(store: "SceneStore", sources: tuple[int, ...]) -> dict[str, Any]:
    graph = store.graph
    return {
        "format": FORMAT,
        "scene": store.name,
        "sample_rate": SAMPLE_RATE,
        "points": np.asarray(store.points).tolist(),
        "nodes": {str(node): graph.positions[node].tolist() for node in graph.nodes},
        "neighbours": {str(node): list(graph.neighbours.get(node, ())) for node in graph.nodes},
        "sources": list(sources),
    }


def _wrap_raw(raw: Path, path: Path, shape: tuple[int, ...], kind: type) -> None:
    """Copy raw numbers into an .npy file in blocks."""
    if not shape[0]:
        np.save(path, np.zeros(shape, kind), allow_pickle=False)
    else:
        target = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)
        source = np.memmap(raw, mode="r", dtype=kind, shape=shape)
        for start in range(0, shape[0], 1 << 20):
            target[start : start + (1 << 20)] = source[start : start + (1 << 20)]
        target.flush()
    raw.unlink()


def _pack_observations(store: "SceneStore", folder: Path) -> None:
    nodes = store.graph.nodes
    found = (
        (i, j, store.backend.observation(node, rotation))
        for i, node in enumerate(nodes)
        for j, rotation in enumerate(ROTATIONS)
    )
    images: tuple[np.memmap, np.memmap] | None = None
    for i, j, observation in progress(found, total=4 * len(nodes), title=f"images of {store.name}", unit="image"):
        if observation is None or "rgb" not in observation or "depth" not in observation:
            continue
        if images is None:
            images = _new_images(folder, (len(nodes), len(ROTATIONS), *observation["rgb"].shape[:2]))
        rgb, depth = images
        rgb[i, j], depth[i, j] = observation["rgb"], observation["depth"]
    for each in images or ():
        each.flush()


def _new_images(folder: Path, shape: tuple[int, ...]) -> tuple[np.memmap, np.memmap]:
    rgb = np.lib.format.open_memmap(folder / "rgb.npy", mode="w+", dtype=np.uint8, shape=(*shape, 3))
    depth = np.lib.format.open_memmap(folder / "depth.npy", mode="w+", dtype=np.float32, shape=(*shape, 1))
    depth[:] = np.nan
    return rgb, depth
