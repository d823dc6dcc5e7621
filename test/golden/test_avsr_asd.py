# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Light-ASD against values of the published system (fixture i)."""

import json

import numpy as np
import pytest
import torch

from espnet_av.avsr.asd import ActiveSpeakerDetector, LightASD, from_published, to_published

ATOL = 1e-4


@pytest.fixture(scope="module")
def spec(fixtures_dir):
    path = fixtures_dir("avsr") / "i_asd.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def published(spec, procedural_tensor):
    prefix = spec.get("prefix", "")
    made = {
        name: procedural_tensor(prefix + name, fact["shape"], spec["seed"]) for name, fact in spec["tensors"].items()
    }
    for name, fact in spec["tensors"].items():
        assert float(made[name].double().sum()) == pytest.approx(fact["sum"], rel=1e-5, abs=1e-3), name
    return made


@pytest.fixture(scope="module")
def golden(fixtures_dir, spec):
    with np.load(fixtures_dir("avsr") / "i_asd.npz") as loaded:
        return {name: torch.from_numpy(loaded[name]) for name in loaded}


@pytest.fixture(scope="module")
def model(published):
    model = LightASD(visual_head="lossV.FC.weight" in published)
    model.load_state_dict(from_published(published))
    return model.eval()


def test_parameters_and_names(model, spec, published):
    heads = sum(p.numel() for name, p in model.named_parameters() if "head." in name)
    assert sum(p.numel() for p in model.parameters()) - heads == spec["n_params"]
    back = to_published(model.state_dict())
    assert set(back) == set(published)
    assert all(torch.equal(back[name], published[name]) for name in published)


@torch.no_grad()
def test_forward(model, golden):
    faces, audio = model.encode_faces(golden["video"][None]), model.encode_audio(golden["mfcc"][None])
    torch.testing.assert_close(faces, golden["emb_video"], atol=ATOL, rtol=0)
    torch.testing.assert_close(audio, golden["emb_audio"], atol=ATOL, rtol=0)
    torch.testing.assert_close(model.fuse(faces, audio)[0], golden["backend"], atol=ATOL, rtol=0)
    scores = model(golden["video"][None], golden["mfcc"][None])[0, :, 1]
    torch.testing.assert_close(scores, golden["score"], atol=ATOL, rtol=0)


def test_a_published_file(tmp_path, published, golden):
    path = tmp_path / "finetuning_TalkSet.model"
    torch.save(published, path)
    detector = ActiveSpeakerDetector.from_pretrained(path)
    assert detector.report.exact
    with torch.no_grad():
        scores = detector.model(golden["video"][None], golden["mfcc"][None])[0, :, 1]
    torch.testing.assert_close(scores, golden["score"], atol=ATOL, rtol=0)
