# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Spectra of active separation: one second of 16 kHz sound as 512 bins x 32 frames.

Axes: ``F`` 512 bins, ``T`` 32 frames, ``N`` samples, ``C`` channels (ears). Networks take ``(B, F, T, C)``.

The transform has an odd window: ``n_fft = 1023``, hop 512, periodic Hann, frames centred on zero-padded sound.
"""

import functools

import torch
from torch import Tensor

from espnet_av.utils.errors import usage_error

SAMPLE_RATE = 16000
STEP_SAMPLES = 16000
N_FFT = 1023
QUIRK_N_FFT = 1022  # what the reference inverts with, as its library guesses it from the number of bins
HOP = 512
NUM_BINS = 512
NUM_FRAMES = 32
NUM_SLICES = 16
TARGET_RMS = 1.2
INT16_SCALE = 32768.0


@functools.lru_cache(maxsize=16)
def _window(n_fft: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.hann_window(n_fft, device=device, dtype=dtype)


def to_float(wave: Tensor) -> Tensor:
    """Return samples in [-1, 1): 16-bit integers are divided by 32768, floats stay as they are."""
    return wave if wave.is_floating_point() else wave.float() / INT16_SCALE


def complex_stft(wave: Tensor) -> Tensor:
    """Return the spectrum of sound: ``(..., N)``, int16 or float -> complex ``(..., F, T)``, ``T = 1 + N // 512``."""
    wave = to_float(wave)
    flat = wave.reshape(-1, wave.shape[-1])
    window = _window(N_FFT, flat.device, flat.dtype)
    spectrum = torch.stft(flat, N_FFT, HOP, window=window, center=True, pad_mode="constant", return_complex=True)
    return spectrum.reshape(*wave.shape[:-1], *spectrum.shape[1:])


def stft(wave: Tensor) -> tuple[Tensor, Tensor]:
    """Return magnitude and phase (radians, 0 of silence) of sound: ``(..., N)`` -> twice ``(..., F, T)``."""
    spectrum = complex_stft(wave)
    magnitude = spectrum.abs()
    return magnitude, torch.where(magnitude > 0, spectrum.angle(), torch.zeros_like(magnitude))


def ear_magnitude(wave: Tensor) -> Tensor:
    """Return linear magnitudes with the ears last: ``(..., C, N)`` -> ``(..., F, T, C)``."""
    return complex_stft(wave).abs().movedim(-3, -1)


def mixture_log_magnitude(wave: Tensor, *, float16: bool = False) -> Tensor:
    """Return ``log(1 + magnitude)`` of a mixture, the input of the separators.

    Args:
        wave: Both ears ``(..., 2, N)``, int16 or float.
        float16: Round as the sensors of the reference do: the magnitude to 16 bits, and its logarithm again.

    Returns:
        ``(..., F, T, 2)``, float32.
    """
    magnitude = ear_magnitude(wave)
    return torch.log1p(magnitude.half()).float() if float16 else torch.log1p(magnitude)


def normalise_magnitude(magnitude: Tensor, *, rms: float = TARGET_RMS) -> Tensor:
    """Scale magnitudes ``(..., F, T)`` to a root mean square over all bins of a second; silence stays silent."""
    level = magnitude.square().mean((-2, -1), keepdim=True).sqrt()
    return magnitude * (rms / torch.where(level > 0, level, torch.ones_like(level)))


def normalised_mono_target(wave: Tensor, *, rms: float = TARGET_RMS, float16: bool = False) -> Tensor:
    """Return the magnitude that separation aims at: of the dry target, without its level.

    Args:
        wave: Dry target ``(..., N)``, int16 or float.
        rms: Root mean square of the result over the bins of each second; 0 leaves the level as it is.
        float16: Round to 16 bits as the sensors of the reference do.

    Returns:
        ``(..., F, T, 1)``, float32.
    """
    magnitude = complex_stft(wave).abs()
    if rms:
        magnitude = normalise_magnitude(magnitude, rms=rms)
    magnitude = magnitude.half().float() if float16 else magnitude
    return magnitude.unsqueeze(-1)


def inverse(magnitude: Tensor, phase: Tensor, *, n_fft: int = N_FFT, length: int = STEP_SAMPLES) -> Tensor:
    """Return sound from magnitude and phase: twice ``(..., F, T)`` -> ``(..., length)``.

    Args:
        magnitude: Linear.
        phase: Radians.
        n_fft: 1023 undoes :func:`stft`; 1022 is what the reference measures with (a round trip of noise through it
            has an SI-SDR of about -2 dB).
        length: Samples.

    Raises:
        UsageError: Another ``n_fft``; it would not have 512 bins.
    """
    if n_fft not in (N_FFT, QUIRK_N_FFT):
        usage_error("this transform does not have 512 bins", got=n_fft, allowed=[N_FFT, QUIRK_N_FFT])
    magnitude, phase = magnitude.float(), phase.float()
    spectrum = torch.complex(magnitude * phase.cos(), magnitude * phase.sin())  # magnitudes may be negative
    flat = spectrum.reshape(-1, *spectrum.shape[-2:])
    window = _window(n_fft, flat.device, magnitude.dtype)
    wave = torch.istft(flat, n_fft, HOP, window=window, center=True, length=length)
    return wave.reshape(*spectrum.shape[:-2], length)


def slice_bins(spectrum: Tensor, *, num_slices: int = NUM_SLICES) -> Tensor:
    """Cut bins into slices that become channels: ``(B, F, T, C)`` -> ``(B, C * slices, F / slices, T)``."""
    batch, bins, frames, channels = spectrum.shape
    return spectrum.permute(0, 3, 1, 2).reshape(batch, channels * num_slices, bins // num_slices, frames)


def join_slices(sliced: Tensor, *, num_slices: int = NUM_SLICES) -> Tensor:
    """Undo :func:`slice_bins`: ``(B, C * slices, H, T)`` -> ``(B, slices * H, T, C)``."""
    batch, channels, height, frames = sliced.shape
    return sliced.reshape(batch, channels // num_slices, num_slices * height, frames).permute(0, 2, 3, 1)
