# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The recognisers that ``model:`` of a configuration can name; nothing heavy is imported before one is chosen."""

from espnet_av import registry

MODEL_GROUP = "avsr.model"
DEFAULT_MODEL = "avsr"
MODEL_CLASSES: dict[str, registry.Target] = {
    "avsr": "espnet_av.avsr.model:AVSRModel",
    "auto_avsr": "espnet_av.avsr.auto_avsr:AutoAVSRModel",
}


def get_model_class(name: str | None = None) -> type:
    """Return the class behind a name, of the package, of a plugin or registered.

    Args:
        name: The name; None takes :data:`DEFAULT_MODEL`.

    Raises:
        UsageError: The name is unknown.
    """
    return registry.get_class(MODEL_GROUP, name or DEFAULT_MODEL, MODEL_CLASSES)
