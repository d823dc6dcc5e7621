# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The training parser: several configuration files, overrides, and typos that are named."""

import importlib

import pytest

from espnet_av import _espnet
from espnet_av.tasks.parser import AVArgumentParser
from espnet_av.train.optim import SCHEDULERS


@pytest.fixture
def parser():
    upstream = _espnet.config_argparse.ArgumentParser()
    upstream.add_argument("--max_epoch", type=int, default=40)
    upstream.add_argument("--optim", default="adam")
    upstream.add_argument("--model_conf", action=_espnet.NestedDictAction, default={})
    return AVArgumentParser.adopt(upstream)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_later_config_wins_and_command_line_wins_over_all(parser, tmp_path):
    first = write(tmp_path / "a.yaml", "max_epoch: 3\noptim: sgd\nmodel_conf: {a: 1, b: {c: 2}, d: 4}\n")
    second = write(tmp_path / "b.yaml", "max_epoch: 5\nmodel_conf: {a: 7}\n")
    args = parser.parse_args(["--config", first, "--config", second, "--model_conf", "b.c=9"])
    assert (args.max_epoch, args.optim) == (5, "sgd")
    assert args.model_conf == {"a": 7, "b": {"c": 9}, "d": 4}
    assert parser.parse_args(["--config", first, "--max_epoch", "8"]).max_epoch == 8


def test_set_overrides_plain_and_nested(parser, tmp_path):
    config = write(tmp_path / "a.yaml", "max_epoch: 3\nmodel_conf: {a: 1}\n")
    args = parser.parse_args(["--config", config, "--set", "max_epoch=9", "--set", "model_conf.b.c=1e-3"])
    assert args.max_epoch == 9
    assert args.model_conf == {"a": 1, "b": {"c": 1e-3}}


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (["--max_epochs", "3"], "max_epoch"),
        (["--set", "max_epoc=3"], "did you mean 'max_epoch'"),
        (["--set", "max_epoch"], "KEY=VALUE"),
    ],
)
def test_typos_are_named(parser, capsys, options, hint):
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(options)
    assert caught.value.code == 2
    assert hint in capsys.readouterr().err


def test_unknown_key_of_a_file_is_named_with_the_file(parser, tmp_path, capsys):
    config = write(tmp_path / "a.yaml", "max_epocs: 3\n")
    with pytest.raises(SystemExit):
        parser.parse_args(["--config", config])
    message = capsys.readouterr().err
    assert config in message and "max_epoch" in message


def test_values_are_data_not_code(parser, tmp_path):
    marker = tmp_path / "pwned"
    hostile = f"__import__('os').mkdir({str(marker)!r})"
    with pytest.raises(SystemExit):
        parser.parse_args(["--model_conf", hostile])
    assert not marker.exists()


@pytest.mark.parametrize(("task", "option"), [("avsr:AVSRTask", "scheduler"), ("codec:CodecTask", "scheduler2")])
@pytest.mark.parametrize("schedule", [*SCHEDULERS, "warmuplr"])
def test_own_schedules_are_known_on_the_command_line(task, option, schedule):
    module, name = task.split(":")
    parser = getattr(importlib.import_module(f"espnet_av.tasks.{module}"), name).get_parser()
    assert getattr(parser.parse_args([f"--{option}", schedule]), option) == schedule
    assert set(SCHEDULERS).isdisjoint(_espnet.scheduler_classes)  # ESPnet's own table is as it was
