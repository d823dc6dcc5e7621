# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What a codec costs by the counting of the LRAC challenge, and whether it keeps the limits of the tracks."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from espnet_av.codec.presets import PRESETS, TRACK_LIMITS
from espnet_av.utils.cli import run_main
from espnet_av.utils.config import load_yaml
from espnet_av.utils.errors import MissingDataError, describe


def get_parser() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(
        description="Count the operations, latency, bit rate and memory of a codec. Exit code 1: a limit of --track is "
        "not kept.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("model", help=f"training configuration, experiment or packed model, or one of {list(PRESETS)}")
    parser.add_argument("--track", choices=list(TRACK_LIMITS), help="check the limits of this track, not of all")
    parser.add_argument("--verbose", action="store_true", help="list every layer")
    parser.add_argument("--speed", choices=("true", "false"), default="false", help="measure real-time factors")
    parser.add_argument("--num_threads", type=int, default=1, help="CPU threads for --speed")
    parser.add_argument("--output", type=Path, default=None, help="JSON file that receives the figures")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Print the cost of a codec."""
    args = get_parser().parse_args(cmd)
    name, conf = read_model(args.model)
    import torch

    from espnet_av.codec.choices import build_generator
    from espnet_av.codec.complexity import count_complexity, measure_speed, summary_rows
    from espnet_av.report.results import markdown_table
    from espnet_av.utils.experiment import write_json

    torch.set_num_threads(args.num_threads)
    generator = build_generator(name, conf).eval()
    cost = count_complexity(generator, [args.track] if args.track else list(TRACK_LIMITS))
    if args.speed == "true":
        cost = replace(cost, speed=measure_speed(generator))
    if args.output is not None:
        write_json(args.output, cost.to_dict())
    tables = [markdown_table(["", "cost"], summary_rows(cost), right=2)]
    if args.verbose:
        rows = [
            (item.part, item.name, item.kind, f"{item.rate:g}", f"{item.macs / 1e6:.3f}", f"{item.look_ahead_ms:g}")
            for item in cost.layers
        ]
        tables.append(markdown_table(["part", "layer", "what", "steps/s", "MMAC/s", "look ahead, ms"], rows, right=3))
    checks = [
        (track, check.what, f"{check.value:.2f} {check.unit}", f"{check.limit:g}", "pass" if check.passed else "FAIL")
        for track, found in cost.checks.items()
        for check in found
    ]
    tables.append(markdown_table(["track", "limit", "codec", "allowed", ""], checks, right=2))
    verdicts = (f"{track}: {'all limits kept' if cost.passes(track) else 'NOT kept'}" for track in cost.checks)
    sys.stdout.write("\n\n".join(tables) + "\n\n" + "; ".join(verdicts) + "\n")
    return int(args.track is not None and not cost.passes(args.track))


def read_model(source: str) -> tuple[str | None, dict[str, Any]]:
    """Return name and keywords of the network of a configuration, a model folder or a preset.

    Raises:
        MissingDataError: There is no such file or folder.
    """
    if source in PRESETS and not Path(source).exists():
        return None, {"preset": source}
    path = Path(source)
    if path.is_dir():
        path = path / "config.yaml"
    if not path.is_file():
        fix = f"pass a configuration, a model folder, or one of {', '.join(PRESETS)}"
        raise MissingDataError(describe("no configuration of a codec", got=str(path), fix=fix))
    config = load_yaml(path)
    return config.get("model"), dict(config.get("model_conf") or {})


if __name__ == "__main__":
    sys.exit(run_main(main))
