# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stages 2 and 3 of generation: check the files of recordings, drop useless ones, write the actor's voice alone.

avgen_format check  --data_dir data/train --output_dir dump/org/train
avgen_format filter --data_dir dump/org/train --output_dir dump/filtered/train
avgen_format sounds --data_dir dump/train --output_dir dump/sound_22050/train --fs 22050
"""

import argparse
import sys
from collections.abc import Sequence

from espnet_av.utils.cli import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(
        prog="avgen_format", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    about = {
        "check": "open every file; drop what cannot be used",
        "filter": "drop recordings that are too short, silent, without a face",
        "sounds": "write the first channel at one rate",
    }
    own = {name: commands.add_parser(name, help=text, description=text) for name, text in about.items()}
    for sub in own.values():
        sub.add_argument("--data_dir", required=True, metavar="DIR", help="data folder to read")
        sub.add_argument("--output_dir", required=True, metavar="DIR", help="data folder to make")
        sub.add_argument("--nj", type=int, default=1, help="number of processes (1)")
    for name in ("check", "filter"):
        own[name].add_argument("--max_dropped_share", type=float, default=0.1, help="more drops fail the stage (0.1)")
    own["check"].add_argument("--max_recordings", type=int, default=None, help="take only so many, spread over the set")
    own["filter"].add_argument("--min_sec", type=float, default=1.0, help="shortest recording (1)")
    own["filter"].add_argument("--max_sec", type=float, default=0.0, help="longest recording; 0: no limit (0)")
    own["filter"].add_argument(
        "--max_missing_share", type=float, default=0.5, help="share of frames in which the face may be lost (0.5)"
    )
    own["filter"].add_argument("--participant", action="store_true", help="drop recordings without a partner")
    own["sounds"].add_argument("--fs", type=int, required=True, help="sample rate in Hz")
    own["sounds"].add_argument("--with_text", action="store_true", help="leave out recordings without a text")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_av.avgen.check_set import FilterRules, check_set, filter_set, write_sounds

    places = (args.data_dir, args.output_dir)
    if args.command == "check":
        line = check_set(
            *places, max_dropped_share=args.max_dropped_share, max_recordings=args.max_recordings, nj=args.nj
        )
    elif args.command == "filter":
        rules = FilterRules(args.min_sec, args.max_sec, args.max_missing_share, participant=args.participant)
        line = filter_set(*places, rules, max_dropped_share=args.max_dropped_share, nj=args.nj)
    else:
        line = f"{write_sounds(*places, args.fs, with_text=args.with_text, nj=args.nj)} recordings at {args.fs} Hz"
    sys.stdout.write(f"{args.output_dir}: {line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
