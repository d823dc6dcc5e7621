# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 3 for mixtures: leave out what is too short, too long, silent or damaged, each with a reason."""

import argparse
import sys
from collections.abc import Sequence

from espnet_av.utils.cli import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(prog="filter_mixtures", description=__doc__)
    parser.add_argument("--data_dir", required=True, metavar="DIR", help="data folder of stage 2")
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="data folder to make")
    parser.add_argument("--min_sec", type=float, default=0.12, help="shortest mixture kept")
    parser.add_argument("--max_sec", type=float, default=60.0, help="longest mixture kept")
    parser.add_argument(
        "--keep_silent", action="store_true", help="keep mixtures with a silent speaker; scoring counts them"
    )
    parser.add_argument("--nj", type=int, default=1, help="number of processes, each with one thread")
    parser.add_argument("--max_dropped_share", type=float, default=0.2, help="more lost mixtures fail the stage")
    parser.add_argument("--doctor_report", metavar="FILE", help="doctor.json; what it drops of this folder goes too")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_av.avss.format_mixtures import UseRules, filter_set

    rules = UseRules(args.min_sec, args.max_sec, args.keep_silent)
    line = filter_set(args.data_dir, args.output_dir, rules, args.nj, args.max_dropped_share, args.doctor_report)
    sys.stdout.write(f"{args.output_dir}: {line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
