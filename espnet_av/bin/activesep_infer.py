# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 6: let a policy or a baseline of an experiment play the test sets."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import usage_error


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Any setting of espnet_av/activesep/evaluation_run.py (EvaluationRun, WorldOptions) can be given as "
        "--NAME VALUE and is put over the file. Values are read as YAML.",
    )
    parser.add_argument("--exp_dir", type=Path, required=True, help="the experiment, with best.json")
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings")
    parser.add_argument("--system", required=True, help="a reward of the experiment, or a mover: stand, rotate, ...")
    parser.add_argument(
        "--sets", nargs="+", required=True, metavar="SET=CLIPS", help="splits with their folder of clips"
    )
    parser.add_argument("--max_agents", type=int, default=0, help="play with the first so many seeds only; 0: all")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Play, and show the returns."""
    args, settings = get_parser().parse_known_args(cmd)
    from espnet_av.activesep.checkpoint_search import agents_of, play
    from espnet_av.activesep.eval_results import EvaluationResult
    from espnet_av.activesep.evaluation_run import build_run
    from espnet_av.bin.activesep_train import merge_settings

    values = merge_settings(args.config, settings)
    agents = agents_of(args.exp_dir, args.system, limit=args.max_agents)
    for item in args.sets:
        name, equals, clips = item.partition("=")
        if not (name and equals and clips):
            usage_error("--sets takes a split and its folder of clips", got=item, allowed="SET=CLIPS")
        run = build_run({**values, "output_dir": str(args.exp_dir), "clips": clips, "split": name})
        for path in play(dataclasses.replace(run), args.exp_dir, args.system, agents):
            mean = EvaluationResult.read(path).summary()["return"]["mean"]
            sys.stdout.write(f"{name}, {args.system}, {path.parent.name}: return {mean:.3f}\n")


if __name__ == "__main__":
    sys.exit(run_main(main))
