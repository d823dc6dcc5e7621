# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""One training step of the published generator, with the weight of the mel as it should be and as it was.

All sizes, weights and expected values come from the files of the golden folder (``ESPNET_AV_FIXTURES``).
"""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from espnet_av.avgen.model import AVGenModel
from espnet_av.avgen.names import from_av_flow

CLOSE = {"atol": 1e-5, "rtol": 0}


@pytest.fixture(scope="module")
def golden(fixtures_dir):
    folder = fixtures_dir("avgen")
    with np.load(folder / "train_step.npz") as arrays:
        data = {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}
    with np.load(folder / "avdit_tiny_io.npz") as arrays:
        tokens = torch.from_numpy(arrays["self_tokens"])
    config = json.loads((folder / "avdit_tiny_config.json").read_text())
    return data, tokens, config, from_av_flow(load_file(folder / "avdit_tiny_actor.safetensors"))[0]


def build(golden, **options) -> AVGenModel:
    data, _, config, state = golden
    face, head, mel = data["split"].tolist()
    model = AVGenModel(
        face_dim=face,
        input_head_dim=head,
        melspec_dim=mel,
        token_dim=config["actor_condition_dim"],
        head_vae=False,
        sigma_min=float(data["sigma_min"]),
        condition_drop=0.0,
        transformer_conf={
            "d_model": config["d_model"],
            "hidden_dim": config["hidden_dim"],
            "num_heads": config["heads"],
            "window_per_layer": config["window_per_layer"],
        },
        **options,
    )
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and not any(name.startswith("transformer.") for name in missing)
    return model


def test_step(golden):
    data, tokens, _, _ = golden
    totals = {name: found for name in data if (found := re.fullmatch(r"total_audio_weight_(as_run_)?([\dp]+)", name))}
    assert len(totals) >= 2
    for name, found in totals.items():
        weight = float(found[2].replace("p", "."))
        options = {"audio_weight": 17.0, "reference_compat": True} if found[1] else {"audio_weight": weight}
        headpose = {"headpose_weight": weight} if found[1] else {}
        model = build(golden, **options, **headpose)
        x0, x1, t = data["x0"], data["x1"], data["t"]
        step = model.flow_step(x1, x0, t, model.condition(tokens))
        torch.testing.assert_close(model.flows["mel"].path(x0, x1, t), data["xt"], **CLOSE)
        torch.testing.assert_close(step.velocity, data["v"], atol=2e-5, rtol=0)
        torch.testing.assert_close(step.data, data["x1_pred"], atol=2e-5, rtol=0)
        for term, expected in (("face", "expr_loss"), ("head", "head_loss"), ("mel", "mel_loss")):
            torch.testing.assert_close(step.terms[term].double(), data[expected], **CLOSE)
        torch.testing.assert_close(step.loss.double(), data[name], **CLOSE)
