# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Converted models: the folder that ``AVSR.from_pretrained`` loads, an encoder for training, or the original names."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from espnet_av.avsr import convert, convert_auto_avsr, sizes
from espnet_av.avsr.choices import get_model_class
from espnet_av.avsr.published import KINDS, MODEL_OF_KIND, Published
from espnet_av.avsr.tokenizer import SentencePieceTokenizer
from espnet_av.train.conversion import compare, find_checkpoint, save, write_folder
from espnet_av.train.loading import load_weights
from espnet_av.utils.config import load_yaml
from espnet_av.utils.errors import CheckpointError, describe, usage_error

AUTO_AVSR_BRANCHES = ("encoder.video.", "encoder.audio.")
OUR_PREFIX = convert.PUBLISHED_PREFIX  # weights of trained models lie below it too


def write_model_folder(published: Published, tokenizer: SentencePieceTokenizer, output: str | os.PathLike) -> Path:
    """Write the folder that ``AVSR.from_pretrained`` loads; it appears only when it is whole.

    Args:
        published: A recogniser, not an encoder alone.
        tokenizer: Its tokens.
        output: The folder; an earlier conversion there is replaced.

    Raises:
        UsageError: The folder holds something else, or there is only an encoder.
    """
    if published.encoder_only:
        usage_error("an encoder alone is no recogniser", got=published.kind, fix="pass --to encoder")
    config = {
        "model": published.model,
        "model_conf": published.model_conf,
        "token_type": "bpe",
        "token_list": list(tokenizer.tokens),
        "bpemodel": "bpe.model",
    }

    def add_tokens(folder: Path) -> None:
        (folder / "bpe.model").write_bytes(tokenizer.model_path.read_bytes())
        tokenizer.write(folder / "tokens.txt")

    weights = {OUR_PREFIX + key: tensor for key, tensor in published.state.items()}
    return write_folder(output, published, config, weights, add_tokens).parent


def write_encoder(published: Published, output: str | os.PathLike) -> Path:
    """Write the encoder for ``--init_param OUT:avsr.encoder`` of a training with a new decoder.

    Args:
        published: Any kind.
        output: ``.safetensors`` or ``.pth`` file.
    """
    prefix = "encoder." if published.encoder_only else ""
    return save(Path(output), encoder_of_ours({prefix + key: tensor for key, tensor in published.state.items()}))


def read_ours(source: str | os.PathLike) -> tuple[Path, str, dict[str, Tensor]]:
    """Read one of our models: a pack, an experiment or a weights file.

    Returns:
        The weights file, the name of the network, and its tensors without the leading ``avsr.``.

    Raises:
        MissingDataError: There is no such model.
        CheckpointError: The weights are damaged or not those of its ``config.yaml``.
    """
    from espnet_av.avsr.inference import find_weights

    source = Path(source)
    config: dict[str, Any] = {}
    if source.is_dir() and (source / "config.yaml").is_file():
        config = load_yaml(source / "config.yaml")
        path = find_weights(source, None, config.get("best_model_criterion"))
    else:
        path = find_checkpoint(source)
    state = {key.removeprefix(OUR_PREFIX): tensor for key, tensor in load_weights(path).items()}
    model = "auto_avsr" if any(key.startswith(AUTO_AVSR_BRANCHES) for key in state) else "avsr"
    if config:
        with torch.device("meta"):
            network = get_model_class(config.get("model"))(
                vocab_size=sizes.vocab_size(state), **(config.get("model_conf") or {})
            )
        fit = compare(network, state)
        if not fit.exact:
            raise CheckpointError(f"{path} is of another model than {source / 'config.yaml'}: {fit.summary()}")
    return path, model, state


def encoder_of_ours(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder of a recogniser under the names that a training gives it, ``avsr.encoder.``.

    Args:
        state: Our names, with the leading ``avsr.`` or without.

    Raises:
        CheckpointError: There is no encoder.
    """
    state = {key.removeprefix(OUR_PREFIX): tensor for key, tensor in state.items()}
    encoder = {OUR_PREFIX + key: tensor for key, tensor in state.items() if key.startswith("encoder.")}
    if not encoder:
        raise CheckpointError("the weights hold no encoder; fix: pass those of a recogniser")
    return encoder


def original_names(kind: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give our tensors the names of a published kind.

    Args:
        kind: ``avsrcocktail``, ``auto_avsr``, or ``avhubert`` for the encoder under fairseq's names.
        state: A trained recogniser's, with the leading ``avsr.`` or without.

    Raises:
        CheckpointError: The recogniser is of another kind.
    """
    state = {key.removeprefix(OUR_PREFIX): tensor for key, tensor in state.items()}
    ours = "auto_avsr" if any(key.startswith(AUTO_AVSR_BRANCHES) for key in state) else "avsr"
    if kind not in KINDS:
        usage_error("unknown kind of checkpoint", got=kind, allowed=KINDS)
    if MODEL_OF_KIND[kind] != ours:
        raise CheckpointError(describe(f"a model '{ours}' has no form '{kind}'", fix=f"pass --to {default_kind(ours)}"))
    if kind == "auto_avsr":
        return convert_auto_avsr.to_auto_avsr(state)
    if kind == "avsrcocktail":
        return convert.to_published({key: t for key, t in state.items() if not key.startswith("audio_prediction.")})
    skip = len(f"{OUR_PREFIX}encoder.")
    return convert.to_avhubert({key[skip:]: tensor for key, tensor in encoder_of_ours(state).items()})


def default_kind(model: str) -> str:
    """The published kind of one of our networks."""
    return "auto_avsr" if model == "auto_avsr" else "avsrcocktail"
