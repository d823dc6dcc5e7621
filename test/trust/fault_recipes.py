# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The recipes that the fault campaign hurts: their stages, what these make, and how they become short."""

from dataclasses import dataclass
from pathlib import Path

import fault_corpus
import yaml

#: Trainings of a few seconds. What they train is beside the point; how they save and go on is not.
CONFIGS: dict[str, dict] = {
    "codec": {
        "model": "lrac",
        "model_conf": {"preset": "tiny"},
        "discriminator_conf": {"n_ffts": [256], "channels": 2},
        "loss_conf": {"quantizer_start_step": 4},
        **{"batch_size": 2, "iterator_type": "chunk", "chunk_length": 24000, "valid_max_chunks": 2},
        **{"num_iters_per_epoch": 2, "max_epoch": 3, "save_every_steps": 1, "discriminator_start_step": 8},
        **{"optim": "adamw", "optim_conf": {"lr": 1e-3}, "optim2": "adamw", "optim2_conf": {"lr": 5e-4}},
        **{"scheduler": "exponentiallr", "scheduler_conf": {"gamma": 0.9}},
        **{"scheduler2": "exponentiallr", "scheduler2_conf": {"gamma": 0.9}},
        **{"skip_discriminator_prob": 0.5, "grad_clip": 10.0, "num_workers": 0},
        **{"best_model_criterion": [["valid", "mel_loss", "min"]], "keep_nbest_models": [2]},
    },
    "passive": {
        "model": "activesep_passive",
        "model_conf": {"base_channels": 2},
        **{"batch_size": 2, "num_iters_per_epoch": 2, "max_epoch": 1, "optim": "adam", "num_workers": 0},
        "best_model_criterion": [["valid", "mono_loss", "min"]],
    },
    "policy": {
        "model": "mini",
        "model_conf": {
            "memory": {"channels": 2, "num_layers": 1, "num_heads": 2, "ffn_dim": 8},
            "policy": {"hidden_size": 8, "channels": [2, 2, 2]},
        },
        **{"reward": "near_target", "num_envs": 2, "num_steps": 4, "max_steps": 4, "memory_size": 3},
        **{"num_updates": 12, "imitation_updates": 6, "imitation_epoch": 1, "ppo_epoch": 1, "num_mini_batch": 1},
        **{"lr": 1e-3, "log_interval": 1, "checkpoint_interval": 2, "save_interval": 1},
    },
    "tokens": {
        "model": "ctc_tokens",
        **{"model_conf": {}, "batch_size": 2, "num_iters_per_epoch": 1, "max_epoch": 1, "num_workers": 0},
        "best_model_criterion": [["valid", "loss", "min"]],
    },
    "head_vae": {"num_iters_per_epoch": 1, "max_epoch": 1, "batch_size": 2, "num_workers": 0},
    "flow": {
        "model": "avflow",
        "model_conf": {"preset": "tiny"},
        "dataset_conf": {"segment_length": 40},
        **{"batch_size": 2, "num_iters_per_epoch": 2, "max_epoch": 4, "save_every_steps": 1, "ema_decay": 0.9},
        **{"optim": "adamw", "optim_conf": {"lr": 1e-3}, "grad_clip": 5.0, "num_workers": 0},
        **{"best_model_criterion": [["valid", "loss", "min"]], "keep_nbest_models": [2]},
    },
}


@dataclass(frozen=True)
class Stage:
    """A stage of a driver.

    Attributes:
        number: As ``--stage`` takes it.
        name: In its marks and logs.
        outputs: Paths below the recipe.
        training: Folder of the training below the recipe; nothing else is compared of it but what it has learned.
        skip: Stages of the same number and a letter, which would run with it.
    """

    number: str
    name: str
    outputs: tuple[str, ...] = ()
    training: str = ""
    skip: str = ""


@dataclass(frozen=True)
class Recipe:
    """A recipe and how it becomes short.

    Attributes:
        folder: Below ``egs``.
        stages: In order.
        options: Of ``run.sh``; ``{corpus}`` stands for the folder of :func:`write_all`.
    """

    folder: str
    stages: tuple[Stage, ...]
    options: str

    def words(self, corpus: Path) -> list[str]:
        """Return the options of ``run.sh``."""
        return [word.replace("{corpus}", str(corpus)).replace("''", "") for word in self.options.split()]


GRID = "--grid_root {corpus} --roi center --test_list {corpus}/test.list --valid_list {corpus}/valid.list "
RECIPES = {
    "avsr": Recipe(
        "grid/avsr",
        (
            Stage("1", "prepare", ("data",)),
            Stage("2", "format", ("dump/formatted", "dump/mouth")),
            Stage("3", "filter", ("dump/train", "dump/valid", "dump/test")),
            Stage("4", "tokens", ("data/tokens", "exp/x/stats")),
            Stage("5", "train", training="exp/x"),
            Stage("6", "infer", ("exp/x/decode",)),
            Stage("7", "score", ("exp/x/results.json", "exp/x/RESULTS.md")),
            Stage("8", "report", ("exp/x/report.html",)),
            Stage("9", "pack", ("exp/x/pack",)),
        ),
        GRID + "--test_sets test --interferer_snrs '' --modalities av --video_only_sets none "
        "--config {corpus}/train.yaml --infer_config {corpus}/infer.yaml",
    ),
    "avss": Recipe(
        "grid/avss",
        (
            Stage("1", "prepare", ("data",)),
            Stage("2", "format", ("dump",)),
            Stage("3", "filter", ("dump/filtered",)),
            Stage("4", "lips", ("dump/train", "dump/valid", "dump/test", "dump/lips")),
        ),
        GRID + "--test_sets test --lip_frontend random --lip_variants 2 --mix_sec 0.6 --train_mixtures 6 "
        "--valid_mixtures 2 --test_mixtures 2 --pair_kinds same_speaker",
    ),
    "codec": Recipe(
        "mini_av/codec",
        (
            Stage("1", "prepare", ("data",)),
            Stage("2", "format", ("dump/raw",)),
            Stage("3", "filter", ("dump/raw",)),
            Stage("4", "stats"),
            Stage("5", "train", training="exp/x"),
        ),
        "--corpus_size tiny --test_sets test_track1_clean --codec_exp exp/x --config {corpus}/codec.yaml",
    ),
    "activesep": Recipe(
        "mini_av/activesep",
        (
            Stage("1", "prepare", ("data",)),
            Stage("2", "format", ("dump/world",)),
            Stage("3", "filter", ("dump/train_clips",)),
            Stage("4", "episodes", ("dump/episodes", "dump/points")),
            Stage("5", "train", training="exp/passive", skip="5a 5c"),
            Stage("5a", "policy", training="exp/x/policy/near_target_seed0"),
        ),
        "--corpus_size tiny --num_houses 1 --voices formula --test_sets test_unheard --train_points 8 --valid_points 4 "
        "--train_episodes 4 --valid_episodes 2 --test_episodes 2 --min_distance 2 --min_start 1 --policy_seeds 0 "
        "--movers stand --config {corpus}/policy.yaml --passive_config {corpus}/passive.yaml",
    ),
    "avgen": Recipe(
        "mini_av/avgen",
        (
            Stage("1", "prepare", ("data",)),
            Stage("2", "format", ("dump/org",)),
            Stage("3", "filter", ("dump/filtered",), skip="3a"),
            Stage("3a", "recogniser", training="exp/tokens"),
            Stage("4", "tokens", ("dump/tokens",), skip="4b 4c"),
            Stage("4b", "stats", ("exp/x/stats",)),
            Stage("4c", "head_vae", training="exp/head_vae"),
            Stage("5", "train", training="exp/x"),
        ),
        "--corpus_size tiny --text_model none --token_config {corpus}/tokens.yaml "
        "--head_vae_config {corpus}/head_vae.yaml --config {corpus}/flow.yaml",
    ),
}
#: What a campaign kills besides the stages of speech recognition: kind -> recipe and stage.
ELSEWHERE = {
    "lips": ("avss", "lips"),
    "gan": ("codec", "train"),
    "policy": ("activesep", "policy"),
    "flow": ("avgen", "train"),
}


def write_all(corpus: Path) -> None:
    """Write the corpus of :mod:`fault_corpus` and all configurations into a folder that does not exist."""
    fault_corpus.write_corpus(corpus)
    for name, config in CONFIGS.items():
        (corpus / f"{name}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
