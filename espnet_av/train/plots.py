# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Optional views of a training: TensorBoard, Weights & Biases, curves as PNG. None of them can stop it."""

import functools
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

_CURVE_SHARE = 0.02  # of the training time may go into drawing


def _guarded(method: Callable) -> Callable:
    """Turn an exception of a view into one warning, after which the view is off."""

    @functools.wraps(method)
    def call(self: "_View", *args: Any, **kwargs: Any) -> None:
        if not self.on:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # a view may fail in any way; training goes on
            self.on = False
            logger.warning("%s is off from here on: %s: %s", self.title, type(error).__name__, error)

    return call


class _View:
    title = "view"

    def __init__(self, on: bool) -> None:
        self.on = on

    def interval(self, stats: Mapping[str, float], step: int) -> None:
        """Show the training means of an interval."""

    def epoch(self, row: Mapping[str, Any], history: Sequence[Mapping[str, Any]], last: bool) -> None:
        """Show the means of an epoch."""

    def close(self) -> None:
        """Write what is left."""


class TensorBoardView(_View):
    """Event files below ``tensorboard/train`` and ``tensorboard/valid``."""

    title = "TensorBoard (--use_tensorboard)"

    def __init__(self, folder: str | os.PathLike, on: bool) -> None:
        super().__init__(on)
        self.folder = Path(folder)
        self._writers: dict[str, Any] = {}

    def _writer(self, phase: str) -> Any:
        if phase not in self._writers:
            from torch.utils.tensorboard import SummaryWriter

            self._writers[phase] = SummaryWriter(str(self.folder / "tensorboard" / phase))
        return self._writers[phase]

    @_guarded
    def interval(self, stats: Mapping[str, float], step: int) -> None:
        """Add the training curves."""
        for key, value in stats.items():
            self._writer("train").add_scalar(key, value, step)

    @_guarded
    def epoch(self, row: Mapping[str, Any], history: Sequence[Mapping[str, Any]], last: bool) -> None:
        """Add the epoch means, and the validation curves over steps."""
        for phase in ("train", "valid"):
            for key, value in row.get(phase, {}).items():
                self._writer(phase).add_scalar(f"epoch/{key}", value, row["epoch"])
                if phase == "valid":
                    self._writer(phase).add_scalar(key, value, row["steps"])
            self._writer(phase).flush()

    @_guarded
    def close(self) -> None:
        """Close the event files."""
        for writer in self._writers.values():
            writer.close()


class WandbView(_View):
    """Weights & Biases, for a run that the task has started (``wandb.init``)."""

    title = "Weights & Biases (--use_wandb)"

    @_guarded
    def interval(self, stats: Mapping[str, float], step: int) -> None:
        """Log the training means."""
        import wandb

        wandb.log({f"train/{key}": value for key, value in stats.items()}, step=step)

    @_guarded
    def epoch(self, row: Mapping[str, Any], history: Sequence[Mapping[str, Any]], last: bool) -> None:
        """Log the epoch means."""
        import wandb

        values = {f"epoch_{phase}/{key}": v for phase in ("train", "valid") for key, v in row.get(phase, {}).items()}
        wandb.log({**values, "epoch": row["epoch"]}, step=row["steps"])


class CurvesView(_View):
    """``images/<key>.png``: training and validation means over epochs, drawn seldom enough to cost under 2 %."""

    title = "matplotlib (--use_matplotlib)"

    def __init__(self, folder: str | os.PathLike, on: bool) -> None:
        super().__init__(on)
        self.folder = Path(folder)
        self._cost_sec = 0.0
        self._drawn_at = -math.inf

    @_guarded
    def epoch(self, row: Mapping[str, Any], history: Sequence[Mapping[str, Any]], last: bool) -> None:
        """Draw all curves, unless the last drawing was too recent for its cost."""
        begin = time.monotonic()
        if not last and begin - self._drawn_at < self._cost_sec / _CURVE_SHARE:
            return
        keys = {key for each in history for phase in ("train", "valid") for key in each.get(phase, {})}
        for key in sorted(keys):
            draw_curve(self.folder / "images" / f"{key.replace('/', '_')}.png", key, history)
        self._drawn_at = time.monotonic()
        self._cost_sec = self._drawn_at - begin


def draw_curve(path: Path, key: str, history: Sequence[Mapping[str, Any]]) -> None:
    """Draw one statistic over epochs into a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from espnet_av.utils.files import atomic_path

    figure = Figure(figsize=(6, 4), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for phase in ("train", "valid"):
        points = [(row["epoch"], row[phase][key]) for row in history if key in row.get(phase, {})]
        points = [(epoch, value) for epoch, value in points if value is not None and math.isfinite(value)]
        if points:
            axes.plot(*zip(*points, strict=True), label=phase, marker="x")
    axes.set_xlabel("epoch")
    axes.set_ylabel(key)
    axes.grid(True)
    if axes.lines:
        axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


class Views:
    """All views of one training; the processes other than the first have none."""

    def __init__(self, views: Sequence[_View] = ()) -> None:
        self.views = list(views)

    def interval(self, stats: Mapping[str, float], step: int) -> None:
        """Show the training means of an interval."""
        for view in self.views:
            view.interval(stats, step)

    def epoch(self, row: Mapping[str, Any], history: Sequence[Mapping[str, Any]], last: bool) -> None:
        """Show the means of an epoch; ``last`` when training ends with it."""
        for view in self.views:
            view.epoch(row, history, last)

    def close(self) -> None:
        """Write what is left."""
        for view in self.views:
            view.close()
