# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Experiment files of the published program: merging, types, unknown and dead keys, what they mean here."""

import logging

import pytest
import yaml

from espnet_av.activesep.main_config import default_config, flat, merge_for_evaluation, read_config
from espnet_av.activesep.main_run import evaluation_settings, images_of, model_conf, passive_arguments, world_settings
from espnet_av.bin.activesep_main import get_parser
from espnet_av.bin.activesep_main import main as run_program
from espnet_av.utils.errors import MissingDataError, UsageError

TRAIN = {
    "BASE_TASK_CONFIG_PATH": "configs/tasks/train_nearTarget.yaml",
    "TRAINER_NAME": "ppo",
    "SENSORS": ["RGB_SENSOR", "DEPTH_SENSOR"],
    "EXTRA_DEPTH": True,
    "NUM_PROCESSES": 14,
    "NUM_UPDATES": 67142,
    "RL": {"PPO": {"clip_param": 0.1, "num_steps": 20, "TRANSFORMER_MEMORY": {"num_past_steps_refinement": 14}}},
}
TASK = {
    "ENVIRONMENT": {"MAX_EPISODE_STEPS": 20},
    "SIMULATOR": {"AUDIO": {"GT_MONO_MAG_NORM": 1.2}, "RGB_SENSOR": {"WIDTH": 128, "HEIGHT": 128}},
    "TASK": {"SENSORS": ["POSE"], "POSE": {"TYPE": "PoseSensor"}},
    "DATASET": {"SPLIT": "train_731243episodes"},
}


@pytest.fixture
def files(tmp_path):
    experiment = tmp_path / "configs" / "train" / "nearTarget.yaml"
    task = tmp_path / "configs" / "tasks" / "train_nearTarget.yaml"
    for path, content in ((experiment, TRAIN), (task, TASK)):
        path.parent.mkdir(parents=True)
        path.write_text(yaml.safe_dump(content))
    return experiment


def test_files_are_merged_over_defaults_and_pairs_over_files(files):
    config = read_config([files], ["NUM_PROCESSES", "2", "RL.PPO.lr_pol", "5e-4", "TASK_CONFIG.DATASET.SPLIT", "val"])
    assert config["NUM_PROCESSES"] == 2 and flat(config, "RL.PPO.lr_pol") == 5e-4
    assert flat(config, "TASK_CONFIG.DATASET.SPLIT") == "val"
    assert flat(config, "TASK_CONFIG.ENVIRONMENT.MAX_EPISODE_STEPS") == 20  # found above the experiment file
    assert flat(config, "RL.PPO.clip_param") == 0.1 and flat(config, "RL.PPO.lr_sep") == 5e-3
    assert config["CMD_TRAILING_OPTS"][:2] == ["NUM_PROCESSES", "2"]
    assert default_config()["NUM_PROCESSES"] == 16  # defaults are not changed by use


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["RL.PPO.clip_parm", "0.1"], "write RL.PPO.clip_param"),
        (["NUM_UPDATE", "3"], "write NUM_UPDATES"),
        (["NUM_UPDATES", "many"], "another type"),
        (["NUM_UPDATES", "True"], "another type"),
        (["NUM_UPDATES"], "no value"),
        (["TASK_CONFIG.DATASET.SPLITS", "x"], "write TASK_CONFIG.DATASET.SPLIT"),
    ],
)
def test_mistakes_are_named(files, pairs, message):
    with pytest.raises(UsageError, match=message):
        read_config([files], pairs)


def test_missing_files(files, tmp_path):
    with pytest.raises(MissingDataError, match="no such file"):
        read_config([files], ["BASE_TASK_CONFIG_PATH", "configs/tasks/other.yaml"])
    with pytest.raises(MissingDataError, match="not found"):
        read_config([tmp_path / "none.yaml"])


def test_values_of_another_kind_of_number(files):
    config = read_config([files], ["RL.PPO.gamma", "1", "EPS_SCENES", "('a', 'b')"])
    assert flat(config, "RL.PPO.gamma") == 1.0 and config["EPS_SCENES"] == ["a", "b"]


def test_dead_keys_are_taken_with_a_warning(files, caplog):
    with caplog.at_level(logging.WARNING):
        read_config([files], ["RL.SLACK_REWARD", "-1.0", "RL.PPO.sync_frac", "0.5"])
    assert "RL.SLACK_REWARD has no effect" in caplog.text and "RL.PPO.sync_frac has no effect" in caplog.text


def test_checkpoint_values_survive_through_its_pairs(files):
    trained = read_config([files], ["RL.PPO.hidden_size", "64", "SEED", "5"])
    config = read_config([files], ["SEED", "9", "EVAL.SPLIT", "val_100episodes"])
    merged = merge_for_evaluation(trained, config)
    assert flat(merged, "RL.PPO.hidden_size") == 64 and merged["SEED"] == 9
    assert flat(merged, "TASK_CONFIG.DATASET.SPLIT") == "val_100episodes"
    alone = merge_for_evaluation(trained, read_config([files], ["EVAL.USE_CKPT_CONFIG", "False"]))
    assert flat(alone, "RL.PPO.hidden_size") == 512


def test_settings_here(files, tmp_path):
    config = read_config([files])
    world = world_settings(config)
    assert world["max_steps"] == 20 and world["refine"] == 14 and world["memory_size"] == 19
    assert world["observation_dir"] == "data/scene_observations/mp3d" and world["scenes"] == ("*",)
    assert images_of(config) == ["rgb"]  # depth is extra
    assert model_conf(config)["memory"] == {
        "channels": 16, "ffn_dim": 1024, "num_layers": 2, "num_heads": 8, "dropout": 0.1,
    }  # fmt: skip
    run = evaluation_settings(config, tmp_path / "ckpt.3.pth", tmp_path)
    assert run["episode_count"] == 100 and run["deterministic"] is False and run["output_dir"].endswith("ckpt.3")
    words = passive_arguments(
        read_config([files], ["TASK_CONFIG.SIMULATOR.AUDIO.PASSIVE_TRAIN_AUDIO_DIR", "x"]), tmp_path
    )
    assert words[words.index("--train_clips") + 1] == "x" and "lr=0.0005" in words
    pairs = ["TASK_CONFIG.SIMULATOR.AUDIO.PASSIVE_NONOVERLAPPING_VAL_AUDIO_DIR", "y"]
    words = passive_arguments(
        read_config([files], ["TASK_CONFIG.SIMULATOR.AUDIO.PASSIVE_TRAIN_AUDIO_DIR", "x", *pairs]), tmp_path
    )
    from espnet_av.tasks.activesep import ActiveSepTask

    args = ActiveSepTask.get_parser().parse_args(words)  # the task knows them all
    assert [name for _, name, _ in args.best_model_criterion] == ["unheard_mono_loss", "mono_loss"]
    assert args.unheard_clips == "y" and args.optim_conf == {"lr": 5e-4, "eps": 1e-5}


@pytest.mark.parametrize(
    "pairs",
    [["TASK_CONFIG.SIMULATOR.SCENE_DATASET", "replica"], ["TASK_CONFIG.SIMULATOR.USE_RENDERED_OBSERVATIONS", "False"]],
)
def test_what_only_the_simulator_has(files, pairs):
    with pytest.raises(UsageError):
        world_settings(read_config([files], pairs))


def test_command_line(files, tmp_path):
    with pytest.raises(UsageError, match="model-dir"):
        run_program(["--exp-config", str(files), "--run-type", "eval"])
    with pytest.raises(UsageError, match="pretrained_passive_separators_ckpt"):
        run_program(["--exp-config", str(files), "--model-dir", str(tmp_path / "m"), "--run-type", "train"])
    with pytest.raises(UsageError, match="no checkpoint"):
        run_program(["--exp-config", str(files), "--model-dir", str(tmp_path / "m"), "--run-type", "eval"])
    assert (tmp_path / "m" / "train.log").is_file() and (tmp_path / "m" / "train_config.json").is_file()
    assert get_parser().parse_args(["--exp_config", "x", "A.B", "1"]).opts == ["A.B", "1"]
