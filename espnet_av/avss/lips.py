# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Mouth crops and lip embeddings as files: reading, checking, and fitting them to the sound.

Axes: ``T`` video frames at 25 fps, ``H``/``W`` pixels, ``K`` stored variants (crop and flip), ``D`` embedding width,
``N`` samples at 16 kHz.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.data.av_clock import AVClock
from espnet_av.data.data_dir import DataDir
from espnet_av.data.mouth_pixels import to_gray
from espnet_av.data.types import DEFAULT_CLOCK, load_npy
from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.untrusted import open_npz

MAX_LIP_DRIFT = 1.0  # frames by which lips may be longer or shorter than the sound
NPZ_KEYS = ("data", "video")  # of the lip-reading tools, and of our own stage 2
VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".mpg")
META_KEY = "lips"  # of data.json


def read_mouth(path: str | os.PathLike, min_size: int = 88) -> np.ndarray:
    """Read the mouth crops of a clip.

    Args:
        path: ``.npy``, ``.npz`` with the array ``data`` (or ``video``), or a video of crops at 25 fps.
        min_size: Smallest height and width in pixels.

    Returns:
        uint8 ``(T, H, W)``; colour is turned gray.

    Raises:
        MissingDataError: There is no such file.
        DataError: The file is damaged, or key, type or size are wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(describe("no mouth crops", got=str(path), fix="run stage 2 (format)"))
    if path.suffix == ".npz":
        frames = _read_npz(path)
    elif path.suffix in VIDEO_SUFFIXES:
        from espnet_av.data.video_io import read_video

        frames = read_video(path, gray=True, fps=25.0).frames
    else:
        frames = np.asarray(load_npy(str(path)))
    return check_mouth(frames, str(path), min_size)


def check_mouth(frames: np.ndarray, name: str, min_size: int = 88) -> np.ndarray:
    """Return crops ``(T, H, W)`` uint8 as gray, or refuse them.

    Raises:
        DataError: Type, shape or size are wrong.
    """
    shape = (str(frames.dtype), frames.shape)
    if frames.dtype != np.uint8:
        raise DataError(describe(f"{name}: mouth crops must be bytes", shape, "uint8, 0 to 255"))
    if frames.ndim == 4 and frames.shape[-1] == 3:
        frames = to_gray(frames)
    if frames.ndim != 3 or not len(frames):
        raise DataError(describe(f"{name}: no mouth crops", shape, "(T, H, W) or (T, H, W, 3), T above 0"))
    if min(frames.shape[1:]) < min_size:
        raise DataError(describe(f"{name}: the mouth crops are too small", shape, f"{min_size}x{min_size} or more"))
    return frames


def _read_npz(path: Path) -> np.ndarray:
    try:
        with open_npz(path) as archive:
            for key in NPZ_KEYS:
                if key in archive.files:
                    return archive[key]
            names = archive.files
    except Exception as error:  # zipfile, zlib and numpy raise a dozen unrelated classes on damaged archives
        raise DataError(f"{path}: unreadable or damaged archive ({error}); fix: make the mouth crops again") from error
    raise DataError(describe(f"{path}: no array of mouth crops", got=names, allowed=NPZ_KEYS))


def load_lips(path: str | os.PathLike, dim: int | None = None) -> np.ndarray:
    """Open lip embeddings, memory-mapped: a variant or a cut reads only its own part.

    Args:
        path: ``.npy`` file of stage 4.
        dim: Width that is wanted.

    Returns:
        float16 or float32, ``(T, D)`` or ``(K, T, D)``.

    Raises:
        MissingDataError: There is no such file.
        DataError: It holds something else.
    """
    lips = load_npy(str(path))
    if lips.dtype not in (np.float16, np.float32) or lips.ndim not in (2, 3) or 0 in lips.shape:
        found = (str(lips.dtype), lips.shape)
        raise DataError(describe(f"{path}: no lip embeddings", found, "float16 or float32 (T, D) or (K, T, D)"))
    if dim is not None and lips.shape[-1] != dim:
        fix = "set model_conf.video_dim, or run stage 4 with the front end of the model"
        raise DataError(describe(f"{path}: lip embeddings of another width", lips.shape[-1], [dim], fix))
    return lips


def draw_variant(lips: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    """Choose one of the stored variants.

    Args:
        lips: ``(T, D)`` or ``(K, T, D)``.
        rng: Draws the variant; None takes the first, the centre crop.

    Returns:
        ``(T, D)``.
    """
    if lips.ndim == 2:
        return lips
    return lips[0 if rng is None else int(rng.integers(len(lips)))]


def fit_lips(lips: np.ndarray, num_samples: int, clock: AVClock = DEFAULT_CLOCK, name: str = "lips") -> np.ndarray:
    """Give lips as many frames as a sound has.

    Args:
        lips: ``(T, D)``.
        num_samples: Length of the sound, ``N``.
        clock: Samples per frame.
        name: Of the clip, for messages.

    Returns:
        ``(round(N / 640), D)``, at least one: the last frame is repeated, or frames at the end are left out.

    Raises:
        DataError: The lengths differ by more than one frame.
    """
    exact = num_samples / float(clock.ratio)
    if abs(len(lips) - exact) > MAX_LIP_DRIFT:
        allowed = f"{max(1, math.ceil(exact - MAX_LIP_DRIFT))} to {math.floor(exact + MAX_LIP_DRIFT)}"
        fix = f"cut sound and lips alike; {num_samples} samples are {exact:.2f} frames"
        raise DataError(describe(f"{name}: lips and sound differ in length", f"{len(lips)} frames", allowed, fix))
    wanted = max(1, round(exact))
    if len(lips) >= wanted:
        return lips[:wanted]
    return np.concatenate([lips, np.repeat(lips[-1:], wanted - len(lips), axis=0)])


@dataclass(frozen=True)
class LipDescription:
    """Where lip embeddings come from; stored beside them, in ``data.json`` and in the configuration of a model.

    Attributes:
        front_end: Name of the front end, for people.
        digest: Of its weights, sizes and preprocessing; embeddings of different digests do not mix.
        dim: Width ``D``.
        variants: Stored variants ``K`` of each clip.
        seed: Of the random crops of these variants.
    """

    front_end: str
    digest: str
    dim: int
    variants: int = 1
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON and YAML."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], source: str) -> "LipDescription":
        """Read the fields back.

        Raises:
            DataError: They are not those of a description.
        """
        try:
            return cls(**fields)
        except TypeError as error:
            raise DataError(f"{source} does not describe lip embeddings ({error}); fix: run stage 4 again") from error


def read_description(data_dir: str | os.PathLike) -> LipDescription:
    """Return what stage 4 wrote about the lips of a data folder.

    Raises:
        MissingDataError: The folder has no lip embeddings.
    """
    data = DataDir(data_dir)
    fields = data.meta.get(META_KEY)
    if not isinstance(fields, dict):
        raise MissingDataError(describe(f"{data.path} has no lip embeddings", fix="run stage 4 (embed_lips)"))
    return LipDescription.from_dict(fields, str(data / "data.json"))


def require_same_front_end(wanted: LipDescription, got: LipDescription, source: str) -> None:
    """Refuse embeddings of another front end than the wanted one.

    Raises:
        DataError: With both names and digests.
    """
    if wanted.digest != got.digest:
        fix = f"run stage 4 with '{wanted.front_end}' over the same data"
        found, allowed = f"{got.front_end} ({got.digest[:12]})", f"{wanted.front_end} ({wanted.digest[:12]})"
        raise DataError(describe(f"{source}: lip embeddings of another front end", found, allowed, fix))
