# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Statistics of a training: collected on the device, read seldom, averaged by weight, written as lines and JSON."""

import json
import math
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from espnet_av.train.checkpoint import explain_full_disk
from espnet_av.utils.files import atomic_write
from espnet_av.utils.progress import format_seconds

Number = torch.Tensor | float | int
Value = Number | None
Sums = dict[str, list[float]]  # key -> [sum of value * weight, sum of weight, number of values left out]


class Meter:
    """Weighted means over an epoch and over the interval since the last look.

    ``add`` only keeps references, so nothing waits for the device; ``flush`` moves everything in one transfer. Values
    that are not finite are counted and left out of the means.
    """

    def __init__(self) -> None:
        self.epoch: Sums = {}
        self.interval: Sums = {}
        self._pending: list[tuple[list[str], list[Number]]] = []  # the last number is the weight

    def add(self, stats: Mapping[str, Value], weight: Number = 1.0) -> None:
        """Take the values of one batch.

        Args:
            stats: Name -> number or tensor of one element; None values are ignored.
            weight: Weight of the batch in the mean, e.g. its number of clips.
        """
        present = {key: value for key, value in stats.items() if value is not None}
        self._pending.append((list(present), [_detached(value) for value in (*present.values(), weight)]))

    def flush(self) -> None:
        """Read the pending values from the device."""
        numbers = iter(_read([value for _, values in self._pending for value in values]))
        for keys, _ in self._pending:
            values = [next(numbers) for _ in keys]
            weight = next(numbers)
            for key, value in zip(keys, values, strict=True):
                for sums in (self.epoch, self.interval):
                    _accumulate(sums.setdefault(key, [0.0, 0.0, 0.0]), value, weight)
        self._pending.clear()

    def take_interval(self) -> dict[str, float]:
        """Return the means since the last call and start a new interval."""
        self.flush()
        values, self.interval = means(self.interval), {}
        return values

    def state_dict(self) -> Sums:
        """Return the sums of the epoch so far."""
        self.flush()
        return {key: list(sums) for key, sums in self.epoch.items()}

    def load_state_dict(self, state: Mapping[str, Sequence[float]]) -> None:
        """Go on from the sums of :meth:`state_dict`."""
        self.epoch = {key: list(sums) for key, sums in state.items()}
        self.interval = {}
        self._pending.clear()


def _detached(value: Number) -> Number:
    return value.detach() if isinstance(value, torch.Tensor) else value


def _accumulate(sums: list[float], value: float, weight: float) -> None:
    if math.isfinite(value) and math.isfinite(weight):
        sums[0] += value * weight
        sums[1] += weight
    else:
        sums[2] += 1


def _read(values: Sequence[Number]) -> list[float]:
    """Return all values as numbers, with one transfer for all that are not on the CPU."""
    numbers = [0.0] * len(values)
    far = {}
    for index, value in enumerate(values):
        if isinstance(value, torch.Tensor) and value.device.type != "cpu":
            far[index] = value.float().reshape(())
        else:
            numbers[index] = float(value)
    if far:
        stacked = torch.stack(list(far.values()))
        for index, number in zip(far, stacked.tolist(), strict=True):
            numbers[index] = number
    return numbers


def means(sums: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the weighted mean of each key; NaN where no finite value was seen."""
    return {key: total / weight if weight else math.nan for key, (total, weight, _) in sums.items()}


def merged(states: Sequence[Mapping[str, Sequence[float]]]) -> Sums:
    """Add up the sums of several processes."""
    result: Sums = {}
    for state in states:
        for key, sums in state.items():
            total = result.setdefault(key, [0.0, 0.0, 0.0])
            for index, number in enumerate(sums):
                total[index] += number
    return result


def format_stats(stats: Mapping[str, float]) -> str:
    """Format means for a log line.

    >>> format_stats({"loss": 2.34567, "lr": 0.00012})
    'loss=2.346, lr=1.200e-04'
    """
    return ", ".join(f"{key}={_number(value)}" for key, value in stats.items())


def _number(value: float) -> str:
    return f"{value:.3e}" if value != 0 and not 1e-3 <= abs(value) < 1e3 else f"{value:.3f}"


def progress_line(
    *,
    epoch: int,
    max_epoch: int,
    batch: int,
    total: int | None,
    step: int,
    stats: Mapping[str, float],
    rate: float,
    wait_share: float,
    eta_sec: float | None,
) -> str:
    """Return the line that is logged at every interval.

    Args:
        epoch: Epoch, from 1.
        max_epoch: Last epoch; 0: not limited.
        batch: Batches done in the epoch.
        total: Batches of the epoch, if known.
        step: Optimizer steps since the start of training.
        stats: Means of the interval.
        rate: Batches per second in the interval.
        wait_share: Share of the interval spent waiting for data, 0 to 1.
        eta_sec: Seconds to the end of training, if known.
    """
    of = f"/{total}" if total is not None else ""
    left = format_seconds(eta_sec) if eta_sec is not None else "?"
    return (
        f"epoch {epoch}{f'/{max_epoch}' if max_epoch else ''} batch {batch}{of} step {step}: {format_stats(stats)} | "
        f"{rate:.2f} it/s, data wait {wait_share:.1%}, ETA {left}"
    )


def write_history(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one JSON object per epoch; the file is always whole. Numbers that JSON lacks become null."""
    with explain_full_disk(path), atomic_write(path) as stream:
        for row in rows:
            stream.write(json.dumps(_jsonable(row), allow_nan=False) + "\n")


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_history(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Return the rows of :func:`write_history`; none when the file is absent."""
    path = Path(path)
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def peak_rss_mb() -> float:
    """Return the largest memory of this process so far, in MiB."""
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale, 1)
