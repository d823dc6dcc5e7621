# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 9: put a trained model into a folder that ``from_pretrained`` of its class loads and that can be given away."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.utils.cli import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the options of the packer."""
    parser = argparse.ArgumentParser(
        description="Pack a trained model: safetensors, portable configuration, tokens, model card, digests.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--exp_dir", type=Path, required=True, help="experiment folder of stages 5-7")
    parser.add_argument("--output_dir", type=Path, help="folder to make; <exp_dir>/pack when not given")
    parser.add_argument(
        "--dump_dir", type=Path, help="data folders, for their licences; those of the recipe when not given"
    )
    parser.add_argument(
        "--checkpoint", default="ave", metavar="ave|best|FILE", help="average of the best epochs, best epoch, or a file"
    )
    parser.add_argument(
        "--licence",
        help="licence of the packed weights, which the data must allow; Apache-2.0 when not given and those of all "
        "training data are known",
    )
    parser.add_argument("--name", help="name of the model; that of the experiment folder when not given")
    parser.add_argument(
        "--lip_frontend",
        metavar="SOURCE",
        help="of a separator: put its lip-reading front end into the pack too, where its licence allows that",
    )
    parser.add_argument(
        "--archive",
        choices=("true", "false"),
        default="false",
        help="also write <output_dir>.tar.gz, always equal bytes",
    )
    return parser


def main(cmd: Sequence[str] | None = None) -> int | None:
    """Pack the model and print the folder."""
    args = get_parser().parse_args(cmd)
    from espnet_av.report.packing import PackOptions, pack_experiment, verify_pack
    from espnet_av.report.run_facts import default_place

    archive = args.archive == "true"
    options = PackOptions(
        checkpoint=args.checkpoint,
        licence=args.licence,
        name=args.name,
        archive=archive,
        lip_frontend=args.lip_frontend,
    )
    dump_dir = args.dump_dir or default_place(args.exp_dir, "dump")
    folder = pack_experiment(args.exp_dir, args.output_dir or args.exp_dir / "pack", dump_dir, options)
    meta = verify_pack(folder)
    sys.stdout.write(f"packed: {folder} ({meta['weights']['bytes'] / 1e6:.1f} MB from {meta['weights']['source']})\n")
    if archive:
        sys.stdout.write(f"archive: {folder}.tar.gz\n")
    return None


if __name__ == "__main__":
    sys.exit(run_main(main))
