# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""From losses to new weights: weighted sums of gradients, clipping, the check for finite numbers, and the steps."""

import logging
from collections.abc import Sequence
from typing import Any

import torch

from espnet_av.train.distributed import World
from espnet_av.train.ema import EMA
from espnet_av.train.optim import step_unit
from espnet_av.train.precision import Precision
from espnet_av.train.state import StepOutput
from espnet_av.utils.errors import EspnetAVError, describe

logger = logging.getLogger(__name__)

_MAX_SKIPS_IN_A_ROW = 20


class NonFiniteError(EspnetAVError, ArithmeticError):
    """A loss or gradient that is not finite, under ``--nonfinite raise`` or too many times in a row."""


class Updater:
    """Collects the gradients of the batches of one step and makes the step.

    The gradient of a step is ``sum(weight * gradient) / sum(weight)`` over its batches, in all processes. So two
    processes, or two accumulated batches, give what one batch of all their clips would give.

    Args:
        model: The model.
        optimizers: The optimizers that step together.
        schedulers: One for each, or None; those that step with the optimizer are stepped here.
        world: The processes that train together.
        precision: Gives the gradient scaler of fp16.
        weighted: False when a step is always one batch of one process, whose gradient needs no weighting.
        ema: The weight average to keep up, or None.
        grad_clip: Largest gradient norm; 0 turns clipping off.
        grad_clip_type: p of the norm.
        nonfinite: ``"raise"`` or ``"skip"``.
        parameters: What the optimizers train, where that is a part of the model; None: all that is not frozen.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        schedulers: Sequence[Any],
        world: World,
        precision: Precision,
        *,
        weighted: bool,
        ema: EMA | None = None,
        grad_clip: float = 0.0,
        grad_clip_type: float = 2.0,
        nonfinite: str = "raise",
        parameters: Sequence[torch.nn.Parameter] | None = None,
    ) -> None:
        self.model = model
        self.optimizers = list(optimizers)
        self.step_schedulers = [each for each in schedulers if each is not None and step_unit(each) == "step"]
        candidates = model.parameters() if parameters is None else parameters
        self.parameters = [parameter for parameter in candidates if parameter.requires_grad]
        self.world = world
        self.scaler = precision.scaler
        self.weighted = weighted
        self.ema = ema
        self.grad_clip = grad_clip
        self.grad_clip_type = grad_clip_type
        self.nonfinite = nonfinite
        self._skips_in_a_row = 0
        self._start_step()

    @property
    def pending(self) -> bool:
        """True when there are gradients of batches that no step has used."""
        return bool(self._names)

    def _start_step(self) -> None:
        self._names: list[str] = []
        self._sums = torch.zeros(2, device=self.world.device)  # weight, number of losses that are not finite

    def backward(self, output: StepOutput, names: Sequence[str]) -> None:
        """Add a batch's gradients, weighted, to those of the step.

        Args:
            output: What the model returned for the batch.
            names: The clips of the batch, for messages.
        """
        self._names += names
        loss = output.loss
        bad = (~torch.isfinite(loss.detach())).to(torch.float32)
        self._sums += torch.stack([output.weight, bad])
        if self.weighted:
            loss = loss * output.weight
        if self.scaler is not None:
            loss = self.scaler.scale(loss)
        loss.backward()

    def step(self, where: str) -> torch.Tensor | None:
        """Make the step and clear the gradients.

        Args:
            where: The place in the training, for messages.

        Returns:
            The norm of the gradient before clipping, or None when the step was skipped.

        Raises:
            NonFiniteError: See ``nonfinite``.
        """
        if self.scaler is not None:
            for optimizer in self.optimizers:
                self.scaler.unscale_(optimizer)
        bad_losses = self._normalise()
        norm = self._clip()
        is_finite = bool(torch.isfinite(norm) & (bad_losses == 0))  # the one wait for the device in a step
        if is_finite:
            self._step_all()
        else:
            self._meet_nonfinite(bool(bad_losses.item()), norm.item(), where)
        if self.scaler is not None:
            self.scaler.update()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        self._start_step()
        return norm if is_finite else None

    def _step_all(self) -> None:
        for optimizer in self.optimizers:
            if self.scaler is None:
                optimizer.step()
            else:
                self.scaler.step(optimizer)
        for scheduler in self.step_schedulers:
            scheduler.step()
        if self.ema is not None:
            self.ema.update()
        self._skips_in_a_row = 0

    def _gradients(self) -> list[torch.Tensor]:
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]

    def _normalise(self) -> torch.Tensor:
        """Divide the summed gradients by the summed weights; return the number of losses that are not finite."""
        weight, bad_losses = self.world.sum_(self._sums)
        if self.weighted:
            # DistributedDataParallel has divided by the number of processes already.
            scale = torch.where(weight > 0, self.world.size / weight, torch.zeros_like(weight))
            torch._foreach_mul_(self._gradients(), scale)
        return bad_losses

    def _clip(self) -> torch.Tensor:
        if self.grad_clip > 0:
            return torch.nn.utils.clip_grad_norm_(self.parameters, self.grad_clip, self.grad_clip_type)
        return torch.nn.utils.get_total_norm(self._gradients(), self.grad_clip_type)

    def _meet_nonfinite(self, bad_loss: bool, norm: float, where: str) -> None:
        """Let the step be skipped, or raise. An overflow in fp16 is the scaler's business until its scale is gone."""
        if self.scaler is not None and not bad_loss and self.scaler.get_scale() > 1.0:
            return
        self._skips_in_a_row += 1
        what = "the loss" if bad_loss else f"the gradient norm ({norm})"
        clips = ", ".join(self._names[:8]) + (", ..." if len(self._names) > 8 else "")
        message = f"{what} is not finite in {where}; clips of this process: {clips}"
        if self.nonfinite == "raise":
            fix = "look at these clips, lower the learning rate, use --amp_dtype none, or pass --nonfinite skip"
            raise NonFiniteError(describe(message, fix=fix))
        if self._skips_in_a_row > _MAX_SKIPS_IN_A_ROW:
            raise NonFiniteError(describe(f"{message}; {self._skips_in_a_row} steps in a row were skipped"))
        for name, buffer in self.model.named_buffers():
            if buffer.is_floating_point() and not torch.isfinite(buffer).all():
                fix = "go on from the last checkpoint without these clips"
                raise NonFiniteError(describe(f"{message}; the buffer '{name}' is spoilt by it", fix=fix))
        logger.warning("%s; step skipped (--nonfinite skip)", message)
