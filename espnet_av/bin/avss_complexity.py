# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What a separator costs: parameters, multiply-accumulates, file size, memory, time of a pass and a training step."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espnet_av.utils.cli import run_main
from espnet_av.utils.config import NestedDictAction, load_yaml


def get_parser() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(
        description="Count and measure what a separator costs.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--config", type=Path, help="training configuration; its model and model_conf are taken")
    parser.add_argument("--train_dir", type=Path, help="experiment or packed model; its config.yaml is taken")
    parser.add_argument("--model", default=None, help="rtfsnet, convtasnet, ... (of the configuration, or rtfsnet)")
    parser.add_argument(
        "--model_conf", action=NestedDictAction, default={}, help="keywords of the network, e.g. repeats=6"
    )
    parser.add_argument("--input_sec", type=float, default=2.0, help="length of the mixture")
    parser.add_argument("--runs", type=int, default=3, help="timed runs; 0 counts only")
    parser.add_argument("--train", choices=("true", "false"), default="true", help="measure a training step as well")
    parser.add_argument("--num_threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--output", type=Path, default=None, help="JSON file that receives the figures")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Print the cost of a network."""
    args = get_parser().parse_args(cmd)
    model, conf = read_model(args)
    from espnet_av.avss.complexity import cost_report, report_rows
    from espnet_av.report.results import markdown_table
    from espnet_av.utils.experiment import write_json

    report = cost_report(
        model,
        conf,
        input_sec=args.input_sec,
        num_threads=args.num_threads,
        device=args.device,
        runs=args.runs,
        train=args.train == "true",
    )
    if args.output is not None:
        write_json(args.output, report.to_dict())
    sys.stdout.write(markdown_table(["", "cost"], report_rows(report), right=2) + "\n")


def read_model(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Return name and keywords of the network: of a configuration, changed by the command line."""
    from espnet_av.avss.choices import DEFAULT_MODEL

    path = args.config or (args.train_dir / "config.yaml" if args.train_dir else None)
    config = {} if path is None else load_yaml(path)
    model = config.get("model") or DEFAULT_MODEL
    conf = dict(config.get("model_conf") or {})
    if args.model is not None and args.model != model:
        model, conf = args.model, {}
    return model, {**conf, **args.model_conf}


if __name__ == "__main__":
    sys.exit(run_main(main))
