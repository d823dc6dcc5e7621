# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Mixing of a target with interference at a stated signal-to-interference ratio."""

import numpy as np

from espnet_av.utils.errors import DataError, describe


def fit_length(signal: np.ndarray, num_samples: int) -> np.ndarray:
    """Cut a signal at the end, or pad it with zeros there, to ``num_samples``.

    Args:
        signal: Waveform (N,).
        num_samples: Wanted length M.

    Returns:
        Waveform (M,) of the same dtype.
    """
    if len(signal) >= num_samples:
        return signal[:num_samples]
    return np.pad(signal, (0, num_samples - len(signal)))


def mix_at_snr(target: np.ndarray, interference: np.ndarray, snr_db: float) -> np.ndarray:
    """Add interference to a target so that the energy ratio over the whole clip is ``snr_db``.

    Only the interference is scaled; the target keeps its level and nothing is normalised afterwards (the rule of
    torchaudio's ``add_noise``, used by AV-HuBERT style training and by the AVSRCocktail interferer sets).
    Silent interference leaves the target as it is.

    Args:
        target: Waveform (N,), float in [-1, 1].
        interference: Waveform (M,), cut or zero-padded at the end to N.
        snr_db: Wanted 10*log10(E_target / E_interference) in dB.

    Returns:
        Mixture (N,) float32; it may leave [-1, 1] (see :func:`limit_peak`).

    Raises:
        DataError: If the target is silent (no ratio exists) or an input is not one-dimensional.
    """
    if target.ndim != 1 or interference.ndim != 1:
        raise DataError(
            describe("mixing wants mono signals", got=[target.shape, interference.shape], fix="pass arrays (N,)")
        )
    target = target.astype(np.float64)
    interference = fit_length(interference, len(target)).astype(np.float64)
    target_energy = float(np.sum(target**2))
    interference_energy = float(np.sum(interference**2))
    if target_energy == 0.0:
        raise DataError(describe("cannot mix into a silent target", fix="leave the clip out of the mixture list"))
    if interference_energy == 0.0:
        return target.astype(np.float32)
    scale = np.sqrt(target_energy / interference_energy) * 10.0 ** (-snr_db / 20.0)
    return (target + scale * interference).astype(np.float32)


def limit_peak(mixture: np.ndarray, peak: float = 0.99) -> tuple[np.ndarray, float]:
    """Scale a mixture down when it would clip in a PCM file; the ratio inside it does not change.

    Args:
        mixture: Waveform (N,).
        peak: Highest allowed magnitude.

    Returns:
        The waveform (N,) and the factor it was multiplied with (1.0 when it already fitted).
    """
    highest = float(np.max(np.abs(mixture))) if len(mixture) else 0.0
    gain = peak / highest if highest > peak else 1.0
    return (mixture * np.float32(gain) if gain != 1.0 else mixture), gain
