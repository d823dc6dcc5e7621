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

from espnet_av.utils.experiment import iterate_data_json, read_config, read_json, recipe_path

# A licence name or text may match several of these patterns; they see one blank for each run of blanks, "-" and "_".
_FORBIDS_SHARING = re.compile(
    r"no (re)?distribut|not (be |to be |for )?(re)?distribut|distribution (is )?(not|prohibit|forbid)"
    r"|not (be |to be )?(shared|passed on)|(?<![a-z])nd(?![a-z])|no ?deriv|evaluation only|confidential|internal use"
    r"|proprietary|all rights reserved|(user?|usage|licen[cs]e|signed) agreement|to be (accepted|signed)",
    re.IGNORECASE,
)
_PURPOSE = r"(research|academic|scientific|education(al)?|teaching|personal)"
_COMMERCIAL = r"commercial (use|usage|purpose|exploitation|application)"
_NON_COMMERCIAL = re.compile(
    rf"(?<![a-z])nc(?![a-z])|non ?(commercial|profit)|(no|not for|not for any|without|excluding) {_COMMERCIAL}"
    rf"|{_COMMERCIAL}[^.,;]{{0,40}}(\bnot\b|prohibit|forbid|exclude|disallow)|not (be )?(used )?commercially"
    rf"|{_PURPOSE}( (use|usage|purposes?))? only|for( \w+ (and|or))? {_PURPOSE} (use|usage|purposes?)"
    rf"|(only|solely|exclusively|restricted|limited) (for|to)( \w+){{0,3}} {_PURPOSE}",
    re.IGNORECASE,
)
_SHARE_ALIKE = re.compile(r"(?<![a-z])sa(?![a-z])|share ?alike", re.IGNORECASE)
# A software licence counts only as the whole name: a sentence may say which program made the data.
_SOFTWARE_SHARE_ALIKE = re.compile(r"(gnu )?[al]?gpl[\w.+-]*", re.IGNORECASE)
_OPEN = re.compile(
    r"cc ?0|cc by|creative commons|public domain|apache|(?<![a-z])(mit|isc|pddl|mpl)(?![a-z])|bsd|odc|a?gpl",
    re.IGNORECASE,
)


NOT_STATED = "not stated"  # the licence, or that of some of several data sets
MISSING = "no data.json was found"
DEFAULT_LICENCE = "Apache-2.0"  # of weights whose data allow it
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
    words = re.sub(r"[\s_-]+", " ", text)
    forbids, non_commercial, alike = (
        bool(pattern.search(words)) for pattern in (_FORBIDS_SHARING, _NON_COMMERCIAL, _SHARE_ALIKE)
    )
    flags = (forbids, non_commercial, alike or bool(_SOFTWARE_SHARE_ALIKE.fullmatch(text)))
    known = (any(flags) or bool(_OPEN.search(words))) and NOT_STATED not in words
    return Terms(text or NOT_STATED, *flags, known=known)


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


def unknown_sets(entries: Iterable[LedgerEntry]) -> list[str]:
    """Return what is to be said of each set that the weights come from and whose licence could not be read."""
    found = []
    for entry in entries:
        if entry.trained_on and not read_terms(entry.licence).known:
            why = f" ({MISSING})" if entry.description == MISSING else ""
            found.append(f"{entry.set_name}: '{entry.licence}'{why}")
    return found


def ledger(
    config: Mapping[str, Any] | None, dump_dir: str | Path | None, exp_dir: str | Path | None = None
) -> list[LedgerEntry]:
    """List the data sets of an experiment with their licences.

    Training and validation sets are those that ``config`` names; without a configuration, folders called ``train*``
    and ``valid*`` below ``dump_dir``. The other folders below ``dump_dir`` are listed as not trained on. Models that
    the training started from count with their own licence, or with what they were trained on.

    Args:
        config: The training configuration.
        dump_dir: Data folders; they count too where those of the configuration are gone.
        exp_dir: Experiment folder, above which the recipe lies to which paths are relative.
    """
    folders = training_folders(config)
    entries: dict[Path, LedgerEntry] = {}
    for folder in folders:
        place = recipe_path(folder, exp_dir)
        if dump_dir and not place.is_dir() and (Path(dump_dir) / folder.name).is_dir():
            place = Path(dump_dir) / folder.name
        entries[place.resolve()] = _entry(folder.name, read_json(place / "data.json"), trained_on=True)
    if dump_dir:
        for name, content in iterate_data_json(dump_dir):
            guessed = not folders and name.startswith(("train", "valid"))
            entries.setdefault((Path(dump_dir) / name).resolve(), _entry(name, content, trained_on=guessed))
    return [*entries.values(), *_started_from(config, exp_dir)]


def _started_from(config: Mapping[str, Any] | None, exp_dir: str | Path | None) -> list[LedgerEntry]:
    """List packs and experiments of ours whose weights a training began with."""
    found: dict[str, LedgerEntry] = {}
    given = [item for key in START_KEYS[:2] for item in (config or {}).get(key) or ()]
    for item in filter(None, [*given, (config or {}).get("model_name_or_path")]):
        name = str(item).split(":")[0]
        path = recipe_path(name, exp_dir)
        folder = path if path.is_dir() else path.parent if path.exists() else recipe_path(Path(name).parent, exp_dir)
        meta = read_json(folder / "meta.json")
        before = read_config(folder) if meta is None and (folder / "config.yaml").is_file() else None
        if isinstance(meta, Mapping) and meta.get("licence"):
            name = f"start: {meta.get('name')}"
            found[name] = LedgerEntry(name, str(meta["licence"]), "weights the training started from", True)
        elif before:
            earlier = {key: value for key, value in before.items() if key not in START_KEYS}
            for entry in ledger(earlier, None, folder):
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
    for key in ("train_dir", "valid_dir"):
        if (config or {}).get(key):
            folders.setdefault(Path(str((config or {})[key])))
    return list(folders)


def trained_licences(entries: Sequence[LedgerEntry]) -> list[str]:
    """Return the licences of the sets the weights come from."""
    return sorted({entry.licence for entry in entries if entry.trained_on})


def _entry(name: str, content: Any, *, trained_on: bool) -> LedgerEntry:
    known = content if isinstance(content, Mapping) else {"description": MISSING}
    licence = known.get("licence") or known.get("license") or NOT_STATED
    return LedgerEntry(name, str(licence), str(known.get("description") or ""), trained_on)


def plain_name(licence: str) -> str:
    """Bring a licence name to one form: ``CC BY-SA 4.0`` and ``cc-by-sa-4.0`` are the same."""
    return re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-")
