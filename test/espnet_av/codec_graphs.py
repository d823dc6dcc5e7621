# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The ONNX graphs of a codec of some kilobytes, for tests."""

from pathlib import Path

import torch

from espnet_av.codec.generator import CodecGenerator
from espnet_av.codec.inference import Codec
from espnet_av.codec.onnx_export import export_onnx

UNIT = {"kernel_sizes": [3, 1], "dilations": [2, 1]}
AHEAD = {"kernel_sizes": [3, 3], "dilations": [3, 1], "causal": [False, False]}
CONF = {
    "latent_dim": 8,
    "encoder_conf": {"channels": [4, 4], "strides": [2, 2], "units": [[AHEAD], [UNIT]]},
    "decoder_conf": {"channels": [4, 4], "strides": [2, 2], "units": [[UNIT], [AHEAD]]},
    "quantizer_conf": {"num_quantizers": 2, "codebook_size": 16, "codebook_dim": 4},
    "bitrates": [8.0, 16.0],
}


def make_codec() -> Codec:
    """Return a codec that looks ahead, with random weights."""
    torch.manual_seed(0)
    generator = CodecGenerator(**CONF)
    for parameter in generator.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    for layer in generator.quantizer.layers:
        layer._codebook.embed.normal_(0, 0.3)
        layer._codebook.inited.fill_(1)
    return Codec(generator)


def make_graphs(folder: Path) -> dict[str, Path]:
    """Write the graphs; return them by name."""
    return export_onnx(make_codec().folded, folder)
