# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""wav2vec 2.0 with a CTC head of 29 labels: the network of torchaudio, filled from a file on this machine.

Axes: ``B`` batch, ``N`` samples at 16 kHz, ``T`` token frames, ``K`` labels.

Reference:
    A. Baevski et al., "wav2vec 2.0: a framework for self-supervised learning of speech representations",
    arXiv:2006.11477.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from espnet_av.avgen.token_labels import NUM_LABELS
from espnet_av.avgen.vocoder_parts import own_names
from espnet_av.train.loading import load_into, load_weights
from espnet_av.utils.errors import CheckpointError, MissingDataError, describe, usage_error

#: File that torchaudio keeps when it has fetched WAV2VEC2_ASR_BASE_960H.
TORCHAUDIO_FILE = "wav2vec2_fairseq_base_ls960_asr_ls960.pth"
FIRST_STRIDE, STRIDE = 5, 2
HEAD_WIDTH = 64  # of attention in all published sizes
EXTRA_ROWS = slice(1, 4)  # of the published head: begin, end and unknown, which the labels leave out
FOLDER_FILES = ("model.safetensors", "pytorch_model.bin", TORCHAUDIO_FILE)
#: Beginnings of names in the files of the transformers package, and ours.
_HUB_NAMES = (
    ("wav2vec2.feature_extractor.", "feature_extractor."),
    ("wav2vec2.feature_projection.", "encoder.feature_projection."),
    ("wav2vec2.encoder.", "encoder.transformer."),
    ("lm_head.", "aux."),
)


class Wav2Vec2Tokens(nn.Module):
    """The recogniser's logits as tokens.

    Args:
        network: ``torchaudio.models.Wav2Vec2Model`` with a head of 29 labels.
    """

    reach = None  # a frame depends on the whole recording

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, wav: Tensor) -> Tensor:
        """Return logits ``(B, T, K)`` of sound ``(B, N)`` in [-1, 1]."""
        return self.network(wav)[0]


def own_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a published file under torchaudio's names, with 29 rows in the head.

    Args:
        state: Tensors of a file of torchaudio or of the transformers package.

    Raises:
        CheckpointError: The head is neither of 29 nor of 32 rows, or there is none.
    """
    state = dict(own_names(state))
    if any(name.startswith("wav2vec2.") for name in state):
        state.pop("wav2vec2.masked_spec_embed", None)
        state = {_renamed(name): tensor for name, tensor in state.items()}
    for name in ("aux.weight", "aux.bias"):
        if name not in state:
            fix = "take the fine-tuned model, e.g. WAV2VEC2_ASR_BASE_960H"
            raise CheckpointError(describe("this wav2vec 2.0 has no head of labels", name, fix=fix))
        rows = len(state[name])
        if rows == NUM_LABELS + 3:
            kept = [row for row in range(rows) if row not in range(rows)[EXTRA_ROWS]]
            state[name] = state[name][kept]
        elif rows != NUM_LABELS:
            raise CheckpointError(describe("the head of this wav2vec 2.0 has other labels", rows, [29, 32]))
    return state


def _renamed(name: str) -> str:
    for old, new in _HUB_NAMES:
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def infer_sizes(state: Mapping[str, Tensor], num_heads: int | None = None) -> dict[str, Any]:
    """Return the keywords of ``torchaudio.models.wav2vec2_model`` that fit a state dict.

    Args:
        state: Tensors under torchaudio's names.
        num_heads: Heads of attention, which no tensor tells; None: heads of 64 channels, as published.

    Raises:
        CheckpointError: The tensors are of another network.
        UsageError: The width cannot be shared among the heads.
    """
    convolutions: list[list[int]] = []
    while (name := f"feature_extractor.conv_layers.{len(convolutions)}.conv.weight") in state:
        stride = STRIDE if convolutions else FIRST_STRIDE
        convolutions.append([state[name].shape[0], state[name].shape[2], stride])
    direction = "encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original1"
    if not convolutions or direction not in state:
        raise CheckpointError(describe("these are no weights of wav2vec 2.0", sorted(state)[:3]))
    width, group, kernel = state[direction].shape
    heads = num_heads or width // HEAD_WIDTH
    if heads < 1 or width % heads:
        usage_error("num_heads does not fit the width", heads, f"a divisor of {width}")
    layer_norm = "feature_extractor.conv_layers.1.layer_norm.weight" in state
    layers = {
        int(found[1]) for found in map(re.compile(r"encoder\.transformer\.layers\.(\d+)\.").match, state) if found
    }
    return {
        "extractor_mode": "layer_norm" if layer_norm else "group_norm",
        "extractor_conv_layer_config": [tuple(each) for each in convolutions],
        "extractor_conv_bias": "feature_extractor.conv_layers.0.conv.bias" in state,
        "encoder_embed_dim": width,
        "encoder_pos_conv_kernel": kernel,
        "encoder_pos_conv_groups": width // group,
        "encoder_num_layers": len(layers),
        "encoder_num_heads": heads,
        "encoder_ff_interm_features": len(state["encoder.transformer.layers.0.feed_forward.intermediate_dense.weight"]),
        "encoder_layer_norm_first": layer_norm,
        "aux_num_out": len(state["aux.weight"]),
    }


def build_wav2vec2(sizes: Mapping[str, Any]) -> nn.Module:
    """Return torchaudio's network without dropout, which tokens never need."""
    import torchaudio

    dropped = ("encoder_projection_dropout", "encoder_attention_dropout", "encoder_ff_interm_dropout")
    off = dict.fromkeys((*dropped, "encoder_dropout", "encoder_layer_drop"), 0.0)
    return torchaudio.models.wav2vec2_model(**off, **sizes)


def load_wav2vec2(source: str | os.PathLike = "wav2vec2", num_heads: int | None = None) -> Wav2Vec2Tokens:
    """Load the recogniser.

    Args:
        source: A file of torchaudio or of the transformers package, a folder that holds one, or ``"wav2vec2"``: the
            file that torchaudio has fetched before. Nothing is downloaded.
        num_heads: See :func:`infer_sizes`.

    Raises:
        MissingDataError: There is no such file.
        CheckpointError: Its weights cannot be used.
    """
    path = find_file(source)
    state = own_state(load_weights(path))
    network = build_wav2vec2(infer_sizes(state, num_heads))
    load_into(network, state, strict=True, source=str(path))
    return Wav2Vec2Tokens(network.eval())


def find_file(source: str | os.PathLike) -> Path:
    """Return the file that :func:`load_wav2vec2` reads.

    Raises:
        MissingDataError: There is none.
    """
    path = Path(torch.hub.get_dir(), "checkpoints", TORCHAUDIO_FILE) if str(source) == "wav2vec2" else Path(source)
    if path.is_dir():
        path = next((path / name for name in FOLDER_FILES if (path / name).is_file()), path / FOLDER_FILES[0])
    if not path.is_file():
        fix = "fetch torchaudio's WAV2VEC2_ASR_BASE_960H once, or train the small token model (stage 4)"
        raise MissingDataError(describe("no weights of wav2vec 2.0", str(path), fix=fix))
    return path
