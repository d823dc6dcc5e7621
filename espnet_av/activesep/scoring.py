# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""From played episodes to rows of results: means over episodes and seeds with intervals, paired differences, seconds.

The unit of all intervals is the episode: what several seeds made of an episode is averaged first, for they share its
difficulty. How much seeds differ stands beside it. An episode with a second that has no value (a silent one has no
level in dB) is left out of that metric and counted.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from espnet_av.activesep.baselines import ESTIMATORS, MOVERS
from espnet_av.activesep.checkpoint_search import MAIN_REWARD
from espnet_av.activesep.eval_results import EvaluationResult
from espnet_av.activesep.metrics import COLUMNS, CONFIDENCE, STFT_L2, summarise

REFINED, ALONE = "monoFromMem", "mono"
METRICS: dict[str, tuple[str, ...]] = {
    "paper": (STFT_L2, "si_sdr"),
    "fixed": (STFT_L2, "si_sdr"),
    "honest": (STFT_L2, "si_sdr", "si_sdri"),
}
#: Estimates that need no agent are those where it stands; where the policy walks they are rows of their own.
ALONG = "_along_policy"
COMPARED = (("return", None, None), ("paper", "paper", STFT_L2), ("honest", "honest", "si_sdr"))


def facts_of(by_seed: Mapping[int, Sequence[float]]) -> dict[str, Any]:
    """Summarise a value per episode (the same episodes for each seed).

    Returns:
        ``mean``, ``std`` (of all values), ``ci95`` (half the interval of the mean over episodes), ``count``,
        ``num_nan`` (values left out), ``seed_means`` and ``seed_std`` (None with one seed).
    """
    values = np.array([list(by_seed[seed]) for seed in sorted(by_seed)], dtype=np.float64)  # (seeds, episodes)
    values[~np.isfinite(values)] = np.nan
    num_nan = int(np.isnan(values).sum())
    counts = (~np.isnan(values)).sum(0)
    sums = np.nansum(values, 0)
    episodes = [[total / count] for total, count in zip(sums, counts, strict=True) if count]
    found = summarise(episodes).facts()
    seeds = [float(np.nanmean(row)) if np.isfinite(row).any() else None for row in values]
    usable = [mean for mean in seeds if mean is not None]
    return {
        **found,
        "std": float(np.nanstd(values)) if usable else None,
        "num_nan": num_nan,
        "seed_means": seeds,
        "seed_std": float(np.std(usable, ddof=1)) if len(usable) > 1 else None,
    }


def per_episode(played: Mapping[int, EvaluationResult], kind: str, column: str, metric: str) -> dict[int, list[float]]:
    """Return the mean over seconds of each episode, by seed; several passes over the episodes are averaged."""
    return {
        seed: _passes(result, [float(np.mean(seconds)) for seconds in result.values(kind, column, metric)])
        for seed, result in played.items()
    }


def returns_of(played: Mapping[int, EvaluationResult]) -> dict[int, list[float]]:
    """Return the sum of rewards of each episode, by seed."""
    return {seed: _passes(result, result.returns()) for seed, result in played.items()}


def _passes(result: EvaluationResult, values: Sequence[float]) -> list[float]:
    """Average what several random passes made of each episode, in the order of the first pass."""
    found: dict[tuple[str, str], list[float]] = {}
    for record, value in zip(result.episodes, values, strict=True):
        found.setdefault((record.scene, record.episode_id), []).append(value)
    return [float(np.mean(items)) for items in found.values()]


def columns_of(played: Mapping[int, EvaluationResult], kind: str) -> dict[str, dict[str, Any]]:
    """Return column -> metric -> facts of a kind of estimate."""
    there = next(iter(played.values())).episodes[0].metrics.get(kind, {})
    return {
        column: {
            metric: facts_of(per_episode(played, kind, column, metric))
            for metric in METRICS[column]
            if metric in there[column]
        }
        for column in COLUMNS
        if column in there
    }


def seconds_of(played: Mapping[int, EvaluationResult]) -> dict[str, list[float | None]]:
    """Return the STFT distance of each second of an episode, a mean over episodes and seeds.

    Returns:
        ``alone``: separators only; ``at_once``: the memory's estimate when the second is new (None for the first, of
        which no reward tells); ``refined``: the last estimate of it.
    """
    records = [record for result in played.values() for record in result.episodes]

    def mean(rows: list[list[float]]) -> list[float | None]:
        values = np.array(rows, dtype=np.float64)
        return [float(column[np.isfinite(column)].mean()) if np.isfinite(column).any() else None for column in values.T]

    # the reward of an action is minus the error of the second after it, divided by the power of targets (twice 0.72)
    at_once = [[math.nan, *(-0.72 * reward for reward in record.rewards[:-1])] for record in records]
    return {
        "alone": mean([record.metrics[ALONE]["paper"][STFT_L2] for record in records]),
        "at_once": mean(at_once),
        "refined": mean([record.metrics[REFINED]["paper"][STFT_L2] for record in records]),
    }


def row_of(set_name: str, system: str, played: Mapping[int, EvaluationResult]) -> dict[str, Any]:
    """Return the row of a policy or a mover."""
    first = next(iter(played.values()))
    distances = {
        seed: _passes(result, [record.distances[-1] for record in result.episodes]) for seed, result in played.items()
    }
    return {
        "set": set_name,
        "system": system,
        "kind": "mover" if system in MOVERS else "policy",
        "seeds": sorted(played),
        "num_episodes": len(_passes(first, first.returns())),
        "return": facts_of(returns_of(played)),
        "last_distance": facts_of(distances),
        "refined": columns_of(played, REFINED),
        "alone": columns_of(played, ALONE),
        "seconds": seconds_of(played),
    }


def estimate_rows(set_name: str, played: Mapping[str, Mapping[int, EvaluationResult]]) -> list[dict[str, Any]]:
    """Return the rows of estimates that need no agent, where the agent stands and where the policy walks."""
    rows = []
    for mover, suffix in (("stand", ""), (MAIN_REWARD, ALONG)):
        results = dict(list(played.get(mover, {}).items())[:1])  # they do not depend on networks where nothing moves
        if suffix:
            results = dict(played.get(mover, {}))
        for name in ESTIMATORS:
            if (suffix and name == "zero") or not results or not columns_of(results, name):
                continue
            first = next(iter(results.values()))
            rows.append(
                {
                    "set": set_name,
                    "system": f"{name}{suffix}",
                    "kind": "estimate",
                    "seeds": sorted(results),
                    "num_episodes": len(_passes(first, first.returns())),
                    "refined": columns_of(results, name),
                }
            )
    return rows


def compare(set_name: str, played: Mapping[str, Mapping[int, EvaluationResult]]) -> list[dict[str, Any]]:
    """Return the paired differences between the policy and every other system, episode by episode."""
    main = played.get(MAIN_REWARD)
    if not main:
        return []
    found = []
    for system, other in played.items():
        if system == MAIN_REWARD:
            continue
        entry: dict[str, Any] = {"set": set_name, "first": MAIN_REWARD, "second": system}
        for name, column, metric in COMPARED:
            if column is None or metric is None:
                ours, theirs = returns_of(main), returns_of(other)
            else:
                ours, theirs = (per_episode(side, REFINED, column, metric) for side in (main, other))
            entry[name] = difference(ours, theirs)
        found.append(entry)
    return found


def difference(ours: Mapping[int, Sequence[float]], theirs: Mapping[int, Sequence[float]]) -> dict[str, Any] | None:
    """Return mean and 95 % interval of ours minus theirs over episodes, seeds averaged; and how many seeds agree.

    A seed that both have is compared with itself, others with the mean of theirs. None where episodes differ.
    """
    left = {seed: np.asarray(values, dtype=np.float64) for seed, values in ours.items()}
    right = {seed: np.asarray(values, dtype=np.float64) for seed, values in theirs.items()}
    if len({len(values) for values in (*left.values(), *right.values())}) != 1:
        return None
    default = np.mean([right[seed] for seed in sorted(right)], axis=0)
    deltas = {seed: values - (right[seed] if seed in right else default) for seed, values in left.items()}
    facts = facts_of({seed: values.tolist() for seed, values in deltas.items()})
    if facts["mean"] is None:
        return None
    half = facts["ci95"]
    return {
        "mean": facts["mean"],
        "ci_low": None if half is None else facts["mean"] - half,
        "ci_high": None if half is None else facts["mean"] + half,
        "n": facts["count"],
        "seed_means": facts["seed_means"],
    }


def score(
    played: Mapping[str, Mapping[str, Mapping[int, EvaluationResult]]], systems: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return the ``rows`` and ``comparisons`` of results.

    Args:
        played: Set -> system -> seed -> evaluation.
        systems: Take these only, in this order; None: all.
    """
    rows, comparisons = [], []
    for name, by_system in played.items():
        order = [system for system in systems or sorted(by_system) if system in by_system]
        chosen = {system: by_system[system] for system in order}
        rows += [row_of(name, system, results) for system, results in chosen.items()]
        rows += estimate_rows(name, chosen)
        comparisons += compare(name, chosen)
    return {"rows": rows, "comparisons": comparisons, "confidence": CONFIDENCE}
