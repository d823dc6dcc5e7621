# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Names of tensors in published checkpoints of the codec <-> ours.

Ours are the published ones (``codec.generator.*``, ``codec.discriminator.*``) without constants. Files of torch before
2.1 call the two parts of a normed weight ``weight_g`` and ``weight_v``.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from espnet_av.codec.model import CODEC_PREFIX
from espnet_av.layers.mel_filters import mel_filters
from espnet_av.train.conversion import ConversionReport, rename_tensors
from espnet_av.utils.errors import CheckpointError, describe

NETWORKS = ("generator.", "discriminator.")
ENCODER = f"{CODEC_PREFIX}generator.encoder."
#: Gain and direction of a normed weight: names of torch before 2.1 -> today's.
NORMS = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
#: Constants that published files hold and ours compute: the mel filters of the loss, by their size of frames.
MEL_CONSTANTS = {f"{CODEC_PREFIX}mel_loss.mel_loss.{i}.wav_to_mel.logmel.melmat": 64 * 2**i for i in range(5)}
PUBLISHED_RATE, MEL_BANDS = 24000, {64: 10, 128: 20, 256: 40, 512: 80, 1024: 160}


def from_published(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ConversionReport]:
    """Turn a published state dict into that of a training of ours.

    ``module.`` before the names, a missing ``codec.``, files without a discriminator and the names of older torch are
    understood.

    Raises:
        CheckpointError: It is of another network.
    """

    def rename(key: str) -> tuple[str | None, str]:
        name = key.removeprefix("module.").removeprefix(CODEC_PREFIX)
        if name.startswith("mel_loss."):
            return None, "mel filters of the loss, computed when needed"
        if name.startswith("semantic_loss."):
            return None, "speech model of the semantic loss, not trained here"
        for old, new in NORMS.items():
            name = re.sub(rf"\.{old}$", f".{new}", name)
        return (CODEC_PREFIX + name if name.startswith(NETWORKS) else name), ""

    result, report = rename_tensors(state, rename)
    if not any(key.startswith(ENCODER) for key in result):
        first = next(iter(result), None)
        raise CheckpointError(describe("not a checkpoint of the codec", got=first, allowed=f"names below {ENCODER}"))
    return result, report


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn a state dict of ours into a published one, constants included (the inverse of :func:`from_published`).

    The constants stand at the end, and only beside a discriminator: the codec alone needs none.
    """
    result = dict(state)
    if any(name.startswith(f"{CODEC_PREFIX}discriminator.") for name in state):
        for name, n_fft in MEL_CONSTANTS.items():
            result[name] = mel_filters(PUBLISHED_RATE, n_fft, MEL_BANDS[n_fft])
    return result
