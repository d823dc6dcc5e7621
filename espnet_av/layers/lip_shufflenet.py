# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The small lip-reading network: the stem of :mod:`espnet_av.layers.lip_trunk` and a ShuffleNetV2 on each frame.

Ma et al., "ShuffleNet V2: practical guidelines for efficient CNN architecture design" (ECCV 2018), figure 3 (c, d) and
table 5; as the front end of lip reading in Ma et al., "Towards practical lipreading with distilled and efficient
models" (ICASSP 2021). Names of parameters are those of the published checkpoints (``banch1``, ``banch2``).

Axes: ``M`` frames, ``C`` channels, ``h``/``w`` positions.
"""

import torch
from torch import Tensor, nn

from espnet_av.layers.lip_trunk import LIP_CHUNK, LipTrunk
from espnet_av.utils.errors import usage_error

STEM_CHANNELS = 24
REPEATS = (4, 8, 4)
#: Width -> channels of the three stages and of the last convolution.
WIDTHS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (224, 488, 976, 2048),
}


def _pointwise(in_channels: int, channels: int) -> list[nn.Module]:
    return [nn.Conv2d(in_channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def _depthwise(channels: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False), nn.BatchNorm2d(channels)]


class ShuffleUnit(nn.Module):
    """Two branches whose channels are interleaved.

    With stride 1 the first half of the channels passes and the second half goes through ``banch2``; with stride 2 both
    branches see all channels.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output, even.
        stride: 1 or 2.
    """

    def __init__(self, in_channels: int, channels: int, *, stride: int) -> None:
        super().__init__()
        half = channels // 2
        self.banch1 = None
        if stride == 2:
            self.banch1 = nn.Sequential(*_depthwise(in_channels, stride), *_pointwise(in_channels, half))
        self.banch2 = nn.Sequential(
            *_pointwise(in_channels if stride == 2 else half, half), *_depthwise(half, stride), *_pointwise(half, half)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(M, in_channels, h, w)`` -> ``(M, channels, h / stride, w / stride)``."""
        if self.banch1 is None:
            passed, rest = x.chunk(2, dim=1)
        else:
            passed, rest = self.banch1(x), x
        return torch.stack((passed, self.banch2(rest)), dim=2).flatten(1, 2)  # channels: 1st, 1st, 2nd, 2nd, ...


class LipShuffleNet(LipTrunk):
    """Stem and ShuffleNetV2.

    Args:
        width: 0.5, 1.0, 1.5 or 2.0.
        activation: Of the stem, see :func:`~espnet_av.layers.lip_trunk.make_activation`; the trunk has ReLU.
        chunk: See :class:`~espnet_av.layers.lip_trunk.LipTrunk`.

    Raises:
        UsageError: There is no such width.
    """

    def __init__(self, *, width: float = 1.0, activation: str = "prelu", chunk: int = LIP_CHUNK) -> None:
        super().__init__(stem_channels=STEM_CHANNELS, activation=activation, chunk=chunk)
        if width not in WIDTHS:
            usage_error("ShuffleNetV2 has no such width", got=width, allowed=list(WIDTHS))
        *stages, last = WIDTHS[width]
        units, channels = [], STEM_CHANNELS
        for stage, repeats in zip(stages, REPEATS, strict=True):
            for index in range(repeats):
                units.append(ShuffleUnit(channels, stage, stride=2 if index == 0 else 1))
                channels = stage
        self.trunk = nn.Sequential(nn.Sequential(*units), nn.Sequential(*_pointwise(channels, last)))
        self.output_size = last
        self.reset_convolutions()
