# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Published checkpoints of separation systems <-> ours: RTFS-Net, lip-reading front ends, Conv-TasNet.

Every tensor is accounted for: what is renamed, what is dropped and why. Sizes come from the tensors themselves.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from espnet_av.avss.vp_block import sinusoids
from espnet_av.layers.lip_shufflenet import WIDTHS as SHUFFLENET_WIDTHS
from espnet_av.train.conversion import ConversionReport, rename_tensors
from espnet_av.utils.errors import CheckpointError, describe

#: Prefixes that training programs put before the names of a network.
WRAPPERS = ("module.", "audio_model.", "network.")
AUDIO = "refinement_module.audio_net.blocks."
VIDEO = "refinement_module.video_net.blocks."
FUSION = "refinement_module.crossmodal_fusion.fusion_module.audio_lstm."
POSITIONS = f"{VIDEO}globalatt.0.MHSA.pos_enc.pe"
NUM_POSITIONS = 10000  # of the table in published files
NO_VIDEO = "no_video"


def fill_counters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add the counters of batch norms that a file leaves out (``num_batches_tracked``, not used in evaluation)."""
    for key in [key for key in state if key.endswith(".running_mean")]:
        state.setdefault(key.removesuffix("running_mean") + "num_batches_tracked", torch.zeros((), dtype=torch.int64))
    return state


def _strip(key: str) -> str:
    for prefix in WRAPPERS:
        key = key.removeprefix(prefix)
    return key


def from_rtfsnet(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ConversionReport]:
    """Turn an official RTFS-Net state dict into that of :class:`~espnet_av.avss.rtfsnet.RTFSNet`.

    Both dialects of the projections, ``best_model.pth`` and Lightning files (``audio_model.``) are understood.

    Raises:
        CheckpointError: It is of another network.
    """

    def rename(key: str) -> tuple[str | None, str]:
        if key.startswith("video_model."):
            return None, "lip-reading front end beside the network: convert it as 'lipreading'"
        key = _strip(key)
        if key.endswith(".scale_x"):
            return None, "constant 1 of the recurrent cells"
        if key == POSITIONS:
            return None, "table of positions, computed when needed"
        return key, ""

    result, report = rename_tensors(state, rename)
    if not any(key.startswith(AUDIO) for key in result):
        first = next(iter(result), None)
        raise CheckpointError(describe("not an RTFS-Net checkpoint", got=first, allowed=f"names below {AUDIO}"))
    return fill_counters(result), report


def rtfsnet_conf(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read the keywords of :class:`~espnet_av.avss.rtfsnet.RTFSNet` off the shapes of :func:`from_rtfsnet`.

    The number of passes, of heads over lips, the STFT and the activation of the mask leave no trace in the tensors.

    Raises:
        CheckpointError: A tensor that tells a size is missing.
    """

    def shape(key: str) -> torch.Size:
        if key not in state:
            raise CheckpointError(describe("the RTFS-Net checkpoint is incomplete", got=f"no {key}"))
        return state[key].shape

    def count(pattern: str) -> int:
        return len({match[1] for key in state if (match := re.match(pattern, key))})

    audio, video = re.escape(AUDIO), re.escape(VIDEO)
    channels = shape("encoder.conv.full_layer.2.weight")[0]
    return {
        "channels": channels,
        "hidden": shape(f"{AUDIO}projection.full_layer.2.weight")[0],
        "depth": count(rf"{audio}downsample_layers\.(\d+)\."),
        "kernel": shape(f"{AUDIO}downsample_layers.0.full_layer.2.weight")[-1],
        "rnn_hidden": shape(f"{AUDIO}globalatt.0.rnn.rnn_lst.0.weight_c")[0] // 4,
        "rnn_layers": count(rf"{audio}globalatt\.0\.rnn\.rnn_lst\.(\d+)\."),
        "rnn_window": shape(f"{AUDIO}globalatt.0.linear.weight")[-1],
        "attn_heads": count(rf"{audio}globalatt\.2\.Queries\.(\d+)\."),
        "attn_qk_channels": shape(f"{AUDIO}globalatt.2.Queries.0.conv.weight")[0],
        "video_dim": shape(f"{VIDEO}gateway.full_layer.2.weight")[0],
        "video_hidden": shape(f"{VIDEO}projection.full_layer.2.weight")[0],
        "video_depth": count(rf"{video}downsample_layers\.(\d+)\."),
        "video_kernel": shape(f"{VIDEO}downsample_layers.0.full_layer.2.weight")[-1],
        "video_ffn": shape(f"{VIDEO}globalatt.0.FFN.encoder.full_layer.2.weight")[0],
        "caf_heads": shape(f"{FUSION}attention_embed.full_layer.2.weight")[0] // channels,
        "projection_norm": f"{AUDIO}projection.full_layer.3.norm.weight" in state,
    }


def to_rtfsnet(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn a state dict of ours into the official one, constants included (the inverse of :func:`from_rtfsnet`).

    The embedding that stands for absent lips has no place there and is left out.
    """
    result = {_strip(key): tensor for key, tensor in state.items() if _strip(key) != NO_VIDEO}
    for key in [key for key in result if re.search(r"\.rnn_lst\.\d+\.bias$", key)]:
        result[key.removesuffix("bias") + "scale_x"] = torch.ones(1)
    hidden = result[f"{VIDEO}projection.full_layer.2.weight"].shape[0]
    result[POSITIONS] = sinusoids(NUM_POSITIONS, hidden, torch.empty(0)).unsqueeze(0)
    return result


def find_repeats(settings: object) -> int | None:
    """Return the number of passes that the settings beside official weights name, or None."""
    if not isinstance(settings, Mapping):
        return None
    inner = settings.get("audio_params", settings.get("audio_net"))
    if isinstance(inner, Mapping) and isinstance(inner.get("repeats"), int):
        return inner["repeats"]
    return next((found for value in settings.values() if (found := find_repeats(value)) is not None), None)


LIP_NAMES = ("frontend3D.", "trunk.")
ACTIVATION_HELP = "prelu where the file has slopes (frontend3D.2.weight), else swish or relu"


def from_lipreading(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ConversionReport]:
    """Keep the front end of a lip-reading checkpoint: stem and trunk, under their own names.

    The word classifier (``tcn.*``) is left out. ``video_model.`` and ``module.`` before the names are understood.

    Raises:
        CheckpointError: There is no front end, or something unknown beside it.
    """

    def rename(key: str) -> tuple[str | None, str]:
        if key.startswith("audio_model."):
            return None, "separation network beside the front end: convert it as 'rtfsnet'"
        key = key.removeprefix("module.").removeprefix("video_model.")
        return (None, "word classifier, not needed for embeddings") if key.startswith("tcn.") else (key, "")

    result, report = rename_tensors(state, rename)
    strange = [key for key in result if not key.startswith(LIP_NAMES)]
    if strange or not all(any(key.startswith(name) for key in result) for name in LIP_NAMES):
        got = strange[:3] or sorted(state)[:3]
        raise CheckpointError(describe("not a lip-reading checkpoint", got=got, allowed=[*LIP_NAMES, "tcn."]))
    return fill_counters(result), report


def lipreading_conf(state: Mapping[str, Tensor], activation: str | None = None) -> dict[str, Any]:
    """Read the keywords of :class:`~espnet_av.avss.lip_embedding.LipEmbedder` off the tensors of a front end.

    Args:
        state: Result of :func:`from_lipreading`.
        activation: What the caller says that it is; None takes PReLU where the file has slopes, else Swish, which the
            published files without slopes were trained with.

    Raises:
        CheckpointError: The trunk is of neither kind, or the file belongs to another activation.
    """
    has_slopes = "frontend3D.2.weight" in state
    if activation is not None and (activation == "prelu") != has_slopes:
        has = "slopes of PReLU" if has_slopes else "no slopes of PReLU"
        fix = "leave the activation out, or get the other file"
        raise CheckpointError(describe(f"the front end has {has}", got=activation, allowed=ACTIVATION_HELP, fix=fix))
    activation = activation or ("prelu" if has_slopes else "swish")
    stem = state["frontend3D.0.weight"].shape[0]
    if "trunk.layer1.0.conv1.weight" in state:
        stages = sorted({int(match[1]) for key in state if (match := re.match(r"trunk\.layer(\d+)\.", key))})
        planes = [state[f"trunk.layer{stage}.0.conv1.weight"].shape[0] for stage in stages]
        return {"backbone": "resnet18", "activation": activation, "stem_channels": stem, "planes": planes}
    if "trunk.0.0.banch2.0.weight" in state:
        half = state["trunk.0.0.banch2.0.weight"].shape[0]
        width = next((width for width, (first, *_) in SHUFFLENET_WIDTHS.items() if first == 2 * half), None)
        if width is not None:
            return {"backbone": "shufflenetv2", "activation": activation, "width": width}
    raise CheckpointError(
        describe("unknown trunk of a lip-reading checkpoint", got=sorted(state)[:3], allowed="ResNet-18, ShuffleNetV2")
    )
