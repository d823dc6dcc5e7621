# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Training augmentation of speech separation: background noise, microphone responses, levels, order and lips.

All randomness comes from the generator that is passed in, so an item is the same whatever worker makes it. Waveforms
are float32 at 16 kHz in [-1, 1].

Legend: ``N`` samples, ``S`` targets, ``K`` taps.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from espnet_av.utils.errors import DataError, describe, usage_error

PEAK = 0.99

#: Gives so many samples of random noise, float32 ``(N,)``.
NoiseSource = Callable[[np.random.Generator, int], np.ndarray]
#: Gives a random impulse response, float32 ``(K,)``.
ResponseSource = Callable[[np.random.Generator], np.ndarray]


def peak_gain(mix: np.ndarray, peak: float = PEAK) -> float:
    """Return the factor that brings the largest magnitude of ``(N,)`` to ``peak``; 1 for silence.

    Mixture and targets are multiplied with the same factor, so that the targets still add up to the mixture.
    """
    highest = float(np.abs(mix).max(initial=0.0))
    return peak / highest if highest > 0 else 1.0


def add_noise(mix: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add noise to a mixture at a ratio of root mean squares over the whole clip.

    Args:
        mix: ``(N,)``.
        noise: ``(N,)``.
        snr_db: Ratio of the mixture to the noise in dB.

    Returns:
        float32 ``(N,)``; the mixture unchanged where either is silent.

    Raises:
        DataError: The lengths differ.
    """
    if mix.shape != noise.shape:
        raise DataError(describe("noise and mixture differ in length", noise.shape, mix.shape))
    power, noise_power = (float(np.square(signal, dtype=np.float64).mean()) for signal in (mix, noise))
    if power == 0 or noise_power == 0:
        return mix
    gain = np.sqrt(power / noise_power) * 10 ** (-snr_db / 20)
    return (mix + gain * noise).astype(np.float32)


def convolve(signals: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Convolve ``(..., N)`` with one response ``(K,)`` and cut to the length of the signals, float32."""
    from scipy.signal import fftconvolve

    shape = (1,) * (signals.ndim - 1) + (-1,)
    return fftconvolve(signals, response.reshape(shape), axes=-1)[..., : signals.shape[-1]].astype(np.float32)


@dataclass(frozen=True)
class RandomBackgroundNoise:
    """Adds noise to the mixture, not to the targets: the network has to remove it.

    Attributes:
        source: Gives random noise.
        snr_db: Least and largest ratio of the mixture to the noise in dB; drawn uniformly.
        probability: Share of the clips that get noise.
        clip: Cut the result to [-1, 1], as a recorder does.

    Raises:
        UsageError: A value is out of range.
    """

    source: NoiseSource
    snr_db: tuple[float, float] = (0.0, 30.0)
    probability: float = 1.0
    clip: bool = True

    def __post_init__(self) -> None:
        check_range("noise.snr_db", self.snr_db)
        check_share("noise.probability", self.probability)

    def __call__(self, mix: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """``(N,)`` -> ``(N,)`` with noise."""
        if rng.random() >= self.probability:
            return mix
        snr_db = float(rng.uniform(*self.snr_db))
        noisy = add_noise(mix, self.source(rng, len(mix)), snr_db)
        return np.clip(noisy, -1.0, 1.0) if self.clip else noisy


@dataclass(frozen=True)
class RandomImpulseResponse:
    """Plays the mixture and its targets through one microphone: the same response for all of them.

    This is not reverberation of a room, where every speaker has a response of their own.

    Attributes:
        source: Gives a random impulse response.
        probability: Share of the clips.
        clip: Cut the results to [-1, 1], as a recorder does.

    Raises:
        UsageError: ``probability`` is out of range.
    """

    source: ResponseSource
    probability: float = 1.0
    clip: bool = True

    def __post_init__(self) -> None:
        check_share("impulse_response.probability", self.probability)

    def __call__(self, mix: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Mixture ``(N,)`` and targets ``(S, N)`` -> the same shapes.

        Raises:
            DataError: The response is empty or silent.
        """
        if rng.random() >= self.probability:
            return mix, target
        response = np.asarray(self.source(rng), dtype=np.float32)
        if response.ndim != 1 or not response.any():
            raise DataError(describe("an impulse response must be a signal that is not silent", response.shape))
        heard = convolve(np.concatenate([mix[None], target]), response)
        if self.clip:
            heard = np.clip(heard, -1.0, 1.0)
        return heard[0], heard[1:]


def check_share(name: str, value: float) -> None:
    """Raise UsageError for what is no share."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        usage_error(f"{name} is out of range", got=value, allowed="0 to 1")


def check_range(name: str, value: tuple[float, float]) -> None:
    """Raise UsageError for what is no pair ``[low, high]``."""
    numbers = isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(x, (int, float)) for x in value)
    if not numbers or value[0] > value[1]:
        usage_error(f"{name} is no range", got=value, allowed="[low, high] in dB")
