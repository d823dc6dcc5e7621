# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the readers of ready-made mixtures share: finding sound and mouth crops, and writing the sets."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_av.data.drops import Drops
from espnet_av.data.mixture_dir import Mixture, write_mixtures
from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.experiment import write_json
from espnet_av.utils.folders import atomic_folder, remove_leftovers

logger = logging.getLogger(__name__)

SOUND_SUFFIXES = (".wav", ".flac", ".mp3")
MOUTH_SUFFIXES = (".npz", ".npy")


@dataclass
class SetPlan:
    """The mixtures of one set and what was left out."""

    mixtures: list[Mixture]
    drops: Drops


class MouthFolder:
    """A folder of mouth crops, ``<clip>.npz`` or ``<clip>.npy``.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = _by_stem(path, MOUTH_SUFFIXES)

    def __contains__(self, clip: object) -> bool:
        return clip in self.files

    def find(self, clip: str) -> str:
        """Return the file of a clip.

        Raises:
            MissingDataError: If there is none.
        """
        if clip not in self.files:
            raise MissingDataError(
                f"no mouth crops {self.path / clip}.npz; fix: fetch them, or make them from the video"
            )
        return str(self.files[clip])


def list_sounds(folder: Path) -> dict[str, Path]:
    """Return the sound files of a folder by name without suffix; empty where there is no such folder.

    Raises:
        DataError: If two files differ in their suffix only.
    """
    return _by_stem(folder, SOUND_SUFFIXES) if folder.is_dir() else {}


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        suffix = path.suffix.lower()
        if suffix not in suffixes or path.name.startswith("."):
            continue
        stem = path.name[: -len(suffix)]
        if stem in found:
            raise DataError(
                describe(f"{folder}: two files for {stem}", [found[stem].name, path.name], fix="remove one")
            )
        found[stem] = path
    return found


def find_by_ending(path: str, root: Path) -> Path:
    """Find a file of a list that was written on another machine: as it is, or below ``root`` by its ending.

    Raises:
        MissingDataError: If there is no such file.
    """
    if Path(path).is_file():
        return Path(path).resolve()
    parts = [part for part in Path(path).parts if part not in ("/", "..")]
    for start in range(len(parts)):
        if (candidate := root.joinpath(*parts[start:])).is_file():
            return candidate
    raise MissingDataError(describe("no file of this name", path, f"an ending of the path below {root}"))


def write_sets(
    sets: Mapping[str, SetPlan], output_dir: Path, meta: Mapping[str, Any], max_dropped_share: float = 0.01
) -> list[str]:
    """Write a data folder for each set.

    Args:
        sets: Name to plan.
        output_dir: Where the folders go.
        meta: ``licence`` and ``description`` for ``data.json``.
        max_dropped_share: Share of mixtures of a set that may be missing.

    Returns:
        A line on each set.

    Raises:
        TooManyDropped: If more is missing; the reasons lie in ``<output_dir>/<set>.prepare_report.json``.
    """
    lines = []
    for name, plan in sets.items():
        folder, report = output_dir / name, output_dir / f"{name}.prepare_report.json"
        report.unlink(missing_ok=True)
        if plan.drops.share > max_dropped_share or not plan.mixtures:
            report.parent.mkdir(parents=True, exist_ok=True)
            write_json(report, plan.drops.summary(), sort_keys=True)
            plan.drops.check(max_dropped_share, report)
            raise MissingDataError(describe(f"the set {name} has no mixtures", fix="check the folder of the corpus"))
        remove_leftovers(folder)
        with atomic_folder(folder) as temporary:
            write_mixtures(temporary, plan.mixtures, {**meta, "description": f"{meta['description']}, set {name}"})
            write_json(temporary / "prepare_report.json", plan.drops.summary(), sort_keys=True)
        lines.append(f"{folder}: {plan.drops.one_line()}")
    return lines
