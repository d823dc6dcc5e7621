# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""How weights of active separation start."""

from typing import Literal

from torch import nn

from espnet_av.utils.errors import usage_error

MODES = ("he", "reference")
LEAKY_SLOPE = 0.2


def init_layers(module: nn.Module, activation: Literal["relu", "leaky_relu"], *, mode: str = "he") -> None:
    """Start convolutions and linear layers with He's normal distribution, zero biases and unit norms.

    Args:
        module: All its layers are set.
        activation: ``relu`` or ``leaky_relu`` (slope 0.2), which follows them.
        mode: ``he``; ``reference`` passes the gain of the activation where its slope belongs, which makes standard
            deviations smaller by factors of 1.73 and 1.68.

    Raises:
        UsageError: Unknown mode.
    """
    if mode not in MODES:
        usage_error("unknown initialisation", got=mode, allowed=MODES)
    slope = {"relu": 0.0, "leaky_relu": LEAKY_SLOPE}[activation]
    if mode == "reference":
        slope = nn.init.calculate_gain(activation, slope)
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, slope)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
