# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Conv-TasNet with lips: whom it extracts, batches, lengths, sizes."""

import pytest
import torch

from espnet_av.avss.av_convtasnet import AVConvTasNet
from espnet_av.avss.model import SeparationModel, build_network
from espnet_av.utils.errors import UsageError

TINY = {
    "filters": 16, "kernel": 16, "bottleneck": 8, "hidden": 12, "layers": 3, "fused_stacks": 2, "video_dim": 6,
    "video_channels": 8, "video_blocks": 2,
}  # fmt: skip
SAME = 2e-6


def build(**keywords: object) -> AVConvTasNet:
    torch.manual_seed(0)
    network = AVConvTasNet(**{**TINY, **keywords}).eval()
    torch.nn.init.normal_(network.no_video)
    return network


@pytest.fixture
def clip() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return 0.1 * torch.randn(3, 3200, generator=generator), torch.randn(3, 5, 6, generator=generator)


@torch.no_grad()
def test_batch_and_padding_equal_singles(clip):
    network, (mix, lips) = build(), clip
    lengths, frames = torch.tensor([3200, 1920, 2560]), [5, 3, 4]
    together = network(mix, lips, lengths)
    for i, (length, count) in enumerate(zip(lengths.tolist(), frames, strict=True)):
        alone = network(mix[i : i + 1, :length], lips[i : i + 1, :count])
        torch.testing.assert_close(together[i : i + 1, :, :length], alone, atol=SAME, rtol=0)
        assert not together[i, :, length:].any()


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 15, 16, 17, 23, 24, 639, 3199, 3201])
def test_any_length_keeps_its_samples(length):
    mix = torch.randn(1, length)
    assert build(lips_tolerance=None)(mix, torch.randn(1, 5, 6)).shape == (1, 1, length)


def test_every_sample_is_seen(clip):
    mix = clip[0][:1].clone().requires_grad_()
    build()(mix, clip[1][:1]).square().sum().backward()
    assert bool((mix.grad != 0).all())


@torch.no_grad()
def test_speakers_of_a_mixture_share_what_comes_before_the_fusion(clip):
    network, mix = build(), clip[0][:2]
    lips = torch.randn(4, 5, 6)
    seen = []
    network.audio_net.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    voices = network(mix, lips)
    assert seen == [2]
    torch.testing.assert_close(voices, network(mix.repeat_interleave(2, 0), lips), atol=SAME, rtol=0)
    assert (voices[0] - voices[1]).abs().max() > 1e-4  # other lips, another voice


def test_it_learns_to_follow_the_lips():
    torch.manual_seed(0)
    time = torch.arange(3200) / 16000
    low, high = torch.sin(2 * torch.pi * 300 * time), torch.sin(2 * torch.pi * 1900 * time)
    target = torch.stack([low, high]).unsqueeze(0)
    lips = torch.stack([torch.zeros(5, 6), torch.ones(5, 6)]).unsqueeze(0)
    model = SeparationModel(build(), terms=[{"name": "si_snr"}]).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss, _ = model(target.sum(1), target, lips=lips)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < -12


def test_every_parameter_has_a_gradient(clip):
    model = SeparationModel(build()).train()
    mix, lips = clip
    loss, _ = model(mix, torch.randn(3, 2, 3200), lips=torch.stack([lips, lips.flip(0)], 1))
    loss.backward()
    assert [name for name, each in model.named_parameters() if each.grad is None] == []


@pytest.mark.parametrize(
    ("keywords", "message"),
    [({"kernel": 15}, "even"), ({"block_kernel": 4}, "odd"), ({"mask_act": "swish"}, "sigmoid")],
)
def test_wrong_sizes_are_refused(keywords, message):
    with pytest.raises(UsageError, match=message):
        build_network("av_convtasnet", {**TINY, **keywords})
