# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 2 for sound alone: one rate, mono, 16-bit PCM, segments cut out, lengths counted.

Files that are right already are used where they lie. The output folder appears when everything is done.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.utils.cli import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(prog="format_audio", description=__doc__)
    parser.add_argument("--data_dir", required=True, metavar="DIR", help="data folder with wav.scp")
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="data folder to make")
    parser.add_argument("--audio_dir", required=True, type=Path, metavar="DIR", help="where converted sound goes")
    parser.add_argument("--fs", type=int, default=24000, help="sample rate in Hz")
    parser.add_argument("--audio_format", default="wav", help="wav or flac")
    parser.add_argument("--nj", type=int, default=1, help="number of processes, each with one thread")
    parser.add_argument("--max_dropped_share", type=float, default=0.02, help="more lost utterances fail the stage")
    parser.add_argument("--max_utterances", type=int, default=None, help="take only so many, spread over the set")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_av.data.audio_format import FormatRules, format_audio_set

    rules = FormatRules(args.audio_dir, args.fs, args.audio_format)
    line = format_audio_set(args.data_dir, args.output_dir, rules, args.nj, args.max_dropped_share, args.max_utterances)
    sys.stdout.write(f"{args.output_dir}: {line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
