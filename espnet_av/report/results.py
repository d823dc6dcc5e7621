# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The results of an experiment: ``results.json`` for programs, ``RESULTS.md`` for people."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.experiment import modality_order, read_json, read_stages, set_order, without_nan, write_json
from espnet_av.utils.figures import ABSENT, percent
from espnet_av.utils.files import atomic_write
from espnet_av.utils.progress import format_seconds

RESULTS_JSON = "results.json"
FORMAT = 1
RESULTS_MARKDOWN = "RESULTS.md"
MODALITY_TITLES = {"av": "audio-visual", "audio": "audio only", "video": "video only"}
DEFAULT_TASK = "avsr"  # of results that name none
ROW_KEYS = {
    "avsr": {"set", "modality", "wer"},
    "avss": {"set", "lips", "si_snri"},
    "codec": {"set", "system", "bitrate_kbps"},
    "avgen": {"set", "system"},
    "activesep": {"set", "system", "kind", "refined"},
}


def write_results(
    folder: str | Path,
    results: Mapping[str, Any],
    markdown: Callable[[Mapping[str, Any], list[dict[str, Any]], str], str] | None = None,
) -> dict[str, Any]:
    """Write ``results.json`` of any task: what is given, and its figures in the form that all tasks share.

    Args:
        folder: Experiment folder.
        results: Rows and where they come from; ``format`` is added, and ``scores`` of
            :mod:`espnet_av.report.scores`.
        markdown: Makes the text of ``RESULTS.md`` of results, stages of the experiment and a title; None: none is
            written.

    Returns:
        What was written.

    Raises:
        DataError: It does not fit ``results.schema.json``; nothing is written.
    """
    from espnet_av.report.schema import check_results
    from espnet_av.report.scores import score_dicts

    path = Path(folder) / RESULTS_JSON
    content = without_nan({"format": FORMAT, **results, "scores": score_dicts(results)})
    check_results(content, str(path))
    write_json(path, content)
    if markdown is not None:
        with atomic_write(path.with_name(RESULTS_MARKDOWN)) as stream:
            stream.write(markdown(content, read_stages(folder), Path(folder).name))
    return content


def read_results(path: str | Path) -> dict[str, Any]:
    """Read the results of an experiment folder or of a ``results.json``.

    Raises:
        MissingDataError: There are no results.
        DataError: The file has no list of rows with what rows of its task have, e.g. set, modality and WER.
    """
    path = Path(path)
    path = path / RESULTS_JSON if path.is_dir() else path
    content = read_json(path)
    if content is None:
        raise MissingDataError(
            describe(f"no results: {path} does not exist", fix="bash run.sh --stage 7 --stop_stage 7")
        )
    rows = content.get("rows") if isinstance(content, dict) else None
    needed = ROW_KEYS.get(content.get("task", DEFAULT_TASK), {"set"}) if rows is not None else set()
    if not isinstance(rows, list) or not all(isinstance(row, dict) and needed <= set(row) for row in rows):
        raise DataError(describe(f"{path} holds no result rows", fix="bash run.sh --stage 7 --stop_stage 7 --force"))
    return content


def wer_cell(row: Mapping[str, Any] | None) -> str:
    """Format WER and interval of a result row in per cent, ``4.2 [3.1, 5.5]``."""
    if row is None:
        return ABSENT
    low, high = percent(row.get("ci_low")), percent(row.get("ci_high"))
    return percent(row["wer"]) + (f" [{low}, {high}]" if ABSENT not in (low, high) else "")


def by_set(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Arrange rows as set -> modality -> row, sets in reading order; sets of silence have a table of their own."""
    table: dict[str, dict[str, Mapping[str, Any]]] = {}
    spoken = [row for row in rows if row.get("n_words") != 0] or rows
    for row in sorted(spoken, key=lambda item: set_order(item["set"])):
        table.setdefault(row["set"], {})[row["modality"]] = row
    return table


def modalities(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the modalities of the rows: av, audio, video, then others."""
    return sorted({row["modality"] for row in rows}, key=modality_order)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: int = 1) -> str:
    """Return a Markdown table with aligned columns; the columns from number ``right`` on are right-aligned."""
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in (header, *rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(header))]
    lines = []
    for row in cells:
        padded = [
            cell.ljust(width) if column < right else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f"| {' | '.join(padded)} |")
    rule = ["-" * width if column < right else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    lines.insert(1, f"| {' | '.join(rule)} |")
    return "\n".join(lines)


def wer_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the main table: one row per set, one column per modality, WER in per cent with its interval."""
    names = modalities(rows)
    header = ["set", "utterances", "words", *(MODALITY_TITLES.get(name, name) for name in names)]
    body = []
    for set_name, cells in by_set(rows).items():
        first = next(iter(cells.values()))
        sizes = [str(first.get("n_utts", ABSENT)), str(first.get("n_words", ABSENT))]
        body.append([set_name, *sizes, *(wer_cell(cells.get(name)) for name in names)])
    return markdown_table(header, body)


def detail_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the counts behind the main table: substitutions, deletions, insertions, CER."""
    header = ["set", "modality", "sub", "del", "ins", "del rate %", "CER %", "missing"]
    body = [
        [
            row["set"],
            row["modality"],
            *(str(row.get(key, ABSENT)) for key in ("sub", "del", "ins")),
            percent(row.get("deletion_rate")),
            percent(row.get("cer")),
            str(row.get("n_missing", 0)),
        ]
        for cells in by_set(rows).values()
        for row in sorted(cells.values(), key=lambda item: modality_order(item["modality"]))
    ]
    return markdown_table(header, body, right=2)


def ratio_table(ratios: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of WER(audio-visual) / WER(audio only) with paired intervals."""
    body = [[item["set"], ratio_cell(item)] for item in ratios]
    return markdown_table(["set", "WER audio-visual / WER audio only"], body)


def ratio_cell(item: Mapping[str, Any]) -> str:
    """Format a ratio and its interval, ``0.52 [0.41, 0.63]``."""
    values = [item.get(key) for key in ("ratio", "ci_low", "ci_high")]
    texts = [ABSENT if value is None or not math.isfinite(value) else f"{value:.2f}" for value in values]
    return texts[0] + (f" [{texts[1]}, {texts[2]}]" if ABSENT not in texts else "")


def stage_table(stages: Sequence[Mapping[str, Any]]) -> str:
    """Return time and peak memory of each stage."""
    return markdown_table(["stage", "name", "wall time", "CPU time", "peak memory"], stage_rows(stages), right=2)


def stage_rows(stages: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return number, name, wall time, CPU time and peak memory of each stage as text, with a total at the end."""
    rows = [
        [
            str(item.get("stage", ABSENT)),
            str(item.get("name", ABSENT)),
            _seconds(item.get("wall_s")),
            _seconds(item.get("cpu_s")),
            _megabytes(item.get("max_rss_mb")),
        ]
        for item in stages
    ]
    if len(rows) > 1:
        totals = [sum(_number(item.get(key)) for item in stages) for key in ("wall_s", "cpu_s")]
        peak = max(_number(item.get("max_rss_mb")) for item in stages)
        rows.append(["", "all", _seconds(totals[0]), _seconds(totals[1]), _megabytes(peak)])
    return rows


def results_markdown(results: Mapping[str, Any], stages: Sequence[Mapping[str, Any]], title: str) -> str:
    """Return the text of ``RESULTS.md``.

    Args:
        results: Content of ``results.json``.
        stages: Lines of ``stages.jsonl``; may be empty.
        title: Name of the experiment.
    """
    rows = results["rows"]
    interval = results.get("bootstrap", {})
    parts = [
        f"# Results of {title}",
        f"## Word error rate (%) with {round(100 * interval.get('level', 0.95))} % confidence interval",
        wer_table(rows),
        _interval_note(results),
        *_average_section(results),
    ]
    if results.get("ratios"):
        parts += ["## Does the video help?", ratio_table(results["ratios"])]
        parts.append("Below 1 the audio-visual system makes fewer errors than the same system without video.")
    parts += ["## Kinds of errors", detail_table(rows), *_silence_section(rows)]
    parts += ["## How to reproduce", reproduce_section(results)]
    if stages:
        parts += ["## Time and memory", stage_table(stages)]
    return "\n\n".join(parts) + "\n"


def _average_section(results: Mapping[str, Any]) -> list[str]:
    """Means over sets and the sets that are missing from them, where there are such."""
    parts = []
    if averages := results.get("averages"):
        body = [[item["title"], str(item["num_sets"]), wer_cell(item)] for item in averages]
        if any(item.get("silent_ins_per_min") is not None for item in averages):
            body = [[*row, _rate(item.get("silent_ins_per_min"))] for row, item in zip(body, averages, strict=True)]
        header = ["average", "sets", "WER %", "words per silent minute"][: len(body[0])]
        parts.append(markdown_table(header, body))
    if absent := results.get("absent"):
        parts.append(f"**Not there and left out:** {', '.join(absent)}.")
    skipped = sum(row.get("n_skipped", 0) for row in results["rows"])
    return parts + ([f"**{skipped} clips could not be used and are left out.**"] if skipped else [])


def _interval_note(results: Mapping[str, Any]) -> str:
    interval = results.get("bootstrap", {})
    note = (
        f"WER = (substitutions + deletions + insertions) / reference words, text normalisation "
        f"`{results.get('normalization', 'none')}`. Intervals: {interval.get('num_resamples', ABSENT)} bootstrap draws "
        f"of {interval.get('unit', 'utterance')}s, seed {interval.get('seed', ABSENT)}."
    )
    missing = sum(row.get("n_missing", 0) for row in results["rows"])
    return note + (f" **{missing} missing hypotheses are counted as deletions.**" if missing else "")


def _silence_section(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    silent = [row for row in rows if row.get("n_silent")]
    if not silent:
        return []
    body = [
        [
            row["set"],
            row["modality"],
            str(row["n_silent"]),
            str(row["silent_ins"]),
            _rate(row.get("silent_ins_per_min")),
        ]
        for row in silent
    ]
    header = ["set", "modality", "silent clips", "words invented", "words per minute"]
    return ["## Silent faces", markdown_table(header, body, right=2)]


def reproduce_section(results: Mapping[str, Any]) -> str:
    """Return where the numbers come from, as a Markdown list, and the commands that make them."""
    facts = [
        ("date", results.get("date")),
        ("commit of the training", results.get("train_commit")),
        ("commit of the scoring", results.get("commit")),
        ("seed of the training", results.get("seed")),
        ("digest of the configuration", results.get("config_digest")),
        ("versions", ", ".join(f"{name} {value}" for name, value in results.get("versions", {}).items())),
    ]
    lines = [f"- {name}: `{value}`" for name, value in facts if value not in (None, "")]
    commands = [line for line in (results.get("train_command"), results.get("command")) if line]
    return "\n".join(lines) + ("\n\n```bash\n" + "\n".join(commands) + "\n```" if commands else "")


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0.0


def _seconds(value: Any) -> str:
    return format_seconds(value) if isinstance(value, (int, float)) else ABSENT


def _megabytes(value: Any) -> str:
    return f"{value:,.0f} MB" if isinstance(value, (int, float)) and value else ABSENT


def _rate(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, (int, float)) else ABSENT
