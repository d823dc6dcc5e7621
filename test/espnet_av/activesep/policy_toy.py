# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A small policy training for tests, which as a program can be killed: ``policy_toy.py ROOT FOLDER key=value ...``.

Keys are settings of the training, and ``kill_at``: the environment step at which the process kills itself.
"""

import os
import signal
import sys
from pathlib import Path

import torch
import yaml

from espnet_av.activesep.convert import to_reference, write_original
from espnet_av.activesep.episodes import write_episodes
from espnet_av.activesep.learner import ActiveSeparationLearner
from espnet_av.activesep.runner import build_training, train
from espnet_av.activesep.separators import PassiveSeparator
from espnet_av.utils.cli import run_main

MODEL = {
    "memory": {"channels": 1, "num_layers": 1, "num_heads": 2, "ffn_dim": 16},
    "policy": {"hidden_size": 8, "channels": [2, 2, 2]},
}
STEPS = 4


def make_world(root: Path) -> Path:
    """Write a house, clips, episodes and separators."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from activesep_worlds import RULES, SMALL, make_clips, make_episodes

    from espnet_av.activesep.world_generator import generate_scene

    store = generate_scene(root, "house0", 1, RULES, formats=("packed",), **{**SMALL, "image_size": 64})
    clips = make_clips(root)
    clips.classes.write(root / "classes.json")
    write_episodes(root / "active", "train", make_episodes(store, clips, count=9))
    torch.manual_seed(0)
    separator = PassiveSeparator(base_channels=2)
    write_original(root / "separators.pth", to_reference(separator.state_dict(), passive_only=True))
    return root


def settings(root: Path, folder: Path, **changes: object) -> dict:
    """Return the settings of the training."""
    return {
        "world_root": str(root),
        "episodes": str(root / "active"),
        "split": "train",
        "clips": str(root / "audio_data" / "min20s_clips" / "train_preprocessed"),
        "class_table": str(root / "classes.json"),
        "separators": str(root / "separators.pth"),
        "output_dir": str(folder),
        "model_conf": MODEL,
        "num_envs": 2,
        "num_steps": STEPS,
        "max_steps": STEPS,
        "num_updates": 5,
        "save_interval": 2,
        "log_interval": 1,
        "checkpoint_interval": 2,
        "num_mini_batch": 2,
        "ppo_epoch": 2,
        "lr": 1e-2,
        "reward_window_size": 3,
        "use_tensorboard": False,
        "device": "cpu",
        **changes,
    }


def kill_at(step: int, number: int = signal.SIGKILL) -> None:
    """Let the process send itself a signal at an environment step."""
    inner, count = ActiveSeparationLearner._note, [0]

    def note(self: ActiveSeparationLearner, *args: object) -> None:
        count[0] += 1
        if count[0] == step:
            os.kill(os.getpid(), number)
        inner(self, *args)

    ActiveSeparationLearner._note = note


def main(words: list[str]) -> None:
    """Run one training, or several with ``--`` between them."""
    root, folder, *pairs = words
    if "--" in pairs:
        cut = pairs.index("--")
        main([root, folder, *pairs[:cut]])
        pairs = pairs[cut + 1 :]
        folder, *pairs = pairs
    changes = {key: yaml.safe_load(value) for key, value in (pair.split("=", 1) for pair in pairs)}
    if "kill_at" in changes:
        kill_at(changes.pop("kill_at"))
    train(build_training(settings(Path(root), Path(folder), **changes)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(run_main(lambda words: main(list(words or ())), sys.argv[1:], logs=False))
