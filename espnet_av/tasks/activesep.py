# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Passive training of the separators of active separation as an ESPnet task; the policy has a trainer of its own."""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from espnet_av import _espnet
from espnet_av.data.iter_factory import AVIterFactory
from espnet_av.tasks.av_task import AVTaskMixin
from espnet_av.utils.config import NestedDictAction, does_not_fit
from espnet_av.utils.errors import usage_error

if TYPE_CHECKING:
    from espnet_av.activesep.separators import PassiveSeparator

MODEL = "activesep_passive"


class ESPnetPassiveModel(_espnet.AbsESPnetModel):
    """Puts the separators behind ESPnet's model interface; their weights lie below ``separator.``.

    Args:
        separator: Both separators (:class:`~espnet_av.activesep.separators.PassiveSeparator`).
    """

    def __init__(self, separator: "PassiveSeparator") -> None:
        super().__init__()
        self.separator = separator

    def forward(
        self,
        mixture_wave: torch.Tensor,
        target_ears: torch.Tensor,
        target_dry: torch.Tensor,
        target_class: torch.Tensor,
        unheard: torch.Tensor,
        **_: Any,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Return loss, statistics and the batch size; spectra are computed here, on the device.

        Args:
            mixture_wave: Mixture at both ears in [-1, 1), (B, 2, 16000).
            target_ears: Target at both ears, int16, (B, 2, 16000).
            target_dry: Dry target, int16, (B, 16000).
            target_class: Labels, (B, 1).
            unheard: Whether the clips are new; the same for a whole batch, (B,) bool.
        """
        from espnet_av.activesep.spectra import ear_magnitude, mixture_log_magnitude, normalised_mono_target

        with torch.no_grad():
            mixed = mixture_log_magnitude(mixture_wave)
            ears, mono = ear_magnitude(target_ears), normalised_mono_target(target_dry)
        losses = self.separator.loss(mixed, target_class, ears, mono)
        loss = losses.total
        stats = {"loss": loss.detach(), "bin_loss": losses.binaural.detach(), "mono_loss": losses.mono.detach()}
        if bool(unheard.any()):
            stats = {f"unheard_{name}": value for name, value in stats.items()}
        return _espnet.force_gatherable((loss, stats, len(mixed)), loss.device)

    def collect_feats(self, mixture_wave: torch.Tensor, **_: Any) -> dict[str, torch.Tensor]:
        """Return the waveform as the feature; nothing is normalised with statistics of a corpus."""
        lengths = torch.full((len(mixture_wave),), mixture_wave.shape[-1])
        return {"feats": mixture_wave, "feats_lengths": lengths}


class ActiveSepTask(AVTaskMixin, _espnet.AbsTask):
    """Train the separators that an active separation agent listens with."""

    num_optimizers = 1
    class_choices_list = ()

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of this task."""
        group = parser.add_argument_group("passive separation")
        group.add_argument("--model", choices=[MODEL], default=MODEL, help="what is trained")
        group.add_argument(
            "--model_conf",
            action=NestedDictAction,
            default={},
            help="base_channels, init (espnet_av/activesep/separators.py: PassiveSeparator)",
        )
        group.add_argument("--world_root", default=None, help="folder with metadata/, binaural_rirs/ or packed/")
        group.add_argument("--world_dataset", default="mp3d", help="folder between those and the scenes")
        group.add_argument(
            "--rir_dir", default=None, help="responses of the scenes where they are not below world_root"
        )
        group.add_argument("--metadata_dir", default=None, help="the same for points.txt and graph.pkl of the scenes")
        group.add_argument("--points_dir", default=None, help="folder with VERSION/SPLIT/SCENE.pkl of data points")
        group.add_argument("--points_version", default="v1", help="version of the data points")
        group.add_argument("--train_points", default="train", help="split of the data points to train on")
        group.add_argument("--valid_points", default="val", help="split of the data points to validate on")
        group.add_argument("--train_clips", default=None, help="folder of clips of one second to train with")
        group.add_argument("--valid_clips", default=None, help="folder of clips to validate with; by default the same")
        group.add_argument(
            "--unheard_clips",
            default=None,
            help="folder of other recordings to validate with too, as unheard_mono_loss and unheard_bin_loss",
        )
        group.add_argument("--class_table", default=None, help="JSON file of labels; by default the published ones")
        group.add_argument("--max_train_points", type=int, default=0, help="points of a scene to train on; 0: all")
        group.add_argument("--max_valid_points", type=int, default=0, help="points of a scene to validate on; 0: all")
        group.add_argument("--convolution", choices=["same", "causal"], default="same", help="how sounds reach ears")
        group.add_argument("--reference_compat", action="store_true", help="let loud samples wrap around")
        group.add_argument("--scene_conf", action=NestedDictAction, default={}, help="backend, rir_cache (open_scene)")

    @classmethod
    def data_places(cls, args: argparse.Namespace, train: bool) -> list[str]:
        """Return the folders of points and of clips."""
        clips = [args.train_clips] if train else [args.valid_clips or args.train_clips, args.unheard_clips]
        points = Path(args.points_dir or "", args.points_version, args.train_points if train else args.valid_points)
        return [str(points), *(place for place in clips if place)]

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Callable | None:
        """Return None: items are made by the data set."""
        return None

    @classmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> Callable:
        """Return the function that stacks items."""
        from espnet_av.activesep.passive_data import stack_items

        return stack_items

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Return the streams that must be given: none, data come from a world."""
        return ()

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Return the streams that may be given."""
        return ()

    @classmethod
    def build_network(cls, args: argparse.Namespace) -> ESPnetPassiveModel:
        """Build the separators.

        Raises:
            UsageError: ``model_conf`` holds a keyword that they do not take.
        """
        from espnet_av.activesep.separators import PassiveSeparator

        try:
            return ESPnetPassiveModel(PassiveSeparator(**args.model_conf))
        except TypeError as error:
            raise does_not_fit(error, "model_conf", args.model_conf) from error

    @classmethod
    def load_start(cls, model: ESPnetPassiveModel, weights: Path) -> None:
        """Fill the separators from ``--model_name_or_path``: a training, an agent, or a published checkpoint.

        Raises:
            CheckpointError: They are of another model.
        """
        from espnet_av.activesep.convert import load_separator
        from espnet_av.train.loading import load_into

        found = load_separator(weights).state_dict()
        load_into(model.separator, found, source=f"--model_name_or_path {weights}")

    @classmethod
    def build_sets(cls, args: argparse.Namespace, train: bool) -> list:
        """Return the sets of training, or those of validation.

        Raises:
            UsageError: A folder is not named.
        """
        from espnet_av.activesep.classes import ClassTable
        from espnet_av.activesep.passive_data import PassiveSet
        from espnet_av.activesep.passive_points import read_passive_points
        from espnet_av.activesep.sounds import ClipLibrary

        needed = [] if args.rir_dir and args.metadata_dir else ["world_root"]
        for name in (*needed, "points_dir", "train_clips"):
            if getattr(args, name) is None:
                usage_error(f"--{name} is not given", fix=f"pass --{name} FOLDER")
        table = ClassTable.read(args.class_table) if args.class_table else None
        split = args.train_points if train else args.valid_points
        points = read_passive_points(args.points_dir, split, version=args.points_version)
        points = first_of_scenes(points, args.max_train_points if train else args.max_valid_points)
        if train:
            return [PassiveSet("train", points, ClipLibrary(args.train_clips, classes=table))]
        heard = ClipLibrary(args.valid_clips or args.train_clips, classes=table)
        sets = [PassiveSet("heard", points, heard, fixed=True)]
        if args.unheard_clips:
            sets.append(PassiveSet("unheard", points, ClipLibrary(args.unheard_clips, classes=table), fixed=True))
        return sets

    @classmethod
    def build_iter_factory(
        cls,
        args: argparse.Namespace,
        distributed_option: Any,
        mode: str,
        kwargs: dict[str, Any] | None = None,
    ) -> AVIterFactory:
        """Return the factory of batches for ``mode`` train or valid."""
        from espnet_av.activesep.passive_data import PassiveDataset, PointBatches, stack_items
        from espnet_av.activesep.scene_files import ScenePaths

        train = mode == "train"
        sets = cls.build_sets(args, train)
        paths = ScenePaths.below(args.world_root or ".", args.world_dataset)
        given = {"rirs": args.rir_dir, "metadata": args.metadata_dir}
        paths = dataclasses.replace(paths, **{name: Path(path) for name, path in given.items() if path is not None})
        dataset = PassiveDataset(
            paths,
            sets,
            seed=args.seed,
            convolution=args.convolution,
            wrap_int16=args.reference_compat,
            scene_options={"rir_cache": 256, **args.scene_conf},
        )
        distributed = distributed_option is not None and distributed_option.distributed
        world_size = distributed_option.dist_world_size if distributed else 1
        size = args.batch_size if train else (args.valid_batch_size or args.batch_size)
        sizes = {each.name: len(each.points) for each in sets}
        return AVIterFactory(
            dataset,
            PointBatches(sizes, size, seed=args.seed, least=world_size),
            collate_fn=stack_items,
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
        """Return the batches of one pass over the training points."""
        (found,) = cls.build_sets(args, train=True)
        return -(-len(found.points) // args.batch_size)


def first_of_scenes(points: list, limit: int) -> list:
    """Return the first ``limit`` points of each scene; all where it is 0."""
    if not limit:
        return points
    counts: dict[str, int] = {}
    kept = []
    for point in points:
        counts[point.scene] = counts.get(point.scene, 0) + 1
        if counts[point.scene] <= limit:
            kept.append(point)
    return kept
