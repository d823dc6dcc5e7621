# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Progress of long work: a bar on a terminal, otherwise one line per interval, always with the time left."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

logger = logging.getLogger(__name__)
Item = TypeVar("Item")


def format_seconds(seconds: float) -> str:
    """Format a duration as HH:MM:SS.

    >>> format_seconds(3723.4)
    '01:02:03'
    """
    whole = int(max(0.0, seconds))
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def progress(
    items: Iterable[Item], total: int | None = None, title: str = "", unit: str = "clip", interval_sec: float = 20.0
) -> Iterator[Item]:
    """Yield ``items`` and show how far the loop is.

    Args:
        items: What to loop over.
        total: Number of items; taken from ``len(items)`` where it has one.
        title: Name of the work.
        unit: What one item is.
        interval_sec: Seconds between two log lines when standard error is not a terminal.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=title, unit=unit, dynamic_ncols=True)
        return
    start = last = time.monotonic()
    count = 0
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= interval_sec:
            last = now
            logger.info(_line(title, unit, count, total, now - start))
    logger.info(_line(title, unit, count, count, time.monotonic() - start))


def _line(title: str, unit: str, count: int, total: int | None, elapsed: float) -> str:
    rate = count / elapsed if elapsed > 0 else 0.0
    left = f", {format_seconds((total - count) / rate)} left" if total and rate > 0 and count < total else ""
    of = f"/{total}" if total is not None else ""
    units = unit + ("es" if unit.endswith(("ch", "s", "x")) else "s")
    return f"{title}: {count}{of} {units} in {format_seconds(elapsed)} ({rate:.1f}/s{left})"
