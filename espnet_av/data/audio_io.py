# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Audio files through soundfile: always float32 in [-1, 1], mono, with the sample rate checked."""

import io
import os
from math import gcd
from pathlib import Path

import numpy as np

from espnet_av.utils.errors import DataError, MissingDataError, UsageError, describe
from espnet_av.utils.files import atomic_write


def read_audio(
    path: str | os.PathLike,
    sample_rate: int | None = None,
    *,
    resample: bool = False,
    start: int = 0,
    num_samples: int | None = None,
) -> tuple[np.ndarray, int]:
    """Read a sound file (wav, flac, ogg, sph, ...).

    Args:
        path: The file.
        sample_rate: Wanted rate in Hz; None takes the file's own.
        resample: Convert a file of another rate instead of refusing it.
        start: First sample to read, at the file's rate.
        num_samples: Samples to read, at the file's rate; None reads to the end.

    Returns:
        ``(wave (N,) float32 in [-1, 1], rate)``. Several channels are averaged.

    Raises:
        MissingDataError: If there is no such file.
        DataError: If it cannot be read, is empty, or has another rate while ``resample`` is off.
    """
    import soundfile

    path = Path(path)
    if not os.path.isfile(path):
        raise MissingDataError(describe(f"no sound file {path}", fix="check the path in wav.scp"))
    try:
        frames = -1 if num_samples is None else num_samples
        wave, rate = soundfile.read(str(path), frames=frames, start=start, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as sound ({error}); fix: convert it to WAV or FLAC") from error
    if len(wave) == 0:
        raise DataError(f"{path}: holds no samples; fix: drop the utterance")
    mono = wave[:, 0] if wave.shape[1] == 1 else wave.mean(axis=1, dtype=np.float32)
    if sample_rate is None or rate == sample_rate:
        return np.ascontiguousarray(mono), rate
    if not resample:
        raise DataError(
            describe(f"{path}: wrong sample rate", rate, [sample_rate], "run stage 2 (format), which resamples")
        )
    return resample_audio(mono, rate, sample_rate), sample_rate


def resample_audio(wave: np.ndarray, source_rate: int, sample_rate: int) -> np.ndarray:
    """Change the sample rate with a polyphase filter (zero phase: no delay).

    Args:
        wave: ``(N,)``.
        source_rate: Rate of ``wave`` in Hz.
        sample_rate: Wanted rate in Hz.

    Returns:
        ``(ceil(N * sample_rate / source_rate),)`` float32.
    """
    if source_rate == sample_rate:
        return np.asarray(wave, dtype=np.float32)
    from scipy.signal import resample_poly

    divisor = gcd(int(source_rate), int(sample_rate))
    return resample_poly(wave, sample_rate // divisor, source_rate // divisor).astype(np.float32)


def write_audio(path: str | os.PathLike, wave: np.ndarray, sample_rate: int) -> None:
    """Write a waveform as 16-bit PCM; the file appears only when it is whole.

    Args:
        path: Target with the suffix ``.flac`` or ``.wav``.
        wave: ``(N,)`` float in [-1, 1] (what lies outside is clipped) or int16.
        sample_rate: Rate in Hz.

    Raises:
        UsageError: For another suffix, shape or dtype, or samples that are not finite.
    """
    import soundfile

    path = Path(path)
    if path.suffix.lower() not in (".flac", ".wav"):
        raise UsageError(describe("unknown suffix of a sound file", str(path), [".flac", ".wav"]))
    wave = np.asarray(wave)
    if wave.ndim != 1:
        raise UsageError(describe(f"{path}: mono sound is a vector", got=wave.shape, allowed="(N,)"))
    if wave.dtype.kind == "f":
        if not np.isfinite(wave).all():
            raise UsageError(describe(f"{path}: samples that are not finite", allowed="numbers in [-1, 1]"))
        wave = np.clip(np.rint(wave.astype(np.float64) * 32768.0), -32768, 32767).astype(np.int16)
    elif wave.dtype != np.int16:
        raise UsageError(describe(f"{path}: unknown sample type", str(wave.dtype), ["float", "int16"]))
    encoded = io.BytesIO()  # libsndfile does not say that a disk is full, the file object below does
    soundfile.write(encoded, wave, int(sample_rate), subtype="PCM_16", format=path.suffix[1:].upper())
    with atomic_write(path, "wb") as stream:
        stream.write(encoded.getbuffer())


def probe_audio(path: str | os.PathLike) -> tuple[int, int]:
    """Read the header of a sound file.

    Returns:
        ``(samples per channel, rate in Hz)``.

    Raises:
        MissingDataError, DataError: As :func:`read_audio`.
    """
    import soundfile

    path = Path(path)
    if not os.path.isfile(path):
        raise MissingDataError(describe(f"no sound file {path}", fix="check the path in wav.scp"))
    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as sound ({error}); fix: convert it to WAV or FLAC") from error
    return info.frames, info.samplerate
