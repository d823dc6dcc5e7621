# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The licence ledger: which corpora a model was trained on, and whether it may be given away under a licence.

This is a guard against oversights, not legal advice. Whether weights are a derivative of their training data is open
in most countries; the rules here take the careful reading.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_av.utils.experiment import iterate_data_json, read_config, read_json

# A licence name or text may match several of these patterns.
_FORBIDS_SHARING = re.compile(
    r"no[ _-]?redistribut|not[ _-]redistribut|(?<![a-z])nd(?![a-z])|no[ _-]?deriv|evaluation[ _-]only|confidential"
    r"|internal[ _-]use|proprietary|all[ _-]rights[ _-]reserved|signed[ _-]agreement",
    re.IGNORECASE,
)
_NON_COMMERCIAL = re.compile(
    r"(?<![a-z])nc(?![a-z])|non[ _-]?commercial|research[ _-](use[ _-])?only|academic[ _-](use[ _-])?only",
    re.IGNORECASE,
)
_SHARE_ALIKE = re.compile(r"(?<![a-z])sa(?![a-z])|share[ _-]?alike", re.IGNORECASE)
# A software licence counts only as the whole name: a sentence may say which program made the data.
_SOFTWARE_SHARE_ALIKE = re.compile(r"(gnu )?[al]?gpl[\w.+-]*", re.IGNORECASE)
_OPEN = re.compile(
    r"cc[ _-]?0|cc[ _-]by|creative commons|public[ _-]domain|apache|(?<![a-z])(mit|isc|pddl|mpl)(?![a-z])|bsd|odc"
    r"|a?gpl",
    re.IGNORECASE,
)


START_KEYS = ("initialised_from", "init_param", "model_name_or_path")  # of weights that a training starts from


@dataclass(frozen=True)
class Terms:
    """What a licence asks of who passes a model on, as far as its name tells.

    Attributes:
        text: The licence as it was stated.
        forbids_sharing: Derived works must not be passed on.
        non_commercial: Derived works must stay non-commercial.
        share_alike: Derived works must carry the same licence.
        known: The name was recognised at all.
    """

    text: str
    forbids_sharing: bool
    non_commercial: bool
    share_alike: bool
    known: bool


@dataclass(frozen=True)
class LedgerEntry:
    """One data set of an experiment; ``trained_on`` is true when the model's weights come from it."""

    set_name: str
    licence: str
    description: str
    trained_on: bool


def read_terms(licence: str | None) -> Terms:
    """Read the terms from a licence name such as ``CC-BY-NC-4.0`` or a sentence.

    >>> read_terms("CC BY-NC-SA 4.0").non_commercial
    True
    """
    text = (licence or "").strip()
    forbids, non_commercial, alike = (
        bool(pattern.search(text)) for pattern in (_FORBIDS_SHARING, _NON_COMMERCIAL, _SHARE_ALIKE)
    )
    flags = (forbids, non_commercial, alike or bool(_SOFTWARE_SHARE_ALIKE.fullmatch(text)))
    return Terms(text or "not stated", *flags, known=any(flags) or bool(_OPEN.search(text)))


def find_conflicts(data_licences: Iterable[str | None], model_licence: str) -> list[str]:
    """Return one sentence for each reason why a model of this data must not be given away under ``model_licence``.

    Args:
        data_licences: Licences of all data the weights were trained on.
        model_licence: Licence wanted for the packed model. With one that forbids sharing, such as ``not
            redistributable``, the model stays with who trained it, and nothing stands in the way.
    """
    terms = {item.text: item for item in map(read_terms, data_licences)}
    model = read_terms(model_licence)
    if model.forbids_sharing:
        return []
    conflicts = []
    for item in terms.values():
        if item.forbids_sharing:
            conflicts.append(f"the data licence '{item.text}' does not allow derived works to be passed on")
        if item.non_commercial and not model.non_commercial:
            conflicts.append(f"the data licence '{item.text}' is non-commercial, '{model.text}' is not")
        if item.share_alike and plain_name(item.text) != plain_name(model.text):
            conflicts.append(f"the data licence '{item.text}' asks for the same licence, not '{model.text}'")
    alike = sorted({plain_name(item.text) for item in terms.values() if item.share_alike})
    if len(alike) > 1:
        conflicts.append(f"no licence can satisfy all of these share-alike licences: {', '.join(alike)}")
    return conflicts


def unknown_licences(data_licences: Iterable[str | None]) -> list[str]:
    """Return the licence texts whose terms could not be read."""
    return sorted({item.text for item in map(read_terms, data_licences) if not item.known})


def ledger(config: Mapping[str, Any] | None, dump_dir: str | Path | None) -> list[LedgerEntry]:
    """List the data sets of an experiment with their licences.

    Training and validation sets are those that ``config`` names; without a configuration, folders called ``train*``
    and ``valid*`` below ``dump_dir``. The other folders below ``dump_dir`` are listed as not trained on. Models that
    the training started from count with their own licence, or with what they were trained on.
    """
    folders = training_folders(config)
    entries: dict[Path, LedgerEntry] = {}
    for folder in folders:
        content = read_json(folder / "data.json") or {}
        entries[folder.resolve()] = _entry(folder.name, content, trained_on=True)
    if dump_dir:
        for name, content in iterate_data_json(dump_dir):
            guessed = not folders and name.startswith(("train", "valid"))
            entries.setdefault((Path(dump_dir) / name).resolve(), _entry(name, content, trained_on=guessed))
    return [*entries.values(), *_started_from(config)]


def _started_from(config: Mapping[str, Any] | None) -> list[LedgerEntry]:
    """List packs and experiments of ours whose weights a training began with."""
    found: dict[str, LedgerEntry] = {}
    given = [item for key in START_KEYS[:2] for item in (config or {}).get(key) or ()]
    for item in filter(None, [*given, (config or {}).get("model_name_or_path")]):
        path = Path(str(item).split(":")[0])
        folder = path if path.is_dir() else path.parent
        meta = read_json(folder / "meta.json")
        before = read_config(folder) if meta is None and (folder / "config.yaml").is_file() else None
        if isinstance(meta, Mapping) and meta.get("licence"):
            name = f"start: {meta.get('name')}"
            found[name] = LedgerEntry(name, str(meta["licence"]), "weights the training started from", True)
        elif before:
            earlier = {key: value for key, value in before.items() if key not in START_KEYS}
            for entry in ledger(earlier, None):
                found[f"start: {entry.set_name}"] = LedgerEntry(
                    f"start: {entry.set_name}", entry.licence, entry.description, True
                )
    return list(found.values())


def training_folders(config: Mapping[str, Any] | None) -> list[Path]:
    """Return the data folders that a training configuration names, each once."""
    folders: dict[Path, None] = {}
    for key in ("train_data_path_and_name_and_type", "valid_data_path_and_name_and_type"):
        for item in (config or {}).get(key) or ():
            path = item.split(",")[0] if isinstance(item, str) else str(item[0])
            folders.setdefault(Path(path).parent)
    return list(folders)


def trained_licences(entries: Sequence[LedgerEntry]) -> list[str]:
    """Return the licences of the sets the weights come from."""
    return sorted({entry.licence for entry in entries if entry.trained_on})


def _entry(name: str, content: Mapping[str, Any], *, trained_on: bool) -> LedgerEntry:
    licence = content.get("licence") or content.get("license") or "not stated"
    return LedgerEntry(name, str(licence), str(content.get("description") or ""), trained_on)


def plain_name(licence: str) -> str:
    """Bring a licence name to one form: ``CC BY-SA 4.0`` and ``cc-by-sa-4.0`` are the same."""
    return re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-")
