# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Names of tensors in files of other Conv-TasNets <-> those of :class:`~espnet_av.avss.convtasnet.ConvTasNet`.

Ours are those of torchaudio. ESPnet's (``encoder.``, ``separator.``, ``decoder.`` of an enhancement model) are renamed,
and its gains and shifts ``(1, C, 1)`` become ``(C,)``. Sizes and variant are read off the tensors.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from espnet_av.avss.convtasnet import ESPNET, TORCHAUDIO
from espnet_av.utils.errors import CheckpointError, describe

OURS = "mask_generator."
ESPNET_NETWORK = "separator.tcn.network."
ESPNET_BLOCK = re.compile(re.escape(ESPNET_NETWORK) + r"2\.(\d+)\.(\d+)\.net\.(.+)")
#: ESPnet's names within a block -> ours.
BLOCK_NAMES = {
    "0": "conv_layers.0",
    "1": "conv_layers.1",
    "2": "conv_layers.2",
    "3.net.0": "conv_layers.3",
    "3.net.1": "conv_layers.4",
    "3.net.2": "conv_layers.5",
    "3.net.3": "res_out",
    "3.skip_conv": "skip_out",
}
HEAD_NAMES = {
    "encoder.conv1d": "encoder",
    "decoder.convtrans1d": "decoder",
    f"{ESPNET_NETWORK}0": f"{OURS}input_norm",
    f"{ESPNET_NETWORK}1": f"{OURS}input_conv",
    f"{ESPNET_NETWORK}3": f"{OURS}output_prelu",
    f"{ESPNET_NETWORK}4": f"{OURS}output_conv",
}
LEAVES = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


def is_espnet(state: Mapping[str, Tensor]) -> bool:
    """Tell whether the names are those of ESPnet."""
    return any(key.startswith(ESPNET_NETWORK) for key in state)


def from_espnet(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of an ESPnet model with ``pre_mask_nonlinear: prelu``.

    Raises:
        CheckpointError: A name that is not known.
    """
    per_stack = 1 + max((int(m[2]) for key in state if (m := ESPNET_BLOCK.fullmatch(key))), default=0)
    result = {}
    for key, tensor in state.items():
        stem, _, leaf = key.rpartition(".")
        block = ESPNET_BLOCK.fullmatch(stem)
        name: str | None
        if block and block[3] in BLOCK_NAMES:
            name = f"{OURS}conv_layers.{int(block[1]) * per_stack + int(block[2])}.{BLOCK_NAMES[block[3]]}"
        else:
            name = HEAD_NAMES.get(stem)
        if name is None or leaf not in LEAVES:
            allowed = f"encoder., {ESPNET_NETWORK}, decoder. with pre_mask_nonlinear prelu"
            raise CheckpointError(describe("not a Conv-TasNet of ESPnet", got=key, allowed=allowed))
        result[f"{name}.{LEAVES[leaf]}"] = tensor.flatten() if leaf in ("gamma", "beta") else tensor
    return result


def to_espnet(state: Mapping[str, Tensor], *, layers: int) -> dict[str, Tensor]:
    """Give tensors of ours the names of ESPnet (the inverse of :func:`from_espnet`).

    Args:
        state: State dict of ours.
        layers: Blocks of a stack.

    Raises:
        CheckpointError: A tensor that has no place there.
    """
    heads = {ours: theirs for theirs, ours in HEAD_NAMES.items()}
    blocks = {ours: theirs for theirs, ours in BLOCK_NAMES.items()}
    norms = ("input_norm", "conv_layers.2", "conv_layers.5")
    result = {}
    for key, tensor in state.items():
        stem, _, leaf = key.rpartition(".")
        match = re.fullmatch(re.escape(OURS) + r"conv_layers\.(\d+)\.(.+)", stem)
        if match and match[2] in blocks:
            stack, layer = divmod(int(match[1]), layers)
            name = f"{ESPNET_NETWORK}2.{stack}.{layer}.net.{blocks[match[2]]}"
        elif stem in heads:
            name = heads[stem]
        else:
            raise CheckpointError(describe("ESPnet's Conv-TasNet has no place for this tensor", got=key))
        if stem.endswith(norms):
            tensor, leaf = tensor.reshape(1, -1, 1), {"weight": "gamma", "bias": "beta"}[leaf]
        result[f"{name}.{leaf}"] = tensor
    return result


def convtasnet_conf(state: Mapping[str, Tensor], *, espnet: bool = False, layers: int | None = None) -> dict[str, Any]:
    """Read the keywords of :class:`~espnet_av.avss.convtasnet.ConvTasNet` off a state dict with our names.

    Args:
        state: State dict, also of :func:`from_espnet`.
        espnet: It comes from ESPnet, whose masks are rectified, and whose first norm is over frames.
        layers: Blocks of a stack, which leave no trace; None takes 8 where that fits, else one stack.

    Raises:
        CheckpointError: A tensor that tells a size is missing.
    """

    def shape(key: str) -> tuple[int, ...]:
        if key not in state:
            raise CheckpointError(describe("the Conv-TasNet checkpoint is incomplete", got=f"no {key}"))
        return tuple(state[key].shape)

    blocks = 1 + max((int(m[1]) for key in state if (m := re.match(rf"{OURS}conv_layers\.(\d+)\.", key))), default=-1)
    if layers is None:
        layers = 8 if blocks % 8 == 0 else blocks
    if blocks < 1 or blocks % layers:
        raise CheckpointError(describe("blocks of a Conv-TasNet do not make whole stacks", got=(blocks, layers)))
    filters, _, kernel = shape("encoder.weight")
    first = f"{OURS}conv_layers.0.conv_layers"
    conf = {
        "num_sources": shape(f"{OURS}output_conv.weight")[0] // filters,
        "filters": filters,
        "kernel": kernel,
        "bottleneck": shape(f"{OURS}input_conv.weight")[0],
        "hidden": shape(f"{first}.0.weight")[0],
        "block_kernel": shape(f"{first}.3.weight")[-1],
        "layers": layers,
        "stacks": blocks // layers,
    }
    found = {
        "codec_bias": "encoder.bias" in state,
        "conv_bias": f"{OURS}input_conv.bias" in state,
        "skip": f"{OURS}conv_layers.0.skip_out.weight" in state,
        "last_residual": f"{OURS}conv_layers.{blocks - 1}.res_out.weight" in state,
    }
    variant = ESPNET if espnet else {} if found["codec_bias"] else TORCHAUDIO
    return {**conf, **variant, **found}
