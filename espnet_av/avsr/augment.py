# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Training augmentation of AVSRCocktail: time masks, interfering speakers, noise, and the random mouth crop.

All randomness comes from the generator that is passed in, so an item is the same whatever worker makes it.
Signal-to-noise ratios are energy ratios over the whole clip in dB; 0 is a ratio like any other, ``None`` means "not at
all". Waveforms are float32 ``(N,)`` in [-1, 1] at 16 kHz, videos uint8 ``(T, H, W)`` at 25 fps.
"""

import math
import os
from collections.abc import Sequence
from functools import partial

import numpy as np

from espnet_av.avsr.video import CROP_SIZE, random_crop
from espnet_av.utils.errors import DataError, describe, usage_error

SAMPLE_RATE = 16000
INTERFERER_COUNTS = (0, 0, 1, 2)
MUTUAL_SNRS_DB = (-5.0, 0.0, 5.0, 10.0, 15.0)
TARGET_SNRS_DB = (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0)


def fit_length(wave: np.ndarray, num_samples: int) -> np.ndarray:
    """Cut ``(N,)`` or zero-pad it at the end to ``num_samples``."""
    wave = wave[:num_samples]
    return np.pad(wave, (0, num_samples - len(wave)))


def add_at_snr(target: np.ndarray, other: np.ndarray, snr_db: float) -> np.ndarray:
    """Add ``other`` to ``target`` so that the target's energy lies ``snr_db`` above it.

    Args:
        target: ``(N,)``.
        other: ``(N,)``.
        snr_db: Ratio of both energies over the whole clip, in dB.

    Returns:
        float32 ``(N,)``, not renormalised. Where either signal is silent the target comes back unchanged.

    Raises:
        DataError: The lengths differ.
    """
    if target.shape != other.shape:
        raise DataError(describe("mixing needs equal lengths", got=(target.shape, other.shape), fix="use fit_length"))
    target_energy = float(np.square(target, dtype=np.float64).sum())
    other_energy = float(np.square(other, dtype=np.float64).sum())
    if target_energy == 0.0 or other_energy == 0.0:
        return target.astype(np.float32)
    gain = math.sqrt(target_energy / other_energy / 10.0 ** (snr_db / 10.0))
    return (target + gain * other.astype(np.float64)).astype(np.float32)


def draw_time_masks(size: int, rng: np.random.Generator, *, max_length: int, stride: int) -> list[tuple[int, int]]:
    """Draw the spans that time masking zeroes.

    There are ``ceil(size / stride)`` masks. For each, two lengths below ``max_length`` are drawn: the first limits
    where the mask may start (and skips it if 0 or not shorter than the clip), the second is how much is zeroed. A mask
    may reach beyond the end.

    Args:
        size: Length of the signal.
        rng: Source of randomness.
        max_length: Both lengths lie below it.
        stride: One mask per this length.

    Returns:
        Start and length of each mask.
    """
    spans = []
    for _ in range(math.ceil(size / stride)):
        limit, length = (int(value) for value in rng.integers(0, max_length, size=2))
        if 0 < limit < size:
            spans.append((int(rng.integers(0, size - limit)), length))
    return spans


def mask_time(signal: np.ndarray, rng: np.random.Generator, *, max_length: int, stride: int) -> np.ndarray:
    """Zero random spans of the first axis; see :func:`draw_time_masks`. The input is not changed."""
    signal = signal.copy()
    for start, length in draw_time_masks(len(signal), rng, max_length=max_length, stride=stride):
        signal[start : start + length] = 0
    return signal


class ClipBank:
    """Random clips out of a ``wav.scp``; only their lengths and paths stay in memory.

    Args:
        scp: Table ``key path`` of sound files at ``sample_rate``.
        utt2spk: Table ``key speaker``; clips of the target's speaker are then not drawn.
        sample_rate: Samples per second that all files must have.
    """

    def __init__(
        self, scp: str | os.PathLike, *, utt2spk: str | os.PathLike | None = None, sample_rate: int = SAMPLE_RATE
    ) -> None:
        from espnet_av.data.data_dir import read_scp

        self.paths = read_scp(scp)
        self.keys = list(self.paths)
        self.speakers = {} if utt2spk is None else read_scp(utt2spk)
        self.sample_rate = sample_rate

    def draw(self, rng: np.random.Generator, exclude: str | None = None) -> np.ndarray:
        """Return a random clip float32 ``(N,)`` other than the utterance ``exclude`` and those of its speaker.

        Raises:
            DataError: No other clip is left.
        """
        from espnet_av.data.audio_io import read_audio

        speaker = self.speakers.get(exclude)
        for index in rng.permutation(len(self.keys)) if exclude is not None else [rng.integers(len(self.keys))]:
            key = self.keys[index]
            if key != exclude and (speaker is None or self.speakers.get(key) != speaker):
                return read_audio(self.paths[key], self.sample_rate)[0]
        raise DataError(describe("no clip of another speaker to mix in", got=exclude, fix="list more speakers"))


class AudioAugment:
    """Masks the target's audio, then mixes other speakers and noise into it. The defaults are the reference's.

    Args:
        time_mask: Zero random spans of the target.
        time_mask_sec: Upper bound of a span; one is drawn per second.
        interferer_scp: ``wav.scp`` of clips of other speakers; None mixes none.
        interferer_utt2spk: Speakers of these clips; a target is then never mixed with its own speaker.
        interferer_counts: How many clips are mixed in, each entry with the same probability.
        mutual_snrs_db: Ratios at which the second clip is mixed into the first.
        target_snrs_db: Ratios at which their sum is mixed into the target.
        min_target_sec: Shorter targets get no interferer.
        min_interferer_sec: Shorter clips are skipped, not drawn again.
        max_interferer_sec: Longer clips likewise.
        noise_scp: Table of noise files; None adds none.
        noise_snrs_db: Ratios of the noise; None among them stands for no noise.
        sample_rate: Samples per second of everything.

    Raises:
        UsageError: A list is empty or a bound negative.
    """

    def __init__(
        self,
        *,
        time_mask: bool = True,
        time_mask_sec: float = 0.4,
        interferer_scp: str | os.PathLike | None = None,
        interferer_utt2spk: str | os.PathLike | None = None,
        interferer_counts: Sequence[int] = INTERFERER_COUNTS,
        mutual_snrs_db: Sequence[float] = MUTUAL_SNRS_DB,
        target_snrs_db: Sequence[float] = TARGET_SNRS_DB,
        min_target_sec: float = 2.0,
        min_interferer_sec: float = 2.0,
        max_interferer_sec: float = 10.0,
        noise_scp: str | os.PathLike | None = None,
        noise_snrs_db: Sequence[float | None] = (*TARGET_SNRS_DB, None),
        sample_rate: int = SAMPLE_RATE,
    ) -> None:
        for name, values in (
            ("interferer_counts", interferer_counts),
            ("mutual_snrs_db", mutual_snrs_db),
            ("target_snrs_db", target_snrs_db),
            ("noise_snrs_db", noise_snrs_db),
        ):
            if len(values) == 0:
                usage_error(f"{name} is empty", got=list(values), allowed="one value or more")
        self.time_mask = time_mask
        max_length = int(time_mask_sec * sample_rate)
        if max_length < 1:
            usage_error("time_mask_sec is too short", got=time_mask_sec, fix="use time_mask: false for no masks")
        self._mask = partial(mask_time, max_length=max_length, stride=sample_rate)
        self.interferers = self.noise = None
        if interferer_scp is not None:
            self.interferers = ClipBank(interferer_scp, utt2spk=interferer_utt2spk, sample_rate=sample_rate)
        if noise_scp is not None:
            self.noise = ClipBank(noise_scp, sample_rate=sample_rate)
        self.interferer_counts = tuple(interferer_counts)
        self.mutual_snrs_db = tuple(mutual_snrs_db)
        self.target_snrs_db = tuple(target_snrs_db)
        self.noise_snrs_db = tuple(noise_snrs_db)
        self.min_target = int(min_target_sec * sample_rate)
        self.interferer_range = int(min_interferer_sec * sample_rate), int(max_interferer_sec * sample_rate)

    def __call__(self, speech: np.ndarray, rng: np.random.Generator, exclude: str | None = None) -> np.ndarray:
        """Augment one clip.

        Args:
            speech: float32 ``(N,)`` in [-1, 1].
            rng: Source of randomness.
            exclude: Utterance id of the clip, which is not mixed with itself.

        Returns:
            float32 ``(N,)``; mixtures are not renormalised and may leave [-1, 1].
        """
        if self.time_mask:
            speech = self._mask(speech, rng)
        if self.interferers is not None:
            speech = self.mix_interferers(speech, rng, exclude)
        return speech if self.noise is None else self.mix_noise(speech, rng)

    def mix_interferers(self, speech: np.ndarray, rng: np.random.Generator, exclude: str | None = None) -> np.ndarray:
        """Mix random other speakers into ``(N,)``."""
        if len(speech) < self.min_target:
            return speech
        shortest, longest = self.interferer_range
        mixture = None
        for _ in range(_pick(self.interferer_counts, rng)):
            clip = self.interferers.draw(rng, exclude)
            if not shortest <= len(clip) <= longest:
                continue
            clip = fit_length(clip, len(speech))
            mixture = clip if mixture is None else add_at_snr(mixture, clip, _pick(self.mutual_snrs_db, rng))
        return speech if mixture is None else add_at_snr(speech, mixture, _pick(self.target_snrs_db, rng))

    def mix_noise(self, speech: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Mix random noise into ``(N,)``: a random part of it, repeated where it is shorter."""
        snr_db = _pick(self.noise_snrs_db, rng)
        if snr_db is None:
            return speech
        noise = self.noise.draw(rng)
        start = int(rng.integers(max(1, len(noise) - len(speech) + 1)))
        return add_at_snr(speech, np.resize(noise[start:], len(speech)), snr_db)


def _pick(values: Sequence, rng: np.random.Generator) -> object:
    return values[int(rng.integers(len(values)))]


class VideoAugment:
    """Cuts one random square out of all frames of a clip and blackens random spans of frames.

    Args:
        crop_size: Side of the square in pixels.
        time_mask: Blacken frames.
        time_mask_frames: Upper bound of a span; one is drawn per 25 frames.
    """

    def __init__(self, *, crop_size: int = CROP_SIZE, time_mask: bool = True, time_mask_frames: int = 10) -> None:
        if time_mask_frames < 1:
            usage_error("time_mask_frames is too small", got=time_mask_frames, fix="use time_mask: false for no masks")
        self.crop_size = crop_size
        self.time_mask = time_mask
        self._mask = partial(mask_time, max_length=time_mask_frames, stride=25)

    def __call__(self, video: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 ``(T, H, W)`` -> uint8 ``(T, crop_size, crop_size)``."""
        video = random_crop(video, rng, self.crop_size)
        return np.ascontiguousarray(self._mask(video, rng) if self.time_mask else video)
