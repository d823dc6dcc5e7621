# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A codec of some kilobytes and its ONNX graphs, for tests."""

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


def make_codec(**conf: object) -> Codec:
    """Return a codec with random weights; without keywords one that looks ahead."""
    torch.manual_seed(0)
    generator = CodecGenerator(**(conf or CONF))
    for parameter in generator.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    for layer in generator.quantizer.layers:
        layer._codebook.embed.normal_(0, 0.3)
        layer._codebook.inited.fill_(1)
    return Codec(generator)


def make_graphs(folder: Path) -> dict[str, Path]:
    """Write the graphs; return them by name."""
    return export_onnx(make_codec().folded, folder)
