# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Sizes of the agent as keywords of :class:`~espnet_av.activesep.agent.ActiveSeparationAgent`."""

import copy
from typing import Any

from espnet_av.utils.errors import usage_error

#: The near-target agent of the paper: 51,861,332 parameters. Defaults of the networks, written out.
PUBLISHED: dict[str, dict[str, Any]] = {
    "separator": {"base_channels": 64},
    "memory": {"channels": 16, "skip_channels": 16, "num_layers": 2, "num_heads": 8, "ffn_dim": 1024},
    "policy": {"hidden_size": 512, "channels": [32, 64, 32]},
}

#: For a small world on a CPU. All 64 values of a patch reach the decoder, past the small tokens, from the start.
MINI: dict[str, dict[str, Any]] = {
    "separator": {"base_channels": 16},
    "memory": {
        "channels": 4,
        "skip_channels": 64,
        "num_layers": 2,
        "num_heads": 4,
        "ffn_dim": 256,
        "init": "pass_through",
    },
    "policy": {"hidden_size": 64, "channels": [8, 16, 8]},
}

PRESETS = {"published": PUBLISHED, "mini": MINI}


def get_preset(name: str) -> dict[str, dict[str, Any]]:
    """Return a preset that the caller may change.

    Raises:
        UsageError: There is none of that name.
    """
    if name not in PRESETS:
        usage_error("unknown size of the agent", got=name, allowed=list(PRESETS))
    return copy.deepcopy(PRESETS[name])
