# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Settings of training as options of a recipe, with stand-ins for the stage commands."""

import re

import pytest

FLAGS = {
    "--max_steps": "300",
    "--gradient_accumulation_steps": "2",
    "--save_steps": "50",
    "--eval_steps": "100",
    "--log_interval": "25",
    "--learning_rate": "1e-4",
    "--warmup_steps": "40",
    "--report_to": "none",
}


def options(call: list[str]) -> dict[str, str]:
    """Return the options of a call that have one value."""
    return {name: value for name, value in zip(call, call[1:], strict=False) if name.startswith("--")}


def train_call(recipe, *words: str) -> dict[str, str]:
    result = recipe.run("--stage", "5", "--stop_stage", "5", "--skip_stages", "", *words)
    assert result.returncode == 0, result.stderr
    return options(recipe.calls("avsr_train")[0])


def test_flags_reach_the_training(finished):
    given = [word for pair in FLAGS.items() for word in pair]
    finished.run("--stage", "4", "--stop_stage", "4", "--tag", "flags")
    call = train_call(finished, "--tag", "flags", "--batch_size", "6", "--nproc", "2", "--nj", "2", *given)
    assert {name: call[name] for name in FLAGS} == FLAGS
    assert (call["--batch_size"], call["--valid_batch_size"]) == ("12", "12")  # of both processes
    assert call["--max_epoch"] == "0"


def test_without_flags_the_configuration_decides(finished_once):
    call = options(finished_once[0].calls("avsr_train")[0])
    assert not {*FLAGS, "--batch_size", "--max_epoch", "--model_name_or_path", "--resume_from_checkpoint"} & set(call)


def test_settings_name_the_experiment_and_other_names_of_options(finished):
    flags = ["--learning_rate", "1e-4", "--batch_size=3", "--max_steps", "9"]
    shown = finished.run("--dry_run", "--stage", "5", *flags).stdout
    assert "exp/train_word_batch_size-3_learning_rate-1e-4/config.yaml" in shown
    shown = finished.run("--dry_run", "--stage", "5", "--output_dir", "models", "--checkpoint_name", "avsr_1").stdout
    assert "models/avsr_1/config.yaml" in shown
    wrong = finished.run("--checkpoint_name", "a", "--tag", "b")
    assert wrong.returncode == 2 and "--checkpoint_name is another name of --tag" in wrong.stderr


def test_a_finished_training_goes_on_when_asked(finished):
    longer = ["--stage", "5", "--stop_stage", "5", "--max_steps", "9"]
    result = finished.run(*longer, "--resume_from_checkpoint")
    assert 'stage 5 "train" again: option --max_steps changed' in result.stdout
    assert "kept in" not in result.stdout and not list(finished.folder.glob("exp/*/old.*"))
    assert options(finished.calls("avsr_train")[0])["--resume_from_checkpoint"] == "true"
    again = finished.run("--stage", "5", "--stop_stage", "5", "--max_steps", "10")
    assert "the earlier training is kept in exp/train_word/old.1" in again.stdout


def test_a_model_to_start_from_must_exist(finished):
    result = finished.run("--model_name_or_path", "./model-bin/avsr_cocktail")
    assert result.returncode == 3 and "no file or folder ./model-bin/avsr_cocktail" in result.stderr
    assert finished.calls() == []
    here = finished.checkout.parent
    (here / "start").mkdir()
    words = ["--stage", "5", "--stop_stage", "5", "--dry_run", "--model_name_or_path", "start"]
    shown = finished.run(*words, cwd=here).stdout
    assert f"--model_name_or_path {here}/start" in re.sub(r"\\ ", " ", shown)
    assert "exp/train_word_from-start" in shown
    hub = finished.run("--stage", "5", "--stop_stage", "5", "--dry_run", "--model_name_or_path", "org/model")
    assert "looks on the Hub" in hub.stderr and "--model_name_or_path org/model" in hub.stdout


@pytest.mark.parametrize("words", [["--max_steps", "many"], ["--learning_rate", "fast"], ["--batch_size", "-1"]])
def test_wrong_values(recipe, words):
    result = recipe.run(*words)
    assert result.returncode == 2 and f"{words[0]} takes a" in result.stderr
