# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 1 of the LRAC recipes: find and check what the challenge's data toolkit made, and say what is missing.

``python -m espnet_av.corpora.lrac --lrac_root data --output_dir data --track 1``

Two layouts are read (https://github.com/cisco-open/lrac_data_generation):

* 2025, ``prepare_espnet_data.sh``: ``data/{speech,speech_validation}``, ``data/open_testset_track{1,2}_{clean,noisy,
  reverb}``, and ``data/{noise,noise_val,rirs,rirs_val}.scp`` with three columns;
* 2026, ``lrac-data export-kaldi``: the same with ``train`` and ``train_validation`` for the speech, lists of two
  columns, 32-bit float files; in a release folder all this is below ``kaldi/``.

Files are not touched. Folders get the names of the recipe; where they are those already, nothing is written but
``lrac_report.json``.
"""

import argparse
import logging
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espnet_av.corpora.lrac_checks import Findings, check_speech, check_test
from espnet_av.data.data_dir import read_scp, write_scp
from espnet_av.data.sound_lists import LISTS, locate, read_sound_table
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error
from espnet_av.utils.experiment import write_json
from espnet_av.utils.folders import atomic_folder
from espnet_av.utils.progress import progress

logger = logging.getLogger(__name__)
OTHER_NAMES = {  # names of the 2026 layout for those of 2025, and back
    "speech": ("train",),
    "speech_validation": ("train_validation", "validation"),
    "train": ("speech",),
    "train_validation": ("speech_validation", "validation"),
}
GET_IT = (
    "make the data with https://github.com/cisco-open/lrac_data_generation (2025: prepare_espnet_data.sh; 2026: "
    "lrac-data export-kaldi) and pass --lrac_root DIR, the folder that holds these folders"
)
_PATH_TABLES = ("wav.scp", "spk1.scp", "reference.scp")
REPORT = "lrac_report.json"


def find_root(root: Path) -> Path:
    """Return the folder with the data folders: ``root`` itself, or ``kaldi`` in a release folder of 2026.

    Raises:
        MissingDataError: There is no such folder.
    """
    if not root.is_dir():
        raise MissingDataError(describe("no folder of LRAC data", str(root), None, GET_IT))
    inner = root / "kaldi"
    if inner.is_dir() and not any(root.glob("*/wav.scp")):
        return inner
    return root


def find_sets(root: Path, names: Sequence[str]) -> dict[str, Path]:
    """Find the folders of some sets under their own or their other layout's name.

    Raises:
        MissingDataError: Folders are missing; the message names each.
    """
    found, absent = {}, []
    for name in names:
        candidates = [name, *OTHER_NAMES.get(name, ())]
        folder = next((root / candidate for candidate in candidates if (root / candidate).is_dir()), None)
        if folder is None:
            absent.append(" or ".join(str(root / candidate) for candidate in candidates))
        else:
            found[name] = folder
    if absent:
        there = sorted(path.parent.name for path in root.glob("*/wav.scp"))
        what = f"{len(absent)} of {len(names)} data folders are missing: {'; '.join(absent)}"
        fix = f"{GET_IT}; or name the sets that you have: --train_set, --valid_set, --test_sets"
        raise MissingDataError(describe(what, f"folders with a wav.scp: {', '.join(there) or 'none'}", None, fix))
    return found


def check_sets(sets: dict[str, Path], roots: Sequence[Path], num_opened: int | None) -> dict[str, Findings]:
    """Check all sets; the first two are those of training and validation."""
    results = {}
    for index, (name, folder) in enumerate(progress(list(sets.items()), title="check LRAC data", unit="set")):
        check = check_speech if index < 2 else check_test
        results[name] = check(folder, roots, num_opened)
    train, valid = list(results.values())[:2]
    shared = sorted(train.facts.pop("speakers", set()) & valid.facts.pop("speakers", set()))
    if shared:
        train_name, valid_name = list(sets)[:2]
        valid.errors.append(
            f"{len(shared)} speakers are in both {train_name} and {valid_name} (e.g. {shared[0]}); fix: choose the "
            "validation speakers anew (create_val_set_speech.py of the toolkit)"
        )
    return results


def check_lists(root: Path, roots: Sequence[Path]) -> Findings:
    """Check the lists of noises and room responses, which training for track 2 needs."""
    found = Findings()
    tables = {}
    for name in LISTS:
        try:
            tables[name] = read_sound_table(root / f"{name}.scp", roots)
        except (DataError, MissingDataError) as error:
            found.errors.append(str(error))
            continue
        found.facts[name] = {"num_listed": len(tables[name].paths), "columns": tables[name].columns}
    for kind in ("noise", "rirs"):
        if kind in tables and f"{kind}_val" in tables:
            shared = set(tables[kind].paths) & set(tables[f"{kind}_val"].paths)
            found.facts[kind]["num_shared_with_validation"] = len(shared)
            if shared:
                found.warnings.append(
                    f"{len(shared)} lines of {kind}_val.scp are in {kind}.scp too; training leaves them out"
                )
    return found


def copy_set(source: Path, target: Path, roots: Sequence[Path]) -> None:
    """Copy the tables of a data folder; relative paths in them become absolute."""
    with atomic_folder(target) as folder:
        for path in sorted(source.iterdir()):
            if path.name in _PATH_TABLES:
                table = read_scp(path)
                write_scp(folder / path.name, {key: os.path.abspath(locate(p, roots)) for key, p in table.items()})
            elif path.is_file() and not path.name.startswith("."):
                shutil.copyfile(path, folder / path.name)


def needs_copy(source: Path, target: Path, roots: Sequence[Path]) -> bool:
    """Tell whether the tables must be written anew: another folder, or paths that only ``roots`` make valid."""
    if source.resolve() != target.resolve():
        return True
    tables = [read_scp(source / name) for name in _PATH_TABLES if (source / name).is_file()]
    return any(locate(path, roots) != path for table in tables for path in table.values())


def prepare(
    lrac_root: Path,
    output_dir: Path,
    names: Sequence[str],
    *,
    with_lists: bool,
    num_opened: int | None,
) -> dict[str, Any]:
    """Find, check and hand over the data.

    Args:
        lrac_root: What the toolkit made.
        output_dir: Data folders of the recipe; it may be ``lrac_root``.
        names: Names of the training set, the validation set and the tests.
        with_lists: Whether noise and room responses are needed.
        num_opened: Files of each set whose header is read; None: all.

    Returns:
        What went into ``lrac_report.json``.

    Raises:
        MissingDataError: Folders are missing.
        DataError: What is there cannot be used; all problems are named.
    """
    root = find_root(lrac_root)
    roots = [Path(os.path.abspath(place)) for place in dict.fromkeys((root, lrac_root, root.parent, lrac_root.parent))]
    sets = find_sets(root, names)
    results = check_sets(sets, roots, num_opened)
    if with_lists:
        results["lists of noise and room responses"] = check_lists(root, roots)
    report = {
        "layout": "2026" if root != lrac_root or any(sets[name].name != name for name in list(sets)[:2]) else "2025",
        "root": str(root),
        "sets": {name: {"errors": f.errors, "warnings": f.warnings, **f.facts} for name, f in results.items()},
    }
    write_json(output_dir / REPORT, report, sort_keys=True)
    for found in results.values():
        for warning in found.warnings:
            logger.warning("%s", warning)
    errors = [error for found in results.values() for error in found.errors]
    if errors:
        shown = "\n  ".join(errors[:10]) + (f"\n  and {len(errors) - 10} more" if len(errors) > 10 else "")
        raise DataError(f"the data cannot be used ({len(errors)} problems, all in {output_dir / REPORT}):\n  {shown}")
    for name, folder in sets.items():
        if needs_copy(folder, output_dir / name, roots):
            copy_set(folder, output_dir / name, roots)
    if with_lists:
        _write_lists(root, output_dir, roots)
    return report


def _write_lists(root: Path, output_dir: Path, roots: Sequence[Path]) -> None:
    for name in LISTS:
        table = read_sound_table(root / f"{name}.scp", roots).paths
        in_place = root.resolve() == output_dir.resolve()
        if not in_place or any(not os.path.isabs(path) and not os.path.isfile(path) for path in table.values()):
            write_scp(output_dir / f"{name}.scp", {key: os.path.abspath(path) for key, path in table.items()})


def get_parser() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--lrac_root", type=Path, default=Path("data"), help="what the data toolkit made")
    parser.add_argument("--output_dir", type=Path, default=Path("data"), help="data folders of the recipe")
    parser.add_argument("--track", type=int, choices=(1, 2), default=1)
    parser.add_argument("--sets", default=None, help="training, validation and test sets, parted by blanks")
    parser.add_argument(
        "--lists", choices=("true", "false"), default=None, help="noise and rooms; default: with track 2"
    )
    parser.add_argument("--check_files", default="2000", help="files of each set that are opened: a number, or all")
    parser.add_argument("--seed", type=int, default=0, help="nothing is drawn here; kept for all stages")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command line."""
    args = get_parser().parse_args(cmd)
    if not re.fullmatch(r"all|[0-9]+", args.check_files):
        usage_error("--check_files takes a number or all", args.check_files)
    tests = [f"open_testset_track{args.track}_{condition}" for condition in ("clean", "noisy", "reverb")]
    names = args.sets.split() if args.sets else ["speech", "speech_validation", *tests]
    if len(names) < 2:
        usage_error("--sets names a training set, a validation set and tests", args.sets)
    with_lists = args.lists == "true" if args.lists else args.track == 2
    num_opened = None if args.check_files == "all" else int(args.check_files)
    report = prepare(args.lrac_root, args.output_dir, names, with_lists=with_lists, num_opened=num_opened)
    for name, facts in report["sets"].items():
        if "num_utterances" in facts:
            sys.stdout.write(f"{name}: {facts['num_utterances']} utterances, {len(facts['warnings'])} warnings\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
