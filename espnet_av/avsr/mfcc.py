# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Mel-frequency cepstral coefficients with the defaults of python_speech_features, in torch and in batches.

Pre-emphasis 0.97, rectangular frames of 25 ms every 10 ms, 26 triangular filters, natural logarithm, orthonormal
DCT-II, sine lifter 22, and the logarithm of the frame's energy in place of the first coefficient.

Axes: ``B`` batch, ``N`` samples, ``F`` frames (100 Hz), ``C`` coefficients.
"""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.avsr.features import SAMPLE_RATE, mel_filterbank
from espnet_av.utils.errors import usage_error

EPS = float(np.finfo(np.float64).eps)


@functools.lru_cache(maxsize=8)
def cepstral_matrix(num_coefficients: int = 13, num_mels: int = 26, lifter: int = 22) -> np.ndarray:
    """Return the orthonormal DCT-II with the sine lifter applied.

    Args:
        num_coefficients: Rows that are kept.
        num_mels: Filters of the bank.
        lifter: ``1 + lifter / 2 * sin(pi * n / lifter)`` scales row n; 0 leaves all as they are.

    Returns:
        float64 ``(num_coefficients, num_mels)``, read-only, shared between callers.
    """
    rows = np.arange(num_coefficients)
    matrix = np.cos(np.pi / num_mels * (np.arange(num_mels) + 0.5) * rows[:, None]) * math.sqrt(2.0 / num_mels)
    matrix[0] /= math.sqrt(2.0)
    if lifter:
        matrix *= (1.0 + lifter / 2.0 * np.sin(np.pi * rows / lifter))[:, None]
    matrix.flags.writeable = False
    return matrix


class MFCC(nn.Module):
    """Waveform -> cepstral coefficients, 100 rows per second. No parameters, nothing in the state dict.

    A batch of padded waveforms gives for every item exactly what the item alone gives. The arithmetic runs in float64
    where the device has it.

    Args:
        num_coefficients: Width of a row; the first is the log energy.
        sample_rate: Samples per second of the input.
        frame_length: Samples per frame (rectangular window).
        frame_shift: Samples between frames.
        fft_size: FFT length.
        num_mels: Number of filters.
        preemphasis: Coefficient of the first-order high-pass; the first sample is kept.
        lifter: Length of the sine lifter; 0 turns it off.
    """

    def __init__(
        self,
        num_coefficients: int = 13,
        *,
        sample_rate: int = SAMPLE_RATE,
        frame_length: int = 400,
        frame_shift: int = 160,
        fft_size: int = 512,
        num_mels: int = 26,
        preemphasis: float = 0.97,
        lifter: int = 22,
    ) -> None:
        super().__init__()
        if not 1 <= num_coefficients <= num_mels:
            usage_error("wrong number of coefficients", got=num_coefficients, allowed=f"1 to {num_mels}")
        self.num_coefficients = num_coefficients
        self.sample_rate = sample_rate
        self.frame_length = frame_length
        self.frame_shift = frame_shift
        self.fft_size = fft_size
        self.num_mels = num_mels
        self.preemphasis = preemphasis
        self.lifter = lifter

    def num_frames(self, num_samples: Tensor) -> Tensor:
        """Return how many frames ``num_samples`` samples give (at least 1; the tail is zero-padded)."""
        extra = (num_samples - self.frame_length).clamp(min=0)
        return 1 + torch.div(extra + self.frame_shift - 1, self.frame_shift, rounding_mode="floor")

    @torch.no_grad()
    def forward(self, wave: Tensor, wave_lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute the coefficients.

        Args:
            wave: ``(B, N)`` samples at any scale; the scale moves the log energy and the silence floor only.
            wave_lengths: ``(B,)`` valid samples; all of them when left out.

        Returns:
            ``(B, F, C)`` float32 rows, zero beyond the valid ones, and ``(B,)`` frame counts.

        Raises:
            UsageError: The waveform is not a batch of mono signals, or is empty.
        """
        if wave.dim() != 2 or wave.shape[1] == 0:
            usage_error("audio must be a batch of mono signals (B, N) with N > 0", got=tuple(wave.shape))
        if wave_lengths is None:
            wave_lengths = torch.full((wave.shape[0],), wave.shape[1])
        counts = self.num_frames(wave_lengths.to(wave.device))
        power = self._power(wave, wave_lengths.to(wave.device))  # (B, F, bins)
        bank = torch.tensor(mel_filterbank(self.num_mels, self.fft_size, self.sample_rate).copy()).to(power)
        cepstrum = torch.tensor(cepstral_matrix(self.num_coefficients, self.num_mels, self.lifter).copy()).to(power)
        rows = _safe_log(power @ bank.T) @ cepstrum.T
        rows[..., 0] = _safe_log(power.sum(dim=-1))
        valid = torch.arange(rows.shape[1], device=rows.device) < counts.unsqueeze(1)
        return rows.float().masked_fill(~valid.unsqueeze(2), 0.0), counts

    def _power(self, wave: Tensor, wave_lengths: Tensor) -> Tensor:
        """Return the power spectrum ``(B, F, fft_size // 2 + 1)`` of the emphasised frames."""
        wave = wave.to(torch.float32 if wave.device.type == "mps" else torch.float64)
        last_frame = int(self.num_frames(torch.tensor(wave.shape[1])))
        needed = (last_frame - 1) * self.frame_shift + self.frame_length
        emphasised = torch.cat([wave[:, :1], wave[:, 1:] - self.preemphasis * wave[:, :-1]], dim=1)
        inside = torch.arange(wave.shape[1], device=wave.device) < wave_lengths.unsqueeze(1)
        emphasised = F.pad(emphasised.masked_fill(~inside, 0.0), (0, needed - wave.shape[1]))
        frames = emphasised.unfold(1, self.frame_length, self.frame_shift)
        spectrum = torch.view_as_real(torch.fft.rfft(frames, n=self.fft_size))
        return spectrum.square().sum(dim=-1) / self.fft_size


def _safe_log(energy: Tensor) -> Tensor:
    return torch.where(energy == 0, torch.full_like(energy, EPS), energy).log()
