# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Sounds by formula for tests and trials: voices that differ in pitch and formants, plucked notes, bursts of noise."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.signal

from espnet_av.activesep.scene_files import SAMPLE_RATE
from espnet_av.utils.files import atomic_path

LEVEL = 0.06  # root mean square of a clip, full scale 1


def synthesise(name: str, seconds: float, seed: int) -> np.ndarray:
    """Return a sound of a class.

    Args:
        name: ``music`` and ``esc`` give notes and noise, any other name a voice of its own.
        seconds: Length.
        seed: Of what is said or played; the voice depends on ``name`` alone.

    Returns:
        int16 ``(N,)`` at 16 kHz.
    """
    rng = np.random.default_rng([seed, *name.encode()])
    num_samples = round(seconds * SAMPLE_RATE)
    if name == "music":
        wave = _notes(num_samples, rng)
    elif name == "esc":
        wave = _bursts(num_samples, rng)
    else:
        wave = _voice(num_samples, np.random.default_rng(list(name.encode())), rng)
    wave *= LEVEL / max(1e-9, np.sqrt(np.mean(wave**2)))
    return np.clip(np.rint(wave * 32768), -32768, 32767).astype(np.int16)


def _voice(num_samples: int, speaker: np.random.Generator, rng: np.random.Generator) -> np.ndarray:
    pitch, scale = speaker.uniform(90, 260), speaker.uniform(0.85, 1.2)
    time = np.arange(num_samples) / SAMPLE_RATE
    bounds = np.append(np.cumsum(rng.uniform(0.12, 0.3, int(num_samples / SAMPLE_RATE / 0.2) + 8)), np.inf)
    syllable = np.searchsorted(bounds, time)
    tune = pitch * 2 ** (rng.uniform(-0.25, 0.25, len(bounds) + 1)[syllable] + 0.05 * np.sin(2 * np.pi * 4 * time))
    phase = np.cumsum(tune) / SAMPLE_RATE
    pulses = np.diff(np.floor(phase), prepend=0.0) + 0.02 * rng.standard_normal(num_samples)
    vowels = scale * np.array([[730, 1090], [530, 1840], [390, 1990], [570, 840], [440, 1020], [270, 2290]])
    chosen = rng.integers(len(vowels), size=len(bounds) + 1)
    wave = np.zeros(num_samples)
    for index, formants in enumerate(vowels):
        part = pulses * (chosen[syllable] == index)
        for frequency in formants:
            radius = np.exp(-np.pi * 90 / SAMPLE_RATE)
            turn = 2 * np.pi * frequency / SAMPLE_RATE
            part = scipy.signal.lfilter([1 - radius], [1, -2 * radius * np.cos(turn), radius**2], part)
        wave += part
    starts = np.concatenate([[0.0], bounds[:-1]])[np.minimum(syllable, len(bounds) - 1)]
    return wave * np.minimum(1, (time - starts) / 0.03) * (rng.random(len(bounds) + 1) > 0.15)[syllable]


def _notes(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    wave, start = np.zeros(num_samples), 0
    while start < num_samples:
        time = np.arange(min(SAMPLE_RATE, num_samples - start)) / SAMPLE_RATE
        frequency = 220 * 2 ** (rng.choice([0, 2, 4, 7, 9, 12, 14]) / 12)
        tone = sum(np.sin(2 * np.pi * frequency * k * time) / k**1.5 for k in range(1, 7))
        wave[start : start + len(time)] += tone * np.exp(-4 * time) * np.minimum(1, time / 0.005)
        start += int(rng.choice([0.2, 0.25, 0.4]) * SAMPLE_RATE)
    return wave


def _bursts(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    wave = rng.standard_normal(num_samples)
    low = rng.uniform(300, 1500)
    wave = scipy.signal.sosfilt(scipy.signal.butter(2, (low, 3 * low), "band", fs=SAMPLE_RATE, output="sos"), wave)
    time = np.arange(num_samples) / SAMPLE_RATE
    return wave * (0.05 + np.maximum(0, np.sin(2 * np.pi * rng.uniform(1, 3) * time)) ** 4)


def write_synthetic_clips(
    folder: str | os.PathLike, names: Sequence[str], *, per_class: int = 2, seconds: float = 24.0, seed: int = 0
) -> list[Path]:
    """Write ``<name>_syn<i>.wav`` for every class name; return the files."""
    import soundfile

    paths = []
    for name in names:
        for index in range(per_class):
            path = Path(folder) / f"{name}_syn{index}.wav"
            with atomic_path(path) as temporary:
                soundfile.write(
                    temporary, synthesise(name, seconds, seed * 1000 + index), SAMPLE_RATE, subtype="PCM_16"
                )
            paths.append(path)
    return paths
