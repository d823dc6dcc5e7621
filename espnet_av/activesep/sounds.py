# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The clips that sources play: 16 kHz, mono, 16 bit, one file each, named ``<class>_<anything>.wav``."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from espnet_av.activesep.cache import LRUCache
from espnet_av.activesep.classes import ClassTable
from espnet_av.activesep.scene_files import SAMPLE_RATE
from espnet_av.utils.errors import DataError, MissingDataError, describe


def read_clip(path: str | os.PathLike) -> np.ndarray:
    """Read a clip.

    Returns:
        int16 ``(N,)``.

    Raises:
        MissingDataError: There is no such file.
        DataError: It is not 16 kHz, not mono, not 16 bit, or empty.
    """
    import soundfile

    path = Path(path)
    if not path.is_file():
        raise MissingDataError(describe("no such clip", got=str(path)))
    convert = f"sox {path.name} -r 16000 -c 1 -b 16 OUT.wav"
    try:
        with soundfile.SoundFile(path) as file:
            if file.samplerate != SAMPLE_RATE:
                raise DataError(
                    describe(f"{path}: clip with another sample rate", file.samplerate, SAMPLE_RATE, convert)
                )
            if file.channels != 1:
                raise DataError(describe(f"{path}: clip is not mono", f"{file.channels} channels", 1, convert))
            if file.subtype != "PCM_16":
                raise DataError(describe(f"{path}: clip is not 16 bit", file.subtype, "PCM_16", convert))
            samples = file.read(dtype="int16")
    except soundfile.LibsndfileError as error:
        raise DataError(describe(f"{path}: no sound file that can be read ({error})", fix=convert)) from error
    if not len(samples):
        raise DataError(describe(f"{path}: empty clip", fix="leave it out"))
    samples.flags.writeable = False
    return samples


class ClipLibrary:
    """All clips of a folder, read when needed.

    Args:
        folder: Holds ``<class>_<anything>.wav``.
        classes: Labels of the classes; the published table when None.
        cache: How many clips are kept in memory.

    Raises:
        MissingDataError: There is no such folder, or no clip in it.
    """

    def __init__(self, folder: str | os.PathLike, *, classes: ClassTable | None = None, cache: int = 512) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise MissingDataError(describe("no such folder of clips", got=str(self.folder)))
        self.classes = classes if classes is not None else ClassTable.published()
        self.names = tuple(sorted(path.stem for path in self.folder.glob("*.wav")))
        if not self.names:
            raise MissingDataError(describe("no clips", got=str(self.folder), allowed="<class>_<anything>.wav"))
        self._cache = LRUCache(cache)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return (self.folder / f"{name}.wav").is_file()

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a clip by its file name without suffix, int16 ``(N,)``; do not change it."""
        return self._cache.get(name, lambda: read_clip(self.folder / f"{name}.wav"))

    def by_class(self) -> Mapping[str, tuple[str, ...]]:
        """Return class name -> names of its clips, classes and clips in order."""
        found: dict[str, list[str]] = {}
        for name in self.names:
            found.setdefault(class_of(name), []).append(name)
        return {name: tuple(clips) for name, clips in sorted(found.items())}


def class_of(clip: str) -> str:
    """Return the class of a clip by its name.

    >>> class_of("7540_book_3")
    '7540'
    """
    return clip.split("_", 1)[0]


def take_chunk(clip: np.ndarray, start: int, num_samples: int) -> np.ndarray:
    """Return samples of a clip that is played in a circle.

    Args:
        clip: ``(N,)``.
        start: First sample; any integer, also negative.
        num_samples: How many.

    Returns:
        ``(num_samples,)``; a view where the stretch does not cross the end.
    """
    start %= len(clip)
    if start + num_samples <= len(clip):
        return clip[start : start + num_samples]
    return clip[np.arange(start, start + num_samples) % len(clip)]
