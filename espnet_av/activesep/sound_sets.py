# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Clips for sources out of recordings: long ones of 20 s and more, and the seconds that they are made of."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from espnet_av.activesep.scene_files import SAMPLE_RATE
from espnet_av.utils.errors import usage_error
from espnet_av.utils.files import atomic_path

LONG_FOLDER, SECOND_FOLDER = "min20s_clips", "1s_chunks"


def level_clip(wave: np.ndarray, rms: float = 0.06) -> np.ndarray:
    """Scale a recording ``(N,)`` to a root mean square (full scale 1), less where it would clip; int16."""
    wave = np.asarray(wave, dtype=np.float64)
    loud = np.abs(wave).max(initial=0.0)
    gain = min(rms / max(np.sqrt(np.mean(wave**2)), 1e-9), 0.99 / max(loud, 1e-9))
    return np.rint(wave * gain * 32767).astype(np.int16)


def write_sound_set(
    folder: str | os.PathLike,
    split: str,
    recordings: Mapping[str, Iterable[np.ndarray]],
    *,
    min_sec: float = 20.0,
    silent_rms: float = 0.005,
) -> tuple[int, int]:
    """Write ``min20s_clips/<split>/`` and ``1s_chunks/<split>/``.

    The recordings of a class are joined until a clip is long enough; a rest that is too short is added to the last
    clip, or repeated when it is the only one. Seconds that are nearly silent are left out of the short ones.

    Args:
        folder: Above the two kinds of clips.
        split: As ``train_preprocessed``.
        recordings: Class name (without ``_``) -> waveforms ``(N,)`` at 16 kHz, full scale 1.
        min_sec: Shortest long clip.
        silent_rms: Seconds softer than this are no short clips.

    Returns:
        The number of long and of short clips.
    """
    counts = [0, 0]
    for name, waves in recordings.items():
        if "_" in name or "/" in name:
            usage_error("a class name with a separator", got=name, allowed="no '_' and no '/'")
        clips = _join([level_clip(wave) for wave in waves], round(min_sec * SAMPLE_RATE))
        for index, clip in enumerate(clips):
            _write(Path(folder) / LONG_FOLDER / split / f"{name}_{index:03d}.wav", clip)
            counts[0] += 1
            seconds = clip[: len(clip) // SAMPLE_RATE * SAMPLE_RATE].reshape(-1, SAMPLE_RATE)
            for number, second in enumerate(seconds):
                if np.sqrt(np.mean((second / 32768.0) ** 2)) >= silent_rms:
                    _write(Path(folder) / SECOND_FOLDER / split / f"{name}_{index:03d}c{number:02d}.wav", second)
                    counts[1] += 1
    return counts[0], counts[1]


def _join(waves: list[np.ndarray], shortest: int) -> list[np.ndarray]:
    clips: list[np.ndarray] = []
    kept: list[np.ndarray] = []
    for wave in waves:
        kept.append(wave)
        if sum(map(len, kept)) >= shortest:
            clips.append(np.concatenate(kept))
            kept = []
    if kept and clips:
        clips[-1] = np.concatenate([clips[-1], *kept])
    elif kept:
        rest = np.concatenate(kept)
        clips.append(np.tile(rest, -(-shortest // max(1, len(rest)))))
    return clips


def _write(path: Path, samples: np.ndarray) -> None:
    import soundfile

    with atomic_path(path) as temporary:
        soundfile.write(temporary, samples, SAMPLE_RATE, subtype="PCM_16")
