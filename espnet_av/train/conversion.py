# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What converters of published checkpoints share: renaming that accounts for every tensor, strict loading, files."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from espnet_av.train.checkpoint import write_tensors
from espnet_av.train.loading import LoadReport
from espnet_av.utils.errors import CheckpointError, MissingDataError, describe, usage_error
from espnet_av.utils.files import atomic_path, sha256_file
from espnet_av.utils.folders import atomic_folder

NOTE = "conversion.json"  # beside converted weights: what became of every tensor
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "*.safetensors",
    "*.pth",
    "*.pt",
)


@dataclass
class ConversionReport:
    """What a conversion did with every key.

    Attributes:
        renamed: New key by old key, where they differ.
        dropped: Reason by old key.
        kept: Number of tensors in the result.
    """

    renamed: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    kept: int = 0

    def __str__(self) -> str:
        return f"{self.kept} tensors kept ({len(self.renamed)} renamed), {len(self.dropped)} dropped"


@dataclass(frozen=True)
class Conversion:
    """A checkpoint in our names, with the network it fits.

    Attributes:
        kind: Kind of checkpoint, as the converter calls it.
        source: The file.
        sha256: Its digest.
        model: Name of the network for ``model:``.
        model_conf: Its keywords.
        state: Tensors under our names.
        names: What became of each name.
        fit: Loaded, missing, unexpected and differently shaped tensors.
    """

    kind: str
    source: Path
    sha256: str
    model: str
    model_conf: dict[str, Any]
    state: dict[str, Tensor] = field(repr=False)
    names: ConversionReport
    fit: LoadReport

    def require_fit(self) -> None:
        """Refuse the checkpoint unless every tensor has its place.

        Raises:
            CheckpointError: With the counts and the first names.
        """
        if not self.fit.exact:
            what = f"{self.source} does not fit the {self.kind} network built for it: {self.fit.summary()}"
            fix = "give its own sizes with --model_conf, or the kind of checkpoint that it is"
            raise CheckpointError(describe(what, fix=fix))

    def facts(self) -> dict[str, Any]:
        """What a report holds: source, digest, and every name that was loaded, missing, unexpected or dropped."""
        return {
            "kind": self.kind,
            "source": self.source.name,
            "sha256": self.sha256,
            "model": self.model,
            "num_tensors": len(self.state),
            "num_values": sum(tensor.numel() for tensor in self.state.values()),
            "renamed": self.names.renamed,
            "dropped": self.names.dropped,
            "loaded": self.fit.loaded,
            "missing": self.fit.missing,
            "unexpected": self.fit.unexpected,
            "mismatched": self.fit.mismatched,
        }


def rename_tensors(
    state: Mapping[str, Tensor], rename: Callable[[str], tuple[str | None, str]]
) -> tuple[dict[str, Tensor], ConversionReport]:
    """Rename the tensors of a state dict.

    Args:
        state: Names and tensors.
        rename: Gives the new name, or None and the reason why the tensor is dropped.

    Raises:
        CheckpointError: Two tensors get the same name.
    """
    result: dict[str, Tensor] = {}
    report = ConversionReport()
    for old, tensor in state.items():
        target, reason = rename(old)
        if target is None:
            report.dropped[old] = reason
            continue
        if target in result:
            raise CheckpointError(f"two tensors of the checkpoint map to '{target}', the second being '{old}'")
        result[target] = tensor
        if target != old:
            report.renamed[old] = target
    report.kept = len(result)
    return result, report


def find_checkpoint(source: str | os.PathLike) -> Path:
    """Return the weights file that a path means: the file, or the one of a downloaded folder.

    Raises:
        MissingDataError: There is none.
        UsageError: The folder holds several and none has a usual name.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        raise MissingDataError(describe("no such checkpoint", got=str(path), fix="download it first; check the path"))
    for pattern in WEIGHT_FILES:
        found = sorted(path.glob(pattern))
        if len(found) > 1:
            usage_error(f"{path} holds several checkpoints", got=[each.name for each in found], fix="pass one of them")
        if found:
            return found[0]
    raise MissingDataError(describe("the folder holds no weights", got=str(path), allowed=WEIGHT_FILES))


def compare(network: torch.nn.Module, state: Mapping[str, Tensor]) -> LoadReport:
    """Compare names and shapes of a network and a state dict; nothing is loaded."""
    own = network.state_dict()
    shapes = [
        (name, tuple(state[name].shape), tuple(tensor.shape))
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    wrong = {name for name, _, _ in shapes}
    return LoadReport(
        loaded=[name for name in own if name in state and name not in wrong],
        missing=[name for name in own if name not in state],
        unexpected=[name for name in state if name not in own],
        mismatched=shapes,
    )


def load_strictly(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load all tensors or none; shapes and names must agree.

    Raises:
        CheckpointError: They do not; the message counts and names them.
    """
    own = module.state_dict()
    problems = {
        "missing": [key for key in own if key not in state],
        "unexpected": [key for key in state if key not in own],
        "of another shape": [key for key in own if key in state and own[key].shape != state[key].shape],
    }
    if any(problems.values()):
        text = "; ".join(f"{len(keys)} {kind} ({', '.join(keys[:3])})" for kind, keys in problems.items() if keys)
        raise CheckpointError(f"the checkpoint does not fit the model: {text}; fix: build the model it was made for")
    module.load_state_dict(dict(state), strict=True)


def save(path: Path, state: Mapping[str, Tensor]) -> Path:
    """Write tensors as ``.safetensors``, or with torch under any other suffix; whole or not at all."""
    own = {key: tensor.detach().clone(memory_format=torch.contiguous_format) for key, tensor in state.items()}
    if path.suffix != ".safetensors":
        write_tensors(path, own)
        return path
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        temporary.touch()  # with the usual permissions, which the library would make private
        mode = temporary.stat().st_mode
        save_file(own, str(temporary), metadata={"format": "pt"})
        temporary.chmod(mode)
    return path


def write_folder(
    output: str | os.PathLike,
    converted: Conversion,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    add: Callable[[Path], object] | None = None,
) -> Path:
    """Write the folder of a converted model: ``config.yaml``, ``model.safetensors`` and a note of the conversion.

    Args:
        output: The folder, which appears only when it is whole. An earlier conversion there is replaced.
        converted: What was read.
        config: Content of ``config.yaml``.
        state: The tensors.
        add: Writes what else belongs into the folder that it is given.

    Returns:
        The file with the weights.

    Raises:
        UsageError: The folder holds something else.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or (any(output.iterdir()) and not (output / NOTE).is_file())):
        usage_error(f"{output} holds something that is no conversion", fix="pass another folder")
    with atomic_folder(output) as folder:
        save(folder / "model.safetensors", state)
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        if add is not None:
            add(folder)
        facts = {**converted.facts(), "weights_sha256": sha256_file(folder / "model.safetensors")}
        (folder / NOTE).write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return output / "model.safetensors"
