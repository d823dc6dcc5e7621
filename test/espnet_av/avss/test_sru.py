# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The recurrence against its definition, and gradients written by hand against numerical ones."""

import pytest
import torch

from espnet_av.avss.norms import GlobalNorm, Moments
from espnet_av.avss.sru import SRU, SRULayer


def by_definition(layer: SRULayer, x: torch.Tensor) -> torch.Tensor:
    hidden = layer.hidden_size
    u = (x @ layer.weight).unflatten(-1, (2, hidden, layer.columns))
    carried = u[..., 3] if layer.columns == 4 else x.unflatten(-1, (2, hidden))
    (forget_c, reset_c), (forget_b, reset_b) = (v.view(2, 2, hidden) for v in (layer.weight_c, layer.bias))
    output = torch.empty_like(carried)
    for direction in range(2):
        cell = x.new_zeros(x.shape[1], hidden)
        for t in range(len(x)) if direction == 0 else reversed(range(len(x))):
            part = u[t, :, direction]
            forget = (part[..., 1] + forget_c[direction] * cell + forget_b[direction]).sigmoid()
            reset = (part[..., 2] + reset_c[direction] * cell + reset_b[direction]).sigmoid()
            cell = forget * cell + (1 - forget) * part[..., 0]
            output[t, :, direction] = reset * cell + (1 - reset) * carried[t, :, direction]
    return output.flatten(2)


@torch.no_grad()
@pytest.mark.parametrize("input_size", [5, 6])  # 6 = 2 * hidden: no projection for the highway connection
@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_layer_follows_the_definition(input_size, num_steps):
    torch.manual_seed(0)
    layer, x = SRULayer(input_size, 3).double(), torch.randn(num_steps, 4, input_size, dtype=torch.float64)
    layer.bias.normal_()
    torch.testing.assert_close(layer(x)[0], by_definition(layer, x))


@pytest.mark.parametrize("input_size", [5, 6])
def test_gradients(input_size):
    torch.manual_seed(0)
    rnn = SRU(input_size, 3, 2).double()
    x = torch.randn(4, 2, input_size, dtype=torch.float64, requires_grad=True)
    parameters = dict(rnn.named_parameters())

    def run(x: torch.Tensor, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.func.functional_call(rnn, dict(zip(parameters, values, strict=True)), (x,))

    torch.autograd.gradcheck(run, (x, *parameters.values()))


def test_gradients_of_moments():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(Moments.apply, (x,))


@torch.no_grad()
def test_global_norm_is_accurate():
    torch.manual_seed(0)
    norm = GlobalNorm(8)
    x = torch.randn(2, 300, 65, 8) ** 5 + 3  # few large values, a mean that is not zero
    flat = x.double().flatten(1)
    expected = (x.double() - flat.mean(1).view(2, 1, 1, 1)) / flat.std(1, correction=0).view(2, 1, 1, 1)
    torch.testing.assert_close(norm(x).double(), expected, atol=2e-6, rtol=1e-6)
