# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Results of a speech codec: ``results.json`` for programs, ``RESULTS.md`` for people.

task: codec
rows:                       # per test set: the input as it is, the codec at each bit rate, Opus at each bit rate
  - {set: test, system: codec, bitrate_kbps: 6.0, n_utts: 50, pesq_wb: 2.9, stoi: 0.93, ..., metrics: [pesq_wb, ...],
     ci: {pesq_wb: [2.8, 3.0], ...}, n_undefined: {snr: 1}, skipped: {wer: no recogniser ...},
     codebooks: [{layer: 1, used: 900, size: 1024, perplexity: 612.0, bits: 9.3, num_frames: 15000}, ...]}
comparisons:                # paired over recordings
  - {set: test, first: {system: codec, bitrate_kbps: 6.0}, second: {system: codec, bitrate_kbps: 1.0},
     differences: {pesq_wb: {mean: 1.1, ci_low: 1.0, ci_high: 1.2, n: 50}, ...}}
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard

from espnet_av.codec.metrics import METRICS
from espnet_av.report.results import markdown_table, reproduce_section, stage_table
from espnet_av.utils.experiment import set_order
from espnet_av.utils.figures import ABSENT, percent

TASK = "codec"
CODEC, INPUT, OPUS = "codec", "input", "Opus"
SYSTEM_TITLES = {INPUT: "input, not coded", CODEC: "this codec"}
RATES = ("wer", "cer")  # shares, shown in per cent
TABLE_METRICS = (
    *("pesq_wb", "stoi", "estoi", "visqol", "dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak", "dnsmos_p808", "plcmos"),
    *("distill_mos", "si_sdr", "mel_distance", "stft_distance", "wer"),
)
COMPARED_METRICS = ("pesq_wb", "estoi", "visqol", "dnsmos_ovrl")  # the rest is in results.json
LOWER_IS_BETTER = frozenset({*RATES, *(name for name, metric in METRICS.items() if not metric.higher_is_better)})


def title_of(metric: str) -> str:
    """Return the title of a metric; those of other programs keep their names."""
    if metric in RATES:
        return f"{metric.upper()} (%)"
    return METRICS[metric].title if metric in METRICS else metric


def shown(metric: str, value: Any) -> str:
    """Format a value of a metric; a dash for what is no number."""
    if not is_number(value):
        return ABSENT
    if metric in RATES:
        return percent(value)
    digits = METRICS[metric].digits if metric in METRICS else 2
    return f"{round(value, digits) + 0.0:.{digits}f}"


def metric_cell(row: Mapping[str, Any], metric: str, *, interval: bool = False) -> str:
    """Format a mean, ``2.31`` or with its interval ``2.31 [2.25, 2.38]``."""
    text = shown(metric, row.get(metric))
    bounds = (row.get("ci") or {}).get(metric)
    if text == ABSENT or not interval or not bounds:
        return text
    return f"{text} [{shown(metric, bounds[0])}, {shown(metric, bounds[1])}]"


def system_title(row: Mapping[str, Any]) -> str:
    """Return what made the sound, for people."""
    return SYSTEM_TITLES.get(row["system"], str(row["system"]))


def rate_cell(row: Mapping[str, Any]) -> str:
    """Format a bit rate in kbit/s; that which was measured where it is known."""
    rate = row.get("measured_kbps")
    rate = row.get("bitrate_kbps") if rate is None else rate
    return f"{rate:.1f}" if is_number(rate) else ABSENT


def row_order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Sort key: sets in reading order; in them the input, this codec, other systems, Opus, each by bit rate."""
    places = {INPUT: 0, CODEC: 1, OPUS: 3}
    return (set_order(row["set"]), places.get(row["system"], 2), row["system"], row.get("bitrate_kbps") or 0.0)


def ordered(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return rows in the order of :func:`row_order`."""
    return sorted(rows, key=row_order)


def shown_metrics(rows: Iterable[Mapping[str, Any]], wanted: Sequence[str] = TABLE_METRICS) -> list[str]:
    """Return the metrics of ``wanted`` that a row has, and those of other programs."""
    rows = list(rows)
    names = [name for name in wanted if any(is_number(row.get(name)) for row in rows)]
    others = dict.fromkeys(name for row in rows for name in row.get("metrics") or () if name not in METRICS)
    return names + [name for name in others if any(is_number(row.get(name)) for row in rows)]


def main_table(
    rows: Sequence[Mapping[str, Any]], *, interval: bool = False, metrics: Sequence[str] | None = None
) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the main table: a row per set, system and bit rate, a column per metric."""
    names = shown_metrics(rows) if metrics is None else shown_metrics(rows, metrics)
    header = ["set", "system", "kbit/s", "recordings", *map(title_of, names)]
    body = [
        [
            row["set"],
            system_title(row),
            rate_cell(row),
            str(row.get("n_utts", ABSENT)),
            *(metric_cell(row, name, interval=interval) for name in names),
        ]
        for row in ordered(rows)
    ]
    return header, body


def comparison_table(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the differences between systems on the same recordings; no rows without any."""
    items = results.get("comparisons") or ()
    names = [name for name in COMPARED_METRICS if any(name in item["differences"] for item in items)]
    header = ["set", "compared", *map(title_of, names)]
    body = [
        [
            item["set"],
            f"{_side(item['first'])} minus {_side(item['second'])}",
            *(_difference_cell(name, item["differences"].get(name)) for name in names),
        ]
        for item in items
    ]
    return header, body


def usage_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the use of codebooks, from the highest bit rate of each set; no rows without codes."""
    header = ["set", "layer", "entries used", "of", "perplexity", "bits of 10"]
    best: dict[str, Mapping[str, Any]] = {}
    for row in ordered(rows):
        if row.get("codebooks") and row["system"] not in (INPUT, OPUS):
            known = best.get(row["set"])
            if known is None or (row.get("bitrate_kbps") or 0) > (known.get("bitrate_kbps") or 0):
                best[row["set"]] = row
    body = [
        [
            name,
            str(item["layer"]),
            str(item["used"]),
            str(item["size"]),
            f"{item['perplexity']:.1f}",
            f"{item['bits']:.2f}",
        ]
        for name, row in best.items()
        for item in row["codebooks"]
    ]
    if body:
        header[-1] = f"bits of {math.log2(int(body[0][3])):g}"
    return header, body


def skipped_metrics(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return metric and reason of everything that was not computed."""
    found: dict[tuple[str, str], None] = {}
    for row in rows:
        found |= dict.fromkeys((row.get("skipped") or {}).items())
    return list(found)


def particulars(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return sentences on what was left out of means or set to the worst value."""
    lines = []
    for row in ordered(rows):
        parts = []
        for key, text in (
            ("n_missing", "recordings are not decoded and left out"),
            ("n_silent", "references are silent and have no comparing metric"),
            ("n_silent_estimates", "decoded recordings are silent and have the worst PESQ, STOI, ViSQOL and SI-SDR"),
        ):
            if row.get(key):
                parts.append(f"{row[key]} {text}")
        undefined = {
            name: count
            for name, count in (row.get("n_undefined") or {}).items()
            if not (row["system"] == INPUT and name in ("snr", "si_sdr"))
        }
        parts += [f"{title_of(name)} is not defined for {count}" for name, count in undefined.items()]
        if parts:
            lines.append(f"{row['set']}, {_side(row)}: {'; '.join(parts)}.")
    return lines


def note(results: Mapping[str, Any]) -> str:
    """Return the sentences that belong under the main table."""
    rows, bootstrap = results["rows"], results.get("bootstrap") or {}
    lower = [title_of(name) for name in shown_metrics(rows) if name in LOWER_IS_BETTER]
    text = "Means over recordings; higher is better" + (f" except for {', '.join(lower)}. " if lower else ". ")
    if any(row["system"] == OPUS for row in rows):
        text += "Opus: libopus at constant bit rate, 20 ms packets; its rate is that of the packets without container. "
    if any(row["system"] == INPUT for row in rows):
        text += "Input: the sound before coding against the same reference, which shows what noise alone costs. "
    if any(row.get("ci") for row in rows):
        text += (
            f"Intervals: {round(100 * bootstrap.get('level', 0.95))} % confidence, "
            f"{bootstrap.get('num_resamples', ABSENT)} bootstrap draws of recordings. "
        )
    return text.strip()


def results_markdown(results: Mapping[str, Any], stages: Sequence[Mapping[str, Any]], title: str) -> str:
    """Return the text of ``RESULTS.md``.

    Args:
        results: Content of ``results.json``.
        stages: Lines of ``stages.jsonl``; may be empty.
        title: Name of the experiment.
    """
    rows = results["rows"]
    parts = [f"# Results of {title}", "## Quality over bit rate", markdown_table(*main_table(rows), right=2)]
    parts += [note(results), *particulars(rows)]
    skipped = skipped_metrics(rows)
    if skipped:
        parts += ["## Not computed", "\n".join(f"- {name}: skipped ({reason})" for name, reason in skipped)]
    header, body = comparison_table(results)
    if body:
        parts += ["## Differences on the same recordings", markdown_table(header, body, right=2)]
    header, body = usage_table(rows)
    if body:
        parts += ["## Use of the codebooks", markdown_table(header, body, right=1)]
    intervals = main_table(rows, interval=True)
    if any("[" in cell for line in intervals[1] for cell in line):
        parts += ["## With confidence intervals", markdown_table(*intervals, right=2)]
    parts += ["## How to reproduce", reproduce_section(results)]
    if stages:
        parts += ["## Time and memory", stage_table(stages)]
    return "\n\n".join(part for part in parts if part) + "\n"


def is_number(value: Any) -> TypeGuard[float]:
    """Tell whether this is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _side(part: Mapping[str, Any]) -> str:
    rate = part.get("bitrate_kbps")
    title = SYSTEM_TITLES.get(part["system"], str(part["system"]))
    return f"{title} {rate:g} kbit/s" if is_number(rate) else title


def _difference_cell(metric: str, item: Mapping[str, Any] | None) -> str:
    if item is None:
        return ABSENT
    signed = [_signed(metric, item.get(key)) for key in ("mean", "ci_low", "ci_high")]
    return signed[0] + (f" [{signed[1]}, {signed[2]}]" if ABSENT not in signed else "")


def _signed(metric: str, value: Any) -> str:
    text = shown(metric, value)
    return text if text == ABSENT or text.startswith("-") else f"+{text}"
