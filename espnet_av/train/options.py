# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The options of the trainer: what ESPnet's parser has, what we add, and which of them make a run another run."""

import argparse
import dataclasses
import json
import logging
from typing import Any, Protocol, TypeVar

from espnet_av.utils.errors import usage_error

logger = logging.getLogger(__name__)

AMP_DTYPES = ("none", "bf16", "fp16")
RESUME_MODES = ("auto", "never", "must")
NONFINITE = ("raise", "skip")

#: Options of ESPnet that this trainer does not have, with the value that leaves them off.
UNSUPPORTED: dict[str, Any] = {
    "sharded_ddp": False,
    "use_deepspeed": False,
    "use_adapter": False,
    "grad_noise": False,
    "no_forward_run": False,
    "create_graph_in_tensorboard": False,
    "nbest_averaging_interval": 0,
    "wandb_model_log_interval": -1,
}

#: Settings that may change between a run and its resumption: where, how fast, how long, what is shown.
FREE_KEYS = frozenset(
    """
    output_dir log_level log_interval num_workers prefetch_factor persistent_workers pin_memory ngpu max_epoch max_steps
    max_train_sec save_every_steps resume resume_mode patience early_stopping_criterion best_model_criterion
    keep_nbest_models nbest_averaging_interval use_matplotlib use_tensorboard create_graph_in_tensorboard num_att_plot
    use_wandb wandb_project wandb_id wandb_entity wandb_name wandb_model_log_interval
    dist_backend dist_init_method dist_world_size dist_rank local_rank dist_master_addr dist_master_port dist_launcher
    multiprocessing_distributed distributed gradient_as_bucket_view unused_parameters
    config print_config required version dry_run collect_stats write_collected_feats detect_anomaly
    max_cache_size max_cache_fd valid_max_cache_size init_param model_name_or_path cache_dir ignore_init_mismatch
    pretrain_path
    espnet_av_version git_commit data_digests nonfinite use_amp
    """.split()
)

#: Options that came later, with the value under which a training is the one it was before they existed.
NEUTRAL: dict[str, Any] = {"layer_lr_decay": 1.0}


class FolderOptions(Protocol):
    """The options of any trainer that say whether it may go on in a folder."""

    output_dir: str
    resume_mode: str
    config: dict[str, Any]


@dataclasses.dataclass(kw_only=True)
class AVTrainerOptions:
    """What :class:`~espnet_av.train.trainer.AVTrainer` needs to know; the names are those of the command line.

    Attributes:
        output_dir: The experiment folder.
        max_epoch: Last epoch; 0 sets no limit, then another limit must be set.
        max_steps: Last optimizer step; 0 sets no limit.
        max_train_sec: Seconds of training and validation, resumptions included; 0 sets no limit.
        seed: Seed of all random numbers.
        accum_grad: Batches per optimizer step.
        grad_clip: Largest gradient norm; 0 turns clipping off.
        grad_clip_type: p of the norm.
        log_interval: Batches between two log lines; None takes a twentieth of an epoch, at least 10.
        save_every_steps: Optimizer steps between two checkpoints within an epoch; 0 saves after epochs only.
        ema_decay: Decay of the weight average; 0 turns it off. With it, validation and ``Nepoch.pth`` use the average.
        amp_dtype: ``none``, ``bf16`` or ``fp16``.
        resume_mode: ``auto`` goes on from a checkpoint, ``never`` refuses a folder that holds one, ``must`` one that
            holds none.
        nonfinite: ``raise`` or ``skip`` for a step whose loss or gradient is not finite.
        patience: Epochs without improvement before stopping; None never stops.
        early_stopping_criterion: ``(phase, key, "min"|"max")`` for ``patience``.
        best_model_criterion: Such triples, by which epochs are kept and averaged.
        keep_nbest_models: Numbers of epochs to average; the largest is kept.
        val_scheduler_criterion: ``(phase, key)`` given to a scheduler that asks for a score.
        unused_parameters: Let DistributedDataParallel look for parameters that a batch does not use.
        gradient_as_bucket_view: Passed to DistributedDataParallel.
        ddp_comm_hook: ``fp16_compress_hook``, ``bf16_compress_hook`` or None.
        use_matplotlib: Draw curves into ``images/``.
        use_tensorboard: Write event files into ``tensorboard/``.
        use_wandb: Log to the Weights & Biases run of the task.
        config: The settings that make a run what it is; a checkpoint of others is refused.
    """

    output_dir: str
    max_epoch: int = 40
    max_steps: int = 0
    max_train_sec: float = 0.0
    seed: int = 0
    accum_grad: int = 1
    grad_clip: float = 5.0
    grad_clip_type: float = 2.0
    log_interval: int | None = None
    save_every_steps: int = 0
    ema_decay: float = 0.0
    amp_dtype: str = "none"
    resume_mode: str = "auto"
    nonfinite: str = "raise"
    patience: int | None = None
    early_stopping_criterion: tuple[str, str, str] = ("valid", "loss", "min")
    best_model_criterion: tuple[tuple[str, str, str], ...] = (("valid", "loss", "min"),)
    keep_nbest_models: tuple[int, ...] = (10,)
    val_scheduler_criterion: tuple[str, str] = ("valid", "loss")
    unused_parameters: bool = False
    gradient_as_bucket_view: bool = True
    ddp_comm_hook: str | None = None
    use_matplotlib: bool = False
    use_tensorboard: bool = False
    use_wandb: bool = False
    config: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UsageError: For a value out of range.
        """
        if isinstance(self.keep_nbest_models, int):
            self.keep_nbest_models = (self.keep_nbest_models,)
        for name, choices in (("amp_dtype", AMP_DTYPES), ("resume_mode", RESUME_MODES), ("nonfinite", NONFINITE)):
            if getattr(self, name) not in choices:
                usage_error(f"unknown --{name}", getattr(self, name), choices)
        for name, least in (("accum_grad", 1), ("max_epoch", 0), ("max_steps", 0), ("save_every_steps", 0)):
            if getattr(self, name) < least:
                usage_error(f"--{name} is too small", getattr(self, name), f"{least} or more")
        if not (self.max_epoch or self.max_steps or self.max_train_sec):
            fix = "set --max_epoch, --max_steps or --max_train_sec"
            usage_error("the training has no end", "--max_epoch 0", "one limit or more", fix)
        if self.max_train_sec < 0 or not 0 <= self.ema_decay < 1:
            got = f"--max_train_sec {self.max_train_sec} --ema_decay {self.ema_decay}"
            usage_error("out of range", got, "max_train_sec >= 0, 0 <= ema_decay < 1")
        for phase, key, mode in (*self.best_model_criterion, self.early_stopping_criterion):
            if phase not in ("train", "valid") or mode not in ("min", "max"):
                usage_error("wrong criterion", f"{phase},{key},{mode}", "train|valid,<statistic>,min|max")


Options = TypeVar("Options", bound=AVTrainerOptions)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the trainer's options to ESPnet's parser, and set defaults of its own."""
    group = parser.add_argument_group("AVTrainer related")
    group.add_argument(
        "--resume_mode",
        choices=RESUME_MODES,
        default="auto",
        help="auto: go on from the folder's checkpoint; never: refuse a folder that holds one; must: refuse one that "
        "holds none. --resume has no effect",
    )
    group.add_argument("--save_every_steps", type=int, default=0, help="Also save every N optimizer steps; 0: no")
    group.add_argument("--max_steps", type=int, default=0, help="Stop after this many optimizer steps; 0: no limit")
    group.add_argument(
        "--max_train_sec", type=float, default=0.0, help="Stop after this time, resumptions counted in; 0: no limit"
    )
    group.add_argument("--ema_decay", type=float, default=0.0, help="Decay of the weight average; 0: none")
    group.add_argument(
        "--amp_dtype", choices=AMP_DTYPES, default="none", help="Mixed precision. --use_amp true is the same as bf16"
    )
    group.add_argument(
        "--nonfinite", choices=NONFINITE, default="raise", help="What to do when a loss or gradient is not finite"
    )
    parser.set_defaults(
        use_tensorboard=False, num_att_plot=0, best_model_criterion=[("valid", "loss", "min")], keep_nbest_models=[5]
    )


def build_options(args: argparse.Namespace, options_class: type[Options]) -> Options:
    """Pick the trainer's options from the arguments of a task.

    Args:
        args: The arguments.
        options_class: The options of the trainer, with those that a subclass of it adds.

    Raises:
        UsageError: For an option that this trainer does not have, or a value out of range.
    """
    values = vars(args)
    for name, off in UNSUPPORTED.items():
        if values.get(name, off) != off:
            usage_error(f"this trainer has no --{name}", values[name], repr(off), f"remove {name} from the config")
    if values.get("train_dtype", "float32") == "float16":
        usage_error("weights cannot be trained in float16", "float16", "float32, float64", "use --amp_dtype fp16")
    names = {field.name for field in dataclasses.fields(options_class)} - {"config"}
    chosen = {name: values[name] for name in names if name in values}
    if values.get("use_amp") and chosen.get("amp_dtype", "none") == "none":
        chosen["amp_dtype"] = "bf16"
    if chosen.get("ddp_comm_hook") == "none":
        chosen["ddp_comm_hook"] = None
    config = {**significant_settings(values), "amp_dtype": chosen.get("amp_dtype", "none")}
    return options_class(**chosen, config=config)


def significant_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that decide what a training computes, as plain JSON values."""
    kept = {key: value for key, value in values.items() if key not in FREE_KEYS and not callable(value)}
    for key, neutral in NEUTRAL.items():
        if kept.get(key) == neutral:
            del kept[key]
    return json.loads(json.dumps(kept, default=str, sort_keys=True))
