# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The vocoders that ``model:`` of a configuration can name; nothing heavy is imported before one is chosen.

Sizes come from ``model_conf``: ``{preset: small}`` or ``{preset: tiny}`` of HiFi-GAN, and any keyword of the network.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from espnet_av import registry
from espnet_av.utils.config import does_not_fit
from espnet_av.utils.errors import usage_error

if TYPE_CHECKING:
    from torch import nn

GRIFFIN_LIM = "griffinlim"
MODEL_GROUP = "avgen.vocoder"
DEFAULT_MODEL = "hifigan"
MODEL_CLASSES: dict[str, registry.Target] = {
    "hifigan": "espnet_av.avgen.hifigan:HiFiGAN",
    "bigvgan": "espnet_av.avgen.bigvgan:BigVGAN",
}


def get_model_class(name: str | None = None) -> type:
    """Return the class behind a name, of the package, of a plugin or registered.

    Args:
        name: The name; None takes :data:`DEFAULT_MODEL`.

    Raises:
        UsageError: The name is unknown.
    """
    return registry.get_class(MODEL_GROUP, name or DEFAULT_MODEL, MODEL_CLASSES)


def complete_conf(name: str | None, conf: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``model_conf`` with the sizes of its preset written out; other keywords stand.

    Raises:
        UsageError: The preset is unknown.
    """
    conf = dict(conf)
    preset = conf.pop("preset", None)
    if preset is None:
        return conf
    from espnet_av.avgen.hifigan import SMALL, TINY

    presets: dict[str, dict[str, Any]] = {"small": SMALL, "tiny": TINY} if (name or DEFAULT_MODEL) == "hifigan" else {}
    if preset not in presets:
        usage_error(f"model {name or DEFAULT_MODEL} has no such preset", preset, list(presets) or "none")
    listed = {key: _as_list(value) for key, value in presets[preset].items()}
    return listed | conf


def build_generator(name: str | None = None, conf: Mapping[str, Any] | None = None) -> "nn.Module":
    """Build a vocoder from ``model`` and ``model_conf`` of a configuration.

    Raises:
        UsageError: The name or preset is unknown, or the network does not take a keyword.
    """
    model_class = get_model_class(name)
    conf = complete_conf(name, conf or {})
    try:
        return model_class(**conf)
    except TypeError as error:
        raise does_not_fit(error, "model_conf", conf) from error


def _as_list(value: Any) -> Any:
    """Return tuples as lists, which YAML can write."""
    return [_as_list(each) for each in value] if isinstance(value, tuple) else value
