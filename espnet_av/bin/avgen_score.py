# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 7 of generation: compare generated speech and motion with real recordings and write the tables.

Of an experiment (``--exp_dir``): all samples below ``decode/[<system>/]<set>/<utterance>/<number>/``. Of any folders:
``--gt DATA --pred [NAME=]FOLDER...``, where a folder holds ``<utterance>/<number>/``.
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
    from espnet_av.avgen.score_files import SampleFolder
    from espnet_av.avgen.scoring import ScoredSet, ScoreOptions

logger = logging.getLogger(__name__)
UPPER_BOUND = "upper_bound"


def get_parser() -> argparse.ArgumentParser:
    """Return the options of the scorer."""
    parser = argparse.ArgumentParser(
        description="Score generated talking faces: lip synchrony, closures, visemes, Frechet distances, diversity, "
        "beats, WER, distances of the sound; with the real recordings and an upper bound beside them.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--exp_dir", type=Path, help="experiment folder; receives results.json and RESULTS.md")
    parser.add_argument("--decode_dir", type=Path, help="holds [<system>/]<set>/; <exp_dir>/decode when not given")
    parser.add_argument("--data_dirs", "--data_dir", type=Path, nargs="+", default=[], help="data folders of the sets")
    parser.add_argument("--gt", type=Path, help="data folder, or a folder in the 50h layout")
    parser.add_argument("--pred", nargs="+", default=[], metavar="[NAME=]DIR", help="samples of one or more systems")
    parser.add_argument("--output_dir", type=Path, help="receives results.json and RESULTS.md of --pred")
    parser.add_argument("--config", type=Path, help="YAML file with the keys below")
    group = parser.add_argument_group("these override the configuration")
    group.add_argument("--face_basis", default=None, help=".npz that tells what face codes mean; found beside the data")
    group.add_argument("--asr", default=None, metavar="MODEL", help="recogniser (avsr), or ctc:MODEL, for the WER")
    group.add_argument("--vocoder", default=None, help="of the upper bound: a vocoder, or griffinlim")
    group.add_argument("--head_vae", default=None, help="of the upper bound: a head VAE")
    group.add_argument("--max_utts", type=int, default=None, help="recordings scored of each set; 0: all")
    group.add_argument(
        "--allow_missing", type=to_bool, default=None, metavar="true|false", help="score what is there, count the rest"
    )
    group.add_argument("--num_resamples", type=int, default=None, help="bootstrap draws of the confidence intervals")
    group.add_argument("--seed", type=int, default=None, help="seed of the draws")
    parser.add_argument("--nj", type=int, default=1, help="number of processes")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Score everything that was generated; writes the files and prints the main table."""
    command_line = sys.argv[1:] if cmd is None else list(cmd)
    args = get_parser().parse_args(command_line)
    options = read_options(args)
    if args.exp_dir is None and (args.gt is None or not args.pred):
        usage_error("nothing to score", fix="pass --exp_dir DIR --data_dirs DIR..., or --gt DATA --pred SAMPLES")
    from espnet_av.avgen.scoring import compare_sets, write_set
    from espnet_av.report.avgen_results import main_table, results_markdown
    from espnet_av.report.results import markdown_table, write_results
    from espnet_av.train.provenance import note_references

    output = args.output_dir or args.exp_dir
    cache = output / UPPER_BOUND if output is not None else None
    scored: list[ScoredSet] = []
    comparisons: list[dict[str, Any]] = []
    for data_dir, folders in find_work(args):
        done = score_data(data_dir, folders, options, cache, nj=args.nj)
        comparisons += [compare_sets(done[0], item, options) for item in done[1 : len(folders)]]
        for item, folder in zip(done, folders, strict=False):
            write_set(item, folder.folder)
        if cache is not None:
            write_set(done[-1], cache / data_dir.name / "real")
        scored += done
    results = collect_results(scored, comparisons, options, args.exp_dir, command_line)
    note_references(results["rows"], args.data_dirs)
    if output is not None:
        write_results(output, results, results_markdown)
    sys.stdout.write(markdown_table(*main_table(results["rows"]), right=2) + "\n" + remarks(results["rows"]))
    if output is not None:
        sys.stdout.write(f"\nresults: {output / 'RESULTS.md'}\n")


def score_data(
    data_dir: Path, folders: Sequence["SampleFolder"], options: "ScoreOptions", cache: Path | None, *, nj: int = 1
) -> list["ScoredSet"]:
    """Score all systems on one test set, then the upper bound where its models are named, then the real recordings.

    Args:
        data_dir: The real recordings.
        folders: Samples of each system.
        options: How to score.
        cache: Receives the upper bound; None: none.
        nj: Number of processes.
    """
    from espnet_av.avgen.scoring import RealSet, score_set
    from espnet_av.avgen.upper_bound import resynthesise

    real = RealSet(data_dir, options)
    found = list(folders)
    if cache is not None and (options.vocoder or options.head_vae):
        place = cache / real.name / "resynthesis"
        models = {"vocoder": options.vocoder, "head_vae": options.head_vae}
        found.append(resynthesise(real.truths, place, real.name, **models))
    return [score_set(real, item, options, nj=nj) for item in (*found, None)]


def read_options(args: argparse.Namespace) -> "ScoreOptions":
    """Merge the configuration file and the command line.

    Raises:
        UsageError: The file holds an unknown key, or a value is not allowed.
    """
    from espnet_av.avgen.scoring import ScoreOptions

    values = {} if args.config is None else load_yaml(args.config)
    names = [option.name for option in dataclasses.fields(ScoreOptions)]
    for key in values:
        if key not in names:
            near = nearest(key, names)
            usage_error(f"unknown key in {args.config}", got=key, allowed=names, fix=f"write {near}" if near else None)
    values |= {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return ScoreOptions(**values)


def find_work(args: argparse.Namespace) -> list[tuple[Path, list["SampleFolder"]]]:
    """Return each data folder with the samples of its set, the joint system first.

    Raises:
        MissingDataError: Nothing was generated, or the data folder of a set is not named.
    """
    from espnet_av.avgen.score_files import SampleFolder, find_samples
    from espnet_av.utils.experiment import read_json

    if args.gt is not None:
        folders = []
        for text in args.pred:
            name, found, path = text.partition("=")
            path = Path(path if found else text)
            facts = read_json(path / "infer.json")
            folders.append(
                SampleFolder(name if found else path.name, args.gt.name, path, facts if isinstance(facts, dict) else {})
            )
        return [(args.gt, folders)]
    decode_dir = args.decode_dir or args.exp_dir / "decode"
    found = find_samples(decode_dir)
    if not found:
        what = f"no samples: no {decode_dir}/[<system>/]<set>/<utterance>/<number>/motion.npz"
        raise MissingDataError(describe(what, fix="bash run.sh --stage 6 --stop_stage 6"))
    data = {path.name: path for path in args.data_dirs}
    unknown = sorted({item.set_name for item in found} - set(data))
    if unknown:
        what = f"the data folder of the set '{unknown[0]}' in {decode_dir} is not named"
        raise MissingDataError(describe(what, got=sorted(data), fix="pass --data_dirs with all sets"))
    names = dict.fromkeys(item.set_name for item in found)
    return [(data[name], [item for item in found if item.set_name == name]) for name in names]


def collect_results(
    scored: Sequence["ScoredSet"],
    comparisons: Sequence[dict[str, Any]],
    options: "ScoreOptions",
    exp_dir: Path | None,
    command_line: Sequence[str],
) -> dict[str, Any]:
    """Put rows and the origin of the numbers together: the content of ``results.json``."""
    from espnet_av.avgen.scoring import LEVEL
    from espnet_av.report.avgen_results import TASK, ordered
    from espnet_av.train.provenance import origin_of, package_versions, utc_now
    from espnet_av.utils.experiment import read_config

    config = read_config(exp_dir) if exp_dir is not None else None
    origin = origin_of(config, "espnet_av.bin.avgen_score", command_line)
    bootstrap = {"unit": "recording", "num_resamples": options.num_resamples, "level": LEVEL, "seed": options.seed}
    return {
        "task": TASK,
        "date": utc_now(),
        **origin,
        "versions": package_versions(),
        "options": dataclasses.asdict(options),
        "bootstrap": bootstrap,
        "rows": [{**row, **origin} for row in ordered([item.row for item in scored])],
        "comparisons": list(comparisons),
    }


def remarks(rows: Sequence[dict[str, Any]]) -> str:
    """Return lines on what was skipped or left out."""
    from espnet_av.report.avgen_results import particulars, skipped_metrics

    lines = [f"{name}: skipped ({reason})" for name, reason in skipped_metrics(rows)]
    return "".join(f"{line}\n" for line in (*lines, *particulars(rows)))


if __name__ == "__main__":
    sys.exit(run_main(main))
