# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Scores of single utterances, mixtures, recordings or episodes, and paired differences between two experiments.

Every figure of :mod:`espnet_av.report.scores` is a sum over items divided by another one: errors by reference words,
a metric by the number of values. The two parts of each item are what the bootstrap draws.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.report.scores import Score, system_name
from espnet_av.utils.bootstrap import drawn_sums, percentile_interval
from espnet_av.utils.errors import EspnetAVError
from espnet_av.utils.experiment import find_decodes, read_json

logger = logging.getLogger(__name__)
NUM_RESAMPLES, LEVEL, SEED = 1000, 0.95, 0
TOLERANCE = 0.01  # of a figure made of items against the one in the results, relative
Key = tuple[str, str, str]  # set, system, metric
Parts = dict[str, tuple[float, float]]  # item -> what stands above and below the line


@dataclass
class ItemScores:
    """What an experiment scored item by item.

    Attributes:
        parts: Set, system and metric -> item -> its two parts.
        texts: Set and system -> item -> (reference, hypothesis), where words were recognised.
        references: Set -> digest of what it was scored against, where that is recorded.
    """

    parts: dict[Key, Parts] = field(default_factory=dict)
    texts: dict[tuple[str, str], dict[str, tuple[str, str]]] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)

    def add(self, key: Key, uid: str, above: float, below: float = 1.0) -> None:
        """Add a value of an item; several of one item are summed, those that are no number left out."""
        if math.isfinite(above):
            before = self.parts.setdefault(key, {}).get(uid, (0.0, 0.0))
            self.parts[key][uid] = (before[0] + above, before[1] + below)


@dataclass(frozen=True)
class Difference:
    """A figure of the second experiment less that of the first, over the items that both have.

    Attributes:
        value: The difference.
        ci_low: Lower end of its paired 95 % bootstrap interval.
        ci_high: Upper end.
        num_common: Items that both scored.
        num_other: Items that only one of them scored.
    """

    value: float
    ci_low: float
    ci_high: float
    num_common: int
    num_other: int

    @property
    def shown(self) -> bool:
        """Tell whether the interval leaves out 0."""
        return self.ci_low > 0 or self.ci_high < 0


def read_items(exp_dir: str | Path, results: Mapping[str, Any]) -> ItemScores:
    """Read the scores of single items that stage 7 left in an experiment.

    Args:
        exp_dir: Experiment folder.
        results: Content of its ``results.json``.

    Returns:
        Only figures whose items give the value in the results; files that are missing or broken are left out.
    """
    read = _READERS.get(str(results.get("task") or "avsr"))
    rows = results.get("rows") or ()
    found = ItemScores(references={row["set"]: str(row["data_digest"]) for row in rows if row.get("data_digest")})
    if read is not None:
        try:
            read(Path(exp_dir), results, found)
        except (EspnetAVError, OSError, KeyError, TypeError, ValueError) as error:
            logger.warning("%s: no scores of single items: %s", exp_dir, error)
    return found


def agrees(score: Score, parts: Parts) -> bool:
    """Tell whether items give the figure of the results."""
    value = rate(parts)
    return score.value is not None and abs(value - score.value) <= TOLERANCE * max(abs(score.value), 0.1)


def same_references(first: ItemScores, first_key: Key, second: ItemScores, second_key: Key) -> bool:
    """Tell whether nothing shows that a figure was scored against other references in the second experiment."""
    digests = {each.references.get(key[0]) for each, key in ((first, first_key), (second, second_key))} - {None}
    before, after = first.texts.get(first_key[:2], {}), second.texts.get(second_key[:2], {})
    return len(digests) < 2 and all(before[uid][0] == after[uid][0] for uid in before.keys() & after.keys())


def rate(parts: Parts) -> float:
    """Return the sum of what is above the line over the sum of what is below it; NaN over nothing."""
    below = sum(item[1] for item in parts.values())
    return sum(item[0] for item in parts.values()) / below if below else math.nan


def paired_difference(first: Parts, second: Parts) -> Difference | None:
    """Return second less first over the items of both; None where there are fewer than two.

    The same items are drawn for both, so that how hard an item is does not count.
    """
    common = sorted(set(first) & set(second))
    if len(common) < 2:
        return None
    columns = np.array([[*first[uid], *second[uid]] for uid in common])  # (items, 4)
    drawn = np.concatenate([sums for (sums,) in drawn_sums((columns,), NUM_RESAMPLES, SEED)])
    drawn = drawn[(drawn[:, 1] > 0) & (drawn[:, 3] > 0)]
    total = columns.sum(axis=0)
    if not (len(drawn) and total[1] and total[3]):
        return None
    found = percentile_interval(drawn[:, 2] / drawn[:, 3] - drawn[:, 0] / drawn[:, 1], LEVEL)
    value = float(total[2] / total[3] - total[0] / total[1])
    return Difference(value, found.low, found.high, len(common), len(set(first) ^ set(second)))


def largest_changes(first: Parts, second: Parts, count: int) -> list[tuple[str, float, float]]:
    """Return the items whose value changed most: id, value in the first, value in the second."""
    common = [uid for uid in sorted(set(first) & set(second)) if first[uid][1] and second[uid][1]]
    values = [(uid, first[uid][0] / first[uid][1], second[uid][0] / second[uid][1]) for uid in common]
    changed = [item for item in values if item[1] != item[2]]
    return sorted(changed, key=lambda item: -abs(item[2] - item[1]))[:count]


def _recognition(exp_dir: Path, results: Mapping[str, Any], found: ItemScores) -> None:
    for decode in find_decodes(exp_dir / "decode"):
        content = read_json(decode.folder / "wer.json") or {}
        place = (decode.set_name, decode.modality)
        for item in content.get("utterances") or ():
            found.texts.setdefault(place, {})[item["id"]] = (item["ref"], item["hyp"])
            errors = item["sub"] + item["del"] + item["ins"]
            found.add((*place, "wer"), item["id"], 100.0 * errors, item["hits"] + item["sub"] + item["del"])


def _separation(exp_dir: Path, results: Mapping[str, Any], found: ItemScores) -> None:
    from espnet_av.report.separation_examples import ScoredMixtures

    for (set_name, lips), scores in ScoredMixtures(exp_dir).scores.items():
        for item in scores:  # the two voices of a mixture are drawn together
            for metric, value in item.values.items():
                found.add((set_name, lips, metric), item.mixture, value)


def _codec(exp_dir: Path, results: Mapping[str, Any], found: ItemScores) -> None:
    anchors = exp_dir / str(results.get("anchors") or "../anchors")
    wanted = {(row["set"], system_name(row)) for row in results["rows"]}
    for path in (*sorted(exp_dir.glob("*/*/**/scores.json")), *sorted(anchors.glob("*/*/scores.json"))):
        _add_utterances(read_json(path), wanted, found)


def _generation(exp_dir: Path, results: Mapping[str, Any], found: ItemScores) -> None:
    from espnet_av.avgen.score_files import find_samples
    from espnet_av.avgen.scoring import SCORES
    from espnet_av.report.avgen_results import METRICS

    wanted = {(row["set"], system_name(row)) for row in results["rows"]}
    factors = {name: metric.factor for name, metric in METRICS.items()}
    for item in find_samples(exp_dir / "decode"):
        _add_utterances(read_json(item.folder / SCORES), wanted, found, factors)


def _add_utterances(
    content: Any, wanted: set[tuple[str, str]], found: ItemScores, factors: Mapping[str, float] | None = None
) -> None:
    row = content.get("row") if isinstance(content, Mapping) else None
    if not isinstance(row, Mapping) or (place := (str(row.get("set")), system_name(row))) not in wanted:
        return
    for item in content.get("utterances") or ():
        for metric, value in item["values"].items():
            if isinstance(value, (int, float)):
                found.add((*place, metric), item["key"], value * (factors or {}).get(metric, 1.0))


def _agents(exp_dir: Path, results: Mapping[str, Any], found: ItemScores) -> None:
    from espnet_av.activesep.checkpoint_search import read_played
    from espnet_av.activesep.scoring import METRICS, REFINED, per_episode, returns_of

    for set_name, systems in read_played(exp_dir, sorted({row["set"] for row in results["rows"]})).items():
        for system, played in systems.items():
            ids = _episode_ids(played)
            values: dict[str, dict[int, list[float]]] = {"return": returns_of(played)}
            there = next(iter(played.values())).episodes[0].metrics.get(REFINED, {})
            for column, metrics in METRICS.items():
                for metric in (name for name in metrics if name in there.get(column, {})):
                    values[f"{column}.{metric}"] = per_episode(played, REFINED, column, metric)
            for metric, by_seed in values.items():
                for uid, of_seeds in zip(ids, zip(*by_seed.values(), strict=True), strict=True):
                    known = [value for value in of_seeds if math.isfinite(value)]
                    if known:
                        found.add((set_name, system, metric), uid, sum(known) / len(known))


def _episode_ids(played: Mapping[int, Any]) -> list[str]:
    records = next(iter(played.values())).episodes
    return list(dict.fromkeys(f"{record.scene}/{record.episode_id}" for record in records))


_READERS: dict[str, Callable[[Path, Mapping[str, Any], ItemScores], None]] = {
    "avsr": _recognition,
    "avss": _separation,
    "codec": _codec,
    "avgen": _generation,
    "activesep": _agents,
}
