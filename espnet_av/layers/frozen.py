# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A network whose parameters rest for a while."""

import contextlib
from collections.abc import Iterator, Sequence

from torch import nn


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let gradients pass through a module to its input without computing those of its parameters."""
    parameters: Sequence[nn.Parameter] = [each for each in module.parameters() if each.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
