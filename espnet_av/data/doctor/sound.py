# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Measures of a waveform: loudness, clipping, silence and holes.

Axis legend: ``N`` samples.
"""

import functools
from dataclasses import dataclass

import numpy as np

FRAME_SEC = 0.02
SPEECH_RANGE_DB = 35.0  # below the loud frames: what is softer counts as a pause
FLAT_TOP = 3  # equal samples in a row at the peak that make a clipped top
QUIET = 10 ** (-30 / 20)  # a peak below which tops are not looked at, for the steps of samples are coarse there
BLOCK_SEC, OVERLAP = 0.4, 4  # of loudness
ABSOLUTE_GATE, RELATIVE_GATE = -70.0, -10.0  # LUFS, LU


@dataclass(frozen=True)
class SoundFacts:
    """What was measured.

    Attributes:
        seconds: Length.
        peak_db: Largest sample in dB of full scale; -120 at least.
        loudness_lufs: Integrated loudness (ITU-R BS.1770-4, mono); -120 where nothing passes its gates.
        clipped_share: Share of samples in flat tops at the peak, 0 to 1.
        num_tops: Number of flat tops.
        top_share: Share of the sounding samples that lie at the top, 0 to 1 (:func:`top_share`).
        speech_share: Share of 20 ms frames within 35 dB of the loud ones (95th percentile).
        longest_hole_sec: Longest stretch of zeros between sounding samples.
        offset: Mean of the samples.
        finite: Whether all samples are numbers.
    """

    seconds: float
    peak_db: float
    loudness_lufs: float
    clipped_share: float
    num_tops: int
    top_share: float
    speech_share: float
    longest_hole_sec: float
    offset: float
    finite: bool


def measure_sound(wave: np.ndarray, rate: int) -> SoundFacts:
    """Measure a waveform ``(N,)`` in [-1, 1] of ``rate`` Hz."""
    seconds = len(wave) / rate
    if len(wave) == 0 or not np.isfinite(wave).all():
        return SoundFacts(seconds, -120.0, -120.0, 0.0, 0, 0.0, 0.0, 0.0, 0.0, finite=len(wave) == 0)
    share, tops = flat_tops(wave)
    return SoundFacts(
        seconds=seconds,
        peak_db=to_db(float(np.abs(wave).max())),
        loudness_lufs=loudness(wave, rate),
        clipped_share=share,
        num_tops=tops,
        top_share=top_share(wave),
        speech_share=_speech_share(wave, rate),
        longest_hole_sec=_longest_hole(wave) / rate,
        offset=float(wave.mean(dtype=np.float64)),
        finite=True,
    )


def to_db(amplitude: float) -> float:
    """Turn an amplitude into dB, -120 at least."""
    return float(20.0 * np.log10(max(amplitude, 1e-6)))


def loudness(wave: np.ndarray, rate: int) -> float:
    """Return the integrated loudness in LUFS of one channel ``(N,)``, after ITU-R BS.1770-4.

    Sound shorter than a block of 400 ms is one block.
    """
    from scipy.signal import sosfilt

    weighted = sosfilt(_k_weighting(rate), np.asarray(wave, np.float64))
    block, step = round(BLOCK_SEC * rate), round(BLOCK_SEC * rate / OVERLAP)
    sums = np.concatenate(([0.0], np.cumsum(np.square(weighted))))
    starts = np.arange(0, max(1, len(wave) - block + 1), step)
    ends = np.minimum(starts + block, len(wave))
    power = (sums[ends] - sums[starts]) / np.maximum(ends - starts, 1)
    power = power[_lufs(power) > ABSOLUTE_GATE]
    if len(power) == 0:
        return -120.0
    power = power[_lufs(power) > _lufs(power.mean()) + RELATIVE_GATE]
    return float(_lufs(power.mean()))


def _lufs(power: np.ndarray) -> np.ndarray:
    return -0.691 + 10.0 * np.log10(np.maximum(power, 1e-12))


@functools.lru_cache(maxsize=8)
def _k_weighting(rate: int) -> np.ndarray:
    """The two filters of BS.1770 (a high shelf for the head, a high pass) for any rate, as sections ``(2, 6)``."""
    k = np.tan(np.pi * 1681.974450955533 / rate)
    high, quality = 10.0 ** (3.999843853973347 / 20.0), 0.7071752369554196
    middle = high**0.4996667741545416
    shelf = np.array([high + middle * k / quality + k * k, 2 * (k * k - high), high - middle * k / quality + k * k])
    below = np.array([1 + k / quality + k * k, 2 * (k * k - 1), 1 - k / quality + k * k])
    k, quality = np.tan(np.pi * 38.13547087602444 / rate), 0.5003270373238773
    under = np.array([1 + k / quality + k * k, 2 * (k * k - 1), 1 - k / quality + k * k])
    return np.array([[*shelf / below[0], *below / below[0]], [1.0, -2.0, 1.0, *under / under[0]]])


def flat_tops(wave: np.ndarray) -> tuple[float, int]:
    """Return the share of samples ``(N,)`` in flat tops, and their number.

    A flat top is a run of at least three samples of one sign within 0.1 % of the peak; a sound below -30 dB of full
    scale has none, for its steps are coarse.
    """
    peak = float(np.abs(wave).max(initial=0.0))
    if peak < QUIET:
        return 0.0, 0
    total, count = 0, 0
    for sign in (1.0, -1.0):
        lengths = _run_lengths(sign * wave >= 0.999 * peak)
        lengths = lengths[lengths >= FLAT_TOP]
        total, count = total + int(lengths.sum()), count + len(lengths)
    return total / len(wave), count


def top_share(wave: np.ndarray) -> float:
    """Return the share of the sounding samples of ``(N,)`` that lie within 3 dB of the top, or above.

    Lossy coding makes flat tops uneven, but they stay near the top: of speech 2 to 10 % of the samples are there, of
    speech that was clipped at a tenth of its peak before it was coded 20 to 35 %. The top is the 99.5th percentile,
    for after coding some samples reach over it. A steady tone, whose tops are all of one length, has none.
    """
    level = np.abs(wave)
    top = float(np.percentile(level, 99.5))
    if top < QUIET:
        return 0.0
    lengths = _run_lengths(level >= top / np.sqrt(2.0))
    if lengths.std() < 0.25 * lengths.mean():
        return 0.0
    return float(lengths.sum() / np.count_nonzero(level >= 0.05 * top))


def _run_lengths(mask: np.ndarray) -> np.ndarray:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return edges[1::2] - edges[::2]


def _longest_hole(wave: np.ndarray) -> int:
    sounding = np.flatnonzero(wave)
    return int(np.diff(sounding).max(initial=1)) - 1 if len(sounding) else 0


def _speech_share(wave: np.ndarray, rate: int) -> float:
    size = max(1, round(FRAME_SEC * rate))
    count = len(wave) // size
    if count < 2:
        return 1.0
    level = 10.0 * np.log10(np.maximum(np.square(wave[: count * size].reshape(count, size)).mean(axis=1), 1e-12))
    return float((level > max(-70.0, np.percentile(level, 95) - SPEECH_RANGE_DB)).mean())
