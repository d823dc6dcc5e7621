# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Loader types: what the third field of ``<path>,<name>,<type>`` means.

A loader turns the value of one ``key value`` line into an array (or text). Names of own types never start with the name
of a type of ESPnet, whose table is matched by prefix; ``sound``, ``text``, ``text_int`` and ``npy`` mean the same
in both. The remaining types of ESPnet (``kaldi_ark``, ``hdf5``, ...) work through its own readers.

Axis legend: ``N`` audio samples, ``T`` video frames, ``H`` x ``W`` pixels.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from espnet_av.data.audio_io import read_audio
from espnet_av.data.av_clock import AVClock
from espnet_av.data.data_dir import read_scp
from espnet_av.utils import untrusted
from espnet_av.utils.errors import DataError, MissingDataError, UsageError, describe

Loader = Callable[..., Any]
DEFAULT_CLOCK = AVClock()


def load_sound(value: str, clock: AVClock = DEFAULT_CLOCK) -> np.ndarray:
    """Read a sound file that has the clock's sample rate.

    Returns:
        float32 ``(N,)`` in [-1, 1].

    Raises:
        DataError: If it cannot be read or has another rate.
    """
    return read_audio(value, clock.sample_rate)[0]


def load_text(value: str, clock: AVClock = DEFAULT_CLOCK) -> str:
    """Return the transcript as it stands."""
    return value


def load_text_int(value: str, clock: AVClock = DEFAULT_CLOCK) -> np.ndarray:
    """Read whole numbers separated by blanks.

    Returns:
        int64 ``(L,)``.

    Raises:
        DataError: If a field is no whole number.
    """
    try:
        return np.array([int(field) for field in value.split()], dtype=np.int64)
    except ValueError as error:
        raise DataError(describe("token ids must be whole numbers separated by blanks", value)) from error


def load_npy(value: str, clock: AVClock = DEFAULT_CLOCK) -> np.ndarray:
    """Read an array from a ``.npy`` file, memory-mapped: a cut reads only its own part.

    Raises:
        DataError: If the file is damaged or holds Python objects.
    """
    _require_file(value)
    try:
        return untrusted.load_npy(value, mmap=True)
    except (ValueError, EOFError, OSError) as error:
        raise _damaged(value, error) from error


def load_video_npy(value: str, clock: AVClock = DEFAULT_CLOCK) -> np.ndarray:
    """Read frames from a ``.npy`` file.

    Returns:
        uint8 ``(T, H, W)`` or ``(T, H, W, 3)``.

    Raises:
        DataError: If the file is damaged or holds anything else.
    """
    return _check_frames(value, load_npy(value, clock))


def load_video_npz(value: str, clock: AVClock = DEFAULT_CLOCK) -> np.ndarray:
    """Read frames from a ``.npz`` file: its array ``video`` (or the only one); an entry ``fps`` must fit the clock.

    Returns:
        uint8 ``(T, H, W)`` or ``(T, H, W, 3)``.

    Raises:
        DataError: If the file is damaged, ambiguous or of another frame rate.
    """
    _require_file(value)
    try:
        with untrusted.open_npz(value) as archive:
            names = [name for name in archive.files if name != "fps"]
            if "video" not in names and len(names) != 1:
                raise DataError(describe(f"{value}: which array holds the frames?", names, ["video"]))
            fps = float(archive["fps"]) if "fps" in archive.files else float(clock.fps)
            frames = archive["video" if "video" in names else names[0]]
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise a dozen unrelated classes on damaged archives
        raise _damaged(value, error) from error
    if abs(fps - float(clock.fps)) > 1e-3:
        raise DataError(describe(f"{value}: wrong frame rate", fps, [float(clock.fps)], "run stage 2 (format) again"))
    return _check_frames(value, frames)


def load_video(value: str, clock: AVClock = DEFAULT_CLOCK) -> np.ndarray:
    """Decode a clip (mp4, mkv, mov, avi, mpg) that has the clock's frame rate to gray frames, uint8 ``(T, H, W)``."""
    from espnet_av.data.video_io import read_video

    return read_video(value, gray=True, fps=float(clock.fps)).frames


def load_video_rgb(value: str, clock: AVClock = DEFAULT_CLOCK) -> np.ndarray:
    """Decode a clip as :func:`load_video`, in colour: uint8 ``(T, H, W, 3)``."""
    from espnet_av.data.video_io import read_video

    return read_video(value, fps=float(clock.fps)).frames


def load_video_sound(value: str, clock: AVClock = DEFAULT_CLOCK) -> np.ndarray:
    """Decode the sound track of a clip, aligned to its first frame, at the clock's rate: float32 ``(N,)``."""
    from espnet_av.data.video_io import read_audio_track

    return read_audio_track(value, clock.sample_rate)


#: Type name -> loader ``(value, clock=AVClock())``.
LOADERS: dict[str, Loader] = {
    "sound": load_sound,
    "text": load_text,
    "text_int": load_text_int,
    "npy": load_npy,
    "video": load_video,
    "video_rgb": load_video_rgb,
    "video_npy": load_video_npy,
    "video_npz": load_video_npz,
    "video_sound": load_video_sound,
}


def register_type(name: str, loader: Loader) -> None:
    """Add a loader type.

    Args:
        name: One word; it must not start with the name of a type of ESPnet (``sound...``, ``text...``, ``npy...``).
        loader: ``(value of the line, clock) -> array``.

    Raises:
        UsageError: If the name is taken or no word.
    """
    if name in LOADERS or not name.isidentifier():
        raise UsageError(describe("a new loader type needs a free name of letters, digits and _", name))
    LOADERS[name] = loader


class Table(Mapping):
    """One stream of a data set: utterance id to loaded data, read when asked for.

    Args:
        path: The ``key value`` file.
        loader: Turns a value into data.
        clock: Sample rate and frame rate that the loader checks.
        allow_empty: Accept keys without a value.
    """

    def __init__(self, path: str, loader: Loader, clock: AVClock, *, allow_empty: bool = False) -> None:
        self.values_by_key = read_scp(path, allow_empty=allow_empty)
        self.loader, self.clock = loader, clock

    def __getitem__(self, key: str) -> Any:
        return self.loader(self.values_by_key[key], self.clock)

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_key)

    def __len__(self) -> int:
        return len(self.values_by_key)

    def __contains__(self, key: object) -> bool:
        return key in self.values_by_key


def open_table(path: str, type_name: str, clock: AVClock = DEFAULT_CLOCK) -> Mapping[str, Any]:
    """Open a stream by its type: an own one, or one of ESPnet's by its exact name.

    Raises:
        UsageError: For an unknown type.
        MissingDataError, DataError: If the file is absent or malformed.
    """
    if type_name in LOADERS:
        return Table(path, LOADERS[type_name], clock, allow_empty=type_name == "text")
    from espnet_av._espnet import MAP_DATA_TYPES

    if type_name not in MAP_DATA_TYPES:
        raise UsageError(describe(f"{path}: unknown data type", type_name, sorted({*LOADERS, *MAP_DATA_TYPES})))
    _require_file(path)
    entry = MAP_DATA_TYPES[type_name]
    known = {"float_dtype": "float32", "int_dtype": "long", "max_cache_fd": 0, "loader_type": type_name}
    known.update(allow_multi_rates=False, keys_to_load=None)
    return entry["func"](path, **{name: known[name] for name in entry["kwargs"]})


def _require_file(path: str) -> None:
    if not os.path.isfile(path):
        raise MissingDataError(describe(f"no file {path}", fix="run the stage that writes it"))


def _damaged(path: str, error: Exception) -> DataError:
    return DataError(f"{path}: unreadable, damaged or truncated array file ({error}); fix: run stage 2 (format) again")


def _check_frames(path: str, frames: np.ndarray) -> np.ndarray:
    if frames.dtype != np.uint8 or frames.ndim not in (3, 4) or len(frames) == 0:
        raise DataError(describe(f"{path}: no frames", (str(frames.dtype), frames.shape), "uint8 (T, H, W[, 3])"))
    return frames
