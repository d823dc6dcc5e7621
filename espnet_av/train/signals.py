# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Signals that stop a training: finish the step, save, and end with a code that says whether to start again.

``SIGTERM`` and ``SIGUSR1`` (Slurm: ``sbatch --signal=B:USR1@120``) end with the requeue code 99, ``SIGINT`` with 130.
A second ``SIGINT`` interrupts at once.
"""

import functools
import logging
import signal
import threading
import types
from collections.abc import Callable
from typing import Any

from espnet_av.utils.errors import EXIT_REQUEUE

logger = logging.getLogger(__name__)

EXIT_INTERRUPTED = 130
_CODES = {signal.SIGTERM: EXIT_REQUEUE, signal.SIGUSR1: EXIT_REQUEUE, signal.SIGINT: EXIT_INTERRUPTED}


class TrainingInterrupted(SystemExit):
    """Training was asked to stop and has saved its state; the exit code is 99 (start again) or 130."""


class StopSignals:
    """Context in which stop signals only set a mark.

    Attributes:
        code: Exit code of the first signal received, or None.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is not threading.main_thread():
            logger.warning("not in the main thread: SIGTERM and SIGINT do not save a checkpoint here")
            return self
        for number in _CODES:
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before.clear()

    def _receive(self, number: int, _: types.FrameType | None) -> None:
        if self.code is None:
            self.code = int(_CODES[signal.Signals(number)])
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def shield_workers(loader: Any) -> Any:
    """Let the workers of a torch DataLoader ignore stop signals; the main process ends them.

    A scheduler sends SIGTERM, and a terminal SIGINT, to the whole process group. Workers that died of it would raise an
    error in the main process in the middle of a step.
    """
    if getattr(loader, "num_workers", 0) > 0 and hasattr(loader, "worker_init_fn"):
        inner = loader.worker_init_fn
        if not (isinstance(inner, functools.partial) and inner.func is _start_worker):
            loader.worker_init_fn = functools.partial(_start_worker, inner)
    return loader


def _start_worker(inner: Callable[[int], None] | None, worker_id: int) -> None:
    for number in _CODES:
        signal.signal(number, signal.SIG_IGN)
    if inner is not None:
        inner(worker_id)
