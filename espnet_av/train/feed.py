# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The batches of an epoch from any point on, with the time spent waiting for them."""

import inspect
import time
from collections.abc import Iterator
from typing import Any

from espnet_av.train.signals import shield_workers
from espnet_av.utils.errors import DataError, describe

Batch = tuple[list[str], dict[str, Any]]


class Feed:
    """The batches ``start .. total`` of one epoch.

    Iterator factories of this package drop the first batches themselves (``build_iter(epoch, start_batch=k)``) and
    count without building (``num_batches(epoch)``). With others the first batches are loaded and thrown away.

    Args:
        factory: The iterator factory.
        epoch: The epoch, from 1.
        start: Batches to leave out.

    Attributes:
        total: Batches of the whole epoch, or None when the factory cannot tell.
        taken: Batches left out or handed out so far.
        wait_sec: Seconds spent waiting for batches.
    """

    def __init__(self, factory: Any, epoch: int, start: int = 0) -> None:
        can_drop = "start_batch" in inspect.signature(factory.build_iter).parameters
        loader = factory.build_iter(epoch, start_batch=start) if can_drop else factory.build_iter(epoch)
        self.total = _count(factory, epoch, loader, start if can_drop else 0)
        self.taken = start
        self.wait_sec = 0.0
        self._batches = iter(shield_workers(loader))
        if not can_drop:
            for _ in range(start):
                next(self._batches, None)

    @property
    def is_last(self) -> bool:
        """True when the batch handed out last was the epoch's last; False where the factory cannot tell."""
        return self.total is not None and self.taken >= self.total

    def __iter__(self) -> Iterator[Batch]:
        while True:
            begin = time.perf_counter()
            try:
                names, batch = next(self._batches)
            except StopIteration:
                break
            self.wait_sec += time.perf_counter() - begin
            self.taken += 1
            yield names, batch
        if self.total is not None and self.taken < self.total:
            raise DataError(describe(f"the epoch ended after {self.taken} of {self.total} batches"))


def _count(factory: Any, epoch: int, loader: Any, dropped: int) -> int | None:
    if hasattr(factory, "num_batches"):
        return int(factory.num_batches(epoch))
    try:
        return len(loader) + dropped
    except TypeError:
        return None
