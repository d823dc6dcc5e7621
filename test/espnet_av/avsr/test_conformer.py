# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from torch import nn

from espnet_av.avsr.conformer import Conformer, ConvolutionModule, RelativeAttention, RelativePositions
from espnet_av.utils.errors import UsageError


class Frontend(nn.Module):
    """Passes ``(B, 4, T)`` on as ``(B, T, 4)``."""

    output_size = 4

    def forward(self, stream, mask=None):
        return stream.transpose(1, 2)


def randomise(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for tensor in (*module.parameters(), *(b for n, b in module.named_buffers() if n.endswith("running_mean"))):
            tensor.normal_(std=0.3)
    return module


def test_positions_are_distances():
    table = RelativePositions(6, 0.0).table(4, torch.device("cpu"))
    assert table.shape == (7, 6)
    for row, distance in enumerate(range(3, -4, -1)):
        for pair in range(3):
            angle = distance / 10000 ** (2 * pair / 6)
            assert table[row, 2 * pair].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[row, 2 * pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


@torch.no_grad()
def test_attention_is_that_of_the_paper():
    size, heads, width = 5, 2, 3
    attention = randomise(RelativeAttention(heads * width, num_heads=heads, dropout=0.0)).eval()
    x = torch.randn(1, size, heads * width)
    mask = torch.tensor([[True, True, True, True, False]])
    positions = RelativePositions(heads * width, 0.0).table(size, x.device)
    query, key, value = (f(x)[0] for f in (attention.linear_q, attention.linear_k, attention.linear_v))
    distance = attention.linear_pos(positions)
    mixed = torch.zeros(size, heads * width)
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = torch.full((size, size), -math.inf)
        for i in range(size):
            for j in range(size - 1):  # the last key is masked
                content = (query[i, part] + attention.pos_bias_u[head]) @ key[j, part]
                place = (query[i, part] + attention.pos_bias_v[head]) @ distance[size - 1 - (i - j), part]
                scores[i, j] = (content + place) / math.sqrt(width)
        mixed[:, part] = scores.softmax(dim=-1) @ value[:, part]
    torch.testing.assert_close(attention(x, positions, mask)[0], attention.linear_out(mixed), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("training", [False, True])
def test_padding_reaches_no_valid_frame_of_the_convolution(training):
    module = randomise(ConvolutionModule(4, 5)).train(training)
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    x = torch.randn(2, 7, 4)
    expected = module(x, mask)
    again = module(x.masked_fill(~mask.unsqueeze(2), 100.0), mask)
    torch.testing.assert_close(again[mask], expected[mask])
    assert not torch.allclose(module(x)[mask], expected[mask], atol=1e-3)


def test_gradient_checkpointing_changes_no_gradient():
    kwargs = {"dim": 8, "num_layers": 2, "num_heads": 2, "ffn_dim": 12, "conv_kernel": 3}
    plain = randomise(Conformer(Frontend(), dropout=0.0, attention_dropout=0.0, **kwargs))
    saving = Conformer(Frontend(), dropout=0.0, attention_dropout=0.0, gradient_checkpointing=True, **kwargs)
    saving.load_state_dict(plain.state_dict())
    stream = torch.randn(2, 4, 6)
    mask = torch.arange(6) < torch.tensor([[6], [4]])
    for model in (plain, saving):
        model.train()(stream, mask)[mask].square().sum().backward()
    for (name, one), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="conv_kernel must be odd"):
        ConvolutionModule(4, 6)
    with pytest.raises(UsageError, match="num_heads must divide"):
        RelativeAttention(6, num_heads=4, dropout=0.0)
