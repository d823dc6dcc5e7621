# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 5c: find the best checkpoint of each policy of an experiment on validation episodes, in one process."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.utils.cli import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        prog="activesep_search",
        epilog="Any setting of espnet_av/activesep/evaluation_run.py (EvaluationRun, WorldOptions) can be given as "
        "--NAME VALUE and is put over the file. Values are read as YAML.",
    )
    parser.add_argument("--exp_dir", type=Path, required=True, help="the experiment")
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings")
    parser.add_argument(
        "--policies", nargs="+", default=[], metavar="NAME", help="<reward>_seed<k>; default: all there are"
    )
    parser.add_argument("--given_model", metavar="MODEL", help="search nothing: the experiment is about this agent")
    parser.add_argument("--first", type=int, default=0, help="leave out checkpoints with smaller numbers")
    parser.add_argument("--interval", type=int, default=1, help="take every so-manyth checkpoint")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Search, and show what was found."""
    args, settings = get_parser().parse_known_args(cmd)
    from espnet_av.activesep.checkpoint_search import MAIN_REWARD, search_policies, write_best
    from espnet_av.activesep.evaluation_run import build_run
    from espnet_av.bin.activesep_train import merge_settings

    args.exp_dir.mkdir(parents=True, exist_ok=True)
    if args.given_model:
        path = Path(args.given_model).resolve()
        facts = {"reward": MAIN_REWARD, "seed": 0, "checkpoint": str(path), "stft_l2": None, "return": None}
        best = write_best(args.exp_dir, {f"{MAIN_REWARD}_seed0": facts}, None)
    else:
        names = args.policies or sorted(path.parent.name for path in args.exp_dir.glob("policy/*_seed*/data"))
        run = build_run({**merge_settings(args.config, settings), "output_dir": str(args.exp_dir)})
        best = search_policies(run, args.exp_dir, names, first=args.first, interval=args.interval)
    for name, facts in best["policies"].items():
        sys.stdout.write(f"{name}: {facts['checkpoint']}, STFT distance {facts['stft_l2']}\n")
    sys.stdout.write(f"chosen: {best['chosen']}\n")


if __name__ == "__main__":
    sys.exit(run_main(main))
