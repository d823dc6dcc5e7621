# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the trainer costs per step against a bare loop of the same model, both in this process, by turns.

    python test/bench/bench_trainer_overhead.py [--step_ms 50] [--steps 20] [--rounds 7]

The aim is under 5 % at 50 ms per step. CPU seconds are shown beside wall seconds: on a shared machine trust the former.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator

import torch
from torch import nn

from espnet_av.train.distributed import World
from espnet_av.train.options import AVTrainerOptions
from espnet_av.train.trainer import AVTrainer

WIDTH = 256
STATS = ("loss", "loss_ctc", "loss_att", "acc", "cer", "wer", "extra", "more")
Clock = tuple[float, float]


class Stack(nn.Module):
    """Linear layers; with many parameter tensors, as real models have."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth))

    def forward(self, x: torch.Tensor, utt_id: list[str]) -> tuple[torch.Tensor, dict, torch.Tensor]:
        """Return loss, eight statistics and weight for inputs of shape (B, WIDTH)."""
        y = x
        for layer in self.layers:
            y = torch.relu(layer(y)) + x
        loss = (y**2).mean()
        return loss, {name: loss.detach() for name in STATS}, torch.tensor(float(len(x)))


def now() -> Clock:
    """Return (CPU seconds, wall seconds)."""
    return time.process_time(), time.perf_counter()


def since(begin: Clock) -> Clock:
    """Return the seconds since ``begin``."""
    cpu, wall = now()
    return cpu - begin[0], wall - begin[1]


class Factory:
    """Hands out the same batch, and measures from the first batch to the end of the epoch."""

    def __init__(self, batch: torch.Tensor, steps: int) -> None:
        self.batch, self.steps, self.took = batch, steps, (0.0, 0.0)

    def num_batches(self, epoch: int) -> int:
        """Return the number of batches of an epoch."""
        return self.steps

    def build_iter(self, epoch: int, start_batch: int = 0) -> Iterator:
        """Yield the batches."""
        begin = now()
        for _ in range(self.steps - start_batch):
            yield ["clip"] * len(self.batch), {"x": self.batch}
        self.took = since(begin)


def bare(model: Stack, batch: torch.Tensor, steps: int) -> Clock:
    """Train with the least code that clips gradients and steps AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    begin = now()
    for _ in range(steps):
        loss, _, _ = model(batch, ["clip"] * len(batch))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return since(begin)


def trained(model: Stack, batch: torch.Tensor, steps: int, **options: object) -> Clock:
    """Train one epoch with the trainer, and return the time of its steps."""
    factory = Factory(batch, steps)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    with tempfile.TemporaryDirectory() as folder:
        settings = AVTrainerOptions(output_dir=folder, max_epoch=1, **options)
        parts = (model, [optimizer], [None], factory, Factory(batch, 1), settings)
        AVTrainer(*parts, World(0, 1, torch.device("cpu"))).fit()
    return factory.took


def sized(step_ms: float, depth: int) -> torch.Tensor:
    """Return a batch with which a bare step takes about ``step_ms``."""
    size = 4
    while size < 65536:
        batch = torch.randn(size, WIDTH)
        model = Stack(depth)
        bare(model, batch, 2)
        took = bare(model, batch, 4)[0] / 4 * 1000
        if took >= step_ms:
            return torch.randn(max(1, int(size * step_ms / took)), WIDTH)
        size *= 2
    return batch


def compare(name: str, batch: torch.Tensor, depth: int, steps: int, rounds: int, **options: object) -> float:
    """Measure by turns and print a line; return the ratio of CPU times."""
    model = Stack(depth)
    bare(model, batch, 3)
    trained(model, batch, 3, **options)
    pairs = [(bare(model, batch, steps), trained(model, batch, steps, **options)) for _ in range(rounds)]
    cpu, wall = (statistics.median(ours[i] / plain[i] for plain, ours in pairs) for i in (0, 1))
    base = min(plain[0] for plain, _ in pairs) / steps * 1000
    extra = (min(ours[0] for _, ours in pairs) - min(plain[0] for plain, _ in pairs)) / steps * 1000
    sys.stdout.write(
        f"{name:28s} bare {base:7.2f} ms/step   trainer +{extra:6.3f} ms/step (CPU, best)   "
        f"ratio {cpu:.3f} CPU, {wall:.3f} wall (median of {rounds})\n"
    )
    return cpu


def main(cmd: list[str] | None = None) -> None:
    """Print the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step_ms", type=float, default=50.0, help="length of a step of the bare loop")
    parser.add_argument("--steps", type=int, default=20, help="steps per measurement")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each kind")
    parser.add_argument("--depth", type=int, default=100, help="layers of the model")
    args = parser.parse_args(cmd)
    torch.set_num_threads(1)
    batch = sized(args.step_ms, args.depth)
    work = (args.depth, args.steps, args.rounds)
    compare("plain", batch, *work)
    compare("EMA", batch, *work, ema_decay=0.999)
    small = torch.randn(2, WIDTH)
    compare("plain, tiny model", small, 2, 300, args.rounds)


if __name__ == "__main__":
    main()
