# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Lists of layers and parts of networks by name."""

import pytest
from torch import nn

from espnet_av.layers.typed_modules import LayerList, submodule


def test_a_list_of_layers_has_the_names_of_torch_s_own():
    layers = [nn.Linear(2, 2), nn.Linear(2, 3)]
    assert list(LayerList(layers)) == layers
    assert LayerList(layers).state_dict().keys() == nn.ModuleList(layers).state_dict().keys()
    assert isinstance(LayerList(layers)[1:], LayerList)


def test_parts_are_of_the_kind_that_is_asked_for():
    network = nn.ModuleDict({"outer": nn.Sequential(nn.ReLU(), nn.Linear(2, 2))})
    assert submodule(network, "outer.1", nn.Linear) is network["outer"][1]
    with pytest.raises(TypeError, match="outer.0 is a ReLU, not a Linear"):
        submodule(network, "outer.0", nn.Linear)
    with pytest.raises(AttributeError):
        submodule(network, "outer.2", nn.Linear)
