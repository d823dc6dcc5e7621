# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 6 of speech recognition: decode test sets with a trained recogniser."""

import argparse
import dataclasses
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_av.utils.cli import run_main
from espnet_av.utils.config import load_yaml, nearest
from espnet_av.utils.errors import MissingDataError, describe, usage_error

if TYPE_CHECKING:
    from espnet_av.avsr.decode_set import DecodeOptions

logger = logging.getLogger(__name__)
MODALITIES = ("av", "audio", "video")


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command line."""
    parser = argparse.ArgumentParser(
        description="Decode test sets: hypotheses, scores and what it cost.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--train_dir", type=Path, required=True, help="experiment folder, or a packed model")
    parser.add_argument("--data_dirs", "--data_dir", type=Path, nargs="+", required=True, help="folders of stage 3")
    parser.add_argument("--modalities", "--modality", nargs="+", choices=MODALITIES, default=["av"])
    parser.add_argument("--output_dir", type=Path, required=True, help="receives <modality>/<set>/")
    parser.add_argument("--config", type=Path, default=None, help="YAML file: beam_size, ctc_weight, batch_size, ...")
    parser.add_argument("--beam_size", type=int, default=None, help="overrides the configuration")
    parser.add_argument("--ctc_weight", type=float, default=None, help="overrides the configuration")
    parser.add_argument("--batch_size", type=int, default=None, help="overrides the configuration")
    parser.add_argument("--weights", default=None, help="weights file in --train_dir; by default the best average")
    parser.add_argument("--key_file", type=Path, default=None, help="decode only the ids that its lines start with")
    parser.add_argument("--device", default=None, help="cpu, cuda, cuda:1 ...; by default a GPU where there is one")
    parser.add_argument("--num_threads", type=int, default=None, help="CPU threads; by default torch's choice")
    parser.add_argument("--seed", type=int, default=0, help="decoding draws no random numbers; kept for all stages")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Decode every folder in every modality."""
    args = get_parser().parse_args(cmd)
    for folder in args.data_dirs:
        if not folder.is_dir():
            raise MissingDataError(describe("no data folder", got=str(folder), fix="run stage 3 (filter) first"))
    import torch

    from espnet_av.avsr.decode_set import SetDecoder
    from espnet_av.avsr.inference import AVSR
    from espnet_av.data.data_dir import iter_lines

    options = read_options(args)
    if args.num_threads is not None:
        torch.set_num_threads(args.num_threads)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    recogniser = AVSR.from_pretrained(
        args.train_dir,
        device=device,
        weights=options.weights,
        beam_size=options.beam_size,
        ctc_weight=options.ctc_weight,
        search_options=options.search_options,
    )
    keys = None if args.key_file is None else [key for _, key, _ in iter_lines(args.key_file)]
    words = sys.argv[1:] if cmd is None else cmd
    decoder = SetDecoder(recogniser, options, shlex.join(["python", "-m", "espnet_av.bin.avsr_infer", *words]))
    for folder in args.data_dirs:
        for modality in args.modalities:
            target = args.output_dir / modality / folder.name
            facts = decoder.decode(folder, modality, target, keys)
            logger.info(
                "%s: %d utterances, real-time factor %.3f, peak memory %.0f MB",
                target,
                facts["num_utterances"],
                facts["rtf"],
                facts["peak_rss_mb"],
            )


def read_options(args: argparse.Namespace) -> "DecodeOptions":
    """Merge the configuration file and the command line.

    Raises:
        UsageError: The file holds an unknown key.
    """
    from espnet_av.avsr.decode_set import DecodeOptions

    values = {} if args.config is None else load_yaml(args.config)
    names = [option.name for option in dataclasses.fields(DecodeOptions)]
    for key in values:
        if key not in names:
            near = nearest(key, names)
            usage_error(f"unknown key in {args.config}", got=key, allowed=names, fix=f"write {near}" if near else None)
    for name in ("beam_size", "ctc_weight", "batch_size", "weights"):
        if getattr(args, name) is not None:
            values[name] = getattr(args, name)
    return DecodeOptions(**values)


if __name__ == "__main__":
    sys.exit(run_main(main))
