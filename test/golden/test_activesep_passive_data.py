# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""One item of passive training against the recorded one of the published program."""

import numpy as np
import pytest
import torch

from espnet_av.activesep.passive_data import passive_item
from espnet_av.activesep.passive_points import PassivePoint
from espnet_av.activesep.scene import SceneLibrary
from espnet_av.activesep.sounds import ClipLibrary
from espnet_av.activesep.spectra import ear_magnitude, mixture_log_magnitude, normalised_mono_target

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def recorded(fixtures_dir):
    path = fixtures_dir("activesep") / "passive_datapoint.npz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def item(fixtures_dir, recorded):
    scene = fixtures_dir("activesep") / "scene"
    (folder,) = scene.glob("audio_data/*/1s_chunks/train_preprocessed")
    clips = ClipLibrary(folder)
    label = int(recorded["target_class"][0])
    target = next(name for name in clips.names if clips.classes.labels.get(name.split("_")[0]) == label)
    distractor = next(name for name in clips.names if name != target)
    (name,) = [path.name for path in (scene / "metadata" / "mp3d").iterdir()]
    point = PassivePoint(name, 0, 90, (0, 2))
    return passive_item(SceneLibrary(scene), point, clips, [target, distractor], label, wrap_int16=True)


def test_item(item, recorded):
    waves = {name: torch.from_numpy(value) for name, value in item.items()}
    found = {
        "mixed_log1p": mixture_log_magnitude(waves["mixture_wave"]),
        "gt_bin_mag": ear_magnitude(waves["target_ears"]),
        "gt_mono_mag": normalised_mono_target(waves["target_dry"]),
    }
    for name, value in found.items():
        np.testing.assert_allclose(value.numpy(), recorded[name], rtol=0, atol=TOLERANCE, err_msg=name)
    np.testing.assert_array_equal(item["target_class"], recorded["target_class"])
