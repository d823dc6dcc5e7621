# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Videos of scored samples."""

import json

import numpy as np
import pytest
from avgen_score_sets import make_data

from espnet_av.avgen.score_files import MOTION
from espnet_av.bin import avgen_videos
from espnet_av.report.avgen_examples import SCORES
from espnet_av.utils.errors import DataError, UsageError


@pytest.fixture
def experiment(tmp_path):
    """An experiment with one scored sample, as options of the command."""
    sample = tmp_path / "exp" / "decode" / "joint" / "dev" / "u1" / "0"
    sample.mkdir(parents=True)
    np.savez(sample / MOTION, face=np.zeros((3, 4), np.float32), fps=30)
    scores = {"utterances": [{"key": "u1", "values": {}}]}
    (sample.parents[1] / SCORES).write_text(json.dumps(scores), encoding="utf-8")
    make_data(tmp_path / "dev", count=1, frames=3)
    (tmp_path / "dev" / "face_basis.npz").unlink()
    return ["--exp_dir", str(tmp_path / "exp"), "--data_dirs", str(tmp_path / "dev")]


@pytest.fixture
def drawn(monkeypatch):
    """Which renderers draw, without encoding a video."""
    calls = []

    def write(path, sample, renderer):
        calls.append(type(renderer).__name__)
        path.write_bytes(b"video")

    monkeypatch.setattr("espnet_av.avgen.render.video.write_sample_video", write)
    return calls


def test_videos_need_pictures(experiment):
    with pytest.raises(UsageError, match="videos need pictures"):
        avgen_videos.main([*experiment, "--renderer", "none"])


def test_a_user_s_mesh_and_decoder_draw(experiment, drawn, tmp_path):
    shapes = np.eye(4)[:, :, None] * np.ones(3)
    triangle = {"vertices": np.eye(4, 3), "faces": np.array([[0, 1, 2]]), "shapes": shapes}
    np.savez(tmp_path / "mine.npz", **triangle)
    avgen_videos.main([*experiment, "--renderer", "mesh", "--mesh", str(tmp_path / "mine.npz")])
    avgen_videos.main([*experiment, "--renderer", "codec", "--codec", "mine:build"])
    assert drawn == ["MeshFace", "CodecFace"]
    with pytest.raises(DataError, match="which control opens the mouth.*--mesh"):
        avgen_videos.main([*experiment, "--renderer", "mesh"])
    with pytest.raises(UsageError, match="face_basis"):
        avgen_videos.main([*experiment, "--renderer", "sketch"])


def test_another_renderer_draws_anew(experiment, drawn, monkeypatch):
    avgen_videos.main(experiment)
    avgen_videos.main([*experiment, "--renderer", "auto"])
    assert drawn == ["Plots"]
    avgen_videos.main([*experiment, "--renderer", "codec", "--codec", "mine:build"])
    avgen_videos.main([*experiment, "--renderer", "codec", "--codec", "mine:build"])
    assert drawn == ["Plots", "CodecFace"]
    with monkeypatch.context() as broken, pytest.raises(OSError, match="full"):
        broken.setattr("espnet_av.avgen.render.video.write_sample_video", full)
        avgen_videos.main(experiment)
    avgen_videos.main([*experiment, "--renderer", "codec", "--codec", "mine:build"])
    assert drawn == ["Plots", "CodecFace", "CodecFace"], "nobody knows which of them were drawn"


def full(*_):
    raise OSError("disk full")
