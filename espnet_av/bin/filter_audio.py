# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 3 for sound alone: leave out utterances that are too short or too long, each with a reason."""

import argparse
import sys
from collections.abc import Sequence

from espnet_av.utils.cli import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(prog="filter_audio", description=__doc__)
    parser.add_argument("--data_dir", required=True, metavar="DIR", help="data folder of stage 2")
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="data folder to make")
    parser.add_argument("--min_wav_duration", type=float, default=2.9, help="seconds; longer utterances are kept")
    parser.add_argument("--max_wav_duration", type=float, default=240.0, help="seconds; shorter utterances are kept")
    parser.add_argument("--max_dropped_share", type=float, default=1.0, help="more lost utterances fail the stage")
    parser.add_argument("--doctor_report", metavar="FILE", help="doctor.json; what it drops of this folder goes too")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_av.data.audio_format import filter_audio_set

    limits = (args.min_wav_duration, args.max_wav_duration)
    line = filter_audio_set(args.data_dir, args.output_dir, limits, args.max_dropped_share, args.doctor_report)
    sys.stdout.write(f"{args.output_dir}: {line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
