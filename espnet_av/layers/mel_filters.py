# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Triangular mel filters of spectrograms.

Axes: ``K`` mel bands.
"""

import math

import numpy as np
import torch
from torch import Tensor


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    """Turn mels into Hz: linear up to 1 kHz (15 mel), logarithmic above."""
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * math.log(6.4) / 27))


def _hz_to_mel(hz: float) -> float:
    return hz * 3 / 200 if hz < 1000 else 15 + math.log(hz / 1000) * 27 / math.log(6.4)


def mel_filters(sample_rate: int, n_fft: int, num_mels: int, fmin: float = 0.0, fmax: float | None = None) -> Tensor:
    """Return triangular mel filters of unit area (M. Slaney's Auditory Toolbox), the default of librosa.

    Args:
        sample_rate: In Hz.
        n_fft: Samples of a frame.
        num_mels: Number of filters ``K``.
        fmin: Lower end in Hz.
        fmax: Upper end in Hz; None: half of the sample rate.

    Returns:
        ``(n_fft // 2 + 1, K)``.
    """
    ends = _hz_to_mel(fmin), _hz_to_mel(sample_rate / 2 if fmax is None else fmax)
    edges = _mel_to_hz(np.linspace(*ends, num_mels + 2))
    ramps = np.linspace(0, sample_rate / 2, n_fft // 2 + 1)[:, None] - edges
    widths = np.diff(edges)
    weights = np.maximum(0, np.minimum(ramps[:, :-2] / widths[:-1], -ramps[:, 2:] / widths[1:]))
    weights = weights.astype(np.float32)
    weights *= 2 / (edges[2:] - edges[:-2])
    return torch.from_numpy(weights)
