# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the convolutional vocoders share: layers, sizes, how far they look, and the names of published files.

Axes: ``B`` batch, ``C`` channels, ``T`` frames or samples.
"""

import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrizations

from espnet_av.avgen.mel import MelConfig
from espnet_av.utils.errors import CheckpointError, describe, usage_error

logger = logging.getLogger(__name__)
INIT_STD = 0.01
#: Names of length and direction of a weight: here, and in published files.
WEIGHT_NORM_NAMES = {
    ".parametrizations.weight.original0": ".weight_g",
    ".parametrizations.weight.original1": ".weight_v",
}
#: Our name of a setting of the spectrogram -> its name in published configurations.
MEL_KEYS = {
    "sample_rate": "sampling_rate",
    "n_fft": "n_fft",
    "win_length": "win_size",
    "hop_length": "hop_size",
    "num_mels": "num_mels",
    "fmin": "fmin",
    "fmax": "fmax",
}


def conv(
    in_channels: int, out_channels: int, kernel: int, dilation: int, weight_norm: bool, *, bias: bool = True
) -> nn.Conv1d:
    """Return a convolution that keeps the length."""
    padding = dilation * (kernel - 1) // 2
    layer = nn.Conv1d(in_channels, out_channels, kernel, dilation=dilation, padding=padding, bias=bias)
    nn.init.normal_(layer.weight, 0.0, INIT_STD)
    return parametrizations.weight_norm(layer) if weight_norm else layer


def transposed(in_channels: int, out_channels: int, kernel: int, rate: int, weight_norm: bool) -> nn.ConvTranspose1d:
    """Return a transposed convolution that makes ``rate`` samples of one."""
    layer = nn.ConvTranspose1d(in_channels, out_channels, kernel, rate, padding=(kernel - rate) // 2)
    nn.init.normal_(layer.weight, 0.0, INIT_STD)
    return parametrizations.weight_norm(layer) if weight_norm else layer


def mean_of_blocks(blocks: nn.ModuleList, x: Tensor) -> Tensor:
    """Return the mean of what several blocks make of ``x (B, C, T)``."""
    total = blocks[0](x)
    for block in blocks[1:]:
        total = total + block(x)
    return total / len(blocks)


def check_sizes(
    rates: Sequence[int],
    kernels: Sequence[int],
    channels: int,
    resblock: str,
    block_kernels: Sequence[int],
    block_dilations: Sequence[Sequence[int]],
) -> None:
    """Refuse sizes of a vocoder that do not fit together.

    Raises:
        UsageError: With the sizes.
    """
    if not rates or len(rates) != len(kernels):
        usage_error("upsample_rates and upsample_kernel_sizes differ in length", (list(rates), list(kernels)))
    for rate, kernel in zip(rates, kernels, strict=True):
        if rate < 1 or kernel < rate or (kernel - rate) % 2:
            usage_error("an upsampling cannot keep the clock", f"rate {rate}, kernel {kernel}", "kernel - rate even")
    if channels % 2 ** len(rates):
        usage_error("upsample_initial_channel cannot be halved so often", channels, f"a multiple of {2 ** len(rates)}")
    if str(resblock) not in ("1", "2"):
        usage_error("unknown resblock", resblock, ["1", "2"])
    if not block_kernels or len(block_kernels) != len(block_dilations) or any(size % 2 == 0 for size in block_kernels):
        got = (list(block_kernels), [list(each) for each in block_dilations])
        usage_error("resblock_kernel_sizes and resblock_dilation_sizes do not fit", got, "as many, kernels odd")


def block_reach(kernel: int, dilations: Sequence[int], plain: bool, activation: int) -> int:
    """Return how many samples to each side a residual block looks.

    Args:
        kernel: Of its convolutions.
        dilations: Of the dilated ones.
        plain: A convolution without dilation follows each.
        activation: Reach of an activation.
    """
    convolutions = sum(dilations) + (len(dilations) if plain else 0)
    return convolutions * (kernel - 1) // 2 + activation * len(dilations) * (2 if plain else 1)


def frame_reach(rates: Sequence[int], kernels: Sequence[int], block: int, post: int) -> int:
    """Return how many mel frames to each side a sample depends on.

    Args:
        rates: Factors of the transposed convolutions.
        kernels: Their kernels.
        block: Reach of the widest residual block.
        post: Reach of what follows the last one.
    """
    reach = post
    for rate, kernel in reversed(list(zip(rates, kernels, strict=True))):
        reach += block
        padding = (kernel - rate) // 2
        reach = max((rate - 1 + reach + padding) // rate, (kernel - 1 - padding + reach) // rate)
    return reach + 3  # the first convolution has kernel 7


# ---------------------------------------------------------------------- published names


def published_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict of ours under the names of published files."""
    return {_renamed(name, WEIGHT_NORM_NAMES): tensor for name, tensor in state.items()}


def own_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a published state dict under our names."""
    names = {theirs: ours for ours, theirs in WEIGHT_NORM_NAMES.items()}
    return {_renamed(name, names): tensor for name, tensor in state.items()}


def _renamed(name: str, endings: Mapping[str, str]) -> str:
    for old, new in endings.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def has_weight_norm(state: Iterable[str]) -> bool:
    """Tell whether weights are kept as direction and length, under either naming."""
    return any(name.endswith((".weight_g", ".original0")) for name in state)


def fold(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict with plain weights, under our names.

    Raises:
        CheckpointError: A weight lacks its direction or its length.
    """
    length, direction = WEIGHT_NORM_NAMES
    folded: dict[str, Tensor] = {}
    for name, tensor in own_names(state).items():
        if name.endswith((length, direction)):
            base = name.removesuffix(length).removesuffix(direction)
            folded[f"{base}.weight"] = _joined(own_names(state), base, length, direction)
        else:
            folded[name] = tensor
    return folded


def _joined(state: Mapping[str, Tensor], base: str, length: str, direction: str) -> Tensor:
    if base + length not in state or base + direction not in state:
        raise CheckpointError(describe(f"weight {base} of the vocoder is not whole", allowed="weight_g and weight_v"))
    value = state[base + direction]
    norm = value.flatten(1).norm(dim=1).view(-1, *[1] * (value.dim() - 1))
    return value * (state[base + length] / norm)


# ---------------------------------------------------------------------- published configurations


def keywords_of(network: type, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return those entries of a published configuration that a network takes."""
    known = inspect.signature(network).parameters
    return {name: value for name, value in config.items() if name in known}


def mel_config_of(config: Mapping[str, Any], num_mels: int, hop_length: int) -> MelConfig:
    """Return the spectrogram that a published configuration describes; tells what it does not name.

    Args:
        config: The configuration; what it does not name is as in :class:`~espnet_av.avgen.mel.MelConfig`.
        num_mels: Bands of the network.
        hop_length: Samples that the network makes of a frame.

    Raises:
        CheckpointError: Configuration and network differ, or a setting is no number.
    """
    wrong = {key: config.get(key) for key in MEL_KEYS.values() if type(config.get(key)) not in (int, float, type(None))}
    if wrong:
        raise CheckpointError(describe("settings in the configuration of the vocoder are no numbers", wrong, "numbers"))
    own = {"num_mels": num_mels, "hop_length": hop_length}
    found = {ours: config[theirs] for ours, theirs in MEL_KEYS.items() if config.get(theirs) is not None}
    for name, value in own.items():
        if found.setdefault(name, value) != value:
            what = f"the configuration of the vocoder contradicts itself ({MEL_KEYS[name]})"
            raise CheckpointError(describe(what, found[name], value))
    lengths = {name: max(1024, hop_length) for name in ("n_fft", "win_length") if name not in found}
    rate = found.get("sample_rate", MelConfig.sample_rate)
    if "fmax" not in found:  # null stands for all of the spectrum
        found["fmax"] = rate / 2 if "fmax" in config else min(MelConfig.fmax, rate / 2)
    mel = MelConfig(**lengths, **found)
    assumed = [f"{key} {getattr(mel, name)}" for name, key in MEL_KEYS.items() if key not in config and name not in own]
    if assumed:
        logger.warning("the configuration of the vocoder leaves out settings; taken: %s", ", ".join(assumed))
    return mel
