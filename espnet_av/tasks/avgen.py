# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Joint generation of speech and a moving face as an ESPnet task.

The task derives from ``AbsTask`` and not from ESPnet's text-to-speech task, which knows neither streams of several
rates nor windows cut out of long recordings.

Names of settings are those of the published system where it has them. Statistics and head VAE are read once, at the
start of a training; they travel with the weights.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from espnet_av import _espnet
from espnet_av.avgen.choices import DEFAULT_MODEL, MODEL_CLASSES, MODEL_GROUP, build_model, complete_conf
from espnet_av.data.collate import AVCollate
from espnet_av.data.iter_factory import AVIterFactory
from espnet_av.data.samplers import BucketBatchSampler
from espnet_av.registry import LazyChoices
from espnet_av.tasks.av_task import AVTaskMixin
from espnet_av.tasks.parser import AVArgumentParser
from espnet_av.train.loading import load_into, load_weights
from espnet_av.utils.config import NestedDictAction
from espnet_av.utils.errors import usage_error

if TYPE_CHECKING:
    from espnet_av.avgen.model import AVGenModel

OPTIM_CONF = {"lr": 1e-4, "betas": [0.9, 0.98], "eps": 1e-9, "weight_decay": 0.0}
EMA_DECAY = 0.999
model_choices = LazyChoices(MODEL_GROUP, MODEL_CLASSES, default=DEFAULT_MODEL)


class ESPnetAVGenModel(_espnet.AbsESPnetModel):
    """Puts the generator behind ESPnet's model interface; its weights and statistics lie below ``avgen.``.

    Args:
        avgen: The generator (:class:`~espnet_av.avgen.model.AVGenModel`).
    """

    def __init__(self, avgen: "AVGenModel") -> None:
        super().__init__()
        self.avgen = avgen

    def forward(
        self, mel: torch.Tensor, mel_lengths: torch.Tensor | None = None, **batch: Any
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Return loss, statistics and the batch size.

        Args:
            mel: Logarithmic mel, (B, T, 80).
            mel_lengths: Frames of each, (B,).
            **batch: ``face``, ``head``, ``tokens``, and where they are known ``valid`` and the partner's streams; see
                :mod:`espnet_av.avgen.model`.
        """
        batch = {name: value for name, value in batch.items() if not name.endswith("_lengths")}
        loss, stats = self.avgen(mel, lengths=mel_lengths, **batch)
        return _espnet.force_gatherable((loss, stats, len(mel)), loss.device)

    def collect_feats(self, mel: torch.Tensor, mel_lengths: torch.Tensor, **_: Any) -> dict[str, torch.Tensor]:
        """Return the mel as the feature; statistics are computed by a stage of their own."""
        return {"feats": mel, "feats_lengths": mel_lengths}


class AVGenTask(AVTaskMixin, _espnet.AbsTask):
    """Train a generator of speech and a moving face."""

    num_optimizers = 1
    class_choices_list = [model_choices]

    @classmethod
    def get_parser(cls) -> AVArgumentParser:
        """Return the parser of the training options."""
        parser = super().get_parser()
        parser.set_defaults(
            optim="adamw",
            optim_conf=dict(OPTIM_CONF),
            batch_size=16,
            ema_decay=EMA_DECAY,
            best_model_criterion=[("valid", "loss", "min")],
        )
        return parser

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of this task."""
        group = parser.add_argument_group("generator")
        group.add_argument("--train_dir", default=None, help="data folder to train on")
        group.add_argument("--valid_dir", default=None, help="data folder to validate on")
        group.add_argument(
            "--dataset_conf",
            action=NestedDictAction,
            default={},
            help="segment_length and more (espnet_av/avgen/dataset.py: open_windows)",
        )
        group.add_argument("--statistics", default=None, help=".npz file of statistics of the data (stage 4)")
        group.add_argument("--head_vae", default=None, help="trained or published head VAE (stage 4c)")
        for choices in cls.class_choices_list:
            choices.add_arguments(group)

    @classmethod
    def complete_args(cls, args: argparse.Namespace) -> None:
        """Write out the sizes of a preset and of the head VAE, so that ``config.yaml`` stands alone.

        Raises:
            UsageError: An unknown preset, a folder that is not named, or no head VAE for a model that has one.
        """
        args.model_conf = complete_conf(args.model_conf)
        if args.collect_stats:
            usage_error("the generator has statistics of its own", "--collect_stats true", fix="run stage 4")
        for name in ("train_dir", "valid_dir"):
            if getattr(args, name) is None:
                usage_error(f"--{name} is not given", fix=f"pass --{name} FOLDER")
        if args.head_vae is not None:
            args.model_conf |= head_vae_conf(args.head_vae)
        elif args.model_conf.get("head_vae", True) and not (args.init_param or args.model_name_or_path):
            fix = "pass --head_vae FOLDER (stage 4c), or set model_conf.head_vae: false"
            usage_error("the generator needs a trained head VAE", fix=fix)

    @classmethod
    def data_places(cls, args: argparse.Namespace, train: bool) -> list[str]:
        """Return the data folder."""
        return [args.train_dir if train else args.valid_dir]

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Callable | None:
        """Return None: windows are cut by the data set."""
        return None

    @classmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> Callable:
        """Return the function that pads windows into a batch."""
        return AVCollate()

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Return the streams that must be given: none, the data set knows its own."""
        return ()

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Return the streams that may be given."""
        return ()

    @classmethod
    def open_data(cls, args: argparse.Namespace, train: bool) -> Any:
        """Return the windows of the training or the validation set."""
        from espnet_av.avgen.dataset import open_windows

        folder = args.train_dir if train else args.valid_dir
        dyadic = bool(args.model_conf.get("participant_cond", False))
        return open_windows(folder, train=train, participant=dyadic, seed=args.seed, **args.dataset_conf)

    @classmethod
    def build_windows_sampler(
        cls, args: argparse.Namespace, dataset: Any, *, train: bool, world_size: int = 1
    ) -> BucketBatchSampler:
        """Return the batches of a data set."""
        size = args.batch_size if train else (args.valid_batch_size or args.batch_size)
        return BucketBatchSampler(
            dataset.lengths, batch_size=size, seed=args.seed, shuffle=train, min_batch_size=world_size
        )

    @classmethod
    def build_iter_factory(
        cls,
        args: argparse.Namespace,
        distributed_option: Any,
        mode: str,
        kwargs: dict[str, Any] | None = None,
    ) -> AVIterFactory:
        """Return the factory of batches for ``mode`` train or valid."""
        train = mode == "train"
        distributed = distributed_option is not None and distributed_option.distributed
        world_size = distributed_option.dist_world_size if distributed else 1
        dataset = cls.open_data(args, train)
        return AVIterFactory(
            dataset,
            cls.build_windows_sampler(args, dataset, train=train, world_size=world_size),
            collate_fn=cls.build_collate_fn(args, train),
            seed=args.seed,
            shuffle=train,
            num_workers=args.num_workers,
            prefetch_factor=args.prefetch_factor if args.num_workers else None,
            pin_memory=args.ngpu > 0,
            rank=distributed_option.dist_rank if distributed else 0,
            world_size=world_size,
            num_iters_per_epoch=args.num_iters_per_epoch if train else None,
        )

    @classmethod
    def count_batches(cls, args: argparse.Namespace) -> int:
        """Return the batches of one pass over the training windows."""
        dataset = cls.open_data(args, train=True)
        return len(cls.build_windows_sampler(args, dataset, train=True).batches(1))

    @classmethod
    def build_network(cls, args: argparse.Namespace) -> ESPnetAVGenModel:
        """Build the generator.

        Raises:
            UsageError: ``model_conf`` holds a keyword that the generator does not take.
        """
        return ESPnetAVGenModel(build_model(args.model, args.model_conf))

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetAVGenModel:
        """Build the generator, filled from where training starts; statistics and head VAE that were named come last.

        The statistics of the head are those that the head VAE was trained with.

        Raises:
            DataError: Statistics are missing or damaged.
            CheckpointError: The head VAE, or what training starts from, does not fit.
        """
        model = super().build_model(args)
        if args.statistics is not None:
            from espnet_av.avgen.model_statistics import read_statistics

            model.avgen.set_statistics(read_statistics(args.statistics))
        if args.head_vae is not None:
            model.avgen.load_head_vae(args.head_vae)
        return model

    @classmethod
    def load_start(cls, model: ESPnetAVGenModel, weights: Path) -> None:
        """Fill the generator from ``--model_name_or_path``: a training, a pack or a converted model.

        Raises:
            CheckpointError: They are of another model.
        """
        from espnet_av.avgen.model import network_state

        load_into(model.avgen, network_state(load_weights(weights)), source=f"--model_name_or_path {weights}")


def head_vae_conf(source: str) -> dict[str, Any]:
    """Return the part of ``model_conf`` that a head VAE decides."""
    from espnet_av.avgen.head_vae import conf_from_state, load_head_vae

    vae, _ = load_head_vae(source)
    sizes = conf_from_state(vae.state_dict())
    return {
        "head_vae": True,
        "input_head_dim": sizes.pop("in_dim"),
        "headvec_dim": sizes.pop("latent"),
        "head_vae_conf": {**sizes, "window": vae.window},
    }
