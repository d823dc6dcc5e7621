# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Trainings of all systems in a size that tests can afford: configuration, weights and the licence of the data."""

import importlib
import json
from pathlib import Path
from typing import Any

import torch
import yaml

SEPARATION = {
    **{"repeats": 1, "channels": 8, "hidden": 4, "rnn_hidden": 2, "rnn_layers": 1, "attn_heads": 2, "video_dim": 16},
    **{"video_hidden": 4, "video_depth": 2, "video_heads": 2, "video_ffn": 8, "caf_heads": 2},
}
RECOGNITION = {
    "encoder_conf": {
        **{"dim": 16, "num_layers": 1, "num_heads": 2, "ffn_dim": 16, "conv_pos": 8, "conv_pos_groups": 2},
        **{"stem_channels": 4, "resnet_planes": [4, 4, 4, 4]},
    },
    "decoder_conf": {"num_layers": 1, "num_heads": 2, "ffn_dim": 16},
}
GENERATION = {
    "face_dim": 12,
    "melspec_dim": 80,
    "transformer_conf": {"d_model": 32, "hidden_dim": 32, "num_heads": 2, "window_per_layer": [[4, 2], [3, 1]]},
}
TASKS = ("avsr", "avss", "codec", "avgen", "activesep")


def make_experiment(task: str, root: Path, licence: str = "CC-BY-4.0") -> Path:
    """Write the experiment of a small model below a folder and return it; its data lie beside it."""
    torch.manual_seed(0)
    config, state = globals()[f"_{task}"]()
    exp, data = root / "exp" / f"small_{task}", root / "dump" / "train"
    for folder in (exp, data):
        folder.mkdir(parents=True)
    (data / "data.json").write_text(json.dumps({"licence": licence, "description": "made by a test"}))
    config |= {
        "seed": 3,
        "output_dir": str(exp),
        "train_data_path_and_name_and_type": [[str(data / "wav.scp"), "speech", "sound"]],
        "best_model_criterion": [["valid", "loss", "min"]],
    }
    (exp / "config.yaml").write_text(yaml.safe_dump(config))
    if task == "activesep":
        from espnet_av.train.conversion import save

        save(exp / "model.safetensors", state)
    else:
        torch.save(state, exp / "valid.loss.ave_2best.pth")
    return exp


def load(task: str, source: Any, **options: Any) -> Any:
    """Load a model of a task by its public name."""
    if task == "avgen":
        options = {"vocoder": "none", **options}
    return public_class(task).from_pretrained(source, **options)


def public_class(task: str) -> type:
    """Return the public class of a task."""
    from espnet_av.report.systems import SYSTEMS

    name = SYSTEMS[task].model_class.partition(":")[2]
    return getattr(importlib.import_module("espnet_av"), name)


def _prefixed(prefix: str, network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in network.state_dict().items()}


def _avsr() -> tuple[dict, dict]:
    from espnet_av.avsr.inference import build_model

    tokens = ["<blank>", "<unk>", *"ABC", "<space>", "<eos>"]
    config = {"model": "avsr", "model_conf": RECOGNITION, "token_type": "char", "token_list": tokens}
    return config, _prefixed("avsr.", build_model("avsr", len(tokens), RECOGNITION, "test"))


def _avss() -> tuple[dict, dict]:
    from espnet_av.avss.model import build_network

    noise = {"scp": "/corpora/noise.scp"}
    config = {"model": "rtfsnet", "model_conf": SEPARATION, "loss_conf": {}, "preprocessor_conf": {"noise": noise}}
    return config, _prefixed("avss.network.", build_network("rtfsnet", SEPARATION))


def _codec() -> tuple[dict, dict]:
    from espnet_av.codec.choices import build_generator

    config = {"model": "lrac", "model_conf": {"preset": "track1"}, "discriminator_conf": {}}
    return config, _prefixed("codec.generator.", build_generator("lrac", config["model_conf"]))


def _avgen() -> tuple[dict, dict]:
    from espnet_av.avgen.choices import build_model

    config = {"model": "avflow", "model_conf": GENERATION, "head_vae": "exp/head_vae"}
    return config, _prefixed("avgen.", build_model("avflow", GENERATION))


def _activesep() -> tuple[dict, dict]:
    from espnet_av.activesep.agent import ActiveSeparationAgent
    from espnet_av.activesep.presets import get_preset

    conf = get_preset("mini")
    conf["separator"] = {"base_channels": 2}
    conf["memory"] |= {"channels": 2, "ffn_dim": 8, "num_layers": 1}
    conf["policy"] |= {"hidden_size": 8, "channels": [2, 2, 2], "image_size": [48, 48]}
    config = {"task": "activesep", "model": "activesep", "model_conf": conf, "reward": "near_target"}
    return config, ActiveSeparationAgent(**conf).state_dict()
