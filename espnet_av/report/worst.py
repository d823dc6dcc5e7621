# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The items of an experiment with the worst scores, whatever the task."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espnet_av.report.item_scores import agrees, read_items
from espnet_av.report.scores import LOWER, Score, collect_scores, plain_number
from espnet_av.report.systems import system_of

ANCHORS = frozenset({"input", "real", "resynthesis", "mixture", "zero", "oracle_ears"})
MAX_TABLES = 3


def worst_section(exp_dir: str | Path, results: Mapping[str, Any] | None, count: int = 10) -> list[dict[str, Any]]:
    """Return tables of the worst items: one for each test set, by the first main figure that items have.

    Args:
        exp_dir: Experiment folder.
        results: Content of its ``results.json``; None gives no tables.
        count: Items in each table.

    Returns:
        ``title``, ``header`` and ``rows`` of each table.
    """
    if not results or count < 1:
        return []
    items = read_items(exp_dir, results)
    tables: dict[str, dict[str, Any]] = {}
    for score in collect_scores(results):
        parts = items.parts.get(score.key)
        wanted = score.is_main_of(system_of(None, results).name) and score.system.split(",")[0] not in ANCHORS
        if score.set in tables or not wanted or parts is None or not agrees(score, parts):
            continue
        words = items.texts.get((score.set, score.system), {})
        tables[score.set] = _table(score, parts, words, count)
    return list(tables.values())[:MAX_TABLES]


def _table(
    score: Score, parts: Mapping[str, tuple[float, float]], words: Mapping[str, tuple[str, str]], count: int
) -> dict[str, Any]:
    values = [(uid, above / below if below else above) for uid, (above, below) in parts.items()]
    sign = -1 if score.better == LOWER else 1
    ranked = sorted(values, key=lambda item: (sign * item[1], item[0]))[:count]
    unit = f" ({score.unit})" if score.unit else ""
    return {
        "title": f"{score.set}, {score.system}",
        "header": ["item", f"{score.title}{unit}", *(["reference", "recognised"] if words else [])],
        "rows": [[uid, plain_number(value), *(words.get(uid, ("", "")) if words else ())] for uid, value in ranked],
    }
