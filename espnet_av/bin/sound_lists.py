# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 4 of a codec that enhances: check the lists of noises and room responses and write them in one form.

Lines may have two columns or three; the new lists have two.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.utils.cli import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(prog="sound_lists", description=__doc__)
    parser.add_argument("--lists_dir", required=True, type=Path, help="folder of {noise,noise_val,rirs,rirs_val}.scp")
    parser.add_argument("--output_dir", required=True, type=Path, help="where the checked lists go")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_av.data.sound_lists import prepare_lists

    about = prepare_lists(args.lists_dir, args.output_dir)
    counts = ", ".join(f"{name} {entry['num_sounds']}" for name, entry in about.items())
    sys.stdout.write(f"{args.output_dir}: {counts}\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
