# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Train the policy and the memory of an active separation agent; in several processes with ``torchrun``."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from espnet_av.utils.cli import run_main
from espnet_av.utils.config import load_yaml, parse_value


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        usage="%(prog)s [--config FILE] [--NAME VALUE ...]",
        epilog="Any setting can be given as --NAME VALUE and is put over the file: those of "
        "espnet_av/activesep/runner.py (WorldOptions, PolicyTraining) and espnet_av/train/ppo_options.py (PPOOptions). "
        "Values are read as YAML.",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings")
    return parser


def read_settings(arguments: Sequence[str]) -> dict[str, Any]:
    """Read ``--name value`` pairs.

    Raises:
        UsageError: A name without ``--``, or without a value.
    """
    from espnet_av.utils.errors import usage_error

    found: dict[str, Any] = {}
    left = list(arguments)
    while left:
        name, equals, value = left.pop(0).partition("=")
        if not name.startswith("--"):
            usage_error("a setting is written --name value", name)
        if not equals:
            if not left:
                usage_error("a setting without a value", name)
            value = left.pop(0)
        found[name[2:]] = parse_value(value)
    return found


def merge_settings(config: str | None, arguments: Sequence[str]) -> dict[str, Any]:
    """Return the settings of a file with those of the command line put over them; mappings are merged."""
    values = {} if config is None else load_yaml(config)
    for name, value in read_settings(arguments).items():
        both = isinstance(value, dict) and isinstance(values.get(name), dict)
        values[name] = {**values[name], **value} if both else value
    return values


def main(cmd: Sequence[str] | None = None) -> None:
    """Train; exit code 99 after SIGTERM, when the state is saved."""
    args, settings = get_parser().parse_known_args(cmd)
    from espnet_av.activesep.runner import build_training, train

    train(build_training(merge_settings(args.config, settings)))


if __name__ == "__main__":
    sys.exit(run_main(main))
