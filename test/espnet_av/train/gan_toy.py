# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A small adversarial training for the tests, which as a program can be killed: ``gan_toy.py FOLDER key=value``.

Keys are those of ``GANTrainerOptions``, and ``workers`` and ``kill_at`` (steps). Trainings are separated by ``--``.
"""

import json
import os
import signal
import sys
from types import SimpleNamespace

import torch
from torch import nn
from trainer_toy import DIM, ToyFactory, distributed

from espnet_av.train.distributed import World, leaving_processes
from espnet_av.train.gan import GANTrainer, GANTrainerOptions
from espnet_av.utils.cli import run_main

GENERATOR_RATE, DISCRIMINATOR_RATE = 0.05, 0.02


class ToyGAN(nn.Module):
    """A generator with a codebook that learns by itself, a discriminator, and a record of the turns."""

    def __init__(self, noisy: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.generator = nn.Sequential(nn.Linear(DIM, 8), nn.Tanh(), nn.Linear(8, 1))
        self.discriminator = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
        self.register_buffer("average", torch.zeros(1))
        self.noisy = noisy
        self.turns: list = []
        self.poison: tuple | None = None  # (number of the turn, whose)
        self._made = None

    def forward(self, x, x_lengths, y, y_lengths, utt_id, forward_generator=True, scale=1.0, adversarial=True) -> dict:
        if self.training:
            self.turns.append(("G" if forward_generator else "D", scale, adversarial, self._made is not None))
        if self._made is None:
            made = scale * self.generator(x)
            if self.training:
                made = made + 0.1 * torch.randn_like(made) if self.noisy else made
                total = made.detach().sum()
                if torch.distributed.is_available() and torch.distributed.is_initialized():
                    torch.distributed.all_reduce(total)
                self.average.mul_(0.9).add_(0.1 * total)
            self._made = made
        made = self._made
        if forward_generator:
            loss = (made - y).square().mean()
            if adversarial:
                loss = loss - 0.1 * self.discriminator(made).mean()
            stats = {"loss": loss.detach(), "error": (made - y).abs().mean().detach()}
        else:
            loss = (
                torch.relu(1 - self.discriminator(y)).mean() + torch.relu(1 + self.discriminator(made.detach())).mean()
            )
            stats = {"discriminator_loss": loss.detach()}
        if self.training and self.poison == (len(self.turns), "G" if forward_generator else "D"):
            loss = loss * float("nan")
        return {"loss": loss, "stats": stats, "weight": torch.tensor(len(x)), "optim_idx": 1 - int(forward_generator)}

    def draw_conditions(self, rng, step) -> dict:
        return {"scale": rng.choice([0.5, 1.0])}

    def clear_cache(self) -> None:
        self._made = None


def parts(noisy: bool = True, sgd: bool = False):
    """Return model, optimizers, schedulers."""
    model = ToyGAN(noisy)
    kind = torch.optim.SGD if sgd else torch.optim.RAdam  # unlike RAdam, SGD sees the scale of gradients
    optimizers = [
        kind(model.generator.parameters(), lr=GENERATOR_RATE),
        kind(model.discriminator.parameters(), lr=DISCRIMINATOR_RATE),
    ]
    return model, optimizers, [torch.optim.lr_scheduler.ExponentialLR(each, 0.5) for each in optimizers]


def killer(at_step: int):
    """Return a trainer whose processes kill themselves between the turns of a batch."""

    class Killed(GANTrainer):
        def train_turn(self, turn, batch, **options):
            if self.progress.step >= at_step and turn == "discriminator":
                os.kill(os.getpid(), signal.SIGKILL)
            return super().train_turn(turn, batch, **options)

    return Killed


def train(folder, *, option=None, rank=0, world=1, **given):
    """Train the toy and return the trainer."""
    options = {"max_epoch": 3, "keep_nbest_models": (2,), "generator_first": True, "grad_clip": -1.0, **given}
    trainer_class = killer(options.pop("kill_at")) if "kill_at" in options else GANTrainer
    model, optimizers, schedulers = parts(bool(options.pop("noisy", 1)), bool(options.pop("sgd", 0)))
    model.poison = options.pop("poison", None)
    loader = {key: options.pop(key) for key in ("clips", "batch", "workers") if key in options}
    factories = (
        ToyFactory(rank=rank, world=world, **loader),
        ToyFactory(clips=8, still=True, rank=rank, world=world),
    )
    run = trainer_class(
        model, optimizers, schedulers, *factories, GANTrainerOptions(output_dir=str(folder), **options),
        World.from_option(option or SimpleNamespace(distributed=False, ngpu=0), torch.device("cpu")),
    )  # fmt: skip
    run.fit()
    return run


def main(*words: str) -> None:
    """Run several trainings, one after the other."""
    torch.set_num_threads(1)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    option = distributed(world)
    with leaving_processes():
        for run in " ".join(words).split(" -- "):
            folder, *pairs = run.split(" ")
            options = {key: json.loads(value) for key, value in (pair.split("=", 1) for pair in pairs)}
            train(folder, option=option, rank=rank, world=world, **options)


if __name__ == "__main__":
    sys.exit(run_main(lambda words: main(*words or ()), sys.argv[1:], logs=False))
