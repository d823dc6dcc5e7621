# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A tiny recogniser and inputs for it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from espnet_av.avsr.model import AVSRModel

ENCODER = {
    "dim": 16,
    "num_layers": 2,
    "num_heads": 2,
    "ffn_dim": 24,
    "conv_pos": 6,
    "conv_pos_groups": 4,
    "stem_channels": 3,
    "resnet_planes": (3, 4, 5, 6),
    "num_classes": 0,
    "video_pool": 4,
}
DECODER = {"num_layers": 2, "num_heads": 2, "ffn_dim": 20}


@pytest.fixture
def make_model() -> Callable[..., AVSRModel]:
    """Return a builder of tiny models; keywords go to the encoder, ``model`` and ``decoder`` hold the others'."""

    def make(
        vocab_size: int = 9, model: dict[str, Any] | None = None, decoder: dict[str, Any] | None = None, **encoder: Any
    ) -> AVSRModel:
        torch.manual_seed(0)
        confs = {"encoder_conf": {**ENCODER, **encoder}, "decoder_conf": {**DECODER, **(decoder or {})}}
        built = AVSRModel(vocab_size, **confs, **(model or {}))
        with torch.no_grad():  # statistics and slopes that differ from the initial ones
            for name, buffer in built.named_buffers():
                if name.endswith("running_mean"):
                    buffer.normal_(std=0.1)
                elif name.endswith("running_var"):
                    buffer.uniform_(0.5, 1.5)
        return built

    make.encoder, make.decoder = ENCODER, DECODER
    return make


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Return loader output for two clips of 7 and 4 frames; what lies beyond the lengths is not zero."""
    generator = torch.Generator().manual_seed(1)
    return {
        "speech": torch.rand(2, 7 * 640, generator=generator) - 0.5,
        "speech_lengths": torch.tensor([7 * 640, 4 * 640]),
        "video": torch.randint(0, 256, (2, 7, 88, 88), generator=generator, dtype=torch.uint8),
        "video_lengths": torch.tensor([7, 4]),
        "labels": torch.tensor([[2, 3, 3], [4, 2, -1]]),
    }
