# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as others publish them: read, renamed, and checked against the network they describe.

    recogniser = load_recogniser(
        "auto_avsr", "avsr_base.pth", unigram_model="unigram5000.model", units="unigram5000_units.txt"
    )

Sizes come from the tensors themselves, then from ``config.json`` beside them, then from the caller; what they give is
built without memory and must have exactly the names and shapes of the file.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from espnet_av.avsr import convert, convert_auto_avsr, sizes
from espnet_av.avsr.choices import get_model_class
from espnet_av.avsr.encoder import AVHubertEncoder
from espnet_av.avsr.presets import NOT_OFFERED, refuse_model
from espnet_av.avsr.tokenizer import SentencePieceTokenizer
from espnet_av.train.conversion import Conversion, compare, find_checkpoint
from espnet_av.train.foreign_file import read_foreign
from espnet_av.train.loading import load_weights
from espnet_av.utils.errors import CheckpointError, DataError, MissingDataError, UsageError, describe, usage_error
from espnet_av.utils.files import sha256_file
from espnet_av.utils.untrusted import parse_json

if TYPE_CHECKING:
    from espnet_av.avsr.inference import AVSR

logger = logging.getLogger(__name__)

KINDS = ("avsrcocktail", "auto_avsr", "avhubert")
MODEL_OF_KIND = {"avsrcocktail": "avsr", "auto_avsr": "auto_avsr", "avhubert": "avsr"}


@dataclass(frozen=True)
class Published(Conversion):
    """A recogniser, or its encoder, in our names.

    Attributes:
        vocab_size: Number of token ids; 0 for an encoder alone, whose tensors lack the leading ``encoder.``.
    """

    vocab_size: int

    @property
    def encoder_only(self) -> bool:
        """True where the file holds no decoder."""
        return self.vocab_size == 0


def read_tensors_of(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a file, or of the parts that a ``*.index.json`` lists.

    Raises:
        CheckpointError: A file is absent, damaged or unsafe.
    """
    if path.suffix != ".json":
        return read_foreign(path)
    try:
        parts = sorted(set(parse_json(path.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path} is no index of weights ({error!r})") from error
    state: dict[str, Tensor] = {}
    for name in parts:
        state.update(load_weights(path.with_name(Path(name).name)))
    return state


def read_published(
    kind: str, source: str | os.PathLike, model_conf: Mapping[str, Any] | None = None, *, strict: bool = True
) -> Published:
    """Read a checkpoint and find the network it fits.

    Args:
        kind: One of :data:`KINDS`.
        source: The file, or a folder with it and possibly ``config.json``.
        model_conf: Keywords of the network that override what the tensors and ``config.json`` say.
        strict: Raise unless every tensor has its place; else see :attr:`Published.fit`.

    Raises:
        MissingDataError: There is no such file.
        UsageError: An unknown kind, or sizes that the tensors do not tell and nobody gave.
        CheckpointError: The file is damaged, unsafe or of another model.
    """
    if kind in NOT_OFFERED:
        refuse_model(kind)
    if kind not in KINDS:
        usage_error("unknown kind of checkpoint", got=kind, allowed=KINDS)
    path = find_checkpoint(source)
    rename = {
        "avsrcocktail": convert.from_published,
        "auto_avsr": convert_auto_avsr.from_auto_avsr,
        "avhubert": convert.from_avhubert,
    }[kind]
    state, names = rename(read_tensors_of(path))
    encoder_only = kind == "avhubert"
    conf = sizes.infer_encoder_conf(state) if encoder_only else sizes.infer_model_conf(MODEL_OF_KIND[kind], state)
    conf = sizes.merge(conf, _configuration_beside(kind, path), model_conf or {})
    sizes.check_heads(conf)
    vocab_size = 0 if encoder_only else sizes.vocab_size(state)
    with torch.device("meta"):
        network = _build(kind, vocab_size, conf, path)
    published = Published(
        kind=kind, source=path, sha256=sha256_file(path), model=MODEL_OF_KIND[kind], model_conf=conf, state=state,
        names=names, fit=compare(network, state), vocab_size=vocab_size,
    )  # fmt: skip
    if strict:
        published.require_fit()
    return published


def _build(kind: str, vocab_size: int, conf: dict[str, Any], path: Path) -> torch.nn.Module:
    try:
        if kind == "avhubert":
            return AVHubertEncoder(**conf.get("encoder_conf", {}))
        return get_model_class(MODEL_OF_KIND[kind])(vocab_size=vocab_size, **conf)
    except TypeError as error:
        raise UsageError(describe(f"{path}: the sizes do not fit the network ({error})")) from error


def _configuration_beside(kind: str, path: Path) -> dict[str, Any]:
    """Keywords of a published ``config.json``; fields that the recogniser does not read are passed over."""
    config = path.with_name("config.json")
    if kind == "avhubert" or not config.is_file():
        return {}
    try:
        fields = parse_json(config.read_bytes())
    except ValueError as error:
        raise DataError(f"{config} is no JSON ({error})") from error
    translate = convert_auto_avsr.auto_avsr_config_to_keywords if kind == "auto_avsr" else convert.config_to_keywords
    known = convert_auto_avsr.KNOWN_FIELDS if kind == "auto_avsr" else convert.KNOWN_FIELDS
    passed_over = sorted(set(fields) - known)
    if passed_over:
        logger.info("%s: %d fields are not the recogniser's (%s)", config, len(passed_over), ", ".join(passed_over[:5]))
    keywords = translate({name: value for name, value in fields.items() if name in known})
    keywords.pop("vocab_size", None)  # the tensors tell
    return keywords


def find_tokenizer(
    published: Published, unigram_model: str | os.PathLike | None = None, units: str | os.PathLike | None = None
) -> SentencePieceTokenizer:
    """Make the tokenizer of a published recogniser from the user's files.

    Args:
        published: The recogniser.
        unigram_model: SentencePiece model; None looks for the one ``*.model`` file beside the checkpoint.
        units: List of units, lines ``piece id``; None looks for the one ``*units.txt`` there.

    Raises:
        MissingDataError: A file was neither given nor found.
        DataError: Files and checkpoint have different numbers of tokens.
    """
    folder = published.source.parent
    model = _given_or_beside(unigram_model, folder, "*.model", "unigram_model")
    tokenizer = SentencePieceTokenizer.from_units(model, _given_or_beside(units, folder, "*units.txt", "units"))
    if tokenizer.vocab_size != published.vocab_size:
        what = f"the unit list gives {tokenizer.vocab_size} ids, {published.source.name} has {published.vocab_size}"
        raise DataError(describe(what, fix="pass the --units that the model was trained with"))
    return tokenizer


def _given_or_beside(given: str | os.PathLike | None, folder: Path, pattern: str, option: str) -> Path:
    if given is not None:
        return Path(given)
    found = sorted(folder.glob(pattern))
    if len(found) == 1:
        return found[0]
    what = f"no --{option}, and {folder} does not hold one file {pattern}"
    fix = f"pass --{option} FILE; auto_avsr publishes unigram5000.model and unigram5000_units.txt"
    raise MissingDataError(describe(what, got=[path.name for path in found] or None, fix=fix))


def load_recogniser(
    kind: str,
    source: str | os.PathLike,
    *,
    unigram_model: str | os.PathLike | None = None,
    units: str | os.PathLike | None = None,
    model_conf: Mapping[str, Any] | None = None,
    **options: Any,
) -> "AVSR":
    """Load a published recogniser as it is, without writing it in our form first.

    Args:
        kind: ``avsrcocktail`` or ``auto_avsr``.
        source: The checkpoint or its folder.
        unigram_model: See :func:`find_tokenizer`.
        units: See :func:`find_tokenizer`.
        model_conf: See :func:`read_published`.
        **options: Keywords of :class:`~espnet_av.avsr.inference.AVSR`: ``device``, ``beam_size``, ...

    Raises:
        UsageError: The kind is unknown, or of an encoder alone.
        MissingDataError: A file is missing.
        CheckpointError: The file is damaged, unsafe or of another model.
    """
    from espnet_av.avsr.inference import AVSR

    published = read_published(kind, source, model_conf)
    if published.encoder_only:
        usage_error("an encoder alone cannot recognise", got=kind, allowed=["avsrcocktail", "auto_avsr"])
    tokenizer = find_tokenizer(published, unigram_model, units)
    network = get_model_class(published.model)(vocab_size=published.vocab_size, **published.model_conf)
    convert.load_strictly(network, published.state)
    recogniser = AVSR(network, tokenizer, **options)
    recogniser.checkpoint = published.source
    return recogniser
