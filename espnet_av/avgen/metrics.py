# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Metrics of generated faces and speech, in float64, each with its exact definition.

Axes: ``F`` frames of motion at 30 Hz, ``D`` values of a frame, ``N`` sequences, ``S`` samples of the same input. A set
of sequences is an array ``(..., F, D)`` or a list of arrays ``(F, D)``; "pooled" means all frames of all sequences.

* Frechet distance: ``|m_a - m_b|^2 + tr C_a + tr C_b - 2 tr (C_a C_b)^(1/2)`` of means and unbiased covariances of the
  pooled frames; of differences between neighbouring frames it compares movements. Lower is better. It falls with the
  number of frames: compare only sets of similar size.
* Diversity is good near the value of real data, not where it is largest.
* Lip synchrony: Pearson correlation of the loudness of the voice with the opening of the mouth, at lags of ``+-10``
  frames; a positive lag means that the mouth is late. Real speech has its best lag near 0.
* Closure F1: the mouth counts as closed below 15 % of the 95th percentile of the real opening. Bursts of p, b and m
  need it.
* Mel-cepstral distortion: ``10 sqrt(2) / ln 10`` times the mean distance of cepstra 1 to 12 of natural logarithms, dB.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from espnet_av.avsr.metrics import CorpusScore, score_corpus
from espnet_av.utils.errors import DataError, describe

MOTION_FPS = 30.0
MAX_LAG = 10
CLOSURE_SHARE = 0.15
CLOSURE_PERCENTILE = 95
STATIC_PAIRS = 10_000
RIDGE = 1e-6
MCD_FACTOR = 10 * math.sqrt(2) / math.log(10)
NUM_CEPSTRA = 12

SequenceSet = np.ndarray | Sequence[np.ndarray]


@dataclass(frozen=True)
class LipSync:
    """Synchrony of voice and mouth.

    Attributes:
        r: Correlation without lag.
        best_lag: Frames that the mouth is late by where the correlation is highest.
        best_r: Correlation there.
        confidence: Highest correlation minus the median over all lags.
        by_lag: Correlation at each lag from ``-max_lag`` to ``max_lag``.
    """

    r: float
    best_lag: int
    best_r: float
    confidence: float
    by_lag: np.ndarray


@dataclass(frozen=True)
class Closure:
    """How well closed mouths agree; NaN where there is nothing to divide by.

    Attributes:
        num_real: Closed frames of the real mouth.
        num_generated: Closed frames of the generated mouth.
        num_both: Frames where both are closed.
    """

    num_real: int
    num_generated: int
    num_both: int

    @property
    def precision(self) -> float:
        """Share of the generated closed frames that are closed in truth."""
        return self.num_both / self.num_generated if self.num_generated else math.nan

    @property
    def recall(self) -> float:
        """Share of the closed frames of the real mouth that are found."""
        return self.num_both / self.num_real if self.num_real else math.nan

    @property
    def f1(self) -> float:
        """Harmonic mean of the two; 0 where no frame agrees."""
        total = self.num_real + self.num_generated
        return 2 * self.num_both / total if total else math.nan

    def __add__(self, other: "Closure") -> "Closure":
        return Closure(
            self.num_real + other.num_real,
            self.num_generated + other.num_generated,
            self.num_both + other.num_both,
        )


def sequences_of(values: SequenceSet) -> list[np.ndarray]:
    """Return a set as a list of float64 sequences ``(F, D)``.

    Raises:
        DataError: The set is empty or its sequences have different widths.
    """
    if isinstance(values, np.ndarray):
        values = values.reshape(-1, *values.shape[-2:]) if values.ndim > 2 else [values]
    found = [np.asarray(item, dtype=np.float64) for item in values]
    if not found or any(item.ndim != 2 for item in found) or len({item.shape[1] for item in found}) != 1:
        shapes = sorted({item.shape for item in found})
        raise DataError(describe("no sequences of motion of one width", got=shapes, allowed="one or more (F, D)"))
    return found


def pool(values: SequenceSet) -> np.ndarray:
    """Return all frames of a set, ``(sum of F, D)``."""
    return np.concatenate(sequences_of(values))


def differences(values: SequenceSet, order: int = 1) -> list[np.ndarray]:
    """Return the differences between neighbouring frames of each sequence, ``order`` times."""
    return [np.diff(item, order, axis=0) for item in sequences_of(values)]


def frechet_distance(real: SequenceSet, generated: SequenceSet) -> float:
    """Return the Frechet distance of two sets (>= 0); NaN with fewer than two frames on a side.

    The root is taken through ``sqrt(C_a) C_b sqrt(C_a)``, which is symmetric; 1e-6 is added to the diagonals where a
    covariance is singular.

    Raises:
        DataError: The frames of the two sets have different widths.
    """
    a, b = pool(real), pool(generated)
    if a.shape[1] != b.shape[1]:
        raise DataError(describe("motion of different widths is compared", (a.shape[1], b.shape[1]), "equal"))
    if min(len(a), len(b)) < 2:
        return math.nan
    cov_a, cov_b = (np.atleast_2d(np.cov(item, rowvar=False)) for item in (a, b))
    if _singular(cov_a) or _singular(cov_b):
        ridge = RIDGE * np.eye(len(cov_a))
        cov_a, cov_b = cov_a + ridge, cov_b + ridge
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(min=0)).sum()
    shift = a.mean(axis=0) - b.mean(axis=0)
    return max(0.0, float(shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2 * cross))


def _singular(covariance: np.ndarray) -> bool:
    values = np.linalg.eigvalsh(covariance)
    return bool(values[0] <= len(values) * np.finfo(float).eps * max(values[-1], 0.0))


def static_diversity(
    values: SequenceSet, *, pairs: tuple[np.ndarray, np.ndarray] | None = None, seed: int = 0
) -> float:
    """Return the mean distance between pooled frames at two random lists of places.

    Args:
        values: The set.
        pairs: The two lists; None draws up to 10 000 places for each, without repeats inside a list.
        seed: Of the draw.
    """
    frames = pool(values)
    if pairs is None:
        rng, count = np.random.default_rng(seed), min(STATIC_PAIRS, len(frames))
        pairs = (rng.permutation(len(frames))[:count], rng.permutation(len(frames))[:count])
    return float(np.linalg.norm(frames[pairs[0]] - frames[pairs[1]], axis=1).mean())


def kinetic_diversity(values: SequenceSet) -> float:
    """Return the variance over time of each sequence and value, averaged."""
    return float(np.mean([item.var(axis=0).mean() for item in sequences_of(values)]))


def sample_diversity(samples: np.ndarray) -> float:
    """Return the variance over samples of the same input, averaged: ``(S, ..., F, D)``."""
    return float(np.asarray(samples, dtype=np.float64).var(axis=0).mean())


def l1_diversity(values: SequenceSet) -> float:
    """Return the mean over sequences of the mean over frames of ``sum_d |x - mean over time|``."""
    return float(np.mean([np.abs(item - item.mean(axis=0)).sum(axis=1).mean() for item in sequences_of(values)]))


def jerk(values: SequenceSet, fps: float = MOTION_FPS) -> float:
    """Return the mean magnitude of third differences times ``fps^3``; NaN where all sequences are too short."""
    found = np.concatenate(differences(values, 3))
    return float(np.abs(found).mean() * fps**3) if len(found) else math.nan


def lip_sync(envelope: np.ndarray, opening: np.ndarray, max_lag: int = MAX_LAG) -> LipSync | None:
    """Compare the loudness of a voice with the opening of a mouth, both ``(F,)``; None where one of them is constant.

    Raises:
        DataError: They have different lengths.
    """
    envelope, opening = (np.asarray(item, dtype=np.float64) for item in (envelope, opening))
    if envelope.shape != opening.shape or envelope.ndim != 1:
        raise DataError(describe("envelope and mouth differ in length", (envelope.shape, opening.shape), "equal"))
    by_lag = np.array([correlate_at(envelope, opening, lag) for lag in range(-max_lag, max_lag + 1)])
    if not np.isfinite(by_lag).all():
        return None
    best = int(by_lag.argmax())
    confidence = float(by_lag[best] - np.median(by_lag))
    return LipSync(float(by_lag[max_lag]), best - max_lag, float(by_lag[best]), confidence, by_lag)


def correlate_at(first: np.ndarray, second: np.ndarray, lag: int) -> float:
    """Return the Pearson correlation of ``first`` with ``second`` ``lag`` frames later; NaN where one is constant."""
    length = len(first) - abs(lag)
    if length < 3:
        return math.nan
    x, y = first[max(0, -lag) :][:length], second[max(0, lag) :][:length]
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale > 1e-12 else math.nan


def closure_threshold(openings: Sequence[np.ndarray], share: float = CLOSURE_SHARE) -> float:
    """Return the opening below which a mouth is closed: a share of the 95th percentile of real openings."""
    return share * float(np.percentile(np.concatenate(list(openings)), CLOSURE_PERCENTILE))


def closure(real: np.ndarray, generated: np.ndarray, threshold: float) -> Closure:
    """Count closed frames of two mouths at the same times.

    Args:
        real: Opening of the real mouth, ``(F,)``.
        generated: Of the generated one, ``(F,)``.
        threshold: Closed is what lies below; see :func:`closure_threshold`.
    """
    a, b = np.asarray(real) < threshold, np.asarray(generated) < threshold
    return Closure(int(a.sum()), int(b.sum()), int((a & b).sum()))


def nearest_viseme(opening: np.ndarray, width: np.ndarray, visemes: Mapping[str, Sequence[float]]) -> np.ndarray:
    """Return the names of the visemes nearest to ``(opening, width)``, ``(F,)``.

    Args:
        opening: ``(F,)``.
        width: ``(F,)``.
        visemes: Name -> values, of which the first two are opening and width.
    """
    targets = np.array([values[:2] for values in visemes.values()], dtype=np.float64)
    points = np.stack([opening, width], axis=1).astype(np.float64)
    distance = ((points[:, None] - targets) ** 2).sum(axis=-1)
    return np.array(list(visemes))[distance.argmin(axis=1)]


def mel_distance(reference: np.ndarray, generated: np.ndarray) -> float:
    """Return the mean magnitude of the difference of two logarithmic mel spectrograms ``(T, 80)`` of equal times."""
    length = min(len(reference), len(generated))
    first, second = (np.asarray(item[:length], dtype=np.float64) for item in (reference, generated))
    return float(np.abs(first - second).mean()) if length else math.nan


def mel_cepstra(mel: np.ndarray, num_cepstra: int = NUM_CEPSTRA) -> np.ndarray:
    """Return cepstra 0 to ``num_cepstra`` of a natural logarithmic mel spectrogram: ``(T, 1 + num_cepstra)``.

    They are scaled as the definition of the distortion wants: the log spectrum is ``c0 + 2 sum_k c_k cos(...)``.
    """
    from scipy.fft import dct

    mel = np.asarray(mel, dtype=np.float64)
    return dct(mel, type=2, axis=-1)[..., : num_cepstra + 1] / (2 * mel.shape[-1])


def mel_cepstral_distortion(reference: np.ndarray, generated: np.ndarray, *, align: bool = False) -> float:
    """Return the mel-cepstral distortion in dB.

    Args:
        reference: Cepstra ``(T, 1 + K)``; the first, the level, is not used.
        generated: The same of the other sound.
        align: Warp time so that the distance is least; else frames are compared one by one.
    """
    a, b = (np.asarray(item, dtype=np.float64)[:, 1:] for item in (reference, generated))
    if align:
        first, second = warping_path(a, b)
        a, b = a[first], b[second]
    length = min(len(a), len(b))
    return float(MCD_FACTOR * np.linalg.norm(a[:length] - b[:length], axis=1).mean()) if length else math.nan


def warping_path(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the frames that dynamic time warping puts side by side, steps (1, 1), (1, 0) and (0, 1): ``(P,)`` each.

    Args:
        a: ``(T, D)``.
        b: ``(U, D)``.
    """
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    cost = np.sqrt(squares.clip(min=0))
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    for diagonal in range(rows + columns - 1):
        i = np.arange(max(0, diagonal - columns + 1), min(rows, diagonal + 1))
        j = diagonal - i
        best = np.minimum(np.minimum(total[i, j], total[i, j + 1]), total[i + 1, j])
        total[i + 1, j + 1] = cost[i, j] + best
    i, j = rows, columns
    path = [(i - 1, j - 1)]
    while (i, j) != (1, 1):
        steps = ((i - 1, j - 1), (i - 1, j), (i, j - 1))
        i, j = min(steps, key=lambda step: total[step])
        path.append((i - 1, j - 1))
    found = np.array(path[::-1])
    return found[:, 0], found[:, 1]


def word_errors(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> CorpusScore:
    """Compare what was heard with what was to be said, upper-case and without punctuation.

    Args:
        references: Id -> text.
        hypotheses: Id -> text, of the same ids.
    """
    return score_corpus(
        {uid: plain_text(text) for uid, text in references.items()},
        {uid: plain_text(text) for uid, text in hypotheses.items()},
    )


def plain_text(text: str) -> str:
    """Return a text in upper case with letters, digits, apostrophes and single blanks only.

    >>> plain_text("Well,  that's it!")
    "WELL THAT'S IT"
    """
    kept = "".join(character if character.isalnum() or character == "'" else " " for character in text.upper())
    return " ".join(kept.split())


def response(partner: np.ndarray, own: np.ndarray, fps: float = MOTION_FPS, max_lag_sec: float = 2.0) -> np.ndarray:
    """Return how a listener follows a partner: correlation of the partner's energy with the own one 0 to 2 s later.

    Args:
        partner: Energy of the partner, ``(F,)``.
        own: Energy of the own head or brow, ``(F,)``.
        fps: Their rate.
        max_lag_sec: The longest delay.

    Returns:
        One correlation for each lag in frames, from 0; NaN where one of the two is constant.
    """
    return np.array([correlate_at(partner, own, lag) for lag in range(round(max_lag_sec * fps) + 1)])
