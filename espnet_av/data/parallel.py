# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The same function over many items in several processes, with progress and in the order of the items."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from espnet_av.utils.errors import EnvironmentProblem, UsageError, describe
from espnet_av.utils.progress import progress

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
MIN_ITEMS = 16  # for each process: fewer are done before it has started


def map_items(function: Callable[[Any], Any], items: Sequence[Any], nj: int, title: str) -> Iterator[Any]:
    """Yield ``function(item)`` for each item, in order.

    Args:
        function: A function that can be sent to another process; what it raises ends the work.
        items: What it is given.
        nj: Number of processes, each with one thread; 1 works in this one, and so do few items.
        title: For the progress.

    Raises:
        EnvironmentProblem: A process died, as when memory runs out.
    """
    if nj < 1:
        raise UsageError(describe("--nj must be at least 1", got=nj))
    nj = min(nj, -(-len(items) // MIN_ITEMS))
    if nj <= 1:
        yield from progress(map(function, items), len(items), title)
        return
    kept = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))  # read by the libraries when a child starts
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(nj, context, initializer=_start)
    try:
        chunk = max(1, min(32, len(items) // (4 * nj)))
        yield from progress(pool.map(function, items, chunksize=chunk), len(items), title)
    except BrokenProcessPool as error:
        raise EnvironmentProblem(
            describe("a process died", got=title, fix="free memory or lower --nj, then run again")
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in kept.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _start() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait for the end of the parent process and end as well: a killed parent leaves no process behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
