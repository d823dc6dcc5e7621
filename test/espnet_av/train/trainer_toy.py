# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A small training for the tests of the trainer, which as a program can be killed: ``trainer_toy.py FOLDER key=value``.

Keys are those of ``AVTrainerOptions``, and: ``workers``, ``sleep`` (seconds per batch), ``plain`` (no dropout, no
batch normalisation), ``clips``, ``batch``, ``real_data`` (the package's iterator factory).
"""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from espnet_av.train.optim import WarmupLinearLR, build_adamw
from espnet_av.train.options import AVTrainerOptions
from espnet_av.train.rng import derive_seed
from espnet_av.utils.cli import run_main

DIM = 6


class Toy(nn.Module):
    """Two layers with every kind of random state: dropout, batch statistics, numpy and own generators."""

    def __init__(self, plain: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(DIM, 8)
        self.norm = nn.Identity() if plain else nn.BatchNorm1d(8)
        self.drop = nn.Identity() if plain else nn.Dropout(0.3)
        self.second = nn.Linear(8, 1)
        self.branch = nn.Linear(DIM, 1, bias=False)
        self.plain = plain
        self.coin = torch.Generator()
        self.dice = np.random.default_rng(0)

    def forward(self, x, x_lengths, y, y_lengths, utt_id):
        out = self.second(self.drop(torch.relu(self.norm(self.first(x)))))
        if self.training and not self.plain:
            if torch.rand((), generator=self.coin) < 0.5:  # an unused branch, as in modality dropout
                out = out + self.branch(x)
            out = out * float(self.dice.uniform(0.9, 1.1)) + 0.01 * float(np.random.rand())
        error = (out - y) ** 2
        loss = error.mean()
        stats = {"loss": loss.detach(), "abs": error.detach().sqrt().mean(), "absent": None}
        return loss, stats, torch.tensor(float(len(x)))

    def collect_feats(self, **batch):
        return {}


class Items(torch.utils.data.Dataset):
    """Clips whose values depend on the seed, the epoch and the id alone."""

    def __init__(self, epoch: int, sleep: float, still: bool) -> None:
        self.epoch, self.sleep, self.still = epoch, sleep, still

    def __getitem__(self, index):
        rng = np.random.default_rng(derive_seed(3, 0 if self.still else self.epoch, index))
        time.sleep(self.sleep)
        x = rng.normal(size=DIM).astype(np.float32)
        return f"clip{index}", x, np.float32([x.sum() ** 2 / DIM])


def collate(items):
    names, x, y = zip(*items, strict=True)
    x, y = torch.from_numpy(np.stack(x)), torch.from_numpy(np.stack(y))
    lengths = torch.full((len(x),), DIM)
    return list(names), {"x": x, "x_lengths": lengths, "y": y, "y_lengths": torch.ones(len(x), dtype=torch.long)}


class ToyFactory:
    """Batches like those of AVIterFactory; ``resumable=False`` is a factory that can only start at the first batch."""

    def __init__(self, clips=40, batch=4, workers=0, sleep=0.0, rank=0, world=1, still=False):
        self.clips, self.batch, self.workers, self.sleep = clips, batch, workers, sleep
        self.rank, self.world, self.still = rank, world, still

    def batches(self, epoch):
        order = np.random.default_rng(derive_seed("order", epoch)).permutation(self.clips).tolist()
        batches = [order[i : i + self.batch] for i in range(0, self.clips, self.batch)]
        return [batch[self.rank :: self.world] for batch in batches if len(batch) >= self.world]

    def num_batches(self, epoch):
        return len(self.batches(epoch))

    def build_iter(self, epoch, shuffle=None, start_batch=0):
        return torch.utils.data.DataLoader(
            Items(epoch, self.sleep, self.still),
            batch_sampler=self.batches(epoch)[start_batch:],
            num_workers=self.workers,
            collate_fn=collate,
        )


class OldFactory(ToyFactory):
    """A factory of ESPnet's kind: no counting, no start in the middle."""

    num_batches = None

    def __getattribute__(self, name):
        if name == "num_batches":
            raise AttributeError(name)
        return super().__getattribute__(name)

    def build_iter(self, epoch, shuffle=None):
        return ToyFactory.build_iter(self, epoch)


def real_factory(folder: Path, keys: list, workers: int, rank: int, world: int):
    """The package's data set and factory over small files of the same clips."""
    from espnet_av.data.dataset import AVDataset
    from espnet_av.data.iter_factory import AVIterFactory
    from espnet_av.data.samplers import BucketBatchSampler

    folder.mkdir(parents=True, exist_ok=True)
    scripts = {}
    for name in ("x", "y"):
        lines = []
        for key in keys:
            path = folder / f"{key}.{name}.npy"
            if rank == 0 and not path.exists():
                rng = np.random.default_rng(derive_seed(key))
                x = rng.normal(size=DIM).astype(np.float32)
                temporary = path.with_suffix(f".{time.time_ns()}.npy")
                np.save(temporary, x if name == "x" else np.float32([x.sum() ** 2 / DIM]))
                temporary.rename(path)
            lines.append(f"{key} {path}\n")
        scripts[name] = folder / f"{name}.scp"
        if rank == 0:
            scripts[name].write_text("".join(lines))
    if world > 1:
        torch.distributed.barrier()
    dataset = AVDataset(
        [(str(path), name, "npy") for name, path in scripts.items()],
        preprocess=add_noise,
        seed=5,
    )
    sampler = BucketBatchSampler({key: DIM for key in keys}, batch_size=4, seed=5, min_batch_size=world)
    return AVIterFactory(dataset, sampler, seed=5, shuffle=True, num_workers=workers, rank=rank, world_size=world)


def add_noise(uid, data, rng):
    return {**data, "x": data["x"] + 0.1 * rng.normal(size=DIM).astype(np.float32)}


def distributed(world_size: int):
    """Join the group that torchrun started, as ESPnet's AbsTask does."""
    if world_size == 1:
        return SimpleNamespace(distributed=False, ngpu=0)
    torch.distributed.init_process_group("gloo")
    return SimpleNamespace(distributed=True, ngpu=0)


def parts(options: dict):
    """Return model, optimizers, schedulers."""
    model = Toy(plain=bool(options.pop("plain", 0)))
    if options.pop("sgd", 0):  # unlike Adam, it sees the scale of gradients
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    else:
        optimizer = build_adamw(model, lr=0.02)
    return model, [optimizer], [WarmupLinearLR(optimizer, total_steps=60, warmup_steps=5)]


def train(folder, trainer=None, factories=None, **given):
    """Train the toy in this process and return the trainer."""
    from espnet_av.train.distributed import World
    from espnet_av.train.trainer import AVTrainer

    options = {"max_epoch": 3, "log_interval": 5, "keep_nbest_models": (2,), **given}
    model, optimizers, schedulers = parts(options)
    loader = {key: options.pop(key) for key in ("clips", "batch", "workers", "sleep") if key in options}
    factories = factories or (ToyFactory(**loader), ToyFactory(clips=8, still=True))
    run = (trainer or AVTrainer)(
        model, optimizers, schedulers, *factories, AVTrainerOptions(output_dir=str(folder), **options),
        World(0, 1, torch.device("cpu")),
    )  # fmt: skip
    run.fit()
    return run


def killer(at_step: int):
    """Return a trainer whose processes kill themselves when they have made ``at_step`` steps."""
    import os
    import signal

    from espnet_av.train.trainer import AVTrainer

    class Killed(AVTrainer):
        def train_batch(self, batch, last_of_step):
            if self.progress.step == at_step:
                os.kill(os.getpid(), signal.SIGKILL)
            super().train_batch(batch, last_of_step)

    return Killed


def run_one(folder: str, option, rank: int, world: int, **options) -> None:
    """Train in this process, alone or as one of many."""
    from espnet_av.train.trainer import AVTrainer

    trainer = killer(options.pop("kill_at")) if "kill_at" in options else AVTrainer
    model, optimizers, schedulers = parts(options)
    loader = {key: options.pop(key) for key in ("clips", "batch", "workers", "sleep") if key in options}
    if options.pop("real_data", 0):
        data, workers = Path(folder).parent / "data", loader.get("workers", 0)
        train_factory = real_factory(data / "train", [f"c{i:02d}" for i in range(36)], workers, rank, world)
        valid_factory = real_factory(data / "valid", [f"v{i}" for i in range(8)], 0, rank, world)
    else:
        train_factory = ToyFactory(rank=rank, world=world, **loader)
        valid_factory = ToyFactory(clips=8, still=True, rank=rank, world=world)
    options = {"max_epoch": 3, "keep_nbest_models": (2,), **options}
    trainer.run(
        model, optimizers, schedulers, train_factory, valid_factory, None,
        AVTrainerOptions(output_dir=folder, unused_parameters=world > 1, **options), option,
    )  # fmt: skip


def main(*words: str) -> None:
    """Run several trainings, one after the other; they are separated by ``--``."""
    import logging
    import os

    from espnet_av.train.distributed import leaving_processes

    torch.set_num_threads(1)
    logging.basicConfig(level="INFO", format="%(relativeCreated)d %(levelname)s %(message)s", stream=sys.stderr)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    option = distributed(world)
    with leaving_processes():
        for run in " ".join(words).split(" -- "):
            folder, *pairs = run.split(" ")
            options = {key: json.loads(value) for key, value in (pair.split("=", 1) for pair in pairs)}
            run_one(folder, option, rank, world, **options)


if __name__ == "__main__":
    sys.exit(run_main(lambda words: main(*words or ()), sys.argv[1:], logs=False))
