# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the reference's active separation <-> ours, and loading of either.

    agent = load_agent("ckpt.746.pth")           # 190 tensors below "actor_critic.", or a folder of ours
    separator = load_separator("best_ckpt_nonoverlapping_val.pth")  # 124 tensors, an agent, or a training of ours

Names of the reference: ``binSep_*`` is the extractor, ``bin2mono_*`` the converter, ``audio_mem`` the memory,
``pol_net``, ``action_dist`` and ``critic`` the policy. Sizes come from the tensors; what leaves no trace in them (heads
of attention, size of images) comes from a ``config.yaml`` beside them or from the caller.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, overload

import torch
import yaml
from torch import Tensor, nn

from espnet_av.activesep.agent import ActiveSeparationAgent
from espnet_av.activesep.policy import IMAGES
from espnet_av.activesep.separators import PassiveSeparator
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
from espnet_av.train.foreign_file import read_foreign
from espnet_av.train.loading import load_weights
from espnet_av.train.pretrained import build_for, find_weights
from espnet_av.utils.config import load_yaml
from espnet_av.utils.errors import CheckpointError, UsageError, describe, usage_error
from espnet_av.utils.files import sha256_file

AGENT: Final = "activesep"
PASSIVE: Final = "activesep_passive"
MODELS = (AGENT, PASSIVE)
ORIGINAL_PREFIX = "actor_critic."
SEPARATOR_PREFIX = "separator."

_ENCODERS = {"visual_encoder": ("visual", 6), "bin_encoder": ("binaural", 7), "monoFromMem_encoder": ("mono", 7)}
_SEPARATORS = {"binSep": "extractor", "bin2mono": "converter"}
_DECODER_LEVELS = 5

#: Start of an original name -> start of ours.
NAMES: dict[str, str] = {
    "action_dist.linear.": "policy.actor.",
    "critic.fc.": "policy.critic.",
    "pol_net.state_encoder.rnn.": "policy.gru.",
    "audio_mem.transformer.norm.": "memory.norm.",
    **{
        f"pol_net.{theirs}.cnn.{2 * number}.": f"policy.{ours}.convs.{number}."
        for theirs, (ours, _) in _ENCODERS.items()
        for number in range(3)
    },
    **{f"pol_net.{theirs}.cnn.{place}.": f"policy.{ours}.linear." for theirs, (ours, place) in _ENCODERS.items()},
    **{
        f"{theirs}_enc.passive_sep_encoder.cnn.": f"separator.{ours}.unet.encoder.levels."
        for theirs, ours in _SEPARATORS.items()
    },
    **{
        f"{theirs}_dec.passive_sep_decoder.cnn.{level}.": f"separator.{ours}.unet.decoder.levels.{level}."
        for theirs, ours in _SEPARATORS.items()
        for level in range(_DECODER_LEVELS)
    },
    **{
        f"{theirs}_dec.passive_sep_decoder.cnn.{_DECODER_LEVELS}.0.": f"separator.{ours}.unet.decoder.mix."
        for theirs, ours in _SEPARATORS.items()
    },
    **{f"audio_mem.downsample_cnn.downsample_cnn.{n}.0.": f"memory.encoder.conv{n + 1}." for n in range(2)},
    **{f"audio_mem.upsample_cnn.upsample_cnn.{n}.0.": f"memory.decoder.conv{n + 1}." for n in range(2)},
}
#: What follows ``audio_mem.transformer.layers.N.`` -> what follows ``memory.layers.N.``
LAYER_NAMES = {"self_attn.in_proj_": "qkv.", "self_attn.out_proj.": "out."}
_THEIR_LAYERS, _OUR_LAYERS = "audio_mem.transformer.layers.", "memory.layers."


def _replace(name: str, table: Mapping[str, str]) -> str | None:
    return next((new + name.removeprefix(old) for old, new in table.items() if name.startswith(old)), None)


def _replace_in_layer(name: str, old: str, new: str, table: Mapping[str, str]) -> str:
    number, _, rest = name.removeprefix(old).partition(".")
    return f"{new}{number}.{_replace(rest, table) or rest}"


def our_name(name: str) -> str | None:
    """Return our name of an original tensor, None where there is none."""
    name = name.removeprefix("module.").removeprefix(ORIGINAL_PREFIX)
    if name.startswith(_THEIR_LAYERS):
        return _replace_in_layer(name, _THEIR_LAYERS, _OUR_LAYERS, LAYER_NAMES)
    return _replace(name, NAMES)


def original_name(name: str) -> str | None:
    """Return the original name, with its prefix, of a tensor of an agent of ours; None where there is none."""
    if name.startswith(_OUR_LAYERS):
        table = {new: old for old, new in LAYER_NAMES.items()}
        theirs: str | None = _replace_in_layer(name, _OUR_LAYERS, _THEIR_LAYERS, table)
    else:
        theirs = _replace(name, {new: old for old, new in NAMES.items()})
    return None if theirs is None else ORIGINAL_PREFIX + theirs


def from_reference(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ConversionReport]:
    """Give the tensors of a checkpoint of the reference the names of an agent of ours.

    A passive checkpoint gives those below ``separator.`` only.

    Raises:
        CheckpointError: It holds something else.
    """
    strange = [name for name in state if our_name(name) is None]
    if strange or not state:
        allowed = f"names below {ORIGINAL_PREFIX}"
        raise CheckpointError(describe("not a checkpoint of active separation", got=strange[:3], allowed=allowed))
    return rename_tensors(state, lambda name: (our_name(name), ""))


def to_reference(state: Mapping[str, Tensor], *, passive_only: bool = False) -> dict[str, Tensor]:
    """Undo :func:`from_reference`.

    Args:
        state: Tensors of an agent or, without ``separator.``, of its separators.
        passive_only: Leave out memory and policy.
    """
    state = below_separator(state) if passive_only or is_passive(state) else state
    if not any(name.startswith("policy.") for name in state):
        state = {SEPARATOR_PREFIX + name: tensor for name, tensor in state.items()}
    return {str(original_name(name)): tensor for name, tensor in state.items()}


def is_passive(state: Mapping[str, Tensor]) -> bool:
    """Tell whether tensors, in names of ours, are those of the separators alone."""
    return not any(name.startswith(("policy.", "memory.")) for name in state)


def below_separator(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the separators' tensors under their own names, whatever stands before these.

    Raises:
        CheckpointError: There are none.
    """
    pattern = re.compile(r"(?:^|\.)((?:extractor|converter)\.unet\..*)$")
    found = {match[1]: tensor for name, tensor in state.items() if (match := pattern.search(name))}
    if not found:
        first = next(iter(state), None)
        raise CheckpointError(
            describe("no separators in the checkpoint", got=first, allowed="extractor.*, converter.*")
        )
    return found


def _shape(state: Mapping[str, Tensor], name: str) -> torch.Size:
    if name not in state:
        raise CheckpointError(describe("the checkpoint of active separation is incomplete", got=f"no {name}"))
    return state[name].shape


def separator_conf(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read the keywords of a :class:`PassiveSeparator` off its tensors."""
    return {"base_channels": _shape(state, "extractor.unet.encoder.levels.0.0.weight")[0]}


def agent_conf(state: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """Read the keywords of an agent off its tensors.

    Raises:
        CheckpointError: A tensor that tells a size is missing.
    """
    layers = {match[1] for name in state if (match := re.match(r"memory\.layers\.(\d+)\.", name))}
    seen = _shape(state, "policy.visual.convs.0.weight")[1]
    images = {3: ["rgb"], 1: ["depth"], 4: list(IMAGES)}.get(seen)
    if images is None:
        raise CheckpointError(describe("channels of the images", got=seen, allowed="3 (rgb), 1 (depth), 4 (both)"))
    return {
        "separator": separator_conf(below_separator(state)),
        "memory": {
            "channels": _shape(state, "memory.encoder.conv2.weight")[0],
            "skip_channels": _shape(state, "memory.encoder.conv1.weight")[0],
            "num_layers": len(layers),
            "ffn_dim": _shape(state, "memory.layers.0.linear1.weight")[0],
        },
        "policy": {
            "hidden_size": _shape(state, "policy.gru.weight_hh_l0")[1],
            "channels": [_shape(state, f"policy.visual.convs.{number}.weight")[0] for number in range(3)],
            "num_actions": _shape(state, "policy.actor.weight")[0],
            "images": images,
        },
    }


def merge_conf(found: Mapping[str, Any], given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return keywords found in tensors with those that are given put over them, one level deep."""
    merged = dict(found)
    for name, value in (given or {}).items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = {**merged[name], **value} if both else value
    return merged


@overload
def build(model: Literal["activesep"], conf: Mapping[str, Any]) -> ActiveSeparationAgent: ...


@overload
def build(model: str, conf: Mapping[str, Any]) -> nn.Module: ...


def build(model: str, conf: Mapping[str, Any]) -> nn.Module:
    """Build an agent or the separators.

    Raises:
        UsageError: A keyword that they do not take.
    """
    try:
        return ActiveSeparationAgent(**conf) if model == AGENT else PassiveSeparator(**conf)
    except TypeError as error:
        raise UsageError(describe(f"model_conf does not fit the model '{model}': {error}")) from error


def read_published(
    source: str | os.PathLike, model_conf: Mapping[str, Any] | None = None, *, strict: bool = True
) -> Conversion:
    """Read a checkpoint of the reference, of an agent or of its separators.

    Args:
        source: The file, or a folder with it. Its configuration object is not loaded.
        model_conf: Keywords of the network that override what the tensors say.
        strict: Raise unless every tensor has its place; else see ``fit`` of the result.

    Raises:
        MissingDataError: There is no such file.
        UsageError: A keyword that the network does not take.
        CheckpointError: The file is damaged, unsafe or of another model.
    """
    path = find_checkpoint(source)
    state, names = from_reference(read_foreign(path))
    model = PASSIVE if is_passive(state) else AGENT
    if model == PASSIVE:
        state = {name.removeprefix(SEPARATOR_PREFIX): tensor for name, tensor in state.items()}
        names.renamed = {old: new.removeprefix(SEPARATOR_PREFIX) for old, new in names.renamed.items()}
    conf = merge_conf(separator_conf(state) if model == PASSIVE else agent_conf(state), model_conf)
    with torch.device("meta"):
        fit = compare(build(model, conf), state)
    converted = Conversion(
        kind="activesep",
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


def write_ours(converted: Conversion, output: str | os.PathLike) -> Path:
    """Write an agent or separators as the folder that ``from_pretrained`` and :func:`load_separator` load.

    Args:
        converted: Result of :func:`read_published`.
        output: The folder; an earlier conversion there is replaced.

    Returns:
        The file with the weights.

    Raises:
        UsageError: The folder holds something else.
    """
    config = plain_config(converted.model, converted.model_conf)
    return write_folder(output, converted, config, converted.state)


def write_config(folder: Path, model: str, conf: Mapping[str, Any]) -> None:
    """Write the ``config.yaml`` that says what weights beside it belong to."""
    (folder / "config.yaml").write_text(yaml.safe_dump(plain_config(model, conf)), encoding="utf-8")


def plain_config(model: str, conf: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a ``config.yaml``: name and keywords, made of what YAML and JSON know."""
    return {"model": model, "model_conf": json.loads(json.dumps(conf))}


def is_ours(source: str | os.PathLike) -> bool:
    """Tell whether a path is a folder of ours with an agent or separators."""
    config = Path(source) / "config.yaml"
    return config.is_file() and load_yaml(config).get("model") in MODELS


def read_ours(source: str | os.PathLike) -> tuple[Path, str, dict[str, Tensor]]:
    """Read an agent or separators from a folder of ours.

    Returns:
        The weights file, the name of the model, and its tensors.

    Raises:
        MissingDataError: The folder holds no weights.
        CheckpointError: The weights are damaged or not those of the configuration.
    """
    path, conf, state = _read_any(source)
    model = PASSIVE if is_passive(state) else AGENT
    if model == PASSIVE:
        state = below_separator(state)
    conf = separator_conf(state) if model == PASSIVE else merge_conf(agent_conf(state), conf)
    with torch.device("meta"):
        fit = compare(build(model, conf), state)
    if not fit.exact:
        raise CheckpointError(f"{path} is of another model than the configuration beside it: {fit.summary()}")
    return path, model, state


def original_names(kind: str | None, state: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Give tensors of ours the names of the reference.

    Args:
        kind: ``activesep_passive`` for the separators alone, ``activesep`` for the whole agent; None: what there is.
        state: Tensors of an agent or of separators.

    Returns:
        The kind, and the tensors.

    Raises:
        UsageError: There is no such form of these tensors.
    """
    present = PASSIVE if is_passive(state) else AGENT
    kind = kind or present
    if kind not in MODELS or (kind, present) == (AGENT, PASSIVE):
        usage_error(f"a model '{present}' has no form '{kind}'", allowed=MODELS if present == AGENT else [PASSIVE])
    return kind, to_reference(state, passive_only=kind == PASSIVE)


def find_weights_of(source: str | os.PathLike) -> Path:
    """Return the file of the weights that :func:`load_agent` and :func:`load_separator` read.

    Raises:
        MissingDataError: There is none.
    """
    return _find(source)[0]


def _find(source: str | os.PathLike) -> tuple[Path, dict[str, Any]]:
    """Return the file of the weights and the configuration beside it."""
    path = Path(source).expanduser()
    folder = path if path.is_dir() else path.parent
    config = load_yaml(folder / "config.yaml") if (folder / "config.yaml").is_file() else {}
    if path.is_dir() and config:
        path = find_weights(path, None, config.get("best_model_criterion"))
    return find_checkpoint(path), config


def _read_any(source: str | os.PathLike) -> tuple[Path, dict[str, Any], dict[str, Tensor]]:
    """Return file, keywords from a configuration beside it, and tensors in names of ours."""
    path, config = _find(source)
    state = load_weights(path) if config or path.suffix == ".safetensors" else read_foreign(path)
    if any(name.removeprefix("module.").startswith(ORIGINAL_PREFIX) for name in state):
        state = from_reference(state)[0]
    conf = config.get("model_conf")
    return path, conf if isinstance(conf, dict) else {}, state


def load_agent(source: str | os.PathLike, model_conf: Mapping[str, Any] | None = None) -> ActiveSeparationAgent:
    """Load an agent of ours or of the reference, on the CPU in evaluation mode.

    Args:
        source: Folder with ``config.yaml`` and weights, or a file of weights.
        model_conf: Keywords that override what the tensors and the configuration say.

    Raises:
        MissingDataError: There is no such file.
        CheckpointError: The file is damaged, unsafe, or of separators alone.
    """
    path, conf, state = _read_any(source)
    if is_passive(state):
        raise CheckpointError(
            describe(f"{path} holds separators alone", fix="train a policy from it; load_separator() reads it")
        )
    wanted = merge_conf(merge_conf(agent_conf(state), conf), model_conf)
    agent = build_for(path, lambda: build(AGENT, wanted))
    load_strictly(agent, state)
    return agent.eval()


def load_separator(source: str | os.PathLike) -> PassiveSeparator:
    """Load the separators of a passive training or of an agent, of ours or of the reference, in evaluation mode.

    Args:
        source: Folder of a training or conversion, or a file of weights.

    Raises:
        MissingDataError: There is no such file.
        CheckpointError: The file is damaged, unsafe or holds no separators.
    """
    _, _, state = _read_any(source)
    state = below_separator(state)
    separator = PassiveSeparator(**separator_conf(state))
    load_strictly(separator, state)
    return separator.requires_grad_(False).eval()


def write_original(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors of :func:`to_reference` below ``state_dict`` as the reference does, or bare as ``.safetensors``.

    The reference's configuration object is not written; its evaluation then needs ``EVAL.USE_CKPT_CONFIG False``.
    """
    if path.suffix == ".safetensors":
        save(path, state)
        return
    write_tensors(path, {"state_dict": {name: tensor.detach().clone() for name, tensor in state.items()}})
