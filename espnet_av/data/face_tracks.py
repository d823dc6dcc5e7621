# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Who is where in a long video: all faces of every frame, linked over time into tracks.

A face that was found is followed from frame to frame by its mesh; a detector looks for new and lost faces every few
frames. A lost face is taken up again where it would be by its last motion; the gap is filled by interpolation. Frames
are looked at one by one and not kept, so a recording may be hours long.

    tracks = FaceTracker().track(iter_frames("party.mp4", fps=25))

Axes: ``T`` frames of a track, ``H``/``W`` the frame size. Boxes are x1, y1, x2, y2 in pixels of the frame.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from espnet_av.data.av_clock import DEFAULT_FPS
from espnet_av.data.face_detector import FaceBox, LiteRTFaceMesh, SquareROI, roi_of_box, roi_of_mesh, to_68_points
from espnet_av.data.mouth_roi import interpolate_missing
from espnet_av.utils.errors import usage_error

DOUBLE_IOU = 0.6  # two tracks that overlap more are one face
CUT_LEVEL = 40.0  # mean change of a thumbnail in gray levels that is a new scene
THUMBNAIL = (32, 18)
VELOCITY_FRAMES = 5
WIDE = 1.25  # longer frames are also looked at in square tiles


@dataclass(frozen=True)
class FaceTrack:
    """One face over a stretch of time.

    Attributes:
        frame_start: First frame, counted from the start of the recording.
        boxes: ``(T, 4)`` float32.
        landmarks: ``(T, 68, 2)`` float32.
        detected: ``(T,)`` bool; False where box and landmarks are interpolated.
        scene: Number of the scene; a cut of the video begins a new one.
        fps: Frames per second.
        name: ``track_00``, unique for a person.
        person: ``spk_0``.
        video: File of the face crops, once written; so are the following.
        lip: Mouth crops with sound.
        asd: Active speaker scores.
    """

    frame_start: int
    boxes: np.ndarray
    landmarks: np.ndarray
    detected: np.ndarray
    scene: int = 0
    fps: float = DEFAULT_FPS
    name: str = "track_00"
    person: str = "spk_0"
    video: Path | None = None
    lip: Path | None = None
    asd: Path | None = None

    @property
    def num_frames(self) -> int:
        """Number of frames T."""
        return len(self.boxes)

    @property
    def frame_end(self) -> int:
        """Frame after the last one."""
        return self.frame_start + self.num_frames

    @property
    def start_time(self) -> float:
        """Seconds at which the track starts."""
        return self.frame_start / self.fps

    @property
    def end_time(self) -> float:
        """Seconds at which the track ends."""
        return self.frame_end / self.fps


class FaceFinder(Protocol):
    """What a tracker needs; :class:`~espnet_av.data.face_detector.LiteRTFaceMesh` is one."""

    def find_faces(self, frame: np.ndarray) -> list[FaceBox]:
        """Return all faces of an RGB frame (H, W, 3), best first."""
        ...

    def fit_mesh(self, frame: np.ndarray, roi: SquareROI) -> np.ndarray | None:
        """Return the mesh (468, 2) of the face in a square of the frame, or None."""
        ...


@dataclass(frozen=True)
class TrackRules:
    """When faces are one track and which tracks count.

    Attributes:
        redetect_every: Frames between two looks for new faces.
        min_iou: Least intersection over union of the boxes of one face in successive frames.
        max_gap: Longest time without the face inside a track, in frames.
        min_frames: Shorter tracks are dropped.
        min_detected: Tracks whose face was found in a smaller share of frames are dropped.
        min_face: Faces with a shorter longest side are dropped, in pixels.
        cut_level: See :data:`CUT_LEVEL`; None never sees a cut.
    """

    redetect_every: int = 5
    min_iou: float = 0.3
    max_gap: int = 25
    min_frames: int = 25
    min_detected: float = 0.5
    min_face: float = 24.0
    cut_level: float | None = CUT_LEVEL

    def __post_init__(self) -> None:
        if self.redetect_every < 1 or self.max_gap < 0 or self.min_frames < 1:
            numbers = (self.redetect_every, self.max_gap, self.min_frames)
            usage_error("wrong redetect_every, max_gap or min_frames", got=numbers, allowed="1, 0 and 1 or more")
        if not 0 < self.min_iou < 1 or not 0 <= self.min_detected <= 1:
            usage_error("wrong min_iou or min_detected", got=(self.min_iou, self.min_detected), allowed="0 to 1")


class FaceTracker:
    """Finds and links the faces of a video.

    Args:
        finder: Finds faces; None makes a :class:`~espnet_av.data.face_detector.LiteRTFaceMesh`.
        rules: Limits.
        fps: Frame rate of the frames, for the times of the tracks.

    Attributes:
        num_dropped: Tracks of the last video that the rules dropped.
        num_frames: Frames of the last video.
    """

    def __init__(
        self, finder: FaceFinder | None = None, *, rules: TrackRules = TrackRules(), fps: float = DEFAULT_FPS
    ) -> None:
        self.finder = LiteRTFaceMesh() if finder is None else finder
        self.rules = rules
        self.fps = fps
        self.num_dropped = 0
        self.num_frames = 0
        self._active: list[_Trail] = []
        self._ended: list[_Trail] = []
        self._scene = 0
        self._thumbnail: np.ndarray | None = None

    def track(self, frames: Iterable[np.ndarray]) -> list[FaceTrack]:
        """Find the tracks of a video.

        Args:
            frames: RGB frames (H, W, 3) uint8 in order.

        Returns:
            Tracks by first frame, then from left to right.
        """
        self._active, self._ended, self._scene, self._thumbnail = [], [], 0, None
        self.num_frames = 0
        for index, frame in enumerate(frames):
            self._step(index, frame)
            self.num_frames = index + 1
        self._end(self._active)
        tracks = [self._finished(trail) for trail in self._ended]
        kept = [track for track in tracks if track is not None]
        self.num_dropped = len(tracks) - len(kept)
        return sorted(kept, key=lambda track: (track.frame_start, float(track.boxes[0, 0])))

    def find_all(self, frame: np.ndarray) -> list[FaceBox]:
        """Find the faces of a frame (H, W, 3), of a wide or tall one also in overlapping square tiles."""
        found = self.finder.find_faces(frame)
        height, width = frame.shape[:2]
        side = min(height, width)
        if max(height, width) >= WIDE * side:
            for top, left in itertools.product(_tile_starts(height, side), _tile_starts(width, side)):
                offset = np.array([left, top])
                for box in self.finder.find_faces(frame[top : top + side, left : left + side]):
                    moved = dataclasses.replace(box, center=box.center + offset, key_points=box.key_points + offset)
                    found.append(moved)
        return found

    def _step(self, index: int, frame: np.ndarray) -> None:
        if self._is_cut(frame):
            self._end(self._active)
            self._scene += 1
        lost = [trail for trail in self._active if not self._follow(trail, index, frame)]
        if lost or index % self.rules.redetect_every == 0:
            self._look(index, frame, lost)
        seen = sorted((trail for trail in self._active if trail.last == index), key=lambda trail: trail.first)
        doubles = {id(b) for a, b in itertools.combinations(seen, 2) if box_overlap(a.box, b.box) > DOUBLE_IOU}
        gone = [t for t in self._active if id(t) in doubles or index - t.last > self.rules.max_gap]
        self._end(gone)

    def _is_cut(self, frame: np.ndarray) -> bool:
        before = self._thumbnail
        self._thumbnail = cv2.resize(frame, THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
        if before is None or self.rules.cut_level is None:
            return False
        return float(np.abs(self._thumbnail - before).mean()) > self.rules.cut_level

    def _follow(self, trail: "_Trail", index: int, frame: np.ndarray) -> bool:
        """Look for the face of a trail where it was in the frame before."""
        if trail.last != index - 1:
            return False
        mesh = self.finder.fit_mesh(frame, roi_of_mesh(trail.mesh))
        if mesh is None or box_overlap(box_of_mesh(mesh), trail.box) < self.rules.min_iou:
            return False
        trail.add(index, mesh)
        return True

    def _look(self, index: int, frame: np.ndarray, lost: list["_Trail"]) -> None:
        """Find faces that nobody follows: lost ones go on, others begin a trail."""
        followed = [trail.box for trail in self._active if trail.last == index]
        for face in self.find_all(frame):
            corners = np.concatenate([face.center - face.size / 2, face.center + face.size / 2])
            if any(box_overlap(corners, box) >= self.rules.min_iou for box in followed):
                continue
            mesh = self.finder.fit_mesh(frame, roi_of_box(face))
            if mesh is None:
                continue
            box = box_of_mesh(mesh)
            if max(box[2:] - box[:2]) < self.rules.min_face:
                continue
            if any(box_overlap(box, other) >= self.rules.min_iou for other in followed):
                continue
            overlaps = [box_overlap(box, trail.predicted(index)) for trail in lost]
            if overlaps and max(overlaps) >= self.rules.min_iou:
                lost.pop(int(np.argmax(overlaps))).add(index, mesh)
            else:
                self._active.append(_Trail(index, mesh, self._scene))
            followed.append(box)

    def _end(self, trails: Sequence["_Trail"]) -> None:
        gone = {id(trail) for trail in trails}
        self._ended.extend(trails)
        self._active = [trail for trail in self._active if id(trail) not in gone]

    def _finished(self, trail: "_Trail") -> FaceTrack | None:
        """Return the track of a trail with its gaps filled, or None when it breaks a rule."""
        detected = np.array([points is not None for points in trail.points])
        if len(detected) < self.rules.min_frames or detected.mean() < self.rules.min_detected:
            return None
        known = np.flatnonzero(detected)
        columns = np.stack([box for box in trail.boxes if box is not None]).T
        boxes = np.stack([np.interp(np.arange(len(detected)), known, column) for column in columns], axis=1)
        landmarks = interpolate_missing(trail.points).astype(np.float32)
        return FaceTrack(trail.first, boxes.astype(np.float32), landmarks, detected, trail.scene, self.fps)


class _Trail:
    """A track in the making: it begins and ends with a frame in which its face was found."""

    def __init__(self, index: int, mesh: np.ndarray, scene: int) -> None:
        self.first, self.scene = index, scene
        self.points: list[np.ndarray | None] = []
        self.boxes: list[np.ndarray | None] = []
        self.add(index, mesh)

    @property
    def last(self) -> int:
        """The last frame in which the face was found."""
        return self.first + len(self.points) - 1

    def add(self, index: int, mesh: np.ndarray) -> None:
        """Add the mesh (468, 2) of frame ``index``; frames between are gaps."""
        gap = [None] * (index - self.first - len(self.points))
        self.points += [*gap, to_68_points(mesh).astype(np.float32)]
        self.mesh, self.box = mesh, box_of_mesh(mesh)  # of the last frame
        self.boxes += [*gap, self.box]

    def predicted(self, index: int) -> np.ndarray:
        """Return the box at a later frame if the face goes on as it moved last, for at most as long as it did."""
        recent = [box for box in self.boxes[-VELOCITY_FRAMES:] if box is not None]
        moved = (recent[-1] - recent[0])[[0, 1]] + (recent[-1] - recent[0])[[2, 3]]
        velocity = moved / 2 / max(1, len(recent) - 1)
        return self.box + np.tile(velocity * min(index - self.last, VELOCITY_FRAMES), 2)


def box_of_mesh(mesh: np.ndarray) -> np.ndarray:
    """Return the box (4,) round landmarks (N, 2)."""
    return np.concatenate([mesh.min(axis=0), mesh.max(axis=0)]).astype(np.float64)


def box_overlap(box: np.ndarray, other: np.ndarray) -> float:
    """Return the intersection over union of two boxes (4,), 0 to 1."""
    low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
    common = float(np.clip(high - low, 0, None).prod())
    areas = float((box[2:] - box[:2]).prod() + (other[2:] - other[:2]).prod())
    return common / max(areas - common, 1e-9)


def group_tracks(tracks: Sequence[FaceTrack], max_gap_sec: float = 10.0) -> list[list[FaceTrack]]:
    """Put the tracks of one person together, for people who keep their places.

    A track goes on with a person whose last track ended before it began, at most ``max_gap_sec`` earlier and in the
    same scene, when the faces overlap. Who else appears is a new person. Looks are not compared.

    Args:
        tracks: Tracks of one recording.
        max_gap_sec: Longest absence in seconds.

    Returns:
        Tracks of each person in order of time, named ``spk_0``/``track_00`` and so on.
    """
    people: list[list[FaceTrack]] = []
    for track in sorted(tracks, key=lambda item: (item.frame_start, float(item.boxes[0, 0]))):
        best, overlap = None, 0.0
        for person in people:
            last = person[-1]
            near = last.scene == track.scene and 0 <= track.start_time - last.end_time <= max_gap_sec
            shared = box_overlap(last.boxes[-1], track.boxes[0]) if near else 0.0
            if shared > max(overlap, 0.2):
                best, overlap = person, shared
        if best is None:
            best = []
            people.append(best)
        best.append(track)
    return [
        [
            dataclasses.replace(track, person=f"spk_{row}", name=f"track_{number:02d}")
            for number, track in enumerate(own)
        ]
        for row, own in enumerate(people)
    ]


def _tile_starts(length: int, side: int) -> list[int]:
    """Return where tiles of ``side`` begin that cover ``length`` and overlap by half or more."""
    if length <= side:
        return [0]
    count = int(np.ceil((length - side) / (side / 2))) + 1
    return [round(value) for value in np.linspace(0, length - side, count)]
