# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Which token frames are silent: those whose energy lies far below that of the loud ones of the same recording.

Axes: ``C`` channels, ``N`` samples at 16 kHz, ``T`` token frames.
"""

import numpy as np

from espnet_av.avgen.clock import TOKEN_HOP, TOKEN_SAMPLE_RATE, TOKEN_WINDOW, token_frames
from espnet_av.utils.errors import usage_error

MODES = ("none", "energy")
SMOOTH_SEC = 0.1
DROP_DB = 35.0
LOUD_PERCENTILE = 95.0
#: Keywords of :func:`silent_frames`.
RULES = {"drop_db": DROP_DB, "percentile": LOUD_PERCENTILE, "smooth_sec": SMOOTH_SEC}
_NOTHING = 1e-10  # mean square of a recording that holds no sound: -100 dB


def frame_energy(wav: np.ndarray, smooth_sec: float = SMOOTH_SEC) -> np.ndarray:
    """Return the mean square around the centre of every token frame, at the ends of what there is.

    Args:
        wav: ``(C, N)`` at 16 kHz.
        smooth_sec: Length of the mean.

    Returns:
        ``(C, T)``, float64.
    """
    num_samples = wav.shape[-1]
    centres = np.arange(token_frames(num_samples)) * TOKEN_HOP + TOKEN_WINDOW // 2
    half = max(1, round(smooth_sec * TOKEN_SAMPLE_RATE / 2))
    first, last = np.maximum(centres - half, 0), np.minimum(centres + half, num_samples)
    total = np.cumsum(np.square(wav, dtype=np.float64), axis=-1)
    total = np.concatenate([np.zeros_like(total[..., :1]), total], axis=-1)
    return (total[..., last] - total[..., first]) / (last - first)


def silent_frames(
    wav: np.ndarray,
    drop_db: float = DROP_DB,
    percentile: float = LOUD_PERCENTILE,
    smooth_sec: float = SMOOTH_SEC,
) -> np.ndarray:
    """Tell which token frames are silent, every channel by its own level.

    Args:
        wav: ``(C, N)`` at 16 kHz.
        drop_db: How far below the loud frames silence begins.
        percentile: Which frames are the loud ones.
        smooth_sec: Length over which energy is averaged.

    Returns:
        ``(C, T)`` bool; all True in a channel without sound.

    Raises:
        UsageError: A setting is out of range.
    """
    if drop_db < 0 or not 0 <= percentile <= 100 or smooth_sec < 0:
        usage_error("settings of the voice activity are out of range", (drop_db, percentile, smooth_sec))
    energy = frame_energy(wav, smooth_sec)
    if energy.shape[-1] == 0:
        return np.zeros(energy.shape, dtype=bool)
    loud = np.percentile(energy, percentile, axis=-1, keepdims=True)
    return (energy < loud * 10 ** (-drop_db / 10)) | (loud <= _NOTHING)
