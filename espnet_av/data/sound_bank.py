# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Random sounds out of a list or a folder: interfering speech, noise, impulse responses.

Legend: ``N`` samples, ``K`` taps.
"""

import math
import os
from pathlib import Path

import numpy as np

from espnet_av.data.audio_io import probe_audio, read_audio
from espnet_av.data.data_dir import read_scp
from espnet_av.utils.errors import DataError, describe

SAMPLE_RATE = 16000
SOUND_SUFFIXES = (".wav", ".flac")
_MAX_DRAWS = 50


class ClipBank:
    """Random sounds out of an scp file or a folder, the source of interfering speech and of noise.

    Args:
        source: File of ``key path`` lines, or a folder with wav and flac files at any depth.
        utt2spk: File of ``key speaker`` lines; None takes ``utt2spk`` beside the scp file where there is one.

    Raises:
        MissingDataError: There is no such file or folder.
        DataError: It is malformed or has no sounds.
    """

    def __init__(self, source: str | os.PathLike, utt2spk: str | os.PathLike | None = None) -> None:
        self.source = str(source)
        path = Path(source)
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SOUND_SUFFIXES)
            table = {str(file.relative_to(path)): str(file) for file in files}
        else:
            table = read_scp(path)
        if not table:
            raise DataError(describe("no sounds here", got=self.source, allowed=f"files ending in {SOUND_SUFFIXES}"))
        self.keys, self.paths = list(table), list(table.values())
        beside = path.parent / "utt2spk"
        if utt2spk is None and path.is_file() and beside.is_file():
            utt2spk = beside
        self.speakers = read_scp(utt2spk) if utt2spk is not None else {}
        if len({self.speakers.get(key) for key in self.keys}) < 2:  # one speaker: another utterance must do
            self.speakers = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.source!r}, {len(self.paths)} sounds)"

    def __call__(self, rng: np.random.Generator, avoid: str | None = None) -> np.ndarray:
        """Return one 16 kHz clip, float32 (N,), of another utterance than ``avoid`` and, where known, speaker."""
        return read_audio(self.paths[self._pick(rng, avoid)], SAMPLE_RATE)[0]

    def part(self, rng: np.random.Generator, num_samples: int) -> np.ndarray:
        """Return a random part of a random sound, float32 (num_samples,) at 16 kHz; only that part is read."""
        path = self.paths[self._pick(rng, None)]
        size, rate = probe_audio(path)
        wanted = math.ceil(num_samples * rate / SAMPLE_RATE)
        start = int(rng.integers(max(1, size - wanted + 1)))
        sound, _ = read_audio(path, SAMPLE_RATE, resample=True, start=start, num_samples=min(wanted, size))
        return np.resize(sound, num_samples)

    def whole(self, rng: np.random.Generator) -> np.ndarray:
        """Return a random sound of any rate as a whole, float32 (K,) at 16 kHz: an impulse response."""
        return read_audio(self.paths[self._pick(rng, None)], SAMPLE_RATE, resample=True)[0]

    def _pick(self, rng: np.random.Generator, avoid: str | None) -> int:
        speaker = self.speakers.get(avoid) if avoid is not None else None
        for _ in range(_MAX_DRAWS):
            index = int(rng.integers(len(self.paths)))
            key = self.keys[index]
            if avoid is None or (key != avoid and (speaker is None or self.speakers.get(key) != speaker)):
                break
        return index
