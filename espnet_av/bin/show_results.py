# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Print the results of one or many experiments."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import MissingDataError, describe


def get_parser() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description="Print the result tables below the given folders.")
    whose = "experiments, or folders of them (default: exp)"
    parser.add_argument("paths", nargs="*", type=Path, default=[Path("exp")], help=whose)
    how = "Markdown tables, or one row per line (default: md)"
    parser.add_argument("--format", choices=("md", "tsv"), default="md", help=how)
    return parser


def main(cmd: Sequence[str] | None = None) -> int | None:
    """Print every ``results.json`` below the paths."""
    args = get_parser().parse_args(cmd)
    from espnet_av.report.results import RESULTS_JSON, read_results

    found: list[Path] = []
    for path in args.paths:
        below = [path] if path.is_file() else sorted(path.rglob(RESULTS_JSON))
        if not below:
            raise MissingDataError(
                describe(f"no {RESULTS_JSON} below {path}", fix="bash run.sh --stage 7 --stop_stage 7")
            )
        found.extend(item for item in below if item not in found)
    shown_columns: tuple[str, ...] | None = None
    for path in found:
        results = read_results(path)
        if args.format == "tsv":
            columns = _columns(results)
            if columns != shown_columns:  # experiments of another task have other columns
                sys.stdout.write("\t".join(("run", *columns)) + "\n")
                shown_columns = columns
            _write_rows(path.parent, _rows(results, columns), columns)
            continue
        sys.stdout.write(f"# {path.parent}\n\n{_tables(results)}\n\n")
    return None


def _tables(results: Mapping[str, Any]) -> str:
    from espnet_av.report.results import markdown_table, ratio_table, wer_table

    if results.get("task") == "avss":
        from espnet_av.report.separation_results import kind_table, main_table

        parts = [markdown_table(*table(results["rows"]), right=2) for table in (main_table, kind_table)]
        return "\n\n".join(part for part in parts if part.count("\n") > 1)  # without a body: kinds are not known
    if results.get("task") == "codec":
        from espnet_av.report.codec_results import main_table as codec_table

        return markdown_table(*codec_table(results["rows"]), right=2)
    if results.get("task") == "avgen":
        from espnet_av.report.avgen_results import main_table as generation_table

        return markdown_table(*generation_table(results["rows"]), right=2)
    if results.get("task") == "activesep":
        from espnet_av.report.activesep_results import main_table as active_table

        return markdown_table(*active_table(results["rows"]), right=2)
    ratios = [ratio_table(results["ratios"])] if results.get("ratios") else []
    return "\n\n".join((wer_table(results["rows"]), *ratios))


def _columns(results: Mapping[str, Any]) -> tuple[str, ...]:
    if results.get("task") == "avss":
        from espnet_av.avss.pair_scores import METRICS

        return ("set", "lips", "n_mixtures", "n_pairs", "si_snri", "ci_low", "ci_high", *list(METRICS)[1:])
    if results.get("task") == "codec":
        from espnet_av.report.codec_results import shown_metrics

        return ("set", "system", "bitrate_kbps", "n_utts", *shown_metrics(results["rows"]))
    if results.get("task") == "avgen":
        from espnet_av.report.avgen_results import filled_metrics

        return ("set", "system", "n_utts", "n_samples", *filled_metrics(results["rows"]))
    if results.get("task") == "activesep":
        from espnet_av.report.activesep_results import main_table as active_table

        return tuple(active_table(results["rows"])[0])
    return ("set", "modality", "n_utts", "n_words", "wer", "ci_low", "ci_high", "sub", "del", "ins", "cer")


def _rows(results: Mapping[str, Any], columns: Sequence[str]) -> Sequence[dict]:
    if results.get("task") != "activesep":
        return results["rows"]
    from espnet_av.report.activesep_results import main_table

    return [dict(zip(columns, cells, strict=True)) for cells in main_table(results["rows"])[1]]


def _write_rows(folder: Path, rows: Sequence[dict], columns: Sequence[str]) -> None:
    for row in rows:
        values = ("" if row.get(column) is None else str(row[column]) for column in columns)
        sys.stdout.write("\t".join((str(folder), *values)) + "\n")


if __name__ == "__main__":
    sys.exit(run_main(main))
