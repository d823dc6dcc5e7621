# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the keys of the published program mean here: the two trainings and the evaluation."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_av.activesep.convert import load_separator, to_reference, write_original
from espnet_av.activesep.evaluation_run import build_run, run_evaluation
from espnet_av.activesep.main_config import flat, merge_for_evaluation
from espnet_av.activesep.metrics import LEVELS
from espnet_av.activesep.runner import build_training, checkpoints, train
from espnet_av.utils.errors import usage_error

logger = logging.getLogger(__name__)
Trainer = Callable[[list[str]], object]
PPO = "RL.PPO"
CONFIG = "{}_config.json"  # what a run was made of, its KEY VALUE pairs among it
AUDIO = "TASK_CONFIG.SIMULATOR.AUDIO"
#: Weights of the passive training under published names: criterion -> file.
BEST = {"unheard_mono_loss": "best_ckpt_nonoverlapping_val.pth", "mono_loss": "best_ckpt_val.pth"}


def images_of(config: Mapping[str, Any]) -> list[str]:
    """Return which images the policy sees: those of SENSORS that are not marked as extra."""
    sensors = [str(name).upper() for name in config["SENSORS"]]
    return [
        name.lower()
        for name in ("RGB", "DEPTH")
        if any(sensor.startswith(name) for sensor in sensors) and not config[f"EXTRA_{name}"]
    ]


def world_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of :class:`~espnet_av.activesep.runner.WorldOptions`.

    Raises:
        UsageError: Data that only the published simulator could give.
    """
    task = config["TASK_CONFIG"]
    simulator, dataset = task["SIMULATOR"], task["DATASET"]
    if simulator["SCENE_DATASET"] != "mp3d" or simulator["GRID_SIZE"] != 1.0:
        got = (simulator["SCENE_DATASET"], simulator["GRID_SIZE"])
        usage_error("SIMULATOR.SCENE_DATASET and GRID_SIZE", got, "mp3d and 1.0")
    if not simulator["USE_RENDERED_OBSERVATIONS"] or flat(config, f"{AUDIO}.RIR_SAMPLING_RATE") != 16000:
        usage_error("only stored observations and responses of 16 kHz can be used", allowed="the defaults")
    memory = flat(config, f"{PPO}.TRANSFORMER_MEMORY")
    past = memory["num_past_steps_refinement"]
    name = simulator["SCENE_DATASET"]
    return {
        "rir_dir": flat(config, f"{AUDIO}.RIR_DIR"),
        "metadata_dir": flat(config, f"{AUDIO}.META_DIR"),
        "observation_dir": str(Path(simulator["RENDERED_OBSERVATIONS"]) / name),
        "world_dataset": name,
        "episodes": dataset["DATA_PATH"],
        "split": dataset["SPLIT"],
        "version": dataset["VERSION"],
        "scenes": tuple(config["EPS_SCENES"] or dataset["CONTENT_SCENES"]),
        "clips": flat(config, f"{AUDIO}.MONO_DIR"),
        "class_table": config["CLASS_TABLE"] or None,
        "max_steps": flat(config, "TASK_CONFIG.ENVIRONMENT.MAX_EPISODE_STEPS"),
        "max_scene_steps": flat(config, "TASK_CONFIG.ENVIRONMENT.ITERATOR_OPTIONS.MAX_SCENE_REPEAT_STEPS"),
        "reference_compat": config["REFERENCE_COMPAT"],
        "memory_size": memory["memory_size"],
        "refine": past if past >= 0 else memory["memory_size"],
        "seed": config["SEED"],
        "async_envs": config["USE_VECENV"] and not config["USE_SYNC_VECENV"] and config["NUM_PROCESSES"] > 1,
    }


def model_conf(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of the agent; ``MODEL`` is put over what the other keys say.

    Raises:
        UsageError: A width that the memory of the published program could not have either.
    """
    memory = flat(config, f"{PPO}.TRANSFORMER_MEMORY")
    if memory["input_size"] % 64 or memory["activation"] != "relu" or memory["POSE_ENCODING"]["num_pose_attrs"] != 4:
        usage_error("TRANSFORMER_MEMORY: input_size, activation or num_pose_attrs", memory, "a multiple of 64, relu, 4")
    found: dict[str, Any] = {
        "memory": {
            "channels": memory["input_size"] // 64,
            "ffn_dim": memory["hidden_size"],
            "num_layers": memory["num_layers"],
            "num_heads": memory["nhead"],
            "dropout": memory["dropout"],
        },
        "policy": {"hidden_size": flat(config, f"{PPO}.hidden_size"), "images": images_of(config)},
    }
    for part, values in config["MODEL"].items():
        found.setdefault(part, {}).update(values)
    return found


def train_policy(config: Mapping[str, Any], model_dir: Path) -> None:
    """Train policy and memory.

    Raises:
        UsageError: No trained separators are named.
    """
    ppo = flat(config, PPO)
    steps = ppo["num_steps"]
    separators = ppo["pretrained_passive_separators_ckpt"]
    if not separators:
        usage_error(
            f"{PPO}.pretrained_passive_separators_ckpt is not set", fix="train with pretrain_passive.yaml first"
        )
    same = ("clip_param ppo_epoch num_mini_batch value_loss_coef entropy_coef eps max_grad_norm use_gae gamma tau "
            "use_linear_lr_decay use_linear_clip_decay reward_window_size").split()  # fmt: skip
    values = {
        **world_settings(config),
        **{name: ppo[name] for name in same},
        "output_dir": str(model_dir),
        "tensorboard_dir": str(model_dir / "tb"),
        "lr": ppo["lr_pol"],
        "auxiliary_lr": ppo["lr_sep"],
        "num_steps": steps,
        "loss_slots": flat(config, f"{PPO}.TRANSFORMER_MEMORY.memory_size") + steps + 1,
        "num_envs": config["NUM_PROCESSES"],
        "num_updates": config["NUM_UPDATES"],
        "log_interval": config["LOG_INTERVAL"],
        "checkpoint_interval": config["CHECKPOINT_INTERVAL"],
        "save_interval": config["SAVE_INTERVAL"],
        "separators": separators,
        "model_conf": model_conf(config),
    }
    train(build_training(values))


def passive_arguments(config: Mapping[str, Any], model_dir: Path) -> list[str]:
    """Return the options of :class:`~espnet_av.tasks.activesep.ActiveSepTask`."""
    audio = flat(config, AUDIO)
    rates = flat(config, "Pretrain.Passive")
    values: dict[str, Any] = {
        "output_dir": model_dir,
        "rir_dir": audio["RIR_DIR"],
        "metadata_dir": audio["META_DIR"],
        "points_dir": audio["SOURCE_AGENT_LOCATION_DATAPOINTS_DIR"],
        "points_version": audio["PASSIVE_DATASET_VERSION"],
        "train_clips": audio["PASSIVE_TRAIN_AUDIO_DIR"],
        "max_train_points": audio["NUM_PASSIVE_DATAPOINTS_PER_SCENE"],
        "max_valid_points": audio["NUM_PASSIVE_DATAPOINTS_PER_SCENE_EVAL"],
        "batch_size": audio["BATCH_SIZE"],
        "num_workers": audio["NUM_WORKER"],
        "max_epoch": config["NUM_EPOCHS"],
        "optim": "adam",
        "grad_clip": 0.0,
        "seed": config["SEED"],
        "keep_nbest_models": 1,
    }
    if not audio["PASSIVE_TRAIN_AUDIO_DIR"]:
        usage_error(f"{AUDIO}.PASSIVE_TRAIN_AUDIO_DIR is not set", fix="name the folder of clips of one second")
    unheard = audio["PASSIVE_NONOVERLAPPING_VAL_AUDIO_DIR"]
    if unheard:
        values["unheard_clips"] = unheard
    if config["CLASS_TABLE"]:
        values["class_table"] = config["CLASS_TABLE"]
    words = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    words += ["--optim_conf", f"lr={rates['lr']}", "--optim_conf", f"eps={rates['eps']}"]
    for name, value in config["MODEL"].get("separator", {}).items():
        words += ["--model_conf", f"{name}={value}"]
    criteria = list(BEST) if unheard else ["mono_loss"]
    words += ["--best_model_criterion", *(f"valid,{criterion},min" for criterion in criteria)]
    return words + (["--reference_compat"] if config["REFERENCE_COMPAT"] else [])


def train_passive(config: Mapping[str, Any], model_dir: Path, train_separators: Trainer) -> None:
    """Train the separators, and write the best under their published names below ``data/``."""
    train_separators(passive_arguments(config, model_dir))
    for criterion, name in BEST.items():
        found = sorted(model_dir.glob(f"valid.{criterion}.ave_*best.pth"))
        if found:
            (model_dir / "data").mkdir(exist_ok=True)
            separator = load_separator(found[0])
            write_original(model_dir / "data" / name, to_reference(separator.state_dict(), passive_only=True))
            logger.info("wrote %s", model_dir / "data" / name)


def evaluate_all(
    config: Mapping[str, Any], model_dir: Path, *, interval: int = 1, previous: int = -1
) -> dict[str, dict[str, Any]]:
    """Evaluate the checkpoints of a training and stop after the last.

    Args:
        config: Configuration of the evaluation.
        model_dir: Folder of the training, or a folder with ``data/`` that holds checkpoints.
        interval: Take each so-manyth checkpoint.
        previous: Number of the checkpoint that was evaluated last.

    Returns:
        Name of a checkpoint -> summary.
    """
    folder = Path(config["EVAL_CKPT_PATH_DIR"] or model_dir / "data")
    files = [folder] if folder.is_file() else checkpoints(folder, first=previous + 1, interval=interval)
    trained = model_dir / CONFIG.format("train")
    saved = json.loads(trained.read_text(encoding="utf-8")) if trained.is_file() else None
    merged = merge_for_evaluation(saved, config)
    found = {}
    for path in files:
        run = build_run(evaluation_settings(merged, path, model_dir))
        logger.info("checkpoint %s", path)
        found[path.name] = run_evaluation(run).summary()
    return found


def evaluation_settings(config: Mapping[str, Any], path: Path, model_dir: Path) -> dict[str, Any]:
    """Return the settings of :class:`~espnet_av.activesep.evaluation_run.EvaluationRun` for a checkpoint."""
    wanted = config["EVAL_METRICS_TO_COMPUTE"] if config["COMPUTE_EVAL_METRICS"] else []
    left_out = [name for name in wanted if name not in LEVELS]
    if left_out:
        logger.warning("EVAL_METRICS_TO_COMPUTE: %s left out: only meaningless values exist", ", ".join(left_out))
    split = config["TASK_CONFIG"]["DATASET"]["SPLIT"]
    return {
        **world_settings(config),
        "max_scene_steps": None,
        "model": str(path),
        "output_dir": str(model_dir / "eval" / split / path.stem),
        "num_envs": config["NUM_PROCESSES"],
        "deterministic": flat(config, f"{PPO}.deterministic_eval"),
        "seeds": (config["SEED"],),
        "levels": tuple(name for name in wanted if name in LEVELS),
        "episode_count": config["EVAL_EPISODE_COUNT"],
        "episode_names": tuple(config["EPS_SCENES_N_IDS"]),
    }


def write_config(config: Mapping[str, Any], model_dir: Path, name: str) -> None:
    """Write the merged configuration beside what it leads to."""
    from espnet_av.utils.files import atomic_write

    with atomic_write(model_dir / name) as stream:
        json.dump(config, stream, indent=1)


def run(
    config: Mapping[str, Any],
    run_type: str,
    model_dir: Path,
    options: Sequence[int] = (1, -1),
    *,
    train_separators: Trainer,
) -> None:
    """Do what the command line asks for.

    Args:
        config: The configuration.
        run_type: ``train`` or ``eval``.
        model_dir: Everything is written below it.
        options: Interval between checkpoints and number of the one evaluated last, for ``eval``.
        train_separators: Trains separators, given a command line; the task does.

    Raises:
        UsageError: Unknown trainer or environment.
    """
    if config["TRAINER_NAME"] not in ("ppo", "passive"):
        usage_error("TRAINER_NAME", config["TRAINER_NAME"], ["ppo", "passive"])
    if config["ENV_NAME"] != "AAViDSSEnv":
        usage_error("ENV_NAME", config["ENV_NAME"], ["AAViDSSEnv"])
    write_config(config, model_dir, CONFIG.format(run_type))
    if run_type == "eval":
        interval, previous = options
        evaluate_all(config, model_dir, interval=interval, previous=previous)
    elif config["TRAINER_NAME"] == "passive":
        train_passive(config, model_dir, train_separators)
    else:
        train_policy(config, model_dir)
