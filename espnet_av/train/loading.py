# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Weights of other trainings: read safely, put into a model strictly, report what happened."""

import dataclasses
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from espnet_av.train.checkpoint import read_tensors
from espnet_av.utils.errors import CheckpointError, describe
from espnet_av.utils.optional import require

logger = logging.getLogger(__name__)

_WRAPPERS = ("state_dict", "model", "model_state_dict")


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What became of each tensor.

    Attributes:
        loaded: Names that were copied into the model.
        missing: Names of the model that the file lacks.
        unexpected: Names of the file that the model lacks.
        mismatched: ``(name, shape in the file, shape in the model)``.
    """

    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]]

    @property
    def share(self) -> float:
        """Share of the model's tensors that were loaded, 0 to 1."""
        wanted = len(self.loaded) + len(self.missing) + len(self.mismatched)
        return len(self.loaded) / wanted if wanted else 1.0

    @property
    def exact(self) -> bool:
        """True when file and model hold the same names and shapes."""
        return not (self.missing or self.unexpected or self.mismatched)

    def summary(self, names: int = 3) -> str:
        """Return the counts with the first ``names`` names of each kind."""
        shapes = [f"{name} {got} for {want}" for name, got, want in self.mismatched]
        parts = [f"{len(self.loaded)} loaded"]
        for title, items in (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", shapes)):
            first = f" ({', '.join(items[:names])}{', ...' if len(items) > names else ''})" if items else ""
            parts.append(f"{len(items)} {title}{first}")
        return ", ".join(parts)


def load_weights(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Read a state dict from ``.safetensors``, or from ``.pth``/``.pt``/``.bin`` with ``weights_only=True``.

    A resume state (``checkpoint.pth``) and the usual wrappers (``{"state_dict": ...}``, ``{"model": ...}``) give the
    model's tensors within. Tensors are on the CPU.

    Raises:
        CheckpointError: When the file is absent, damaged, unsafe or holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(describe(f"no such weights file: {path}"))
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    state = read_tensors(path)
    for key in _WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
            break
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(describe(f"{path} holds no weights", got=type(state).__name__, allowed="a state dict"))
    strangers = [str(key) for key, value in state.items() if not isinstance(value, torch.Tensor)]
    if strangers:
        raise CheckpointError(
            describe(f"{path} is no state dict: {len(strangers)} entries are no tensors", got=", ".join(strangers[:3]))
        )
    return dict(state)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    torch_files = require("safetensors.torch", "train")
    try:
        return torch_files.load_file(str(path), device="cpu")
    except Exception as error:  # the library's own error class is private
        raise CheckpointError(describe(f"{path} is damaged or no safetensors file: {error}")) from error


def load_into(
    model: torch.nn.Module,
    state: Mapping[str, torch.Tensor],
    *,
    strict: bool = True,
    min_share: float = 0.5,
    source: str = "the checkpoint",
) -> LoadReport:
    """Copy a state dict into a model.

    Args:
        model: The model; nothing of it is changed when this raises.
        state: Names and tensors.
        strict: Refuse any missing, unexpected or differently shaped tensor.
        min_share: Without ``strict``: the least share of the model's tensors that must fit, 0 to 1.
        source: Name of the weights for messages.

    Returns:
        What was loaded and what was not.

    Raises:
        CheckpointError: With the counts and the first names.
    """
    own = model.state_dict()
    shapes = [
        (name, tuple(state[name].shape), tuple(tensor.shape))
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    wrong = {name for name, _, _ in shapes}
    report = LoadReport(
        loaded=[name for name in own if name in state and name not in wrong],
        missing=[name for name in own if name not in state],
        unexpected=[name for name in state if name not in own],
        mismatched=shapes,
    )
    if strict and not report.exact:
        raise CheckpointError(
            describe(
                f"{source} does not fit {type(model).__name__}: {report.summary()}",
                allowed="exactly the model's names and shapes",
                fix="use the configuration that the weights were trained with",
            )
        )
    if report.share < min_share:
        raise CheckpointError(
            describe(
                f"{source} fits {type(model).__name__} too little: {report.summary()}",
                got=f"{report.share:.0%}",
                allowed=f"at least {min_share:.0%}",
            )
        )
    model.load_state_dict({name: state[name] for name in report.loaded}, strict=False)
    logger.info("%s: %s", source, report.summary())
    return report


def load_from_spec(model: torch.nn.Module, spec: str, *, strict: bool = False, min_share: float = 0.5) -> LoadReport:
    """Load weights as ESPnet's ``--init_param`` says: ``file[:source key[:target key[:excluded keys]]]``.

    Args:
        model: The model that gets the weights.
        spec: ``file``, or ``file:encoder`` (only names below ``encoder.``), or ``file:encoder:front`` (put below
            ``front.``), or ``file:::decoder,ctc`` (all but these).
        strict: See :func:`load_into`; holds for the part of the model that the target key names.
        min_share: See :func:`load_into`; the share is of the part that the target key names.

    Raises:
        CheckpointError: When the file cannot be read or does not fit.
    """
    path, source_key, target_key, excluded = ([part.strip() for part in spec.split(":")] + [""] * 4)[:4]
    state: dict[str, Any] = load_weights(path)
    skip = tuple(key for key in excluded.split(",") if key)
    state = {name: value for name, value in state.items() if not any(_below(name, key) for key in skip)}
    if source_key:
        prefix = source_key + "."
        state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    target = model
    if target_key or source_key:
        name = target_key or source_key
        try:
            target = model.get_submodule(name)
        except AttributeError as error:
            known = [child for child, _ in model.named_children()]
            raise CheckpointError(describe(f"--init_param {spec}: the model has no part", name, known)) from error
    return load_into(target, state, strict=strict, min_share=min_share, source=f"--init_param {spec}")


def _below(name: str, key: str) -> bool:
    return name == key or name.startswith(key + ".")
