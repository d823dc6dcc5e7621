# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from espnet_av.layers.lip_shufflenet import WIDTHS, LipShuffleNet, ShuffleUnit
from espnet_av.utils.errors import UsageError


def test_first_half_passes_a_unit_and_channels_are_interleaved():
    unit = ShuffleUnit(6, 6, stride=1).eval()
    x = torch.randn(2, 6, 4, 4)
    y = unit(x)
    assert torch.equal(y[:, ::2], x[:, :3])
    torch.testing.assert_close(y[:, 1::2], unit.banch2(x[:, 3:]))
    assert unit.banch1 is None and ShuffleUnit(6, 10, stride=2)(x).shape == (2, 10, 2, 2)


@pytest.mark.parametrize("width", sorted(WIDTHS))
def test_widths(width):
    with torch.device("meta"):
        net = LipShuffleNet(width=width)
    assert net.output_size == (2048 if width == 2.0 else 1024)
    assert net.trunk[0][4].banch2[5].weight.shape[0] == WIDTHS[width][1] // 2
    with pytest.raises(UsageError, match="no such width; got 0.9; allowed: 0.5, 1.0, 1.5, 2.0"):
        LipShuffleNet(width=0.9)


def test_frames_of_88_pixels_end_as_3_by_3():
    net = LipShuffleNet(width=0.5).eval()
    shapes = []
    net.trunk.register_forward_hook(lambda module, args, output: shapes.append(tuple(output.shape)))
    assert net(torch.randn(1, 2, 88, 88)).shape == (2, 1024)
    assert shapes == [(2, 1024, 3, 3)]
