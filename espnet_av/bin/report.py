# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 8: write the one-file HTML report of an experiment, or compare two or more experiments side by side."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import MissingDataError, UsageError, describe, usage_error

logger = logging.getLogger(__name__)
TRACES = ("config.yaml", "results.json", "history.jsonl", "stages.jsonl", "decode")  # one of them is in an experiment


def get_parser() -> argparse.ArgumentParser:
    """Return the options of the report."""
    parser = argparse.ArgumentParser(
        description="Write one HTML file with curves, results, sound and pictures of an experiment; it opens offline. "
        "With two or more experiments: compare them with the first, and rank what differs.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("experiments", nargs="*", type=Path, metavar="EXP", help="experiment folders of stages 5-7")
    parser.add_argument("--exp_dir", type=Path, help="the one experiment folder, instead of EXP")
    parser.add_argument("--dump_dir", type=Path, help="data folders of stage 3; those of the recipe when not given")
    parser.add_argument(
        "--output", type=Path, help="the page; report.html or comparison.html in the first EXP when not given"
    )
    parser.add_argument("--title", help="heading; the name of the experiment folder when not given")
    parser.add_argument("--num_worst", type=int, default=10, help="utterances with the most errors")
    parser.add_argument("--num_noisy", type=int, default=4, help="typical utterances of the noisiest set")
    parser.add_argument("--num_typical", type=int, default=2, help="typical mixtures of each kind of pair (separators)")
    parser.add_argument("--max_media_mb", type=float, default=14.0, help="room for sound and pictures of utterances")
    parser.add_argument(
        "--published", type=Path, help="other people's numbers; conf/published.yaml of the recipe when not given"
    )
    parser.add_argument("--alignment", choices=("true", "false"), default="true", help="draw where the model looks")
    parser.add_argument("--alignment_set", help="test set of that picture; the first clean one when not given")
    parser.add_argument("--alignment_utt", help="utterance of that picture; a typical one when not given")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Write the report, and its figures into ``images`` of the experiment; prints the path of the page."""
    parser = get_parser()
    args = parser.parse_args(cmd)
    places = [*args.experiments, *([args.exp_dir] if args.exp_dir else [])]
    if not places:
        raise UsageError(
            describe("which experiment?", fix="espnet-av report egs/<dataset>/<task>/exp/<tag> [EXP2 ...]")
        )
    _check(args)
    if len(places) > 1:
        shared = ("experiments", "exp_dir", "output")
        given = [name for name in vars(args) if name not in shared and getattr(args, name) != parser.get_default(name)]
        if given:
            logger.warning("ignored when experiments are compared: %s", ", ".join(f"--{name}" for name in given))
        return _compare(places, args.output or places[0] / "comparison.html")
    return _report(places[0], args)


def _check(args: argparse.Namespace) -> None:
    for name in ("num_worst", "num_noisy", "num_typical", "max_media_mb"):
        if not getattr(args, name) >= 0:  # NaN too
            usage_error(f"--{name} is out of range", getattr(args, name), "0 and more")
    if args.published is not None and not args.published.is_file():
        raise MissingDataError(describe(f"--published: no file {args.published}", fix="name the file, or leave it out"))
    if args.dump_dir is not None and not args.dump_dir.is_dir():
        logger.warning("--dump_dir: no folder %s; the page has nothing about data, and no sound of them", args.dump_dir)
    if args.output is not None and args.output.suffix == ".json":
        usage_error("--output names the page; the figures go into a .json file beside it", str(args.output), "*.html")


def _compare(places: Sequence[Path], output: Path) -> None:
    from espnet_av.report.compare import text_table
    from espnet_av.report.compare_page import sentences, write_comparison

    content = write_comparison(places, output)
    for line in (text_table(content["comparison"], content["names"]), "", *sentences(content), ""):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"comparison: {output} ({output.stat().st_size / 1e6:.1f} MB), {output.with_suffix('.json')}\n")


def _report(exp_dir: Path, args: argparse.Namespace) -> None:
    from espnet_av.report.page import ReportOptions, write_report
    from espnet_av.report.run_facts import default_place

    if exp_dir.is_dir() and not any((exp_dir / name).exists() for name in TRACES):
        fix = "pass the folder of stage 5, egs/<dataset>/<task>/exp/<tag>"
        raise MissingDataError(describe(f"no experiment: {exp_dir} holds none of {', '.join(TRACES)}", fix=fix))
    options = ReportOptions(
        num_worst=args.num_worst,
        num_noisy=args.num_noisy,
        num_typical=args.num_typical,
        max_media_bytes=round(args.max_media_mb * 1e6),
        title=args.title,
        published=args.published or default_place(exp_dir, "conf/published.yaml"),
        alignment=args.alignment == "true",
        alignment_set=args.alignment_set,
        alignment_utt=args.alignment_utt,
        images_dir=exp_dir / "images" if args.output is None or args.output.parent == exp_dir else None,
    )
    dump_dir = args.dump_dir or default_place(exp_dir, "dump")
    path = write_report(exp_dir, dump_dir, args.output or exp_dir / "report.html", options)
    sys.stdout.write(f"report: {path} ({path.stat().st_size / 1e6:.1f} MB)\n")


if __name__ == "__main__":
    sys.exit(run_main(main))
