# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Sound as users give it to the public classes: arrays, tensors, sound files and videos.

Axis legend: ``N`` audio samples.
"""

import os
from pathlib import Path

import numpy as np
from torch import Tensor

from espnet_av.data.audio_io import read_audio
from espnet_av.data.av_clock import DEFAULT_SAMPLE_RATE
from espnet_av.data.video_io import read_audio_track
from espnet_av.utils.errors import DataError, describe

VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".mpg", ".mpeg", ".mov")

AudioLike = str | os.PathLike | np.ndarray | Tensor


def load_audio(source: AudioLike, sample_rate: int = DEFAULT_SAMPLE_RATE) -> np.ndarray:
    """Turn what the public classes accept as audio into float32 ``(N,)`` in [-1, 1].

    Args:
        source: ``(N,)`` float in [-1, 1] or int16, or the path of a sound file or of a video.
        sample_rate: Rate in Hz that a sound file must have; the sound of a video is converted.

    Raises:
        DataError: It is empty, not mono, not finite, or at another sample rate.
    """
    if isinstance(source, (str, os.PathLike)):
        if Path(source).suffix.lower() in VIDEO_SUFFIXES:
            return read_audio_track(source, sample_rate)
        return read_audio(source, sample_rate)[0]
    wave = source.detach().cpu().numpy() if isinstance(source, Tensor) else np.asarray(source)
    if wave.ndim != 1 or wave.size == 0:
        raise DataError(describe("audio must be one channel with samples", got=wave.shape, allowed="(N,)"))
    if wave.dtype == np.int16:
        return wave.astype(np.float32) / 32768.0
    if wave.dtype.kind != "f":
        raise DataError(describe("audio has a wrong type", got=str(wave.dtype), allowed=["float in [-1, 1]", "int16"]))
    if not np.isfinite(wave).all():
        raise DataError("audio holds values that are not finite; fix: read the file again")
    return wave.astype(np.float32)
