# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Content of the report of generation, section by section, as plain values for the page template."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_av.report.avgen_examples import AVGenMedia, ScoredSamples, choose_examples
from espnet_av.report.avgen_plots import step_curves, system_bars
from espnet_av.report.avgen_results import (
    METRICS,
    SYSTEM_TITLES,
    TABLES,
    comparison_table,
    is_number,
    note,
    ordered,
    particulars,
    shown,
    skipped_metrics,
    system_title,
    table,
)
from espnet_av.report.media import data_uri
from espnet_av.utils.progress import format_seconds

CARD_METRICS = ("closure_f1", "lip_sync_r", "wer", "fd_face", "rtf")
MAX_CARD_METRICS = 4


def results_section(results: Mapping[str, Any] | None) -> dict[str, Any]:
    """Tables and figures of the results; empty where nothing is scored."""
    if results is None or not results["rows"]:
        return {}
    rows = results["rows"]
    tables = []
    for title in TABLES:
        header, body = table(rows, title)
        if body:
            tables.append({"title": title, "header": header, "rows": body, "note": note(title, results)})
    compared_header, compared = comparison_table(results)
    bars, steps = system_bars(rows), step_curves(rows)
    return {
        "tables": tables,
        "particulars": particulars(rows),
        "skipped": [list(item) for item in skipped_metrics(rows)],
        "compared_header": compared_header,
        "compared": [[text.strip("*") for text in row] for row in compared],
        "bars_figure": _svg(bars),
        "bars_svg": bars,
        "steps_figure": _svg(steps),
        "steps_svg": steps,
    }


def headline_cards(
    results: Mapping[str, Any] | None, history: Sequence[Mapping[str, Any]], cost: Any
) -> list[dict[str, str]]:
    """The few figures that stand on top of the page: of the first system, its training and its size."""
    cards = []
    rows = [row for row in ordered((results or {}).get("rows") or ()) if row["system"] not in SYSTEM_TITLES]
    for name in [name for name in CARD_METRICS if rows and is_number(rows[0].get(name))][:MAX_CARD_METRICS]:
        detail = f"{system_title(rows[0]['system'])}, {rows[0]['set']}"
        cards.append({"name": METRICS[name].title, "value": shown(name, rows[0][name]), "unit": "", "detail": detail})
    seconds = sum(item["time_sec"] for item in history if isinstance(item.get("time_sec"), (int, float)))
    if seconds:
        detail = f"{len(history)} epochs"
        cards.append({"name": "training", "value": format_seconds(seconds), "unit": "", "detail": detail})
    if is_number((cost or {}).get("num_parameters")):
        value = f"{cost['num_parameters'] / 1e6:.2f}"
        cards.append({"name": "parameters", "value": value, "unit": "M", "detail": "of the generator"})
    return cards


def examples_section(
    exp_dir: Path, *, num_worst: int, num_typical: int, max_bytes: int, changed: Collection[str] = ()
) -> dict[str, Any]:
    """Typical recordings of each set and those with the lowest scores, to look at and to listen to."""
    scored = ScoredSamples(exp_dir)
    groups = choose_examples(scored, num_worst, num_typical)
    media = AVGenMedia(scored, max_bytes, changed)
    for _, examples in groups:
        media.fill(examples)
    return {
        "groups": [{"title": title, "examples": examples} for title, examples in groups],
        **media.section(),
        "why_none": "No scored samples: stage 7 (score) has not run.",
    }


def _svg(content: bytes | None) -> str | None:
    return data_uri(content, "image/svg+xml") if content else None
