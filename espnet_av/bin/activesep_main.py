# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The command line of the published active separation program, on this package.

``--exp-config FILE --model-dir DIR --run-type train|eval [--eval-interval N] [--prev-ckpt-ind K] [KEY VALUE ...]``
takes its experiment and task files. A training goes on in a folder that holds one, and asks nothing; an evaluation
ends after the last checkpoint.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.utils.cli import LOG_FORMAT, run_main
from espnet_av.utils.errors import usage_error


def get_parser() -> argparse.ArgumentParser:
    """Return the parser; options may be written with dashes too."""
    parser = argparse.ArgumentParser(
        description=__doc__, prog="activesep_main", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run_type", choices=["train", "eval"], default="train", help="train, or evaluate checkpoints")
    parser.add_argument("--exp_config", required=True, help="experiment file; several with commas, the last wins")
    parser.add_argument("--model_dir", default=None, help="everything is written below it")
    parser.add_argument("--eval_interval", type=int, default=1, help="evaluate every so-manyth checkpoint")
    parser.add_argument("--prev_ckpt_ind", type=int, default=-1, help="number of the checkpoint evaluated last")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="put over the files")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Train or evaluate."""
    words = [_underscores(word) for word in (sys.argv[1:] if cmd is None else cmd)]
    args = get_parser().parse_args(words)
    late = [word for word in args.opts if word.startswith("--")]
    if late:
        usage_error("an option after the first KEY VALUE pair", late[0], fix="write options before KEY VALUE pairs")
    if args.model_dir is None:
        usage_error("--model-dir is not given", fix="pass --model-dir FOLDER")
    from espnet_av.activesep.main_config import read_config
    from espnet_av.activesep.main_run import run
    from espnet_av.tasks.activesep import ActiveSepTask

    config = read_config(args.exp_config.split(","), args.opts)
    folder = Path(args.model_dir)
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(config["LOG_FILE"] or folder / "train.log")
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    root = logging.getLogger()
    root.addHandler(handler)
    if config["DEBUG"]:
        root.setLevel(logging.DEBUG)
    try:
        options = (args.eval_interval, args.prev_ckpt_ind)
        run(config, args.run_type, folder, options, train_separators=lambda words: ActiveSepTask.main(cmd=words))
    finally:
        root.removeHandler(handler)
        handler.close()


def _underscores(word: str) -> str:
    name, equals, value = word.partition("=")
    return f"{name.replace('-', '_').replace('__', '--', 1)}{equals}{value}" if word.startswith("--") else word


if __name__ == "__main__":
    sys.exit(run_main(main))
