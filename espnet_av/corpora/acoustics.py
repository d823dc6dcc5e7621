# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Noise and rooms made from numbers: coloured noise, babble, and impulse responses of shoebox rooms.

The rooms follow the image-source method (Allen and Berkley, "Image method for efficiently simulating small-room
acoustics", JASA 1979) with the fractional delays of Peterson (1986). Measured reverberation times come out 15 to 30 %
above the wanted ones, which hold for a diffuse field. Legend: N samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SPEED_OF_SOUND = 343.0  # m/s
NOISE_SLOPES = {"white": 0.0, "pink": 1.0, "brown": 2.0}  # power falls with frequency to this exponent
_HIGH_PASS_HZ = 60.0  # images all have the same sign and would ring at 0 Hz (Allen and Berkley, section III)
_HALF_TAPS = 16  # of the fractional delay filter


@dataclass(frozen=True)
class Room:
    """A shoebox room: sizes and positions in metres, reverberation time in seconds."""

    size: tuple[float, float, float]
    source: tuple[float, float, float]
    microphone: tuple[float, float, float]
    rt60_sec: float


def coloured_noise(num_samples: int, colour: str, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return noise of standard deviation 1.

    Args:
        num_samples: N.
        colour: ``white``, ``pink`` (power ~ 1/f) or ``brown`` (~ 1/f^2); flat below 40 Hz.
        sample_rate: Hz.
        rng: Source of chance.

    Returns:
        float64 ``(N,)``.
    """
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequency = np.maximum(np.fft.rfftfreq(num_samples, 1 / sample_rate), 40.0)
    spectrum *= (frequency / 40.0) ** (-NOISE_SLOPES[colour] / 2)
    spectrum[0] = 0.0
    noise = np.fft.irfft(spectrum, num_samples)
    return noise / noise.std()


def babble(clips: Sequence[np.ndarray], num_samples: int, num_talkers: int, rng: np.random.Generator) -> np.ndarray:
    """Return the sum of ``num_talkers`` endless talkers of equal energy, standard deviation 1.

    Args:
        clips: Waveforms ``(n,)`` to draw from.
        num_samples: N.
        num_talkers: How many talk at once.
        rng: Source of chance.

    Returns:
        float64 ``(N,)``.
    """
    total = np.zeros(num_samples)
    for _ in range(num_talkers):
        parts, length = [], 0
        while length < 2 * num_samples:
            clip = clips[int(rng.integers(len(clips)))].astype(np.float64)
            parts.append(clip / max(clip.std(), 1e-9))
            length += len(clip)
        start = int(rng.integers(num_samples))
        total += np.concatenate(parts)[start : start + num_samples]
    return total / total.std()


def reflection_coefficient(room: Room) -> float:
    """Return the pressure reflection of the walls that gives ``rt60_sec`` by Eyring's formula."""
    lx, ly, lz = room.size
    surface = 2 * (lx * ly + ly * lz + lx * lz)
    absorption = 1 - np.exp(-24 * np.log(10) * lx * ly * lz / (SPEED_OF_SOUND * surface * room.rt60_sec))
    return float(np.sqrt(1 - absorption))


def shoebox_rir(room: Room, sample_rate: int) -> np.ndarray:
    """Return the impulse response of a room, largest value 1.

    Args:
        room: Size, positions, reverberation time. Source and microphone must lie inside.
        sample_rate: Hz.

    Returns:
        float64 ``(N,)`` with N = ``rt60_sec`` * ``sample_rate``; the direct sound comes after its true delay.

    Raises:
        ValueError: A position outside the room.
    """
    from scipy.signal import butter, sosfilt

    size, source, microphone = (np.array(v) for v in (room.size, room.source, room.microphone))
    if not (np.all(source > 0) and np.all(source < size) and np.all(microphone > 0) and np.all(microphone < size)):
        raise ValueError(f"source {room.source} and microphone {room.microphone} must lie inside the room {room.size}")
    num_samples = int(room.rt60_sec * sample_rate)
    reach = room.rt60_sec * SPEED_OF_SOUND
    axes = []  # per axis: offsets of the images from the microphone, and their number of wall contacts
    for k in range(3):
        n = np.arange(-int(reach / (2 * size[k])) - 1, int(reach / (2 * size[k])) + 2)
        offsets = np.concatenate([2 * n * size[k] + source[k], 2 * n * size[k] - source[k]]) - microphone[k]
        axes.append((offsets, np.concatenate([np.abs(2 * n), np.abs(n - 1) + np.abs(n)])))
    (x, cx), (y, cy), (z, cz) = axes
    distance = np.sqrt(x[:, None, None] ** 2 + y[None, :, None] ** 2 + z[None, None, :] ** 2).ravel()
    contacts = (cx[:, None, None] + cy[None, :, None] + cz[None, None, :]).ravel()
    near = distance < reach - _HALF_TAPS / sample_rate * SPEED_OF_SOUND
    gains = reflection_coefficient(room) ** contacts[near] / distance[near]
    response = _sum_of_pulses(distance[near] / SPEED_OF_SOUND * sample_rate, gains, num_samples)
    response = sosfilt(butter(2, _HIGH_PASS_HZ, "high", fs=sample_rate, output="sos"), response)
    return response / np.abs(response).max()


def _sum_of_pulses(delays: np.ndarray, gains: np.ndarray, num_samples: int, block: int = 20000) -> np.ndarray:
    """Add windowed sinc pulses at fractional ``delays`` (samples)."""
    taps = np.arange(-_HALF_TAPS, _HALF_TAPS + 1)
    response = np.zeros(num_samples + 2 * _HALF_TAPS + 1)
    for start in range(0, len(delays), block):
        delay, gain = delays[start : start + block, None], gains[start : start + block, None]
        whole = np.round(delay)
        offset = taps - (delay - whole)
        pulse = np.sinc(offset) * (0.5 + 0.5 * np.cos(np.pi * offset / (_HALF_TAPS + 1)))
        place = (whole + taps + _HALF_TAPS).astype(np.int64)
        inside = (place >= 0) & (place < len(response))
        np.add.at(response, place[inside], (gain * pulse)[inside])
    return response[_HALF_TAPS : _HALF_TAPS + num_samples]


def draw_room(rng: np.random.Generator) -> Room:
    """Draw an office to lecture-room sized room with source and microphone 0.5 m or more from the walls."""
    size = rng.uniform((3.0, 3.0, 2.4), (8.0, 7.0, 3.6))
    low, high = np.full(3, 0.5), size - 0.5
    source, microphone = rng.uniform(low, high), rng.uniform(low, high)
    return Room(tuple(size), tuple(source), tuple(microphone), float(rng.uniform(0.15, 0.6)))
