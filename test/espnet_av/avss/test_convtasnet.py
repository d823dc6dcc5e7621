# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Conv-TasNet: size, lengths, padding, bad input, names of other programs."""

import pytest
import torch

from espnet_av.avss.convtasnet import ESPNET, TORCHAUDIO, ConvTasNet
from espnet_av.avss.convtasnet_names import convtasnet_conf, from_espnet, is_espnet, to_espnet
from espnet_av.avss.losses import SeparationLoss
from espnet_av.utils.errors import CheckpointError, UsageError

SMALL = {"filters": 24, "kernel": 16, "bottleneck": 8, "hidden": 12, "layers": 3, "stacks": 2}
VARIANTS = {"default": {}, "torchaudio": TORCHAUDIO, "espnet": ESPNET}


def make(**options):
    torch.manual_seed(0)
    network = ConvTasNet(**{**SMALL, **options}).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "conv_layers" in name and parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_published_sizes():
    with torch.device("meta"):
        assert count(ConvTasNet()) == 5_067_442
        assert round(count(ConvTasNet(**TORCHAUDIO)) / 1e6, 2) == 5.00
        assert round(count(ConvTasNet(**ESPNET)) / 1e6, 2) == 3.46


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("num_samples", [1, 15, 16, 17, 333, 400])
@torch.no_grad()
def test_any_length(variant, num_samples):
    mix = torch.randn(2, num_samples)
    network = make(**VARIANTS[variant])
    out = network(mix)
    assert out.shape == (2, 2, num_samples) and torch.isfinite(out).all()
    assert network.encode(mix).shape[-1] == network.num_frames(num_samples)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_padded_equals_alone(variant):
    torch.manual_seed(1)
    network = make(**VARIANTS[variant])
    lengths = torch.tensor([400, 333, 41, 7])
    mix = torch.randn(4, 400)  # noise behind the ends: nothing there may count
    out = network(mix, lengths)
    for item, length in enumerate(lengths):
        torch.testing.assert_close(
            out[item, :, :length], network(mix[item : item + 1, :length])[0], atol=1e-6, rtol=1e-5
        )
        assert not out[item, :, length:].any()


@torch.no_grad()
def test_batch_equals_singles():
    network, mix = make(), torch.randn(3, 320)
    singles = torch.cat([network(item[None]) for item in mix])
    torch.testing.assert_close(network(mix), singles, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(network(mix, torch.full((3,), 320)), singles, atol=1e-6, rtol=1e-5)


def test_learns_and_has_three_sources():
    network = make(num_sources=3).train()
    out = network(torch.randn(2, 320), torch.tensor([320, 200]))
    assert out.shape == (2, 3, 320)
    out.square().mean().backward()
    without = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert without == {f"mask_generator.conv_layers.5.res_out.{kind}" for kind in ("weight", "bias")}
    assert not any(dict(network.named_parameters())[name].requires_grad for name in without)
    assert not [name for name, _ in make(last_residual=False).named_parameters() if "conv_layers.5.res_out" in name]


@pytest.mark.parametrize(
    "options",
    [
        {"padding": "left"},
        {"mask_act": "gelu"},
        {"input_norm": "bn"},
        {"block_kernel": 4},
        {"stride": 99},
        {"stride": 0},
    ],
)
def test_wrong_options(options):
    with pytest.raises(UsageError, match="ConvTasNet"):
        make(**options)


@pytest.mark.parametrize("shape", [(16,), (1, 1, 16), (2, 0), (0, 16)])
def test_wrong_shape(shape):
    with pytest.raises(UsageError, match="mono"):
        make()(torch.zeros(shape))


@pytest.mark.parametrize("variant", VARIANTS)
def test_sizes_are_read_off_the_tensors(variant):
    network = make(**VARIANTS[variant])
    conf = convtasnet_conf(network.state_dict(), espnet=variant == "espnet", layers=3)
    again = ConvTasNet(**conf).eval()
    again.load_state_dict(network.state_dict())
    mix = torch.randn(1, 333)
    with torch.no_grad():
        torch.testing.assert_close(again(mix), network(mix))


def test_names_of_espnet():
    state = make(**ESPNET).state_dict()
    theirs = to_espnet(state, layers=3)
    assert is_espnet(theirs) and not is_espnet(state)
    assert theirs["separator.tcn.network.2.1.2.net.3.net.2.gamma"].shape == (1, 12, 1)
    back = from_espnet(theirs)
    assert set(back) == set(state) and all(torch.equal(back[key], state[key]) for key in state)
    with pytest.raises(CheckpointError, match="masknet"):
        from_espnet({**theirs, "separator.masknet.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="no place"):
        to_espnet({**state, "encoder_act.weight": torch.zeros(1)}, layers=3)
    with pytest.raises(CheckpointError, match="incomplete"):
        convtasnet_conf({key: value for key, value in state.items() if key != "encoder.weight"})
    with pytest.raises(CheckpointError, match="whole stacks"):
        convtasnet_conf(state, layers=4)


def test_learns_to_separate_two_tones():
    torch.manual_seed(0)
    time = torch.arange(1600) / 16000
    voices = torch.stack([torch.sin(2 * torch.pi * pitch * time) for pitch in (300, 2500)])[None]
    network, loss = make().train(), SeparationLoss([{"name": "si_snr"}], pit=True)
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(60):
        result = loss(network(voices.sum(1)), voices)
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
    assert float(result.loss.detach()) < -8
