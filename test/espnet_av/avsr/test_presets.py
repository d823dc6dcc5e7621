# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from espnet_av.avsr.presets import NOT_OFFERED, PRESETS, build_preset, get_preset
from espnet_av.utils.errors import UsageError


@pytest.mark.parametrize("name", PRESETS)
def test_number_of_parameters(name):
    with torch.device("meta"):
        model = build_preset(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == PRESETS[name].num_parameters


@pytest.mark.parametrize(("name", "millions"), [("avhubert_base", 103), ("avhubert_large", 325)])
def test_encoders_of_avhubert(name, millions):
    with torch.device("meta"):
        encoder = build_preset(name).encoder
    assert round(sum(parameter.numel() for parameter in encoder.parameters()) / 1e6) == millions


def test_keywords_change_parts_of_a_preset():
    with torch.device("meta"):
        model = build_preset("avhubert_base", 20, encoder_conf={"num_layers": 1}, ctc_weight=0.3)
    assert (len(model.encoder.encoder.layers), model.encoder.dim, model.vocab_size) == (1, 768, 20)
    assert model.ctc_weight == 0.3
    get_preset("auto_avsr").model_conf["encoder_conf"]["dim"] = 1
    assert PRESETS["auto_avsr"].model_conf["encoder_conf"]["dim"] == 768


def test_what_is_not_there_says_why():
    with pytest.raises(UsageError, match="unknown preset; got 'huge'; allowed: avsrcocktail, "):
        get_preset("huge")
    for name in NOT_OFFERED:
        with pytest.raises(UsageError, match=f"'{name}' cannot be run: .*fix: use avsr_cocktail"):
            get_preset(name)
