# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from espnet_av.avsr.lip_frontend import LipFrontend
from espnet_av.layers.lip_trunk import LipResNet
from espnet_av.utils.errors import UsageError

SMALL = {"stem_channels": 4, "planes": (4, 5, 6, 7)}


@pytest.mark.parametrize("training", [False, True])
def test_stem_over_stacked_frames_equals_the_3d_convolution(training):
    net = LipResNet(**SMALL).train(training)
    video = torch.randn(2, 6, 44, 44)
    conv, norm, activation, pool = net.frontend3D
    x = conv(video.unsqueeze(1)).transpose(1, 2).flatten(0, 1)  # (B, C, T, H, W) -> (B * T, C, H, W)
    x = pool(activation(norm(x)))
    for stage in net.trunk.values():
        x = stage(x)
    torch.testing.assert_close(net(video), x.mean(dim=(2, 3)), atol=1e-5, rtol=1e-5)


def test_only_valid_frames_are_computed_and_they_do_not_change():
    net = LipFrontend(8, **SMALL).eval()
    video = torch.randn(2, 1, 6, 44, 44)
    valid = torch.tensor([[True] * 6, [True] * 3 + [False] * 3])
    torch.testing.assert_close(net(video, valid)[valid], net(video)[valid], atol=1e-5, rtol=1e-5)
    assert (net(video, valid)[~valid] == 0).all()
    calls = []
    net.resnet.trunk["layer1"].register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    net(video, valid)
    assert calls == [9]


def test_chunks_change_nothing_and_bound_what_is_computed_at_a_time():
    net = LipFrontend(8, chunk=0, **SMALL).eval()
    video = torch.randn(2, 1, 7, 44, 44)
    valid = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    sizes = []
    net.resnet.trunk["layer1"].register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    at_once = net(video, valid)
    net.resnet.chunk = 3
    torch.testing.assert_close(net(video, valid), at_once, atol=1e-6, rtol=1e-5)
    assert sizes == [11, 3, 3, 3, 2]
    net.train()(video, valid)
    assert sizes[-1] == 11  # batch norms see the whole batch
    with pytest.raises(UsageError, match="lip_chunk"):
        LipFrontend(8, chunk=-1)


def test_batch_norm_in_training_does_not_see_padding():
    video = torch.randn(2, 1, 6, 44, 44)
    valid = torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
    means = []
    for padding in (0.0, 100.0):
        torch.manual_seed(0)
        net = LipFrontend(8, **SMALL).train()
        video[1, :, 4:] = padding  # beyond the stem's reach of the valid frames
        net(video, valid)
        means.append(net.resnet.frontend3D[1].running_mean.clone())
    torch.testing.assert_close(*means)


@pytest.mark.parametrize(("activation", "has_slope"), [("prelu", True), ("swish", False), ("relu", False)])
def test_activations(activation, has_slope):
    net = LipFrontend(8, activation=activation, video_pool=2, **SMALL)
    assert ("resnet.trunk.layer1.0.relu1.weight" in net.state_dict()) is has_slope
    out = net(torch.randn(1, 1, 3, 88, 88))
    assert out.shape == (1, 3, 8)
    out.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_pooling_comes_before_the_stem():
    net = LipResNet(video_pool=2, **SMALL).eval()
    video = torch.randn(1, 3, 88, 88)
    pooled = torch.nn.functional.avg_pool2d(video, 2)
    full = net(video)
    net.video_pool = 1
    torch.testing.assert_close(full, net(pooled))


def test_unknown_activation():
    with pytest.raises(UsageError, match="'gelu'.*prelu, swish, relu"):
        LipFrontend(8, activation="gelu")
