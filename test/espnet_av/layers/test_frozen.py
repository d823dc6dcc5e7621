# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Networks whose parameters rest."""

import pytest
import torch
from torch import nn

from espnet_av.layers.frozen import frozen


def test_gradients_pass_through_but_reach_no_parameter():
    network, x = nn.Linear(2, 1), torch.ones(1, 2, requires_grad=True)
    with frozen(network):
        network(x).sum().backward()
    assert x.grad is not None
    assert network.weight.grad is None
    assert network.weight.requires_grad


def test_what_rested_before_rests_after_and_errors_change_nothing():
    network = nn.Linear(2, 1)
    network.bias.requires_grad_(False)
    with pytest.raises(ZeroDivisionError), frozen(network):
        assert not network.weight.requires_grad
        raise ZeroDivisionError
    assert network.weight.requires_grad
    assert not network.bias.requires_grad
