# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Packs of models that are loaded: with the weights as they are now, under a licence that their data allow."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_av.report.licences import NOT_STATED, ledger, read_terms, trained_licences, unknown_sets
from espnet_av.report.packing import (
    META,
    WEIGHTS,
    LicenceConflict,
    PackOptions,
    choose_licence,
    fill_pack,
    refuse_conflicts,
    refuse_foreign_folder,
    require_name,
    verify_pack,
    write_meta,
    write_weights,
)
from espnet_av.report.parts import entries_of, part_licences
from espnet_av.report.systems import get_system
from espnet_av.train.loading import load_weights
from espnet_av.utils.errors import CheckpointError, UsageError, describe
from espnet_av.utils.experiment import read_config, read_json
from espnet_av.utils.folders import atomic_folder

if TYPE_CHECKING:
    import torch

    from espnet_av.hub import Origin

logger = logging.getLogger(__name__)


def save_model(
    origin: "Origin",
    system_name: str,
    state: Mapping[str, "torch.Tensor"],
    prefix: str,
    output_dir: str | Path,
    *,
    licence: str | None = None,
    name: str | None = None,
) -> Path:
    """Write a loaded model as a pack.

    Args:
        origin: Where it was loaded from: a pack, an experiment or a converted model.
        system_name: What it is, as in :data:`~espnet_av.report.systems.SYSTEMS`.
        state: Its weights, below ``prefix``.
        prefix: Of its weights in checkpoints of ours; others have none.
        output_dir: The folder to make.
        licence: Of the weights; None: see :meth:`espnet_av.hub.Pretrained.save_pretrained`.
        name: Of the model; None: as it was.

    Returns:
        The folder.

    Raises:
        UsageError: ``output_dir`` holds something that is no pack, or the licence has no name.
        LicenceConflict: The licences of its data forbid this one.
        DataError: The pack it was loaded from is damaged.
        CheckpointError: The network was changed into another one.
    """
    output_dir = Path(output_dir)
    require_name(licence)
    refuse_foreign_folder(output_dir)
    packed = (origin.folder / META).is_file()
    with atomic_folder(output_dir) as folder:
        if packed:
            meta = _copy_pack(origin.folder, folder, licence, name)
        else:
            meta = _make_pack(origin, folder, system_name, licence, name)
        changed = _replace_weights(folder, state, prefix)
        if changed:
            logger.info("%d tensors were changed since loading; results that were measured are left out", changed)
            meta |= {"results": None, "changed_after_loading": changed}
            source = f"{meta['weights']['source']}, changed after loading"
            meta["weights"] = write_weights(load_weights(folder / WEIGHTS), folder, source)
        if changed or licence or name:
            write_meta(folder, meta)
    return output_dir


def require_sharable(folder: str | Path, *, allow_unknown_licences: bool = False) -> None:
    """Raise where a pack may not be passed on, by its own licence or those of its data.

    Args:
        folder: The pack.
        allow_unknown_licences: Of its training data.

    Raises:
        UsageError: Its licence is not known.
        LicenceConflict: It may not, or the licences of its data are not known.
    """
    meta = verify_pack(folder)
    licence = str(meta.get("licence") or NOT_STATED)
    if licence == NOT_STATED:
        raise UsageError(
            describe("the licence of the weights is not known", fix="pass the licence under which they may be given")
        )
    if read_terms(licence).forbids_sharing:
        raise LicenceConflict(
            describe("the model may not be passed on", got=licence, fix="pack it under a licence that its data allow")
        )
    refuse_conflicts(trained_licences(entries_of(meta)), licence)
    unknown = unknown_sets(entries_of(meta))
    if unknown and not allow_unknown_licences:
        raise LicenceConflict(
            describe(
                "the licence of training data is not known, so the model is not uploaded",
                got="; ".join(unknown),
                fix="check that the data allow it and pass allow_unknown_licences=True (espnet-av upload PACK ORG/NAME "
                "--allow_unknown_licences)",
            )
        )


def _copy_pack(source: Path, folder: Path, licence: str | None, name: str | None) -> dict[str, Any]:
    meta = verify_pack(source)
    if licence is not None:
        entries = entries_of(meta)
        refuse_conflicts([str(meta.get("licence"))], licence)
        choose_licence(entries, licence)
        meta["licence"] = licence
    meta["name"] = name or meta["name"]
    for path in (*meta["files"], META):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, folder / path)
    return meta


def _make_pack(
    origin: "Origin", folder: Path, system_name: str, licence: str | None, name: str | None
) -> dict[str, Any]:
    config = read_config(origin.folder) or {}
    parts = part_licences(origin.parts)
    data = ledger(config, _dump_beside(origin.folder), origin.folder)
    entries = [*data, *parts]
    unknown = unknown_sets(entries)
    if licence is None and (unknown or not trained_licences(data)):
        licence = NOT_STATED
        if unknown:
            logger.warning("the pack states no licence, for that of training data is not known: %s", "; ".join(unknown))
    else:
        licence = choose_licence(entries, licence)
    options = PackOptions(licence=licence, name=name, parts=origin.parts, extras=origin.extras, facts=origin.facts)
    meta = fill_pack(folder, origin.folder, config, origin.checkpoint, entries, options, get_system(system_name))
    converted = read_json(origin.folder / "conversion.json")
    if isinstance(converted, Mapping):
        kept = {key: converted.get(key) for key in ("kind", "source", "sha256")}
        meta = write_meta(folder, {**meta, "converted_from": kept})
    return meta


def _dump_beside(exp_dir: Path) -> Path | None:
    """Return the data folders of a recipe whose experiment this is, ``exp/<name>`` beside ``dump``; None without."""
    dump = exp_dir.resolve().parent.parent / "dump"
    return dump if dump.is_dir() else None


def _replace_weights(folder: Path, state: Mapping[str, "torch.Tensor"], prefix: str) -> int:
    """Put the present weights over those of a pack where they differ, and return how many did."""
    import torch

    packed = load_weights(folder / WEIGHTS)
    bare = not any(name.startswith(prefix) for name in packed)
    now = {name.removeprefix(prefix) if bare else name: value.detach().cpu() for name, value in state.items()}
    strange = [name for name, value in now.items() if name in packed and packed[name].shape != value.shape]
    if strange or not any(name in packed for name in now):
        raise CheckpointError(
            describe("the network is another one than was loaded", got=strange[:3] or sorted(now)[:3])
        )
    changed = {
        name: value.to(packed[name].dtype)
        for name, value in now.items()
        if name in packed and not torch.equal(packed[name], value.to(packed[name].dtype))
    }
    if changed:
        write_weights({**packed, **changed}, folder, "")
    return len(changed)
