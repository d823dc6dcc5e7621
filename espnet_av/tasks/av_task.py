# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What all audio-visual tasks share: our data layer, our trainer and strict loading behind ESPnet's task interface.

ESPnet's ``AbsTask`` gives the parser, the configuration flow and the experiment folder. The mixin replaces the parts
that cannot carry video or cannot resume exactly: the dataset, the batch iterator, the trainer and ``--init_param``.
"""

import argparse
import logging
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from espnet_av import __version__, _espnet
from espnet_av.data.collate import AVCollate
from espnet_av.data.data_record import data_record
from espnet_av.data.dataset import AVDataset, AVIterableDataset
from espnet_av.data.iter_factory import AVIterFactory, AVLoader, refuse_chunk_iterators
from espnet_av.data.samplers import BucketBatchSampler
from espnet_av.data.stream import StreamFactory
from espnet_av.tasks.parser import AVArgumentParser
from espnet_av.train.distributed import default_backend, leaving_processes
from espnet_av.train.loading import load_from_spec, load_into, load_weights
from espnet_av.train.optim import SCHEDULERS, DepthRule, parameter_groups, registered_schedulers
from espnet_av.train.run_flags import add_flags, apply_flags
from espnet_av.train.start_model import find_start_weights
from espnet_av.train.trainer import AVTrainer
from espnet_av.utils.config import does_not_fit
from espnet_av.utils.errors import MissingDataError, UsageError, describe, usage_error
from espnet_av.utils.source import source_commit

if TYPE_CHECKING:
    from espnet_av._espnet import AbsESPnetModel
    from espnet_av._espnet import AbsTask as TaskBase
else:
    TaskBase = object

logger = logging.getLogger(__name__)

# Options of AbsTask that our data layer replaces, with their replacement.
REPLACED_OPTIONS = {
    "batch_type": "--batch_frames and --batch_size",
    "batch_bins": "--batch_frames",
    "fold_length": "--batch_frames",
    "chunk_length": "a segment length in --preprocessor_conf",
    "multi_task_dataset": "data folders joined with utils/combine_data",
    "multiple_iterator": "data folders joined with utils/combine_data",
}


class AVTaskMixin(TaskBase):
    """Mixin placed before ``AbsTask`` in the bases of every audio-visual task."""

    trainer = AVTrainer
    replaced_options = REPLACED_OPTIONS

    @classmethod
    def get_parser(cls) -> AVArgumentParser:
        """Return ESPnet's parser with our options, typo hints and the safe YAML loader."""
        with registered_schedulers(_espnet.scheduler_classes):
            parser = AVArgumentParser.adopt(super().get_parser())
        parser.description = (cls.__doc__ or cls.__name__).strip().splitlines()[0]
        group = parser.add_argument_group("audio-visual data")
        group.add_argument("--batch_frames", type=int, default=0, help="video frames in a padded batch; 0: no limit")
        group.add_argument("--valid_batch_frames", type=int, default=0, help="the same in validation; 0: as training")
        group.add_argument("--prefetch_factor", type=int, default=2, help="batches each loader worker keeps ready")
        group.add_argument(
            "--train_stream",
            default=None,
            metavar="FILE",
            help="train on the shards that this file lists (espnet_av/data/stream_plan.py), not on the training set",
        )
        group.add_argument(
            "--init_min_share",
            type=float,
            default=1.0,
            help="share of the model's values that --init_param must fill; less is an error",
        )
        group.add_argument(
            "--layer_lr_decay",
            type=float,
            default=1.0,
            help="factor on the learning rate from one layer to the one below it; 1: one rate for all",
        )
        add_flags(parser)
        parser.set_defaults(num_att_plot=0, use_matplotlib=True, use_tensorboard=False)
        return parser

    @classmethod
    def main(cls, args: argparse.Namespace | None = None, cmd: Sequence[str] | None = None) -> None:
        """Parse the options, refuse those that have no effect here, and train.

        Raises:
            UsageError: An option that our data layer replaces was given.
        """
        if args is None:
            args = cls.parse_options(cmd)
        apply_flags(args, lambda: cls.count_batches(args) / args.accum_grad)
        super().main(args=args)

    @classmethod
    def parse_options(cls, cmd: Sequence[str] | None = None) -> argparse.Namespace:
        """Parse the options and refuse those that have no effect here.

        Raises:
            UsageError: An option that our data layer replaces was given.
        """
        parser = cls.get_parser()
        defaults = {name: parser.get_default(name) for name in cls.replaced_options}
        args = parser.parse_args(cmd)
        for name, replacement in cls.replaced_options.items():
            value = getattr(args, name)
            if value != defaults[name]:
                raise UsageError(describe(f"--{name} has no effect here", got=value, fix=f"use {replacement}"))
        cls.check_iterator_type(args.iterator_type)
        if parser.get_default("dist_backend") == args.dist_backend:
            args.dist_backend = default_backend(args.ngpu)
        del args.set
        return args

    @classmethod
    def check_iterator_type(cls, iterator_type: str) -> None:
        """Refuse iterators that the task cannot use.

        Raises:
            UsageError: For ESPnet's chunk iterators.
        """
        refuse_chunk_iterators(iterator_type)

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Note what the run is made of, then go on as ESPnet does."""
        args.espnet_av_version = __version__
        args.git_commit = source_commit()
        if args.scheduler in (*SCHEDULERS, "onecyclelr") and not args.collect_stats:
            args.scheduler_conf = cls.complete_schedule(args)
        args.initialised_from = list(args.init_param)
        cls.refuse_two_starts(args)
        cls.complete_args(args)
        if not (args.collect_stats or args.dry_run):  # before ESPnet overwrites config.yaml of another training
            cls.trainer.check_output_dir(cls.trainer.build_options(args))
            parts = {"train": True, "valid": False}
            args.data_digests = {name: data_record(cls.data_places(args, train)) for name, train in parts.items()}
        with registered_schedulers(_espnet.scheduler_classes), leaving_processes():
            super().main_worker(args)

    @classmethod
    def data_places(cls, args: argparse.Namespace, train: bool) -> list[str]:
        """Return the data folders that are read, for the record; by default those of the streams that are named."""
        named = args.train_data_path_and_name_and_type if train else args.valid_data_path_and_name_and_type
        return [os.path.dirname(path) or "." for path, *_ in named]

    @classmethod
    def complete_args(cls, args: argparse.Namespace) -> None:
        """Replace names of files by what they hold, where ``config.yaml`` must stand alone; nothing by default."""

    @classmethod
    def complete_schedule(cls, args: argparse.Namespace) -> dict[str, Any]:
        """Fill in ``total_steps`` and ``warmup_steps`` (``warmup_share`` of them) where they are missing.

        ``total_steps`` is the end of training: all epochs, or ``max_steps`` where that comes first. A warm-up that does
        not fit into a training shorter than planned (``--debug``) is cut, with a warning. torch's one-cycle schedule
        has a share of its own (``pct_start``), so only its ``total_steps`` is filled in.

        Returns:
            The keywords of the schedule, ``warmup_share`` taken out.
        """
        conf = dict(args.scheduler_conf)
        one_cycle = args.scheduler == "onecyclelr"
        share = 0.0 if one_cycle else conf.pop("warmup_share", 0.0)
        given = "total_steps" in conf or (one_cycle and "steps_per_epoch" in conf)
        if not given:
            conf["total_steps"] = cls.count_steps(args)
        if one_cycle:
            return conf
        conf.setdefault("warmup_steps", int(share * conf["total_steps"]))
        if not given and conf["warmup_steps"] >= conf["total_steps"]:
            shorter = conf["total_steps"] - 1
            logger.warning("the training has %d steps: warm-up %d -> %d", shorter + 1, conf["warmup_steps"], shorter)
            conf["warmup_steps"] = shorter
        return conf

    @classmethod
    def count_steps(cls, args: argparse.Namespace) -> int:
        """Return the optimizer steps until the end of training.

        Raises:
            UsageError: Neither ``max_epoch`` nor ``max_steps`` is set.
        """
        limits = [args.max_steps] if args.max_steps else []
        if args.max_epoch:
            batches = args.num_iters_per_epoch or cls.count_batches(args)
            limits.append(args.max_epoch * math.ceil(batches / args.accum_grad))
        if not limits:
            fix = "set --max_epoch, --max_steps or scheduler_conf.total_steps"
            raise UsageError(describe(f"--scheduler {args.scheduler} needs the end of training", fix=fix))
        return min(limits)

    @classmethod
    def count_batches(cls, args: argparse.Namespace) -> int:
        """Return the batches of one pass over the training set."""
        return len(cls.build_sampler(args, args.train_shape_file, train=True).batches(1))

    @classmethod
    def build_optimizers(cls, args: argparse.Namespace, model: "AbsESPnetModel") -> list[torch.optim.Optimizer]:
        """Build the optimizer of ``optim`` and ``optim_conf`` over what is not frozen.

        ``exclude_weight_decay`` spares vectors, norms and embeddings; ``layer_lr_decay`` lowers the rate towards the
        input. Without either, this is what ESPnet builds.

        Raises:
            UsageError: A name in ``freeze_param`` matches nothing, nothing is left to train, or the optimizer does not
                take a keyword of ``optim_conf``.
        """
        cls.check_frozen(args, model)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            usage_error("--freeze_param leaves nothing to train", args.freeze_param)
        try:
            return cls._make_optimizers(args, model)
        except TypeError as error:
            raise does_not_fit(error, "optim_conf", args.optim_conf) from error

    @classmethod
    def _make_optimizers(cls, args: argparse.Namespace, model: "AbsESPnetModel") -> list[torch.optim.Optimizer]:
        if not args.exclude_weight_decay and args.layer_lr_decay == 1:
            return super().build_optimizers(args, model)
        conf = dict(args.optim_conf)
        optimizer = _espnet.optim_classes.get(args.optim)
        if optimizer is None:
            usage_error("unknown --optim", args.optim, list(_espnet.optim_classes))
        groups = parameter_groups(
            model,
            conf.pop("weight_decay", 0.0),
            spare_vectors=args.exclude_weight_decay,
            layer_lr_decay=args.layer_lr_decay,
            lr=conf.get("lr"),
            depth_of=cls.depth_rule(model),
        )
        return [optimizer(groups, **conf)]

    @classmethod
    def check_frozen(cls, args: argparse.Namespace, model: torch.nn.Module) -> None:
        """Refuse names in ``freeze_param`` that match nothing.

        Raises:
            UsageError: There is one.
        """
        names = [name for name, _ in model.named_parameters()]
        for prefix in args.freeze_param:
            if not any(name == prefix or name.startswith(prefix + ".") for name in names):
                children = [name for name, _ in model.named_children()]
                usage_error("--freeze_param: the model has no such part", prefix, f"names as in {names[0]}; {children}")

    @classmethod
    def depth_rule(cls, model: torch.nn.Module) -> DepthRule | None:
        """Return which layer a parameter belongs to, for ``--layer_lr_decay``; None where a task has no such rule."""
        return None

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> "AbsESPnetModel":
        """Build the network, filled from ``--model_name_or_path`` or ``--init_param`` with a report of what fitted.

        Raises:
            MissingDataError: ``--model_name_or_path`` does not exist.
            CheckpointError: The named model is not this one, or less than ``--init_min_share`` of the model's values
                were in a file of ``--init_param``.
        """
        model = cls.build_network(args)
        if args.model_name_or_path:
            cls.load_start(model, find_start_weights(args.model_name_or_path, args.cache_dir))
        for spec in args.init_param:
            load_from_spec(model, spec, min_share=args.init_min_share)
        args.init_param = []  # done here; ESPnet's own loader would ignore wrong keys in silence
        return model

    @classmethod
    def refuse_two_starts(cls, args: argparse.Namespace) -> None:
        """Note where training starts, and refuse two places.

        Raises:
            UsageError: Both ``--model_name_or_path`` and ``--init_param`` are given.
        """
        if not args.model_name_or_path:
            return
        if args.init_param:
            usage_error("--model_name_or_path and --init_param both say where to start", fix="drop one of them")
        args.initialised_from = [args.model_name_or_path]

    @classmethod
    def load_start(cls, model: "AbsESPnetModel", weights: Path) -> None:
        """Fill a new model with all weights of another training of the same configuration.

        Raises:
            CheckpointError: Names or shapes differ.
        """
        load_into(model, load_weights(weights), strict=True, source=f"--model_name_or_path {weights}")

    @classmethod
    def build_network(cls, args: argparse.Namespace) -> "AbsESPnetModel":
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
    ) -> AVIterFactory | StreamFactory:
        """Return the factory of length-bucketed batches for ``mode`` train or valid."""
        options = cls.build_iter_options(args, distributed_option, mode)
        for name, value in (kwargs or {}).items():
            setattr(options, name, value)
        if mode == "train" and args.train_stream:
            return cls.build_stream_factory(args, distributed_option, options)
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
    def build_stream_factory(cls, args: argparse.Namespace, distributed_option: Any, options: Any) -> StreamFactory:
        """Return the factory of batches out of the shards of ``--train_stream``."""
        from espnet_av.data.stream_plan import read_stream_plan

        distributed = options.distributed
        return StreamFactory(
            read_stream_plan(args.train_stream, num_streams=max(1, args.num_workers)),
            options.preprocess_fn,
            options.num_iters_per_epoch,
            batch_frames=args.batch_frames or None,
            batch_size=args.batch_size or None,
            collate_fn=options.collate_fn,
            seed=args.seed,
            num_workers=args.num_workers,
            prefetch_factor=args.prefetch_factor if args.num_workers else None,
            pin_memory=args.ngpu > 0,
            rank=distributed_option.dist_rank if distributed else 0,
            world_size=distributed_option.dist_world_size if distributed else 1,
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
