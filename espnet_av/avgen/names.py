# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Names of tensors in published AV-Flow checkpoints <-> ours."""

import re
from collections.abc import Mapping

from torch import Tensor

from espnet_av.train.conversion import ConversionReport, rename_tensors
from espnet_av.utils.errors import CheckpointError, describe

PREFIX = "diffusion_module."
_STREAM = {"v": "visual", "a": "audio"}
_SHORT = {long: short for short, long in _STREAM.items()}
_PARTS = {
    "self_attn.ada_ln.linear": "attention_norm.linear",
    "self_attn.self_attn.qkv": "attention.qkv",
    "self_attn.self_attn.project": "attention.out",
    "feedforward.ada_ln.linear": "feedforward_norm.linear",
    "feedforward.block.0": "feedforward.0",
    "feedforward.block.3": "feedforward.3",
}
_ORIGINAL_PARTS = {ours: original for original, ours in _PARTS.items()}
_BLOCK = re.compile(r"transformer_blocks_([va])\.(\d+)\.(.+)\.(weight|bias)")
_OUR_BLOCK = re.compile(r"(visual|audio)_blocks\.(\d+)\.(.+)\.(weight|bias)")


def to_ours(name: str) -> str | None:
    """Return our name, below ``transformer.``, of a tensor of a published checkpoint; None for a strange one."""
    name = name.removeprefix("module.")
    if not name.startswith(PREFIX):
        return None
    name = name.removeprefix(PREFIX)
    if (block := _BLOCK.fullmatch(name)) and block[3] in _PARTS:
        return f"transformer.{_STREAM[block[1]]}_blocks.{block[2]}.{_PARTS[block[3]]}.{block[4]}"
    if other := re.fullmatch(r"(input_proj|out)_([va])\.(weight|bias)", name):
        side = "in" if other[1] == "input_proj" else "out"
        return f"transformer.{_STREAM[other[2]]}_{side}.{other[3]}"
    if other := re.fullmatch(r"fusion\.(\d+)\.(weight|bias)", name):
        return f"transformer.highways.{other[1]}.{other[2]}"
    if other := re.fullmatch(r"time_embed\.(mlp\.\d+\.(?:weight|bias))", name):
        return f"transformer.time_embedding.{other[1]}"
    return None


def to_original(name: str) -> str | None:
    """Return the published name of a tensor of ours, or None where that system has no such tensor."""
    if not name.startswith("transformer."):
        return None
    name = name.removeprefix("transformer.")
    if (block := _OUR_BLOCK.fullmatch(name)) and block[3] in _ORIGINAL_PARTS:
        stream, part = _SHORT[block[1]], _ORIGINAL_PARTS[block[3]]
        return f"{PREFIX}transformer_blocks_{stream}.{block[2]}.{part}.{block[4]}"
    if other := re.fullmatch(r"(visual|audio)_(in|out)\.(weight|bias)", name):
        side = "input_proj" if other[2] == "in" else "out"
        return f"{PREFIX}{side}_{_SHORT[other[1]]}.{other[3]}"
    if other := re.fullmatch(r"highways\.(\d+)\.(weight|bias)", name):
        return f"{PREFIX}fusion.{other[1]}.{other[2]}"
    if other := re.fullmatch(r"time_embedding\.(mlp\.\d+\.(?:weight|bias))", name):
        return f"{PREFIX}time_embed.{other[1]}"
    return None


def from_av_flow(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ConversionReport]:
    """Give a published state dict our names, below ``transformer.``.

    Raises:
        CheckpointError: It is of another network, or holds a tensor that belongs nowhere.
    """

    def rename(name: str) -> tuple[str | None, str]:
        found = to_ours(name)
        if found is None:
            allowed = f"names below {PREFIX}"
            raise CheckpointError(describe("not an AV-Flow checkpoint", got=name, allowed=allowed))
        return found, ""

    return rename_tensors(state, rename)


def to_av_flow(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the transformer of ours its published names; statistics, head VAE and null vectors are left out.

    Raises:
        CheckpointError: The network has parts that the published one has not.
    """
    strange = [name for name in state if name.startswith("transformer.") and to_original(name) is None]
    if strange:
        what = "the published network has no place for these parts"
        raise CheckpointError(describe(what, got=strange[:3], allowed="highway: linear"))
    return {found: tensor for name, tensor in state.items() if (found := to_original(name)) is not None}
