# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What a training knows about itself beside its weights, and the values that pass between its steps."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch

from espnet_av.utils.errors import usage_error

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class StepOutput:
    """What a model returns for one batch.

    Attributes:
        loss: The loss, one element; a mean over the batch.
        stats: Statistics by name, one element each; None values are left out.
        weight: Weight of the batch in means over batches, e.g. its number of clips.
    """

    loss: torch.Tensor
    stats: dict[str, Any]
    weight: torch.Tensor

    @classmethod
    def of(cls, returned: Any, device: torch.device) -> "StepOutput":
        """Take the ``(loss, stats, weight)`` or dict that ESPnet's models return.

        Raises:
            UsageError: For a loss of more than one element.
        """
        if isinstance(returned, Mapping):
            loss, stats, weight = returned["loss"], returned["stats"], returned["weight"]
        else:
            loss, stats, weight = returned
        if loss.numel() != 1:
            usage_error("the model's loss must be one number", tuple(loss.shape), "shape () or (1,)")
        weight = torch.as_tensor(weight, dtype=torch.float32, device=device).reshape(())
        return cls(loss.reshape(()), {key: value for key, value in stats.items() if value is not None}, weight)


@dataclasses.dataclass
class Progress:
    """Where a training stands.

    Attributes:
        epoch: The epoch in work, from 1.
        batch: Batches of it that have been trained on.
        step: Optimizer steps so far, in all epochs.
        train_done: All batches of the epoch are done, its validation is not.
        elapsed_sec: Seconds of training and validation so far, in all processes before this one.
        epoch_sec: Seconds spent on the epoch in work, before this process.
        epoch_wait_sec: Seconds of it that were spent waiting for data.
        skipped: Steps of the epoch that were skipped because something was not finite.
        history: One row per finished epoch.
    """

    epoch: int = 1
    batch: int = 0
    step: int = 0
    train_done: bool = False
    elapsed_sec: float = 0.0
    epoch_sec: float = 0.0
    epoch_wait_sec: float = 0.0
    skipped: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def next_epoch(self) -> None:
        """Go to the start of the next epoch."""
        self.epoch += 1
        self.batch = 0
        self.train_done = False
        self.epoch_sec = self.epoch_wait_sec = 0.0
        self.skipped = 0

    def epochs_since_best(self, criterion: tuple[str, str, str]) -> int:
        """Return how many epochs ago the best value of ``(phase, key, mode)`` was seen; 0 where there is none."""
        phase, key, mode = criterion
        best, best_epoch = None, None
        for row in self.history:
            value = row.get(phase, {}).get(key)
            if value is None or not math.isfinite(value):
                continue
            if best is None or (value > best if mode == "max" else value < best):
                best, best_epoch = value, row["epoch"]
        return self.history[-1]["epoch"] - best_epoch if best_epoch is not None else 0


def to_device(value: Any, device: torch.device) -> Any:
    """Move the tensors of a batch (nested dicts, lists and tuples) to a device; other values stay."""
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: to_device(item, device) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([to_device(item, device) for item in value])
    return value
