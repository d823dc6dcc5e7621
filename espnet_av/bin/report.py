# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 8: write the one-file HTML report of an experiment."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.utils.cli import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the options of the report."""
    parser = argparse.ArgumentParser(
        description="Write one HTML file with curves, results, sound and pictures of an experiment; it opens offline.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--exp_dir", type=Path, required=True, help="experiment folder of stages 5-7")
    parser.add_argument("--dump_dir", type=Path, default=Path("dump"), help="data folders of stage 3")
    parser.add_argument("--output", type=Path, help="the page; <exp_dir>/report.html when not given")
    parser.add_argument("--title", help="heading; the name of the experiment folder when not given")
    parser.add_argument("--num_worst", type=int, default=10, help="utterances with the most errors")
    parser.add_argument("--num_noisy", type=int, default=4, help="typical utterances of the noisiest set")
    parser.add_argument("--num_typical", type=int, default=2, help="typical mixtures of each kind of pair (separators)")
    parser.add_argument("--max_media_mb", type=float, default=14.0, help="room for sound and pictures of utterances")
    parser.add_argument(
        "--published", type=Path, default=Path("conf/published.yaml"), help="other people's numbers, where it exists"
    )
    parser.add_argument("--alignment", choices=("true", "false"), default="true", help="draw where the model looks")
    parser.add_argument("--alignment_set", help="test set of that picture; the first clean one when not given")
    parser.add_argument("--alignment_utt", help="utterance of that picture; a typical one when not given")
    return parser


def main(cmd: Sequence[str] | None = None) -> int | None:
    """Write the report, and its figures into ``images`` of the experiment; prints the path of the page."""
    args = get_parser().parse_args(cmd)
    from espnet_av.report.page import ReportOptions, write_report

    options = ReportOptions(
        num_worst=args.num_worst,
        num_noisy=args.num_noisy,
        num_typical=args.num_typical,
        max_media_bytes=round(args.max_media_mb * 1e6),
        title=args.title,
        published=args.published,
        alignment=args.alignment == "true",
        alignment_set=args.alignment_set,
        alignment_utt=args.alignment_utt,
        images_dir=args.exp_dir / "images",
    )
    path = write_report(args.exp_dir, args.dump_dir, args.output or args.exp_dir / "report.html", options)
    sys.stdout.write(f"report: {path} ({path.stat().st_size / 1e6:.1f} MB)\n")
    return None


if __name__ == "__main__":
    sys.exit(run_main(main))
