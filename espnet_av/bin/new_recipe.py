# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Start a recipe for a new dataset: ``espnet-av new-recipe --task avsr --name my_corpus``, or ``my_corpus/avsr``.

Copies ``egs/TEMPLATE/<task>/new_recipe`` and the configuration of an existing recipe to ``egs/my_corpus/<task>``. The
new recipe runs as it is on a plain folder layout, and with ``--debug`` on a tiny corpus of that layout which it makes
itself; what is in ``local/`` is what to change.
"""

import argparse
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.bin.stage import ROOT, find_recipe
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import UsageError, describe

PLACE_NAME = "my_dataset"
LONGEST_NAME = 64  # it becomes part of the names of folders, options and variables


def templates(root: Path = ROOT) -> list[str]:
    """Return the tasks that have a template."""
    return sorted(path.parent.name for path in root.glob("egs/TEMPLATE/*/new_recipe"))


def recipe_name(recipe: str | None, name: str | None, task: str | None) -> str:
    """Return ``<dataset>/<task>`` of the two ways to say it.

    >>> recipe_name(None, "my_corpus", "avsr")
    'my_corpus/avsr'

    Raises:
        UsageError: When neither is whole, or both are given.
    """
    if recipe is not None and name is None and task is None:
        return recipe
    if recipe is None and name is not None and task is not None:
        return f"{name}/{task}"
    raise UsageError(
        describe(
            "how is the recipe called?",
            got=[word for word in (recipe, name, task) if word],
            allowed="<dataset>/<task>, or --name <dataset> --task <task>",
            fix="espnet-av new-recipe --task avsr --name my_corpus",
        )
    )


def make_recipe(name: str, source: str | None = None, root: Path = ROOT) -> Path:
    """Make the folder of a new recipe.

    Args:
        name: ``<dataset>/<task>``; the dataset in lower case letters, digits and underscores.
        source: The recipe whose ``conf`` is copied; None: that of mini_av for this task.
        root: The checkout.

    Returns:
        The folder of the recipe.

    Raises:
        UsageError: When the name is malformed, the task has no template, the recipe exists already, or ``source`` is
            one of another task.
        MissingDataError: When there is no recipe ``source``.
    """
    dataset, _, task = name.partition("/")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", dataset) or len(dataset) > LONGEST_NAME:
        allowed = f"<dataset>/<task>, e.g. my_corpus/avsr, the dataset in at most {LONGEST_NAME} letters"
        raise UsageError(describe("bad name of a recipe", got=name, allowed=allowed))
    if task not in templates(root):
        raise UsageError(describe("no template for this task", got=task, allowed=templates(root)))
    folder = root / "egs" / dataset / task
    if folder.exists():
        raise UsageError(describe("the recipe exists", got=str(folder), fix="choose another name, or remove it"))
    like = find_recipe(source or f"mini_av/{task}", root)
    if like.name != task:
        raise UsageError(describe("--like: a recipe of another task", got=source, allowed=f"<dataset>/{task}"))
    temporary = folder.with_name(f".{task}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(root / "egs" / "TEMPLATE" / task / "new_recipe", temporary)
    shutil.copytree(like / "conf", temporary / "conf")
    for path in temporary.rglob("*"):
        if path.is_file() and path.parent.name != "conf":
            text = path.read_text(encoding="utf-8")
            text = text.replace(PLACE_NAME, dataset).replace(PLACE_NAME.upper(), dataset.upper())
            path.write_text(text, encoding="utf-8")
    temporary.rename(folder)
    return folder


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description="Start a recipe for a new dataset.")
    parser.add_argument(
        "recipe", nargs="?", metavar="DATASET/TASK", help="e.g. my_corpus/avsr; or say it by --name and --task"
    )
    parser.add_argument("--name", metavar="DATASET", help="lower case letters, digits and underscores")
    parser.add_argument("--task", help=f"one of {', '.join(templates())}")
    parser.add_argument("--like", help="recipe whose configuration is copied (default: mini_av/<task>)")
    return parser


def next_steps(name: str, folder: Path, shown: str) -> str:
    """Return what is to be done with a new recipe, in order.

    Args:
        name: ``<dataset>/<task>``.
        folder: The folder of the recipe.
        shown: The same as the user would write it.
    """
    reader = next(name for name in ("local/prepare.py", "local/data.sh") if (folder / name).is_file())
    option = f"--{name.partition('/')[0]}_root DIR"
    return (
        f"  1. bash {shown}/run.sh --debug          all stages on a tiny corpus that it makes itself\n"
        f"  2. change {shown}/{reader} to the layout of your corpus; --debug {option} runs a few clips of it\n"
        f"  3. bash {shown}/run.sh {option}\n"
        "  4. fill in its README.md, add a row to egs/recipes.yaml, and run: python tools/recipe_table.py --write\n"
        f"  - recipe: {name}\n"
        "    data: what it is\n"
        f"    needs: [{option}]\n"
        "    state: runs\n"
    )


def main(cmd: Sequence[str] | None = None) -> int:
    """Make the recipe and say what to do next."""
    args = get_parser().parse_args(cmd)
    name = recipe_name(args.recipe, args.name, args.task)
    folder = make_recipe(name, args.like)
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    sys.stdout.write(f"made {shown}\n{next_steps(name, folder, str(shown))}")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
