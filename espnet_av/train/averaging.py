# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Epoch files, the best ones by each criterion, and their average."""

import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from espnet_av.train.checkpoint import explain_full_disk, place_copy, read_tensors, write_tensors
from espnet_av.utils.errors import CheckpointError, describe
from espnet_av.utils.files import atomic_write

logger = logging.getLogger(__name__)

Criterion = tuple[str, str, str]  # phase ("train" or "valid"), key, "min" or "max"


def ranked_epochs(history: Sequence[Mapping[str, Any]], criterion: Criterion) -> list[tuple[int, float]]:
    """Return ``(epoch, value)`` of the epochs that have a finite value, best first; the earlier one on a tie."""
    phase, key, mode = criterion
    scored = [(row["epoch"], row.get(phase, {}).get(key)) for row in history]
    finite = [(epoch, value) for epoch, value in scored if value is not None and math.isfinite(value)]
    return sorted(finite, key=lambda item: (-item[1] if mode == "max" else item[1], item[0]))


@torch.no_grad()
def average_states(paths: Sequence[str | os.PathLike]) -> dict[str, torch.Tensor]:
    """Return the mean of several state dicts.

    Floating-point tensors are averaged in float64 and keep their type. Integer and boolean tensors (counters, masks)
    have no meaningful mean and are taken from the first file.

    Args:
        paths: Files of state dicts with the same names and shapes, the best first.

    Raises:
        CheckpointError: When the files differ in names or shapes.
    """
    first = read_tensors(paths[0])
    sums = {name: value.to(torch.float64) for name, value in first.items() if value.is_floating_point()}
    for path in paths[1:]:
        other = read_tensors(path)
        if other.keys() != first.keys():
            strangers = sorted(other.keys() ^ first.keys())
            raise CheckpointError(describe(f"{path} differs from {paths[0]} in {len(strangers)} names", strangers[:3]))
        for name, total in sums.items():
            if other[name].shape != total.shape:
                raise CheckpointError(describe(f"'{name}' has another shape in {path}", tuple(other[name].shape)))
            total += other[name]
    return {name: (sums[name] / len(paths)).to(value.dtype) if name in sums else value for name, value in first.items()}


class EpochFiles:
    """``Nepoch.pth`` of an experiment folder, and what is made of them. All are real files.

    Args:
        folder: The experiment folder.
        criteria: What the best epochs are chosen by.
        keep_nbest: Numbers of epochs that are averaged; the largest is also how many are kept per criterion.
    """

    def __init__(self, folder: str | os.PathLike, criteria: Sequence[Criterion], keep_nbest: Sequence[int]) -> None:
        self.folder = Path(folder)
        self.criteria: list[Criterion] = [(phase, key, mode) for phase, key, mode in criteria]
        self.keep_nbest = sorted({number for number in keep_nbest if number > 0}) or [1]

    def path(self, epoch: int) -> Path:
        """Return the file of an epoch's weights."""
        return self.folder / f"{epoch}epoch.pth"

    def save(self, epoch: int, weights: Mapping[str, torch.Tensor], history: Sequence[Mapping[str, Any]]) -> list[str]:
        """Write an epoch's weights and refresh ``<phase>.<key>.best.pth`` and ``latest``.

        Returns:
            The criteria, as ``phase.key``, for which this epoch is the best so far.
        """
        write_tensors(self.path(epoch), dict(weights))
        improved = []
        for criterion in self.criteria:
            ranked = ranked_epochs(history, criterion)
            if ranked and ranked[0][0] == epoch:
                improved.append(f"{criterion[0]}.{criterion[1]}")
                place_copy(self.path(epoch), self.folder / f"{improved[-1]}.best.pth")
        with explain_full_disk(self.folder / "latest"), atomic_write(self.folder / "latest") as stream:
            stream.write(f"{epoch}epoch.pth\n")
        return improved

    def prune(self, history: Sequence[Mapping[str, Any]]) -> list[str]:
        """Remove the files of epochs that are neither the newest nor among the best; return their names."""
        kept = {history[-1]["epoch"]} if history else set()
        for criterion in self.criteria:
            kept |= {epoch for epoch, _ in ranked_epochs(history, criterion)[: self.keep_nbest[-1]]}
        removed = []
        for row in history:
            path = self.path(row["epoch"])
            if row["epoch"] not in kept and path.exists():
                path.unlink()
                removed.append(path.name)
        return removed

    def averaged(self) -> bool:
        """Tell whether the averages have been written."""
        return all((self.folder / f"{phase}.{key}.ave.pth").exists() for phase, key, _ in self.criteria)

    def average(self, history: Sequence[Mapping[str, Any]]) -> list[Path]:
        """Write ``<phase>.<key>.ave_<n>best.pth`` for each criterion and number, and ``<phase>.<key>.ave.pth``.

        Where fewer epochs than ``n`` have a score, the number of those stands in the name. ``ave.pth`` is the average
        of the most epochs.

        Returns:
            The files written.
        """
        written = []
        for criterion in self.criteria:
            prefix = f"{criterion[0]}.{criterion[1]}"
            ranked = [self.path(epoch) for epoch, _ in ranked_epochs(history, criterion)]
            paths = [path for path in ranked[: self.keep_nbest[-1]] if path.exists()]
            if not paths:
                logger.warning("no epoch has a score '%s': no %s.ave files are written", prefix, prefix)
                continue
            for number in sorted({min(number, len(paths)) for number in self.keep_nbest}):
                target = self.folder / f"{prefix}.ave_{number}best.pth"
                if number == 1:
                    place_copy(paths[0], target)
                else:
                    write_tensors(target, average_states(paths[:number]))
                written.append(target)
            place_copy(written[-1], self.folder / f"{prefix}.ave.pth")
        return written
