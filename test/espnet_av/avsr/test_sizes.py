# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from auto_avsr_small import make_auto_avsr

from espnet_av.avsr import sizes
from espnet_av.avsr.auto_avsr import AutoAVSRModel
from espnet_av.avsr.convert import load_strictly
from espnet_av.avsr.model import AVSRModel
from espnet_av.utils.errors import CheckpointError, UsageError

HEADS = {"encoder_conf": {"num_heads": 2}, "decoder_conf": {"num_heads": 2}}


@pytest.mark.parametrize(
    "changes",
    [{}, {"fuse": "add"}, {"num_classes": 5, "label_dim": 3}, {"resnet_activation": "relu"}, {"conv_pos": 9}],
)
def test_avhubert(make_model, changes):
    state = make_model(**changes).state_dict()
    found = sizes.infer_model_conf("avsr", state)
    assert found["encoder_conf"]["num_heads"] == 0
    other = AVSRModel(sizes.vocab_size(state), **sizes.merge(found, HEADS))
    load_strictly(other, state)
    for key, value in {**make_model.encoder, **changes}.items():
        if key not in ("num_heads", "video_pool"):  # no tensor tells them
            assert found["encoder_conf"][key] == (list(value) if isinstance(value, tuple) else value), key


@pytest.mark.parametrize("modality", ["av", "audio", "video"])
def test_auto_avsr(modality):
    more = {"audio_conf": {"num_layers": 2}} if modality == "av" else {}
    state = make_auto_avsr(modality=modality, **more).state_dict()
    found = sizes.infer_model_conf("auto_avsr", state)
    assert found["encoder_conf"]["modality"] == modality
    assert found["encoder_conf"]["num_heads"] == 2  # the position biases tell
    assert found["encoder_conf"].get("audio_conf", {}) == more.get("audio_conf", {})
    load_strictly(
        AutoAVSRModel(sizes.vocab_size(state), **sizes.merge(found, {"decoder_conf": {"num_heads": 2}})), state
    )


def test_unknown_heads_and_missing_tensors_are_named(make_model):
    with pytest.raises(
        UsageError, match=r"heads of decoder_conf \(width 16\); fix: pass --model_conf decoder_conf.num"
    ):
        sizes.check_heads({"decoder_conf": {"dim": 16, "num_heads": 0}})
    sizes.check_heads({"decoder_conf": {"dim": 16, "num_heads": 1}, "vocab_size": 0})
    state = make_model().state_dict()
    del state["encoder.feature_extractor_audio.proj.weight"]
    with pytest.raises(CheckpointError, match="no 'feature_extractor_audio.proj.weight'"):
        sizes.infer_model_conf("avsr", state)
