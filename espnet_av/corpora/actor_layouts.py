# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the readers of published recordings of actors share: checks of files against a layout, to the letter.

Axes: ``N`` frames of motion at 30 Hz, 1600 samples of sound each; ``M`` token frames.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from espnet_av.avgen.token_labels import NUM_LABELS
from espnet_av.data.types import load_npy
from espnet_av.utils.errors import DataError, MissingDataError, describe

SAMPLE_RATE, CHANNELS, SAMPLES_A_FRAME = 48000, 2, 1600
FACE_VALUES = 256


class WrongFile(Exception):
    """A file is not what the layout says: ``(reason, detail)``."""


def present(path: Path) -> Path:
    """Return a path whose file exists.

    Raises:
        WrongFile: It does not.
    """
    if not path.is_file():
        raise WrongFile("missing_file", f"no {path}")
    return path


def check_sound(path: Path, num_frames: int, tolerance: int = 0) -> None:
    """Check that a sound has two channels at 48 kHz and lasts as long as the motion.

    Args:
        path: The file.
        num_frames: N.
        tolerance: Frames by which it may be longer or shorter.

    Raises:
        WrongFile: It does not.
    """
    import soundfile

    try:
        sound = soundfile.info(present(path))
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise WrongFile("unreadable", f"{path}: {error}") from error
    if (sound.samplerate, sound.channels) != (SAMPLE_RATE, CHANNELS):
        got = f"{sound.samplerate} Hz and {sound.channels} channel(s)"
        raise WrongFile("wrong_sound", f"{path}: {got}, not {SAMPLE_RATE} Hz and {CHANNELS} channels")
    away = abs(sound.frames - num_frames * SAMPLES_A_FRAME)
    if away > tolerance * SAMPLES_A_FRAME:
        wanted = f"{num_frames} frames are {num_frames * SAMPLES_A_FRAME} samples"
        raise WrongFile("wrong_length", f"{path}: {sound.frames} samples, {wanted}")


def check_array(path: Path, shape: Sequence[int | None], kinds: str = "f") -> np.ndarray:
    """Open an array of a known shape.

    Args:
        path: The file.
        shape: The length of each axis; None: any.
        kinds: What its values may be, as of ``numpy.dtype.kind``.

    Raises:
        WrongFile: It is missing, damaged, or of another shape or kind.
    """
    try:
        values = load_npy(str(present(path)))
    except DataError as error:
        raise WrongFile("unreadable", str(error)) from error
    fits = values.ndim == len(shape) and all(own in (None, got) for own, got in zip(shape, values.shape, strict=True))
    if not fits or values.dtype.kind not in kinds:
        wanted = "(" + ", ".join("any" if own is None else str(own) for own in shape) + ")"
        raise WrongFile("wrong_shape", f"{path}: {values.dtype} {values.shape}, not {wanted}")
    return values


def check_tokens(path: Path) -> None:
    """Check that tokens are those of both persons, ``(2, M, 29)``.

    Raises:
        WrongFile: They are not.
    """
    check_array(path, (CHANNELS, None, NUM_LABELS))


def check_vectors(folder: Path, sizes: dict[str, int]) -> None:
    """Check the small files of statistics of a layout.

    Args:
        folder: Holds them.
        sizes: Name -> number of values.

    Raises:
        MissingDataError: One is missing.
        DataError: One is of another size.
    """
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file():
            raise MissingDataError(describe("a file of the layout is missing", str(path), fix="copy it again"))
        values = load_npy(str(path))
        if values.size != size or not np.isfinite(values).all():
            raise DataError(describe(f"{path} is not what the layout says", values.shape, f"{size} numbers"))
