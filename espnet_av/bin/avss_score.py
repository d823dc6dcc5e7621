# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 7 of speech separation: compare separated voices with the true ones and write the tables.

Of an experiment (``--exp_dir``): all sets below ``decode/<lips>/<set>/``. Of any two folders: ``--gt_path`` (with
``mix/``, ``s1/``, ``s2/``, or a data folder) against ``--pred_path`` (with ``s1/``, ``s2/``).
"""

import argparse
import dataclasses
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_av.utils.cli import run_main, to_bool
from espnet_av.utils.config import load_yaml, nearest
from espnet_av.utils.errors import MissingDataError, describe, usage_error

if TYPE_CHECKING:
    from espnet_av.avss.scoring import ScoredSet, ScoreOptions

logger = logging.getLogger(__name__)
PATH_KEYS = ("gt_path", "pred_path")  # that a configuration file may hold beside the options
DEFAULT_LIPS = "own"
BOOTSTRAP_LEVEL = 0.95


def get_parser() -> argparse.ArgumentParser:
    """Return the options of the scorer."""
    parser = argparse.ArgumentParser(
        description="Score separated mixtures: SI-SNR, SNR, SDR and their improvements, PESQ, STOI; means over voices.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--exp_dir", type=Path, help="experiment folder; receives results.json and RESULTS.md")
    parser.add_argument("--decode_dir", type=Path, help="holds <lips>/<set>/{s1,s2}; <exp_dir>/decode when not given")
    parser.add_argument("--data_dirs", "--data_dir", type=Path, nargs="+", default=[], help="data folders of the sets")
    parser.add_argument("--gt_path", type=Path, help="folder with mix/, s1/, s2/, or a data folder")
    parser.add_argument("--pred_path", type=Path, help="folder with s1/, s2/; receives scores.csv and scores.json")
    parser.add_argument("--output_dir", type=Path, help="receives scores.csv and scores.json instead of --pred_path")
    parser.add_argument("--config", type=Path, help="YAML file: metrics, pit, allow_missing, ...")
    group = parser.add_argument_group("these override the configuration")
    group.add_argument("--metrics", nargs="+", default=None, help="names of metrics, see espnet_av/avss/metrics.py")
    group.add_argument(
        "--pit",
        choices=("auto", "true", "false"),
        default=None,
        help="assign voices by SI-SNR; auto: for networks that do not look at lips",
    )
    group.add_argument("--sample_rate", type=int, default=None, help="of all files, Hz")
    group.add_argument("--silent_estimate_db", type=float, default=None, help="SI-SNR, SI-SDR, SDR of silent estimates")
    group.add_argument(
        "--allow_missing", type=to_bool, default=None, metavar="true|false", help="score what is there, count the rest"
    )
    group.add_argument("--num_resamples", type=int, default=None, help="bootstrap draws of the confidence interval")
    group.add_argument("--seed", type=int, default=None, help="seed of the draws")
    parser.add_argument("--nj", type=int, default=1, help="number of processes")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Score everything that was separated; writes the files and prints the table."""
    command_line = sys.argv[1:] if cmd is None else list(cmd)
    args = get_parser().parse_args(command_line)
    options = read_options(args)
    if args.exp_dir is None and (args.gt_path is None or args.pred_path is None):
        usage_error("nothing to score", fix="pass --exp_dir DIR, or --gt_path DIR --pred_path DIR")
    from espnet_av.avss.scoring import score_set, write_set
    from espnet_av.report.results import markdown_table, write_results
    from espnet_av.report.separation_results import main_table, results_markdown
    from espnet_av.train.provenance import note_references

    if args.exp_dir is None:
        scored = score_set(args.gt_path, args.pred_path, options, nj=args.nj)
        write_set(scored, args.output_dir or args.pred_path)
        sys.stdout.write(markdown_table(*main_table([scored.row]), right=2) + "\n" + counts(scored.row))
        return
    done = []
    for lips, truth, predicted in find_work(args):
        item = score_set(truth, predicted, options, lips=lips, nj=args.nj)
        write_set(item, predicted)
        done.append(item)
    results = collect_results(done, options, args.exp_dir, command_line)
    note_references(results["rows"], args.data_dirs)
    write_results(args.exp_dir, results, results_markdown)
    sys.stdout.write(markdown_table(*main_table(results["rows"]), right=2) + "\n")
    for item in done:
        sys.stdout.write(counts(item.row))
    sys.stdout.write(f"\nresults: {args.exp_dir / 'RESULTS.md'}\n")


def read_options(args: argparse.Namespace) -> "ScoreOptions":
    """Merge the configuration file and the command line.

    Raises:
        UsageError: The file holds an unknown key, or a value is not allowed.
    """
    from espnet_av.avss.scoring import ScoreOptions

    values = {} if args.config is None else load_yaml(args.config)
    names = [option.name for option in dataclasses.fields(ScoreOptions)]
    for key in values:
        if key not in (*names, *PATH_KEYS):
            near = nearest(key, names)
            usage_error(f"unknown key in {args.config}", got=key, allowed=names, fix=f"write {near}" if near else None)
    for key in PATH_KEYS:
        if key in values and getattr(args, key) is None:
            setattr(args, key, Path(values[key]))
        values.pop(key, None)
    values |= {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return ScoreOptions(**values)


def find_work(args: argparse.Namespace) -> list[tuple[str, Path, Path]]:
    """Return lips, data folder and folder of estimates of every set that has ground truth.

    Raises:
        MissingDataError: Nothing was separated, or the data folder of a set is not named.
    """
    from espnet_av.avss.scoring import has_truth

    decode_dir = args.decode_dir or args.exp_dir / "decode"
    folders = [path.parent for path in decode_dir.glob("*/*/s1")]
    found = [(folder.parent.name, folder) for folder in folders]
    found += [(_lips_of(path.parent), path.parent) for path in decode_dir.glob("*/s1")]
    if not found:
        fix = "bash run.sh --stage 6 --stop_stage 6"
        raise MissingDataError(describe(f"no separated voices: no {decode_dir}/<lips>/<set>/s1", fix=fix))
    data = {path.name: path for path in args.data_dirs}
    work = []
    for lips, folder in sorted(found, key=lambda item: (item[1].name, item[0])):
        if folder.name not in data:
            what = f"the data folder of the set '{folder.name}' in {decode_dir} is not named"
            raise MissingDataError(describe(what, got=sorted(data), fix="pass --data_dirs with all sets"))
        if has_truth(data[folder.name]):
            work.append((lips, data[folder.name], folder))
        else:
            logger.warning("%s has no ground truth and is not scored", data[folder.name])
    return work


def collect_results(
    scored: Sequence["ScoredSet"], options: "ScoreOptions", exp_dir: Path, command_line: Sequence[str]
) -> dict[str, Any]:
    """Put rows and the origin of the numbers together: the content of ``results.json``."""
    from espnet_av.report.separation_results import TASK, ordered
    from espnet_av.train.provenance import origin_of, package_versions, utc_now
    from espnet_av.utils.experiment import read_config

    config = read_config(exp_dir)
    origin = origin_of(config, "espnet_av.bin.avss_score", command_line)
    return {
        "task": TASK,
        "date": utc_now(),
        **origin,
        "versions": package_versions(),
        "metrics": list(options.metrics),
        "silent_estimate_db": options.silent_estimate_db,
        "bootstrap": {
            "unit": "mixture",
            "num_resamples": options.num_resamples,
            "level": BOOTSTRAP_LEVEL,
            "seed": options.seed,
        },
        "rows": [{**row, **origin} for row in ordered([item.row for item in scored])],
    }


def counts(row: dict[str, Any]) -> str:
    """Return a line with what is particular about a set, or nothing."""
    found = []
    for key, text in (
        ("n_missing", "mixtures without an estimate left out"),
        ("n_silent", "voices with a silent reference left out"),
        ("n_silent_estimates", "silent estimates at the floor"),
    ):
        if row.get(key):
            found.append(f"{row[key]} {text}")
    found += [f"{metric} not defined for {count} voices" for metric, count in row["n_undefined"].items()]
    return f"{row['set']} ({row['lips']}): {'; '.join(found)}\n" if found else ""


def _lips_of(folder: Path) -> str:
    from espnet_av.utils.experiment import read_json

    facts = read_json(folder / "infer.json")
    return (facts.get("lips_mode") or "audio") if isinstance(facts, dict) else DEFAULT_LIPS


if __name__ == "__main__":
    sys.exit(run_main(main))
