# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of AV-Flow as they are published, and the way back.

    converted = read_published("av_flow", "av_flow_ckpt_50h.pt")
    write_ours(converted, "models/av_flow", head_vae="head_vae/iter-0500000.pt")

The published file holds the transformer alone. The head VAE and the statistics of the data lie beside the data set;
with them the folder is a whole generator.
"""

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from espnet_av.avgen.choices import DEFAULT_MODEL, MODEL_CLASSES, build_model
from espnet_av.avgen.model import network_state
from espnet_av.avgen.names import from_av_flow, to_av_flow
from espnet_av.avgen.participant import PARTNER_RANGE
from espnet_av.avgen.pose import HEAD_STATISTICS, POSE_DIM
from espnet_av.avgen.presets import PARTNER_DIM
from espnet_av.avgen.statistics import find_statistics
from espnet_av.train.conversion import Conversion, compare, find_checkpoint, save, write_folder
from espnet_av.train.foreign_file import read_foreign
from espnet_av.train.loading import LoadReport, load_weights
from espnet_av.train.pretrained import find_weights
from espnet_av.utils.config import load_yaml
from espnet_av.utils.errors import CheckpointError, describe, usage_error
from espnet_av.utils.files import sha256_file

if TYPE_CHECKING:
    from espnet_av.avgen.model import AVGenModel

logger = logging.getLogger(__name__)
KIND = "av_flow"
NUM_HEADS = 4  # of the published system; they leave no trace in the tensors
REFERENCE_WINDOW = (16, 8)
MEL_BANDS, TOKEN_DIM, HEADVEC_DIM = 80, 29, 8
AUDIO_GAIN = 1.1  # the published system divides its sound by this
_TRANSFORMER = "transformer."


def av_flow_conf(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read the keywords of :class:`~espnet_av.avgen.model.AVGenModel` off the shapes of a state dict of our names.

    Heads and windows leave no trace: they are those of the published system. A condition that is wider than the tokens
    by the values of a partner is that of a conversation.

    Raises:
        CheckpointError: A tensor that tells a size is missing.
    """

    def shape(name: str) -> torch.Size:
        if _TRANSFORMER + name not in state:
            raise CheckpointError(describe("the AV-Flow checkpoint is incomplete", got=f"no {name}"))
        return state[_TRANSFORMER + name].shape

    pattern = re.compile(rf"{re.escape(_TRANSFORMER)}visual_blocks\.(\d+)\.")
    layers = {int(found[1]) for name in state if (found := pattern.match(name))}
    mel, visual = shape("audio_out.bias")[0], shape("visual_out.bias")[0]
    condition = shape("audio_in.weight")[1] - mel
    in_conversation = condition > PARTNER_DIM
    return {
        "face_dim": visual - HEADVEC_DIM,
        "headvec_dim": HEADVEC_DIM,
        "melspec_dim": mel,
        "token_dim": condition - PARTNER_DIM if in_conversation else condition,
        "participant_cond": in_conversation,
        "head_vae_conf": {"window": None},
        "condition_drop": 0.0,
        "audio_gain": AUDIO_GAIN,
        "transformer_conf": {
            "d_model": shape("audio_in.weight")[0],
            "hidden_dim": shape("audio_blocks.0.feedforward.0.weight")[0],
            "num_heads": NUM_HEADS,
            "window_per_layer": [list(REFERENCE_WINDOW) for _ in layers],
        },
    }


def read_published(
    kind: str, source: str | os.PathLike, model_conf: Mapping[str, Any] | None = None, *, strict: bool = True
) -> Conversion:
    """Read a published checkpoint of the generator.

    Args:
        kind: ``av_flow``.
        source: The file, or a folder with it.
        model_conf: What the tensors do not tell, e.g. ``{transformer_conf: {window_per_layer: ...}}``.
        strict: Raise unless every tensor has its place; else see :attr:`Conversion.fit`.

    Raises:
        MissingDataError: There is no such file.
        UsageError: A keyword or the kind is unknown.
        CheckpointError: The file is damaged, unsafe or of another network.
    """
    if kind != KIND:
        usage_error("unknown kind of generator", kind, [KIND])
    path = find_checkpoint(source)
    state, names = from_av_flow(read_foreign(path))
    conf = av_flow_conf(state)
    told = conf["transformer_conf"]
    for key, value in (model_conf or {}).items():
        nested = isinstance(value, Mapping) and isinstance(conf.get(key), Mapping)
        conf[key] = {**conf[key], **value} if nested else value
    layers, windows = len(told["window_per_layer"]), conf["transformer_conf"]["window_per_layer"]
    if len(windows) != layers:
        usage_error(f"window_per_layer must be as many as the layers of {path}", windows, f"{layers} pairs")
    converted = Conversion(
        kind=KIND,
        source=path,
        sha256=sha256_file(path),
        model=DEFAULT_MODEL,
        model_conf=conf,
        state=state,
        names=names,
        fit=_fit(conf, state),
    )
    if strict:
        converted.require_fit()
    return converted


def _fit(conf: Mapping[str, Any], state: Mapping[str, Tensor]) -> LoadReport:
    """Compare the transformer of a configuration with a state dict."""
    with torch.device("meta"):
        model = build_model(DEFAULT_MODEL, {**conf, "head_vae": False, "input_head_dim": conf["headvec_dim"]})
    found = compare(model, state)
    missing = [name for name in found.missing if name.startswith(_TRANSFORMER)]
    return LoadReport(found.loaded, missing, found.unexpected, found.mismatched)


def write_ours(
    converted: Conversion,
    output: str | os.PathLike,
    *,
    head_vae: str | os.PathLike | None = None,
    statistics: str | os.PathLike | None = None,
) -> Path:
    """Write the folder of a generator, ``config.yaml`` and ``model.safetensors``.

    Args:
        converted: Result of :func:`read_published`.
        output: The folder. An earlier conversion there is replaced.
        head_vae: The head VAE that lies beside the data, for the width of its poses and its weights; None: the latent
            itself is given as head pose, with a warning.
        statistics: Of the data, a ``.npz`` file or the folder of a data set in the 50h layout; see
            :func:`~espnet_av.avgen.statistics.find_statistics`. None: heads stay standardised, with a warning.

    Returns:
        The file with the weights.

    Raises:
        UsageError: The folder holds something else.
        CheckpointError: The head VAE does not fit.
    """
    conf = dict(converted.model_conf)
    if head_vae is None:
        conf |= {"head_vae": False, "input_head_dim": conf["headvec_dim"]}
    else:
        from espnet_av.avgen.head_vae import conf_from_state, load_head_vae

        vae, _ = load_head_vae(head_vae)
        sizes = conf_from_state(vae.state_dict())
        conf["input_head_dim"] = sizes.pop("in_dim")
        if sizes.pop("latent") != conf["headvec_dim"]:
            raise CheckpointError(describe("the head VAE has another latent", vae.latent, conf["headvec_dim"]))
        conf["head_vae_conf"] = {**conf["head_vae_conf"], **sizes, "window": vae.window}
    model = build_model(converted.model, conf)
    if head_vae is not None:
        model.load_head_vae(head_vae)
    if statistics is not None:
        model.set_statistics(find_statistics(statistics))
    _tell_missing(model)
    state = {**model.state_dict(), **{name: tensor.float() for name, tensor in converted.state.items()}}
    return write_folder(output, converted, {"model": converted.model, "model_conf": conf}, state)


def _tell_missing(model: "AVGenModel") -> None:
    """Warn of heads that are no poses, or poses in no units."""
    if model.head_vae is None:
        logger.warning(
            "no head VAE is given: heads are %d latents, no poses, which cannot be scored or drawn; pass --head_vae",
            model.dims["head"],
        )
    elif model.input_head_dim == POSE_DIM and not model.head_mean.any() and (model.head_std == 1).all():
        logger.warning(
            "no statistics of the head are given: its poses stay standardised, in no units, and scores of the head "
            "mean nothing; pass --statistics, the folder of the data (with %s) or a .npz file",
            HEAD_STATISTICS,
        )
    if model.participant_cond and (model.partner_min == -1).all() and (model.partner_max == 1).all():
        logger.warning(
            "no range of the partner's face is given: it is taken as scaled to [-1, 1] already, which SMIRK's is not; "
            "pass --statistics, the folder of the data (with %s) or a .npz file",
            PARTNER_RANGE,
        )


def is_ours(source: str | os.PathLike) -> bool:
    """Tell whether a path is a folder of ours with a generator."""
    config = Path(source) / "config.yaml"
    return config.is_file() and load_yaml(config).get("model") in MODEL_CLASSES


def read_ours(source: str | os.PathLike) -> tuple[Path, str, dict[str, Tensor]]:
    """Read one of our generators: an experiment, a pack or a conversion.

    Returns:
        The weights file, the name of the network, and its tensors.

    Raises:
        MissingDataError: The folder holds no weights.
        CheckpointError: The weights are damaged or not those of the configuration.
    """
    path = Path(source)
    config = load_yaml(path / "config.yaml")
    weights = find_weights(path, None, config.get("best_model_criterion"))
    state = network_state(load_weights(weights))
    with torch.device("meta"):
        fit = compare(build_model(config["model"], config.get("model_conf")), state)
    if not fit.exact:
        raise CheckpointError(f"{weights} is of another model than {path / 'config.yaml'}: {fit.summary()}")
    return weights, config["model"], state


def original_names(kind: str | None, state: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Give tensors of ours the published names.

    Returns:
        The kind, and the tensors.

    Raises:
        UsageError: The generator has no such form.
        CheckpointError: The network has parts that the published one has not.
    """
    if kind not in (None, KIND):
        usage_error("a generator has no such form", got=kind, allowed=[KIND])
    renamed = to_av_flow(state)
    latent = state.get("head_vae.fc_mu.bias", state.get("head_mean"))
    if latent is not None and len(latent) != HEADVEC_DIM:
        fix = "the published form cannot tell other widths; train with a head VAE of 8 values"
        raise CheckpointError(describe("the generator has no published form: its head", len(latent), HEADVEC_DIM, fix))
    return KIND, renamed


def write_published(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors in the form of the published trainer: ``{iteration, model_state_dict}``, or as ``.safetensors``."""
    if path.suffix == ".safetensors":
        save(path, state)
        return
    from espnet_av.train.checkpoint import write_tensors

    own = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
    write_tensors(path, {"iteration": 0, "model_state_dict": own})
