# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Turns one clip into the files training reads: 16 kHz mono FLAC and mouth crops, both kept in folders that sets share.

The name of a crop file is made of its source (path, size, time of change) and of all settings, so data folders with the
same videos share it, changed settings never meet old crops, and a run that was killed goes on where it stopped. Beside
each crop lies a ``.json`` with what was found; a clip without a usable face has only that.
"""

import hashlib
import io
import json
import logging
import os
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.data.av_clock import AVClock
from espnet_av.data.face_detector import FaceDetector, GivenLandmarks, LiteRTFaceMesh
from espnet_av.data.mouth_roi import (
    ClipRejected,
    CropRules,
    centre_crop,
    check_detection,
    crop_mouth,
    interpolate_missing,
    to_gray,
)
from espnet_av.data.video_io import Video, probe, read_audio_track, read_video, write_video
from espnet_av.utils.errors import DataError, MissingDataError, UsageError, describe
from espnet_av.utils.files import atomic_write

logger = logging.getLogger(__name__)

ROI_MODES = ("face", "landmarks", "center", "none")
ROI_FORMATS = {"npy": "video_npy", "npz": "video_npz", "mp4": "video"}  # -> type in the streams file
CACHE_VERSION = 1  # raise it when the same settings give other crops
CONTAINERS_OF_SOUND = (".m4a", ".aac", ".mp4", ".mkv", ".mov", ".webm")  # read through PyAV, not libsndfile
MAX_CLIP_BYTES = 4 << 30  # of decoded frames; one clip is held in memory


@dataclass(frozen=True)
class FormatSettings:
    """What to make of every clip.

    Attributes:
        roi: ``face`` (detector), ``landmarks`` (given), ``center`` (no alignment) or ``none`` (no video).
        roi_format: ``npy`` or ``npz`` (gray), or ``mp4`` (colour, with the clip's sound).
        roi_dir: Folder of the crops.
        audio_dir: Folder of the converted sound.
        sample_rate: Of the sound, Hz.
        fps: Of the crops.
        rules: Sizes of the crop and limits on missing faces.
        cache: Folder of the detector's model files; None takes the usual one.
    """

    roi: str = "face"
    roi_format: str = "npy"
    roi_dir: str = "mouth"
    audio_dir: str = "audio"
    sample_rate: int = 16000
    fps: int = 25
    rules: CropRules = field(default_factory=CropRules)
    cache: str | None = None

    def __post_init__(self) -> None:
        if self.roi not in ROI_MODES:
            raise UsageError(describe("unknown kind of mouth crop", got=self.roi, allowed=ROI_MODES))
        if self.roi_format not in ROI_FORMATS:
            raise UsageError(describe("unknown format of crops", got=self.roi_format, allowed=list(ROI_FORMATS)))


@dataclass(frozen=True)
class ClipSource:
    """Where an utterance comes from; paths, or None where the data folder has none.

    Attributes:
        utt: Its id.
        video: The clip.
        wav: Its sound, where this is not the clip's own track.
        landmarks: Landmarks of the utterance's frames.
        start_sec: Where the utterance begins in the recording (``segments``).
        end_sec: Where it ends; None: with the recording.
        roi: How its mouth is found, where this differs from the settings (``utt2roi``).
    """

    utt: str
    video: str | None = None
    wav: str | None = None
    landmarks: str | None = None
    start_sec: float = 0.0
    end_sec: float | None = None
    roi: str | None = None


@dataclass
class FormattedClip:
    """What became of an utterance; ``reason`` is None when it can be used."""

    utt: str
    wav: str | None = None
    num_samples: int = 0
    mouth: str | None = None
    num_frames: int = 0
    num_detected: int = 0
    num_interpolated: int = 0
    note: str | None = None
    reason: str | None = None
    detail: str = ""


class ClipFormatter:
    """Formats clips one by one; make one per process.

    Args:
        settings: What to make.
    """

    def __init__(self, settings: FormatSettings) -> None:
        self.settings = settings
        self._clock = AVClock(settings.sample_rate, settings.fps)
        self._face_mesh: LiteRTFaceMesh | None = None
        self._others: dict[str, ClipFormatter] = {}

    def __call__(self, source: ClipSource) -> FormattedClip:
        """Format one utterance; what is wrong with its files becomes the reason, never an exception."""
        result = FormattedClip(source.utt)
        if source.roi not in (None, self.settings.roi) and self.settings.roi != "none":
            return self._with_roi(source.roi)(replace(source, roi=None))
        try:
            if self.settings.roi != "none":
                self._add_crops(source, result)
            self._add_audio(source, result)
            if self.settings.roi == "none":
                result.num_frames = self._clock.samples_to_frames(result.num_samples)
        except ClipRejected as error:
            result.reason, result.detail = error.reason, str(error)
        except MissingDataError as error:
            result.reason, result.detail = "missing_file", str(error)
        except DataError as error:
            result.reason, result.detail = "unreadable", str(error)
        return result

    def _with_roi(self, roi: str) -> "ClipFormatter":
        """Return a formatter that finds mouths in another way."""
        if roi not in self._others:
            self._others[roi] = ClipFormatter(replace(self.settings, roi=roi))
        return self._others[roi]

    def _cut_frames(self, source: ClipSource) -> tuple[int, int | None]:
        """Return the first frame of an utterance on the clock, and the one after its last (None: to the end)."""
        fps = float(self._clock.fps)
        end = None if source.end_sec is None else int(source.end_sec * fps + 0.5)
        return int(source.start_sec * fps + 0.5), end

    # ---- crops -------------------------------------------------------------------------------------------------------

    def _add_crops(self, source: ClipSource, result: FormattedClip) -> None:
        crop = self.crop_path(source)
        found = _read_note(crop)
        if found is None:
            found = self._make_crops(source, crop)
        if found.get("reason"):
            raise ClipRejected(found["reason"], found["detail"])
        result.mouth = str(crop)
        for name in ("num_frames", "num_detected", "num_interpolated", "note"):
            setattr(result, name, found[name])

    def crop_path(self, source: ClipSource) -> Path:
        """Return the path of the crop file of a clip.

        Raises:
            ClipRejected: If there is no video.
            MissingDataError: If the video or landmark file is absent.
        """
        video = _video_of(source)
        rules = asdict(self.settings.rules) if self.settings.roi in ("face", "landmarks") else {}
        key = {
            "version": CACHE_VERSION,
            "roi": self.settings.roi,
            "fps": self.settings.fps,
            "crop_size": self.settings.rules.crop_size,
            "rules": rules,
            "video": _identity(video),
            "landmarks": _identity(source.landmarks) if self.settings.roi == "landmarks" else None,
            **self._cut_key(source),
        }
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        stem = re.sub(r"[^\w.-]", "_", Path(video).stem)[:60]
        return Path(self.settings.roi_dir) / digest[:2] / f"{stem}-{digest[2:18]}.{self.settings.roi_format}"

    def _cut_key(self, source: ClipSource) -> dict[str, Any]:
        cut = self._cut_frames(source)
        return {} if cut == (0, None) else {"cut": cut}

    def _make_crops(self, source: ClipSource, crop: Path) -> dict[str, Any]:
        first, last = self._cut_frames(source)
        path = _video_of(source)
        _refuse_huge(path, (source.start_sec, source.end_sec))
        fps = float(self._clock.fps)
        video = read_video(path, start_sec=first / fps, end_sec=None if last is None else last / fps)
        kept = self._frames_on_clock(video)
        found: dict[str, Any] = {"source": path, "note": None, "num_interpolated": 0}
        if len(kept) != len(video.frames) or (kept != np.arange(len(kept))).any():
            found["note"] = f"{video.fps:.3f} fps, {len(video.frames)} frames: brought to {self.settings.fps} fps"
        try:
            frames = self._cut(source, video.frames, kept, found)
        except ClipRejected as error:
            _write_note(crop, {**found, "reason": error.reason, "detail": str(error)})
            return {**found, "reason": error.reason, "detail": str(error)}
        found["num_frames"] = len(frames)
        self._write_crops(source, crop, frames)
        _write_note(crop, found)
        return found

    def _frames_on_clock(self, video: Video) -> np.ndarray:
        """Return the source frame (T',) that is shown at each tick of the clock."""
        duration = float(video.times_sec[-1]) + 1.0 / video.fps
        return self._clock.resample_indices(video.times_sec, duration)

    def _cut(self, source: ClipSource, frames: np.ndarray, kept: np.ndarray, found: dict[str, Any]) -> np.ndarray:
        """Return crops (T', S, S[, 3]) of the frames ``kept``; what was detected goes into ``found``."""
        rules, gray = self.settings.rules, self.settings.roi_format != "mp4"
        if self.settings.roi == "center":
            found["num_detected"] = len(kept)
            crops = centre_crop(frames, rules.crop_size)[kept]
            return to_gray(crops) if gray else crops
        if self.settings.roi == "landmarks":
            if source.landmarks is None:
                raise ClipRejected("no_landmarks", "no line in landmarks.scp")
            given = GivenLandmarks(source.landmarks).detect(frames)
            frames, landmarks = frames[kept], [given[index] for index in kept]
        else:
            frames = frames[kept] if len(kept) != len(frames) else frames
            landmarks = self._detector().detect(frames)
        found["num_detected"] = sum(points is not None for points in landmarks)
        found["num_frames"] = len(landmarks)
        found["num_interpolated"] = len(landmarks) - check_detection(landmarks, rules)
        return crop_mouth(to_gray(frames) if gray else frames, interpolate_missing(landmarks), rules=rules)

    def _detector(self) -> FaceDetector:
        if self._face_mesh is None:
            self._face_mesh = LiteRTFaceMesh(self.settings.cache)
        return self._face_mesh

    def _write_crops(self, source: ClipSource, crop: Path, crops: np.ndarray) -> None:
        if self.settings.roi_format == "mp4":
            audio = None
            video = _video_of(source)
            if probe(video).has_audio:
                wave = self._cut_wave(source, read_audio_track(video, self.settings.sample_rate))
                audio = self._clock.fit_audio(wave, len(crops))
            write_video(crop, crops, fps=self.settings.fps, audio=audio, sample_rate=self.settings.sample_rate)
            return
        with atomic_write(crop, "wb") as stream:
            if self.settings.roi_format == "npz":
                np.savez_compressed(stream, video=crops)
            else:
                encoded = io.BytesIO()  # NumPy's own writing to a file does not say that a disk is full
                np.save(encoded, crops)
                stream.write(encoded.getbuffer())

    # ---- sound -------------------------------------------------------------------------------------------------------

    def _add_audio(self, source: ClipSource, result: FormattedClip) -> None:
        from espnet_av.data.audio_io import probe_audio, read_audio, write_audio

        origin = source.wav or source.video
        if origin is None:
            raise ClipRejected("no_audio", "no line in wav.scp or video.scp")
        whole = self._cut_frames(source) == (0, None)
        if source.wav is not None and whole and self._is_ready(source.wav):
            result.wav, result.num_samples = os.path.abspath(source.wav), probe_audio(source.wav)[0]
            return
        path = self.audio_path(origin, self._cut_key(source))
        if not os.path.isfile(path):
            if source.wav is not None and Path(source.wav).suffix.lower() in CONTAINERS_OF_SOUND:
                wave = read_audio_track(source.wav, self.settings.sample_rate, align=False)
            elif source.wav is not None:
                wave, _ = read_audio(source.wav, self.settings.sample_rate, resample=True)
            elif not probe(origin).has_audio:
                raise ClipRejected("no_audio", f"{origin} has no sound track")
            else:
                wave = read_audio_track(origin, self.settings.sample_rate)
            wave = self._cut_wave(source, wave)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_audio(path, wave, self.settings.sample_rate)
        result.wav, result.num_samples = str(path), probe_audio(path)[0]

    def _cut_wave(self, source: ClipSource, wave: np.ndarray) -> np.ndarray:
        """Return the part (N',) of a recording (N,) that belongs to the utterance."""
        first, last = self._cut_frames(source)
        end = None if last is None else self._clock.frames_to_samples(last)
        part = wave[self._clock.frames_to_samples(first) : end]
        if len(part) == 0:
            raise ClipRejected("no_audio", f"{source.wav or source.video} ends before {source.start_sec:g} s")
        return part

    def audio_path(self, origin: str, cut: dict[str, Any] | None = None) -> Path:
        """Return the path of the FLAC file made of a sound or video file, or of a part of it."""
        key = {"version": CACHE_VERSION, "sample_rate": self.settings.sample_rate, "source": _identity(origin)}
        key.update(cut or {})
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        stem = re.sub(r"[^\w.-]", "_", Path(origin).stem)[:60]
        return Path(self.settings.audio_dir) / digest[:2] / f"{stem}-{digest[2:18]}.flac"

    def _is_ready(self, wav: str) -> bool:
        """Tell whether a file already is what training reads: FLAC, mono, the right rate."""
        import soundfile

        if not wav.lower().endswith(".flac") or not os.path.isfile(wav):
            return False
        try:
            info = soundfile.info(wav)
        except soundfile.SoundFileError:
            return False  # read_audio will say what is wrong with it
        return (info.samplerate, info.channels, info.format) == (self.settings.sample_rate, 1, "FLAC")


def _video_of(source: ClipSource) -> str:
    if source.video is None:
        raise ClipRejected("no_video", "no line in video.scp")
    return source.video


def _identity(path: str | None) -> list[Any]:
    """Return what tells one version of a file from another: real path, size, time of change."""
    real = os.path.realpath(path or "")
    try:
        state = os.stat(real)
    except OSError as error:
        raise MissingDataError(describe("no such file", got=path, fix="check the scp file, or run stage 1")) from error
    return [real, state.st_size, state.st_mtime_ns]


def _refuse_huge(video: str, cut: tuple[float, float | None]) -> None:
    info = probe(video)
    start, end = (0 if time is None else round(time * info.fps) for time in cut)
    num_frames = max(0, min(info.num_frames, end or info.num_frames) - start)
    num_bytes = num_frames * info.width * info.height * 3
    if num_bytes > MAX_CLIP_BYTES:
        raise ClipRejected(
            "too_large",
            describe(
                f"{video} does not fit into memory",
                got=f"{num_frames} frames of {info.width}x{info.height}",
                allowed=f"{MAX_CLIP_BYTES >> 30} GiB of decoded frames",
                fix="cut it into utterances",
            ),
        )


def _note_path(crop: Path) -> Path:
    return crop.with_name(crop.name + ".json")


def _write_note(crop: Path, found: dict[str, Any]) -> None:
    with atomic_write(_note_path(crop)) as stream:
        json.dump(found, stream, sort_keys=True)


def _read_note(crop: Path) -> dict[str, Any] | None:
    """Return what an earlier run found, or None when the clip must be done (again)."""
    try:
        found = json.loads(_note_path(crop).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if found.get("reason") or crop.is_file() else None
