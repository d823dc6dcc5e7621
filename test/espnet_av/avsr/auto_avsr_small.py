# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The smallest conformer recogniser, for tests."""

from typing import Any

import torch

from espnet_av.avsr.auto_avsr import AutoAVSRModel

CONF: dict[str, Any] = {
    "encoder_conf": {
        "dim": 8,
        "num_layers": 1,
        "num_heads": 2,
        "ffn_dim": 12,
        "conv_kernel": 5,
        "fusion_dim": 10,
        "stem_channels": 3,
        "resnet_planes": [3, 4, 5, 6],
        "audio_channels": 3,
        "audio_planes": [3, 4, 5, 6],
        "video_pool": 4,
    },
    "decoder_conf": {"num_layers": 1, "num_heads": 2, "ffn_dim": 12},
}


def make_auto_avsr(vocab_size: int = 9, **encoder: Any) -> AutoAVSRModel:
    """Build the model with statistics that differ from the initial ones; keywords go to the encoder."""
    torch.manual_seed(0)
    model = AutoAVSRModel(vocab_size, **{**CONF, "encoder_conf": {**CONF["encoder_conf"], **encoder}})
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return model
