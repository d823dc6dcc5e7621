# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Training options under the names of Hugging Face's trainer, in which published systems state their settings.

Each is another way to say something that the configuration can say too, counted in optimizer steps: the table of
:func:`apply_flags` tells which. A flag that is not given changes nothing.
"""

import argparse
import importlib.util
import math
from collections.abc import Callable
from typing import Any

from espnet_av.utils.errors import EnvironmentProblem, describe, usage_error

REPORTS = {"wandb": "use_wandb", "tensorboard": "use_tensorboard"}
DEFAULT_SCHEDULER = "warmuplinearlr"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags to the parser of a training."""
    group = parser.add_argument_group("settings under their names in Hugging Face trainings")
    group.add_argument(
        "--model_name_or_path", default=None, help="start from this model: weights, a model folder or a hub name"
    )
    group.add_argument("--cache_dir", default=None, help="where models of the hub are kept")
    group.add_argument("--learning_rate", type=float, default=None, help="the same as --optim_conf lr=X")
    group.add_argument(
        "--warmup_steps",
        type=int,
        default=None,
        help="steps of the linear warm-up; without a scheduler a linear decay to 0 follows",
    )
    group.add_argument("--gradient_accumulation_steps", type=int, default=None, help="the same as --accum_grad")
    group.add_argument("--save_steps", type=int, default=None, help="the same as --save_every_steps")
    group.add_argument("--eval_steps", type=int, default=None, help="validate every N steps instead of every epoch")
    group.add_argument(
        "--resume_from_checkpoint",
        type=_boolean,
        nargs="?",
        const=True,
        default=False,
        metavar="BOOL",
        help="the folder must hold a checkpoint to go on from (without it one that exists is used)",
    )
    group.add_argument("--report_to", default=None, help="none, wandb, tensorboard or several with commas")


def apply_flags(args: argparse.Namespace, steps_per_pass: Callable[[], float] | None = None) -> None:
    """Put the flags into the settings they stand for, and take them out of ``args``.

    ============================  =====================================================================
    flag                          setting
    ============================  =====================================================================
    learning_rate                 ``optim_conf.lr``
    warmup_steps                  ``scheduler_conf.warmup_steps``, no ``warmup_share``
    gradient_accumulation_steps   ``accum_grad``
    save_steps                    ``save_every_steps``
    eval_steps                    ``num_iters_per_epoch``; the length of training stays what it was
    resume_from_checkpoint        ``resume_mode`` must
    report_to                     ``use_wandb`` and ``use_tensorboard``
    ============================  =====================================================================

    ``model_name_or_path`` and ``cache_dir`` are left for the task, which builds the model.

    Args:
        args: The settings of the training; changed.
        steps_per_pass: Gives the optimizer steps of one pass over the data (with the ``accum_grad`` of ``args``). Asked
            only where ``eval_steps`` is given and no ``max_steps`` says when to end.

    Raises:
        UsageError: A value out of range, or two settings that contradict each other.
        EnvironmentProblem: ``report_to`` names a package that is not installed.
    """
    _check_range(args)
    if (rate := _take(args, "learning_rate")) is not None:
        args.optim_conf = {**args.optim_conf, "lr": rate}
    if (steps := _take(args, "warmup_steps")) is not None:
        args.scheduler = args.scheduler or DEFAULT_SCHEDULER
        kept = {key: value for key, value in args.scheduler_conf.items() if key != "warmup_share"}
        args.scheduler_conf = {**kept, "warmup_steps": steps}
    for flag, setting in (("gradient_accumulation_steps", "accum_grad"), ("save_steps", "save_every_steps")):
        if (value := _take(args, flag)) is not None:
            setattr(args, setting, value)
    if (steps := _take(args, "eval_steps")) is not None:
        _validate_every(args, steps, steps_per_pass)
    if _take(args, "resume_from_checkpoint"):
        if args.resume_mode == "never":
            usage_error("--resume_from_checkpoint and --resume_mode never contradict each other", fix="drop one")
        args.resume_mode = "must"
    if (names := _take(args, "report_to")) is not None:
        _report_to(args, names)


def _take(args: argparse.Namespace, name: str) -> Any:
    value = getattr(args, name, None)
    if hasattr(args, name):
        delattr(args, name)
    return value


def _check_range(args: argparse.Namespace) -> None:
    least = {"warmup_steps": 0, "gradient_accumulation_steps": 1, "save_steps": 0, "eval_steps": 1}
    for name, limit in least.items():
        value = getattr(args, name, None)
        if value is not None and value < limit:
            usage_error(f"--{name} is too small", value, f"{limit} or more")
    rate = getattr(args, "learning_rate", None)
    if rate is not None and not 0 < rate < math.inf:
        usage_error("--learning_rate is out of range", rate, "above 0")


def _validate_every(args: argparse.Namespace, steps: int, steps_per_pass: Callable[[], float] | None) -> None:
    """Make epochs of ``steps`` steps; what was counted in passes over the data is turned into such epochs."""
    passes_per_epoch = None
    audio_epochs: int = getattr(args, "audio_epochs", 0)
    if steps_per_pass is not None and (not args.max_steps or audio_epochs):
        passes_per_epoch = steps / steps_per_pass()
    if not args.max_steps:
        if passes_per_epoch is None:
            usage_error("--eval_steps needs an end of training", fix="pass --max_steps N")
        args.max_steps = math.ceil(args.max_epoch / passes_per_epoch * steps)
        args.max_epoch = 0
    if passes_per_epoch is not None and audio_epochs:
        args.audio_epochs = math.ceil(audio_epochs / passes_per_epoch)
    args.num_iters_per_epoch = steps * args.accum_grad


def _report_to(args: argparse.Namespace, names: str) -> None:
    wanted = [name for name in names.replace(" ", ",").split(",") if name and name != "none"]
    for name in wanted:
        if name not in REPORTS:
            usage_error("--report_to does not know this", name, ["none", *REPORTS])
        if importlib.util.find_spec(name) is None:
            raise EnvironmentProblem(
                describe(f"--report_to {name}: no package '{name}'", fix=f"pip install {name}, or --report_to none")
            )
    for name, setting in REPORTS.items():
        setattr(args, setting, name in wanted)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"true or false; got {text!r}")
    return text.lower() == "true"
