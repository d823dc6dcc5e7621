# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 4b: compute means, deviations and ranges of a training set for the generator, one .npz file."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espnet_av.utils.cli import run_main
from espnet_av.utils.config import NestedDictAction


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(prog="avgen_statistics", description=__doc__)
    parser.add_argument("folder", type=Path, help="data folder, or a folder in a published layout")
    parser.add_argument("output", type=Path, help=".npz file to write")
    parser.add_argument(
        "--face",
        default="per_value",
        choices=["per_value", "flat", "none"],
        help="deviation of face codes: of each value, one for all, or codes as they are (published system)",
    )
    parser.add_argument("--face_basis", help=".npz that tells what face codes mean (default: found beside the data)")
    parser.add_argument("--participant", action="store_true", help="the range of the partner's face too")
    parser.add_argument("--dataset_conf", action=NestedDictAction, default={}, help="as in training: name=value")
    parser.add_argument("--config", type=Path, help="training of the generator; its dataset_conf and participant_cond")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one key of --config")
    parser.add_argument("--most_windows", type=int, default=1000, help="look at no more windows than this")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_av.avgen import statistics
    from espnet_av.avgen.dataset import open_windows

    told, participant = read_training(args)
    options = {"subset": "train", **told, **args.dataset_conf}
    windows = open_windows(args.folder, train=False, participant=participant or args.participant, **options)
    found = statistics.compute_statistics(
        windows,
        face=args.face,
        mouth=statistics.mouth_direction(args.folder, args.face_basis),
        partner_range=statistics.published_range([args.folder]),
        most_windows=args.most_windows,
    )
    statistics.write_statistics(args.output, found)
    sys.stdout.write(f"{args.output}: {', '.join(found)} of {windows!r}\n")
    return 0


def read_training(args: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """Return ``dataset_conf`` of the training, and whether it looks at the partner."""
    from espnet_av.utils.config import load_yaml, parse_value, set_nested
    from espnet_av.utils.errors import usage_error

    config = {} if args.config is None else load_yaml(args.config)
    for pair in args.set:
        name, equals, value = pair.partition("=")
        if not equals:
            usage_error("--set takes KEY=VALUE", pair)
        set_nested(config, name, parse_value(value))
    return dict(config.get("dataset_conf") or {}), bool((config.get("model_conf") or {}).get("participant_cond"))


if __name__ == "__main__":
    sys.exit(run_main(main))
