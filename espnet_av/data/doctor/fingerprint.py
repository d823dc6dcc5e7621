# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Audio fingerprints that find the same recording again at another level, in another format, and from another start.

The signs of the differences of band energies over frequency and time (Haitsma and Kalker, "A highly robust audio
fingerprinting system", ISMIR 2002): 32 bits every 16 ms, which a gain does not change and lossy coding hardly does.
Equal codes of two clips, also with up to three of the least certain bits turned over, propose a clip and a shift;
the share of differing bits over the whole overlap decides.

Axis legend: ``N`` samples, ``F`` codes, ``M`` codes of all clips in an index.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from espnet_av.data.audio_io import resample_audio

RATE, WINDOW, HOP = 8000, 2048, 128
NUM_BANDS, LOWEST_HZ, HIGHEST_HZ = 33, 300.0, 3000.0
NUM_WEAK = 3
QUIET_DB = 30.0  # frames so far below the loudest have no valid code
MAX_SAME = 64  # codes that occur more often in an index say nothing
MIN_HITS = 2
MAX_CANDIDATES = 12


@dataclass(frozen=True)
class Print:
    """Fingerprint of a clip.

    Attributes:
        codes: ``(F,)`` uint32.
        weak: The places of the least certain bits ``(F, 3)`` uint8, least certain first.
        valid: Whether there is sound ``(F,)``.
    """

    codes: np.ndarray
    weak: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True)
class Match:
    """The same sound in two clips.

    Attributes:
        first: Number of the clip that was looked up.
        second: Number of the clip in the index.
        shift_sec: Where the first clip begins in the second.
        overlap_sec: Sounding time that both share.
        error: Share of differing bits, 0 to 0.5.
    """

    first: int
    second: int
    shift_sec: float
    overlap_sec: float
    error: float


def fingerprint(wave: np.ndarray, rate: int) -> Print:
    """Return the fingerprint of a waveform ``(N,)``; sound shorter than 0.3 s has no codes."""
    wave = resample_audio(wave, rate, RATE)
    count = (len(wave) - WINDOW) // HOP + 1
    if count < 2:
        return Print(np.zeros(0, np.uint32), np.zeros((0, NUM_WEAK), np.uint8), np.zeros(0, bool))
    energy = np.concatenate([_bands(wave, start, min(count, start + 256)) for start in range(0, count, 256)])
    margins = np.diff(np.diff(energy, axis=1), axis=0)  # (F, 32)
    margins /= energy[1:].mean(axis=1, keepdims=True) + 1e-12
    codes = ((margins > 0) * (np.uint32(1) << np.arange(32, dtype=np.uint32))).sum(axis=1, dtype=np.uint32)
    weak = np.argpartition(np.abs(margins), NUM_WEAK, axis=1)[:, :NUM_WEAK].astype(np.uint8)
    total = 10.0 * np.log10(energy[1:].sum(axis=1) + 1e-12)
    return Print(codes, weak, (total > total.max() - QUIET_DB) & (total > -70.0))


def _bands(wave: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Return band energies ``(stop - start, 33)`` of some windows."""
    from scipy.fft import rfft

    window, bands = _tables()
    rows = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[start * HOP : (stop - 1) * HOP + 1 : HOP]
    spectrum = rfft(rows * window, axis=1)[:, : len(bands)]
    return (np.square(spectrum.real) + np.square(spectrum.imag)) @ bands


@functools.lru_cache(maxsize=1)
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """The window ``(WINDOW,)``, and which bins belong to which band ``(bins, 33)``, both float32."""
    edges = np.round(np.geomspace(LOWEST_HZ, HIGHEST_HZ, NUM_BANDS + 1) * WINDOW / RATE).astype(int)
    bands = np.zeros((edges[-1], NUM_BANDS), np.float32)
    for number, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        bands[low:high, number] = 1.0 / WINDOW
    return np.hanning(WINDOW).astype(np.float32), bands


class Index:
    """Fingerprints that others are looked up in.

    Args:
        prints: Fingerprints of the clips.
    """

    def __init__(self, prints: Sequence[Print]) -> None:
        self.prints = list(prints)
        self.lengths = np.array([len(each.codes) for each in self.prints], np.int64)
        starts = np.concatenate(([0], np.cumsum(self.lengths)))
        valid = np.concatenate([each.valid for each in self.prints]) if self.prints else np.zeros(0, bool)
        codes = np.concatenate([each.codes for each in self.prints]) if self.prints else np.zeros(0, np.uint32)
        places = np.flatnonzero(valid)
        order = np.argsort(codes[places], kind="stable")
        self._codes, self._places, self._starts = codes[places][order], places[order], starts

    def search(self, number: int, query: Print, *, max_error: float, min_sec: float, skip: int = -1) -> list[Match]:
        """Find the clips that share sound with one.

        Args:
            number: Number of the clip looked up; goes into the matches.
            query: Its fingerprint.
            max_error: Largest share of differing bits.
            min_sec: Shortest sounding overlap in seconds.
            skip: Number of a clip in the index that is not looked at, such as the same one.

        Returns:
            One match for each clip found, the surest first.
        """
        clips, shifts = self._candidates(query)
        best: dict[int, Match] = {}
        for clip, shift in zip(clips.tolist(), shifts.tolist(), strict=True):
            if clip == skip:
                continue
            overlap, error, place = self._compare(query, self.prints[clip], shift)
            if (
                error <= max_error
                and overlap * HOP / RATE >= min_sec
                and (clip not in best or error < best[clip].error)
            ):
                best[clip] = Match(number, clip, place * HOP / RATE, overlap * HOP / RATE, error)
        return sorted(best.values(), key=lambda match: (match.error, match.second))

    def _candidates(self, query: Print) -> tuple[np.ndarray, np.ndarray]:
        """Return numbers of clips and shifts in codes ``(C,)`` that several equal codes agree on."""
        rows = np.flatnonzero(query.valid)
        if len(rows) == 0 or len(self._codes) == 0:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        bits = np.uint32(1) << query.weak[rows].astype(np.uint32)
        turns = [
            sum(((choice >> k & 1) * bits[:, k] for k in range(NUM_WEAK)), np.uint32(0))
            for choice in range(1 << NUM_WEAK)
        ]
        wanted = np.concatenate([query.codes[rows] ^ np.asarray(turn, np.uint32) for turn in turns])
        rows = np.tile(rows, len(turns))
        low, high = np.searchsorted(self._codes, wanted), np.searchsorted(self._codes, wanted, side="right")
        sizes = high - low
        keep = (sizes > 0) & (sizes <= MAX_SAME)
        low, sizes, rows = low[keep], sizes[keep], rows[keep]
        if len(low) == 0:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        places = self._places[np.repeat(low, sizes) + within]
        clips = np.searchsorted(self._starts, places, side="right") - 1
        shifts = places - self._starts[clips] - np.repeat(rows, sizes)
        pairs, counts = np.unique(np.stack([clips, shifts]), axis=1, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:MAX_CANDIDATES]
        order = order[counts[order] >= MIN_HITS]
        return pairs[0, order], pairs[1, order]

    def _compare(self, query: Print, other: Print, shift: int) -> tuple[int, float, int]:
        """Return the sounding overlap in codes, the share of differing bits, and the shift, the best of three."""
        found = []
        for place in (shift - 1, shift, shift + 1):
            first, second = max(0, -place), max(0, place)
            count = min(len(query.codes) - first, len(other.codes) - second)
            if count <= 0:
                continue
            both = query.valid[first : first + count] & other.valid[second : second + count]
            overlap = int(both.sum())
            if overlap:
                differ = np.bitwise_count(query.codes[first : first + count] ^ other.codes[second : second + count])
                found.append((float(differ[both].mean()) / 32.0, overlap, place))
        error, overlap, place = min(found, default=(0.5, 0, shift))
        return overlap, error, place
