# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Lists of noises and room responses, ``id path`` or ``id sample_rate path`` lines: checked, written in two columns."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_av.data.audio_io import probe_audio
from espnet_av.data.data_dir import read_scp, write_scp
from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.experiment import write_json

logger = logging.getLogger(__name__)
LISTS = ("noise", "noise_val", "rirs", "rirs_val")
_NUM_OPENED = 500  # files of a list whose header is read; all must exist


@dataclass(frozen=True)
class SoundTable:
    """A list that was read: id to path, and how many columns its lines have."""

    paths: dict[str, str]
    columns: tuple[int, ...]


def read_sound_table(path: str | os.PathLike, roots: Sequence[Path] = ()) -> SoundTable:
    """Read a list of sounds.

    Args:
        path: The file. Lines have two columns, or three with the sample rate in the middle.
        roots: Folders that relative paths may be meant from, beside the working directory.

    Raises:
        MissingDataError: The list, or a file of it, does not exist.
        DataError: It is malformed or empty, or a path is a command.
    """
    table, columns = {}, set()
    for key, value in read_scp(path).items():
        first, _, rest = value.partition(" ")
        three = first.isdigit() and bool(rest.strip())
        columns.add(3 if three else 2)
        sound = rest.strip() if three else value
        if sound.endswith("|"):
            raise DataError(describe(f"{path}: '{key}' is a command, and commands are not run", sound, "a path"))
        table[key] = locate(sound, roots)
    if not table:
        raise DataError(describe(f"{path}: the list is empty", fix="make it anew"))
    absent = [key for key, sound in table.items() if not os.path.isfile(sound)]
    if absent:
        examples = "; ".join(f"{key} {table[key]}" for key in absent[:3])
        raise MissingDataError(
            describe(f"{path}: {len(absent)} of {len(table)} files do not exist ({examples})", fix="correct the paths")
        )
    return SoundTable(table, tuple(sorted(columns)))


def locate(path: str, roots: Sequence[Path]) -> str:
    """Return the path of a list as it is where that exists, else below the first of ``roots`` where it does."""
    if os.path.isabs(path) or os.path.isfile(path):
        return path
    return next((str(root / path) for root in roots if (root / path).is_file()), path)


def check_headers(paths: Mapping[str, str], source: str) -> dict[int, int]:
    """Open some files of a list, spread over it; return how many have which sample rate.

    Raises:
        DataError: One cannot be read as sound, or holds nothing.
    """
    keys = list(paths)
    rates: dict[int, int] = {}
    for key in keys[:: max(1, len(keys) // _NUM_OPENED)]:
        frames, rate = probe_audio(paths[key])
        if frames == 0:
            raise DataError(describe(f"{source}: '{key}' holds no samples", paths[key], fix="remove the line"))
        rates[rate] = rates.get(rate, 0) + 1
    return rates


def prepare_lists(lists_dir: Path, output_dir: Path) -> dict[str, Any]:
    """Check the four lists of a training with noise and rooms, and write them with two columns and absolute paths.

    Args:
        lists_dir: Folder of ``noise.scp``, ``noise_val.scp``, ``rirs.scp`` and ``rirs_val.scp``.
        output_dir: Where the new lists go, and ``sound_lists.json``, which says what was found.

    Returns:
        What went into ``sound_lists.json``.

    Raises:
        MissingDataError, DataError: A list or file is missing or cannot be used.
    """
    absent = [f"{name}.scp" for name in LISTS if not (lists_dir / f"{name}.scp").is_file()]
    if absent:
        fix = "put the lists there, lines of 'id path', or train without: apply_enhancement: false"
        raise MissingDataError(describe(f"{lists_dir} lacks lists of noises or room responses", absent, None, fix))
    tables = {name: read_sound_table(lists_dir / f"{name}.scp") for name in LISTS}
    about: dict[str, Any] = {}
    for name, table in tables.items():
        rates = check_headers(table.paths, f"{lists_dir / name}.scp")
        about[name] = {"num_sounds": len(table.paths), "columns": table.columns, "rates": rates}
        write_scp(output_dir / f"{name}.scp", {key: os.path.abspath(path) for key, path in table.paths.items()})
    for kind in ("noise", "rirs"):
        shared = set(tables[kind].paths) & set(tables[f"{kind}_val"].paths)
        about[kind]["num_shared_with_validation"] = len(shared)
        if shared:
            logger.warning(
                "%d sounds of %s_val.scp are in %s.scp too; training leaves them out", len(shared), kind, kind
            )
    write_json(output_dir / "sound_lists.json", about, sort_keys=True)
    return about
