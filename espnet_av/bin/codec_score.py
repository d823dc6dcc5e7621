# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 7 of the speech codec: compare decoded sound with its references, beside Opus, and write the tables.

Of an experiment (``--exp_dir``): all sets below ``<tag>_<rate>kbps/<set>/wav/``. Of any two lists of files:
``--gt`` against ``--pred`` (``wav.scp`` files or folders of wav files).
"""

import argparse
import dataclasses
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from espnet_av.utils.cli import run_main, to_bool
from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error

if TYPE_CHECKING:
    from espnet_av.codec.scoring import ScoredSet, ScoreOptions

logger = logging.getLogger(__name__)
RATED = re.compile(r"(?P<tag>.+)_(?P<rate>\d+(\.\d+)?)kbps")


class Decoded(NamedTuple):
    """A decoded set: what made it, at which bit rate, where it lies, and its data folder."""

    system: str
    kbps: float
    folder: Path
    data_dir: Path


def get_parser() -> argparse.ArgumentParser:
    """Return the options of the scorer."""
    parser = argparse.ArgumentParser(
        description="Score decoded speech: PESQ, STOI, ViSQOL, DNSMOS, PLCMOS, SI-SDR, distances, WER; Opus beside it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--exp_dir", type=Path, help="experiment folder; receives results.json and RESULTS.md")
    parser.add_argument(
        "--decode_dirs", type=Path, nargs="+", default=None, help="<tag>_<rate>kbps folders; all of --exp_dir if absent"
    )
    parser.add_argument("--data_dirs", "--data_dir", type=Path, nargs="+", default=[], help="data folders of the sets")
    parser.add_argument("--gt", type=Path, help="wav.scp or folder of references")
    parser.add_argument("--pred", type=Path, help="wav.scp or folder of decoded files")
    parser.add_argument("--output_dir", type=Path, help="receives utt_result.txt and avg_result.txt of --pred")
    parser.add_argument("--config", type=Path, help="YAML file with the keys below, or a list of metrics as VERSA's")
    parser.add_argument(
        "--tag", "--score_tag", dest="tag", default="score", help="<set>/<tag>_<rate>kbps receives the scores of a set"
    )
    parser.add_argument("--cache_dir", type=Path, help="scores of Opus and input; anchors/ beside --exp_dir if absent")
    parser.add_argument("--nj", type=int, default=1, help="number of processes")
    group = parser.add_argument_group("these override the configuration")
    group.add_argument("--metrics", nargs="+", default=None, help="names of metrics, see espnet_av/codec/metrics.py")
    group.add_argument("--sample_rate", type=int, default=None, help="at which signals are compared, Hz")
    group.add_argument("--max_utts", type=int, default=None, help="recordings scored of each set; 0: all")
    group.add_argument(
        "--allow_missing", type=to_bool, default=None, metavar="true|false", help="score what is there, count the rest"
    )
    group.add_argument("--num_resamples", type=int, default=None, help="bootstrap draws of the confidence intervals")
    group.add_argument("--seed", type=int, default=None, help="seed of the draws")
    group.add_argument("--asr", default=None, metavar="MODEL", help="recogniser (avsr) for the word error rate")
    group.add_argument("--versa", choices=("auto", "off"), default=None, help="use VERSA where it is installed")
    group.add_argument("--opus", type=to_bool, default=None, metavar="true|false", help="score Opus beside the codec")
    group.add_argument("--opus_kbps", type=float, nargs="*", default=None, help="bit rates of Opus; none: no anchor")
    group.add_argument(
        "--score_input", type=to_bool, default=None, metavar="true|false", help="score the sound before coding too"
    )
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Score everything that was decoded; writes the files and prints the table."""
    command_line = sys.argv[1:] if cmd is None else list(cmd)
    args = get_parser().parse_args(command_line)
    options = read_options(args)
    if args.exp_dir is None and (args.gt is None or args.pred is None):
        usage_error("nothing to score", fix="pass --exp_dir DIR --data_dirs DIR..., or --gt REF --pred DECODED")
    if args.exp_dir is None:
        _score_pair(args, options)
        return
    from espnet_av.codec.anchors import score_anchors
    from espnet_av.codec.scoring import score_set, write_set
    from espnet_av.report.codec_results import main_table, results_markdown
    from espnet_av.report.results import markdown_table, write_results
    from espnet_av.train.provenance import note_references

    work = find_work(args)
    scored: list[ScoredSet] = []
    for item in work:
        found = score_set(item.data_dir, item.folder, options, system=item.system, kbps=item.kbps, nj=args.nj)
        write_set(found, item.folder / f"{args.tag}_{item.kbps:g}kbps")
        scored.append(found)
    comparisons = compare(scored, options)
    cache = args.cache_dir or args.exp_dir.resolve().parent / "anchors"
    for data_dir in dict.fromkeys(item.data_dir for item in work):
        scored += score_anchors(data_dir, options, cache, nj=args.nj)
    results = collect_results(scored, comparisons, options, args.exp_dir, command_line)
    note_references(results["rows"], args.data_dirs)
    results["anchors"] = os.path.relpath(cache, args.exp_dir)
    write_results(args.exp_dir, results, results_markdown)
    sys.stdout.write(markdown_table(*main_table(results["rows"]), right=2) + "\n")
    sys.stdout.write(remarks(results["rows"]) + f"\nresults: {args.exp_dir / 'RESULTS.md'}\n")


def read_options(args: argparse.Namespace) -> "ScoreOptions":
    """Merge the configuration file and the command line.

    Raises:
        UsageError: The file holds an unknown key, or a value is not allowed.
    """
    from espnet_av.codec.scoring import ScoreOptions
    from espnet_av.utils.config import nearest

    values = {} if args.config is None else read_score_config(args.config)
    names = [option.name for option in dataclasses.fields(ScoreOptions)]
    for key in values:
        if key not in names:
            near = nearest(key, names)
            usage_error(f"unknown key in {args.config}", got=key, allowed=names, fix=f"write {near}" if near else None)
    values |= {name: getattr(args, name) for name in names if getattr(args, name, None) is not None}
    if args.opus is False:
        values["opus_kbps"] = ()
    return ScoreOptions(**values)


def read_score_config(path: Path) -> dict[str, Any]:
    """Read a scoring configuration: keywords of :class:`ScoreOptions`, or a list of metrics as VERSA reads it.

    Of a list, what is computed here (``pesq``, ``stoi``, ``visqol``, DNSMOS, PLCMOS) goes into ``metrics``, which then
    are all there are besides the levels, and the rest into ``versa_metrics``.

    Raises:
        MissingDataError: There is no such file.
        DataError: It holds neither.
    """
    import yaml

    from espnet_av.utils.untrusted import read_yaml

    if not path.is_file():
        raise MissingDataError(describe(f"no scoring configuration {path}", fix="check --config"))
    try:
        content = read_yaml(path)
    except yaml.YAMLError as error:
        raise DataError(describe(f"{path} is not plain YAML ({error})")) from error
    if content is None or isinstance(content, Mapping):
        return dict(content or {})
    if not isinstance(content, list) or not all(isinstance(item, Mapping) and "name" in item for item in content):
        allowed = "keys and values, or a list of - name: METRIC"
        raise DataError(describe(f"{path} is no scoring configuration", allowed=allowed))
    return _from_versa_list(content)


def _from_versa_list(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    from espnet_av.codec.metrics import ALIASES, METRICS

    metrics: list[str] = []
    others: list[dict[str, Any]] = []
    for entry in entries:
        kinds = list(entry.get("predictor_types") or ())
        ours = [kind for kind in kinds if kind in METRICS or kind in ALIASES]
        if entry["name"] in METRICS or entry["name"] in ALIASES:
            metrics.append(entry["name"])
        elif kinds:
            metrics += ours
            rest = [kind for kind in kinds if kind not in ours]
            others += [{**entry, "predictor_types": rest}] if rest else []
        else:
            others.append(dict(entry))
    return {"metrics": [*metrics, "si_sdr", "mel_distance", "stft_distance"], "versa_metrics": others}


def find_work(args: argparse.Namespace) -> list[Decoded]:
    """Find the decoded sets.

    Raises:
        MissingDataError: Nothing was decoded, or the data folder of a set is not named.
    """
    folders = args.decode_dirs or sorted(path for path in args.exp_dir.glob("*kbps") if path.is_dir())
    found = []
    for folder in folders:
        sets = [path.parent for path in sorted(folder.glob("*/wav")) if path.is_dir()]
        sets = sets or ([folder] if (folder / "wav").is_dir() else [])
        found += [(*_rate_of(item), item) for item in sets]
    if not found:
        fix = "bash run.sh --stage 6 --stop_stage 6"
        where = " ".join(map(str, folders)) or f"{args.exp_dir}/<tag>_<rate>kbps"
        raise MissingDataError(describe(f"no decoded sound: no <set>/wav in {where}", fix=fix))
    tags = {tag for tag, _, _ in found}
    data = {path.name: path for path in args.data_dirs}
    work = []
    for tag, kbps, folder in found:
        if folder.name not in data:
            what = f"the data folder of the decoded set '{folder.name}' is not named"
            raise MissingDataError(describe(what, got=sorted(data), fix="pass --data_dirs with all test sets"))
        work.append(Decoded(tag if len(tags) > 1 else "codec", kbps, folder, data[folder.name]))
    return sorted(work, key=lambda item: (list(data).index(item.folder.name), item.system, item.kbps))


def _rate_of(folder: Path) -> tuple[str, float]:
    """Return tag and bit rate of a decoded set, from the name of the folder above it or its ``infer.json``."""
    from espnet_av.utils.experiment import read_json

    named = RATED.fullmatch(folder.parent.name)
    if named:
        return named["tag"], float(named["rate"])
    facts = read_json(folder / "infer.json")
    if isinstance(facts, Mapping) and isinstance(facts.get("bitrate_kbps"), (int, float)):
        return folder.parent.name, float(facts["bitrate_kbps"])
    allowed = "<tag>_<rate>kbps, as decode_6kbps"
    raise MissingDataError(describe(f"the bit rate of {folder} is not known", folder.parent.name, allowed))


def compare(scored: Sequence["ScoredSet"], options: "ScoreOptions") -> list[dict[str, Any]]:
    """Compare on the same recordings: highest with lowest bit rate of a system, and systems at equal bit rates."""
    from espnet_av.codec.scoring import compare_sets

    found = []
    for name in dict.fromkeys(item.row["set"] for item in scored):
        here = [item for item in scored if item.row["set"] == name]
        systems = list(dict.fromkeys(item.row["system"] for item in here))
        for system in systems:
            own = sorted((i for i in here if i.row["system"] == system), key=lambda i: i.row["bitrate_kbps"])
            if len(own) > 1:
                found.append(compare_sets(own[-1], own[0], options))
        for index, system in enumerate(systems):
            for other in systems[index + 1 :]:
                for first in (item for item in here if item.row["system"] == system):
                    for second in (item for item in here if item.row["system"] == other):
                        if first.row["bitrate_kbps"] == second.row["bitrate_kbps"]:
                            found.append(compare_sets(first, second, options))
    return found


def collect_results(
    scored: Sequence["ScoredSet"],
    comparisons: Sequence[Mapping[str, Any]],
    options: "ScoreOptions",
    exp_dir: Path,
    command_line: Sequence[str],
) -> dict[str, Any]:
    """Put rows and the origin of the numbers together: the content of ``results.json``."""
    from espnet_av.codec.scoring import LEVEL
    from espnet_av.report.codec_results import TASK, ordered
    from espnet_av.train.provenance import origin_of, package_versions, utc_now
    from espnet_av.utils.experiment import read_config

    config = read_config(exp_dir)
    origin = origin_of(config, "espnet_av.bin.codec_score", command_line)
    bootstrap = {"unit": "recording", "num_resamples": options.num_resamples, "level": LEVEL, "seed": options.seed}
    return {
        "task": TASK,
        "date": utc_now(),
        **origin,
        "versions": {**package_versions(), **scorer_versions()},
        "metrics": list(options.metrics),
        "sample_rate": options.sample_rate,
        "max_utts": options.max_utts,
        "bootstrap": bootstrap,
        "rows": [{**row, **origin} for row in ordered([item.row for item in scored])],
        "comparisons": list(comparisons),
    }


def scorer_versions() -> dict[str, str]:
    """Return the versions of the packages that compute metrics."""
    import importlib.metadata

    found = {}
    for name in ("pesq", "pystoi", "visqol-python", "speechmos", "onnxruntime", "distillmos"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def remarks(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return lines on what was skipped or is particular about a set."""
    from espnet_av.report.codec_results import particulars, skipped_metrics

    lines = [f"{name}: skipped ({reason})" for name, reason in skipped_metrics(rows)]
    return "".join(f"{line}\n" for line in (*lines, *particulars(rows)))


def _score_pair(args: argparse.Namespace, options: "ScoreOptions") -> None:
    from espnet_av.codec.scoring import ScoredSet, find_items, list_decoded, score_files, set_row, write_set
    from espnet_av.data.data_dir import read_scp

    def listed(path: Path) -> dict[str, str]:
        if path.is_file():
            return read_scp(path)
        return list_decoded(path) or {file.stem: str(file) for file in sorted(path.glob("*.wav"))}

    references = listed(args.gt)
    if not references:
        raise MissingDataError(describe(f"no references in {args.gt}", allowed="a wav.scp, or a folder of wav files"))
    items, num_missing = find_items(references, listed(args.pred), args.pred, options)
    utterances, skipped = score_files(items, options, texts=None, title=args.pred.name, nj=args.nj)
    row = {"set": args.pred.name, "system": "codec", "bitrate_kbps": None, "n_missing": num_missing}
    scored = ScoredSet({**row, **set_row(utterances, options, skipped)}, utterances)
    if args.output_dir is not None:
        write_set(scored, args.output_dir)
    from espnet_av.codec.scoring import mean_lines

    sys.stdout.write("".join(f"{line}\n" for line in mean_lines(scored.row)))


if __name__ == "__main__":
    sys.exit(run_main(main))
