# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Where the files of a scene lie, and how each kind is read: impulse responses, images, packed scenes.

The tree is that of SoundSpaces 1.0:

    metadata/<dataset>/<scene>/{points.txt,graph.pkl}
    binaural_rirs/<dataset>/<scene>/<azimuth>/<receiver>_<source>.wav
    scene_observations/<dataset>/<scene>.pkl

and beside it, much faster to read, ``packed/<dataset>/<scene>/`` (see :mod:`espnet_av.activesep.packed`).
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.activesep.safe_pickle import read_pickle
from espnet_av.utils.errors import DataError, MissingDataError, describe

SAMPLE_RATE = 16000
AZIMUTHS = (0, 90, 180, 270)
DEPTH_RANGE = 10.0  # metres that a depth of 1 stands for
Observation = dict[str, np.ndarray]


@dataclass(frozen=True)
class ScenePaths:
    """Folders that hold one entry per scene.

    Attributes:
        metadata: ``<scene>/points.txt`` and ``<scene>/graph.pkl``.
        rirs: ``<scene>/<azimuth>/<receiver>_<source>.wav``.
        observations: ``<scene>.pkl``.
        packed: ``<scene>/`` of packed scenes.
    """

    metadata: Path
    rirs: Path
    observations: Path
    packed: Path

    @classmethod
    def below(
        cls, root: str | os.PathLike, dataset: str = "mp3d", *, observations: str = "scene_observations"
    ) -> "ScenePaths":
        """Return the folders of the published tree below ``root``."""
        root = Path(root)
        return cls(
            metadata=root / "metadata" / dataset,
            rirs=root / "binaural_rirs" / dataset,
            observations=root / observations / dataset,
            packed=root / "packed" / dataset,
        )

    def rir(self, scene: str, azimuth: int, receiver: int, source: int) -> Path:
        """Return where an impulse response lies."""
        return self.rirs / scene / str(azimuth) / f"{receiver}_{source}.wav"

    def scenes(self) -> list[str]:
        """Return the names of the scenes that have metadata or are packed."""
        found = set()
        for folder, file in ((self.metadata, "graph.pkl"), (self.metadata, "world.json"), (self.packed, "scene.json")):
            if folder.is_dir():
                found |= {path.parent.name for path in folder.glob(f"*/{file}")}
        return sorted(found)


def read_rir(path: Path) -> np.ndarray | None:
    """Read an impulse response.

    Returns:
        float32 ``(L, 2)``, or None when the file is absent, empty or unreadable.

    Raises:
        DataError: It has another sample rate, or not two channels.
    """
    import soundfile

    if not path.is_file() or path.stat().st_size == 0:
        return None
    try:
        response, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        return None
    if not len(response):
        return None
    if rate != SAMPLE_RATE:
        raise DataError(
            describe(f"{path}: impulse response with another sample rate", rate, SAMPLE_RATE, "resample the responses")
        )
    if response.shape[1] != 2:
        raise DataError(describe(f"{path}: impulse response is not binaural", response.shape[1], "2 channels"))
    return response


def normalise_observation(found: Any, where: str) -> Observation:
    """Turn a cached observation of either generation into ours.

    Args:
        found: ``{"rgb", "depth"}``: the older generation has RGBA (H, W, 4) and metres (H, W), the newer RGB (H, W, 3)
            and 0 to 1 (H, W, 1).
        where: What to call it in errors.

    Returns:
        ``rgb`` uint8 (H, W, 3) and ``depth`` float32 (H, W, 1) from 0 to 1, where 1 is 10 m or more.

    Raises:
        DataError: It is something else.
    """
    if not isinstance(found, dict):
        raise DataError(describe(f"{where} is no observation", got=type(found).__name__))
    result: Observation = {}
    if "rgb" in found:
        rgb = np.asarray(found["rgb"])
        if rgb.ndim != 3 or rgb.shape[2] not in (3, 4) or rgb.dtype != np.uint8:
            raise DataError(
                describe(f"{where} has an odd image", got=f"{rgb.dtype} {rgb.shape}", allowed="uint8 (H, W, 3 or 4)")
            )
        result["rgb"] = np.ascontiguousarray(rgb[:, :, :3])
    if "depth" in found:
        depth = np.asarray(found["depth"], dtype=np.float32)
        if depth.ndim == 2:
            depth = (np.clip(depth, 0.0, DEPTH_RANGE) / np.float32(DEPTH_RANGE))[:, :, None]
        elif depth.ndim != 3 or depth.shape[2] != 1:
            raise DataError(describe(f"{where} has an odd depth", got=depth.shape, allowed="(H, W) or (H, W, 1)"))
        result["depth"] = np.ascontiguousarray(depth)
    return result


def read_observations(path: str | os.PathLike) -> dict[tuple[int, int], Any]:
    """Read all observations of a scene: (node, rotation) -> what :func:`normalise_observation` takes.

    Raises:
        MissingDataError: There is no such file.
        DataError: It holds something else.
    """
    found = read_pickle(path)
    if not isinstance(found, dict) or not all(isinstance(key, tuple) and len(key) == 2 for key in found):
        raise DataError(describe(f"{path} holds no observations", allowed="{(node, rotation): {'rgb', 'depth'}}"))
    return {(int(node), int(rotation)): value for (node, rotation), value in found.items()}


def require_folder(path: Path, what: str, fix: str) -> Path:
    """Return ``path``.

    Raises:
        MissingDataError: It is no folder; the message says ``what`` lacks it.
    """
    if not path.is_dir():
        raise MissingDataError(describe(f"{what}: no such folder", got=str(path), fix=fix))
    return path
