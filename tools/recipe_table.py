#!/usr/bin/env python3
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Make the table of recipes in README.md from egs/recipes.yaml: ``--write`` changes the file, else it is printed."""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
REGISTRY, README = ROOT / "egs" / "recipes.yaml", ROOT / "README.md"
BEGIN, END = "<!-- recipes: made by tools/recipe_table.py from egs/recipes.yaml -->", "<!-- end of recipes -->"
STATES = {
    "works": "works",
    "runs": "runs; no figures yet",
    "tree": "tested on a tiny tree",
    "shards": "tested on tiny shards",
}
KEYS = {"recipe", "data", "needs", "state", "figure"}


def read_registry(path: Path = REGISTRY) -> dict[str, Any]:
    """Read and check the registry.

    Raises:
        ValueError: A row lacks something, or has something unknown; the message names it.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    names = [row.get("recipe") for row in content["recipes"]]
    for row in content["recipes"]:
        where = f"{path.name}, {row.get('recipe')}"
        if set(row) - KEYS or not {"recipe", "data", "state"} <= set(row):
            raise ValueError(f"{where}: has {sorted(row)}; allowed: {sorted(KEYS)}, all but needs and figure required")
        if row["state"] not in STATES or row["recipe"].count("/") != 1:
            raise ValueError(f"{where}: state {row['state']}; allowed: {sorted(STATES)}, of a recipe dataset/task")
        if row["recipe"].split("/")[1] not in content["tasks"]:
            raise ValueError(f"{where}: unknown task; allowed: {sorted(content['tasks'])}")
        if names.count(row["recipe"]) > 1:
            raise ValueError(f"{where}: is listed twice")
        if (row["state"] == "works") != ("figure" in row) or set(row.get("figure", ())) - {"what", "command"}:
            raise ValueError(f"{where}: what works has a figure, with what and command, and nothing else has one")
    return content


def table(content: dict[str, Any]) -> str:
    """Return what stands between the marks of the README: the table, and the figures with their commands."""
    lines = ["| task | system | recipe | data | state |", "|---|---|---|---|---|"]
    figures = []
    for task, system in content["tasks"].items():
        head = f"| `{task}` | {system} |"
        for row in (row for row in content["recipes"] if row["recipe"].endswith(f"/{task}")):
            name = row["recipe"]
            needs = f", yours: {', '.join(f'`{option}`' for option in row['needs'])}" if row.get("needs") else ""
            lines.append(f"{head} [`{name}`](egs/{name}/README.md) | {row['data']}{needs} | {STATES[row['state']]} |")
            head = "| | |"
            if "figure" in row:
                figures.append(f"| `{name}` | {row['figure']['what']} | `{row['figure']['command']}` |")
    parts = ["\n".join(lines)]
    if figures:
        parts.append("\n".join(["| recipe | one figure | printed by |", "|---|---|---|", *figures]))
    return "\n\n".join(parts)


def with_table(text: str, made: str) -> str:
    """Return the README with this table between its marks.

    Raises:
        ValueError: The marks are missing.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README.md lacks '{BEGIN}' and '{END}'")
    return f"{head}{BEGIN}\n\n{made}\n\n{END}{tail}"


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put it into README.md")
    made = table(read_registry())
    if not parser.parse_args().write:
        sys.stdout.write(made + "\n")
        return
    README.write_text(with_table(README.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    main()
