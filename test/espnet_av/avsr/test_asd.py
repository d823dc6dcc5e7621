# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Scoring of face tracks with Light-ASD: pieces, weights of the durations, scales, files."""

import json

import numpy as np
import pytest
import torch

from espnet_av.avsr.asd import (
    ActiveSpeakerDetector,
    LightASD,
    as_int16_scale,
    face_input,
    from_published,
    score_tracks,
    to_published,
    write_scores,
)
from espnet_av.data.face_tracks import FaceTrack
from espnet_av.data.video_io import read_video, write_video
from espnet_av.utils.errors import CheckpointError, DataError, UsageError

SIZE = 16  # pixels; the network takes any


@pytest.fixture(scope="module")
def model() -> LightASD:
    torch.manual_seed(0)
    made = LightASD(channels=(6, 6, 8)).eval()
    for parameter in made.parameters():
        if parameter.dim() > 3:
            torch.nn.init.kaiming_normal_(parameter, nonlinearity="relu")  # no stream fades on its way
    for name, buffer in made.named_buffers():
        if "block1.bn_m_" in name and name.endswith("running_var"):
            buffer.fill_(100.0)  # cepstra are that large
    return made


def clip(num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise to see and to hear, the latter of a level that changes from frame to frame."""
    random = np.random.default_rng(num_frames)
    faces = random.integers(0, 256, (num_frames, SIZE, SIZE), dtype=np.uint8)
    level = np.repeat(10.0 ** random.uniform(-3, 0, num_frames), 640)
    return faces, (random.uniform(-0.9, 0.9, num_frames * 640) * level).astype(np.float32)


def by_hand(model: LightASD, detector: ActiveSpeakerDetector, duration: int, faces: np.ndarray, wave) -> np.ndarray:
    """Score every piece alone."""
    cepstra, size, scores = detector.cepstra(wave, len(faces)), duration * 25, []
    for start in range(0, len(faces), size):
        piece = torch.from_numpy(faces[start : start + size])[None]
        with torch.no_grad():
            scores.append(model(piece, cepstra[None, 4 * start : 4 * (start + size)])[0, :, 1].double().numpy())
    return np.concatenate(scores)


@pytest.mark.parametrize("num_frames", [1, 53, 60, 75, 130])
def test_scores_are_the_weighted_mean_over_durations(model, num_frames):
    faces, wave = clip(num_frames)
    detector = ActiveSpeakerDetector(model, durations_sec=(1, 1, 1, 2), batch_frames=30)
    one, two = (by_hand(model, detector, duration, faces, wave) for duration in (1, 2))
    scores = detector.score(faces, wave)
    assert scores.shape == (num_frames,)
    np.testing.assert_allclose(scores, 0.75 * one + 0.25 * two, atol=1e-5)
    legacy = ActiveSpeakerDetector(model, durations_sec=(1, 1, 1, 2), legacy=True)
    np.testing.assert_allclose(legacy.score(faces, wave), np.round(0.5 * one + 0.5 * two, 1), atol=1e-6)


def test_default_durations_and_their_legacy(model):
    assert ActiveSpeakerDetector(model).durations_sec == (1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6)
    assert ActiveSpeakerDetector(model, legacy=True).durations_sec == (1, 2, 3, 4, 5, 6)


def test_sound_of_any_type_and_length(model):
    faces, wave = clip(30)
    detector = ActiveSpeakerDetector(model)
    scores = detector.score(faces, wave)
    assert np.abs(detector.score(faces, wave[::-1].copy()) - scores).max() > 1e-3
    as_int = np.round(wave * 32768).astype(np.int16)
    np.testing.assert_allclose(detector.score(faces, as_int), scores, atol=0.02, rtol=0.02)
    np.testing.assert_array_equal(detector.score(faces, np.concatenate([wave, wave])), scores)
    assert detector.score(faces, wave[:1000]).shape == (30,)
    assert as_int16_scale(np.array([0.5], np.float32)).tolist() == [16384.0]
    assert as_int16_scale(np.array([7], np.int16)).tolist() == [7.0]


def test_a_track_on_disk_is_scored_in_blocks(model, tmp_path):
    path = tmp_path / "track_00.mp4"
    random = np.random.default_rng(0)
    write_video(path, random.integers(0, 256, (130, 224, 224), dtype=np.uint8), crf=40)
    wave = clip(130)[1]
    detector = ActiveSpeakerDetector(model, durations_sec=(1, 2))  # blocks of two seconds
    track = FaceTrack(10, np.zeros((130, 4)), np.zeros((130, 68, 2)), np.ones(130, bool), video=path)
    faces = np.stack([face_input(frame) for frame in read_video(path, gray=True).frames])
    scores = detector.score_track(track, wave)
    np.testing.assert_allclose(scores, detector.score(faces, wave), atol=1e-5)
    with pytest.raises(DataError, match="wrong length"):
        detector.score_track(FaceTrack(0, np.zeros((131, 4)), np.zeros((131, 68, 2)), np.ones(131), video=path), wave)
    with pytest.raises(DataError, match="no face crops"):
        detector.score_track(FaceTrack(0, np.zeros((1, 4)), np.zeros((1, 68, 2)), np.ones(1)), wave)


def test_tracks_get_their_own_sound(tmp_path):
    class Loudness:
        def score_track(self, track, wave):
            return np.abs(wave.reshape(track.num_frames, -1)).max(axis=1)

    wave = np.repeat(np.arange(10) / 10, 640)
    track = FaceTrack(4, np.zeros((8, 4)), np.zeros((8, 68, 2)), np.ones(8), asd=tmp_path / "track_00_asd.json")
    scores = score_tracks([track], wave, Loudness())
    np.testing.assert_allclose(scores[0], [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.0, 0.0])  # the sound ends before the track
    written = json.loads(track.asd.read_text(encoding="utf-8"))
    assert (written["4"], written["9"], written["11"], len(written)) == (0.4, 0.9, 0.0, 8)


def test_face_input_is_the_middle():
    crop = np.zeros((224, 224), np.uint8)
    crop[56:168, 56:168] = 9
    assert (face_input(crop) == 9).all()
    assert face_input(np.zeros((300, 280), np.uint8)).shape == (112, 112)


def test_names_of_published_files_and_back(tmp_path, model):
    full = LightASD(visual_head=True)
    published = to_published(full.state_dict())
    assert "model.visualEncoder.block1.bn_s_3.weight" in published
    assert "lossV.FC.weight" in published
    back = from_published({f"module.{name}": tensor for name, tensor in published.items()})
    assert all(torch.equal(back[name], tensor) for name, tensor in full.state_dict().items())
    path = tmp_path / "finetuning_TalkSet.model"
    torch.save(published, path)
    detector = ActiveSpeakerDetector.from_pretrained(path, legacy=True)
    assert detector.report.exact
    assert detector.legacy
    assert detector.digest != ActiveSpeakerDetector.from_pretrained(path).digest
    del published["model.GRU.gru_forward.bias_ih_l0"]
    torch.save(published, path)
    with pytest.raises(CheckpointError, match="gru_forward.bias_ih_l0"):
        ActiveSpeakerDetector.from_pretrained(path)


def test_wrong_input(model, tmp_path):
    faces, wave = clip(5)
    detector = ActiveSpeakerDetector(model)
    with pytest.raises(DataError, match="wrong face crops"):
        detector.score(faces.astype(np.float32), wave)
    with pytest.raises(DataError, match="not in"):
        detector.score(faces, wave * 32768)
    with pytest.raises(DataError, match="not in"):
        detector.score(faces, np.full(100, np.nan))
    with pytest.raises(DataError, match="wrong audio"):
        detector.score(faces, wave.reshape(5, -1))
    with pytest.raises(UsageError, match="durations"):
        ActiveSpeakerDetector(model, durations_sec=(0.5,))
    with pytest.raises(CheckpointError, match="no such weights"):
        ActiveSpeakerDetector.from_pretrained(tmp_path / "none.model")
    write_scores(tmp_path / "a" / "b.json", np.array([1.23456]), 7)
    assert json.loads((tmp_path / "a" / "b.json").read_text(encoding="utf-8")) == {"7": 1.235}
