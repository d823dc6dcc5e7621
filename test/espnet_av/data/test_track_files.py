# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Tracks on disk: crops, sound, descriptions, and nothing half-written."""

import json

import numpy as np
import pytest

from espnet_av.avsr.session_files import read_session
from espnet_av.data.face_tracks import FaceTrack
from espnet_av.data.mouth_roi import MEAN_FACE
from espnet_av.data.track_files import face_matrices, read_tracks, track_faces, write_crops
from espnet_av.data.video_io import probe, read_audio_track, read_video, write_video
from espnet_av.utils.errors import DataError, MissingDataError

NUM_FRAMES, FIRST, LAST = 20, 4, 18


class FixedTracker:
    """Finds the same two tracks in any video."""

    fps = 25
    num_dropped = 1
    num_frames = NUM_FRAMES

    class rules:  # noqa: N801
        min_frames = 5

    def __init__(self, tracks):
        self.tracks = tracks

    def track(self, frames):
        self.num_frames = sum(1 for _ in frames)
        return self.tracks


def face_points() -> np.ndarray:
    """A face of 68 points where the mean face is, mouth at (130, 160)."""
    points = np.full((68, 2), 128.0)
    points[48:] = (130.0, 160.0)
    for index, place in MEAN_FACE.items():
        points[index] = place
    return points


def make_track(first: int, last: int, shift: float) -> FaceTrack:
    count = last - first
    points = np.repeat(face_points()[None], count, axis=0) + [shift, 0.0]
    boxes = np.repeat([[80.0 + shift, 60.0, 180.0 + shift, 160.0]], count, axis=0)
    detected = np.ones(count, bool)
    detected[2] = False
    return FaceTrack(first, boxes.astype(np.float32), points.astype(np.float32), detected)


@pytest.fixture
def tracks():
    return [make_track(0, NUM_FRAMES, 0.0), make_track(FIRST, LAST, 200.0)]


@pytest.fixture
def video(tmp_path):
    """Frame k has the gray level 10 k; a tone begins with frame 10."""
    path = tmp_path / "room.mp4"
    frames = (np.full((260, 480, 3), 10 * index, np.uint8) for index in range(NUM_FRAMES))
    time = np.arange(NUM_FRAMES * 640) / 16000
    write_video(path, frames, 25, np.where(time >= 0.4, 0.5 * np.sin(2 * np.pi * 440 * time), 0.0))
    return path


def test_a_session_is_written_and_read(tmp_path, video, tracks):
    made = track_faces(video, tmp_path / "session", tracker=FixedTracker(tracks))
    session = read_session(tmp_path / "session")
    assert session.problems == []
    assert {name: len(item.tracks) for name, item in session.speakers.items()} == {"spk_0": 1, "spk_1": 1}
    second = session.speakers["spk_1"].tracks[0]
    assert (second.first_frame, second.num_frames, second.start_sec) == (FIRST, LAST - FIRST, FIRST / 25)
    assert session.speakers["spk_0"].uem == (0.0, NUM_FRAMES / 25)
    assert second.asd is None  # not scored yet
    for old, new in zip(made, read_tracks(tmp_path / "session"), strict=True):
        np.testing.assert_array_equal(new.landmarks, old.landmarks)
        np.testing.assert_allclose(new.boxes, old.boxes, atol=0.01)
        np.testing.assert_array_equal(new.detected, old.detected)
        assert (new.video, new.lip, new.person, new.frame_end) == (old.video, old.lip, old.person, old.frame_end)
    assert not list(tmp_path.glob(".session*"))


def test_crops_and_sound_are_of_the_same_moment(tmp_path, video, tracks):
    made = track_faces(video, tmp_path / "session", tracker=FixedTracker(tracks))
    for path, size in ((made[1].video, 224), (made[1].lip, 96)):
        clip = read_video(path)
        assert clip.frames.shape == (LAST - FIRST, size, size, 3)
        levels = clip.frames[:, 20:60, 20:60].mean(axis=(1, 2, 3))
        np.testing.assert_allclose(levels, 10.0 * np.arange(FIRST, LAST), atol=4)
        loud = np.abs(read_audio_track(path)) > 0.1
        assert abs(int(np.argmax(loud)) - (10 - FIRST) * 640) < 320
        assert probe(path).fps == 25


def test_face_crops_are_where_active_speaker_detection_wants_them():
    matrix = face_matrices(np.array([[100.0, 50.0, 200.0, 150.0]]))[0]
    half = 50.0
    corners = {(0, 0): (150 - 1.4 * half, 100 - half), (224, 224): (150 + 1.4 * half, 100 + 1.8 * half)}
    for crop, place in corners.items():
        np.testing.assert_allclose(matrix @ [*place, 1.0], crop, atol=1e-9)
    jumps = np.repeat([[100.0, 50.0, 200.0, 150.0]], 30, axis=0)
    jumps[10] += 40
    assert np.ptp(face_matrices(jumps), axis=0).max() == 0  # the median ignores one frame


def test_no_face_is_an_error_and_leaves_nothing(tmp_path, video):
    with pytest.raises(DataError, match="no face track.*1 tracks dropped"):
        track_faces(video, tmp_path / "session", tracker=FixedTracker([]))
    assert not (tmp_path / "session").exists()


def test_a_failing_pass_leaves_the_old_folder(tmp_path, video, tracks):
    track_faces(video, tmp_path / "session", tracker=FixedTracker(tracks))
    before = (tmp_path / "session" / "metadata.json").read_text(encoding="utf-8")
    with pytest.raises(DataError, match="ends before"):
        track_faces(video, tmp_path / "session", tracker=FixedTracker([make_track(0, NUM_FRAMES + 5, 0.0)]))
    assert (tmp_path / "session" / "metadata.json").read_text(encoding="utf-8") == before
    assert not list(tmp_path.glob(".session*"))


def test_an_error_while_writing_is_told(tmp_path, tracks):
    frames = iter([np.zeros((260, 480, 3), np.uint8)] * NUM_FRAMES)
    (tmp_path / "speakers").write_text("in the way", encoding="utf-8")
    with pytest.raises(OSError, match="speakers"):
        write_crops(frames, tracks, tmp_path, None)


def test_damaged_descriptions(tmp_path, video, tracks):
    with pytest.raises(MissingDataError, match="no face tracks"):
        read_tracks(tmp_path)
    made = track_faces(video, tmp_path / "session", tracker=FixedTracker(tracks))
    box_file = made[0].video.with_name("track_00_bbox.json")
    boxes = json.loads(box_file.read_text(encoding="utf-8"))
    del boxes["7"]
    box_file.write_text(json.dumps(boxes), encoding="utf-8")
    with pytest.raises(DataError, match="damaged track"):
        read_tracks(tmp_path / "session")
