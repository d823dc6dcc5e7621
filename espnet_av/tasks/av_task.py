# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What all audio-visual tasks share: our data layer, our trainer and strict loading behind ESPnet's task interface.

ESPnet's ``AbsTask`` gives the parser, the configuration flow and the experiment folder. The mixin replaces the parts
that cannot carry video or cannot resume exactly: the dataset, the batch iterator, the trainer and ``--init_param``.
"""

import argparse
import math
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from espnet_av import __version__, _espnet
from espnet_av.data.collate import AVCollate
from espnet_av.data.dataset import AVDataset, AVIterableDataset
from espnet_av.data.iter_factory import AVIterFactory, AVLoader, refuse_chunk_iterators
from espnet_av.data.samplers import BucketBatchSampler
from espnet_av.tasks.parser import AVArgumentParser
from espnet_av.train.distributed import default_backend
from espnet_av.train.loading import load_from_spec
from espnet_av.train.optim import SCHEDULERS, registered_schedulers
from espnet_av.train.trainer import AVTrainer
from espnet_av.utils.errors import MissingDataError, UsageError, describe

# Options of AbsTask that our data layer replaces, with their replacement.
REPLACED_OPTIONS = {
    "batch_type": "--batch_frames and --batch_size",
    "batch_bins": "--batch_frames",
    "fold_length": "--batch_frames",
    "chunk_length": "a segment length in --preprocessor_conf",
    "multi_task_dataset": "data folders joined with utils/combine_data",
    "multiple_iterator": "data folders joined with utils/combine_data",
}


class AVTaskMixin:
    """Mixin placed before ``AbsTask`` in the bases of every audio-visual task."""

    trainer = AVTrainer

    @classmethod
    def get_parser(cls) -> AVArgumentParser:
        """Return ESPnet's parser with our options, typo hints and the safe YAML loader."""
        parser = AVArgumentParser.adopt(super().get_parser())
        parser.description = (cls.__doc__ or cls.__name__).strip().splitlines()[0]
        group = parser.add_argument_group("audio-visual data")
        group.add_argument("--batch_frames", type=int, default=0, help="video frames in a padded batch; 0: no limit")
        group.add_argument("--valid_batch_frames", type=int, default=0, help="the same in validation; 0: as training")
        group.add_argument("--prefetch_factor", type=int, default=2, help="batches each loader worker keeps ready")
        group.add_argument(
            "--init_min_share",
            type=float,
            default=1.0,
            help="share of the model's values that --init_param must fill; less is an error",
        )
        parser.set_defaults(num_att_plot=0, use_matplotlib=True, use_tensorboard=False)
        return parser

    @classmethod
    def main(cls, args: argparse.Namespace | None = None, cmd: Sequence[str] | None = None) -> None:
        """Parse the options, refuse those that have no effect here, and train.

        Raises:
            UsageError: An option that our data layer replaces was given.
        """
        if args is None:
            parser = cls.get_parser()
            defaults = {name: parser.get_default(name) for name in REPLACED_OPTIONS}
            args = parser.parse_args(cmd)
            for name, replacement in REPLACED_OPTIONS.items():
                value = getattr(args, name)
                if value != defaults[name]:
                    raise UsageError(describe(f"--{name} has no effect here", got=value, fix=f"use {replacement}"))
            refuse_chunk_iterators(args.iterator_type)
            if parser.get_default("dist_backend") == args.dist_backend:
                args.dist_backend = default_backend(args.ngpu)
            del args.set
        super().main(args=args)

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Note what the run is made of, then go on as ESPnet does."""
        args.espnet_av_version = __version__
        args.git_commit = git_commit()
        if args.scheduler in SCHEDULERS and not args.collect_stats:
            args.scheduler_conf = cls.complete_schedule(args)
        args.initialised_from = list(args.init_param)
        cls.complete_args(args)
        if not (args.collect_stats or args.dry_run):  # before ESPnet overwrites config.yaml of another training
            cls.trainer.check_output_dir(cls.trainer.build_options(args))
        with registered_schedulers(_espnet.scheduler_classes):
            super().main_worker(args)

    @classmethod
    def complete_args(cls, args: argparse.Namespace) -> None:
        """Replace names of files by what they hold, where ``config.yaml`` must stand alone; nothing by default."""

    @classmethod
    def complete_schedule(cls, args: argparse.Namespace) -> dict[str, Any]:
        """Fill in ``total_steps`` (all epochs) and ``warmup_steps`` (``warmup_share`` of them) where they are missing.

        Returns:
            The keywords of the schedule, ``warmup_share`` taken out.
        """
        conf = dict(args.scheduler_conf)
        share = conf.pop("warmup_share", 0.0)
        if "total_steps" not in conf:
            sampler = cls.build_sampler(args, args.train_shape_file, train=True)
            batches = args.num_iters_per_epoch or len(sampler.batches(1))
            conf["total_steps"] = args.max_epoch * math.ceil(batches / args.accum_grad)
        conf.setdefault("warmup_steps", int(share * conf["total_steps"]))
        return conf

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> torch.nn.Module:
        """Build the network and fill it from ``--init_param``, with a report of what fitted.

        Raises:
            CheckpointError: Less than ``--init_min_share`` of the model's values were in the file.
        """
        model = cls.build_network(args)
        for spec in args.init_param:
            load_from_spec(model, spec, min_share=args.init_min_share)
        args.init_param = []  # done here; ESPnet's own loader would ignore wrong keys in silence
        return model

    @classmethod
    def build_network(cls, args: argparse.Namespace) -> torch.nn.Module:
        """Return a new model for ``args``; each task writes its own."""
        raise TypeError(f"{cls.__name__} must define build_network(args)")

    @classmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> Callable:
        """Return the function that pads items into a batch."""
        return AVCollate()

    @classmethod
    def build_iter_factory(
        cls,
        args: argparse.Namespace,
        distributed_option: Any,
        mode: str,
        kwargs: dict[str, Any] | None = None,
    ) -> AVIterFactory:
        """Return the factory of length-bucketed batches for ``mode`` train or valid."""
        options = cls.build_iter_options(args, distributed_option, mode)
        for name, value in (kwargs or {}).items():
            setattr(options, name, value)
        dataset = AVDataset(options.data_path_and_name_and_type, preprocess=options.preprocess_fn, seed=args.seed)
        cls.check_task_requirements(dataset, args.allow_variable_data_keys, train=options.train)
        world_size = distributed_option.dist_world_size if options.distributed else 1
        return AVIterFactory(
            dataset,
            cls.build_sampler(args, options.shape_files, train=options.train, world_size=world_size),
            collate_fn=options.collate_fn,
            seed=args.seed,
            shuffle=options.train,
            num_workers=args.num_workers,
            prefetch_factor=args.prefetch_factor if args.num_workers else None,
            pin_memory=args.ngpu > 0,
            rank=distributed_option.dist_rank if options.distributed else 0,
            world_size=world_size,
            num_iters_per_epoch=options.num_iters_per_epoch,
        )

    @classmethod
    def build_sampler(
        cls, args: argparse.Namespace, shape_files: Sequence[str], *, train: bool, world_size: int = 1
    ) -> BucketBatchSampler:
        """Return the length-bucketed batches of the training or the validation set."""
        frames = args.batch_frames if train else (args.valid_batch_frames or args.batch_frames)
        size = args.batch_size if train else (args.valid_batch_size or args.batch_size)
        return BucketBatchSampler(
            read_lengths(shape_files, "train" if train else "valid"),
            batch_frames=frames or None,
            batch_size=size or None,
            seed=args.seed,
            shuffle=train,
            min_batch_size=world_size,
        )

    @classmethod
    def build_streaming_iterator(
        cls,
        data_path_and_name_and_type: Sequence[tuple[str, str, str]],
        preprocess_fn: Callable | None,
        collate_fn: Callable | None,
        key_file: str | None = None,
        batch_size: int = 1,
        num_workers: int = 1,
        allow_variable_data_keys: bool = False,
        ngpu: int = 0,
        inference: bool = False,
        **_: Any,
    ) -> torch.utils.data.DataLoader:
        """Return a loader that walks a set once, in order, through the same item path as training."""
        dataset = AVIterableDataset(data_path_and_name_and_type, preprocess=preprocess_fn, key_file=key_file)
        cls.check_task_requirements(dataset, allow_variable_data_keys, train=False, inference=inference)
        return AVLoader(
            dataset, batch_size=batch_size, collate_fn=collate_fn, num_workers=num_workers, pin_memory=ngpu > 0
        )


def read_lengths(shape_files: Sequence[str], mode: str) -> dict[str, int]:
    """Read the first number of each line of the first shape file: the length that batches are made by.

    Raises:
        UsageError: No shape file was given.
        MissingDataError: The shape file does not exist.
    """
    if not shape_files:
        fix = f"pass --{mode}_shape_file STATS/{mode}/video_shape"
        raise UsageError(describe(f"no shape file for {mode}", fix=fix))
    path = Path(shape_files[0])
    if not path.is_file():
        raise MissingDataError(describe("shape file not found", got=str(path), fix="run stage 4 first"))
    lengths = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fields = line.split()
        if len(fields) != 2:
            raise UsageError(describe(f"{path}:{number}: expected 'utterance length[,size...]'", got=line))
        lengths[fields[0]] = int(fields[1].split(",")[0])
    return lengths


def git_commit() -> str | None:
    """Return the commit of the checkout this package runs from, with ``-dirty`` when files differ, or None."""
    root = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--match="]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, env={**os.environ, "LC_ALL": "C"})
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
