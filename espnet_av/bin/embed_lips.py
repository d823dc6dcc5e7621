# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 4: compute the lip embeddings of data folders once and keep them (lips_s1.scp, lips_s2.scp).

The front end is a published lip-reading checkpoint, or the lip network of a recogniser trained by egs/*/avsr
(--lip_frontend avsr:../avsr/exp/train_word/pack). A run that was stopped goes on where it was.
"""

import argparse
import sys
from collections.abc import Sequence

from espnet_av.utils.cli import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(prog="embed_lips", description=__doc__)
    parser.add_argument("--data_dir", required=True, metavar="DIR", help="data folder with mouth_s1.scp, mouth_s2.scp")
    parser.add_argument("--output_dir", metavar="DIR", help="data folder to make (default: --data_dir, replaced whole)")
    parser.add_argument(
        "--lip_frontend",
        required=True,
        metavar="SOURCE",
        help="published checkpoint (.pth, .pth.tar), file of 'espnet-av convert lipreading', avsr:FOLDER for the lips "
        "of a recogniser, or random[:SEED] to try a recipe out",
    )
    parser.add_argument(
        "--lip_activation",
        choices=["prelu", "swish", "relu"],
        help="of a published checkpoint (default: prelu where it has slopes, else swish); another one is refused",
    )
    parser.add_argument(
        "--cache_dir", metavar="DIR", help="folder of the embeddings (default: lips beside the output folder)"
    )
    parser.add_argument(
        "--variants",
        type=int,
        default=1,
        help="crops and flips stored of each clip, of which training draws one; 1: the centre crop, for test sets",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random crops")
    parser.add_argument("--nj", type=int, default=1, help="number of processes, each with one thread")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or auto; use --nj 1 with a GPU")
    parser.add_argument(
        "--max_dropped_share", type=float, default=0.0, help="more mixtures with bad crops than this fail the stage"
    )
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from pathlib import Path

    from espnet_av.avss.clip_embedder import EmbedSettings
    from espnet_av.avss.lip_cache import embed_set

    output = Path(args.output_dir or args.data_dir)
    settings = EmbedSettings(
        front_end=args.lip_frontend,
        activation=args.lip_activation,
        cache_dir=args.cache_dir or str(output.absolute().parent / "lips"),
        variants=args.variants,
        seed=args.seed,
        device=args.device,
    )
    line = embed_set(args.data_dir, args.output_dir, settings, nj=args.nj, max_dropped_share=args.max_dropped_share)
    sys.stdout.write(f"{output}: {line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
