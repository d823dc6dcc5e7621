# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Conv-TasNet against recorded values of torchaudio and ESPnet."""

import json

import numpy as np
import pytest
import torch

from espnet_av.avss.convtasnet import ConvTasNet
from espnet_av.avss.convtasnet_names import convtasnet_conf, from_espnet, to_espnet

ATOL = 2e-6


def _load(fixtures_dir, name):
    path = fixtures_dir("avss") / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    with np.load(path) as loaded:
        return {key: loaded[key] if loaded[key].dtype.kind == "U" else torch.from_numpy(loaded[key]) for key in loaded}


def _parameters(golden):
    return {key.removeprefix("param/"): value for key, value in golden.items() if key.startswith("param/")}


@pytest.fixture(scope="module")
def torchaudio_golden(fixtures_dir):
    return _load(fixtures_dir, "convtasnet_torchaudio.npz")


@pytest.fixture(scope="module")
def espnet_golden(fixtures_dir):
    return _load(fixtures_dir, "convtasnet_espnet.npz")


@torch.no_grad()
def test_torchaudio(torchaudio_golden):
    golden, config = torchaudio_golden, json.loads(str(torchaudio_golden["config_json"]))
    state = _parameters(golden)
    conf = convtasnet_conf(state, layers=config["msk_num_layers"]) | {"mask_act": config["msk_activate"]}
    network = ConvTasNet(**conf).eval()
    network.load_state_dict(state)
    assert (network.num_sources, conf["stacks"]) == (config["num_sources"], config["msk_num_stacks"])
    mix = golden["in/mix"][:, 0]
    torch.testing.assert_close(network.encode(mix), golden["act/encoder"], atol=ATOL, rtol=0)
    torch.testing.assert_close(network(mix), golden["out"], atol=ATOL, rtol=0)
    assert network.padded_length(mix.shape[1]) == golden["act/padded"].shape[-1]


@torch.no_grad()
def test_espnet(espnet_golden):
    golden = espnet_golden
    published = _parameters(golden)
    layers = 1 + max(int(key.split(".")[5]) for key in published if key.startswith("separator.tcn.network.2."))
    state = from_espnet(published)
    mix, features = golden["in/mix"], golden["act/encoder"].transpose(1, 2)
    conf = convtasnet_conf(state, espnet=True, layers=layers)
    stride = (mix.shape[1] - conf["kernel"]) // (features.shape[-1] - 1)  # leaves no trace in the tensors
    network = ConvTasNet(**conf, stride=stride).eval()
    network.load_state_dict(state)
    torch.testing.assert_close(network.encode(mix), features, atol=ATOL, rtol=0)
    torch.testing.assert_close(network(mix), golden["out"], atol=ATOL, rtol=0)
    back = to_espnet(state, layers=layers)
    assert set(back) == set(published)
    assert all(torch.equal(back[key], published[key]) for key in back)


@torch.no_grad()
def test_quirk_is_what_differs(espnet_golden):
    """The default does not lose the tail that fills no window."""
    state = from_espnet(_parameters(espnet_golden))
    conf = convtasnet_conf(state, espnet=True, layers=1)
    mix = espnet_golden["in/mix"][:, : -conf["kernel"] // 4]
    quirk, better = (ConvTasNet(**conf | {"padding": padding}).eval() for padding in (conf["padding"], "right"))
    for network in (quirk, better):
        network.load_state_dict(state)
    tail = slice(quirk.padded_length(mix.shape[1]), None)
    assert not quirk(mix)[..., tail].any()
    assert better(mix)[..., tail].any()
