# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The separators that ``model:`` of a configuration can name; nothing heavy is imported before one is chosen."""

import inspect
from typing import TYPE_CHECKING

from espnet_av import registry

if TYPE_CHECKING:
    from torch import nn

MODEL_GROUP = "avss.model"
DEFAULT_MODEL = "rtfsnet"
MODEL_CLASSES: dict[str, registry.Target] = {
    "rtfsnet": "espnet_av.avss.rtfsnet:RTFSNet",
    "convtasnet": "espnet_av.avss.convtasnet:ConvTasNet",
    "av_convtasnet": "espnet_av.avss.av_convtasnet:AVConvTasNet",
}


def get_model_class(name: str | None = None) -> type:
    """Return the class behind a name, of the package, of a plugin or registered.

    Args:
        name: The name; None takes :data:`DEFAULT_MODEL`.

    Raises:
        UsageError: The name is unknown.
    """
    return registry.get_class(MODEL_GROUP, name or DEFAULT_MODEL, MODEL_CLASSES)


def takes_lips(model_class: "type[nn.Module]") -> bool:
    """Tell whether a network is told by lips whom to extract (``forward(mix, lips, ...)``), or separates all voices."""
    return "lips" in inspect.signature(model_class.forward).parameters
