# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Published checkpoints of the parts beside the generator, and the way back: head VAE, text-to-tokens, vocoder.

Each becomes a folder with ``config.yaml`` and ``model.safetensors`` that the part's own loader reads. Heads of the
text-to-tokens model leave no trace in its tensors; ``model_conf`` gives other ones.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from espnet_av.train.conversion import (
    Conversion,
    ConversionReport,
    compare,
    find_checkpoint,
    rename_tensors,
    save,
    write_folder,
)
from espnet_av.train.foreign_file import read_foreign
from espnet_av.train.loading import load_weights
from espnet_av.train.pretrained import find_weights
from espnet_av.utils.config import load_yaml
from espnet_av.utils.errors import CheckpointError, UsageError, describe, usage_error
from espnet_av.utils.files import sha256_file

HEAD_VAE, TEXT_TO_TOKENS, BIGVGAN = KINDS = ("head_vae", "text_to_tokens", "bigvgan")


def read_published(
    kind: str, source: str | os.PathLike, model_conf: Mapping[str, Any] | None = None, *, strict: bool = True
) -> tuple[Conversion, dict[str, Any]]:
    """Read a published checkpoint of a part.

    Args:
        kind: One of :data:`KINDS`.
        source: The file, or a folder with it; of a vocoder with its ``config.json`` beside it.
        model_conf: Keywords of the network that the tensors do not tell.
        strict: Raise unless every tensor has its place.

    Returns:
        The checkpoint, and what else ``config.yaml`` holds.

    Raises:
        MissingDataError: There is no such file.
        UsageError: A keyword or the kind is unknown.
        CheckpointError: The file is damaged, unsafe or of another network.
    """
    if kind not in KINDS:
        usage_error("unknown part of the generator", kind, KINDS)
    further: dict[str, Any] = {}
    if kind == BIGVGAN:
        path, state, names, conf, further = _read_vocoder(source)
    else:
        path = find_checkpoint(source)
        state, names = rename_tensors(read_foreign(path), lambda name: (name.removeprefix("module."), ""))
        conf = _sizes(kind, state)
    conf |= model_conf or {}
    with torch.device("meta"):
        fit = compare(_build(kind, conf), state)
    converted = Conversion(
        kind=kind,
        source=path,
        sha256=sha256_file(path),
        model=kind,
        model_conf=conf,
        state=state,
        names=names,
        fit=fit,
    )
    if strict:
        converted.require_fit()
    return converted, further


def write_ours(converted: Conversion, output: str | os.PathLike, further: Mapping[str, Any]) -> Path:
    """Write a part as a folder of ours.

    Args:
        converted: What :func:`read_published` found.
        output: The folder. An earlier conversion there is replaced.
        further: What :func:`read_published` gave for ``config.yaml`` besides the network.

    Returns:
        The file with the weights.

    Raises:
        UsageError: The folder holds something else.
    """
    config = {"model": converted.model, "model_conf": converted.model_conf, **further}
    return write_folder(output, converted, config, converted.state)


def _read_vocoder(
    source: str | os.PathLike,
) -> tuple[Path, dict[str, Tensor], ConversionReport, dict[str, Any], dict[str, Any]]:
    import dataclasses

    from espnet_av.avgen import vocoder
    from espnet_av.avgen.vocoder_parts import fold

    published = vocoder.read_published(source)
    if published.kind != BIGVGAN:
        fix = "load the folder as it is: every vocoder option takes it"
        raise CheckpointError(describe(f"{published.source} is no BigVGAN", published.kind, fix=fix))
    state = fold(published.state)
    folded = "joined with its direction into a plain weight"
    dropped = {name: folded for name in published.state if name not in state and name.endswith(("_g", "original0"))}
    names = ConversionReport(dropped=dropped, kept=len(state))
    conf = {key: _plain(value) for key, value in published.conf.items()}
    return published.source, state, names, conf, {"mel_conf": dataclasses.asdict(published.mel_config)}


def _plain(value: Any) -> Any:
    """Return tuples as lists, which YAML can write."""
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _sizes(kind: str, state: Mapping[str, Tensor]) -> dict[str, Any]:
    if kind == HEAD_VAE:
        from espnet_av.avgen.head_vae import conf_from_state

        return {**conf_from_state(state), "window": None}
    from espnet_av.avgen.text_to_tokens import conf_from_state as text_conf

    return text_conf(state)


def _build(kind: str, conf: Mapping[str, Any]) -> nn.Module:
    """Build the network of a part."""
    if kind == HEAD_VAE:
        from espnet_av.avgen.head_vae import HeadVAE

        network: type[nn.Module] = HeadVAE
    elif kind == TEXT_TO_TOKENS:
        from espnet_av.avgen.text_to_tokens import TextToTokens

        network = TextToTokens
    else:
        from espnet_av.avgen.bigvgan import BigVGAN

        network = BigVGAN
    weight_norm = {"weight_norm": False} if kind == BIGVGAN else {}
    try:
        return network(**{**conf, **weight_norm})
    except TypeError as error:
        raise UsageError(describe(f"model_conf does not fit {network.__name__}: {error}")) from error


def find_kind(source: str | os.PathLike) -> str | None:
    """Tell which part a folder of ours holds, an experiment, a pack or a conversion; None: no part."""
    path = Path(source) / "config.yaml"
    if not path.is_file():
        return None
    config = load_yaml(path)
    if "mel_conf" in config:
        return config.get("model") if config.get("model") == BIGVGAN else None
    try:
        names = set(load_weights(find_weights(path.parent, None, config.get("best_model_criterion"))))
    except (CheckpointError, FileNotFoundError):
        return None
    bare = {name.removeprefix(f"{kind}.") for name in names for kind in (HEAD_VAE, TEXT_TO_TOKENS)}
    if "fc_mu.weight" in bare and not any(name.startswith(("avgen.", "transformer.")) for name in names):
        return HEAD_VAE
    return TEXT_TO_TOKENS if "encoder.emb.weight" in bare else None


def read_ours(kind: str, source: str | os.PathLike) -> tuple[Path, dict[str, Tensor]]:
    """Read a part of ours.

    Returns:
        The weights file, and the tensors under their published names.

    Raises:
        MissingDataError: The folder holds no weights.
        CheckpointError: The weights do not fit the configuration.
    """
    path = Path(source)
    config = load_yaml(path / "config.yaml")
    weights = find_weights(path, None, config.get("best_model_criterion"))
    state = load_weights(weights)
    if kind == BIGVGAN:
        from espnet_av.avgen.vocoder import generator_state
        from espnet_av.avgen.vocoder_parts import fold

        state = fold(generator_state(state))
    elif kind == HEAD_VAE:
        # The statistics of a training have no place in the published file; they lie beside the data there.
        state = {name.removeprefix("head_vae."): each for name, each in state.items() if "head_mean" not in name}
        state.pop("head_std", None)
    else:
        from espnet_av.avgen.text_to_tokens import network_state

        state = network_state(state)
    with torch.device("meta"):
        fit = compare(_build(kind, config.get("model_conf") or {}), state)
    if not fit.exact:
        raise CheckpointError(f"{weights} is of another model than {path / 'config.yaml'}: {fit.summary()}")
    return weights, state


def write_original(kind: str, source: str | os.PathLike, state: Mapping[str, Tensor], output: Path) -> None:
    """Write a part in its published form.

    Args:
        kind: One of :data:`KINDS`.
        source: The folder of ours; of a vocoder the sizes are taken from it.
        state: Result of :func:`read_ours`.
        output: The file; of a vocoder its ``config.json`` is written beside it.
    """
    if output.suffix == ".safetensors":
        save(output, state)
    else:
        from espnet_av.train.checkpoint import write_tensors

        own = {name: each.detach().clone(memory_format=torch.contiguous_format) for name, each in state.items()}
        wrappers = {HEAD_VAE: {"model_state_dict": own}, TEXT_TO_TOKENS: own, BIGVGAN: {"generator": own}}
        write_tensors(output, wrappers[kind])
    if kind == BIGVGAN:
        _write_vocoder_config(Path(source), output.parent / "config.json")


def _write_vocoder_config(source: Path, target: Path) -> None:
    import json

    from espnet_av.avgen.vocoder_parts import MEL_KEYS
    from espnet_av.utils.files import atomic_write

    config = load_yaml(source / "config.yaml")
    mel = config["mel_conf"]
    content = {theirs: mel[ours] for ours, theirs in MEL_KEYS.items() if ours in mel} | (config.get("model_conf") or {})
    content.pop("weight_norm", None)
    with atomic_write(target) as stream:
        json.dump(content, stream, indent=1)
