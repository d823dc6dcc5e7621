# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the LRAC baselines as the challenge publishes them, and the way back.

    converted = read_published("LRAC2025_Track1_baseline_model.pth")
    write_ours(converted, "models/lrac_track1")  # Codec.from_pretrained loads the folder

Which track a file is of shows in its tensors. Dilations and looks ahead leave no trace in them, so that other sizes
need ``model_conf``.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from espnet_av.codec.choices import DEFAULT_MODEL, MODEL_CLASSES, build_generator, complete_conf
from espnet_av.codec.generator import CodecGenerator
from espnet_av.codec.model import CODEC_PREFIX
from espnet_av.codec.names import from_published, to_published
from espnet_av.codec.presets import PRESETS, preset_conf
from espnet_av.layers.stft_discriminator import MultiScaleSTFTDiscriminator
from espnet_av.train.conversion import Conversion, compare, find_checkpoint, load_strictly, save, write_folder
from espnet_av.train.foreign_file import read_foreign
from espnet_av.train.loading import LoadReport, load_weights
from espnet_av.train.pretrained import find_weights
from espnet_av.utils.config import load_yaml
from espnet_av.utils.errors import CheckpointError, describe, usage_error
from espnet_av.utils.files import sha256_file

KIND = "lrac"
DISCRIMINATOR_PREFIX = f"{CODEC_PREFIX}discriminator."


class _Codec(nn.Module):
    """Codec and discriminator under their names."""

    def __init__(self, conf: Mapping[str, Any], discriminator_conf: Mapping[str, Any] | None) -> None:
        super().__init__()
        self.codec = nn.Module()
        self.codec.generator = build_generator(DEFAULT_MODEL, conf)
        if discriminator_conf is not None:
            self.codec.discriminator = MultiScaleSTFTDiscriminator(**discriminator_conf)


def read_published(
    source: str | os.PathLike, model_conf: Mapping[str, Any] | None = None, *, strict: bool = True
) -> Conversion:
    """Read a checkpoint of the challenge, or of the codec alone, and find the sizes it fits.

    Args:
        source: The file, or a folder with it.
        model_conf: ``{preset: track1}`` or keywords of :class:`~espnet_av.codec.generator.CodecGenerator`; None: those
            of the track that the tensors fit.
        strict: Raise unless every tensor has its place; else see :attr:`Conversion.fit`.

    Raises:
        MissingDataError: There is no such file.
        UsageError: A keyword is unknown.
        CheckpointError: The file is damaged, unsafe or of another network.
    """
    path = find_checkpoint(source)
    state, names = from_published(read_foreign(path))
    if model_conf:
        conf = complete_conf(DEFAULT_MODEL, model_conf)
        fit = _compare(conf, state)
    else:
        conf, fit = find_sizes(state)
    converted = Conversion(
        kind=KIND,
        source=path,
        sha256=sha256_file(path),
        model=DEFAULT_MODEL,
        model_conf=conf,
        state=state,
        names=names,
        fit=fit,
    )
    if strict:
        converted.require_fit()
    return converted


def find_sizes(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], LoadReport]:
    """Return the preset that fits a state dict of ours best, as keywords, and how well it fits."""
    found = {name: _compare(preset_conf(name), state) for name in PRESETS}
    best = max(found, key=lambda name: (found[name].exact, found[name].share))
    return preset_conf(best), found[best]


def _compare(
    conf: Mapping[str, Any], state: Mapping[str, Tensor], discriminator_conf: Mapping[str, Any] | None = None
) -> LoadReport:
    with_discriminator = any(name.startswith(DISCRIMINATOR_PREFIX) for name in state)
    with torch.device("meta"):
        network = _Codec(conf, (discriminator_conf or {}) if with_discriminator else None)
    return compare(network, state)


def load_generator(converted: Conversion) -> CodecGenerator:
    """Build the codec of a checkpoint with its weights, in evaluation mode.

    Raises:
        CheckpointError: A tensor has no place.
    """
    generator = build_generator(converted.model, converted.model_conf)
    prefix = f"{CODEC_PREFIX}generator."
    own = {name.removeprefix(prefix): each for name, each in converted.state.items() if name.startswith(prefix)}
    load_strictly(generator, own)
    return generator.eval()


def write_ours(converted: Conversion, output: str | os.PathLike) -> Path:
    """Write the folder that ``Codec.from_pretrained`` and ``--init_param`` load.

    Args:
        converted: Result of :func:`read_published`.
        output: The folder. An earlier conversion there is replaced.

    Returns:
        The file with the weights.

    Raises:
        UsageError: The folder holds something else.
    """
    config = {"model": converted.model, "model_conf": converted.model_conf}
    return write_folder(output, converted, config, converted.state)


def is_ours(source: str | os.PathLike) -> bool:
    """Tell whether a path is a folder of ours with a codec."""
    config = Path(source) / "config.yaml"
    return config.is_file() and load_yaml(config).get("model") in MODEL_CLASSES


def read_ours(source: str | os.PathLike) -> tuple[Path, str, dict[str, Tensor]]:
    """Read one of our models: an experiment, a pack or a conversion.

    Returns:
        The weights file, the name of the network, and its tensors.

    Raises:
        MissingDataError: The folder holds no weights.
        CheckpointError: The weights are damaged or not those of the configuration.
    """
    path = Path(source)
    config = load_yaml(path / "config.yaml")
    weights = find_weights(path, None, config.get("best_model_criterion"))
    state = load_weights(weights)
    conf = complete_conf(config["model"], config.get("model_conf") or {})
    fit = _compare(conf, state, config.get("discriminator_conf"))
    if not fit.exact:
        raise CheckpointError(f"{weights} is of another model than {path / 'config.yaml'}: {fit.summary()}")
    return weights, config["model"], state


def original_names(kind: str | None, state: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Give tensors of ours the names of a published kind.

    Returns:
        The kind, and the tensors.

    Raises:
        UsageError: The codec has no such form.
    """
    if kind not in (None, KIND):
        usage_error("a codec has no such form", got=kind, allowed=[KIND])
    return KIND, to_published(state)


def write_published(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors in the file that the challenge's programs read.

    Raises:
        CheckpointError: There is nothing to write.
    """
    if not state:
        raise CheckpointError(describe("there are no tensors to write", got=str(path)))
    save(path, state)
