# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The codecs that ``model:`` of a configuration can name; nothing heavy is imported before one is chosen.

``model: lrac`` takes its sizes from ``model_conf``: ``{preset: track1}`` or ``{preset: track2}``, with any keyword of
:class:`~espnet_av.codec.generator.CodecGenerator` beside it, or the keywords alone. ``track1`` and ``track2`` are short
for the presets.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from espnet_av import registry
from espnet_av.utils.config import does_not_fit
from espnet_av.utils.errors import usage_error

if TYPE_CHECKING:
    from espnet_av.codec.generator import CodecGenerator

MODEL_GROUP = "codec.model"
DEFAULT_MODEL = "lrac"
MODEL_CLASSES: dict[str, registry.Target] = {
    "lrac": "espnet_av.codec.generator:CodecGenerator",
    "track1": "espnet_av.codec.generator:CodecGenerator",
    "track2": "espnet_av.codec.generator:CodecGenerator",
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
    """Return ``model_conf`` with the sizes of its preset written out; what it says itself stands.

    Keywords of a part, such as ``encoder_conf``, are completed one by one.

    Raises:
        UsageError: The preset is unknown, or the name is short for another one.
    """
    conf = dict(conf)
    preset = conf.pop("preset", None)
    if name in ("track1", "track2"):
        if preset not in (None, name):
            usage_error("model and preset name two codecs", got=f"{name} and {preset}", allowed="one of them")
        preset = name
    if preset is None:
        return conf
    from espnet_av.codec.presets import preset_conf

    sizes = preset_conf(preset)
    parts = {name: {**sizes[name], **value} for name, value in conf.items() if isinstance(sizes.get(name), Mapping)}
    return {**sizes, **conf, **parts}


def build_generator(name: str | None = None, conf: Mapping[str, Any] | None = None) -> "CodecGenerator":
    """Build a codec from ``model`` and ``model_conf`` of a configuration.

    Raises:
        UsageError: The name or preset is unknown, or the codec does not take a keyword.
    """
    model_class = get_model_class(name)
    conf = complete_conf(name, conf or {})
    try:
        return model_class(**conf)
    except TypeError as error:
        raise does_not_fit(error, "model_conf", conf) from error
