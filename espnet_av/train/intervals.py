# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Clocks of a training, and the line with speed, data wait and time left that is logged at every interval."""

import logging
import time

from espnet_av.train.feed import Feed
from espnet_av.train.options import AVTrainerOptions
from espnet_av.train.reporting import Meter, progress_line
from espnet_av.train.state import Progress

logger = logging.getLogger(__name__)

_MAX_SILENCE_SEC = 60.0


class Stopwatch:
    """Seconds of the whole training and of the epoch in work, going on where an earlier process stopped.

    Args:
        total_sec: Seconds of training before this process.
        epoch_sec: Seconds of the epoch in work before this process.
    """

    def __init__(self, total_sec: float = 0.0, epoch_sec: float = 0.0) -> None:
        now = time.monotonic()
        self._training_begin = now - total_sec
        self._epoch_begin = now - epoch_sec

    def total(self) -> float:
        """Return the seconds of training so far."""
        return time.monotonic() - self._training_begin

    def epoch(self) -> float:
        """Return the seconds of the epoch in work."""
        return time.monotonic() - self._epoch_begin

    def next_epoch(self) -> None:
        """Start the next epoch's clock."""
        self._epoch_begin = time.monotonic()


class IntervalLog:
    """Decides when a line is due and writes it.

    Args:
        options: The options of the training.
        progress: Where it stands; read at every line.
        watch: Its clocks.
        quiet: Collect, but write nothing: for all processes but the first.
    """

    def __init__(self, options: AVTrainerOptions, progress: Progress, watch: Stopwatch, *, quiet: bool) -> None:
        self.options = options
        self.progress = progress
        self.watch = watch
        self.quiet = quiet
        self._run_begin: tuple[float, int, int] | None = None

    def begin(self, feed: Feed) -> None:
        """Start an interval."""
        self._begin_sec, self._begin_batch, self._begin_wait = time.monotonic(), feed.taken, feed.wait_sec
        if self._run_begin is None:
            self._run_begin = (self._begin_sec, self.progress.epoch, feed.taken)

    def due(self, feed: Feed) -> bool:
        """Tell whether it is time for a line: after ``--log_interval`` batches, or a minute."""
        every = self.options.log_interval
        if every is None:
            every = max(feed.total // 20, 10) if feed.total is not None else 100
        return feed.taken % every == 0 or time.monotonic() - self._begin_sec > _MAX_SILENCE_SEC

    def write(self, feed: Feed, meter: Meter, lr: float) -> dict[str, float]:
        """Log the means since the last line and return them; nothing when no batch was done since."""
        batches = feed.taken - self._begin_batch
        if batches == 0:
            return {}
        seconds = max(time.monotonic() - self._begin_sec, 1e-9)
        stats = {**meter.take_interval(), "lr": lr}
        wait_share = (feed.wait_sec - self._begin_wait) / seconds
        self.begin(feed)
        if not self.quiet:
            line = progress_line(
                epoch=self.progress.epoch,
                max_epoch=self.options.max_epoch,
                batch=feed.taken,
                total=feed.total,
                step=self.progress.step,
                stats=stats,
                rate=batches / seconds,
                wait_share=wait_share,
                eta_sec=self._eta_sec(feed),
            )
            logger.info("%s", line)
        return stats

    def _eta_sec(self, feed: Feed) -> float | None:
        """Estimate the seconds to the end from the speed of this process, validation included."""
        options, progress, estimates = self.options, self.progress, []
        if feed.total is not None and self._run_begin is not None:
            begin_sec, epoch, taken = self._run_begin
            done = (progress.epoch - epoch) * feed.total + feed.taken - taken
            per_batch = (time.monotonic() - begin_sec) / max(done, 1)
            if options.max_epoch:
                estimates.append(((options.max_epoch - progress.epoch + 1) * feed.total - feed.taken) * per_batch)
            if options.max_steps:
                estimates.append((options.max_steps - progress.step) * options.accum_grad * per_batch)
        if options.max_train_sec:
            estimates.append(options.max_train_sec - self.watch.total())
        return max(0.0, min(estimates)) if estimates else None
