# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Recordings with one channel for every person, which must not be mixed.

Axes: ``C`` channels, ``N`` samples.
"""

import os
from pathlib import Path

import numpy as np
import torch

from espnet_av.avgen.mel import resample
from espnet_av.utils.errors import DataError, MissingDataError, describe


def read_channels(
    path: str | os.PathLike,
    sample_rate: int | None = None,
    *,
    start: int = 0,
    num_samples: int | None = None,
) -> tuple[np.ndarray, int]:
    """Read all channels of a sound file.

    Args:
        path: The file.
        sample_rate: Wanted rate in Hz, by torchaudio's resampling; None: the file's own.
        start: First sample, at the file's rate.
        num_samples: Samples to read, at the file's rate; None: to the end.

    Returns:
        ``(sound (C, N) float32 in [-1, 1], rate)``.

    Raises:
        MissingDataError: There is no such file.
        DataError: It cannot be read or holds no samples.
    """
    import soundfile

    path = Path(path)
    if not path.is_file():
        raise MissingDataError(describe("no sound file", str(path), fix="check the folder"))
    frames = -1 if num_samples is None else num_samples
    try:
        wave, rate = soundfile.read(str(path), frames=frames, start=start, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as sound ({error}); fix: convert it to WAV or FLAC") from error
    if len(wave) == 0:
        raise DataError(f"{path}: holds no samples; fix: drop the recording")
    channels = np.ascontiguousarray(wave.T)
    if sample_rate is None or rate == sample_rate:
        return channels, rate
    return resample(torch.from_numpy(channels), rate, sample_rate).numpy(), sample_rate
