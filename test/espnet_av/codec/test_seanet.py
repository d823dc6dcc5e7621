# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Convolutions of the codec: lengths, looks ahead, and sizes that do not fit."""

import math

import pytest
import torch

from espnet_av.codec.choices import complete_conf
from espnet_av.codec.presets import TINY
from espnet_av.codec.seanet import Conv1d, Decoder, Encoder, ResidualUnit, UnitSpec, Upsample
from espnet_av.utils.errors import UsageError


def look_ahead(module: torch.nn.Module, channels: int, length: int = 80, at: int = 40) -> int:
    """Return how many steps after ``at`` its output there depends on."""
    x = torch.randn(1, channels, length, requires_grad=True)
    module(x)[0, :, at].sum().backward()
    return int(x.grad.abs().sum((0, 1)).nonzero().max()) - at


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("causal", [True, False])
def test_output_lengths(stride, causal):
    layer = Conv1d(1, 2, 2 * stride, stride=stride, causal=causal)
    for length in range(1, 23):
        assert layer(torch.randn(1, 1, length)).shape[-1] == math.ceil(length / stride)


@pytest.mark.parametrize(("kernel", "dilation"), [(5, 3), (3, 1), (7, 2), (4, 1)])
def test_right_context_is_what_gradients_show(kernel, dilation):
    for causal in (True, False):
        layer = Conv1d(2, 3, kernel, dilation=dilation, causal=causal)
        span = (kernel - 1) * dilation
        assert layer.right_context == (0 if causal else span // 2) == look_ahead(layer, 2)
        assert layer.left_padding + layer.right_context == span


def test_residual_unit():
    unit = ResidualUnit(3, (5, 3), (3, 1), (False, False))
    assert unit.right_context == 7 == look_ahead(unit, 3)
    assert ResidualUnit(3, (5, 3), (3, 1)).right_context == 0 == look_ahead(ResidualUnit(3, (5, 3), (3, 1)), 3)
    with torch.no_grad():
        unit.block[3].layer.parametrizations.weight.original0.zero_()
        unit.block[3].layer.bias.zero_()
    x = torch.randn(2, 3, 9)
    assert torch.equal(unit(x), x)


def test_upsampling_steps_do_not_overlap():
    layer = Upsample(2, 3, 4)
    x = torch.randn(1, 2, 5)
    whole = layer(x)
    assert whole.shape == (1, 3, 20)
    parts = torch.cat([layer(x[..., i : i + 1]) for i in range(5)], dim=-1)
    torch.testing.assert_close(whole, parts)


def test_encoder_and_decoder_lengths():
    encoder, decoder = Encoder(5, **TINY["encoder_conf"]), Decoder(5, **TINY["decoder_conf"])
    for length in (1, 239, 240, 241, 700):
        latent = encoder(torch.randn(2, 1, length))
        assert latent.shape == (2, 5, math.ceil(length / 240))
        wav = decoder(latent)
        assert wav.shape == (2, 1, 240 * latent.shape[-1])
        assert wav.abs().max() <= 1


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        ({"kernel": [3, 1]}, "bad residual unit"),
        ({"kernel_sizes": 3}, "bad residual unit"),
        ({"kernel_sizes": [3]}, "two values"),
        ({"kernel_sizes": [3, 0]}, "two values"),
    ],
)
def test_bad_units(unit, message):
    with pytest.raises(UsageError, match=message):
        UnitSpec.parse(unit)


def test_bad_sizes():
    with pytest.raises(UsageError, match="for every block"):
        Encoder(5, [4, 8], [2], [[]])
    with pytest.raises(UsageError, match="a list for every block"):
        Decoder(5, [4], [2], [[], []])
    with pytest.raises(UsageError, match="span its stride"):
        Conv1d(1, 1, 2, stride=3)


def test_gain_of_the_latent():
    """The last convolution alone is scaled, by its norm, so that the latent is, too, up to its bias."""
    gains = {}
    for gain in (1.0, 6.0):
        torch.manual_seed(0)
        encoder = Encoder(16, **TINY["encoder_conf"], latent_gain=gain)
        torch.nn.init.zeros_(encoder.model[-1].layer.bias)
        gains[gain] = encoder(torch.randn(1, 1, 480, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(gains[6.0], 6 * gains[1.0])
    with pytest.raises(UsageError, match="latent_gain"):
        Encoder(16, **TINY["encoder_conf"], latent_gain=0.0)


def test_keywords_of_a_part_complete_a_preset():
    conf = complete_conf("lrac", {"preset": "tiny", "encoder_conf": {"latent_gain": 2.0}, "latent_dim": 9})
    assert conf["encoder_conf"] == {**TINY["encoder_conf"], "latent_gain": 2.0}
    assert conf["latent_dim"] == 9
    assert conf["decoder_conf"] == TINY["decoder_conf"]
