# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""New mixtures in every epoch: a voice of a mixture gets another partner out of the training set.

Legend: ``N`` samples, ``S`` targets, ``T`` video frames, ``D`` width of an embedding.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from espnet_av.avss.augment import check_range, check_share
from espnet_av.avss.lips import draw_variant, fit_lips, load_lips
from espnet_av.data.av_clock import AVClock
from espnet_av.data.data_dir import read_scp
from espnet_av.data.mixing import fit_length
from espnet_av.data.types import load_sound
from espnet_av.utils.errors import usage_error

CLOCK = AVClock()
_MAX_DRAWS = 50


class VoiceBank:
    """The single voices of a set of mixtures, with their lips.

    Args:
        sound: Utterance to sound file, one table per voice.
        lips: Utterance to file of embeddings, one table per voice; None: without lips.
    """

    def __init__(self, sound: Sequence[Mapping[str, str]], lips: Sequence[Mapping[str, str]] | None = None) -> None:
        if not sound or (lips is not None and len(lips) != len(sound)):
            usage_error("remix needs each voice of the training set, with its lips where they are used", len(sound))
        self.sound, self.lips = list(sound), None if lips is None else list(lips)
        self.keys = [(uid, number) for number, table in enumerate(self.sound) for uid in table]

    @classmethod
    def from_files(cls, sound: Sequence[str], lips: Sequence[str] | None = None) -> "VoiceBank":
        """Read the tables ``key path`` of the voices and of their lips."""
        return cls([read_scp(path) for path in sound], None if lips is None else [read_scp(path) for path in lips])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.keys)} voices)"

    def draw(self, uid: str, kept: int, rng: np.random.Generator) -> tuple[str, int] | None:
        """Return utterance and number of a voice of another clip than voice ``kept`` of ``uid``; None: found none."""
        for _ in range(_MAX_DRAWS):
            other, number = self.keys[int(rng.integers(len(self.keys)))]
            if other == uid or self._same_clip((other, number), (uid, kept)):
                continue
            return other, number
        return None

    def _same_clip(self, first: tuple[str, int], second: tuple[str, int]) -> bool:
        for tables in (self.sound, self.lips or ()):
            paths = [tables[number].get(uid) if tables else None for uid, number in (first, second)]
            if paths[0] is not None and paths[0] == paths[1]:
                return True
        return False

    def read(
        self, voice: tuple[str, int], num_samples: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Read a random stretch of a voice: ``(num_samples,)`` and its lips ``(T, D)`` or None.

        Raises:
            DataError: A file cannot be read, or lips and sound differ in length.
        """
        uid, number = voice
        wave = load_sound(self.sound[number][uid])
        num_frames = CLOCK.samples_to_frames(num_samples)
        spare = max(0, CLOCK.samples_to_frames(len(wave)) - num_frames)
        start = int(rng.integers(spare + 1))
        first = CLOCK.frames_to_samples(start)
        piece = fit_length(wave[first : first + num_samples], num_samples)
        if self.lips is None:
            return piece, None
        stored = draw_variant(load_lips(self.lips[number][uid]), rng)
        lips = fit_lips(stored, len(wave), CLOCK, f"utterance '{uid}', lips of s{number + 1}")[start:]
        return piece, lips


class Remix:
    """Exchanges all voices but one, drawn at random, for voices of other mixtures.

    Few utterances then give as many mixtures as there are pairs, which is worth more than anything else on small sets.

    Args:
        bank: Where voices come from.
        probability: Share of the clips.
        snr_db: Least and largest ratio of the kept voice to a new one in dB, over the segment.

    Raises:
        UsageError: A value is out of range.
    """

    def __init__(self, bank: VoiceBank, probability: float = 1.0, snr_db: tuple[float, float] = (-5.0, 5.0)) -> None:
        check_share("remix.probability", probability)
        check_range("remix.snr_db", snr_db)
        self.bank, self.probability, self.snr_db = bank, probability, snr_db

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.bank}, probability={self.probability}, snr_db={self.snr_db})"

    def __call__(
        self,
        uid: str,
        mix: np.ndarray,
        voices: np.ndarray,
        lips: list[np.ndarray] | None,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray, list[np.ndarray] | None]:
        """Return a new mixture ``(N,)``, its voices ``(S, N)`` and lips; the old ones where nothing could be drawn."""
        if rng.random() >= self.probability:
            return mix, voices, lips
        kept = int(rng.integers(len(voices)))
        energy = float(np.square(voices[kept], dtype=np.float64).sum())
        new_voices, new_lips = voices.copy(), None if lips is None else list(lips)
        for place in range(len(voices)):
            drawn = None if place == kept else self.bank.draw(uid, kept, rng)
            if drawn is None:
                continue
            wave, seen = self.bank.read(drawn, len(mix), rng)
            other = float(np.square(wave, dtype=np.float64).sum())
            if energy == 0 or other == 0:
                continue
            gain = np.sqrt(energy / other) * 10 ** (-float(rng.uniform(*self.snr_db)) / 20)
            new_voices[place] = gain * wave
            if new_lips is not None:
                if seen is None:
                    usage_error("the voices to mix have no lips, and the network looks at lips")
                new_lips[place] = _same_length(seen, len(new_lips[kept]))
        return new_voices.sum(axis=0), new_voices, new_lips


def _same_length(lips: np.ndarray, num_frames: int) -> np.ndarray:
    """Cut ``(T, D)``, or repeat its last frame, to ``(num_frames, D)``."""
    lips = lips[:num_frames]
    return np.pad(lips, ((0, num_frames - len(lips)), (0, 0)), mode="edge")
