# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Speech on top of speech: mixing at a stated SNR, interferer test sets and lists of two-speaker mixtures.

Legend: N samples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from espnet_av.data.mixing import limit_peak, mix_at_snr

INNER_SNRS_DB = (-5, 0, 5, 10, 15)  # of the second interferer against the first
TEST_SNRS_DB = (-5, 0, 5, 10)


@dataclass(frozen=True)
class InterfererPlan:
    """How one clip of an interferer set is mixed. ``inner_snr_db`` is None with a single interferer."""

    utt_id: str
    interferers: tuple[str, ...]
    snr_db: float
    inner_snr_db: float | None

    def to_json(self) -> dict:
        """Return the fields as plain values."""
        return asdict(self)


def set_name(base: str, snr_db: int, num_interferers: int) -> str:
    """Return the name of an interferer set, ``test_seen_snr_n5_interferer_1`` for -5 dB."""
    level = f"n{-snr_db}" if snr_db < 0 else str(snr_db)
    return f"{base}_snr_{level}_interferer_{num_interferers}"


def repeat_to_length(wave: np.ndarray, num_samples: int) -> np.ndarray:
    """Cut ``wave`` (n,) at the end, or repeat it, to ``(N,)``, so that an interferer talks all the time."""
    return np.resize(wave, num_samples)


def plan_interferers(
    targets: Sequence[str], pool: Mapping[str, str], snr_db: float, num_interferers: int, rng: np.random.Generator
) -> list[InterfererPlan]:
    """Draw interferers of other speakers, all different from each other, for each target.

    Args:
        targets: Utterance ids.
        pool: Speaker of each utterance that may be target or interferer.
        snr_db: SNR of the set.
        num_interferers: 1 or 2.
        rng: Source of chance.
    """
    plans = []
    for utt_id in targets:
        speakers = {pool[utt_id]}
        chosen: list[str] = []
        for _ in range(num_interferers):
            candidates = [other for other, speaker in pool.items() if speaker not in speakers]
            if not candidates:
                raise ValueError(f"{num_interferers} interferers need {num_interferers + 1} speakers in the pool")
            chosen.append(candidates[int(rng.integers(len(candidates)))])
            speakers.add(pool[chosen[-1]])
        inner = float(rng.choice(INNER_SNRS_DB)) if num_interferers == 2 else None
        plans.append(InterfererPlan(utt_id, tuple(chosen), float(snr_db), inner))
    return plans


def mix_plan(plan: InterfererPlan, read: Callable[[str], np.ndarray]) -> tuple[np.ndarray, float]:
    """Make the mixture of a plan.

    Interferers are cut or repeated to the target's length, the second is mixed into the first, the sum into the
    target. If the result would clip, all of it is scaled down, which leaves the SNR as it is.

    Args:
        plan: What to mix.
        read: Gives the waveform ``(n,)`` of an utterance.

    Returns:
        The mixture float32 ``(N,)`` and the scale (1.0 where nothing clipped).
    """
    target = read(plan.utt_id)
    other = repeat_to_length(read(plan.interferers[0]), len(target))
    if plan.inner_snr_db is not None:
        other = mix_at_snr(other, repeat_to_length(read(plan.interferers[1]), len(target)), plan.inner_snr_db)
    return limit_peak(mix_at_snr(target, other, plan.snr_db))


def two_speaker_pairs(
    speaker_of: Mapping[str, str], count: int, rng: np.random.Generator, snr_range_db: tuple[float, float] = (-5.0, 5.0)
) -> list[tuple[str, str, float]]:
    """Draw ``count`` pairs of utterances of two speakers with the SNR of the first against the second in dB.

    Every utterance comes first about equally often.
    """
    utterances = sorted(speaker_of)
    if len(set(speaker_of.values())) < 2:
        return []
    order: list[str] = []
    while len(order) < count:
        order += [utterances[k] for k in rng.permutation(len(utterances))]
    pairs = []
    for first in order[:count]:
        others = [utt for utt in utterances if speaker_of[utt] != speaker_of[first]]
        second = others[int(rng.integers(len(others)))]
        pairs.append((first, second, round(float(rng.uniform(*snr_range_db)), 2)))
    return pairs
