# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The models that generation needs: the generator itself, a vocoder, a model of texts, a recogniser of tokens."""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from espnet_av.avgen import vad
from espnet_av.avgen.choices import build_model
from espnet_av.avgen.mel import MelConfig
from espnet_av.avgen.model import network_state
from espnet_av.avgen.vocoder import Vocoder, load_vocoder, published_weights
from espnet_av.avgen.vocoder_choices import GRIFFIN_LIM
from espnet_av.train.loading import load_into, load_weights
from espnet_av.train.pretrained import build_for, find_weights
from espnet_av.utils.config import load_yaml
from espnet_av.utils.errors import CheckpointError, DataError, MissingDataError, describe
from espnet_av.utils.experiment import read_json
from espnet_av.utils.files import sha256_file
from espnet_av.utils.untrusted import load_npy

if TYPE_CHECKING:
    from espnet_av.avgen.model import AVGenModel
    from espnet_av.avgen.text_to_tokens import TextToTokens
    from espnet_av.avgen.tokens import TokenExtractor

logger = logging.getLogger(__name__)
VOCODER, TEXT, TOKENS = "vocoder", "text_to_tokens", "tokens"  # folders below that of the model
SILENCE, VAD = "silence.npy", "vad"
AUTO, NO_SOUND = "auto", "none"
KINDS = ("bigvgan", "hifigan")
CONFIG_KEYS = ("model", "model_conf", "mel_conf", "preprocessor_conf")  # of a training: what builds the model


def load_model(
    path: Path,
    weights: str | os.PathLike | None = None,
    *,
    head_vae: str | os.PathLike | None = None,
    statistics: str | os.PathLike | None = None,
    model_conf: Mapping[str, Any] | None = None,
) -> "AVGenModel":
    """Load the network and all that lies in its checkpoint.

    Args:
        path: See :meth:`~espnet_av.avgen.inference.AVGenerator.from_pretrained`.
        weights: Likewise.
        head_vae: Likewise.
        statistics: Likewise.
        model_conf: Likewise.

    Raises:
        MissingDataError: There is no such model.
        CheckpointError: The weights are of another one.
    """
    if not path.exists():
        allowed = ["an experiment or pack of avgen_train", "a converted model", "a checkpoint of AV-Flow"]
        raise MissingDataError(describe("no such generator", str(path), allowed, "run stage 5, or give another"))
    folder = path if path.is_dir() else path.parent
    if is_bare(path):
        return _load_published(path, head_vae, statistics, model_conf)
    for name, value in (("head_vae", head_vae), ("model_conf", model_conf)):
        if value:
            logger.warning("%s is ignored: %s says what this generator is", name, folder / "config.yaml")
    config = load_yaml(folder / "config.yaml")
    if not isinstance(config.get("model_conf"), dict):
        raise CheckpointError(describe(f"{folder}/config.yaml tells no model", sorted(config)[:5], "model_conf"))
    checkpoint = find_checkpoint(path, weights)
    model = build_for(checkpoint, lambda: build_model(config.get("model"), config["model_conf"]))
    try:
        state = network_state(load_weights(checkpoint))
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint}: {error}") from error
    load_into(model, state, strict=True, source=str(checkpoint))
    if statistics is not None:
        from espnet_av.avgen.statistics import find_statistics

        model.set_statistics(find_statistics(statistics))
    return model


def is_bare(path: Path) -> bool:
    """Tell whether a path is a checkpoint as it is published, a file without a configuration beside it."""
    return path.is_file() and not (path.parent / "config.yaml").is_file()


def find_checkpoint(path: Path, weights: str | os.PathLike | None = None) -> Path:
    """Return the file of the weights that :func:`load_model` reads.

    Raises:
        MissingDataError: There is none.
    """
    folder = path if path.is_dir() else path.parent
    if path.is_file() and (path.suffix != ".yaml" or not (folder / "config.yaml").is_file()):
        return path
    return find_weights(folder, weights, load_yaml(folder / "config.yaml").get("best_model_criterion"))


def _load_published(
    path: Path,
    head_vae: str | os.PathLike | None,
    statistics: str | os.PathLike | None,
    model_conf: Mapping[str, Any] | None,
) -> "AVGenModel":
    """Load a published checkpoint by way of a conversion that nobody keeps."""
    import tempfile

    from espnet_av.avgen.convert import KIND, read_published, write_ours

    converted = read_published(KIND, path, model_conf)
    with tempfile.TemporaryDirectory() as folder:
        write_ours(converted, Path(folder) / KIND, head_vae=head_vae, statistics=statistics)
        return load_model(Path(folder) / KIND)


def mel_config(model: "AVGenModel") -> MelConfig:
    """Return what spectrograms a model makes."""
    return MelConfig(num_mels=model.dims["mel"])


def choose_vocoder(
    name: str | os.PathLike, folder: Path, config: MelConfig, device: str | torch.device = "cpu"
) -> Vocoder | None:
    """Load the vocoder that a name stands for; see :meth:`~espnet_av.avgen.inference.AVGenerator.from_pretrained`.

    Raises:
        MissingDataError: There is no such vocoder.
        CheckpointError: The one beside the model is of another kind.
    """
    beside = folder / VOCODER
    if str(name) == NO_SOUND:
        return None
    if str(name) == AUTO:
        if beside.is_dir():
            return load_vocoder(beside, device)
        logger.warning("no vocoder beside the model; Griffin-Lim sounds like a robot: give one with 'vocoder'")
        name = GRIFFIN_LIM
    if str(name) not in KINDS or Path(name).exists():
        return load_vocoder(name, device, mel_config=config)
    if not beside.is_dir():
        raise MissingDataError(describe(f"no {name} beside the model", str(beside), fix="give the path of its folder"))
    vocoder = load_vocoder(beside, device)
    found = type(vocoder.network).__name__.lower()
    if found != name:
        raise CheckpointError(describe("the vocoder beside the model is another one", found, [name]))
    return vocoder


def vocoder_source(name: str | os.PathLike, folder: Path) -> str | os.PathLike | None:
    """Return where the vocoder of :func:`choose_vocoder` lies; None where it needs no files."""
    if str(name) in (NO_SOUND, GRIFFIN_LIM):
        return None
    if str(name) == AUTO or (str(name) in KINDS and not Path(name).exists()):
        return folder / VOCODER if (folder / VOCODER).is_dir() else None
    return Path(name).expanduser()


def read_array(source: str | os.PathLike | np.ndarray | Tensor, dimensions: tuple[int, ...], width: int) -> np.ndarray:
    """Return an array or the content of a ``.npy`` file as float32.

    Args:
        source: The array or file.
        dimensions: How many axes it may have.
        width: Values along the last one.

    Raises:
        MissingDataError: There is no such file.
        DataError: It holds something else, or values that are not finite.
    """
    name = "the array"
    if isinstance(source, (str, os.PathLike)):
        name = str(source)
        if not Path(source).is_file():
            raise MissingDataError(describe("no such file", name, fix="check the path, or leave it out"))
        try:
            source = load_npy(source)
        except (ValueError, OSError, EOFError) as error:
            raise DataError(f"{name} is no .npy file ({error}); fix: make it again") from error
    array = source.numpy() if isinstance(source, Tensor) else np.asarray(source)
    if array.ndim not in dimensions or array.shape[-1] != width or array.dtype.kind != "f" or 0 in array.shape:
        allowed = f"floats, {' or '.join(map(str, dimensions))} axes, {width} values in the last"
        fix = "make it again with the model and layout that the generator was trained with"
        raise DataError(describe(f"{name} has another form", (str(array.dtype), array.shape), allowed, fix))
    if not np.isfinite(array).all():
        raise DataError(f"{name} holds values that are not finite; fix: make it again")
    return np.ascontiguousarray(array, dtype=np.float32)


def find_part(folder: Path, name: str, given: str | os.PathLike | None) -> str | os.PathLike | None:
    """Return where a further model is: what was given, or the folder of its name; None where there is none.

    Raises:
        MissingDataError: What was given is not there.
    """
    if given is not None:
        if str(given) != "wav2vec2" and not Path(given).expanduser().exists():
            raise MissingDataError(describe(f"no such {name} model", str(given)))
        return given
    return folder / name if (folder / name).is_dir() else None


def model_digest(name: str, source: str | os.PathLike) -> str | None:
    """Return a digest of the files that make up a further model: equal ones give equal results.

    Args:
        name: What it is: ``vocoder``, ``token_model``, or another, which keeps its weights as trainings do.
        source: What loads it: an experiment, a folder or a file.

    Returns:
        Hex digits; None where it has no files, or they are missing, which loading it tells.
    """
    path = Path(source).expanduser()
    folder = path if path.is_dir() else path.parent
    config = load_yaml(folder / "config.yaml") if (folder / "config.yaml").is_file() else {}
    try:
        weights = path if path.is_file() else _weights_of(name, path, config)
    except MissingDataError:
        return None
    found = [json.dumps({key: config.get(key) for key in CONFIG_KEYS}, sort_keys=True, default=str)]
    files = [weights, folder / "config.json", *([folder / SILENCE] if path.is_dir() else [])]
    found += [sha256_file(file) for file in files if file.is_file()]
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def _weights_of(name: str, path: Path, config: Mapping[str, Any]) -> Path:
    if name == "token_model" and not (path / "config.yaml").is_file():
        from espnet_av.avgen.wav2vec2 import find_file

        return find_file(path)
    if name == VOCODER and not (path / "config.yaml").is_file():
        return published_weights(path)
    return find_weights(path, None, config.get("best_model_criterion"))


def load_text(source: str | os.PathLike, device: torch.device) -> "TextToTokens":
    """Load a model of texts."""
    from espnet_av.avgen.text_to_tokens import load_text_to_tokens

    return load_text_to_tokens(source, device)


def packed_vad(folder: Path) -> dict[str, Any]:
    """Return how silence was put into the tokens of a pack's training: ``mode`` and the keywords of the rule.

    Returns:
        Empty where the folder is no pack, or an older one, which does not say it.

    Raises:
        DataError: It says something else.
    """
    meta = read_json(folder / "meta.json")
    found = meta.get(VAD) if isinstance(meta, Mapping) else None
    if found is None:
        return {}
    numbers = isinstance(found, Mapping) and all(isinstance(found.get(name), (int, float)) for name in vad.RULES)
    if not numbers or found.get("mode") not in vad.MODES:
        allowed = f"mode ({' or '.join(vad.MODES)}) and the numbers {', '.join(vad.RULES)}"
        raise DataError(describe(f"{folder / 'meta.json'} has no usable {VAD}", found, allowed, "pack it again"))
    return {name: found[name] for name in ("mode", *vad.RULES)}


def load_extractor(
    source: str | os.PathLike, rule: Mapping[str, Any], silence: str | os.PathLike | None, device: torch.device
) -> "TokenExtractor":
    """Load a recogniser, with the vector of silence that lies beside it where none is named.

    Args:
        source: See :meth:`~espnet_av.avgen.tokens.TokenExtractor.from_pretrained`.
        rule: Result of :func:`packed_vad`.
        silence: File of the vector.
        device: Where to compute.
    """
    from espnet_av.avgen.tokens import TokenExtractor

    if silence is None and (Path(source) / SILENCE).is_file():
        silence = Path(source) / SILENCE
    vector = None if silence is None else str(silence)
    rules = {name: value for name, value in rule.items() if name != "mode"}
    return TokenExtractor.from_pretrained(source, vad=rule["mode"], vad_rules=rules, device=device, silence=vector)
