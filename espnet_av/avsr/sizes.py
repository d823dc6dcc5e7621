# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Sizes of a network, told by the shapes of its weights."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from espnet_av.utils.errors import CheckpointError, usage_error

HEAD_DIM = 64  # of all published networks


def merge(*confs: Mapping[str, Any]) -> dict[str, Any]:
    """Merge keyword dictionaries, sections key by key; later ones win.

    >>> merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}, "b": 4})
    {'a': {'x': 1, 'y': 3}, 'b': 4}
    """
    result: dict[str, Any] = {}
    for conf in confs:
        for key, value in conf.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key, {}), Mapping)
            result[key] = merge(result.get(key, {}), value) if both else value
    return result


def vocab_size(state: Mapping[str, Tensor]) -> int:
    """Number of token ids of a recogniser."""
    return _shape(state, "ctc.ctc_lo.bias")[0]


def infer_model_conf(model: str, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Find the keywords of a recogniser.

    Args:
        model: ``avsr`` or ``auto_avsr``.
        state: Its weights under our names.

    Raises:
        CheckpointError: A tensor that tells a size is missing.
        UsageError: The number of heads cannot be told.
    """
    encoder = infer_conformer_conf(state) if model == "auto_avsr" else infer_encoder_conf(_below("encoder.", state))
    width = _shape(state, "decoder.embed.0.weight")[1]
    decoder = {
        "dim": width,
        "num_layers": _count(r"decoder\.decoders\.(\d+)\.", state),
        "num_heads": _num_heads(width),
        "ffn_dim": _shape(state, "decoder.decoders.0.feed_forward.w_1.bias")[0],
    }
    return {**encoder, "decoder_conf": decoder}


def infer_encoder_conf(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Find ``encoder_conf`` of an AV-HuBERT encoder from its weights, without the leading ``encoder.``."""
    dim, audio_dim = _shape(state, "feature_extractor_audio.proj.weight")
    taps = _shape(state, "encoder.pos_conv_embed.conv.parametrizations.weight.original1")
    labels = state.get("label_embs_concat")
    num_classes, label_dim = (0, 0) if labels is None else tuple(labels.shape)
    conf = {
        "dim": dim,
        "num_layers": _count(r"encoder\.layers\.(\d+)\.", state),
        "num_heads": _num_heads(dim),
        "ffn_dim": _shape(state, "encoder.layers.0.feed_forward.intermediate_dense.bias")[0],
        "audio_dim": audio_dim,
        "fuse": "concat" if "post_extract_proj.weight" in state else "add",
        "conv_pos": taps[2],
        "conv_pos_groups": dim // taps[1],
        "num_classes": num_classes,
        **({"label_dim": label_dim} if num_classes else {}),
        **_lip_conf(_below("feature_extractor_video.resnet.", state), without_slopes="relu"),
    }
    return {"encoder_conf": conf}


def infer_conformer_conf(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Find ``encoder_conf`` of an auto_avsr encoder from the weights of the recogniser."""
    branches = {name: _below(f"encoder.{name}.", state) for name in ("video", "audio")}
    found = {name: _branch_conf(branch) for name, branch in branches.items() if branch}
    conf: dict[str, Any] = {"modality": "av" if len(found) == 2 else next(iter(found))}
    main = "video" if "video" in found else "audio"
    conf.update(found[main])
    if main == "video":
        conf.update(_lip_conf(_below("frontend.", branches["video"]), without_slopes="swish"))
    if "audio" in found:
        trunk = _below("frontend.trunk.", branches["audio"])
        conf["audio_channels"] = _shape(trunk, "bn1.bias")[0]
        conf["audio_planes"] = [_shape(trunk, f"layer{stage}.0.bn1.bias")[0] for stage in range(1, 5)]
    if len(found) == 2:
        conf["fusion_dim"] = _shape(state, "encoder.fusion.fc1.bias")[0]
        conf["audio_conf"] = {key: value for key, value in found["audio"].items() if value != found["video"][key]}
    return {"encoder_conf": conf}


def _branch_conf(state: Mapping[str, Tensor]) -> dict[str, Any]:
    return {
        "dim": _shape(state, "embed.0.bias")[0],
        "num_layers": _count(r"encoders\.(\d+)\.", state),
        "num_heads": _shape(state, "encoders.0.self_attn.pos_bias_u")[0],
        "ffn_dim": _shape(state, "encoders.0.feed_forward.w_1.bias")[0],
        "conv_kernel": _shape(state, "encoders.0.conv_module.depthwise_conv.weight")[2],
    }


def _lip_conf(state: Mapping[str, Tensor], *, without_slopes: str) -> dict[str, Any]:
    return {
        "stem_channels": _shape(state, "frontend3D.0.weight")[0],
        "resnet_planes": [_shape(state, f"trunk.layer{stage}.0.bn1.bias")[0] for stage in range(1, 5)],
        "resnet_activation": "prelu" if "frontend3D.2.weight" in state else without_slopes,
    }


def _num_heads(dim: int) -> int:
    if dim % HEAD_DIM:  # weights do not tell how they are cut; a guess would load and give nonsense
        return 0
    return dim // HEAD_DIM


def check_heads(conf: Mapping[str, Any]) -> None:
    """Refuse keywords whose number of heads is still unknown.

    Raises:
        UsageError: A section of ``conf`` has 0 heads.
    """
    for section, keywords in conf.items():
        if isinstance(keywords, Mapping) and keywords.get("num_heads") == 0:
            what = f"the weights do not tell the number of heads of {section} (width {keywords.get('dim')})"
            usage_error(what, fix=f"pass --model_conf {section}.num_heads=N")


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def _count(pattern: str, state: Mapping[str, Tensor]) -> int:
    numbers = [int(match.group(1)) for match in (re.match(pattern, key) for key in state) if match]
    return 1 + max(numbers, default=-1)


def _shape(state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in state:
        first = ", ".join(list(state)[:3]) or "nothing"
        raise CheckpointError(f"the checkpoint has no '{name}', which tells a size; it holds {first}, ...")
    return tuple(state[name].shape)
