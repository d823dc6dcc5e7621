# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Distance of log-mel spectrograms of several resolutions.

Axes: ``B`` batch, ``T`` samples, ``M`` frames, ``K`` mel bands.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.layers.mel_filters import mel_filters
from espnet_av.utils.errors import usage_error

FLOOR = 1e-10  # of powers and of mel values


class LogMelSpectrogram(nn.Module):
    """Natural logarithm of a mel spectrogram of magnitudes.

    Args:
        sample_rate: In Hz.
        n_fft: Samples of a frame (Hann window); the hop is a quarter.
        num_mels: Number of bands ``K``.
        fmin: Lower end in Hz.
        fmax: Upper end in Hz; None: half of the sample rate.
        floor_db: Level in dB (RMS, full scale 0) of white noise whose mean power is added to the spectrum, so that what
            is softer hardly counts; None: values are cut at 1e-10 only, as published.
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self,
        sample_rate: int,
        n_fft: int,
        num_mels: int,
        fmin: float = 0.0,
        fmax: float | None = None,
        floor_db: float | None = None,
    ) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("filters", mel_filters(sample_rate, n_fft, num_mels, fmin, fmax), persistent=False)
        squares = 0.375 * n_fft  # of a periodic Hann window
        self.floor = 0.0 if floor_db is None else 10 ** (floor_db / 10) * squares

    def forward(self, wav: Tensor) -> Tensor:
        """Return ``(B, M, K)`` for ``(B, T)``."""
        # the reflection at the ends takes more samples than a very short waveform has
        mode = "reflect" if wav.shape[-1] > self.n_fft // 2 else "constant"
        spectrum = torch.stft(
            wav, self.n_fft, self.n_fft // 4, window=self.window, pad_mode=mode, return_complex=True
        ).transpose(1, 2)
        power = spectrum.real.square() + spectrum.imag.square()
        magnitude = (power + self.floor).clamp(min=FLOOR).sqrt()
        return (magnitude @ self.filters).clamp(min=FLOOR).log()


class MultiScaleMelLoss(nn.Module):
    """Distance of log-mel spectrograms, ``sum_i (l1_i + a_i l2_i) / sum_i (a_i + 1)`` over resolutions ``i``.

    ``l1`` is the mean absolute and ``l2`` the mean squared difference, ``a_i = sqrt(n_fft_i - 1)``.

    Args:
        sample_rate: In Hz.
        n_ffts: Samples of a frame in every resolution.
        num_mels: Mel bands in every resolution. The published configuration lists a sixth number, 320, that the
            published code never uses; ``n_ffts`` with 2048 and ``num_mels`` with 320 use it.
        fmin: Lower end in Hz.
        fmax: Upper end in Hz; None: half of the sample rate.
        floor_db: Level in dB below which sound hardly counts (:class:`LogMelSpectrogram`). Digital silence, which no
            codec reaches, otherwise rules the loss of a short training.

    Raises:
        UsageError: ``n_ffts`` and ``num_mels`` differ in length.
    """

    def __init__(
        self,
        sample_rate: int = 24000,
        n_ffts: Sequence[int] = (64, 128, 256, 512, 1024),
        num_mels: Sequence[int] = (10, 20, 40, 80, 160),
        fmin: float = 0.0,
        fmax: float | None = None,
        floor_db: float | None = None,
    ) -> None:
        super().__init__()
        if len(n_ffts) != len(num_mels) or not n_ffts:
            usage_error("n_ffts and num_mels of the mel loss must be of one length", got=(list(n_ffts), list(num_mels)))
        pairs = zip(n_ffts, num_mels, strict=True)
        self.scales = nn.ModuleList(LogMelSpectrogram(sample_rate, n, k, fmin, fmax, floor_db) for n, k in pairs)
        self.alphas = [math.sqrt(n_fft - 1) for n_fft in n_ffts]
        self.norm = sum(alpha + 1 for alpha in self.alphas)

    def parts(self, estimate: Tensor, target: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return mean absolute and mean squared differences of every scale; arguments as of :meth:`forward`."""
        estimate, target = estimate.squeeze(1), target.squeeze(1)
        l1, l2 = [], []
        for scale in self.scales:
            mel, goal = scale(estimate), scale(target)
            l1.append(F.l1_loss(mel, goal))
            l2.append(F.mse_loss(mel, goal))
        return l1, l2

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Return the distance ``()`` of ``(B, 1, T)`` from ``(B, 1, T)``."""
        with torch.autocast(estimate.device.type, enabled=False):
            l1, l2 = self.parts(estimate.float(), target.float())
        parts = (a + alpha * b for a, b, alpha in zip(l1, l2, self.alphas, strict=True))
        return sum(parts, torch.zeros(())) / self.norm
