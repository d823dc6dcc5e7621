# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Audio features of AV-HuBERT: log mel filterbank at 100 Hz, four frames stacked to the 25 Hz of the video.

The recipe is that of Shi et al., "Learning Audio-Visual Speech Representation by Masked Multimodal Cluster
Prediction" (ICLR 2022): 26 filters as in the python_speech_features package, layer norm over the stacked row.

Axes: ``B`` batch, ``N`` samples, ``F`` filterbank frames (100 Hz), ``T`` stacked rows = video frames (25 Hz).
"""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.utils.errors import usage_error

SAMPLE_RATE = 16000
SAMPLES_PER_VIDEO_FRAME = 640
FRAME_BLOCK = 64  # frames transformed at a time on a CPU: what is in work stays in its cache


def padded_num_samples(num_samples: int, samples_per_row: int = SAMPLES_PER_VIDEO_FRAME) -> int:
    """Return the length the reference pads a clip without video to: the next multiple of a row, always longer."""
    return (num_samples // samples_per_row + 1) * samples_per_row


@functools.lru_cache(maxsize=8)
def mel_filterbank(num_mels: int = 26, fft_size: int = 512, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Return triangular filters on the HTK mel scale between 0 Hz and half the sample rate.

    Returns:
        float64 array ``(num_mels, fft_size // 2 + 1)``; the corners are rounded down to FFT bins, as in
        python_speech_features 0.6. Read-only, shared between callers.
    """
    top = 2595.0 * math.log10(1.0 + sample_rate / 2 / 700.0)
    corners_hz = 700.0 * (10.0 ** (np.linspace(0.0, top, num_mels + 2) / 2595.0) - 1.0)
    bins = np.floor((fft_size + 1) * corners_hz / sample_rate)
    bank = np.zeros((num_mels, fft_size // 2 + 1))
    for row, (left, middle, right) in enumerate(zip(bins[:-2], bins[1:-1], bins[2:], strict=True)):
        rising = np.arange(int(left), int(middle))
        bank[row, rising] = (rising - left) / (middle - left)
        falling = np.arange(int(middle), int(right))
        bank[row, falling] = (right - falling) / (right - middle)
    bank.flags.writeable = False
    return bank


@functools.lru_cache(maxsize=8)
def _power_filterbank(num_mels: int, fft_size: int, sample_rate: int, device: str, dtype: torch.dtype) -> Tensor:
    """Filters for squared real and imaginary parts side by side, ``(2 * bins, num_mels)``, FFT length divided out."""
    bank = mel_filterbank(num_mels, fft_size, sample_rate).T / fft_size
    return torch.tensor(np.repeat(bank, 2, axis=0), device=device, dtype=dtype)


class LogFbankStack(nn.Module):
    """Waveform -> stacked, normalised log filterbank rows, one per video frame.

    A batch of padded waveforms gives for every item exactly what the item alone gives. There are no parameters and
    no entries in the state dict. The arithmetic runs in float64 where the device has it.

    Args:
        sample_rate: Samples per second of the input.
        frame_length: Samples per filterbank frame (rectangular window).
        frame_shift: Samples between filterbank frames.
        fft_size: FFT length.
        num_mels: Number of filters.
        stack: Consecutive frames put into one row.
        preemphasis: Coefficient of the first-order high-pass; the first sample is kept.
        eps: Added to the variance by the layer norm over a row.
    """

    def __init__(
        self,
        *,
        sample_rate: int = SAMPLE_RATE,
        frame_length: int = 400,
        frame_shift: int = 160,
        fft_size: int = 512,
        num_mels: int = 26,
        stack: int = 4,
        preemphasis: float = 0.97,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.frame_length = frame_length
        self.frame_shift = frame_shift
        self.fft_size = fft_size
        self.num_mels = num_mels
        self.stack = stack
        self.preemphasis = preemphasis
        self.eps = eps

    @property
    def output_size(self) -> int:
        """Width of a stacked row."""
        return self.num_mels * self.stack

    @property
    def samples_per_row(self) -> int:
        """Samples between two stacked rows (640: one video frame at 25 fps)."""
        return self.frame_shift * self.stack

    def num_frames(self, num_samples: Tensor) -> Tensor:
        """Return how many filterbank frames ``num_samples`` samples give (at least 1; the tail is zero-padded)."""
        extra = (num_samples - self.frame_length).clamp(min=0)
        return 1 + torch.div(extra + self.frame_shift - 1, self.frame_shift, rounding_mode="floor")

    def logfbank(self, wave: Tensor, wave_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute log filterbank energies.

        Args:
            wave: ``(B, N)`` samples in [-1, 1].
            wave_lengths: ``(B,)`` valid samples.

        Returns:
            ``(B, F, num_mels)`` natural-log energies, zero beyond the valid frames, and ``(B,)`` frame counts.
        """
        compute = torch.float32 if wave.device.type == "mps" else torch.float64
        wave = wave.to(compute)
        frame_counts = self.num_frames(wave_lengths)
        last_frame = int(self.num_frames(torch.tensor(wave.shape[1])))
        needed = (last_frame - 1) * self.frame_shift + self.frame_length
        emphasised = torch.cat([wave[:, :1], wave[:, 1:] - self.preemphasis * wave[:, :-1]], dim=1)
        inside = torch.arange(wave.shape[1], device=wave.device) < wave_lengths.unsqueeze(1)
        emphasised = F.pad(emphasised.masked_fill(~inside, 0.0), (0, needed - wave.shape[1]))
        frames = emphasised.unfold(1, self.frame_length, self.frame_shift)  # (B, F, frame_length)
        bank = _power_filterbank(self.num_mels, self.fft_size, self.sample_rate, str(wave.device), compute)
        block = FRAME_BLOCK if wave.is_cpu else last_frame
        energy = torch.cat([self._energy(part, bank) for part in frames.split(block, dim=1)], dim=1)
        energy.masked_fill_(energy == 0, np.finfo(np.float64).eps)
        valid = torch.arange(last_frame, device=wave.device) < frame_counts.unsqueeze(1)
        return energy.log_().float().masked_fill_(~valid.unsqueeze(2), 0.0), frame_counts

    def _energy(self, frames: Tensor, bank: Tensor) -> Tensor:
        """``(B, F, frame_length)`` samples and ``(2 * bins, num_mels)`` filters -> ``(B, F, num_mels)``."""
        spectrum = torch.view_as_real(torch.fft.rfft(frames, n=self.fft_size))  # (B, F, bins, 2)
        return spectrum.square_().flatten(2) @ bank

    def stack_frames(self, frames: Tensor, frame_counts: Tensor) -> tuple[Tensor, Tensor]:
        """Put ``stack`` consecutive frames into one row; missing frames of the last row are zeros.

        Args:
            frames: ``(B, F, num_mels)``, zero beyond ``frame_counts``.
            frame_counts: ``(B,)``.

        Returns:
            ``(B, T, stack * num_mels)`` and ``(B,)`` row counts.
        """
        frames = F.pad(frames, (0, 0, 0, -frames.shape[1] % self.stack))
        rows = frames.reshape(frames.shape[0], frames.shape[1] // self.stack, -1)
        return rows, torch.div(frame_counts + self.stack - 1, self.stack, rounding_mode="floor")

    @torch.no_grad()
    def forward(self, wave: Tensor, wave_lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute the model's audio input.

        Args:
            wave: ``(B, N)`` samples in [-1, 1] (not int16 scale).
            wave_lengths: ``(B,)`` valid samples; all of them when left out.

        Returns:
            ``(B, stack * num_mels, T)`` float32 rows, zero beyond the valid ones, and ``(B,)`` row counts.

        Raises:
            UsageError: The waveform is not a batch of mono signals, or is empty.
        """
        if wave.dim() != 2 or wave.shape[1] == 0:
            usage_error("audio must be a batch of mono signals (B, N) with N > 0", got=tuple(wave.shape))
        if wave_lengths is None:
            wave_lengths = torch.full((wave.shape[0],), wave.shape[1], device=wave.device)
        rows, counts = self.stack_frames(*self.logfbank(wave, wave_lengths.to(wave.device)))
        rows = F.layer_norm(rows, (rows.shape[-1],), eps=self.eps)
        valid = torch.arange(rows.shape[1], device=rows.device) < counts.unsqueeze(1)
        rows = rows.masked_fill(~valid.unsqueeze(2), 0.0)
        return rows.transpose(1, 2), counts  # (B, T, 104) -> (B, 104, T)
