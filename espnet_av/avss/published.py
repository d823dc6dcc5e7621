# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of separators and lip-reading front ends as others publish them, and the way back.

    network = load_network(read_published("rtfsnet", "best_model.pth"))

Sizes come from the tensors, then from settings in the file, then from the caller; what they give is built without
memory and must have exactly the names and shapes of the file.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from espnet_av.avss import convert, convtasnet_names
from espnet_av.avss.lip_embedding import LipEmbedder, read_note
from espnet_av.avss.model import NETWORK_PREFIX, build_network, network_state
from espnet_av.train.checkpoint import write_tensors
from espnet_av.train.conversion import (
    Conversion,
    ConversionReport,
    compare,
    find_checkpoint,
    load_strictly,
    rename_tensors,
    save,
    write_folder,
)
from espnet_av.train.foreign_file import read_foreign, read_settings
from espnet_av.train.loading import load_weights
from espnet_av.train.pretrained import find_weights
from espnet_av.utils.config import load_yaml
from espnet_av.utils.errors import CheckpointError, UsageError, describe, usage_error
from espnet_av.utils.files import sha256_file

KINDS = ("rtfsnet", "lipreading", "convtasnet", "convtasnet_espnet")
SEPARATORS = ("rtfsnet", "convtasnet")
FRONT_END = "lip_front_end"
#: Below which name original programs look for the weights, and what else they want to find.
CONTAINERS = {"rtfsnet": ("state_dict", {"model_name": "AVNet"}), "lipreading": ("model_state_dict", {})}


def read_published(
    kind: str, source: str | os.PathLike, model_conf: Mapping[str, Any] | None = None, *, strict: bool = True
) -> Conversion:
    """Read a checkpoint and find the network it fits.

    Args:
        kind: ``rtfsnet``, ``lipreading``, ``convtasnet`` (torchaudio's names) or ``convtasnet_espnet``.
        source: The file, or a folder with it.
        model_conf: Keywords of the network that override what the tensors say: what leaves no trace in them, such as
            ``repeats`` of RTFS-Net or ``layers`` of Conv-TasNet.
        strict: Raise unless every tensor has its place; else see :attr:`Conversion.fit`.

    Raises:
        MissingDataError: There is no such file.
        UsageError: An unknown kind, or a keyword that the network does not take.
        CheckpointError: The file is damaged, unsafe or of another model.
    """
    if kind not in KINDS:
        usage_error("unknown kind of checkpoint", got=kind, allowed=KINDS)
    path = find_checkpoint(source)
    tensors, given = read_foreign(path), dict(model_conf or {})
    if kind == "rtfsnet":
        state, names = convert.from_rtfsnet(tensors)
        conf = convert.rtfsnet_conf(state)
        repeats = convert.find_repeats(read_settings(path))
        conf |= {} if repeats is None else {"repeats": repeats}
    elif kind == "lipreading":
        state, names = convert.from_lipreading(tensors)
        conf = convert.lipreading_conf(state, given.pop("activation", None))
    else:
        state, names = _read_convtasnet(tensors, espnet=kind == "convtasnet_espnet")
        conf = convtasnet_names.convtasnet_conf(state, espnet=kind == "convtasnet_espnet", layers=given.get("layers"))
    conf |= given
    model = FRONT_END if kind == "lipreading" else kind.removesuffix("_espnet")
    with torch.device("meta"):
        network = _build(model, conf)
    fit = compare(network, state)
    if convert.NO_VIDEO in fit.missing:
        fit.missing.remove(convert.NO_VIDEO)  # published networks know no absent lips
    converted = Conversion(
        kind=kind,
        source=path,
        sha256=sha256_file(path),
        model=model,
        model_conf=conf,
        state=state,
        names=names,
        fit=fit,
    )
    if strict:
        converted.require_fit()
    return converted


def _build(model: str, conf: Mapping[str, Any]) -> nn.Module:
    if model in SEPARATORS:
        return build_network(model, conf)
    try:
        return LipEmbedder(**conf).net
    except TypeError as error:
        raise UsageError(describe(f"--model_conf does not fit the lip-reading front end: {error}")) from error


def _read_convtasnet(tensors: Mapping[str, Tensor], *, espnet: bool) -> tuple[dict[str, Tensor], ConversionReport]:
    if convtasnet_names.is_espnet(tensors) != espnet:
        fits = "convtasnet" if espnet else "convtasnet_espnet"
        got = next(iter(tensors), None)
        raise CheckpointError(
            describe("the Conv-TasNet has names of another program", got, fix=f"convert it as {fits}")
        )
    if espnet:
        renamed = convtasnet_names.from_espnet(tensors)
        pairs = zip(tensors, renamed, strict=True)
        return renamed, ConversionReport(renamed={old: new for old, new in pairs if old != new}, kept=len(renamed))
    return rename_tensors(tensors, lambda key: (key.removeprefix("module."), ""))


def load_network(converted: Conversion) -> nn.Module:
    """Build the network of a checkpoint with its weights, in evaluation mode: a separator or a ``LipEmbedder``.

    Raises:
        CheckpointError: A tensor has no place.
    """
    if converted.model == FRONT_END:
        return _load_embedder(converted)
    network = build_network(converted.model, converted.model_conf)
    extra = {key: value for key, value in network.state_dict().items() if key == convert.NO_VIDEO}
    load_strictly(network, {**extra, **converted.state})
    return network.eval()


def _load_embedder(converted: Conversion) -> LipEmbedder:
    embedder = LipEmbedder(**converted.model_conf)
    load_strictly(embedder.net, converted.state)
    embedder.name = converted.source.name
    return embedder


def write_ours(converted: Conversion, output: str | os.PathLike) -> Path:
    """Write a separator as the folder that ``Separator.from_pretrained`` loads, a front end as one file.

    Args:
        converted: Result of :func:`read_published`.
        output: The folder, or the ``.safetensors`` file of a front end. An earlier conversion there is replaced.

    Returns:
        The file with the weights.

    Raises:
        UsageError: The folder holds something else, or the file has another suffix.
    """
    if converted.model == FRONT_END:
        return _load_embedder(converted).save(Path(output))
    config = {
        "model": converted.model,
        "model_conf": converted.model_conf,
        "preprocessor_conf": {"peak": None},  # published networks take mixtures as they are
    }
    weights = {NETWORK_PREFIX + key: tensor for key, tensor in converted.state.items()}
    return write_folder(output, converted, config, weights)


def is_ours(source: str | os.PathLike) -> bool:
    """Tell whether a path is a separator of ours (folder with ``config.yaml``) or a front end of ours (file)."""
    path = Path(source)
    if path.is_dir():
        config = path / "config.yaml"
        return config.is_file() and load_yaml(config).get("model") in SEPARATORS
    return path.is_file() and read_note(path) is not None


def read_ours(source: str | os.PathLike) -> tuple[Path, str, dict[str, Any], dict[str, Tensor]]:
    """Read one of our models.

    Returns:
        The weights file, name and keywords of the network, and its tensors.

    Raises:
        MissingDataError: The folder holds no weights.
        CheckpointError: The weights are damaged or not those of the configuration.
    """
    path = Path(source)
    if path.is_file():
        embedder = LipEmbedder.from_pretrained(path)
        return path, FRONT_END, embedder.conf, embedder.net.state_dict()
    config = load_yaml(path / "config.yaml")
    model, conf = config["model"], config.get("model_conf") or {}
    weights = find_weights(path, None, config.get("best_model_criterion"))
    state = network_state(load_weights(weights))
    with torch.device("meta"):
        fit = compare(build_network(model, conf), state)
    if set(fit.missing) - {convert.NO_VIDEO} or fit.unexpected or fit.mismatched:
        raise CheckpointError(f"{weights} is of another model than {path / 'config.yaml'}: {fit.summary()}")
    return weights, model, conf, state


def original_names(
    kind: str | None, model: str, conf: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[str, dict[str, Tensor]]:
    """Give tensors of ours the names of a published kind.

    Args:
        kind: The kind; None: the usual one of the network.
        model: Name of the network.
        conf: Its keywords.
        state: Its tensors.

    Returns:
        The kind, and the tensors.

    Raises:
        UsageError: The network has no such form.
    """
    forms = {"rtfsnet": ("rtfsnet",), FRONT_END: ("lipreading",), "convtasnet": ("convtasnet", "convtasnet_espnet")}
    kind = kind or forms[model][0]
    if kind not in forms[model]:
        usage_error(f"a model '{model}' has no form '{kind}'", allowed=forms[model])
    if kind == "rtfsnet":
        return kind, convert.to_rtfsnet(state)
    if kind == "convtasnet_espnet":
        return kind, convtasnet_names.to_espnet(state, layers=conf.get("layers", 8))
    return kind, dict(state)


def write_original(path: Path, kind: str, state: Mapping[str, Tensor]) -> None:
    """Write tensors in the file that the original program reads, or bare as ``.safetensors``."""
    if path.suffix == ".safetensors" or kind not in CONTAINERS:
        save(path, state)
        return
    key, extra = CONTAINERS[kind]
    write_tensors(path, {**extra, key: {name: tensor.detach().clone() for name, tensor in state.items()}})
