# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Content of the report of a separator, section by section, as plain values for the page template."""

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_av.avss.pair_scores import KIND_TITLES, MAIN_METRIC, kind_order
from espnet_av.data.data_dir import DataDir
from espnet_av.data.mixture_dir import FPS, SAMPLE_RATE, SPEAKERS, read_mixtures
from espnet_av.report import plots
from espnet_av.report.data_stats import collect_drops
from espnet_av.report.media import contact_sheet, data_uri, png_bytes
from espnet_av.report.published import OwnResult, Published, comparison
from espnet_av.report.results import RESULTS_JSON, read_results
from espnet_av.report.separation_examples import MixtureMedia, ScoredMixtures, choose_examples, find_set
from espnet_av.report.separation_plots import input_output, kind_bars
from espnet_av.report.separation_results import (
    LIPS_TITLES,
    TASK,
    kind_table,
    lips_order,
    main_table,
    metric_cell,
    note,
    ordered,
    shown,
)
from espnet_av.utils.errors import DataError, EspnetAVError
from espnet_av.utils.experiment import read_json, set_order
from espnet_av.utils.figures import ABSENT
from espnet_av.utils.progress import format_seconds

logger = logging.getLogger(__name__)
MAX_SCATTERS = 2
MOUTHS_SHOWN, MOUTH_COLUMNS = 60, 15
SET_HEADER = (
    "set",
    "mixtures",
    "same speaker",
    "same gender",
    "other pairs",
    "hours",
    "mean length (s)",
    "longest (s)",
)
LIPS_HEADER = ("set", "lips", "voice asked for (dB)", "other voice (dB)", "nearer to the voice asked for (%)")


def results_section(exp_dir: Path, results: Mapping[str, Any] | None, scored: ScoredMixtures) -> dict[str, Any]:
    """Tables and figures of the results; empty where nothing is scored."""
    if results is None or not results["rows"]:
        return {}
    rows = results["rows"]
    header, body = main_table(rows)
    kind_header, kinds = kind_table(rows)
    names = scored.set_names[:MAX_SCATTERS]
    kind_figure = kind_bars(rows)
    scatters = [input_output(scored.main_scores(name), f"{name}: each voice") for name in names]
    run_header, runs = recipe_runs(exp_dir)
    return {
        "header": header,
        "rows": body,
        "note": note(results),
        "kind_header": kind_header,
        "kinds": kinds,
        "lips_header": LIPS_HEADER,
        "lips": lips_rows(rows),
        "kind_svg": kind_figure,
        "kind_figure": _svg(kind_figure),
        "scatter_figures": [_svg(picture) for picture in scatters if picture],
        "run_header": run_header,
        "runs": runs,
        "seams": seam_rows(scored),
    }


def lips_rows(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return SI-SNRi against both voices per set and lips; none for networks that look at no lips."""
    return [
        [
            row["set"],
            LIPS_TITLES.get(row["lips"], row["lips"]),
            metric_cell(row),
            metric_cell(row, "other_si_snri"),
            _percent(row.get("right_share")),
        ]
        for row in ordered(rows)
        if row["lips"] != "audio" and row.get("other_si_snri") is not None
    ]


def seam_rows(scored: ScoredMixtures) -> list[list[str]]:
    """Return number, mean and worst of the seams of windows per set and lips, where mixtures were cut."""
    return [
        [
            found.set_name,
            LIPS_TITLES.get(found.lips, found.lips),
            str(found.facts["num_seams"]),
            metric_cell(found.facts, "mean_seam_db"),
            metric_cell(found.facts, "worst_seam_db"),
        ]
        for found in scored.sets
        if found.facts.get("num_seams")
    ]


def recipe_runs(exp_dir: Path) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of SI-SNRi of all experiments beside this one; no rows where there is no other.

    Columns are sets, and kinds of pairs where they are known.
    """
    found: dict[str, Sequence[Mapping[str, Any]]] = {}
    for path in sorted(exp_dir.resolve().parent.glob(f"*/{RESULTS_JSON}")):
        try:
            results = read_results(path)
        except EspnetAVError as error:
            logger.warning("%s is left out of the report: %s", path, error)
            continue
        if results.get("task") == TASK and results["rows"]:
            found[path.parent.name] = results["rows"]
    if set(found) <= {exp_dir.resolve().name}:
        return [], []
    rows = [row for part in found.values() for row in part]
    sets = sorted({row["set"] for row in rows}, key=set_order)
    kinds = {
        name: sorted({kind for row in rows if row["set"] == name for kind in row.get("kinds") or ()}, key=kind_order)
        for name in sets
    }
    several = len(sets) > 1
    columns = [(name, kind) for name in sets for kind in ("", *kinds[name])]
    header = ["experiment", "lips", "voices"]
    for name, kind in columns:
        title = KIND_TITLES.get(kind, kind) if kind else "all"
        header.append(f"{name}, {title}" if several else title)
    table = []
    for run, part in found.items():
        for lips in sorted({row["lips"] for row in part}, key=lips_order):
            cells = {row["set"]: row for row in part if row["lips"] == lips}
            count = sum(row.get("n_pairs") or 0 for row in cells.values())
            figures = [_kind_cell(cells.get(name), kind) for name, kind in columns]
            table.append([run, LIPS_TITLES.get(lips, lips), str(count), *figures])
    return header, table


def comparison_section(results: Mapping[str, Any] | None, published: Published) -> dict[str, Any]:
    """Results with the right lips, or of a network without, beside those of others."""
    rows = [row for row in (results or {}).get("rows") or () if row["lips"] in ("own", "audio")]
    ours = []
    for lips in sorted({row["lips"] for row in rows}, key=lips_order):
        values = {row["set"]: row[MAIN_METRIC] for row in rows if row["lips"] == lips and row[MAIN_METRIC] is not None}
        ours.append(OwnResult("this experiment", "av" if lips == "own" else "audio", {}, si_snri=values))
    return comparison(ours, published)


def headline_cards(
    results: Mapping[str, Any] | None, history: Sequence[Mapping[str, Any]], cost: Mapping[str, Any] | None
) -> list[dict[str, str]]:
    """The few figures that stand on top of the page."""
    cards = []
    rows = ordered((results or {}).get("rows") or ())
    first = rows[0]["set"] if rows else None
    for row in rows:
        if row["set"] == first and row.get(MAIN_METRIC) is not None:
            title = LIPS_TITLES.get(row["lips"], row["lips"])
            value = shown(row[MAIN_METRIC], 1)
            cards.append({"name": f"SI-SNRi, {title}", "value": value, "unit": "dB", "detail": row["set"]})
    seconds = sum(item["time_sec"] for item in history if isinstance(item.get("time_sec"), (int, float)))
    if seconds:
        detail = f"{len(history)} epochs"
        cards.append({"name": "training", "value": format_seconds(seconds), "unit": "", "detail": detail})
    if cost and cost.get("num_parameters"):
        value = f"{cost['num_parameters'] / 1e6:.2f}"
        cards.append({"name": "parameters", "value": value, "unit": "M", "detail": ""})
    return cards


def examples_section(
    scored: ScoredMixtures,
    dump_dir: Path,
    *,
    num_worst: int,
    num_typical: int,
    max_bytes: int,
    changed: Collection[str] = (),
) -> dict[str, Any]:
    """Typical mixtures of each kind and those with the least improvement, to look at and to listen to."""
    groups = choose_examples(scored, num_worst, num_typical)
    media = MixtureMedia(scored, dump_dir, max_bytes, changed)
    for _, examples in groups:
        media.fill(examples)
    return {
        "groups": [{"title": title, "examples": examples} for title, examples in groups],
        **media.section(),
        "why_none": "No scored mixtures: stage 7 (score) has not run.",
    }


def data_section(dump_dir: Path) -> dict[str, Any]:
    """Sizes, kinds and lengths of the sets, what was left out, and mouth crops."""
    names = {path.parent.name for pattern in ("*/mix.scp", "filtered/*/mix.scp") for path in dump_dir.glob(pattern)}
    sets, lengths, mouths = [], {}, []
    for name in sorted(names, key=set_order):
        folder = find_set(dump_dir, name)
        try:
            mixtures = read_mixtures(folder)
        except DataError as error:
            logger.warning("%s is left out of the report: %s", folder, error)
            continue
        seconds = [item.num_samples / SAMPLE_RATE for item in mixtures if item.num_samples]
        lengths[name] = seconds
        sets.append([name, len(mixtures), *_kind_counts(mixtures), *_length_cells(seconds)])
        mouths += [path for item in mixtures for path in item.mouths[: len(SPEAKERS)]]
    sheet = _mouth_sheet(mouths)
    drops = collect_drops(dump_dir)
    return {
        "header": SET_HEADER,
        "sets": sets,
        "histogram": _svg(plots.duration_histogram(lengths)),
        "drops": [[item.stage, item.set_name, item.reason, item.count, ", ".join(item.ids)] for item in drops],
        "has_reports": any(True for _ in dump_dir.rglob("filter_report.json")),
        "sheet": sheet,
    }


def lips_note(config: Mapping[str, Any] | None, dump_dir: Path) -> list[tuple[str, str]]:
    """Return which front end the lips come from, for the table of the model; nothing for sound alone."""
    lips = (config or {}).get("lips") or {}
    if not lips:
        return []
    digest = str(lips.get("digest", ""))[:12]
    variants = DataDir(find_set(dump_dir, "train")).path / "data.json"
    stored = ((read_json(variants) or {}).get("lips") or lips).get("variants", 1)
    text = f"{lips.get('front_end', ABSENT)} ({digest}), {lips.get('dim', ABSENT)} values at {FPS} frames per second"
    return [("lip front end", f"{text}, {stored} crop{'s' if stored != 1 else ''} of each training clip")]


def _kind_cell(row: Mapping[str, Any] | None, kind: str) -> str:
    return metric_cell(((row or {}).get("kinds") or {}).get(kind) if kind else row)


def _kind_counts(mixtures: Sequence[Any]) -> list[str]:
    kinds = [item.facts.get("pair_kind") for item in mixtures]
    return [str(kinds.count(kind)) if any(kinds) else ABSENT for kind in KIND_TITLES]


def _length_cells(seconds: Sequence[float]) -> list[str]:
    if not seconds:
        return [ABSENT] * 3
    return [f"{sum(seconds) / 3600:.2f}", f"{sum(seconds) / len(seconds):.2f}", f"{max(seconds):.2f}"]


def _mouth_sheet(paths: Sequence[str]) -> str | None:
    """Draw the middle crop of mouths spread over all sets, as a ``data:`` address; None without crops."""
    from espnet_av.avss.lips import read_mouth

    distinct = list(dict.fromkeys(paths))
    pictures = []
    for path in distinct[:: max(1, len(distinct) // MOUTHS_SHOWN)][:MOUTHS_SHOWN]:
        try:
            frames = read_mouth(path, min_size=1)
        except DataError as error:
            logger.warning("%s is not shown in the report: %s", path, error)
            continue
        pictures.append(frames[len(frames) // 2])
    return data_uri(png_bytes(contact_sheet(pictures, MOUTH_COLUMNS)), "image/png") if pictures else None


def _percent(share: Any) -> str:
    return f"{100 * share:.1f}" if isinstance(share, (int, float)) else ABSENT


def _svg(content: bytes | None) -> str | None:
    return data_uri(content, "image/svg+xml") if content else None
