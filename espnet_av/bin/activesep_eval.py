# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluate active separation agents: one of them, or all checkpoints of a training to find the best."""

import argparse
import sys
from collections.abc import Sequence

from espnet_av.utils.cli import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        usage="%(prog)s [--config FILE] --model MODEL --output_dir DIR [--NAME VALUE ...]",
        epilog="Any setting of espnet_av/activesep/evaluation_run.py (EvaluationRun, WorldOptions) can be given as "
        "--NAME VALUE and is put over the file. Values are read as YAML.",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings")
    parser.add_argument(
        "--search", metavar="DIR", help="evaluate all ckpt.<k>.pth of this folder and name the best of them"
    )
    parser.add_argument("--first", type=int, default=0, help="of a search: leave out smaller numbers")
    parser.add_argument("--interval", type=int, default=1, help="of a search: take every so-manyth checkpoint")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Evaluate, and show the means."""
    args, settings = get_parser().parse_known_args(cmd)
    from espnet_av.activesep.evaluation_run import build_run, run_evaluation, search
    from espnet_av.activesep.runner import checkpoints
    from espnet_av.bin.activesep_train import merge_settings

    run = build_run(merge_settings(args.config, settings))
    if args.search:
        best = search(run, checkpoints(args.search, first=args.first, interval=args.interval))
        sys.stdout.write(f"{best}\n")
        return
    summary = run_evaluation(run).summary()
    for kind, columns in summary.items():
        if kind == "return":
            sys.stdout.write(f"return: {columns['mean']:.3f} (std {columns['std']:.3f})\n")
            continue
        for column, metrics in columns.items():
            values = ", ".join(f"{name} {facts['mean']:.3f}" for name, facts in metrics.items() if facts["count"])
            sys.stdout.write(f"{kind} {column}: {values}\n")


if __name__ == "__main__":
    sys.exit(run_main(main))
