# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Further models that go into a pack, each in a folder of its own: vocoder, model of texts, recogniser of tokens."""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from espnet_av.report.licences import LedgerEntry, ledger
from espnet_av.train.conversion import save
from espnet_av.train.loading import load_weights
from espnet_av.train.pretrained import find_weights
from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error
from espnet_av.utils.experiment import read_config, read_json
from espnet_av.utils.files import sha256_file

logger = logging.getLogger(__name__)
PARTS = ("vocoder", "text_to_tokens", "tokens")
CONFIG, META, WEIGHTS = "config.yaml", "meta.json", "model.safetensors"
CONFIG_KEYS = ("model", "model_conf", "mel_conf", "preprocessor_conf")  # what builds such a model
BESIDE = ("silence.npy",)  # small arrays that belong to one
PUBLISHED_WEIGHTS = ("*.safetensors", "*.pth", "*.pt", "*.bin")


def part_licences(parts: Mapping[str, Path]) -> list[LedgerEntry]:
    """Return what the parts were trained on: from their packs, else from the data that their trainings name.

    Raises:
        UsageError: The name of a part is unknown.
        MissingDataError: There is no such folder or file.
    """
    entries = []
    for name, source in parts.items():
        if name not in PARTS:
            usage_error("unknown part of a pack", got=name, allowed=PARTS)
        if not source.exists():
            raise MissingDataError(
                describe(f"there is no {name} to pack", str(source), fix="train it, or name another")
            )
        folder = source if source.is_dir() else source.parent
        meta = read_json(folder / META)
        if isinstance(meta, Mapping):
            title = f"{name}: {meta.get('name')}"
            entries += [LedgerEntry(title, str(meta.get("licence")), "packed model", True), *entries_of(meta)]
        else:
            found = [entry for entry in ledger(read_config(folder), None, folder) if entry.trained_on]
            entries += found or [LedgerEntry(name, "not stated", "weights from elsewhere", True)]
    return entries


def entries_of(meta: Mapping[str, Any]) -> list[LedgerEntry]:
    """Return the ledger that a pack holds."""
    known = set(asdict(LedgerEntry("", "", "", False)))
    return [
        LedgerEntry(**{key: value for key, value in item.items() if key in known})
        for item in meta.get("licences") or ()
    ]


def write_parts(parts: Mapping[str, Path], extras: Mapping[str, Path], folder: Path) -> dict[str, Any]:
    """Write parts and small files below the folder of a pack, and return what ``meta.json`` says of them.

    Args:
        parts: Trainings, packs, published folders or files, by the name of the folder that each gets.
        extras: Files by the name that each gets.
        folder: Of the pack.

    Raises:
        DataError: A part holds no weights.
        CheckpointError: They are damaged or unsafe.
    """
    for name, source in parts.items():
        logger.info("packing %s as %s", source, name)
    origins = {name: _write_part(source, folder / name, name) for name, source in parts.items()}
    for name, source in extras.items():
        if not source.is_file():
            raise MissingDataError(describe("there is no file to pack", str(source)))
        shutil.copyfile(source, folder / name)
    found = {
        name: {
            "source": source.name,
            "weights": origins[name],
            "files": {path.name: sha256_file(path) for path in sorted((folder / name).iterdir())},
        }
        for name, source in parts.items()
    }
    return {"parts": found} if found else {}


def _write_part(source: Path, target: Path, name: str) -> str:
    """Write one model and return the name of the file that its weights come from."""
    target.mkdir()
    above = source if source.is_dir() else source.parent
    config = read_config(above)
    if config is None and name == "vocoder":
        return _write_vocoder(source, target)
    if config is not None:
        kept = {key: config[key] for key in CONFIG_KEYS if config.get(key) is not None}
        (target / CONFIG).write_text(yaml.safe_dump(kept, allow_unicode=True), encoding="utf-8")
        weights = find_weights(source, None, config.get("best_model_criterion")) if source.is_dir() else source
    else:
        weights = source if source.is_file() else _published_weights(source, name)
    save(target / WEIGHTS, _own_weights(load_weights(weights), name))
    for beside in BESIDE:
        if (above / beside).is_file():
            shutil.copyfile(above / beside, target / beside)
    return weights.name


def _own_weights(state: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Leave out what only trained a part: the discriminators of a vocoder."""
    if name != "vocoder":
        return dict(state)
    from espnet_av.avgen.vocoder import GENERATOR_PREFIX

    own = {key: value for key, value in state.items() if key.startswith(GENERATOR_PREFIX)}
    return own or dict(state)


def _published_weights(folder: Path, name: str) -> Path:
    found = [path for pattern in PUBLISHED_WEIGHTS for path in sorted(folder.glob(pattern))]
    if not found:
        present = sorted(path.name for path in folder.iterdir())
        raise DataError(describe(f"{folder} holds no {name}", present, [CONFIG, *PUBLISHED_WEIGHTS]))
    return found[0]


def _write_vocoder(source: Path, target: Path) -> str:
    """Write a vocoder in its published form, its weights as safetensors."""
    from espnet_av.avgen.vocoder import published_names, read_published

    published = read_published(source)
    name = "bigvgan_generator" if published.kind == "bigvgan" else "generator"
    save(target / f"{name}.safetensors", published_names(published.state))
    (target / "config.json").write_text(json.dumps(published.config, indent=1), encoding="utf-8")
    return published.source.name
