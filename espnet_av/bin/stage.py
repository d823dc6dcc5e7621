# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Run stages of a recipe by name: ``espnet-av stage mini_av/avsr train --nj 4``.

A recipe's ``run.sh`` counts its stages; the numbers are the same for all tasks (:data:`STAGES`). This command finds the
recipe, turns names into ``--stage`` and ``--stop_stage``, and hands everything else to ``run.sh``.
"""

import argparse
import difflib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import MissingDataError, UsageError, describe

#: Name of a stage -> its number, the same for every task.
STAGES = {
    "prepare": 1,
    "format": 2,
    "filter": 3,
    "tokens": 4,
    "train": 5,
    "infer": 6,
    "score": 7,
    "report": 8,
    "pack": 9,
}
#: Tasks that have another name for a stage: what it makes is not tokens.
OTHER_NAMES = {"avss": {"lips": 4}, "activesep": {"episodes": 4}, "codec": {"stats": 4}}
ROOT = Path(__file__).resolve().parents[2]


def stages_of(task: str) -> dict[str, int]:
    """Return the stages of a task, name to number.

    >>> stages_of("avss")["lips"]
    4
    """
    other = OTHER_NAMES.get(task, {})
    return {name: number for name, number in STAGES.items() if number not in other.values()} | other


def find_recipe(name: str, root: Path = ROOT) -> Path:
    """Return the folder of a recipe.

    Args:
        name: ``mini_av/avsr`` or a path of the folder.
        root: The checkout whose ``egs`` is searched.

    Raises:
        MissingDataError: When there is no such recipe; the message lists those there are.
    """
    for folder in (Path(name), root / "egs" / name, root / name):
        if (folder / "run.sh").is_file():
            return folder.resolve()
    recipes = sorted(str(path.parent.relative_to(root / "egs")) for path in root.glob("egs/*/*/run.sh"))
    near = difflib.get_close_matches(name, recipes, n=1)
    fix = f"did you mean '{near[0]}'?" if near else None
    raise MissingDataError(describe("no such recipe", got=name, allowed=recipes or "no recipes here", fix=fix))


def stage_range(text: str) -> tuple[int, int]:
    """Return the first and the last number of ``train``, ``5``, ``train:report``, ``train:`` or ``all``.

    Raises:
        UsageError: When a name is unknown or the order is wrong.

    >>> stage_range("train:report")
    (5, 8)
    """
    if text == "all":
        return 1, max(STAGES.values())
    first, colon, last = text.partition(":")
    start = _number(first) if first else 1
    stop = start if not colon else (_number(last) if last else max(STAGES.values()))
    if stop < start:
        raise UsageError(describe("the first stage comes after the last", got=text, fix=f"{last}:{first}"))
    return start, stop


def _number(name: str) -> int:
    known_names = STAGES | {other: number for names in OTHER_NAMES.values() for other, number in names.items()}
    if name in known_names:
        return known_names[name]
    if name.isdecimal() and int(name) in STAGES.values():
        return int(name)
    near = difflib.get_close_matches(name, list(known_names), n=1)
    fix = f"did you mean '{near[0]}'?" if near else None
    allowed = [f"{number} {known}" for known, number in known_names.items()]
    raise UsageError(describe("unknown stage", got=name, allowed=allowed, fix=fix))


def run_stages(recipe: str, stages: str, options: Sequence[str] = (), root: Path = ROOT) -> int:
    """Run stages of a recipe and return the exit code of its ``run.sh``.

    Args:
        recipe: ``mini_av/avsr`` or a path of the folder.
        stages: See :func:`stage_range`.
        options: Options of ``run.sh``.
        root: The checkout whose ``egs`` is searched.
    """
    folder = find_recipe(recipe, root)
    start, stop = stage_range(stages)
    command = ["bash", str(folder / "run.sh"), "--stage", str(start), "--stop_stage", str(stop), *options]
    environment = {"ESPNET_AV_PYTHON": sys.executable, **os.environ}
    return subprocess.run(command, env=environment, check=False).returncode


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Run stages of a recipe by name.",
        usage="%(prog)s [-h] recipe stages [options of run.sh]",
        epilog="All other options go to the recipe's run.sh; see bash egs/<dataset>/<task>/run.sh --help.",
    )
    parser.add_argument("recipe", help="dataset/task, e.g. mini_av/avsr, or a folder")
    parser.add_argument("stages", help=f"one of {', '.join(STAGES)}, its number, a range such as train:report, or all")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the stages; return the exit code of ``run.sh``."""
    arguments = list(sys.argv[1:] if cmd is None else cmd)
    args = get_parser().parse_args(arguments[:2])  # what follows belongs to run.sh
    return run_stages(args.recipe, args.stages, arguments[2:])


if __name__ == "__main__":
    sys.exit(run_main(main))
