# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""``espnet-av separate``: one voice for every face of a video, drawn faces and real ones of GRID."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import soundfile
import torch
import yaml

from espnet_av.avss.inference import Lips, Separator
from espnet_av.avss.lip_embedding import LipEmbedder
from espnet_av.avss.rtfsnet import RTFSNet
from espnet_av.avss.video_voices import gather_lips, nearest_true, separate_video
from espnet_av.bin import avss_separate
from espnet_av.data import video_tracks
from espnet_av.data.face_detector import FaceBox
from espnet_av.data.mouth_roi import MEAN_FACE
from espnet_av.data.video_io import read_audio_track, read_video, write_video
from espnet_av.utils.errors import DataError, EnvironmentProblem, MissingDataError, UsageError

CENTERS = ((130.0, 130.0), (390.0, 130.0))
NUM_FRAMES, LEAVES = 75, 50  # the second face goes after two of three seconds
SIZES = {
    "repeats": 1, "channels": 8, "hidden": 8, "rnn_hidden": 4, "rnn_layers": 1, "video_dim": 512, "video_hidden": 8,
    "video_heads": 2, "video_ffn": 8,
}  # fmt: skip


class KnownFinder:
    """Faces at fixed places, where the frame is not black."""

    def find_faces(self, frame):
        return [
            FaceBox(np.array(c), np.full(2, 120.0), np.tile(c, (6, 1)), 0.9)
            for c in CENTERS
            if c[0] < frame.shape[1] and frame[int(c[1]), int(c[0])].mean() > 30
        ]

    def fit_mesh(self, frame, roi):
        from espnet_av.data.face_detector import MESH_TO_68

        faces = self.find_faces(frame)
        near = [face.center for face in faces if abs(face.center[0] - roi.center[0]) < 60]
        if not near:
            return None
        shape = np.full((68, 2), 128.0)
        shape[48:] = (130, 157)
        for index, place in MEAN_FACE.items():
            shape[index] = place
        mesh = np.random.default_rng(0).uniform(70, 190, (468, 2))
        mesh[list(MESH_TO_68)] = shape
        return (mesh - 128 + near[0]).astype(np.float32)


@pytest.fixture
def talk(tmp_path, monkeypatch):
    """A video of two faces, an untrained model and its front end."""
    rng = np.random.default_rng(0)
    frames = cv2.resize(rng.integers(60, 200, (NUM_FRAMES, 26, 52), dtype=np.uint8).transpose(1, 2, 0), (520, 260))
    frames = np.repeat(frames.transpose(2, 0, 1)[..., None], 3, axis=-1)
    frames[LEAVES:, 70:190, 330:450] = 0  # too little for a new scene
    wave = rng.normal(0, 0.1, NUM_FRAMES * 640)
    video = tmp_path / "talk.mp4"
    write_video(video, frames, 25, wave)
    torch.manual_seed(0)
    model = tmp_path / "model"
    model.mkdir()
    torch.save(RTFSNet(**SIZES).state_dict(), model / "valid.loss.best.pth")
    embedder = LipEmbedder.from_pretrained("random:3")
    config = {"model": "rtfsnet", "model_conf": SIZES, "lips": embedder.describe().to_dict()}
    (model / "config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setattr("espnet_av.data.face_tracks.LiteRTFaceMesh", KnownFinder)
    return SimpleNamespace(video=video, model=model, out=tmp_path / "out", embedder=embedder, frames=frames)


def command(talk, *more):
    words = [talk.video, "--model", talk.model, "--output_dir", talk.out, "--device", "cpu", *more]
    avss_separate.main([str(word) for word in words])


def test_one_voice_for_each_face(talk, capsys):
    command(talk, "--lip_frontend", "random:3", "--wav_format", "float")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["spk_0", "spk_1"]
    assert "100.0 %" in lines[0]
    voices = [soundfile.read(talk.out / f"spk_{k}.wav", dtype="float32") for k in (0, 1)]
    assert all((len(voice), rate) == (NUM_FRAMES * 640, 16000) for voice, rate in voices)
    (first, _), (second, _) = voices
    assert not second[LEAVES * 640 :].any()
    assert first[LEAVES * 640 :].any()
    assert np.abs(first - second)[: 40 * 640].max() > 1e-6
    assert cv2.imread(str(talk.out / "spk_1.png")).shape == (224, 224, 3)
    facts = json.loads((talk.out / "separation.json").read_text())
    assert facts["faces"]["spk_1"]["frames"] == [[0, LEAVES]]
    assert facts["faces"]["spk_1"]["seen_share"] == pytest.approx(LEAVES / NUM_FRAMES, abs=1e-3)

    expected = Separator.from_pretrained(talk.model, embedder=talk.embedder)
    crops = talk.out / "tracks" / "talk" / "speakers" / "spk_0" / "central_crops" / "track_00_lip.av.mp4"
    alone = expected(read_audio_track(talk.video), read_video(crops, gray=True).frames)
    assert np.abs(alone[0] - first).max() < 1e-6


def test_a_face_out_of_view_without_lips(talk):
    command(talk, "--lip_frontend", "random:3", "--unseen", "no_video", "--window_sec", "0.8", "--overlap_sec", "0.2",
            "--margin_sec", "0.04")  # fmt: skip
    assert soundfile.read(talk.out / "spk_1.wav")[0][LEAVES * 640 :].any()


def test_the_front_end_of_a_pack_and_tracks_that_are_there(talk, monkeypatch):
    with pytest.raises(UsageError, match="--lip_frontend"):
        command(talk)
    talk.embedder.save(talk.model / "lip_front_end.safetensors")
    command(talk, "--max_faces", "1")
    assert (talk.out / "spk_0.wav").is_file()
    assert not (talk.out / "spk_1.wav").exists()

    def never(*_, **__):
        raise AssertionError("made again")

    monkeypatch.setattr(video_tracks, "track_faces", never)
    command(talk)
    assert (talk.out / "spk_1.wav").is_file()
    with pytest.raises(AssertionError, match="made again"):
        command(talk, "--min_track", "0.5")


def test_wrong_input(talk, tmp_path):
    with pytest.raises(MissingDataError, match="no such video"):
        avss_separate.main([str(tmp_path / "none.mp4"), "--model", str(talk.model), "--output_dir", str(talk.out)])
    with pytest.raises(DataError, match="another front end"):
        command(talk, "--lip_frontend", "random:4")
    with pytest.raises(UsageError, match="--max_faces"):
        command(talk, "--max_faces", "0")
    write_video(talk.video, talk.frames[:30])
    with pytest.raises(DataError, match="no sound"):
        command(talk, "--lip_frontend", "random:3")
    config = yaml.safe_dump({"model": "convtasnet", "model_conf": {}})
    (talk.model / "config.yaml").write_text(config)
    with pytest.raises(UsageError, match="look at lips"):
        separate_video(talk.video, talk.out, SimpleNamespace(with_lips=False))
    assert not talk.out.exists()


def test_lips_of_several_tracks(tmp_path):
    rng = np.random.default_rng(0)
    tracks = []
    for name, start, count in (("a", 2, 6), ("b", 12, 20)):
        write_video(tmp_path / f"{name}.mp4", rng.integers(0, 255, (count, 96, 96, 3), dtype=np.uint8), 25)
        tracks.append(SimpleNamespace(lip=tmp_path / f"{name}.mp4", frame_start=start, name=name))
    means = [read_video(t.lip, gray=True).frames.mean((1, 2)) for t in tracks]
    separator = SimpleNamespace(embedder=lambda x: x.float().mean((2, 3)).unsqueeze(-1), device="cpu")
    lips = gather_lips(tracks, 25, separator)
    assert isinstance(lips, Lips)
    assert np.flatnonzero(~lips.seen).tolist() == [0, 1, 8, 9, 10, 11]
    expected = np.concatenate([[means[0][0]] * 2, means[0], [means[0][-1]] * 2, [means[1][0]] * 2, means[1][:13]])
    assert lips.embeddings[:, 0] == pytest.approx(expected, abs=1e-3)
    with pytest.raises(DataError, match="after the sound"):
        gather_lips(tracks[1:], 12, separator)
    assert nearest_true(np.array([0, 1, 0, 0, 1, 0], bool)).tolist() == [1, 1, 1, 4, 4, 4]


@pytest.mark.slow
def test_two_real_faces(talk, shared_data, monkeypatch):
    """Two GRID clips side by side, both voices at once."""
    pytest.importorskip("ai_edge_litert", reason="needs the extra 'face'")
    monkeypatch.undo()
    clips = sorted((shared_data("grid_s1") / "video").glob("*.mpg"))[:2]
    frames = np.concatenate([read_video(clip).frames[:50] for clip in clips], axis=2)
    write_video(talk.video, frames, 25, sum(read_audio_track(clip)[: 50 * 640] for clip in clips) / 2)
    try:
        command(talk, "--lip_frontend", "random:3")
    except EnvironmentProblem as error:
        pytest.skip(f"no model files: {error}")
    facts = json.loads((talk.out / "separation.json").read_text())
    assert [face["frames"] for face in facts["faces"].values()] == [[[0, 50]], [[0, 50]]]
