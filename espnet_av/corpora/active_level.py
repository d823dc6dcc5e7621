# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Active speech level of a waveform by method B of ITU-T Recommendation P.56: the level while somebody speaks.

Legend: N samples.
"""

import numpy as np

from espnet_av.data.audio_io import resample_audio

MEASURED_AT_HZ = 8000  # two-speaker benchmarks measure at this rate, whatever the rate of the mixture
_SMOOTHING_SEC = 0.03
_HANGOVER_SEC = 0.2
_MARGIN_DB = 15.9
_THRESHOLDS = 2.0 ** np.arange(-15, 0)


def active_level_db(wave: np.ndarray, sample_rate: int, measured_at_hz: int | None = MEASURED_AT_HZ) -> float:
    """Measure the active level in dB relative to a full-scale square wave (an RMS of 1).

    The envelope is the magnitude smoothed twice (30 ms). A sample is active at a threshold if the envelope reached the
    threshold there or in the 200 ms before. The level is that at which the mean power of the active samples lies
    15.9 dB above the threshold, interpolated between thresholds 6 dB apart.

    Args:
        wave: Waveform ``(N,)`` in [-1, 1].
        sample_rate: Its rate in Hz.
        measured_at_hz: Rate to measure at; None measures at the rate of the waveform.

    Returns:
        The level in dB, ``-inf`` for silence.
    """
    if measured_at_hz is not None:
        wave, sample_rate = resample_audio(wave, sample_rate, measured_at_hz), measured_at_hz
    wave = np.asarray(wave, dtype=np.float64)
    energy = float(np.sum(wave**2))
    envelope = _envelope(wave, sample_rate)
    hangover = round(_HANGOVER_SEC * sample_rate)
    levels, margins = [], []
    for threshold in _THRESHOLDS:
        count = _count_active(envelope >= threshold, hangover)
        if count == 0:
            break
        levels.append(10 * np.log10(energy / count))
        margins.append(levels[-1] - 20 * np.log10(threshold))
        if margins[-1] <= _MARGIN_DB:
            break
    if not levels:
        return -np.inf
    if len(levels) == 1 or margins[-1] > _MARGIN_DB:
        return float(levels[-1])
    part = (margins[-2] - _MARGIN_DB) / (margins[-2] - margins[-1])
    return float(levels[-2] + part * (levels[-1] - levels[-2]))


def _envelope(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    from scipy.signal import lfilter

    decay = np.exp(-1 / (sample_rate * _SMOOTHING_SEC))
    smoother = ([1 - decay], [1, -decay])
    return lfilter(*smoother, lfilter(*smoother, np.abs(wave)))


def _count_active(above: np.ndarray, hangover: int) -> int:
    """Count samples that are above the threshold or at most ``hangover`` samples after one that is."""
    if not above.any():
        return 0
    places = np.arange(len(above))
    latest = np.maximum.accumulate(np.where(above, places, -hangover - 1))
    return int(np.count_nonzero(places - latest <= hangover))
