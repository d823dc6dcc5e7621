# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What reports, packs and model cards must know of each system."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from espnet_av.report.results import DEFAULT_TASK
from espnet_av.utils.errors import DataError, describe

if TYPE_CHECKING:
    from espnet_av.tasks.av_task import AVTaskMixin


@dataclass(frozen=True)
class System:
    """One of the toolkit's systems.

    Attributes:
        name: Of the task, as in ``egs/<dataset>/<task>``.
        title: For people.
        task_class: ``module:Class`` of the training task.
        model_class: ``module:Class`` whose ``from_pretrained`` loads a pack.
        model_keys: What of a training configuration builds the model and prepares its input; packed.
        training_only: Parts of ``preprocessor_conf`` that only training needs and that may name files; not packed.
        has_tokens: Whether the model writes text, so that its tokens belong to it.
    """

    name: str
    title: str
    task_class: str
    model_class: str
    model_keys: tuple[str, ...]
    training_only: tuple[str, ...]
    has_tokens: bool = False

    def load_task(self) -> "type[AVTaskMixin]":
        """Import the training task.

        Raises:
            ImportError: A package that it needs is not installed.
        """
        module, _, name = self.task_class.partition(":")
        return getattr(importlib.import_module(module), name)

    def load_model_class(self) -> Any:
        """Import the class that loads a pack.

        Raises:
            ImportError: A package that it needs is not installed.
        """
        module, _, name = self.model_class.partition(":")
        return getattr(importlib.import_module(module), name)


SYSTEMS = {
    "avsr": System(
        name="avsr",
        title="Audio-visual speech recognition",
        task_class="espnet_av.tasks.avsr:AVSRTask",
        model_class="espnet_av.avsr.inference:AVSR",
        model_keys=("model", "model_conf", "token_type", "token_list", "bpemodel", "preprocessor_conf"),
        training_only=("audio_augment", "video_augment", "interferers", "noise"),
        has_tokens=True,
    ),
    "avss": System(
        name="avss",
        title="Audio-visual speech separation",
        task_class="espnet_av.tasks.avss:AVSSTask",
        model_class="espnet_av.avss.inference:Separator",
        model_keys=("model", "model_conf", "loss_conf", "lips", "preprocessor_conf"),
        training_only=("noise", "impulse_response", "remix"),
    ),
    "codec": System(
        name="codec",
        title="Speech codec",
        task_class="espnet_av.tasks.codec:CodecTask",
        model_class="espnet_av.codec.inference:Codec",
        model_keys=("model", "model_conf", "loss_conf", "discriminator_conf"),
        training_only=(),
    ),
    "avgen": System(
        name="avgen",
        title="Generation of talking faces",
        task_class="espnet_av.tasks.avgen:AVGenTask",
        model_class="espnet_av.avgen.inference:AVGenerator",
        model_keys=("model", "model_conf"),
        training_only=(),
    ),
    "activesep": System(
        name="activesep",
        title="Active audio-visual separation",
        task_class="espnet_av.tasks.activesep:ActiveSepTask",
        model_class="espnet_av.activesep.agent:ActiveSeparationAgent",
        model_keys=("model", "model_conf", "reward", "convolution", "max_steps", "memory_size", "refine"),
        training_only=(),
    ),
}
#: Keys of a training configuration that tell the system, the first that is there.
TELLING_KEYS = {
    "reward": "activesep",
    "discriminator_conf": "codec",
    "token_list": "avsr",
    "loss_conf": "avss",
    "head_vae": "avgen",
}


def get_system(name: str) -> System:
    """Return the system of this name.

    Raises:
        DataError: There is none.
    """
    if name not in SYSTEMS:
        raise DataError(describe("unknown task", got=name, allowed=sorted(SYSTEMS)))
    return SYSTEMS[name]


def system_of(config: Mapping[str, Any] | None, results: Mapping[str, Any] | None = None) -> System:
    """Tell which system an experiment is of.

    Args:
        config: Its training configuration, where there is one.
        results: Its results, where there are some; what they say counts.

    Raises:
        DataError: The results name a task that is not known here.
    """
    if results and results.get("task"):
        return get_system(str(results["task"]))
    for key, name in TELLING_KEYS.items():
        if key in (config or {}):
            return SYSTEMS[name]
    return SYSTEMS[DEFAULT_TASK]
