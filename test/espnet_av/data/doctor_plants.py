# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Data folders of humming voices with mouths, and faults to plant in them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from espnet_av.corpora.example_corpus import talk
from espnet_av.data.audio_io import write_audio
from espnet_av.data.data_dir import DataDir

RATE = 16000
Pair = tuple[np.ndarray, np.ndarray]


def clip(seed: int, seconds: float = 3.0) -> Pair:
    """Return a waveform ``(N,)`` and mouths ``(T, 96, 96)`` that go together."""
    rng = np.random.default_rng(seed)
    return talk(seconds, rng.uniform(90, 220), rng)


def later(pair: Pair, frames: int) -> Pair:
    """Return the clip with the sound so many frames after the lips, or before them."""
    wave, mouth = pair
    shift = frames * 640
    moved = np.full_like(wave, 1e-4)
    if shift >= 0:
        moved[shift:] = wave[: len(wave) - shift]
    else:
        moved[:shift] = wave[-shift:]
    return moved, mouth


def faster(pair: Pair, ratio: float) -> Pair:
    """Return the clip with pictures that run ``ratio`` times as fast; the last one stays at the end."""
    wave, mouth = pair
    return wave, mouth[np.minimum(len(mouth) - 1, (np.arange(len(mouth)) * ratio).astype(int))]


def as_mp3(wave: np.ndarray) -> np.ndarray:
    """Return what coarse quantisation of the spectrum leaves, with soft parts gone, as of lossy coding."""
    from scipy.signal import istft, stft

    spectrum = stft(wave, RATE, nperseg=512)[2]
    level = np.abs(spectrum)
    coarse = 10 ** (np.round(20 * np.log10(level + 1e-7) / 3) * 3 / 20)
    coarse[level < level.max(axis=0) * 10 ** (-40 / 20)] = 0
    return istft(coarse * np.exp(1j * np.angle(spectrum)), RATE, nperseg=512)[1].astype(np.float32)[: len(wave)]


def write_set(folder: Path, clips: Mapping[str, Pair], texts: Mapping[str, str] | None = None) -> DataDir:
    """Write a formatted data folder; speakers are what stands before the first ``-`` of an id."""
    data, media = DataDir(folder), folder.with_name(f"{folder.name}_media")
    for utt, (wave, mouth) in clips.items():
        write_audio(media / f"{utt}.flac", wave, RATE)
        np.save(media / f"{utt}.npy", mouth)
    data.write("wav.scp", {utt: media / f"{utt}.flac" for utt in clips})
    data.write("mouth.scp", {utt: media / f"{utt}.npy" for utt in clips})
    data.write("text", {utt: (texts or {}).get(utt, "HUM") for utt in clips})
    data.write("utt2spk", {utt: utt.split("-")[0] for utt in clips})
    data.write("utt2num_samples", {utt: len(wave) for utt, (wave, _) in clips.items()})
    data.write("utt2num_frames", {utt: len(mouth) for utt, (_, mouth) in clips.items()})
    data.write_streams([("wav.scp", "speech", "sound"), ("mouth.scp", "video", "video_npy"), ("text", "text", "text")])
    data.write_meta({"sample_rate": RATE, "fps": 25})
    return data


def spoil(clips: Mapping[str, Pair], change: Callable[[Pair], Pair], *utts: str) -> dict[str, Pair]:
    """Return the clips with some of them changed."""
    return {utt: change(pair) if utt in utts else pair for utt, pair in clips.items()}
