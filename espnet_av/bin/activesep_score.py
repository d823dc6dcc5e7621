# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 7: put what policies and baselines played into one table, ``results.json`` and ``RESULTS.md``."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.utils.cli import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exp_dir", type=Path, required=True, help="the experiment, with test/<set>/<system>/seed<k>")
    parser.add_argument("--sets", nargs="+", required=True, help="test sets")
    parser.add_argument(
        "--data_dirs", nargs="*", default=[], help="folders of the episodes of these sets, of which rows keep a digest"
    )
    parser.add_argument("--systems", nargs="*", default=[], help="take these only, in this order (default: all)")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Score, and show the table."""
    args = get_parser().parse_args(cmd)
    from espnet_av.activesep.checkpoint_search import read_best, read_played
    from espnet_av.activesep.scoring import score
    from espnet_av.report import activesep_results as shown
    from espnet_av.report.results import RESULTS_MARKDOWN, markdown_table, write_results
    from espnet_av.train.provenance import config_digest, note_references, package_versions, source_commit, utc_now
    from espnet_av.utils.experiment import read_config, read_stages
    from espnet_av.utils.files import atomic_write

    config = read_config(args.exp_dir) or {}
    words = [word for name, values in (("--sets", args.sets), ("--systems", args.systems)) if values
             for word in (name, *values)]  # fmt: skip
    results = {
        "task": shown.TASK,
        **score(read_played(args.exp_dir, args.sets), args.systems or None),
        "best": read_best(args.exp_dir),
        "date": utc_now(),
        "commit": source_commit(),
        "train_commit": config.get("git_commit"),
        "bootstrap": {"unit": "episode", "num_resamples": None, "level": 0.95, "seed": None},
        "seed": config.get("seed"),
        "config_digest": config_digest(config),
        "versions": package_versions(),
        "command": f"espnet-av score activesep --exp_dir EXP {shlex.join(words)}",
    }
    note_references(results["rows"], args.data_dirs)
    write_results(args.exp_dir, results)
    with atomic_write(args.exp_dir / RESULTS_MARKDOWN) as stream:
        stream.write(shown.results_markdown(results, read_stages(args.exp_dir), args.exp_dir.resolve().name))
    sys.stdout.write(markdown_table(*shown.main_table(results["rows"]), right=2) + "\n")


if __name__ == "__main__":
    sys.exit(run_main(main))
