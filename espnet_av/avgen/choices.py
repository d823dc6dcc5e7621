# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The generators that ``model:`` of a configuration can name; nothing heavy is imported before one is chosen.

``model: avflow`` generates speech and motion together; ``model: cascade`` first speech, then motion that fits it.
Sizes come from ``model_conf``: ``{preset: small}`` and any keyword of :class:`~espnet_av.avgen.model.AVGenModel`.
"""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from espnet_av import registry
from espnet_av.utils.config import does_not_fit

if TYPE_CHECKING:
    from espnet_av.avgen.model import AVGenModel

MODEL_GROUP = "avgen.model"
DEFAULT_MODEL = "avflow"
MODEL_CLASSES: dict[str, registry.Target] = {
    "avflow": "espnet_av.avgen.model:AVGenModel",
    "cascade": "espnet_av.avgen.cascade:CascadeModel",
}


def get_model_class(name: str | None = None) -> type:
    """Return the class behind a name, of the package, of a plugin or registered.

    Args:
        name: The name; None takes :data:`DEFAULT_MODEL`.

    Raises:
        UsageError: The name is unknown.
    """
    return registry.get_class(MODEL_GROUP, name or DEFAULT_MODEL, MODEL_CLASSES)


def complete_conf(conf: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``model_conf`` with the sizes of its preset written out; other keywords stand, nested ones too.

    Raises:
        UsageError: The preset is unknown.
    """
    own = copy.deepcopy(dict(conf))
    preset = own.pop("preset", None)
    if preset is None:
        return own
    from espnet_av.avgen.presets import preset_conf

    whole = preset_conf(preset)
    for key, value in own.items():
        nested = isinstance(value, Mapping) and isinstance(whole.get(key), Mapping)
        whole[key] = {**whole[key], **value} if nested else value
    return whole


def build_model(name: str | None = None, conf: Mapping[str, Any] | None = None) -> "AVGenModel":
    """Build a generator from ``model`` and ``model_conf`` of a configuration.

    Raises:
        UsageError: The name or preset is unknown, or the generator does not take a keyword.
    """
    model_class = get_model_class(name)
    conf = complete_conf(conf or {})
    try:
        return model_class(**conf)
    except TypeError as error:
        raise does_not_fit(error, "model_conf", conf) from error
