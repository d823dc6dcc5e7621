# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Linking of faces, with a finder that knows where they are."""

import dataclasses

import numpy as np
import pytest

from espnet_av.data.face_detector import FaceBox, SquareROI
from espnet_av.data.face_tracks import FaceTracker, TrackRules, box_of_mesh, box_overlap, group_tracks
from espnet_av.utils.errors import UsageError

SIZE = 20.0
SHAPE = np.random.default_rng(0).uniform(-0.5, 0.5, (468, 2)) * SIZE
SHAPE[:4] = np.array([[-0.5, -0.5], [0.5, 0.5], [-0.5, 0.5], [0.5, -0.5]]) * SIZE
SHAPE[33], SHAPE[263] = (-5, 0), (5, 0)  # a level line of the eyes


class KnownFaces:
    """Faces at given centres: one dictionary face -> (x, y) per frame; the frame's pixels hold its number."""

    def __init__(self, places: list[dict[str, tuple[float, float]]]) -> None:
        self.places = places
        self.num_looks = 0

    def frames(self, levels: list[int] | None = None) -> list[np.ndarray]:
        frames = []
        for index in range(len(self.places)):
            frame = np.full((90, 100, 3), 0 if levels is None else levels[index], np.uint8)
            frame[0, 0, :2] = divmod(index, 256)
            frames.append(frame)
        return frames

    def _here(self, frame: np.ndarray) -> list[np.ndarray]:
        index = int(frame[0, 0, 0]) * 256 + int(frame[0, 0, 1])
        return [np.array(place, float) for place in self.places[index].values()]

    def find_faces(self, frame: np.ndarray) -> list[FaceBox]:
        self.num_looks += 1
        return [FaceBox(place, np.full(2, SIZE), np.tile(place, (6, 1)), 0.9) for place in self._here(frame)]

    def fit_mesh(self, frame: np.ndarray, roi: SquareROI) -> np.ndarray | None:
        near = [place for place in self._here(frame) if np.abs(place - roi.center).max() < roi.side / 2]
        if not near:
            return None
        nearest = min(near, key=lambda place: np.abs(place - roi.center).max())
        return (nearest + SHAPE).astype(np.float32)


def run(places, levels=None, **rules):
    finder = KnownFaces(places)
    tracker = FaceTracker(finder, rules=TrackRules(**{"min_frames": 5, "max_gap": 6, "min_face": 5.0, **rules}))
    return tracker, tracker.track(finder.frames(levels))


def test_two_faces_that_move():
    places = [{"a": (20 + 0.5 * k, 40), "b": (75, 40 + 0.3 * k)} for k in range(40)]
    tracker, tracks = run(places)
    assert [(t.frame_start, t.frame_end) for t in tracks] == [(0, 40), (0, 40)]
    centers = (tracks[0].boxes[:, :2] + tracks[0].boxes[:, 2:]) / 2
    np.testing.assert_allclose(centers, [place["a"] for place in places], atol=1e-4)
    assert tracks[1].landmarks.shape == (40, 68, 2)
    assert all(track.detected.all() for track in tracks)
    assert tracker.finder.num_looks == 8  # every fifth frame of 40


def test_a_gap_is_bridged_where_the_motion_leads():
    places = [{"a": (20 + 2.0 * k, 40)} if not 15 <= k < 20 else {} for k in range(30)]
    _, tracks = run(places)
    assert len(tracks) == 1
    assert np.flatnonzero(~tracks[0].detected).tolist() == list(range(15, 20))
    np.testing.assert_allclose(tracks[0].boxes[:, 0], 10 + 2.0 * np.arange(30), atol=1e-3)
    np.testing.assert_allclose(np.diff(tracks[0].landmarks[:, 30, 0]), 2.0, atol=1e-3)


def test_a_long_gap_ends_the_track():
    _, tracks = run([{"a": (40, 40)} if not 15 <= k < 25 else {} for k in range(40)])
    assert [(t.frame_start, t.frame_end) for t in tracks] == [(0, 15), (25, 40)]
    people = group_tracks(tracks)
    assert [[(t.person, t.name) for t in person] for person in people] == [
        [("spk_0", "track_00"), ("spk_0", "track_01")]
    ]
    assert len(group_tracks(tracks, max_gap_sec=0.2)) == 2


def test_another_place_is_another_person():
    _, tracks = run([{"a": (20, 40)} if k < 15 else {"b": (75, 40)} for k in range(40)])
    assert [(t.frame_start, t.frame_end) for t in tracks] == [(0, 15), (15, 40)]
    assert [t.person for person in group_tracks(tracks) for t in person] == ["spk_0", "spk_1"]


def test_short_and_small_faces_are_dropped():
    places = [{"a": (20, 40), **({"b": (75, 40)} if 10 <= k < 13 else {})} for k in range(20)]
    tracker, tracks = run(places)
    assert (len(tracks), tracker.num_dropped, tracker.num_frames) == (1, 1, 20)
    assert run(places, min_face=30.0)[1] == []


def test_a_cut_ends_all_tracks():
    places = [{"a": (40, 40)} for _ in range(20)]
    _, tracks = run(places, levels=[0] * 10 + [200] * 10)
    assert [(t.frame_start, t.frame_end, t.scene) for t in tracks] == [(0, 10, 0), (10, 20, 1)]
    assert len(group_tracks(tracks)) == 2  # somebody else may sit there in the new scene
    assert len(run(places, levels=[0] * 10 + [200] * 10, cut_level=None)[1]) == 1


def test_tracks_that_meet_become_one():
    places = [{"a": (20 + min(k, 12), 40), "b": (45 - min(k, 12), 40)} for k in range(30)]
    _, tracks = run(places)
    assert len([t for t in tracks if t.frame_end == 30]) == 1


def test_wide_frames_are_looked_at_in_tiles():
    class Seen(KnownFaces):
        def __init__(self):
            self.shapes = []

        def find_faces(self, frame):
            self.shapes.append(frame.shape[:2])
            place = np.array([10.0, 20.0])
            return [FaceBox(place, np.full(2, SIZE), np.tile(place, (6, 1)), 0.9)] if frame.shape[1] == 60 else []

    finder = Seen()
    found = FaceTracker(finder).find_all(np.zeros((60, 150, 3), np.uint8))
    assert finder.shapes == [(60, 150), (60, 60), (60, 60), (60, 60), (60, 60)]
    assert [box.center.tolist() for box in found] == [[10, 20], [40, 20], [70, 20], [100, 20]]


def test_boxes():
    assert box_overlap(np.array([0, 0, 2, 2]), np.array([1, 0, 3, 2])) == pytest.approx(1 / 3)
    assert box_overlap(np.array([0, 0, 1, 1]), np.array([2, 2, 3, 3])) == 0.0
    np.testing.assert_allclose(box_of_mesh(np.array([[1.0, 5.0], [3.0, 2.0]])), [1, 2, 3, 5])


@pytest.mark.parametrize("wrong", [{"redetect_every": 0}, {"min_iou": 1.5}, {"max_gap": -1}, {"min_detected": 2.0}])
def test_wrong_rules(wrong):
    with pytest.raises(UsageError):
        dataclasses.replace(TrackRules(), **wrong)
