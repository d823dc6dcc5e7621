# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Loudness, onsets and movements over time: what the rhythm of speech and of a head are compared by.

Axes: ``N`` samples of sound, ``F`` frames of motion. Frame ``t`` of motion lies at ``(t + 0.5) / fps`` seconds; a speed
belongs to the moment between its two frames.
"""

import math

import numpy as np

MOTION_FPS = 30.0
ENVELOPE_SIGMA = 1.5  # frames
SPEED_SIGMA = 2.0  # frames
BEAT_SIGMA = 0.1  # seconds
ONSET_HOP, ONSET_WINDOW = 256, 1024  # samples
ONSET_GAP_SEC = 0.08
SILENCE_DB = -35.0  # against the loud parts of a recording


def smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Return ``(F,)`` or ``(F, D)`` smoothed over time by a Gaussian of ``sigma`` frames, cut off at 4 sigma.

    The ends are mirrored (half-sample symmetric).
    """
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(np.asarray(values, dtype=np.float64), sigma, axis=0, mode="reflect", truncate=4.0)


def rms_envelope(
    wav: np.ndarray, rate: int, num_frames: int, fps: float = MOTION_FPS, sigma: float = ENVELOPE_SIGMA
) -> np.ndarray:
    """Return the loudness of a sound at each frame of the motion, ``(F,)``.

    Args:
        wav: ``(N,)``.
        rate: Its sample rate in Hz.
        num_frames: Frames F; sound that is missing at the end counts as silence.
        fps: Frames per second.
        sigma: Smoothing in frames; 0: none.
    """
    bounds = np.round(np.arange(num_frames + 1) * rate / fps).astype(int).clip(max=len(wav))
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(wav, dtype=np.float64) ** 2)])
    counts = np.maximum(np.diff(bounds), 1)
    envelope = np.sqrt(np.maximum(np.diff(sums[bounds]) / counts, 0.0))
    return smooth(envelope, sigma) if sigma else envelope


def speaking_frames(envelope: np.ndarray, below_db: float = SILENCE_DB) -> np.ndarray:
    """Return which frames hold speech: those within 35 dB of the 95th percentile, bool ``(F,)``."""
    loud = float(np.percentile(envelope, 95)) if len(envelope) else 0.0
    return envelope > max(loud * 10 ** (below_db / 20), 1e-6)


def rotation_speed(rotation: np.ndarray, fps: float = MOTION_FPS) -> np.ndarray:
    """Return the angular speed of a head in rad/s between frames, ``(F - 1,)``, of matrices ``(F, 3, 3)``."""
    rotation = np.asarray(rotation, dtype=np.float64)
    trace = np.einsum("fij,fij->f", rotation[1:], rotation[:-1])
    antisymmetric = rotation[1:] @ rotation[:-1].transpose(0, 2, 1)
    antisymmetric = antisymmetric - antisymmetric.transpose(0, 2, 1)
    sine = np.linalg.norm(antisymmetric, axis=(1, 2)) / (2 * math.sqrt(2))
    return np.arctan2(sine, (trace - 1) / 2) * fps


def vector_speed(values: np.ndarray, fps: float = MOTION_FPS) -> np.ndarray:
    """Return the speed between frames of ``(F, D)`` in units per second, ``(F - 1,)``."""
    return np.linalg.norm(np.diff(np.asarray(values, dtype=np.float64), axis=0), axis=1) * fps


def motion_beats(speed: np.ndarray, sigma: float = SPEED_SIGMA) -> np.ndarray:
    """Return the places where a movement changes: strict local minima of the smoothed speed, int64 ``(B,)``.

    Args:
        speed: ``(F,)``.
        sigma: Smoothing in frames; 0: it is smooth already.
    """
    speed = smooth(speed, sigma) if sigma else np.asarray(speed)
    return np.flatnonzero((speed[1:-1] < speed[:-2]) & (speed[1:-1] < speed[2:])) + 1


def speed_times(places: np.ndarray, fps: float = MOTION_FPS) -> np.ndarray:
    """Return the times in seconds of places of a speed, which lie between two frames."""
    return (np.asarray(places) + 1) / fps


def spectral_flux(wav: np.ndarray) -> np.ndarray:
    """Return the rise of the logarithmic spectrum of a sound, one value per 256 samples.

    Value ``t`` belongs to the time ``(256 t + 512) / rate``.
    """
    wav = np.asarray(wav, dtype=np.float64)
    if len(wav) < ONSET_WINDOW + ONSET_HOP:
        return np.zeros(0)
    frames = np.lib.stride_tricks.sliding_window_view(wav, ONSET_WINDOW)[::ONSET_HOP]
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(ONSET_WINDOW), axis=1))
    level = np.log1p(100 * spectrum / max(float(spectrum.max()), 1e-12))
    return np.concatenate([[0.0], np.maximum(np.diff(level, axis=0), 0.0).mean(axis=1)])


def audio_beats(wav: np.ndarray, rate: int) -> np.ndarray:
    """Return the times of onsets in seconds: peaks of the spectral flux that stand out by a deviation, ``(B,)``."""
    from scipy.signal import find_peaks

    flux = spectral_flux(wav)
    if not flux.any():
        return np.zeros(0)
    flux = smooth(flux, 1.0)
    gap = max(1, round(ONSET_GAP_SEC * rate / ONSET_HOP))
    places, _ = find_peaks(flux, prominence=flux.std(), distance=gap)
    return (places * ONSET_HOP + ONSET_WINDOW / 2) / rate


def beat_alignment(first: np.ndarray, second: np.ndarray, sigma: float = BEAT_SIGMA) -> float:
    """Return how near the beats of ``first`` are to one of ``second``: mean of ``exp(-d^2 / (2 sigma^2))``, 0 to 1.

    Args:
        first: Times in seconds.
        second: Times in seconds.
        sigma: Width in seconds.

    Returns:
        NaN where there are no beats on a side.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if not len(first) or not len(second):
        return math.nan
    distance = np.abs(first[:, None] - second).min(axis=1)
    return float(np.exp(-(distance**2) / (2 * sigma**2)).mean())
