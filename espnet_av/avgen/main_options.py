# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The settings of the published program by their own names, and what they are here.

:data:`DEFAULTS` holds every key. Keys that follow from others (None here) are filled in; a value that contradicts the
others is refused rather than ignored.
"""

import copy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from espnet_av.avgen.clock import MEL_RATE, SAMPLE_RATE, WINDOW_FRAMES
from espnet_av.avgen.presets import BASE, PARTNER_DIMS
from espnet_av.utils.config import nearest, parse_value, set_nested
from espnet_av.utils.errors import MissingDataError, describe, usage_error

FIFTY_HOURS, PHOTOREAL = "50h", "Audio2Photoreal"
SUBJECTS = ("PXB184", "RLW104", "TXB805", "GQS883")
KWARGS = "diffusion_module.kwargs"
MODULE = "windowed_diffusion_transformer_audiovisual"
OTHER_DIM = PARTNER_DIMS["expression"] + PARTNER_DIMS["head"] + PARTNER_DIMS["tokens"]  # 87
NONE = "none"
MAX_DROPPED_SHARE = 0.1

#: Every key with its value; None: it follows from the others.
DEFAULTS: dict[str, Any] = {
    "artifacts_dir": None,
    "asset_dir": None,
    "dataset_name": FIFTY_HOURS,
    "subject": SUBJECTS[0],
    "face_dim": 256,
    "headvec_dim": 8,
    "melspec_dim": 80,
    "token_dim": 29,
    "output_audio_sample_rate": SAMPLE_RATE,
    "other_dim": None,
    "participant_cond": False,
    "dataset": {
        "segment_length": WINDOW_FRAMES,
        "frame_rate": MEL_RATE,
        "body": None,
        "input_audio_sample_rate": 48000,
        "input_head_dim": None,
    },
    "trainer": {
        "batch_size": 16,
        "val_batch_size": 1,
        "learning_rate": 1e-4,
        "num_iterations": 1_000_000,
        "num_workers": 10,
        "val_frequency": 5000,
        "save_frequency": 5000,
        "headpose_weight": 0.2,
        "audio_weight": 1.0,  # 3.0 is written in the published one, which does not use it
        "sigma_min": 1e-6,
        "nfe_steps": 16,
        "noise_temperature": 1.0,
        "weight_decay": 0.0,
        "loss_fn_vision": "l1",
        "loss_fn_audio": "l1",
        "head_vae_ckpt_path": None,
        "vocoder_ckpt_path": None,
    },
    "diffusion_module": {
        "module_name": MODULE,
        "kwargs": {
            "visual_dim": None,
            "audio_dim": None,
            "condition_dim": None,
            "d_model": BASE["transformer_conf"]["d_model"],
            "hidden_dim": BASE["transformer_conf"]["hidden_dim"],
            "window_per_layer": BASE["transformer_conf"]["window_per_layer"],
            "num_heads": BASE["transformer_conf"]["num_heads"],
            "dropout": 0.0,
        },
    },
}
_CHOICES = {
    "dataset_name": (FIFTY_HOURS, PHOTOREAL),
    "diffusion_module.module_name": (MODULE,),
    "trainer.loss_fn_vision": ("l1", "l2"),
    "trainer.loss_fn_audio": ("l1", "l2"),
    "output_audio_sample_rate": (SAMPLE_RATE,),
    "dataset.input_head_dim": (4, 7),
    "other_dim": (0, OTHER_DIM),
    "melspec_dim": (80,),
}
_SIZES = ("d_model", "hidden_dim", "num_heads")
_ABOVE_0 = {"face_dim", "headvec_dim", "token_dim", "dataset.input_audio_sample_rate"}
_ABOVE_0 |= {f"trainer.{name}" for name in ("batch_size", "val_batch_size", "learning_rate", "num_iterations")}
_ABOVE_0 |= {"trainer.val_frequency", "trainer.nfe_steps", *(f"diffusion_module.kwargs.{name}" for name in _SIZES)}
_FROM_0 = {f"trainer.{name}" for name in ("num_workers", "save_frequency", "weight_decay", "noise_temperature")}
_FROM_0 |= {"trainer.headpose_weight", "trainer.audio_weight"}
#: Range of a setting: least value, whether it is allowed itself, and the greatest.
_RANGES = dict.fromkeys(_ABOVE_0, (0, False, sys.float_info.max)) | dict.fromkeys(
    _FROM_0, (0, True, sys.float_info.max)
)
_RANGES |= {"trainer.sigma_min": (0, True, 1), "diffusion_module.kwargs.dropout": (0, True, 1)}
_RANGES |= {"dataset.segment_length": (2, True, sys.float_info.max)}
#: Settings of the trainer that count when samples are made.
_OF_SAMPLES = {f"trainer.{name}" for name in ("nfe_steps", "noise_temperature", "vocoder_ckpt_path")}
_KINDS = {"other_dim": int, "dataset.body": bool, "dataset.input_head_dim": int}
_KINDS |= {f"diffusion_module.kwargs.{name}_dim": int for name in ("visual", "audio", "condition")}


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested keys as dotted ones."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        found |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return found


def read_overrides(words: Sequence[str]) -> dict[str, Any]:
    """Return ``key=value`` words as dotted key and value.

    Raises:
        UsageError: A word has another form, a key is unknown, or a value is of another kind.
    """
    known = flatten(DEFAULTS)
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            usage_error("settings are given as key=value", word, fix="write for example trainer.batch_size=8")
        if key not in known:
            by_leaf = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
            near = by_leaf[0] if by_leaf else nearest(key, known)
            fix = f"write {near}={text}" if near else None
            usage_error(f"unknown key '{key}'", word, sorted(known), fix)
        found[key] = _checked(key, known[key], parse_value(text))
    return found


def _checked(key: str, default: Any, value: Any) -> Any:
    kind = _KINDS.get(key) or (str if default is None else type(default))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is int and isinstance(value, float) and value == int(value):
        value = int(value)
    if kind is str and value is not None and not isinstance(value, (list, dict)):
        value = str(value)
    fits = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    if not fits:
        usage_error(f"{key} has a value of another kind", value, kind.__name__)
    if key in _CHOICES and value not in _CHOICES[key]:
        usage_error(f"{key} has no such value", value, _CHOICES[key])
    if key == "dataset.frame_rate" and abs(value - MEL_RATE) > 1e-3:
        usage_error("dataset.frame_rate follows from sound and hop", value, MEL_RATE)
    if key in _RANGES:
        low, included, high = _RANGES[key]
        if not (low < value <= high or (included and value == low)):
            least = f"{low} or more" if included else f"above {low}"
            usage_error(f"{key} is out of range", value, least if high > 1 else f"{least}, at most {high}")
    return value


def build_config(
    overrides: Mapping[str, Any], input_dir: str | Path | None = None, output_dir: str | Path | None = None
) -> dict[str, Any]:
    """Return all settings, nested, with those filled in that follow from others.

    Args:
        overrides: Result of :func:`read_overrides`.
        input_dir: ``-i``.
        output_dir: ``-o``.

    Raises:
        UsageError: Settings contradict each other.
    """
    config = copy.deepcopy(DEFAULTS)
    config |= {"asset_dir": _text(input_dir), "artifacts_dir": _text(output_dir)}
    for key, value in overrides.items():
        set_nested(config, key, value)
    photoreal = config["dataset_name"] == PHOTOREAL
    if photoreal:
        config["subject"] = _subject(config, overrides)
    partner = config["participant_cond"] or bool(config["other_dim"])
    if config["participant_cond"] is False and "participant_cond" in overrides:
        partner = False
    head_dim = 4 if photoreal else 7
    if config["trainer"]["head_vae_ckpt_path"] == NONE:
        if overrides.get("headvec_dim", head_dim) != head_dim:
            fix = f"leave it out, or write headvec_dim={head_dim}"
            usage_error("without a head VAE the head itself is learnt", overrides["headvec_dim"], head_dim, fix)
        config["headvec_dim"] = head_dim
    follow = {
        "participant_cond": partner,
        "other_dim": OTHER_DIM if partner else 0,
        "dataset.body": photoreal,
        "dataset.input_head_dim": head_dim,
        "diffusion_module.kwargs.visual_dim": config["face_dim"] + config["headvec_dim"],
        "diffusion_module.kwargs.audio_dim": config["melspec_dim"],
        "diffusion_module.kwargs.condition_dim": config["token_dim"] + (OTHER_DIM if partner else 0),
    }
    for key, value in follow.items():
        given = overrides.get(key)
        if given is not None and given != value:
            usage_error(f"{key} contradicts the other settings", given, value, f"leave it out, or write {key}={value}")
        set_nested(config, key, value)
    return config


def _subject(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> str:
    """Return whose recordings are meant: the one that is named, else the one whose folder ``asset_dir`` is."""
    subject, folder = str(config["subject"]), Path(config["asset_dir"] or "").resolve()
    if folder.name not in SUBJECTS or folder.name == subject or (folder / subject).is_dir():
        return subject
    if "subject" in overrides:
        usage_error("subject is not that of the folder", subject, folder.name, "name the folder above it with -i")
    return folder.name


def _roots(config: Mapping[str, Any]) -> list[Path]:
    """Return the folders that hold a data set or what lies beside it: the subject's, where there is one, and ``-i``."""
    if config["asset_dir"] is None:
        return []
    root = Path(config["asset_dir"])
    own = root / config["subject"]
    return [own, root] if config["dataset_name"] == PHOTOREAL and own.is_dir() else [root]


def data_folder(config: Mapping[str, Any]) -> Path:
    """Return the data set: ``asset_dir``, or the subject's folder below it.

    Raises:
        MissingDataError: It is not there, or has another layout.
    """
    if config["asset_dir"] is None:
        usage_error("the data set is not named", fix="pass -i FOLDER")
    root, photoreal = _roots(config)[0], config["dataset_name"] == PHOTOREAL
    there = any(root.glob("*_face_expression.npy")) if photoreal else (root / "expression_codes").is_dir()
    if not there:
        wanted = "*_face_expression.npy" if photoreal else "expression_codes/"
        allowed = f"a folder with {wanted}, as dataset_name={config['dataset_name']} has it"
        raise MissingDataError(describe("no such data set", str(root), allowed, "check -i and dataset_name"))
    return root


def beside(config: Mapping[str, Any], key: str, *names: str) -> Path | None:
    """Return the file or folder that a setting of the trainer names, else the first of ``names`` that is there.

    Args:
        config: All settings.
        key: Of the trainer; empty: none.
        *names: Places below the data set, or below the folder of all subjects; ``../`` is beside it.

    Raises:
        MissingDataError: What the setting names is not there.
    """
    given = config["trainer"][key] if key else None
    if given is not None:
        if given != NONE and not Path(given).exists():
            fix = f"correct it: trainer.{key}=PATH"
            raise MissingDataError(describe(f"trainer.{key} is not there", given, fix=fix))
        return Path(given)
    places = (root.resolve() / name for name in names for root in _roots(config))
    return next((place for place in places if place.exists()), None)


def training_options(
    config: Mapping[str, Any], *, statistics: Path, split: str, gpus: int, max_dropped_share: float = MAX_DROPPED_SHARE
) -> list[str]:
    """Return the options of the training command that the settings stand for.

    Args:
        config: All settings.
        statistics: File of statistics.
        split: Rule that divides Audio2Photoreal.
        gpus: Devices to train on.
        max_dropped_share: More recordings that cannot be used than this share are an error.

    Raises:
        MissingDataError: There is no head VAE where one is wanted, or no data set.
    """
    root, trainer, kwargs = data_folder(config), config["trainer"], config["diffusion_module"]["kwargs"]
    vae = beside(config, "head_vae_ckpt_path", "head_vae/iter-0500000.pt", "head_vae")
    if vae is None:
        fix = "train one (avgen_head_vae_train) and pass trainer.head_vae_ckpt_path=FOLDER, or =none to do without"
        raise MissingDataError(describe("no head VAE", f"{root}/head_vae/iter-0500000.pt", fix=fix))
    with_vae = str(vae) != NONE
    model_conf = {
        **{name: config[name] for name in ("face_dim", "headvec_dim", "melspec_dim", "token_dim", "participant_cond")},
        "input_head_dim": config["dataset"]["input_head_dim"],
        "head_vae": with_vae,
        **{name: trainer[name] for name in ("headpose_weight", "audio_weight", "sigma_min")},
        **{name: trainer[name] for name in ("loss_fn_vision", "loss_fn_audio")},
        "transformer_conf": {
            name: kwargs[name] for name in ("d_model", "hidden_dim", "window_per_layer", "num_heads", "dropout")
        },
    }
    dataset_conf: dict[str, Any] = {"segment_length": config["dataset"]["segment_length"]}
    if max_dropped_share != MAX_DROPPED_SHARE:
        dataset_conf["max_dropped_share"] = max_dropped_share
    if config["dataset_name"] == PHOTOREAL:
        dataset_conf["split"] = split
    every = trainer["val_frequency"]
    optim_conf = {"lr": trainer["learning_rate"], "betas": [0.9, 0.98], "eps": 1e-9}
    optim_conf["weight_decay"] = trainer["weight_decay"]
    options = {
        "train_dir": root,
        "valid_dir": root,
        "dataset_conf": _inline(dataset_conf),
        "statistics": statistics,
        "model": "avflow",
        "model_conf": _inline(model_conf),
        "optim_conf": _inline(optim_conf),
        "output_dir": config["artifacts_dir"],
        "batch_size": trainer["batch_size"],
        "valid_batch_size": trainer["val_batch_size"],
        "num_workers": trainer["num_workers"],
        "max_steps": trainer["num_iterations"],
        "num_iters_per_epoch": every,
        "max_epoch": -(-trainer["num_iterations"] // every),
        "save_every_steps": trainer["save_frequency"],
        "ngpu": gpus,
    }
    if with_vae:
        options["head_vae"] = vae
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def published_conf(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of a published generator that leave no trace in its tensors, as far as settings give them."""
    names = ("window_per_layer", "num_heads")
    sizes = {name: overrides[f"{KWARGS}.{name}"] for name in names if f"{KWARGS}.{name}" in overrides}
    conf: dict[str, Any] = {"transformer_conf": sizes} if sizes else {}
    return conf | ({"sigma_min": overrides["trainer.sigma_min"]} if "trainer.sigma_min" in overrides else {})


def check_model(overrides: Mapping[str, Any], model: Any) -> None:
    """Refuse settings of a network that is another one than the checkpoint's.

    Raises:
        UsageError: One differs.
    """
    network = model.transformer
    block = network.audio_blocks[0]
    found = {
        "face_dim": model.dims["face"],
        "headvec_dim": model.dims["head"],
        "melspec_dim": model.dims["mel"],
        "token_dim": model.token_dim,
        "participant_cond": model.participant_cond,
        "other_dim": OTHER_DIM if model.participant_cond else 0,
        "dataset.input_head_dim": model.input_head_dim,
        f"{KWARGS}.visual_dim": model.dims["face"] + model.dims["head"],
        f"{KWARGS}.audio_dim": model.dims["mel"],
        f"{KWARGS}.condition_dim": network.condition_dim,
        f"{KWARGS}.d_model": network.audio_in.out_features,
        f"{KWARGS}.hidden_dim": block.feedforward[0].out_features,
        f"{KWARGS}.num_heads": block.attention.num_heads,
        f"{KWARGS}.window_per_layer": [list(window) for window in network.windows],
        "trainer.sigma_min": model.sigma_min,
    }
    for key, value in found.items():
        if key in overrides and overrides[key] != value:
            usage_error(f"{key} is not that of the checkpoint", overrides[key], value, "leave it out")


def ignored_settings(overrides: Mapping[str, Any], mode: str) -> dict[str, list[str]]:
    """Return the settings that have no effect, by the reason.

    Args:
        overrides: Those that were given.
        mode: ``train``, ``test`` or ``generate``.
    """
    if mode == "train":
        unused = _OF_SAMPLES
    else:
        kept = {*_OF_SAMPLES, "trainer.head_vae_ckpt_path", "trainer.sigma_min"}
        unused = {key for key in overrides if key.startswith("trainer.")} - kept
        unused |= {f"{KWARGS}.dropout"} | ({"dataset.segment_length"} if mode == "generate" else set())
    return {
        "it has no meaning when a generator is trained" if mode == "train" else "it is of trainings alone": sorted(
            unused
        ),
        "files of sound tell their rate": ["dataset.input_audio_sample_rate"],
    }


def _inline(conf: Mapping[str, Any]) -> str:
    return yaml.safe_dump(conf, default_flow_style=True, width=10**6).strip()


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)
