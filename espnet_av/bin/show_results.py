# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Print the results of one or many experiments."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import MissingDataError, describe


def get_parser() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(
        description="Print the result tables below the given folders.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("paths", nargs="*", type=Path, default=[Path("exp")], help="experiments, or folders of them")
    parser.add_argument("--format", choices=("md", "tsv"), default="md", help="Markdown tables, or one row per line")
    return parser


def main(cmd: Sequence[str] | None = None) -> int | None:
    """Print every ``results.json`` below the paths."""
    args = get_parser().parse_args(cmd)
    from espnet_av.report.results import RESULTS_JSON, ratio_table, read_results, wer_table

    found: list[Path] = []
    for path in args.paths:
        below = [path] if path.is_file() else sorted(path.rglob(RESULTS_JSON))
        if not below:
            raise MissingDataError(
                describe(f"no {RESULTS_JSON} below {path}", fix="bash run.sh --stage 7 --stop_stage 7")
            )
        found.extend(item for item in below if item not in found)
    for number, path in enumerate(found):
        results = read_results(path)
        if args.format == "tsv":
            _write_rows(path.parent, results["rows"], with_header=number == 0)
            continue
        sys.stdout.write(f"# {path.parent}\n\n{wer_table(results['rows'])}\n\n")
        if results.get("ratios"):
            sys.stdout.write(ratio_table(results["ratios"]) + "\n\n")
    return None


def _write_rows(folder: Path, rows: Sequence[dict], *, with_header: bool) -> None:
    columns = ("set", "modality", "n_utts", "n_words", "wer", "ci_low", "ci_high", "sub", "del", "ins", "cer")
    if with_header:
        sys.stdout.write("\t".join(("run", *columns)) + "\n")
    for row in rows:
        values = ("" if row.get(column) is None else str(row[column]) for column in columns)
        sys.stdout.write("\t".join((str(folder), *values)) + "\n")


if __name__ == "__main__":
    sys.exit(run_main(main))
