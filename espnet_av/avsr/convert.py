# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Published checkpoints <-> ours.

AVSRCocktail (state dict under ``avsr.``) and AV-HuBERT (fairseq names, encoder only). Every tensor is accounted for:
what is renamed, what is dropped and why, and nothing is skipped in silence.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from espnet_av.train.conversion import ConversionReport, load_strictly, rename_tensors
from espnet_av.utils.errors import CheckpointError, usage_error

PUBLISHED_PREFIX = "avsr."
FINETUNED_PREFIX = "encoder.w2v_model."
#: Parts of a recogniser; published ones have the first three.
MODEL_PARTS = ("encoder", "decoder", "ctc", "bridge", "audio_prediction")

# Field of the published configuration -> where our keywords hold it.
_CONFIG_FIELDS: dict[str, tuple[str, ...]] = {
    "odim": ("vocab_size",),
    "ddim": ("decoder_conf", "dim"),
    "dheads": ("decoder_conf", "num_heads"),
    "dunits": ("decoder_conf", "ffn_dim"),
    "dlayers": ("decoder_conf", "num_layers"),
    "transformer_attn_dropout_rate": ("decoder_conf", "attention_dropout"),
    "lsm_weight": ("label_smoothing",),
    "transformer_length_normalized_loss": ("length_normalized_loss",),
    "mtlalpha": ("ctc_weight",),
    "hidden_size": ("encoder_conf", "dim"),
    "num_hidden_layers": ("encoder_conf", "num_layers"),
    "num_attention_heads": ("encoder_conf", "num_heads"),
    "intermediate_size": ("encoder_conf", "ffn_dim"),
    "hidden_dropout": ("encoder_conf", "dropout"),
    "attention_dropout": ("encoder_conf", "attention_dropout"),
    "activation_dropout": ("encoder_conf", "activation_dropout"),
    "layerdrop": ("encoder_conf", "layerdrop"),
    "layer_norm_eps": ("encoder_conf", "layer_norm_eps"),
    "num_conv_pos_embeddings": ("encoder_conf", "conv_pos"),
    "num_conv_pos_embedding_groups": ("encoder_conf", "conv_pos_groups"),
    "audio_feat_dim": ("encoder_conf", "audio_dim"),
    "modality_fuse": ("encoder_conf", "fuse"),
    "modality": ("encoder_conf", "modality"),
    "modality_dropout": ("encoder_conf", "modality_dropout"),
    "audio_dropout": ("encoder_conf", "audio_dropout"),
    "dropout_input": ("encoder_conf", "input_dropout"),
    "feature_grad_mult": ("encoder_conf", "feature_grad_mult"),
    "resnet_relu_type": ("encoder_conf", "resnet_activation"),
    "num_classes": ("encoder_conf", "num_classes"),
    "final_dim": ("encoder_conf", "label_dim"),
}
# Fields with one supported value, and fields that repeat another one.
_CONFIG_FIXED: dict[str, Any] = {
    "ctc_type": "builtin",
    "hidden_act": "gelu",
    "sub_encoder_layers": 0,
    "masking_type": "input",
    "model_type": "speech_to_text",
    "feat_extract_activation": "gelu",
    "label_rate": 25,
    "sample_rate": 25,
}
_CONFIG_REPEATED = {"adim": "hidden_size", "encoder_embed_dim": "hidden_size"}
#: Fields that :func:`config_to_keywords` takes.
KNOWN_FIELDS = frozenset((*_CONFIG_FIELDS, *_CONFIG_FIXED, *_CONFIG_REPEATED, "dropout_rate"))


def config_to_keywords(config: Mapping[str, Any]) -> dict[str, Any]:
    """Turn fields of a published configuration into keywords of :class:`~espnet_av.avsr.model.AVSRModel`.

    Args:
        config: Fields as in the checkpoint's ``config.json``; fields left out keep their default.

    Raises:
        UsageError: A field is unknown, contradicts another, or has a value that is not supported.
    """
    keywords: dict[str, Any] = {"encoder_conf": {}, "decoder_conf": {}}
    for name, value in config.items():
        if name == "dropout_rate":  # decoder and CTC share it
            keywords["decoder_conf"]["dropout"] = keywords["ctc_dropout"] = value
        elif name in _CONFIG_FIELDS:
            *section, key = _CONFIG_FIELDS[name]
            target = keywords[section[0]] if section else keywords
            target[key] = value
        elif name in _CONFIG_REPEATED:
            same = config.get(_CONFIG_REPEATED[name], value)
            if value != same:
                usage_error(f"'{name}' must equal '{_CONFIG_REPEATED[name]}'", got=value, allowed=[same])
        elif name not in _CONFIG_FIXED:
            usage_error("unknown field of a published configuration", got=name, allowed=sorted(_CONFIG_FIELDS))
        elif value != _CONFIG_FIXED[name]:
            usage_error(f"unsupported value of '{name}'", got=value, allowed=[_CONFIG_FIXED[name]])
    return keywords


def _modern_weight_norm(key: str) -> str:
    key = re.sub(r"(pos_conv_embed\.conv)\.weight_g$", r"\1.parametrizations.weight.original0", key)
    return re.sub(r"(pos_conv_embed\.conv)\.weight_v$", r"\1.parametrizations.weight.original1", key)


def from_published(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ConversionReport]:
    """Rename an AVSRCocktail state dict to the keys of :class:`~espnet_av.avsr.model.AVSRModel`.

    The leading ``avsr.`` may be there or not; ``weight_g`` and ``weight_v`` of older files are accepted.

    Raises:
        CheckpointError: Keys outside :data:`MODEL_PARTS`.
    """

    def rename(key: str) -> tuple[str, str]:
        return _modern_weight_norm(key.removeprefix(PUBLISHED_PREFIX)), ""

    result, report = rename_tensors(state, rename)
    strange = [key for key in result if key.split(".", 1)[0] not in MODEL_PARTS]
    if strange:
        counts = f"{len(strange)} of {len(result)} keys are unknown, the first being {strange[0]!r}"
        raise CheckpointError(f"not an AVSRCocktail checkpoint: {counts}")
    return result, report


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename our state dict to the published keys (the inverse of :func:`from_published`)."""
    return {PUBLISHED_PREFIX + key: tensor for key, tensor in state.items()}


_AVHUBERT_RULES = (
    (r"^encoder\.pos_conv\.0\.", "encoder.pos_conv_embed.conv."),
    (r"^(encoder\.layers\.\d+)\.self_attn\.", r"\1.attention."),
    (r"^(encoder\.layers\.\d+)\.self_attn_layer_norm\.", r"\1.layer_norm."),
    (r"^(encoder\.layers\.\d+)\.fc1\.", r"\1.feed_forward.intermediate_dense."),
    (r"^(encoder\.layers\.\d+)\.fc2\.", r"\1.feed_forward.output_dense."),
)


def from_avhubert(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ConversionReport]:
    """Rename the ``model`` state dict of an AV-HuBERT (fairseq) file to the keys of ``AVHubertEncoder``.

    Pre-trained files hold the encoder at the root, fine-tuned ones under ``encoder.w2v_model.`` beside their own
    decoder. ``final_proj`` and everything of that decoder is dropped, with the reason in the report.
    """
    finetuned = any(key.startswith(FINETUNED_PREFIX) for key in state)

    def rename(key: str) -> tuple[str | None, str]:
        if finetuned and not key.startswith(FINETUNED_PREFIX):
            return None, "belongs to the fine-tuned model's own output layers"
        key = key.removeprefix(FINETUNED_PREFIX) if finetuned else key
        if key.startswith("final_proj."):
            return None, "pre-training head"
        for pattern, replacement in _AVHUBERT_RULES:
            key = re.sub(pattern, replacement, key)
        return _modern_weight_norm(key), ""

    return rename_tensors(state, rename)


_TO_AVHUBERT_RULES = (
    (r"^(encoder\.layers\.\d+)\.layer_norm\.", r"\1.self_attn_layer_norm."),
    (r"^(encoder\.layers\.\d+)\.attention\.", r"\1.self_attn."),
    (r"^(encoder\.layers\.\d+)\.feed_forward\.intermediate_dense\.", r"\1.fc1."),
    (r"^(encoder\.layers\.\d+)\.feed_forward\.output_dense\.", r"\1.fc2."),
    (r"^encoder\.pos_conv_embed\.conv\.parametrizations\.weight\.original0$", "encoder.pos_conv.0.weight_g"),
    (r"^encoder\.pos_conv_embed\.conv\.parametrizations\.weight\.original1$", "encoder.pos_conv.0.weight_v"),
    (r"^encoder\.pos_conv_embed\.conv\.", "encoder.pos_conv.0."),
)


def to_avhubert(state: Mapping[str, Tensor], *, finetuned: bool = False) -> dict[str, Tensor]:
    """Rename the state dict of ``AVHubertEncoder`` to fairseq's names (the inverse of :func:`from_avhubert`).

    Args:
        state: Names of the encoder, without ``encoder.`` of the whole recogniser.
        finetuned: Put the names below ``encoder.w2v_model.``, as fine-tuned files have them.
    """
    result = {}
    for key, tensor in state.items():
        for pattern, replacement in _TO_AVHUBERT_RULES:
            key = re.sub(pattern, replacement, key)
        result[(FINETUNED_PREFIX if finetuned else "") + key] = tensor
    return result


def load_published(model: nn.Module, state: Mapping[str, Tensor]) -> ConversionReport:
    """Load an AVSRCocktail state dict strictly into :class:`~espnet_av.avsr.model.AVSRModel`.

    Raises:
        CheckpointError: A tensor is missing, left over or of another shape; the message counts and names them.
    """
    converted, report = from_published(state)
    load_strictly(model, converted)
    return report
