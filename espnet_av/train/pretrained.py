# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Where the public classes of all systems find the files of a trained model, and the device to run it on."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from espnet_av.utils.errors import (
    CheckpointError,
    EnvironmentProblem,
    EspnetAVError,
    MissingDataError,
    describe,
    usage_error,
)

#: Weights of an experiment folder, best first.
WEIGHT_PATTERNS = ("model.safetensors", "*.ave.pth", "*.ave_*best.pth", "*.best.pth")
_FREE_VALUES = 1 << 20

Network = TypeVar("Network", bound=torch.nn.Module)


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Return a device that is there.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1``, ... or ``auto``: a GPU where there is one, else the CPU.

    Raises:
        UsageError: The name is none of these.
        EnvironmentProblem: torch sees no such device.
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        wanted = torch.device(device)
    except RuntimeError:
        usage_error("unknown device", got=str(device), allowed=["auto", "cpu", "cuda", "cuda:N"])
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        fix = "pass --device cpu, or use a machine with a GPU that torch supports"
        got = f"{wanted}; torch sees {torch.cuda.device_count()} GPUs"
        raise EnvironmentProblem(describe("there is no such device", got=got, fix=fix))
    return wanted


def find_weights(
    folder: Path, weights: str | os.PathLike | None = None, criteria: Sequence[Sequence[str]] | None = None
) -> Path:
    """Return the weights file of a packed model or experiment.

    Args:
        folder: The folder.
        weights: A path, a name in the folder, or None for the best one there; see :data:`WEIGHT_PATTERNS`.
        criteria: Rows ``phase, name, min or max`` of the training; weights of the first come first.

    Raises:
        MissingDataError: There is none.
    """
    if weights is not None:
        return find_beside(folder, weights)
    preferred = [f"{phase}.{name}." for phase, name, *_ in criteria or ()]
    for pattern in WEIGHT_PATTERNS:
        found = sorted(folder.glob(pattern))
        found.sort(key=lambda path: [not path.name.startswith(prefix) for prefix in preferred])
        if found:
            return found[0]
    raise MissingDataError(
        describe("no weights", got=str(folder), allowed=WEIGHT_PATTERNS, fix="finish stage 5 (train)")
    )


def find_beside(folder: Path, name: str | os.PathLike, *, only_beside: bool = False) -> Path:
    """Return a file of a configuration: beside it, or where its path says, from the folder or the working directory.

    Args:
        folder: Of the configuration.
        name: The file.
        only_beside: Look nowhere else, as for a pack, which holds its files and may come from a stranger.

    Raises:
        MissingDataError: There is none.
    """
    for candidate in (folder / Path(name).name, *(() if only_beside else (folder / name, Path(name)))):
        if candidate.is_file():
            return candidate
    raise MissingDataError(describe("a file of the model is missing", got=str(name), allowed=f"below {folder}"))


def build_for(checkpoint: Path, build: Callable[[], Network]) -> Network:
    """Build the network that a checkpoint belongs to.

    A configuration may come from a stranger: where it claims more weights than the file has bytes, no memory is asked
    for.

    Args:
        checkpoint: The weights file.
        build: Makes the network.

    Raises:
        CheckpointError: The configuration claims more than that.
    """
    try:
        with torch.device("meta"):
            claimed = sum(parameter.numel() for parameter in build().parameters())
    except EspnetAVError:
        raise
    except Exception:  # a network that computes while it is built cannot be built without memory
        claimed = 0
    held = checkpoint.stat().st_size
    if claimed > held + _FREE_VALUES:
        raise CheckpointError(
            describe(
                f"the configuration claims {claimed} weights, but {checkpoint} has {held} bytes", fix="get both again"
            )
        )
    try:
        return build()
    except (MemoryError, OverflowError) as error:
        raise CheckpointError(f"the network of {checkpoint.parent} does not fit into memory ({error})") from error
