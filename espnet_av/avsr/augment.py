# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Training augmentation of AVSRCocktail: time masks, interfering speakers, noise, and the random mouth crop.

All randomness comes from the generator that is passed in, so an item is the same whatever worker makes it.
Signal-to-noise ratios are energy ratios over the whole clip in dB; 0 is a ratio like any other, ``None`` means "not at
all". Waveforms are float32 ``(N,)`` in [-1, 1] at 16 kHz, videos uint8 ``(T, H, W)`` at 25 fps.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from espnet_av.data.mixing import fit_length, mix_at_snr
from espnet_av.data.mouth_pixels import CROP_SIZE, center_crop, random_crop
from espnet_av.utils.errors import DataError, describe, usage_error

SAMPLE_RATE = 16000
AUDIO_MASK_LENGTH = 6400  # samples, 0.4 s
AUDIO_MASK_STRIDE = 16000  # one mask per second
VIDEO_MASK_LENGTH = 10  # frames
VIDEO_MASK_STRIDE = 25
INTERFERER_COUNTS = (0, 0, 1, 2)
MUTUAL_SNRS_DB = (-5.0, 0.0, 5.0, 10.0, 15.0)
TARGET_SNRS_DB = (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0)

MAX_DRAWS = 20  # of an interferer of a suitable length
Item = TypeVar("Item")

#: Gives one random clip, float32 ``(N,)``; the second argument names an utterance whose speaker must not be drawn.
ClipSource = Callable[[np.random.Generator, str | None], np.ndarray]
#: Gives so many samples of random noise, float32 ``(N,)``.
NoiseSource = Callable[[np.random.Generator, int], np.ndarray]


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
    return mix_at_snr(target, other, snr_db) if target.any() else target.astype(np.float32)


def draw_time_masks(
    size: int, rng: np.random.Generator, *, max_length: int, stride: int, legacy: bool = False
) -> list[tuple[int, int]]:
    """Draw the spans that time masking zeroes.

    There are ``ceil(size / stride)`` masks, each of a length below ``max_length`` and anywhere within the signal. One
    of length 0, or as long as the signal, is left out.

    Args:
        size: Length of the signal.
        rng: Source of randomness.
        max_length: Masks are shorter than this.
        stride: One mask per this length.
        legacy: The rule of the reference, which draws two lengths: the first limits where the mask may start (and
            leaves it out if 0 or not shorter than the signal), the second is how much is zeroed. A mask may then be
            empty, or reach beyond the end.

    Returns:
        Start and length of each mask.
    """
    spans = []
    for _ in range(math.ceil(size / stride)):
        limit, length = (int(value) for value in rng.integers(0, max_length, size=2))
        if not legacy:
            limit = length
        if 0 < limit < size:
            spans.append((int(rng.integers(0, size - limit + (not legacy))), length))
    return spans


def mask_time(
    signal: np.ndarray, rng: np.random.Generator, *, max_length: int, stride: int, legacy: bool = False
) -> np.ndarray:
    """Zero random spans of the first axis; see :func:`draw_time_masks`. The input is not changed."""
    signal = signal.copy()
    for start, length in draw_time_masks(len(signal), rng, max_length=max_length, stride=stride, legacy=legacy):
        signal[start : start + length] = 0
    return signal


def random_part(clip: np.ndarray, num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Cut ``num_samples`` out of ``(n,)`` at a random place; what is too short is repeated. Returns ``(N,)``."""
    start = int(rng.integers(max(1, len(clip) - num_samples + 1)))
    return np.resize(clip[start:], num_samples)


def _pick(values: Sequence[Item], rng: np.random.Generator) -> Item:
    return values[int(rng.integers(len(values)))]


def _refuse_empty(**lists: Sequence) -> None:
    for name, values in lists.items():
        if len(values) == 0:
            usage_error(f"{name} is empty", got=list(values), allowed="one value or more")


@dataclass(frozen=True)
class Interferers:
    """Mixes other speakers into the target. Numbers and ratios are the reference's.

    Attributes:
        source: Gives one random clip, of another speaker where it knows speakers.
        counts: How many are drawn, each entry with the same probability.
        mutual_snrs_db: Ratios at which the second is mixed into the first.
        target_snrs_db: Ratios at which their sum is mixed into the target.
        min_target_sec: Shorter targets are left alone.
        min_sec: Shorter clips are drawn again.
        max_sec: Longer clips likewise.
        legacy: As the reference: a clip of an unsuitable length is skipped, which leaves fewer interferers, and the
            target itself or its speaker may be drawn.
    """

    source: ClipSource
    counts: Sequence[int] = INTERFERER_COUNTS
    mutual_snrs_db: Sequence[float] = MUTUAL_SNRS_DB
    target_snrs_db: Sequence[float] = TARGET_SNRS_DB
    min_target_sec: float = 2.0
    min_sec: float = 2.0
    max_sec: float = 10.0
    legacy: bool = False

    def __post_init__(self) -> None:
        _refuse_empty(counts=self.counts, mutual_snrs_db=self.mutual_snrs_db, target_snrs_db=self.target_snrs_db)

    def __call__(self, wave: np.ndarray, rng: np.random.Generator, uid: str | None = None) -> np.ndarray:
        """Mix random other speakers into ``(N,)``; ``uid`` names the target."""
        if len(wave) < self.min_target_sec * SAMPLE_RATE:
            return wave
        mixture = None
        for _ in range(_pick(self.counts, rng)):
            clip = self._draw(rng, uid)
            if clip is None:
                continue
            clip = fit_length(clip, len(wave))
            mixture = clip if mixture is None else add_at_snr(mixture, clip, _pick(self.mutual_snrs_db, rng))
        return wave if mixture is None else add_at_snr(wave, mixture, _pick(self.target_snrs_db, rng))

    def _draw(self, rng: np.random.Generator, uid: str | None) -> np.ndarray | None:
        for _ in range(1 if self.legacy else MAX_DRAWS):
            clip = self.source(rng, None if self.legacy else uid)
            if self.min_sec * SAMPLE_RATE <= len(clip) <= self.max_sec * SAMPLE_RATE:
                return clip
        return None


@dataclass(frozen=True)
class Noise:
    """Adds noise to the whole clip.

    Attributes:
        source: Gives random noise.
        snrs_db: Ratios, each with the same probability; 0 is a ratio, None stands for no noise.
        probability: Share of the clips that are considered at all, 0 to 1.
    """

    source: NoiseSource
    snrs_db: Sequence[float | None] = (*TARGET_SNRS_DB, None)
    probability: float = 1.0

    def __post_init__(self) -> None:
        _refuse_empty(snrs_db=self.snrs_db)
        if not 0 <= self.probability <= 1:
            usage_error("probability of noise is out of range", got=self.probability, allowed="0 to 1")

    def __call__(self, wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Mix noise into ``(N,)``."""
        if self.probability < 1 and rng.random() >= self.probability:
            return wave
        snr_db = _pick(self.snrs_db, rng)
        return wave if snr_db is None else add_at_snr(wave, self.source(rng, len(wave)), snr_db)


@dataclass(frozen=True)
class Babble:
    """Noise of several people who talk at once, made of single clips of the same energy.

    Attributes:
        source: Gives one random clip.
        talkers: Least and largest number of people.
    """

    source: ClipSource
    talkers: tuple[int, int] = (4, 8)

    def __post_init__(self) -> None:
        low, high = self.talkers
        if not 1 <= low <= high:
            usage_error("babble_talkers is out of range", got=list(self.talkers), allowed="two numbers, 1 <= A <= B")

    def __call__(self, rng: np.random.Generator, num_samples: int) -> np.ndarray:
        """Return float32 ``(num_samples,)``."""
        total = np.zeros(num_samples)
        for _ in range(int(rng.integers(self.talkers[0], self.talkers[1] + 1))):
            part = random_part(self.source(rng, None), num_samples, rng).astype(np.float64)
            energy = np.square(part).mean()
            total += part / np.sqrt(energy) if energy > 0 else part
        return total.astype(np.float32)


@dataclass(frozen=True)
class TrainTransform:
    """What training does to one clip before it is collated.

    Attributes:
        audio_masks: Zero random spans of the target's audio, before anything is mixed in.
        video_masks: Blacken random spans of frames.
        interferers: Other speakers, or None.
        noise: Noise, or None.
        crop: Side of the random square cut out of the mouth video, one place per clip.
        legacy: Time masks by the rule of the reference; see :func:`draw_time_masks`.
    """

    audio_masks: bool = True
    video_masks: bool = True
    interferers: Interferers | None = None
    noise: Noise | None = None
    crop: int = CROP_SIZE
    legacy: bool = False

    def audio(self, wave: np.ndarray, rng: np.random.Generator, uid: str | None = None) -> np.ndarray:
        """float32 ``(N,)`` of clip ``uid`` -> float32 ``(N,)``; not renormalised, so that it may leave [-1, 1]."""
        if self.audio_masks:
            limits = {"max_length": AUDIO_MASK_LENGTH, "stride": AUDIO_MASK_STRIDE}
            wave = mask_time(wave, rng, legacy=self.legacy, **limits)
        if self.interferers is not None:
            wave = self.interferers(wave, rng, uid)
        return wave if self.noise is None else self.noise(wave, rng)

    def video(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 ``(T, H, W)`` -> uint8 ``(T, crop, crop)``."""
        frames = random_crop(frames, rng, self.crop)
        if self.video_masks:
            limits = {"max_length": VIDEO_MASK_LENGTH, "stride": VIDEO_MASK_STRIDE}
            frames = mask_time(frames, rng, legacy=self.legacy, **limits)
        return np.ascontiguousarray(frames)


@dataclass(frozen=True)
class EvalTransform:
    """What evaluation does: the centre crop and nothing else.

    Attributes:
        crop: Side of the square.
    """

    crop: int = CROP_SIZE

    def audio(self, wave: np.ndarray, rng: np.random.Generator | None = None, uid: str | None = None) -> np.ndarray:
        """Return the waveform as it is."""
        return wave

    def video(self, frames: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """uint8 ``(T, H, W)`` -> uint8 ``(T, crop, crop)``."""
        return np.ascontiguousarray(center_crop(frames, self.crop))
