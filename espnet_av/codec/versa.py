# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Scores of VERSA, the toolkit that the LRAC challenge scores with, where it is installed.

VERSA is installed from its repository and brings its models itself. The PyPI project ``versa`` is something else, a
library for RDF; it is told apart by what it lacks. VERSA runs as a program of its own, as the challenge's recipe
runs it: two lists of files and a list of metrics in, one dictionary per line out.
"""

import ast
import importlib.util
import json
import logging
import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from espnet_av.data.data_dir import write_scp
from espnet_av.utils.errors import DataError, describe

logger = logging.getLogger(__name__)
SCORER = "versa.bin.scorer"
INSTALL = "pip install git+https://github.com/wavlab-speech/versa"
_NOT_FINITE = re.compile(r"(?<=: )(-?)(nan|inf|NaN|Infinity)(?=\s*[,}])")


def why_absent() -> str | None:
    """Return why VERSA cannot be used, or None where it can."""
    spec = importlib.util.find_spec("versa")
    if spec is None:
        return f"VERSA is not installed; fix: {INSTALL}"
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if any((folder / "bin" / "scorer.py").is_file() for folder in folders):
        return None
    return f"the package 'versa' here is the RDF library of that name, not VERSA; fix: pip uninstall versa; {INSTALL}"


def run_versa(
    estimates: Mapping[str, str], references: Mapping[str, str], metrics: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, float]]:
    """Score files with VERSA.

    Args:
        estimates: Id -> decoded file.
        references: Id -> reference file, of the same ids.
        metrics: Entries of its configuration, ``{"name": "pseudo_mos", "predictor_types": ["utmos"], ...}``.

    Returns:
        Id -> metric -> value; NaN where VERSA gave none.

    Raises:
        DataError: VERSA failed; the message holds the end of what it said.
    """
    with tempfile.TemporaryDirectory(prefix="versa.") as name:
        folder = Path(name)
        write_scp(folder / "pred.scp", estimates)
        write_scp(folder / "gt.scp", references)
        (folder / "score.yaml").write_text(yaml.safe_dump([dict(item) for item in metrics]), encoding="utf-8")
        command = [
            *(sys.executable, "-m", SCORER, "--pred", folder / "pred.scp", "--gt", folder / "gt.scp"),
            *("--output_file", folder / "result.txt", "--score_config", folder / "score.yaml"),
            *("--use_gpu", "false", "--io", "soundfile"),
        ]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        if done.returncode != 0 or not (folder / "result.txt").is_file():
            said = (done.stderr or done.stdout).strip().splitlines()[-5:]
            raise DataError(describe("VERSA failed", got=" | ".join(said), fix="run it by hand, or pass --versa off"))
        return read_result(folder / "result.txt")


def read_result(path: str | Path) -> dict[str, dict[str, float]]:
    """Read a file of VERSA, one dictionary per line with the id under ``key``.

    Only numbers are kept. Whatever stands for a number that is not finite is NaN, never 0, and ids stay as they are.

    Raises:
        DataError: A line is no dictionary; the message names it.
    """
    found = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        content = _parse(line.strip())
        if not isinstance(content, dict) or "key" not in content:
            raise DataError(describe(f"{path} line {number} is no dictionary with a key", got=line[:80]))
        found[str(content["key"])] = {
            str(name): float(value) if value is not None and math.isfinite(value) else math.nan
            for name, value in content.items()
            if name != "key" and (value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)))
        }
    return found


def _parse(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        pass
    try:
        return ast.literal_eval(_NOT_FINITE.sub("None", line))
    except (ValueError, SyntaxError):
        return None
