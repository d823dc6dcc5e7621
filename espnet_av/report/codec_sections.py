# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Content of the report of a speech codec, section by section, as plain values for the page template."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_av.data.data_dir import DataDir
from espnet_av.report import plots
from espnet_av.report.codec_examples import CodecMedia, DecodedSets, choose_examples
from espnet_av.report.codec_plots import rate_curves, usage_bars
from espnet_av.report.codec_results import (
    CODEC,
    INPUT,
    OPUS,
    comparison_table,
    is_number,
    main_table,
    note,
    ordered,
    particulars,
    rate_cell,
    shown,
    skipped_metrics,
    title_of,
    usage_table,
)
from espnet_av.report.data_stats import collect_drops
from espnet_av.report.media import data_uri
from espnet_av.utils.errors import DataError
from espnet_av.utils.experiment import set_order
from espnet_av.utils.figures import ABSENT
from espnet_av.utils.progress import format_seconds

logger = logging.getLogger(__name__)
SET_HEADER = ("set", "recordings", "speakers", "hours", "mean length (s)", "longest (s)")
CARD_METRICS = ("pesq_wb", "visqol", "estoi", "dnsmos_ovrl", "wer")
MAX_CARD_METRICS = 2
DEFAULT_RATE_HZ = 24000


def results_section(results: Mapping[str, Any] | None) -> dict[str, Any]:
    """Tables and figures of the results; empty where nothing is scored."""
    if results is None or not results["rows"]:
        return {}
    rows = results["rows"]
    header, body = main_table(rows)
    compared_header, compared = comparison_table(results)
    usage_header, usage = usage_table(rows)
    curves, bars = rate_curves(rows), usage_bars(rows)
    return {
        "header": header,
        "rows": body,
        "note": note(results),
        "particulars": particulars(rows),
        "skipped": [list(item) for item in skipped_metrics(rows)],
        "interval_rows": main_table(rows, interval=True)[1],
        "compared_header": compared_header,
        "compared": compared,
        "usage_header": usage_header,
        "usage": usage,
        "curve_figure": _svg(curves),
        "curve_svg": curves,
        "usage_figure": _svg(bars),
        "usage_svg": bars,
    }


def headline_cards(
    results: Mapping[str, Any] | None, history: Sequence[Mapping[str, Any]], cost: Mapping[str, Any] | None
) -> list[dict[str, str]]:
    """The few figures that stand on top of the page: quality at each bit rate of the first set, training, cost."""
    cards = []
    rows = [row for row in ordered((results or {}).get("rows") or ()) if row["system"] not in (INPUT, OPUS)]
    first = rows[0]["set"] if rows else None
    main = [row for row in rows if row["set"] == first]
    main = [row for row in main if row["system"] == CODEC] or main[:2]
    for row in dict.fromkeys((0, len(main) - 1)) if main else ():
        chosen = main[row]
        names = [name for name in CARD_METRICS if is_number(chosen.get(name))][:MAX_CARD_METRICS]
        for name in names:
            title = f"{title_of(name)}, {rate_cell(chosen)} kbit/s"
            cards.append({"name": title, "value": shown(name, chosen[name]), "unit": "", "detail": str(first)})
    seconds = sum(item["time_sec"] for item in history if isinstance(item.get("time_sec"), (int, float)))
    if seconds:
        detail = f"{len(history)} epochs"
        cards.append({"name": "training", "value": format_seconds(seconds), "unit": "", "detail": detail})
    for key, name, unit, digits in (
        ("num_parameters", "parameters of the codec", "M", 2),
        ("mflops", "computing", "MFLOPS", 0),
        ("latency_ms", "latency", "ms", 0),
    ):
        value = (cost or {}).get(key)
        if is_number(value):
            scaled = value / 1e6 if key == "num_parameters" else value
            cards.append({"name": name, "value": f"{scaled:.{digits}f}", "unit": unit, "detail": ""})
    return cards


def examples_section(
    exp_dir: Path,
    dump_dir: Path,
    results: Mapping[str, Any] | None,
    *,
    num_worst: int,
    num_typical: int,
    max_bytes: int,
) -> dict[str, Any]:
    """Typical recordings of each set and those with the lowest scores, to look at and to listen to."""
    decoded = DecodedSets(exp_dir, dump_dir, results)
    groups = choose_examples(decoded, num_worst, num_typical)
    media = CodecMedia(decoded, max_bytes)
    for _, examples in groups:
        media.fill(examples)
    return {
        "groups": [{"title": title, "examples": examples} for title, examples in groups],
        **media.section(),
        "why_none": "No scored recordings: stage 7 (score) has not run.",
    }


def data_section(dump_dir: Path) -> dict[str, Any]:
    """Sizes and lengths of the sets, and what was left out."""
    sets, lengths = [], {}
    folders = {path.parent.name: path.parent for path in (*dump_dir.glob("*/wav.scp"), *dump_dir.glob("raw/*/wav.scp"))}
    for name in sorted(folders, key=set_order):
        try:
            row, seconds = _set_row(DataDir(folders[name]))
        except DataError as error:
            logger.warning("%s is left out of the report: %s", folders[name], error)
            continue
        sets.append(row)
        lengths[name] = seconds
    drops = collect_drops(dump_dir)
    return {
        "header": SET_HEADER,
        "sets": sets,
        "histogram": _svg(plots.duration_histogram(lengths)),
        "drops": [[item.stage, item.set_name, item.reason, item.count, ", ".join(item.ids)] for item in drops],
        "has_reports": any(True for _ in dump_dir.rglob("*_report.json")),
        "without_faces": True,
    }


def _set_row(data: DataDir) -> tuple[list[Any], list[float]]:
    keys = data.read("wav.scp")
    speakers = len(set(data.read("utt2spk").values())) if data.has("utt2spk") else ABSENT
    rate = data.meta.get("sample_rate", DEFAULT_RATE_HZ)
    seconds = [count / rate for count in data.num_samples().values()] if data.has("utt2num_samples") else []
    cells = [ABSENT] * 3
    if seconds:
        cells = [f"{sum(seconds) / 3600:.2f}", f"{sum(seconds) / len(seconds):.2f}", f"{max(seconds):.2f}"]
    return [data.path.name, len(keys), speakers, *cells], seconds


def _svg(content: bytes | None) -> str | None:
    return data_uri(content, "image/svg+xml") if content else None
