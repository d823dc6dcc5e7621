# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluate a recogniser on published test sets with one command.

    espnet-av evaluate avsr --dataset_name lrs2 --set_id '*' --checkpoint_path nguyenvulebinh/AVSRCocktail

Prints the word error rates and writes hypotheses, every utterance's errors, confidence intervals and what was
recognised on silent faces.
"""

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_av.utils.cli import run_main, to_bool
from espnet_av.utils.errors import usage_error
from espnet_av.utils.files import atomic_write

if TYPE_CHECKING:
    from espnet_av.avsr.clip_decoder import DecodedClip
    from espnet_av.avsr.pretrained import RecogniserSpec

logger = logging.getLogger(__name__)
MODEL_TYPES = ("avsr_cocktail", "auto_avsr", "muavic_en")
DATASETS = ("lrs2", "AVCocktail", "data_dirs")
MODALITIES = ("av", "audio", "video")


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command line."""
    parser = argparse.ArgumentParser(
        description="Evaluate a recogniser on published test sets: word error rates, hypotheses, intervals, silence.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    group = parser.add_argument_group("model")
    group.add_argument("--model_type", choices=MODEL_TYPES, default="avsr_cocktail", help="muavic_en is refused")
    group.add_argument(
        "--checkpoint_path", default=None, help="folder, weights file or hub name; by default the published one"
    )
    group.add_argument("--cache_dir", type=Path, default=Path("model-bin"), help="models and data of the hub")
    group.add_argument("--unigram_model", type=Path, default=None, help="tokens of a published checkpoint")
    group.add_argument("--units", type=Path, default=None, help="unit list of a published checkpoint")
    group = parser.add_argument_group("data")
    group.add_argument("--dataset_name", choices=DATASETS, default="lrs2", help="data_dirs: folders of stage 3")
    group.add_argument(
        "--set_id", nargs="+", default=["*"], help="sets, e.g. test_snr_n5_interferer_1, video_7; *: all"
    )
    group.add_argument("--data_root", type=Path, default=None, help="local shards or data folders instead of the hub")
    group.add_argument("--streaming", type=to_bool, default=True, metavar="true|false", help="stream from the hub")
    group.add_argument("--max_dropped_share", type=float, default=0.01, help="more unusable clips are an error")
    group = parser.add_argument_group("decoding")
    group.add_argument("--modality", choices=MODALITIES, default="av", help="what to recognise from")
    group.add_argument("--beam_size", type=int, default=3, help="hypotheses kept per step")
    group.add_argument("--ctc_weight", type=float, default=0.1, help="weight of the CTC score in the search")
    group.add_argument(
        "--max_length", type=float, default=15.0, help="seconds; longer clips are decoded in pieces; 0: never cut"
    )
    group.add_argument("--batch_size", type=int, default=8, help="most clips decoded together")
    group.add_argument("--batch_frames", type=int, default=3000, help="most video frames decoded together, padded")
    group.add_argument("--nj", type=int, default=1, help="processes that decode; they share the GPUs")
    group.add_argument("--device", default="auto", help="cpu, cuda, cuda:1; auto: a GPU where there is one")
    group = parser.add_argument_group("output")
    group.add_argument("--output_dir_name", type=Path, default=Path("output"), help="folder that receives everything")
    group.add_argument("--verbose", action="store_true", help="show reference and hypothesis of every clip")
    group.add_argument(
        "--resume", action="store_true", help="keep sets decoded before with the same weights and options"
    )
    group.add_argument("--num_resamples", type=int, default=1000, help="bootstrap draws of the confidence intervals")
    group.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    return parser


def main(cmd: Sequence[str] | None = None) -> int | None:
    """Evaluate the chosen sets; prints word error rates as they come, then where everything lies."""
    words = sys.argv[1:] if cmd is None else list(cmd)
    args = get_parser().parse_args(words)
    check_numbers(args)
    from espnet_av.avsr.clip_decoder import ClipDecoder
    from espnet_av.avsr.eval_sets import Catalogue
    from espnet_av.avsr.evaluation import EvalOptions, Evaluator
    from espnet_av.avsr.pretrained import check_model_type, find_recogniser

    check_model_type(args.model_type)
    catalogue = Catalogue(args.dataset_name, args.data_root, args.streaming, args.cache_dir)
    catalogue.choose(args.set_id)  # before anything large is loaded
    spec = find_recogniser(
        args.checkpoint_path,
        model_type=args.model_type,
        cache_dir=args.cache_dir,
        unigram_model=args.unigram_model,
        units=args.units,
        beam_size=args.beam_size,
        ctc_weight=args.ctc_weight,
    )
    identity = make_identity(args, spec)
    options = EvalOptions(
        args.output_dir_name,
        args.modality,
        args.num_resamples,
        args.seed,
        args.max_dropped_share,
        args.resume,
        identity,
    )
    decoder = ClipDecoder(
        spec,
        device=args.device,
        num_jobs=args.nj,
        modality=args.modality,
        batch_size=args.batch_size,
        batch_frames=args.batch_frames,
        max_length_sec=args.max_length,
    )
    with decoder:
        evaluator = Evaluator(catalogue, decoder, options, show_line, show_clip if args.verbose else None)
        found = evaluator.run(args.set_id)
    write_results(args, found, identity, shlex.join(["python", "-m", "espnet_av.bin.avsr_evaluate", *words]))
    return None


def check_numbers(args: argparse.Namespace) -> None:
    """Refuse numbers that make no sense.

    Raises:
        UsageError: With the option and what is allowed.
    """
    for name in ("beam_size", "batch_size", "batch_frames", "nj", "num_resamples"):
        if getattr(args, name) < 1:
            usage_error(f"--{name} is too small", got=getattr(args, name), allowed="1 or more")
    for name in ("ctc_weight", "max_dropped_share"):
        if not 0 <= getattr(args, name) <= 1:
            usage_error(f"--{name} is out of range", got=getattr(args, name), allowed="0 to 1")
    if not args.max_length >= 0:
        usage_error("--max_length is out of range", got=args.max_length, allowed="seconds; 0: never cut")


def make_identity(args: argparse.Namespace, spec: "RecogniserSpec") -> dict[str, Any]:
    """Return what hypotheses depend on: weights and settings of the search."""
    names = ("beam_size", "ctc_weight", "max_length")
    return {**spec.describe(), **{name: getattr(args, name) for name in names}}


def write_results(args: argparse.Namespace, found: dict[str, Any], identity: dict[str, Any], command: str) -> None:
    """Write ``results.json`` and ``RESULTS.md`` and print the table."""
    from espnet_av.report import results as files
    from espnet_av.report.results import results_markdown, wer_table
    from espnet_av.train.provenance import package_versions, source_commit, utc_now

    folder = args.output_dir_name
    results = {
        "task": "avsr",
        "date": utc_now(),
        "commit": source_commit(),
        "command": command,
        "versions": package_versions(),
        "normalization": "avsr",
        "bootstrap": {
            "unit": "caption" if args.dataset_name == "AVCocktail" else "utterance",
            "num_resamples": args.num_resamples,
            "level": 0.95,
            "seed": args.seed,
        },
        "dataset": args.dataset_name,
        "model": identity,
        **found,
    }
    files.write_results(folder, results)
    with atomic_write(folder / "RESULTS.md") as stream:
        stream.write(results_markdown(results, [], f"{args.model_type} on {args.dataset_name}"))
    sys.stdout.write(f"\n{wer_table(results['rows'])}\n\nresults: {folder / 'RESULTS.md'}\n")


def show_line(line: str) -> None:
    """Print one line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def show_clip(decoded: "DecodedClip") -> None:
    """Print reference and hypothesis of a clip."""
    show_line(f"{decoded.clip.uid}\n  REF: {decoded.clip.reference}\n  HYP: {decoded.text}")


if __name__ == "__main__":
    sys.exit(run_main(main))
