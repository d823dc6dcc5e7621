# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Training of a generator against a discriminator: two turns for each batch, each with its own optimizer.

The model follows ESPnet's convention for adversarial systems: ``model(forward_generator=True, **batch)`` returns the
loss of the generator, ``forward_generator=False`` that of the discriminator, each as a dict with ``loss``, ``stats``
and ``weight``. Optimizer and scheduler 0 belong to the generator, 1 to the discriminator. Optional members of the
model:

* ``draw_conditions(rng, step) -> dict``: keywords for both turns of a batch, such as the bit rate. ``step`` counts the
  steps so far, ``rng`` is a ``random.Random`` that depends on seed, epoch and batch alone, so all processes draw the
  same, and so does a training that goes on after a kill.
* ``clear_cache()``: called after each batch; between its turns the model may keep what the generator made.
* a keyword ``adversarial``: False, where it is taken, in the generator's turn before the discriminator has started.
"""

import argparse
import dataclasses
import random
from typing import Any

import torch

from espnet_av.train import options as option_rules
from espnet_av.train.options import AVTrainerOptions
from espnet_av.train.rng import derive_seed
from espnet_av.train.state import StepOutput
from espnet_av.train.trainer import AVTrainer
from espnet_av.train.update import Updater
from espnet_av.utils.errors import usage_error

GENERATOR, DISCRIMINATOR = "generator", "discriminator"


@dataclasses.dataclass(kw_only=True)
class GANTrainerOptions(AVTrainerOptions):
    """What :class:`GANTrainer` needs to know beside the options of its base.

    Attributes:
        generator_first: Whether the generator's turn comes before the discriminator's.
        skip_discriminator_prob: Share of the batches without a turn of the discriminator, the same ones in all
            processes.
        discriminator_start_step: Steps in which the generator is trained without a discriminator.
        valid_discriminator: Also compute the losses of the discriminator in validation.
    """

    unused_parameters: bool = True
    generator_first: bool = False
    skip_discriminator_prob: float = 0.0
    discriminator_start_step: int = 0
    valid_discriminator: bool = True

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UsageError: For a value out of range.
        """
        super().__post_init__()
        if self.accum_grad != 1:
            fix = "raise --batch_size, or train with more processes"
            usage_error("two turns for each batch cannot be accumulated", f"--accum_grad {self.accum_grad}", "1", fix)
        if not 0 <= self.skip_discriminator_prob < 1:
            usage_error("skip_discriminator_prob is out of range", self.skip_discriminator_prob, "0 to below 1")
        if self.discriminator_start_step < 0:
            usage_error("discriminator_start_step is too small", self.discriminator_start_step, "0 or more")


class GANTrainer(AVTrainer):
    """Trains a generator and a discriminator in turns; the arguments are those of the base."""

    options: GANTrainerOptions

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the trainer's options to a task's parser."""
        super().add_arguments(parser)
        group = parser.add_argument_group("GANTrainer related")
        group.add_argument(
            "--generator_first", type=_boolean, default=False, help="The generator's turn before the discriminator's"
        )
        group.add_argument(
            "--skip_discriminator_prob", type=float, default=0.0, help="Share of batches without the discriminator"
        )
        group.add_argument(
            "--discriminator_start_step", type=int, default=0, help="Steps of the generator before there is one"
        )
        group.add_argument(
            "--valid_discriminator", type=_boolean, default=True, help="Losses of the discriminator in validation too"
        )

    @classmethod
    def build_options(cls, args: argparse.Namespace) -> GANTrainerOptions:
        """Pick the trainer's options from a task's arguments."""
        return option_rules.build_options(args, GANTrainerOptions)

    def _build_updater(self) -> Updater:
        """Return the updater of the generator, and keep that of the discriminator beside it."""
        if len(self.optimizers) != 2:
            usage_error("a generator and a discriminator need an optimizer each", len(self.optimizers), 2)
        self.parameters = [_parameters_of(optimizer) for optimizer in self.optimizers]
        self.updaters = dict(zip((GENERATOR, DISCRIMINATOR), map(self._updater_of, (0, 1)), strict=True))
        return self.updaters[GENERATOR]

    def _updater_of(self, index: int) -> Updater:
        return Updater(
            self.model,
            [self.optimizers[index]],
            [self.schedulers[index]],
            self.world,
            self.precision,
            weighted=self.world.size > 1,
            ema=self.ema if index == 0 else None,  # once for each step
            grad_clip=self.options.grad_clip,
            grad_clip_type=self.options.grad_clip_type,
            nonfinite=self.options.nonfinite,
            parameters=self.parameters[index],
        )

    def wrap_model(self) -> torch.nn.Module:
        """Return the module whose forward pass trains.

        Each turn uses the parameters of one network only. Buffers are not sent around before each forward pass:
        what learns in them (codebooks) is kept equal by its own sums, and a turn must not change what the other one's
        gradient needs.
        """
        return self.world.wrap(
            self.model,
            find_unused_parameters=True,
            gradient_as_bucket_view=self.options.gradient_as_bucket_view,
            broadcast_buffers=False,
            comm_hook=self.options.ddp_comm_hook,
        )

    # ------------------------------------------------------------------ a batch

    def train_batch(self, batch: dict[str, Any], last_of_step: bool) -> None:
        """Train both networks on one batch, in the order of ``generator_first``."""
        rng = self.shared_random()
        skipped = rng.random() < self.options.skip_discriminator_prob
        adversarial = self._has_discriminator()
        given = {**batch, **self.draw_conditions(rng)}
        turns = [GENERATOR, DISCRIMINATOR] if self.options.generator_first else [DISCRIMINATOR, GENERATOR]
        if skipped or not adversarial:
            turns.remove(DISCRIMINATOR)
        done: dict[str, bool] = {}
        for turn in turns:
            if done.get(GENERATOR, True):  # nothing to tell the discriminator about an output that is not finite
                done[turn] = self.train_turn(turn, given, adversarial=adversarial)
        self.clear_cache()
        self.progress.step += done[GENERATOR]
        self.progress.skipped += not all(done.values())

    def train_turn(self, turn: str, batch: dict[str, Any], *, adversarial: bool = True) -> bool:
        """Run the forward pass, the backward pass and the step of one network.

        Args:
            turn: ``"generator"`` or ``"discriminator"``.
            batch: As for :meth:`train_step`, with the conditions of the batch.
            adversarial: False where there is no discriminator yet.

        Returns:
            False when the step was skipped because something was not finite.
        """
        progress, updater = self.progress, self.updaters[turn]
        is_generator = turn == GENERATOR
        options = {"forward_generator": is_generator} | ({} if adversarial else {"adversarial": False})
        output = self.train_step({**batch, **options})
        updater.backward(output, batch["utt_id"])
        self.meter.add(output.stats, output.weight)
        place = f"epoch {progress.epoch} after {progress.batch} batches and {progress.step} steps"
        norm = updater.step(f"the turn of the {turn} in {place}")
        for optimizer in self.optimizers:  # a turn may leave gradients in the other network
            optimizer.zero_grad(set_to_none=True)
        if norm is not None:
            self.meter.add({"grad_norm" if is_generator else "discriminator_grad_norm": norm})
        return norm is not None

    def _has_discriminator(self) -> bool:
        return self.progress.step >= self.options.discriminator_start_step

    def shared_random(self) -> random.Random:
        """Return a generator for the batch in work, the same in all processes and after a kill."""
        return random.Random(derive_seed(self.options.seed, "batch", self.progress.epoch, self.progress.batch))

    def draw_conditions(self, rng: random.Random) -> dict[str, Any]:
        """Return the keywords of a batch, drawn by the model."""
        draw = getattr(self.model, "draw_conditions", None)
        return draw(rng, self.progress.step) if draw is not None else {}

    def clear_cache(self) -> None:
        """Let the model forget what it kept between two turns."""
        clear = getattr(self.model, "clear_cache", None)
        if clear is not None:
            clear()

    # ------------------------------------------------------------------ validation and epochs

    def valid_step(self, batch: dict[str, Any]) -> StepOutput:
        """Run one validation batch through both networks, or through the generator's turn alone.

        The loss is that of the generator, the statistics are those of both.
        """
        adversarial = self._has_discriminator()
        options = {} if adversarial else {"adversarial": False}
        output = super().valid_step({**batch, "forward_generator": True, **options})
        if self.options.valid_discriminator and adversarial:
            other = super().valid_step({**batch, "forward_generator": False})
            output = dataclasses.replace(output, stats={**other.stats, **output.stats})
        self.clear_cache()
        return output

    def on_epoch_end(self, row: dict[str, Any]) -> None:
        """Note the second learning rate, and the steps so far, by which ``train,total_count,max`` keeps the newest."""
        row["lr2"] = self.optimizers[1].param_groups[0]["lr"]
        row["train"]["total_count"] = float(self.progress.step)


def _parameters_of(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"true or false; got {text!r}")
    return text.lower() == "true"
