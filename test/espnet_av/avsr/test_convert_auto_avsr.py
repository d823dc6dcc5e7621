# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from auto_avsr_small import make_auto_avsr

from espnet_av.avsr.convert_auto_avsr import auto_avsr_config_to_keywords, from_auto_avsr, to_auto_avsr
from espnet_av.utils.errors import CheckpointError, UsageError


@pytest.mark.parametrize("modality", ["av", "audio", "video"])
@pytest.mark.parametrize("prefix", ["", "avsr.", "model."])
def test_there_and_back(modality, prefix):
    state = make_auto_avsr(modality=modality).state_dict()
    published = to_auto_avsr(state, prefix=prefix)
    assert len(published) == len(state)
    roots = {key.removeprefix(prefix).split(".")[0] for key in published}
    assert roots == {"encoder", "decoder", "ctc"} | ({"aux_encoder", "fusion"} if modality == "av" else set())
    back, report = from_auto_avsr(published)
    assert back.keys() == state.keys() and not report.dropped
    assert all(back[key] is state[key] for key in state)


def test_lips_are_the_encoder_and_sound_the_auxiliary_one():
    published = to_auto_avsr(make_auto_avsr().state_dict())
    assert published["encoder.frontend.frontend3D.0.weight"].dim() == 5
    assert published["aux_encoder.frontend.trunk.conv1.weight"].shape[-1] == 80


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_front_ends_beside_the_encoder(modality):
    state = make_auto_avsr(modality=modality).state_dict()
    later = {}
    for key, tensor in to_auto_avsr(state).items():
        key = key.replace("encoder.frontend.", "frontend.").replace("encoder.embed.0.", "proj_encoder.")
        later[key.replace("pointwise_cov", "pointwise_conv")] = tensor
    assert "proj_encoder.weight" in later and "encoder.encoders.0.conv_module.pointwise_conv1.weight" in later
    assert from_auto_avsr(later)[0].keys() == state.keys()


def test_other_models_are_refused():
    with pytest.raises(CheckpointError, match="not an auto_avsr checkpoint: 1 names"):
        from_auto_avsr({"layer.weight": torch.zeros(1)})
    published = to_auto_avsr(make_auto_avsr().state_dict())
    with pytest.raises(CheckpointError, match="1 of .* unknown, the first being 'lm.weight'"):
        from_auto_avsr({**published, "lm.weight": torch.zeros(1)})


def test_configuration():
    fields = {"adim": 48, "aux_elayers": 1, "fusion_hdim": 9, "dheads": 4, "mtlalpha": 0.2, "dropout_rate": 0.3}
    keywords = auto_avsr_config_to_keywords({**fields, "ctc_type": "builtin"})
    assert keywords["encoder_conf"] == {"dim": 48, "audio_conf": {"num_layers": 1}, "fusion_dim": 9, "dropout": 0.3}
    assert keywords["decoder_conf"] == {"num_heads": 4, "dropout": 0.3}
    assert (keywords["ctc_weight"], keywords["ctc_dropout"]) == (0.2, 0.3)
    with pytest.raises(UsageError, match="unknown field of an auto_avsr configuration; got 'hidden'"):
        auto_avsr_config_to_keywords({"hidden": 3})
    with pytest.raises(UsageError, match="unsupported value of 'ctc_type'; got 'cudnn'"):
        auto_avsr_config_to_keywords({"ctc_type": "cudnn"})
