# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 3: leave out utterances that training cannot use, each with a reason and a count (filter_report.json)."""

import argparse
import sys
from collections.abc import Sequence

from espnet_av.utils.cli import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", required=True, metavar="DIR", help="data folder of stage 2")
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="data folder to make")
    parser.add_argument("--min_sec", type=float, default=0.4, help="shortest utterance in seconds")
    parser.add_argument("--max_sec", type=float, default=15.0, help="longest utterance in seconds")
    parser.add_argument(
        "--max_drift_frames", type=float, default=2.0, help="largest difference of sound and video in frames"
    )
    parser.add_argument("--keep_empty_text", action="store_true", help="keep utterances with an empty transcript")
    parser.add_argument("--skip_media_check", action="store_true", help="look at the tables only, not into the files")
    parser.add_argument("--max_dropped_share", type=float, default=0.2, help="more dropped than this fail the stage")
    parser.add_argument("--doctor_report", metavar="FILE", help="doctor.json; what it drops of this folder goes too")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_av.data.filter_set import FilterRules, filter_set

    rules = FilterRules(
        min_sec=args.min_sec,
        max_sec=args.max_sec,
        max_drift_frames=args.max_drift_frames,
        keep_empty_text=args.keep_empty_text,
        check_media=not args.skip_media_check,
    )
    line = filter_set(
        args.data_dir,
        args.output_dir,
        rules,
        max_dropped_share=args.max_dropped_share,
        doctor_report=args.doctor_report,
    )
    sys.stdout.write(f"{args.output_dir}: {line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
