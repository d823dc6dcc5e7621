# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Where a training starts from under ``--model_name_or_path``: never silently from somewhere else."""

import os
from pathlib import Path

from espnet_av.utils.errors import MissingDataError, describe
from espnet_av.utils.hub import fetch_repository, split_source

#: Weights of a model folder, best first.
WEIGHTS = ("model.safetensors", "*.ave.pth", "*.ave_*best.pth", "*.best.pth", "pytorch_model.bin", "*.safetensors")


def find_start_weights(source: str, cache_dir: str | os.PathLike | None = None) -> Path:
    """Return the weights file that ``--model_name_or_path`` means.

    Args:
        source: A weights file; a folder with one (a pack, an experiment, a downloaded model); or, where there is no
            such path, a name on the hub.
        cache_dir: Where models of the hub are kept.

    Raises:
        MissingDataError: There is no such path and no such name, or the folder holds no weights.
        EnvironmentProblem: The name may be one of the hub, which cannot be reached.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        if split_source(source) is None:
            fix = "check the path; without --model_name_or_path training starts from random weights"
            raise MissingDataError(describe("--model_name_or_path: no such file or folder", got=source, fix=fix))
        try:
            path = fetch_repository(source, cache_dir)
        except Exception as error:
            error.args = (f"--model_name_or_path {source}: there is no such path here, and {error}",)
            raise
    for pattern in WEIGHTS:
        found = sorted(path.glob(pattern))
        if found:
            return found[0]
    raise MissingDataError(
        describe("--model_name_or_path: the folder holds no weights", got=str(path), allowed=WEIGHTS)
    )
