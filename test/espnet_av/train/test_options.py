# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import argparse

import pytest

from espnet_av.train.options import AVTrainerOptions, add_arguments, build_options, significant_settings
from espnet_av.train.trainer import AVTrainer
from espnet_av.utils.errors import UsageError


@pytest.fixture(scope="module")
def parser():
    """ESPnet's own parser with this trainer in it."""
    from espnet_av._espnet import AbsTask

    class Task(AbsTask):
        trainer = AVTrainer

        @classmethod
        def add_task_arguments(cls, parser):
            parser.add_argument("--width", type=int, default=3)

        build_collate_fn = build_preprocess_fn = required_data_names = optional_data_names = build_model = None

    return Task.get_parser()


def options(parser, *words):
    return AVTrainer.build_options(parser.parse_args(["--output_dir", "exp/x", *words]))


def test_espnet_s_parser_gives_all_options(parser):
    chosen = options(
        parser, "--accum_grad", "4", "--save_every_steps", "100", "--ema_decay", "0.99", "--best_model_criterion",
        "valid,acc,max", "--keep_nbest_models", "3", "5", "--max_train_sec", "60", "--patience", "2",
    )  # fmt: skip
    assert (chosen.output_dir, chosen.accum_grad, chosen.save_every_steps, chosen.ema_decay) == ("exp/x", 4, 100, 0.99)
    assert chosen.best_model_criterion == [("valid", "acc", "max")] and chosen.keep_nbest_models == [3, 5]
    assert chosen.max_train_sec == 60.0 and chosen.patience == 2 and chosen.resume_mode == "auto"
    assert chosen.use_tensorboard is False and chosen.grad_clip == 5.0


def test_what_counts_for_a_resumption(parser):
    free = [
        "--max_epoch",
        "99",
        "--num_workers",
        "7",
        "--log_interval",
        "3",
        "--max_train_sec",
        "9",
        "--log_level",
        "DEBUG",
    ]
    assert options(parser, *free).config == options(parser).config
    for words in (["--seed", "1"], ["--width", "4"], ["--optim_conf", "lr=0.1"], ["--amp_dtype", "bf16"]):
        assert options(parser, *words).config != options(parser).config
    assert significant_settings({"seed": (1, 2), "output_dir": "x", "f": print}) == {"seed": [1, 2]}


def test_an_option_of_a_later_version_does_not_make_another_training():
    assert significant_settings({"layer_lr_decay": 1.0}) == {}
    assert significant_settings({"layer_lr_decay": 0.9}) == {"layer_lr_decay": 0.9}


def test_use_amp_is_bf16(parser):
    assert options(parser, "--use_amp", "true").amp_dtype == "bf16"
    assert options(parser, "--use_amp", "true", "--amp_dtype", "fp16").amp_dtype == "fp16"
    assert options(parser, "--use_amp", "true").config == options(parser, "--amp_dtype", "bf16").config


@pytest.mark.parametrize("name", ["sharded_ddp", "grad_noise", "no_forward_run", "use_adapter"])
def test_options_of_espnet_that_do_not_exist_here_are_refused(parser, name):
    with pytest.raises(UsageError, match=f"no --{name}"):
        options(parser, f"--{name}", "true")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"accum_grad": 0}, "--accum_grad is too small; got 0; allowed: 1 or more"),
        ({"max_steps": -1}, "--max_steps"),
        ({"max_epoch": 0}, "the training has no end"),
        ({"ema_decay": 1.0}, "0 <= ema_decay < 1"),
        ({"amp_dtype": "int8"}, "unknown --amp_dtype; got 'int8'; allowed: none, bf16, fp16"),
        ({"resume_mode": "maybe"}, "--resume_mode"),
        ({"best_model_criterion": [("valid", "acc", "best")]}, "wrong criterion; got 'valid,acc,best'"),
    ],
)
def test_values_out_of_range(values, message):
    with pytest.raises(UsageError, match=message):
        AVTrainerOptions(output_dir="x", **values)


def test_float16_weights_are_refused():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args([])
    args.output_dir, args.train_dtype = "x", "float16"
    with pytest.raises(UsageError, match="use --amp_dtype fp16"):
        build_options(args, AVTrainerOptions)
