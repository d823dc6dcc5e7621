# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Speech codec as an ESPnet task.

The task derives from ``AbsTask`` and not from ESPnet's codec task: its chunk iterator cannot start in the middle of an
epoch, its preprocessor neither mixes noise for a codec nor does so twice in the same way, and its validation draws bit
rates and noises anew each time, so that two epochs cannot be compared.

Names of settings are those of the challenge's configuration; ``num_iters_per_epoch`` counts utterances.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from espnet_av import _espnet
from espnet_av.codec.choices import DEFAULT_MODEL, MODEL_CLASSES, MODEL_GROUP, build_generator, complete_conf
from espnet_av.codec.preprocess import AUDIO, REFERENCE, TARGETS
from espnet_av.registry import LazyChoices
from espnet_av.tasks.av_task import REPLACED_OPTIONS, AVTaskMixin
from espnet_av.tasks.parser import AVArgumentParser
from espnet_av.train.gan import GANTrainer
from espnet_av.train.loading import load_into, load_weights
from espnet_av.train.optim import SCHEDULERS, parameter_groups
from espnet_av.utils.config import NestedDictAction, does_not_fit
from espnet_av.utils.errors import UsageError, describe, usage_error

if TYPE_CHECKING:
    from espnet_av._espnet import AbsESPnetModel
    from espnet_av.codec.model import CodecModel

SAMPLE_RATE = 24000
CHUNK_LENGTH = 62400  # 2.6 s, 260 frames
MIXING_OPTIONS = (
    "noise_apply_prob",
    "rir_apply_prob",
    "noise_db_range",
    "short_noise_thres",
    "match_direct_path",
    "mixing_target",
    "legacy_mixing",
)
model_choices = LazyChoices(MODEL_GROUP, MODEL_CLASSES, default=DEFAULT_MODEL)


class ESPnetCodecModel(_espnet.AbsESPnetModel):
    """Puts codec, discriminator and losses behind ESPnet's model interface; their weights lie below ``codec.``.

    Args:
        codec: :class:`~espnet_av.codec.model.CodecModel`, or one called in the same way.
    """

    def __init__(self, codec: "CodecModel") -> None:
        super().__init__()
        self.codec = codec

    def forward(self, audio: torch.Tensor, audio_lengths: torch.Tensor, **batch: Any) -> dict[str, Any]:
        """Return ``loss``, ``stats``, ``weight`` and ``optim_idx`` of a turn.

        Args:
            audio: Input of the codec in [-1, 1], (B, T).
            audio_lengths: Samples of each, (B,).
            **batch: ``speech_ref1`` (B, T) where the output is to be another signal, and whose turn it is.
        """
        return self.codec(audio, audio_lengths, **batch)

    def draw_conditions(self, rng: random.Random, step: int) -> dict[str, Any]:
        """Draw the bit rate of a batch; see :class:`~espnet_av.train.gan.GANTrainer`."""
        generator = self.codec.generator
        number = generator.codebooks_for(rng.choice(generator.bitrates))
        return {"num_quantizers": number if step >= self.codec.quantizer_start_step else 0}

    def clear_cache(self) -> None:
        """Forget what the first turn of a batch has left."""
        self.codec.clear_cache()

    def collect_feats(self, audio: torch.Tensor, audio_lengths: torch.Tensor, **_: Any) -> dict[str, torch.Tensor]:
        """Return the waveform as the feature; nothing is normalised with statistics of a corpus."""
        return {"feats": audio, "feats_lengths": audio_lengths}


class CodecTask(AVTaskMixin, _espnet.AbsTask):
    """Train a speech codec against a discriminator."""

    num_optimizers = 2
    class_choices_list = [model_choices]
    trainer = GANTrainer
    # fold_length and batch_type stand in the challenge's configuration; batches are counted in chunks.
    replaced_options = {
        name: REPLACED_OPTIONS[name] for name in ("multi_task_dataset", "multiple_iterator", "batch_bins")
    }

    @classmethod
    def get_parser(cls) -> AVArgumentParser:
        """Return the parser of the training options, with chunks and the two turns as in the challenge."""
        parser = super().get_parser()
        parser.set_defaults(
            iterator_type="chunk",
            chunk_length=CHUNK_LENGTH,
            batch_type="unsorted",
            generator_first=True,
            grad_clip=-1.0,
            best_model_criterion=[("valid", "mel_loss", "min")],
            unused_parameters=True,
        )
        return parser

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of this task."""
        group = parser.add_argument_group("codec")
        group.add_argument(
            "--loss_conf",
            action=NestedDictAction,
            default={},
            help="weights of the losses and their settings (espnet_av/codec/model.py: CodecModel)",
        )
        group.add_argument(
            "--discriminator_conf",
            action=NestedDictAction,
            default={},
            help="keywords of the discriminator (espnet_av/layers/stft_discriminator.py)",
        )
        group.add_argument(
            "--valid_max_chunks", type=int, default=0, help="most chunks of a validation, spread evenly; 0: all"
        )
        for choices in cls.class_choices_list:
            choices.add_arguments(group)
        _add_mixing_arguments(parser.add_argument_group("noise and rooms (espnet_av/codec/enhancement.py)"))

    @classmethod
    def check_iterator_type(cls, iterator_type: str) -> None:
        """Accept chunks only.

        Raises:
            UsageError: For any other type.
        """
        if iterator_type != "chunk":
            usage_error("a codec is trained on chunks of equal length", f"--iterator_type {iterator_type}", "chunk")

    @classmethod
    def main(cls, args: argparse.Namespace | None = None, cmd: Sequence[str] | None = None) -> None:
        """Parse the options, refuse those that have no effect here, and train.

        Raises:
            UsageError: An option has no effect, or is out of range.
        """
        if args is None:
            args = cls.parse_options(cmd)
        if getattr(args, "eval_steps", None) is not None:
            fix = "set --num_iters_per_epoch, the utterances of an epoch"
            usage_error("--eval_steps has no effect here", args.eval_steps, fix=fix)
        super().main(args=args)

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Complete the second schedule, then go on as all tasks do."""
        if args.scheduler2 in (*SCHEDULERS, "onecyclelr"):
            second = argparse.Namespace(**vars(args))
            second.scheduler, second.scheduler_conf = args.scheduler2, args.scheduler2_conf
            args.scheduler2_conf = cls.complete_schedule(second)
        super().main_worker(args)

    @classmethod
    def complete_args(cls, args: argparse.Namespace) -> None:
        """Write out the sizes of a preset, so that ``config.yaml`` stands alone, and check the lists of sounds.

        Raises:
            UsageError: An unknown preset, a chunk length that is no number, or mixing without lists.
            DataError: A list cannot be used.
        """
        args.model_conf = complete_conf(args.model, args.model_conf)
        args.chunk_length = _whole_number("chunk_length", args.chunk_length)
        if args.collect_stats:
            usage_error("a codec needs no statistics of the data", "--collect_stats true", fix="skip stage 4")
        for train in (True, False):
            cls.build_preprocess_fn(args, train)

    @classmethod
    def data_places(cls, args: argparse.Namespace, train: bool) -> list[str]:
        """Return the data folders, and the lists of noises and rooms where they are mixed in."""
        given, start = vars(args), "" if train else "validation_"
        lists = [given.get(f"{start}{name}") for name in ("noise_scp", "rir_scp") if given.get("apply_enhancement")]
        return [*super().data_places(args, train), *(place for place in lists if place)]

    @classmethod
    def count_steps(cls, args: argparse.Namespace) -> int:
        """Return the steps until the end of training.

        Raises:
            UsageError: Neither ``max_epoch`` nor ``max_steps`` is set.
        """
        limits = [args.max_steps] if args.max_steps else []
        if args.max_epoch:
            plan = cls.build_plan(args, train=True)
            limits.append(sum(plan.num_batches(epoch) for epoch in range(1, args.max_epoch + 1)))
        if not limits:
            fix = "set --max_epoch, --max_steps or scheduler_conf.total_steps"
            raise UsageError(describe(f"--scheduler {args.scheduler} needs the end of training", fix=fix))
        return min(limits)

    @classmethod
    def count_batches(cls, args: argparse.Namespace) -> int:
        """Return the batches of the first epoch."""
        return cls.build_plan(args, train=True).num_batches(1)

    @classmethod
    def build_plan(cls, args: argparse.Namespace, *, train: bool, world_size: int = 1) -> Any:
        """Return the plan of the chunks of the training or the validation set."""
        from espnet_av.codec.chunks import ChunkPlan, read_num_samples

        mode = "train" if train else "valid"
        streams = {name: path for path, name, _ in getattr(args, f"{mode}_data_path_and_name_and_type")}
        if AUDIO not in streams:
            fix = f"pass --{mode}_data_path_and_name_and_type FOLDER/wav.scp,{AUDIO},sound"
            usage_error(f"the {mode} set has no stream '{AUDIO}'", sorted(streams), fix=fix)
        return ChunkPlan(
            read_num_samples(streams[AUDIO], getattr(args, f"{mode}_shape_file")),
            _whole_number("chunk_length", args.chunk_length),
            args.batch_size if train else (args.valid_batch_size or args.batch_size),
            chunk_shift_ratio=args.chunk_shift_ratio,
            utterances_per_epoch=args.num_iters_per_epoch if train else None,
            seed=args.seed,
            shuffle=train,
            min_batch_size=world_size,
            max_chunks=0 if train else args.valid_max_chunks,
        )

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Callable | None:
        """Return the mixing of noise and rooms (:mod:`espnet_av.codec.preprocess`), or None without it.

        Raises:
            UsageError, DataError: See :func:`~espnet_av.codec.preprocess.build_preprocessor`.
        """
        if not args.apply_enhancement:
            return None
        from espnet_av.codec.preprocess import build_preprocessor

        own = {"noise_scp": args.noise_scp, "rir_scp": args.rir_scp}
        others = {"noise_scp": args.validation_noise_scp, "rir_scp": args.validation_rir_scp}
        for name in own:
            if own[name] and not others[name]:
                fix = f"set validation_{name}: a list of sounds that training does not use"
                usage_error(f"{name} is set and validation_{name} is not", own[name], fix=fix)
        held_out = [] if args.keep_validation_sounds else [source for source in others.values() if source]
        return build_preprocessor(
            **(own if train else others),
            sample_rate=cls.sample_rate(args),
            held_out=held_out if train else (),
            **{name: getattr(args, name) for name in MIXING_OPTIONS},
        )

    @classmethod
    def sample_rate(cls, args: argparse.Namespace) -> int:
        """Return the sample rate of the codec in Hz."""
        return int(complete_conf(args.model, args.model_conf).get("sample_rate", SAMPLE_RATE))

    @classmethod
    def build_iter_factory(
        cls,
        args: argparse.Namespace,
        distributed_option: Any,
        mode: str,
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Return the factory of batches of chunks for ``mode`` train or valid."""
        from espnet_av.codec.chunks import ChunkDataset, ChunkIterFactory

        train = mode == "train"
        world_size = distributed_option.dist_world_size if distributed_option.distributed else 1
        plan = cls.build_plan(args, train=train, world_size=world_size)
        dataset = ChunkDataset(
            getattr(args, f"{mode}_data_path_and_name_and_type"),
            dict(zip(plan.uids, plan.sizes.tolist(), strict=True)),
            plan.chunk_length,
            cls.sample_rate(args),
            cls.build_preprocess_fn(args, train),
            seed=args.seed,
        )
        cls.check_task_requirements(dataset, args.allow_variable_data_keys, train=train)
        return ChunkIterFactory(
            dataset,
            plan,
            cls.build_collate_fn(args, train),
            seed=args.seed,
            shuffle=train,
            num_workers=args.num_workers,
            prefetch_factor=args.prefetch_factor if args.num_workers else None,
            pin_memory=args.ngpu > 0,
            rank=distributed_option.dist_rank if distributed_option.distributed else 0,
            world_size=world_size,
        )

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Return the streams that must be given."""
        return (AUDIO,)

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Return the streams that may be given."""
        return () if inference else (REFERENCE,)

    @classmethod
    def build_network(cls, args: argparse.Namespace) -> ESPnetCodecModel:
        """Build codec, discriminator and losses.

        Raises:
            UsageError: ``model_conf``, ``discriminator_conf`` or ``loss_conf`` holds an unknown keyword.
        """
        from espnet_av.codec.model import CodecModel
        from espnet_av.layers.stft_discriminator import MultiScaleSTFTDiscriminator

        generator = build_generator(args.model, args.model_conf)
        try:
            discriminator = MultiScaleSTFTDiscriminator(**args.discriminator_conf)
        except TypeError as error:
            raise does_not_fit(error, "discriminator_conf", args.discriminator_conf) from error
        try:
            return ESPnetCodecModel(CodecModel(generator, discriminator, **args.loss_conf))
        except TypeError as error:
            raise does_not_fit(error, "loss_conf", args.loss_conf) from error

    @classmethod
    def networks(cls, model: "AbsESPnetModel") -> tuple[torch.nn.Module, torch.nn.Module]:
        """Return the generator and the discriminator."""
        return model.codec.generator, model.codec.discriminator

    @classmethod
    def build_optimizers(cls, args: argparse.Namespace, model: "AbsESPnetModel") -> list[torch.optim.Optimizer]:
        """Build ``optim`` over the generator and ``optim2`` over the discriminator, without what is frozen.

        Raises:
            UsageError: An unknown optimizer or keyword of one, or a network of which nothing is left to train.
        """
        cls.check_frozen(args, model)
        if args.layer_lr_decay != 1:
            usage_error("--layer_lr_decay has no effect here", args.layer_lr_decay, "1")
        optimizers = []
        for network, option in zip(cls.networks(model), ("optim", "optim2"), strict=True):
            name, conf = getattr(args, option), getattr(args, f"{option}_conf")
            try:
                optimizers.append(build_optimizer(network, name, conf, spare_vectors=args.exclude_weight_decay))
            except TypeError as error:
                raise does_not_fit(error, f"{option}_conf", conf) from error
        return optimizers

    @classmethod
    def load_start(cls, model: "AbsESPnetModel", weights: Path) -> None:
        """Fill the model from ``--model_name_or_path``: a training, or the codec alone with a new discriminator.

        Raises:
            CheckpointError: The weights are of another codec.
        """
        from espnet_av.codec.model import network_state

        state = load_weights(weights)
        source = f"--model_name_or_path {weights}"
        if any(".discriminator." in name for name in state):
            load_into(model, state, strict=True, source=source)
        else:
            load_into(model.codec.generator, network_state(state), strict=True, source=source)


def _add_mixing_arguments(group: Any) -> None:
    """Add the options of on-the-fly mixing, under the names of the challenge's configuration."""
    boolean, text = _espnet.str2bool, _espnet.str_or_none
    group.add_argument("--apply_enhancement", type=boolean, default=False, help="Mix while training (track 2)")
    group.add_argument("--noise_scp", type=text, default=None, help="List of noises: id [sample_rate] path")
    group.add_argument("--noise_apply_prob", type=float, default=0.8, help="Share of the utterances with noise")
    group.add_argument("--noise_db_range", default="-5_30", help="LOW_HIGH: ratio of speech to noise in dB")
    group.add_argument("--short_noise_thres", type=float, default=0.5, help="Shorter noises are told in the log")
    group.add_argument("--rir_scp", type=text, default=None, help="List of impulse responses of rooms")
    group.add_argument("--rir_apply_prob", type=float, default=0.5, help="Share of the utterances in a room")
    group.add_argument("--validation_noise_scp", type=text, default=None, help="Noises of validation")
    group.add_argument("--validation_rir_scp", type=text, default=None, help="Rooms of validation")
    group.add_argument(
        "--keep_validation_sounds",
        type=boolean,
        default=False,
        help="Let training use the sounds of validation that stand in its lists too",
    )
    group.add_argument(
        "--match_direct_path", type=boolean, default=False, help="The same level of the direct path in input and target"
    )
    group.add_argument(
        "--mixing_target",
        choices=TARGETS,
        default="clean",
        help="clean: remove noise and late reverberation; mixture: reproduce them (robust track 1)",
    )
    group.add_argument(
        "--legacy_mixing", type=boolean, default=False, help="Direct path as ESPnet finds it, double precision"
    )


def build_optimizer(
    network: torch.nn.Module, name: str, conf: dict[str, Any], *, spare_vectors: bool
) -> torch.optim.Optimizer:
    """Return the optimizer ``name`` over a network; vectors are spared weight decay with ``spare_vectors``."""
    optimizer = _espnet.optim_classes.get(name)
    if optimizer is None:
        usage_error("unknown optimizer", name, list(_espnet.optim_classes))
    if spare_vectors:
        conf = dict(conf)
        parameters: list = parameter_groups(network, conf.pop("weight_decay", 0.0))
    else:
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not parameters:
        usage_error("--freeze_param leaves nothing to train", type(network).__name__)
    return optimizer(parameters, **conf)


def _whole_number(name: str, value: int | str) -> int:
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        usage_error(f"{name} must be one number of samples", value, "e.g. 62400")
    return value
