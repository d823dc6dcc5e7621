# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn

from espnet_av.avsr.resnet import AudioResNet, norm_valid


@pytest.fixture
def network() -> AudioResNet:
    torch.manual_seed(0)
    built = AudioResNet(channels=3, planes=(3, 4, 5, 6))
    with torch.no_grad():
        for module in built.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_(std=0.3)
                module.bias.normal_(std=0.3)
    return built


@pytest.fixture
def rows() -> torch.Tensor:
    torch.manual_seed(1)
    found = torch.randn(2, 640, 5)
    found[1, :, 3:] = 0.0
    return found


MASK = torch.arange(5) < torch.tensor([[5], [3]])


@torch.no_grad()
def test_one_vector_per_video_frame_and_padding_has_no_effect(network, rows):
    network.eval()
    together = network(rows, MASK)
    assert together.shape == (2, 5, 6)
    torch.testing.assert_close(together[1, :3], network(rows[1:, :, :3])[0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(together[0], network(rows[:1])[0], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(network(rows)[1, 2], together[1, 2], atol=1e-4)  # the edge of what is not masked differs


@torch.no_grad()
def test_frames_are_in_order(network, rows):
    network.eval()
    changed = rows.clone()
    changed[0, :, 2] += 1.0
    difference = (network(changed) - network(rows)).abs().sum(dim=2)
    assert difference[0].argmax() == 2 and difference[1].max() == 0


def test_statistics_count_valid_steps_only():
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(2, momentum=1.0)
    x = torch.randn(2, 2, 5)
    y = norm_valid(norm, x, MASK)
    valid = x.transpose(1, 2)[MASK]
    torch.testing.assert_close(norm.running_mean, valid.mean(dim=0))
    torch.testing.assert_close(norm.running_var, valid.var(dim=0))
    torch.testing.assert_close(y.transpose(1, 2)[MASK].mean(dim=0), torch.zeros(2), atol=1e-6, rtol=0)
    assert not y.transpose(1, 2)[~MASK].any()
