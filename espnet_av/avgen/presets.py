# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Sizes of the generator as keywords of :class:`~espnet_av.avgen.model.AVGenModel`.

In YAML: ``model: avflow`` with ``model_conf: {preset: small}``, and any keyword beside it.
"""

import copy
from typing import Any

from espnet_av.registry import unknown_choice
from espnet_av.utils.errors import UsageError

_WINDOW = [16, 8]
PARTNER_DIMS = {"tokens": 29, "expression": 55, "head": 3}
PARTNER_STREAMS = {f"other_{name}": dim for name, dim in PARTNER_DIMS.items()}
PARTNER_DIM = sum(PARTNER_DIMS.values())  # 87

#: The published system: 67,935,576 values in the transformer.
BASE: dict[str, Any] = {
    "transformer_conf": {
        "d_model": 512,
        "hidden_dim": 1024,
        "num_heads": 4,
        "window_per_layer": [_WINDOW] * 8,
    },
}

#: The published system in a conversation: 68,024,664 values in the transformer.
DYADIC: dict[str, Any] = {**BASE, "participant_cond": True}

#: Looks ahead 9 frames (104 ms) and not 64 (743 ms).
LOWLAT: dict[str, Any] = {
    "transformer_conf": {**BASE["transformer_conf"], "window_per_layer": [[16, 2], *[[16, 1]] * 7]},
}

#: Trains on two CPU cores within minutes.
SMALL: dict[str, Any] = {
    "transformer_conf": {
        "d_model": 192,
        "hidden_dim": 384,
        "num_heads": 4,
        "window_per_layer": [_WINDOW] * 4,
    },
}

#: For tests.
TINY: dict[str, Any] = {
    "transformer_conf": {
        "d_model": 64,
        "hidden_dim": 96,
        "num_heads": 4,
        "window_per_layer": [_WINDOW] * 2,
    },
}

PRESETS: dict[str, dict[str, Any]] = {
    "base": BASE,
    "dyadic": DYADIC,
    "lowlat": LOWLAT,
    "small": SMALL,
    "tiny": TINY,
}


def preset_conf(name: str) -> dict[str, Any]:
    """Return a copy of the keywords behind a name.

    Raises:
        UsageError: The name is unknown.
    """
    if name not in PRESETS:
        raise UsageError(unknown_choice("preset of the generator", name, list(PRESETS)))
    return copy.deepcopy(PRESETS[name])
