# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import argparse

import pytest

from espnet_av.train import run_flags
from espnet_av.utils.errors import EnvironmentProblem, UsageError


def settings(*words: str, **changed) -> argparse.Namespace:
    """Return the settings of a training after the flags in ``words``."""
    parser = argparse.ArgumentParser()
    run_flags.add_flags(parser)
    start = {
        "optim_conf": {"lr": 0.5, "eps": 1.0}, "scheduler": None, "scheduler_conf": {"warmup_share": 0.1},
        "accum_grad": 1, "save_every_steps": 0, "max_steps": 0, "max_epoch": 10, "num_iters_per_epoch": None,
        "resume_mode": "auto", "use_wandb": False, "use_tensorboard": True, "audio_epochs": 0,
    }  # fmt: skip
    args = parser.parse_args(list(words), argparse.Namespace(**{**start, **changed}))
    run_flags.apply_flags(args, lambda: 30 / args.accum_grad)
    return args


def test_without_flags_nothing_changes():
    args = settings()
    assert vars(args) == vars(settings(optim_conf={"lr": 0.5, "eps": 1.0}))
    assert (args.accum_grad, args.max_epoch, args.resume_mode, args.use_tensorboard) == (1, 10, "auto", True)
    assert not {"learning_rate", "eval_steps", "report_to"} & set(vars(args))  # they would make it another training
    assert (args.model_name_or_path, args.cache_dir) == (None, None)


def test_each_flag_is_its_setting():
    args = settings(
        "--learning_rate", "1e-4", "--warmup_steps", "40", "--gradient_accumulation_steps", "2", "--save_steps", "7"
    )  # fmt: skip
    assert args.optim_conf == {"lr": 1e-4, "eps": 1.0}
    assert (args.scheduler, args.scheduler_conf) == ("warmuplinearlr", {"warmup_steps": 40})
    assert (args.accum_grad, args.save_every_steps) == (2, 7)
    kept = settings("--warmup_steps", "0", scheduler="warmupcosinelr", scheduler_conf={"final_ratio": 0.1})
    assert (kept.scheduler, kept.scheduler_conf) == ("warmupcosinelr", {"final_ratio": 0.1, "warmup_steps": 0})


def test_validation_every_n_steps_keeps_the_length_of_training():
    args = settings("--eval_steps", "20")
    assert (args.num_iters_per_epoch, args.max_steps, args.max_epoch) == (20, 300, 0)  # 10 passes of 30 steps
    args = settings("--eval_steps", "10", "--gradient_accumulation_steps", "3", audio_epochs=4)
    assert (args.num_iters_per_epoch, args.max_steps, args.audio_epochs) == (30, 100, 4)
    args = settings("--eval_steps", "20", max_steps=50)
    assert (args.num_iters_per_epoch, args.max_steps, args.max_epoch) == (20, 50, 10)


def test_resuming_must_find_something():
    assert settings("--resume_from_checkpoint").resume_mode == "must"
    assert settings("--resume_from_checkpoint", "true").resume_mode == "must"
    assert settings("--resume_from_checkpoint", "false").resume_mode == "auto"
    with pytest.raises(UsageError, match="contradict"):
        settings("--resume_from_checkpoint", resume_mode="never")
    with pytest.raises(SystemExit):
        settings("--resume_from_checkpoint", "maybe")


def test_reports(monkeypatch):
    monkeypatch.setattr(run_flags.importlib.util, "find_spec", lambda name: None if name == "wandb" else name)
    assert settings("--report_to", "none").use_tensorboard is False
    args = settings("--report_to", "tensorboard,none", use_tensorboard=False)
    assert (args.use_tensorboard, args.use_wandb) == (True, False)
    with pytest.raises(EnvironmentProblem, match="pip install wandb"):
        settings("--report_to", "wandb")
    with pytest.raises(UsageError, match="'mlflow'; allowed: none, wandb, tensorboard"):
        settings("--report_to", "mlflow")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--learning_rate", "0"], "--learning_rate"),
        (["--learning_rate", "nan"], "--learning_rate"),
        (["--warmup_steps", "-1"], "--warmup_steps"),
        (["--gradient_accumulation_steps", "0"], "1 or more"),
        (["--eval_steps", "0"], "--eval_steps"),
    ],
)
def test_values_out_of_range(words, message):
    with pytest.raises(UsageError, match=message):
        settings(*words)
