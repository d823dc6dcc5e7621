# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Published sizes of the recognisers as keywords, for YAML files, conversion and tests.

``PRESETS["avhubert_base"].model_conf`` is what ``model_conf:`` of a configuration would hold, ``model`` what ``model:``
would. Parameters are counted with 5049 token ids.
"""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from espnet_av.avsr.choices import get_model_class
from espnet_av.utils.errors import usage_error

if TYPE_CHECKING:
    from espnet_av.avsr.model import AVSRModel

PUBLISHED_VOCAB_SIZE = 5049

_LARGE = {"dim": 1024, "num_layers": 24, "num_heads": 16, "ffn_dim": 4096}
_BASE = {"dim": 768, "num_layers": 12, "num_heads": 12, "ffn_dim": 3072}
_CONFORMER = {"dim": 768, "num_layers": 12, "num_heads": 12, "ffn_dim": 3072, "conv_kernel": 31}
_WIDE_DECODER = {"num_layers": 6, "num_heads": 16, "ffn_dim": 3072}
_DECODER = {"num_layers": 6, "num_heads": 12, "ffn_dim": 3072}


@dataclass(frozen=True)
class Preset:
    """One published size.

    Attributes:
        model: The name that ``model:`` takes.
        model_conf: Keywords of the network, without the size of the vocabulary.
        num_parameters: Parameters of the whole recogniser with 5049 token ids.
        about: What it is.
    """

    model: str
    model_conf: dict[str, Any]
    num_parameters: int
    about: str


def _avhubert(encoder: dict[str, Any], decoder: dict[str, Any], num_parameters: int, about: str) -> Preset:
    return Preset("avsr", {"encoder_conf": dict(encoder), "decoder_conf": dict(decoder)}, num_parameters, about)


def _auto_avsr(modality: str, num_parameters: int, about: str) -> Preset:
    encoder = {**_CONFORMER, "modality": modality, **({"fusion_dim": 8192} if modality == "av" else {})}
    return Preset("auto_avsr", {"encoder_conf": encoder, "decoder_conf": dict(_DECODER)}, num_parameters, about)


PRESETS: dict[str, Preset] = {
    "avsrcocktail": _avhubert(_LARGE, _WIDE_DECODER, 428_849_754, "AVSRCocktail: AV-HuBERT large, sound and lips"),
    "avsrcocktail_audio": _avhubert(
        {**_LARGE, "modality": "audio"}, _WIDE_DECODER, 428_849_754, "the same, trained and asked for sound alone"
    ),
    "avsrcocktail_video": _avhubert(
        {**_LARGE, "modality": "video"}, _WIDE_DECODER, 428_849_754, "the same, trained and asked for lips alone"
    ),
    "avhubert_large": _avhubert(_LARGE, _WIDE_DECODER, 428_849_754, "AV-HuBERT large with a new decoder"),
    "avhubert_base": _avhubert(_BASE, _DECODER, 171_488_602, "AV-HuBERT base with a new decoder"),
    "auto_avsr": _auto_avsr("av", 443_977_138, "auto_avsr, conformers over sound and lips"),
    "auto_avsr_audio": _auto_avsr("audio", 243_049_202, "auto_avsr's recogniser of sound"),
    "auto_avsr_video": _auto_avsr("video", 250_383_410, "auto_avsr's recogniser of lips"),
}

#: Published recognisers that are not offered, and why.
NOT_OFFERED = {
    "muavic_en": (
        "its decoder is a text generator of the transformers library with token ids of its own, and there is neither "
        "a list of its tensors nor a reference output here to check a conversion against"
    ),
}


def get_preset(name: str) -> Preset:
    """Return a preset; what it holds may be changed by the caller.

    Raises:
        UsageError: The name is unknown, or of a model that is not offered.
    """
    if name in NOT_OFFERED:
        refuse_model(name)
    if name not in PRESETS:
        usage_error("unknown preset", got=name, allowed=list(PRESETS))
    return copy.deepcopy(PRESETS[name])


def build_preset(name: str, vocab_size: int = PUBLISHED_VOCAB_SIZE, **model_conf: Any) -> "AVSRModel":
    """Build the network of a preset with new weights.

    Args:
        name: A key of :data:`PRESETS`.
        vocab_size: Number of token ids.
        **model_conf: Keywords of the network; a section (``encoder_conf``, ``decoder_conf``) changes the keys it has.
    """
    preset = get_preset(name)
    for key, value in model_conf.items():
        merge = isinstance(value, dict) and isinstance(preset.model_conf.get(key), dict)
        preset.model_conf[key] = {**preset.model_conf[key], **value} if merge else value
    return get_model_class(preset.model)(vocab_size=vocab_size, **preset.model_conf)


def refuse_model(name: str) -> NoReturn:
    """Say why a published recogniser is not offered, and what to use instead.

    Raises:
        UsageError: Always.
    """
    usage_error(
        f"the model '{name}' cannot be run: {NOT_OFFERED[name]}",
        allowed=["avsr_cocktail", "auto_avsr"],
        fix="use avsr_cocktail, whose encoder is the same; muavic_en itself runs in the original repository",
    )
