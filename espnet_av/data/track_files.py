# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Face tracks on disk, in the layout of MCoRec sessions.

    metadata.json                                person -> central -> uem {start, end}, crops [{video, lip, asd, ...}]
    speakers/spk_0/central_crops/track_00.mp4    face crops 224x224 with sound
                                 ..._lip.av.mp4  aligned mouth crops 96x96 with sound
                                 ..._bbox.json   frame of the recording -> box x1, y1, x2, y2
                                 ..._asd.json    frame of the recording -> active speaker score
                                 ....json        frame_start, frame_end (the one after the last), start_time, ...
                                 ..._landmarks.npy   (T, 68, 2) in pixels of the recording

The video is decoded once to find the tracks and once to cut them; neither pass keeps more than a few frames.
"""

import contextlib
import dataclasses
import logging
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from espnet_av.data.av_clock import DEFAULT_SAMPLE_RATE, AVClock
from espnet_av.data.face_tracks import FaceTrack, FaceTracker, group_tracks
from espnet_av.data.mouth_roi import ClipRejected, CropRules, crop_mouth, smooth_landmarks
from espnet_av.data.video_io import iter_frames, probe, read_audio_track, write_video
from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.experiment import write_json
from espnet_av.utils.files import atomic_write
from espnet_av.utils.folders import atomic_folder, remove_leftovers
from espnet_av.utils.progress import progress
from espnet_av.utils.untrusted import load_npy, parse_json

logger = logging.getLogger(__name__)

FACE_SIZE = 224
FACE_MARGIN = 0.4  # of the crop beyond the face box: to both sides, and below
BOX_WINDOW = 13  # frames of the median that steadies the boxes
BORDER_LEVEL = 110
QUEUE_FRAMES = 32
FACE_CRF, LIP_CRF = 23, 16
DEFAULT_CROP = CropRules()


def track_faces(
    video_path: str | os.PathLike,
    output_dir: str | os.PathLike,
    *,
    tracker: FaceTracker | None = None,
    max_absence_sec: float = 10.0,
    crop_rules: CropRules = DEFAULT_CROP,
) -> list[FaceTrack]:
    """Find the faces of a video and write their tracks as a session folder. It appears only when it is whole.

    Args:
        video_path: Any video; another frame rate is brought to that of the tracker by time stamps.
        output_dir: The session folder; an older one is replaced.
        tracker: Finds the tracks; None makes a :class:`~espnet_av.data.face_tracks.FaceTracker`.
        max_absence_sec: See :func:`~espnet_av.data.face_tracks.group_tracks`.
        crop_rules: Size and smoothing of the mouth crops.

    Returns:
        The tracks with their files, person by person. Scores are not made, but ``asd`` says where they belong.

    Raises:
        DataError: The video is damaged, or shows no face long enough.
    """
    tracker = FaceTracker() if tracker is None else tracker
    info = probe(video_path)
    expected = max(1, round(info.duration_sec * tracker.fps))
    frames = iter_frames(video_path, fps=tracker.fps)
    tracks = tracker.track(progress(frames, expected, "finding faces", "frame"))
    if not tracks:
        dropped = f"{tracker.num_frames} frames, {tracker.num_dropped} tracks dropped"
        allowed = f"a face for {tracker.rules.min_frames / tracker.fps:g} s or more"
        fix = "show larger faces, or lower min_face or min_frames"
        raise DataError(describe(f"{video_path}: no face track", got=dropped, allowed=allowed, fix=fix))
    people = group_tracks(tracks, max_absence_sec)
    wave = read_audio_track(video_path) if info.has_audio else None
    remove_leftovers(output_dir)
    with atomic_folder(output_dir) as folder:
        for person in people:
            for track in person:
                _write_description(folder, track)
        frames = iter_frames(video_path, fps=tracker.fps)
        shown = progress(frames, tracker.num_frames, "cutting faces", "frame")
        flat = [track for person in people for track in person]
        write_crops(shown, flat, folder, wave, crop_rules=crop_rules)
        _write_metadata(folder, people, tracker.num_frames / tracker.fps)
    return [with_files(track, output_dir) for track in flat]


def with_files(track: FaceTrack, folder: str | os.PathLike) -> FaceTrack:
    """Return the track with the paths that its files have in a session folder."""
    stem = _stem(Path(folder), track)
    face, lip = _clip_paths(stem)
    return dataclasses.replace(track, video=face, lip=lip, asd=stem.with_name(stem.name + "_asd.json"))


def read_tracks(folder: str | os.PathLike) -> list[FaceTrack]:
    """Read the tracks that :func:`track_faces` wrote.

    Raises:
        MissingDataError: A file is missing.
        DataError: A file is damaged.
    """
    folder = Path(folder)
    tracks = []
    for path in sorted((folder / "speakers").glob("*/central_crops/track_*_landmarks.npy")):
        stem = path.with_name(path.name.removesuffix("_landmarks.npy"))
        try:
            description = parse_json(stem.with_name(stem.name + ".json").read_bytes())
            boxes = parse_json(stem.with_name(stem.name + "_bbox.json").read_bytes())
            landmarks = load_npy(path)
            first = int(description["frame_start"])
            corners = [[boxes[str(first + row)][side] for side in _SIDES] for row in range(len(landmarks))]
            gaps = {int(frame) - first for frame in description["interpolated"]}
            detected = np.array([row not in gaps for row in range(len(landmarks))])
            scene, fps = int(description["scene"]), float(description["fps"])
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise DataError(describe(f"{stem}: damaged track ({error!r})", fix="find the faces anew")) from error
        person = stem.parent.parent.name
        track = FaceTrack(
            first, np.asarray(corners, np.float32), landmarks, detected, scene, fps, name=stem.name, person=person
        )
        tracks.append(with_files(track, folder))
    if not tracks:
        raise MissingDataError(describe("no face tracks", got=str(folder), fix="find the faces first"))
    return tracks


_SIDES = ("x1", "y1", "x2", "y2")


def write_crops(
    frames: Iterator[np.ndarray],
    tracks: Sequence[FaceTrack],
    folder: str | os.PathLike,
    wave: np.ndarray | None,
    *,
    crop_rules: CropRules = DEFAULT_CROP,
) -> None:
    """Cut faces and mouths of all tracks out of a video in one pass.

    Args:
        frames: RGB frames (H, W, 3) from frame 0 on.
        tracks: The tracks.
        folder: Session folder.
        wave: ``(N,)`` sound of the video at 16 kHz; None writes clips without sound.
        crop_rules: Size and smoothing of the mouth crops.

    Raises:
        DataError: The video ends before a track does.
    """
    waiting = sorted(tracks, key=lambda track: track.frame_start)
    end = max(track.frame_end for track in tracks)
    with contextlib.ExitStack() as stack:
        cutters: list[_Cutter] = []
        count = 0
        for index, frame in enumerate(frames):
            while waiting and waiting[0].frame_start == index:
                track = waiting.pop(0)
                cutters.append(stack.enter_context(_Cutter(track, _stem(Path(folder), track), wave, crop_rules)))
            for cutter in cutters:
                cutter.add(index, frame)
            for cutter in [item for item in cutters if item.track.frame_end == index + 1]:
                cutter.finish()
                cutters.remove(cutter)
            count = index + 1
        if count < end:
            raise DataError(describe("the video ends before its tracks", got=count, allowed=end))


class _Cutter:
    """Cuts one track, frame by frame, into its two clips; used as a context, it stops its writers on errors."""

    def __init__(self, track: FaceTrack, stem: Path, wave: np.ndarray | None, rules: CropRules) -> None:
        self.track = track
        sound = None
        if wave is not None:
            clock = AVClock(DEFAULT_SAMPLE_RATE, track.fps)
            first, last = clock.frames_to_samples(track.frame_start), clock.frames_to_samples(track.frame_end)
            sound = clock.fit_audio(wave[first:last], track.num_frames)
        face, lip = _clip_paths(stem)
        self._face = _ClipSink(face, track.fps, sound, FACE_CRF)
        self._lip = _ClipSink(lip, track.fps, sound, LIP_CRF)
        self._matrices = face_matrices(track.boxes)
        self._points = smooth_landmarks(track.landmarks.astype(np.float64), rules.window)
        self._rules = dataclasses.replace(rules, window=1)  # the landmarks are smooth already
        self._mouth = np.zeros((rules.crop_size, rules.crop_size, 3), np.uint8)
        self._num_rejected = 0

    def __enter__(self) -> "_Cutter":
        return self

    def __exit__(self, *_: object) -> None:
        self._face.abort()
        self._lip.abort()

    def add(self, index: int, frame: np.ndarray) -> None:
        row = index - self.track.frame_start
        crop = cv2.warpAffine(
            frame, self._matrices[row], (FACE_SIZE, FACE_SIZE), flags=cv2.INTER_LINEAR, borderValue=(BORDER_LEVEL,) * 3
        )
        try:
            self._mouth = crop_mouth(frame[None], self._points[row : row + 1], rules=self._rules)[0]
        except ClipRejected:  # keep the crop before
            self._num_rejected += 1
        self._face.put(crop)
        self._lip.put(self._mouth)

    def finish(self) -> None:
        self._face.close()
        self._lip.close()
        if self._num_rejected:
            name = f"{self.track.person}/{self.track.name}"
            logger.warning("%s: %d of %d frames gave no mouth", name, self._num_rejected, self.track.num_frames)


class _ClipSink:
    """Takes frames one by one and writes them in a thread, which holds a few of them at most."""

    def __init__(self, path: Path, fps: float, wave: np.ndarray | None, crf: int) -> None:
        self._arguments = (path, fps, wave, crf)
        self._queue: queue.Queue[np.ndarray | None] = queue.Queue(QUEUE_FRAMES)
        self._error: BaseException | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, frame: np.ndarray | None) -> None:
        while self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._queue.put(frame, timeout=0.5)
                return
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self._stopped = True
        self.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def abort(self) -> None:
        if not self._stopped:
            with contextlib.suppress(BaseException):
                self.close()

    def _frames(self) -> Iterator[np.ndarray]:
        while (frame := self._queue.get()) is not None:
            yield frame

    def _run(self) -> None:
        path, fps, wave, crf = self._arguments
        try:
            write_video(path, self._frames(), fps, wave, crf=crf)
        except BaseException as error:  # raised again where the frames come from
            self._error = error


def face_matrices(boxes: np.ndarray) -> np.ndarray:
    """Return the maps from frame pixels to the 224x224 face crop.

    The crop of active speaker detection: a square of 2.8 times half the longer side of the box, its middle at the
    middle of the box in x and 0.4 halves of the side below it in y. The boxes are steadied by a running median.

    Args:
        boxes: ``(T, 4)``.

    Returns:
        ``(T, 2, 3)`` float64.
    """
    from scipy.ndimage import median_filter

    steady = median_filter(np.asarray(boxes, np.float64), size=(BOX_WINDOW, 1), mode="nearest")
    half = (steady[:, 2:] - steady[:, :2]).max(axis=1) / 2
    center = (steady[:, :2] + steady[:, 2:]) / 2
    scale = FACE_SIZE / np.maximum(2 * half * (1 + FACE_MARGIN), 1.0)
    left = center[:, 0] - half * (1 + FACE_MARGIN)
    top = center[:, 1] - half
    matrices = np.zeros((len(steady), 2, 3))
    matrices[:, 0, 0] = matrices[:, 1, 1] = scale
    matrices[:, 0, 2], matrices[:, 1, 2] = -left * scale, -top * scale
    return matrices


def _stem(folder: Path, track: FaceTrack) -> Path:
    return folder / "speakers" / track.person / "central_crops" / track.name


def _clip_paths(stem: Path) -> tuple[Path, Path]:
    """Return the paths of the clips of the face and of the mouth."""
    return stem.with_name(stem.name + ".mp4"), stem.with_name(stem.name + "_lip.av.mp4")


def _write_description(folder: Path, track: FaceTrack) -> None:
    """Write what is known of a track before its crops are made."""
    stem = _stem(folder, track)
    gaps = np.flatnonzero(~track.detected) + track.frame_start
    description = {
        "frame_start": track.frame_start,
        "frame_end": track.frame_end,
        "start_time": track.start_time,
        "end_time": track.end_time,
        "duration": track.end_time - track.start_time,
        "fps": track.fps,
        "scene": track.scene,
        "interpolated": gaps.tolist(),
    }
    boxes = {
        str(track.frame_start + row): {side: round(float(value), 2) for side, value in zip(_SIDES, box, strict=True)}
        for row, box in enumerate(track.boxes)
    }
    write_json(stem.with_name(stem.name + ".json"), description, sort_keys=True)
    write_json(stem.with_name(stem.name + "_bbox.json"), boxes, sort_keys=True)
    with atomic_write(stem.with_name(stem.name + "_landmarks.npy"), "wb") as stream:
        np.save(stream, track.landmarks, allow_pickle=False)


def _write_metadata(folder: Path, people: Sequence[Sequence[FaceTrack]], duration_sec: float) -> None:
    suffixes = {
        "video": ".mp4",
        "lip": "_lip.av.mp4",
        "asd": "_asd.json",
        "crop_metadata": ".json",
        "bbox": "_bbox.json",
    }
    content = {}
    for person in people:
        crops = []
        for track in person:
            stem = _stem(folder, track).relative_to(folder).as_posix()
            crops.append({kind: stem + suffix for kind, suffix in suffixes.items()})
        content[person[0].person] = {"central": {"uem": {"start": 0.0, "end": duration_sec}, "crops": crops}}
    write_json(folder / "metadata.json", content, sort_keys=True)
