# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""auto_avsr checkpoints <-> ours: names of tensors and fields of configurations.

Published files hold the audio-visual model (``encoder`` for the lips, ``aux_encoder`` for the waveform, ``fusion``) or
one half of it, with its front end inside ``encoder`` or, in later files, beside it (``frontend``, ``proj_encoder``).
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from espnet_av.avsr.convert import PUBLISHED_PREFIX, ConversionReport, rename_tensors
from espnet_av.utils.errors import CheckpointError, usage_error

_PREFIXES = (PUBLISHED_PREFIX, "model.")
_LIP_STEM = "frontend.frontend3D."
_WAVE_STEM = "frontend.trunk.conv1."

_CONFORMER_FIELDS = {
    "adim": "dim",
    "aheads": "num_heads",
    "elayers": "num_layers",
    "eunits": "ffn_dim",
    "cnn_module_kernel": "conv_kernel",
}
# Field of the published configuration -> where our keywords hold it.
_CONFIG_FIELDS: dict[str, tuple[str, ...]] = {
    **{field: ("encoder_conf", key) for field, key in _CONFORMER_FIELDS.items()},
    **{f"aux_{field}": ("encoder_conf", "audio_conf", key) for field, key in _CONFORMER_FIELDS.items()},
    "fusion_hdim": ("encoder_conf", "fusion_dim"),
    "relu_type": ("encoder_conf", "resnet_activation"),
    "odim": ("vocab_size",),
    "ddim": ("decoder_conf", "dim"),
    "dheads": ("decoder_conf", "num_heads"),
    "dunits": ("decoder_conf", "ffn_dim"),
    "dlayers": ("decoder_conf", "num_layers"),
    "lsm_weight": ("label_smoothing",),
    "transformer_length_normalized_loss": ("length_normalized_loss",),
    "mtlalpha": ("ctc_weight",),
}
# Fields with one supported value.
_CONFIG_FIXED: dict[str, Any] = {
    "ctc_type": "builtin",
    "fusion_norm": "batchnorm",
    "macaron_style": 1,
    "aux_macaron_style": 1,
    "use_cnn_module": 1,
    "aux_use_cnn_module": 1,
    "a_upsample_ratio": 1,
    "aux_a_upsample_ratio": 1,
    "aux_relu_type": "swish",
    "zero_triu": False,
    "aux_zero_triu": False,
    "transformer_encoder_attn_layer_type": "rel_mha",
    "aux_transformer_encoder_attn_layer_type": "rel_mha",
    "transformer_input_layer": "conv3d",
    "aux_transformer_input_layer": "conv1d",
}
#: Fields that :func:`auto_avsr_config_to_keywords` takes.
KNOWN_FIELDS = frozenset((*_CONFIG_FIELDS, *_CONFIG_FIXED, "dropout_rate", "transformer_attn_dropout_rate"))


def auto_avsr_config_to_keywords(config: Mapping[str, Any]) -> dict[str, Any]:
    """Turn fields of a published configuration into keywords of :class:`~espnet_av.avsr.auto_avsr.AutoAVSRModel`.

    Args:
        config: Fields under auto_avsr's names; fields left out keep their default.

    Raises:
        UsageError: A field is unknown or has a value that is not supported.
    """
    keywords: dict[str, Any] = {"encoder_conf": {"audio_conf": {}}, "decoder_conf": {}}
    for name, value in config.items():
        if name == "dropout_rate":
            keywords["encoder_conf"]["dropout"] = keywords["decoder_conf"]["dropout"] = value
            keywords["ctc_dropout"] = value
        elif name == "transformer_attn_dropout_rate":
            keywords["encoder_conf"]["attention_dropout"] = keywords["decoder_conf"]["attention_dropout"] = value
        elif name in _CONFIG_FIELDS:
            *sections, key = _CONFIG_FIELDS[name]
            target = keywords
            for section in sections:
                target = target[section]
            target[key] = value
        elif name not in _CONFIG_FIXED:
            usage_error("unknown field of an auto_avsr configuration", got=name, allowed=sorted(_CONFIG_FIELDS))
        elif value != _CONFIG_FIXED[name]:
            usage_error(f"unsupported value of '{name}'", got=value, allowed=[_CONFIG_FIXED[name]])
    return keywords


def _without_prefix(key: str) -> str:
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    return key


def find_modality(state: Mapping[str, Tensor]) -> str:
    """Tell from the names of an auto_avsr state dict which streams the model takes: ``av``, ``audio`` or ``video``.

    Raises:
        CheckpointError: The names are of another model.
    """
    names = {_without_prefix(key) for key in state}
    if any(name.startswith("aux_encoder.") for name in names):
        return "av"
    for modality, stem in (("video", _LIP_STEM), ("audio", _WAVE_STEM)):
        if any(name.startswith((stem, f"encoder.{stem}")) for name in names):
            return modality
    first = next(iter(state), "nothing")
    raise CheckpointError(f"not an auto_avsr checkpoint: {len(names)} names, none of a front end, the first {first!r}")


def _our_roots(modality: str) -> tuple[tuple[str, str], ...]:
    """Prefixes of published names with ours, the first that fits counts."""
    ends = (("decoder.", "decoder."), ("ctc.", "ctc."), ("bridge.", "bridge."))
    if modality == "av":
        return (
            ("aux_encoder.", "encoder.audio."),
            ("encoder.", "encoder.video."),
            ("fusion.", "encoder.fusion."),
            *ends,
        )
    branch = f"encoder.{modality}."
    return (("encoder.", branch), ("frontend.", f"{branch}frontend."), ("proj_encoder.", f"{branch}embed.0."), *ends)


def from_auto_avsr(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ConversionReport]:
    """Rename an auto_avsr state dict to the keys of :class:`~espnet_av.avsr.auto_avsr.AutoAVSRModel`.

    A leading ``avsr.`` or ``model.`` may be there or not; see the module for the other forms that are accepted.

    Raises:
        CheckpointError: The file is of another model; unknown names are counted and the first is told.
    """
    roots = _our_roots(find_modality(state))
    strange = []

    def rename(key: str) -> tuple[str, str]:
        name = _without_prefix(key)
        for theirs, ours in roots:
            if name.startswith(theirs):
                name = ours + name.removeprefix(theirs)
                return re.sub(r"(conv_module\.pointwise_)conv([12]\.)", r"\1cov\2", name), ""
        strange.append(key)
        return name, ""

    result, report = rename_tensors(state, rename)
    if strange:
        counts = f"{len(strange)} of {len(result)} keys are unknown, the first being {strange[0]!r}"
        raise CheckpointError(f"not an auto_avsr checkpoint: {counts}")
    return result, report


def to_auto_avsr(state: Mapping[str, Tensor], *, prefix: str = "") -> dict[str, Tensor]:
    """Rename our state dict to the published names (the inverse of :func:`from_auto_avsr`).

    Args:
        state: That of :class:`~espnet_av.avsr.auto_avsr.AutoAVSRModel`.
        prefix: Put before each name; published files have none, models that hold the recogniser as a part ``avsr.``.
    """
    branches = {modality for modality in ("audio", "video") if any(k.startswith(f"encoder.{modality}.") for k in state)}
    modality = "av" if len(branches) == 2 else branches.pop()
    result = {}
    for key, tensor in state.items():
        theirs, ours = next(pair for pair in _our_roots(modality) if key.startswith(pair[1]))
        result[prefix + theirs + key.removeprefix(ours)] = tensor
    return result
