# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Tensors of checkpoints that also hold objects of other programs: fairseq's settings, version objects, schedulers.

``torch.load`` with ``weights_only=True`` names their classes and runs none of their code; each gets an empty stand-in,
and only the tensors are kept.
"""

import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from espnet_av.train.checkpoint import read_tensors
from espnet_av.train.loading import load_weights
from espnet_av.utils.errors import CheckpointError, describe

logger = logging.getLogger(__name__)
KEYS = ("model", "state_dict", "model_state_dict")  # below which files hold their tensors
FIX = "where the file comes from run: torch.save({KEY: torch.load(FILE, weights_only=False)[KEY]}, NEW)"


class _Emptied:
    """Takes the place of an object of the file and keeps nothing of it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _EmptiedMapping:
    """The same for objects that the file fills like a dictionary; the safe loader fills exact dictionaries only."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        """Return an empty mapping, not an object of this class."""
        return OrderedDict()


def read_foreign(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Read the state dict of a checkpoint, below the first of :data:`KEYS` or at the root.

    Args:
        path: The file.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        CheckpointError: The file is absent, damaged, or holds what stand-ins cannot replace. Nothing of it was run.
    """
    path = Path(path)
    if not path.is_file() or path.suffix == ".safetensors":
        return load_weights(path)
    names = _foreign_classes(path)
    if not names:
        return load_weights(path)
    logger.info("%s: leaving out objects of %d classes (%s, ...)", path, len(names), names[0])
    content = _load_with_stand_ins(path, names)
    key = next((key for key in KEYS if isinstance(content, Mapping) and content.get(key)), None)
    state = content[key] if key else None
    if not isinstance(state, Mapping):
        raise CheckpointError(
            describe(f"{path} holds no weights", allowed=[f"below '{name}'" for name in KEYS], fix=FIX)
        )
    strangers = [str(key) for key, value in state.items() if not isinstance(value, torch.Tensor)]
    if strangers:
        raise CheckpointError(describe(f"{path}: entries of '{key}' are no tensors", got=strangers[:3], fix=FIX))
    return dict(state)


def read_settings(path: str | os.PathLike) -> dict[str, Any]:
    """Return what a checkpoint holds beside its tensors: plain values; objects of other programs are empty stand-ins.

    Raises:
        CheckpointError: As :func:`read_foreign`.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return {}
    names = _foreign_classes(path)
    content = _load_with_stand_ins(path, names) if names else read_tensors(path, mmap=False)
    if not isinstance(content, Mapping):
        return {}
    return {str(key): value for key, value in content.items() if key not in KEYS and not torch.is_tensor(value)}


def _foreign_classes(path: Path) -> list[str]:
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # not a zip archive, or damaged: the strict reader says which
        return []


def _load_with_stand_ins(path: Path, names: list[str]) -> Any:
    for stand_in in (_EmptiedMapping, _Emptied):
        # numpy's scalars are filled by position, everything else most often by name
        classes: list[Callable | tuple[Callable, str]] = [
            (_Emptied if name.startswith("numpy.") else stand_in, name) for name in names
        ]
        try:
            with torch.serialization.safe_globals(classes):
                return read_tensors(path)
        except (CheckpointError, TypeError) as error:
            refusal = error
    raise CheckpointError(
        describe(f"{path} holds objects that cannot be left out ({refusal})", got=names[:3], fix=FIX)
    ) from refusal
