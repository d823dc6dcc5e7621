# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 7 of speech recognition: compare hypotheses with transcripts and write the tables."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_av.utils.cli import run_main, to_bool
from espnet_av.utils.errors import MissingDataError, describe, usage_error

if TYPE_CHECKING:
    from espnet_av.avsr.scoring import ScoredSet, ScoreOptions
    from espnet_av.utils.experiment import Decode

NORMALIZERS = ("avsr", "none")


def get_parser() -> argparse.ArgumentParser:
    """Return the options of the scorer."""
    parser = argparse.ArgumentParser(
        description="Score decoded test sets: word error rate with confidence intervals, alignments, result tables.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--exp_dir", type=Path, help="experiment folder; receives results.json and RESULTS.md")
    parser.add_argument("--decode_dir", type=Path, help="holds <modality>/<set>/text; <exp_dir>/decode when not given")
    parser.add_argument("--dump_dir", type=Path, default=Path("dump"), help="holds the transcripts <set>/text")
    parser.add_argument(
        "--pairs",
        nargs=4,
        action="append",
        metavar=("SET", "MODALITY", "REF", "HYP"),
        help="score these two files instead of walking --decode_dir; may be repeated",
    )
    parser.add_argument("--sets", nargs="+", help="score only these sets")
    parser.add_argument("--modalities", nargs="+", help="score only these modalities")
    parser.add_argument("--key_file", type=Path, help="score only the utterances in the first column of this file")
    parser.add_argument("--normalize", choices=NORMALIZERS, default="avsr", help="text normalisation of both sides")
    parser.add_argument(
        "--allow_missing",
        type=to_bool,
        default=False,
        metavar="true|false",
        help="count utterances without a hypothesis as deletions instead of stopping",
    )
    parser.add_argument("--ci_unit", choices=("utterance", "speaker"), default="utterance", help="what is resampled")
    parser.add_argument("--num_resamples", type=int, default=1000, help="bootstrap draws of the confidence interval")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    return parser


def main(cmd: Sequence[str] | None = None) -> int | None:
    """Score everything that was decoded; writes the files and prints the table."""
    command_line = sys.argv[1:] if cmd is None else list(cmd)
    args = get_parser().parse_args(command_line)
    if args.exp_dir is None and not args.pairs:
        usage_error("nothing to score", fix="pass --exp_dir DIR, or --pairs SET MODALITY REF HYP")
    from espnet_av.avsr.scoring import ScoreOptions, read_key_file, score_decode, write_set
    from espnet_av.report.results import results_markdown, wer_table, write_results

    options = ScoreOptions(
        normalize=get_normalizer(args.normalize),
        allow_missing=args.allow_missing,
        keep=read_key_file(args.key_file) if args.key_file else None,
        num_resamples=args.num_resamples,
        seed=args.seed,
        ci_unit=args.ci_unit,
    )
    scored = []
    for decode, reference in _find_work(args):
        item = score_decode(decode, reference, options)
        if not args.pairs:
            write_set(item, decode.folder)
        scored.append(item)
    results = collect_results(scored, options, args, command_line)
    sys.stdout.write(wer_table(results["rows"]) + "\n")
    if args.exp_dir is not None:
        write_results(args.exp_dir, results, results_markdown)
        sys.stdout.write(f"\nresults: {args.exp_dir / 'RESULTS.md'}\n")
    return None


def get_normalizer(name: str) -> Callable[[str], str]:
    """Return the text normalisation of this name: ``avsr`` (upper case, no punctuation) or ``none`` (blanks only)."""
    if name == "none":
        return lambda text: " ".join(text.split())
    from espnet_av.avsr.text import normalize_text

    return normalize_text


def collect_results(
    scored: Sequence["ScoredSet"], options: "ScoreOptions", args: argparse.Namespace, command_line: Sequence[str]
) -> dict[str, Any]:
    """Put rows, ratios and the origin of the numbers together: the content of ``results.json``."""
    from espnet_av.avsr.scoring import video_ratios
    from espnet_av.train.provenance import origin_of, package_versions, utc_now
    from espnet_av.utils.experiment import read_config

    config = read_config(args.exp_dir) if args.exp_dir else None
    origin = origin_of(config, "espnet_av.bin.avsr_score", command_line)
    return {
        "task": "avsr",
        "date": utc_now(),
        **origin,
        "versions": package_versions(),
        "normalization": args.normalize,
        "bootstrap": {
            "unit": args.ci_unit,
            "num_resamples": args.num_resamples,
            "level": 0.95,
            "seed": args.seed,
        },
        "rows": [{**item.row, **origin} for item in scored],
        "ratios": video_ratios(scored, options),
    }


def _find_work(args: argparse.Namespace) -> list[tuple["Decode", Path]]:
    from espnet_av.utils.experiment import Decode, find_decodes

    if args.pairs:
        return [(Decode(modality, name, Path(hyp)), Path(ref)) for name, modality, ref, hyp in args.pairs]
    decode_dir = args.decode_dir or args.exp_dir / "decode"
    found = find_decodes(decode_dir)
    if not found:
        raise MissingDataError(
            describe(
                f"no hypotheses: no {decode_dir}/<modality>/<set>/text", fix="bash run.sh --stage 6 --stop_stage 6"
            )
        )
    for option, chosen, attribute in (("--sets", args.sets, "set_name"), ("--modalities", args.modalities, "modality")):
        there = sorted({getattr(item, attribute) for item in found})
        absent = sorted(set(chosen or ()) - set(there))
        if absent:
            raise MissingDataError(describe(f"{option}: not decoded in {decode_dir}", got=absent, allowed=there))
        found = [item for item in found if chosen is None or getattr(item, attribute) in chosen]
    return [(item, args.dump_dir / item.set_name / "text") for item in found]


if __name__ == "__main__":
    sys.exit(run_main(main))
