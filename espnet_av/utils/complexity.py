# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters and multiply-accumulates of a network."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def count_parameters(model: "torch.nn.Module") -> tuple[int, dict[str, int]]:
    """Return the number of parameters, and of those of each direct part that has any."""
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    return sum(p.numel() for p in model.parameters()), {name: count for name, count in parts.items() if count}


def count_macs(function: Callable[..., Any], *inputs: Any) -> int:
    """Return the multiply-accumulates of one call of ``function(*inputs)``.

    Counts matrix products, convolutions and attention with PyTorch's counter. The fused inference path of PyTorch's
    attention layers and its fused CPU attention are switched off meanwhile, for both hide products from the counter.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), _plain_attention(), FlopCounterMode(display=False) as counter:
        function(*inputs)
    return counter.get_total_flops() // 2


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    from torch.backends import mha
    from torch.nn.attention import SDPBackend, sdpa_kernel

    before = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        mha.set_fastpath_enabled(before)
