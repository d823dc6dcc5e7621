# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The audio observations of the reference: magnitudes and phases in half precision, made by the environment.

The default is to hand out waveforms and let the learner transform whole batches (:mod:`espnet_av.activesep.spectra`);
these are for parity. Legend: F = 512 bins, T = 32 frames, k sources.
"""

from collections.abc import Sequence

import numpy as np
import scipy.fft
import scipy.signal

N_FFT, HOP = 1023, 512
FULL_SCALE = 32768.0
TARGET_RMS = 1.2  # of the magnitudes of the dry target

_WINDOW = scipy.signal.get_window("hann", N_FFT, fftbins=True)


def stft(wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return magnitudes and phases.

    Args:
        wave: ``(..., N)``.

    Returns:
        float32 ``(..., 512, 1 + N // 512)`` twice; the phase is in radians, 0 where the magnitude is.
    """
    half = N_FFT // 2
    padded = np.pad(np.asarray(wave, np.float32), [(0, 0)] * (wave.ndim - 1) + [(half, half)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT, axis=-1)[..., ::HOP, :]
    spectrum = scipy.fft.rfft(frames * _WINDOW, axis=-1).astype(np.complex64).swapaxes(-1, -2)
    return np.abs(spectrum), np.angle(spectrum)


def normalise_magnitude(magnitude: np.ndarray, rms: float = TARGET_RMS) -> np.ndarray:
    """Scale each magnitude ``(..., F, T)`` to a root mean square; silence stays silence; ``rms`` 0 does nothing."""
    if not rms:
        return magnitude
    level = np.sqrt(np.mean(np.square(magnitude), axis=(-2, -1), keepdims=True))
    return np.where(level > 0, magnitude * (rms / np.where(level > 0, level, 1)), magnitude).astype(magnitude.dtype)


def mixture_spectra(components: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return what is heard: log1p magnitudes and phases.

    Args:
        components: k times int16 ``(2, N)``, each source at both ears.

    Returns:
        float16 ``(F, T, 2)`` twice; log1p is taken in half precision.
    """
    wave = np.sum([component.astype(np.float32) for component in components], axis=0) / FULL_SCALE / len(components)
    magnitude, phase = stft(wave)
    return np.log1p(np.moveaxis(magnitude, 0, -1).astype(np.float16)), np.moveaxis(phase, 0, -1).astype(np.float16)


def component_spectra(components: Sequence[np.ndarray]) -> np.ndarray:
    """Return each source at both ears: float16 ``(F, T, 4 k)``, magnitude and phase of the left, then of the right."""
    magnitude, phase = stft(np.concatenate(components) / np.float32(FULL_SCALE))
    return np.moveaxis(np.stack([magnitude, phase], axis=1).reshape(-1, *magnitude.shape[1:]), 0, -1).astype(np.float16)


def dry_spectra(chunks: Sequence[np.ndarray], rms: float = TARGET_RMS) -> np.ndarray:
    """Return each source without any room: float16 ``(F, T, 2 k)``, normalised magnitude and phase.

    Args:
        chunks: k times int16 ``(N,)``.
        rms: See :func:`normalise_magnitude`.
    """
    magnitude, phase = stft(np.stack(chunks) / np.float32(FULL_SCALE))
    both = np.stack([normalise_magnitude(magnitude, rms), phase], axis=1)
    return np.moveaxis(both.reshape(-1, *magnitude.shape[1:]), 0, -1).astype(np.float16)
