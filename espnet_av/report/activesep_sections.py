# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Content of the report of active separation, section by section, as plain values for the page template."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espnet_av.report import plots
from espnet_av.report.activesep_plots import PASSIVE_PANELS, policy_curves, return_bars, seconds_curves
from espnet_av.report.activesep_results import (
    MAIN,
    cell,
    comparison_table,
    is_number,
    main_table,
    memory_table,
    note,
    seed_table,
    sets_of,
    verdict,
)
from espnet_av.report.data_stats import collect_drops
from espnet_av.report.media import data_uri
from espnet_av.report.sections import read_history
from espnet_av.utils.errors import DataError, MissingDataError
from espnet_av.utils.experiment import read_json, read_json_lines, set_order
from espnet_av.utils.figures import ABSENT

logger = logging.getLogger(__name__)
SET_HEADER = ("set", "scenes", "episodes", "left out")
HISTORY = "history.jsonl"


def results_section(results: Mapping[str, Any] | None) -> dict[str, Any]:
    """Tables and figures of the results; empty where nothing is scored."""
    if results is None or not results["rows"]:
        return {}
    rows = results["rows"]
    header, body = main_table(rows)
    compared_header, compared = comparison_table(results)
    memory_header, memory = memory_table(rows)
    seeds_header, seeds = seed_table(rows)
    bars, seconds = return_bars(rows), seconds_curves(rows, MAIN)
    return {
        "header": header,
        "rows": body,
        "note": note(results),
        "compared_header": compared_header,
        "compared": compared,
        "memory_header": memory_header,
        "memory": memory,
        "seeds_header": seeds_header,
        "seeds": seeds,
        "bars_figure": _svg(bars),
        "bars_svg": bars,
        "seconds_figure": _svg(seconds),
        "seconds_svg": seconds,
    }


def headline_cards(results: Mapping[str, Any] | None, cost: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """The few figures on top of the page: the policy on the first set, and what standing gives there."""
    cards = []
    results = results or {}
    rows = results.get("rows") or ()
    for name in sets_of(rows)[:1]:
        for row in (row for row in rows if row["set"] == name and row["system"] == MAIN):
            compared = [item for item in results.get("comparisons") or () if item["set"] == name]
            words = [_compared(item) for item in compared if item["second"] in ("stand", "random")]
            detail = "; ".join(words) or name
            cards.append({"name": "return", "value": cell(row["return"], "return"), "unit": "", "detail": detail})
            for column, metric, title, unit in (
                ("paper", "stft_l2", "STFT distance", ""),
                ("honest", "si_sdri", "SI-SDRi, honest", "dB"),
            ):
                facts = (row["refined"].get(column) or {}).get(metric)
                cards.append({"name": title, "value": cell(facts, metric), "unit": unit, "detail": name})
    if cost and is_number(cost.get("num_parameters")):
        millions = f"{cost['num_parameters'] / 1e6:.2f}"
        cards.append({"name": "parameters", "value": millions, "unit": "M", "detail": ""})
    return cards


def _compared(item: Mapping[str, Any]) -> str:
    found = verdict(item.get("return"))
    return f"{found} {'than' if found in ('higher', 'lower') else 'from'} '{item['second']}'"


def training_section(exp_dir: Path, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Curves of the policies and of the separators."""
    histories = {path.parent.name: read_json_lines(path) for path in sorted(exp_dir.glob(f"policy/*_seed*/{HISTORY}"))}
    separators = Path(str((config or {}).get("separators") or "")) if config else None
    passive = read_history(separators) if separators is not None and (separators / HISTORY).is_file() else []
    curves = policy_curves(histories, MAIN)
    if curves is None and not passive:
        return {}
    sentences = []
    for name, rows in histories.items():
        if rows:
            last = rows[-1]
            sentences.append(f"{name}: {last.get('update')} updates, {last.get('env_steps')} environment steps")
    if passive:
        sentences.append(_passive_sentence(passive))
    best = (read_json(exp_dir / "best.json") or {}).get("policies") or {}
    sentences += [f"best of {name} on validation: {Path(facts['checkpoint']).name}" for name, facts in best.items()]
    return {
        "summary": "; ".join(sentences) + ".",
        "curves": _svg(curves),
        "times": _svg(plots.training_curves(passive, PASSIVE_PANELS)),
        "curves_svg": curves,
    }


def _passive_sentence(history: list[dict[str, Any]]) -> str:
    name = "unheard_mono_loss"
    values = [item["valid"][name] for item in history if is_number((item.get("valid") or {}).get(name))]
    if not values:
        return f"separators: {len(history)} epochs"
    return (
        f"separators: {len(history)} epochs, L1 of the mono estimate {values[0]:.3f} to {min(values):.3f} on new clips"
    )


def examples_section(
    exp_dir: Path, dump_dir: Path, config: Mapping[str, Any] | None, results: Mapping[str, Any] | None, max_bytes: int
) -> dict[str, Any]:
    """Episodes to look at and to listen to."""
    from espnet_av.report.activesep_examples import examples

    if not results or not results["rows"]:
        return {"examples": [], "num_left_out": 0, "why_none": "No scored episodes: stage 7 (score) has not run."}
    try:
        found, room = examples(exp_dir, dump_dir, config, results, max_bytes)
    except MissingDataError as error:
        return {"examples": [], "num_left_out": 0, "why_none": f"No episodes to show: {error}"}
    return {"examples": found, **room.section(), "why_none": "No episodes to show."}


def data_section(dump_dir: Path) -> dict[str, Any]:
    """Scenes and episodes of the sets, and what was left out."""
    rows = []
    folders = {path.parent.name: path.parent for path in (dump_dir / "episodes" / "v1").glob("*/filter_report.json")}
    for name in sorted(folders, key=set_order):
        try:
            report = read_json(folders[name] / "filter_report.json") or {}
        except DataError as error:
            logger.warning("left out of the report: %s", error)
            continue
        scenes = len(list((folders[name] / "content").glob("*.json.gz")))
        rows.append([name, scenes or ABSENT, report.get("num_kept", ABSENT), report.get("num_dropped", ABSENT)])
    drops = collect_drops(dump_dir)
    return {
        "header": SET_HEADER,
        "sets": rows,
        "histogram": None,
        "drops": [[item.stage, item.set_name, item.reason, item.count, ", ".join(item.ids)] for item in drops],
        "has_reports": bool(rows),
        "without_faces": True,
    }


def _svg(content: bytes | None) -> str | None:
    return data_uri(content, "image/svg+xml") if content else None
