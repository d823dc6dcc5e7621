# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from espnet_av.avsr import convert
from espnet_av.avsr.model import AVSRModel
from espnet_av.utils.errors import CheckpointError, UsageError


def test_there_and_back(make_model):
    model = make_model()
    published = convert.to_published(model.state_dict())
    assert all(key.startswith("avsr.") for key in published)
    other = make_model()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    report = convert.load_published(other, published)
    assert report.kept == len(published)
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)


def test_parts_that_published_models_lack(make_model):
    model = make_model(decoder={"dim": 8}, model={"audio_prediction_weight": 5.0})
    state = {f"avsr.{key}": value + 1 for key, value in model.state_dict().items()}
    assert {key.split(".")[1] for key in state} == set(convert.MODEL_PARTS)
    convert.load_published(model, state)
    assert torch.equal(model.audio_prediction.proj.bias, state["avsr.audio_prediction.proj.bias"])


def test_prefix_and_old_weight_norm_names_are_optional(make_model):
    state = make_model().state_dict()
    old = {
        key.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for key, value in state.items()
    }
    assert len([key for key in old if key.endswith(("weight_g", "weight_v"))]) == 2
    converted, report = convert.from_published(old)
    assert converted.keys() == state.keys()
    assert len(report.renamed) == 2


def test_avhubert_names(make_model):
    encoder = make_model(num_classes=4, label_dim=3).encoder
    state = encoder.state_dict()
    names = (
        ("pos_conv_embed.conv.parametrizations.weight.original0", "pos_conv.0.weight_g"),
        ("pos_conv_embed.conv.parametrizations.weight.original1", "pos_conv.0.weight_v"),
        ("pos_conv_embed.conv.bias", "pos_conv.0.bias"),
        (".attention.", ".self_attn."),
        ("feed_forward.intermediate_dense", "fc1"),
        ("feed_forward.output_dense", "fc2"),
    )
    fairseq = {}
    for key, value in state.items():
        for new, old in names:
            key = key.replace(new, old)
        if key.startswith("encoder.layers."):
            key = key.replace(".layer_norm.", ".self_attn_layer_norm.")
        fairseq[key] = value
    assert "encoder.layers.0.self_attn_layer_norm.weight" in fairseq
    fairseq["final_proj.weight"] = torch.zeros(1)
    converted, report = convert.from_avhubert(fairseq)
    convert.load_strictly(encoder, converted)
    assert report.dropped == {"final_proj.weight": "pre-training head"}
    finetuned = {"encoder.w2v_model." + key: value for key, value in fairseq.items()}
    finetuned["decoder.embed_tokens.weight"] = torch.zeros(1)
    converted, report = convert.from_avhubert(finetuned)
    assert converted.keys() == state.keys()
    assert set(report.dropped) == {"encoder.w2v_model.final_proj.weight", "decoder.embed_tokens.weight"}


def test_wrong_checkpoints_are_refused_and_nothing_is_loaded(make_model):
    model = make_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = {key: value + 1 for key, value in convert.to_published(model.state_dict()).items()}
    state["avsr.ctc.ctc_lo.bias"] = torch.zeros(3)
    del state["avsr.decoder.after_norm.weight"]
    state["avsr.encoder.extra"] = torch.zeros(1)
    with pytest.raises(
        CheckpointError, match="1 missing .*after_norm.*1 unexpected .*extra.*1 of another shape .*ctc_lo"
    ):
        convert.load_published(model, state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with pytest.raises(CheckpointError, match="not an AVSRCocktail checkpoint"):
        convert.from_published({"model.layer.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="two tensors"):
        convert.from_published({"avsr.ctc.ctc_lo.bias": torch.zeros(1), "ctc.ctc_lo.bias": torch.zeros(1)})


def test_published_configuration():
    keywords = convert.config_to_keywords(
        {"odim": 7, "hidden_size": 32, "adim": 32, "dropout_rate": 0.2, "mtlalpha": 0.3}
    )
    assert keywords["vocab_size"] == 7
    assert keywords["encoder_conf"] == {"dim": 32}
    assert keywords["decoder_conf"] == {"dropout": 0.2}
    assert (keywords["ctc_dropout"], keywords["ctc_weight"]) == (0.2, 0.3)
    with pytest.raises(UsageError, match="'adim' must equal 'hidden_size'"):
        convert.config_to_keywords({"adim": 16, "hidden_size": 32})
    with pytest.raises(UsageError, match="unknown field"):
        convert.config_to_keywords({"hidden": 32})
    with pytest.raises(UsageError, match="unsupported value of 'hidden_act'"):
        convert.config_to_keywords({"hidden_act": "relu"})


def test_default_is_the_published_size():
    with torch.device("meta"):
        model = AVSRModel()
    assert len(model.state_dict()) == 699
    assert sum(p.numel() for p in model.parameters()) == 428_849_754
