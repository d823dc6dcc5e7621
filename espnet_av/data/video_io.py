# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Video files through PyAV: frames, sound track aligned to the first frame, and a reproducible writer.

Axis legend: ``T`` video frames, ``H`` x ``W`` pixels, ``N`` audio samples.
"""

import contextlib
import io
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from espnet_av.data.audio_io import resample_audio
from espnet_av.data.av_clock import DEFAULT_SAMPLE_RATE, resample_frames
from espnet_av.data.video_writer import write_video
from espnet_av.utils.errors import DataError, MissingDataError, describe

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["ClipBytes", "Video", "VideoInfo", "iter_frames", "probe", "read_audio_track", "read_video", "write_video"]

FPS_TOLERANCE = 0.002  # relative; 25.0 and 25.1 differ, rounding of time stamps does not
AUDIO_GAP_SEC = 0.02  # holes and overlaps of the sound track below this are rounding of time stamps


class ClipBytes(io.BytesIO):
    """A clip in memory; all readers of this module take it in the place of a path.

    Args:
        content: The file's bytes.
        name: What messages call it.
    """

    def __init__(self, content: bytes, name: str = "clip") -> None:
        super().__init__(content)
        self.title = name

    def __str__(self) -> str:
        return self.title


ClipFile = str | os.PathLike | ClipBytes  # what the readers take


@dataclass(frozen=True)
class Video:
    """Decoded frames.

    Attributes:
        frames: uint8 ``(T, H, W, 3)`` RGB, or ``(T, H, W)`` gray.
        fps: Frames per second.
        times_sec: Start of every frame ``(T,)``, seconds from the first frame.
    """

    frames: np.ndarray
    fps: float
    times_sec: np.ndarray


@dataclass(frozen=True)
class VideoInfo:
    """What the header of a clip says; nothing is decoded.

    Attributes:
        num_frames: Video frames (counted from the packets where the header does not say).
        fps: Frames per second.
        width: Pixels.
        height: Pixels.
        has_audio: Whether there is a sound track.
        sample_rate: Rate of the sound track in Hz; None without one.
        duration_sec: ``num_frames / fps``.
    """

    num_frames: int
    fps: float
    width: int
    height: int
    has_audio: bool
    sample_rate: int | None
    duration_sec: float


def read_video(
    path: ClipFile,
    *,
    gray: bool = False,
    fps: float | None = None,
    resample: bool = False,
    start_sec: float = 0.0,
    end_sec: float | None = None,
) -> Video:
    """Decode all frames of a clip (mp4, mkv, mov, avi, mpg, ...).

    Gray frames are OpenCV's RGB2GRAY of the decoded RGB, so that crops of gray and of RGB clips agree.

    Args:
        path: The file.
        gray: Return one channel.
        fps: Wanted frame rate; None takes the clip's own.
        resample: Bring a clip of another frame rate to ``fps`` by time stamps instead of refusing it.
        start_sec: Keep the frames from the one that is nearest to this time, in seconds from the first frame.
        end_sec: Keep the frames before the one that is nearest to this time; None keeps all to the end. What lies
            outside is decoded but never held in memory.

    Returns:
        The frames with their rate.

    Raises:
        MissingDataError: If there is no such file.
        DataError: If it has no video, is damaged or truncated, has another rate while ``resample`` is off, or ends
            before ``start_sec``.
    """
    frames: list[np.ndarray] = []
    times: list[float | None] = []
    with _open(path) as container:
        stream = _video_stream(container, path)
        nominal = float(stream.average_rate or stream.base_rate or 0.0)
        cut = _Cut(start_sec, end_sec, nominal)
        for frame, image in _decode(container, stream, path, gray, cut):
            if image is not None:
                frames.append(image)
                times.append(frame.time)
        if not cut.ended:
            _refuse_truncated(path, stream, cut.num_frames, cut.last_time)
    if not frames:
        raise DataError(describe(f"{path}: ends before the stretch begins", got=start_sec, fix="correct segments"))
    times_sec, rate = _frame_times(times, nominal, path)
    stack = np.stack(frames)
    if fps is None or (abs(rate - fps) <= FPS_TOLERANCE * fps and _is_even(times_sec, rate)):
        return Video(stack, rate, times_sec)
    if not resample:
        raise DataError(
            describe(f"{path}: wrong frame rate", round(rate, 3), [fps], "run stage 2 (format), which resamples")
        )
    stack = resample_frames(stack, rate, fps, times_sec)
    return Video(stack, float(fps), np.arange(len(stack)) / fps)


def iter_frames(path: ClipFile, *, gray: bool = False, fps: float | None = None) -> Iterator[np.ndarray]:
    """Yield the frames of a clip one by one, for clips that do not fit into memory.

    Args:
        path: The file.
        gray: Yield one channel.
        fps: Bring the clip to this frame rate by time stamps, as :func:`read_video` with ``resample``; None keeps its
            frames.

    Yields:
        uint8 ``(H, W, 3)`` RGB, or ``(H, W)`` gray.

    Raises:
        MissingDataError, DataError: As :func:`read_video`, at the frame where the damage is.
    """
    with _open(path) as container:
        stream = _video_stream(container, path)
        images = _timed_images(container, stream, path, gray)
        if fps is None:
            yield from (image for _, image in images)
            return
        nominal = float(stream.average_rate or stream.base_rate or 0.0)
        if nominal <= 0:
            raise DataError(f"{path}: has no frame rate; fix: convert it to mp4")
        yield from _nearest_in_time(images, nominal, fps)


def _timed_images(
    container: "InputContainer", stream: "VideoStream", path: ClipFile, gray: bool
) -> Iterator[tuple[float | None, np.ndarray]]:
    count = 0
    time: float | None = None
    for frame, image in _decode(container, stream, path, gray):
        count, time = count + 1, frame.time
        if image is not None:  # without a cut, all have pixels
            yield time, image
    _refuse_truncated(path, stream, count, time)


def _nearest_in_time(
    images: Iterator[tuple[float | None, np.ndarray]], nominal: float, fps: float
) -> Iterator[np.ndarray]:
    """Yield for every tick ``k / fps`` the frame that is nearest in time, the earlier of two equally near ones."""
    tick, origin, last, held = 0, None, 0.0, None
    for stamp, image in images:
        if held is None:
            origin, last, held = stamp, 0.0, image
            continue
        time = last + 1.0 / nominal if stamp is None or origin is None else stamp - origin
        if time <= last:  # a bad stamp
            time = last + 1.0 / nominal
        while tick / fps < time and not time - tick / fps + 1e-9 < tick / fps - last:
            yield held
            tick += 1
        last, held = time, image
    while held is not None and tick < max(1, int((last + 1.0 / nominal) * fps + 0.5 + 1e-6)):
        yield held
        tick += 1


def read_audio_track(
    path: ClipFile, sample_rate: int | None = DEFAULT_SAMPLE_RATE, *, align: bool = True
) -> np.ndarray:
    """Decode the sound track of a clip, mono, so that sample 0 sounds when the first video frame is shown.

    A track that starts before the first frame is cut, one that starts later gets leading zeros; holes between packets
    are filled with zeros. Encoder delay (AAC priming) is removed where the container states it (mp4, mov, mkv).

    Args:
        path: The clip, or a file with sound only.
        sample_rate: Wanted rate in Hz (converted with a polyphase filter); None keeps the file's.
        align: Take the first video frame as time zero; off: the first audio sample.

    Returns:
        float32 ``(N,)`` in [-1, 1].

    Raises:
        MissingDataError: If there is no such file.
        DataError: If it has no sound or is damaged.
    """
    with _open(path) as container:
        if not container.streams.audio:
            raise DataError(f"{path}: has no audio; fix: drop the utterance, or give its sound in wav.scp")
        stream = container.streams.audio[0]
        origin = _video_start(container) if align else None
        wave, start = _decode_audio(container, stream, path)
        rate = int(stream.rate)
    if origin is not None:
        wave = _shift(wave, round((start - origin) * rate))
    if len(wave) == 0:
        raise DataError(f"{path}: its audio ends before its first video frame; fix: drop the utterance")
    return wave if sample_rate is None else resample_audio(wave, rate, sample_rate)


def probe(path: ClipFile) -> VideoInfo:
    """Read what the header of a clip says, without decoding.

    Raises:
        MissingDataError, DataError: As :func:`read_video`.
    """
    with _open(path) as container:
        stream = _video_stream(container, path)
        fps = float(stream.average_rate or stream.base_rate or 0.0)
        num_frames = stream.frames
        audio = container.streams.audio[0] if container.streams.audio else None
        sample_rate = int(audio.rate) if audio is not None else None
        width, height = stream.width, stream.height
        if num_frames <= 0:
            num_frames = _count_packets(container, stream, path)
    if num_frames <= 0 or fps <= 0:
        raise DataError(f"{path}: holds no video frames; fix: drop the utterance")
    return VideoInfo(num_frames, fps, width, height, audio is not None, sample_rate, num_frames / fps)


@contextlib.contextmanager
def _open(path: ClipFile) -> Iterator["InputContainer"]:
    if isinstance(path, ClipBytes):
        path.seek(0)
    elif not os.path.isfile(path):
        raise MissingDataError(describe(f"no clip {path}", fix="check the path in video.scp"))
    try:
        container = av.open(path if isinstance(path, ClipBytes) else os.fspath(path), "r")
    except (av.error.FFmpegError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error
    with container:
        yield container


def _damaged(path: ClipFile, reason: object) -> DataError:
    reason = getattr(reason, "strerror", None) or reason
    return DataError(f"{path}: unreadable, damaged or truncated clip ({reason}); fix: fetch it again or drop it")


def _video_stream(container: "InputContainer", path: ClipFile) -> "VideoStream":
    if not container.streams.video:
        raise DataError(f"{path}: has no video; fix: drop the utterance, or correct its path in video.scp")
    stream = container.streams.video[0]
    stream.thread_type = "NONE"  # starting threads costs more than it brings on clips of seconds
    return stream


def _decode(
    container: "InputContainer",
    stream: "VideoStream",
    path: ClipFile,
    gray: bool,
    cut: "_Cut | None" = None,
) -> Iterator[tuple[av.VideoFrame, np.ndarray | None]]:
    """Yield ``(decoded frame, pixels)``, without pixels before the cut; one scaler serves the whole clip."""
    to_rgb = VideoReformatter()
    frames = container.decode(stream)
    for index in range(1 << 62):
        try:
            frame = next(frames, None)
            if frame is None or (cut is not None and cut.ends_at(frame)):
                return
            if cut is not None and not cut.holds(frame):
                yield frame, None
                continue
            rgb = to_rgb.reformat(frame, format="rgb24").to_ndarray()
        except av.error.FFmpegError as error:
            raise _damaged(path, f"frame {index}: {error.strerror}") from error
        if frame.is_corrupt:
            raise _damaged(path, f"frame {index} is incomplete")
        yield frame, cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) if gray else rgb


class _Cut:
    """Which frames of a clip are wanted, told one by one in the order of time.

    A frame belongs to the stretch when its time, rounded to the nominal grid, does: half a frame counts as its start.
    """

    def __init__(self, start_sec: float, end_sec: float | None, nominal: float) -> None:
        self.step = 1.0 / nominal if nominal > 0 else 0.0
        self.start_sec, self.end_sec = start_sec, end_sec
        self.num_frames, self.ended = 0, False
        self.first_time: float | None = None
        self.last_time: float | None = None

    def ends_at(self, frame: av.VideoFrame) -> bool:
        """Count a frame, or tell that it lies behind the stretch."""
        if self.first_time is None:
            self.first_time = frame.time
        if self.end_sec is not None and self._time(frame) >= self.end_sec - self.step / 2:
            self.ended = True
            return True
        self.num_frames, self.last_time = self.num_frames + 1, frame.time
        return False

    def holds(self, frame: av.VideoFrame) -> bool:
        """Tell whether the frame just counted is not before the stretch."""
        return self.start_sec <= 0 or self._time(frame, self.num_frames - 1) >= self.start_sec - self.step / 2

    def _time(self, frame: av.VideoFrame, index: int | None = None) -> float:
        if frame.time is None or self.first_time is None:
            return (self.num_frames if index is None else index) * self.step
        return float(frame.time - self.first_time)


def _refuse_truncated(path: ClipFile, stream: "VideoStream", num_decoded: int, last_time: float | None) -> None:
    """Compare the decoded frames with what the header promised: their number, or in Matroska the time of the end."""
    if num_decoded == 0:
        raise _damaged(path, "not one frame could be decoded")
    if num_decoded < stream.frames:
        raise _damaged(path, f"{num_decoded} of {stream.frames} frames")
    stated = stream.metadata.get("DURATION")
    if stated and last_time is not None and stream.average_rate:
        hours, minutes, seconds = stated.split(":")
        end = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        if last_time + 1.5 / stream.average_rate < end:
            raise _damaged(path, f"ends at {last_time:.2f} s of {end:.2f} s")


def _frame_times(times: list[float | None], nominal: float, path: ClipFile) -> tuple[np.ndarray, float]:
    """Turn time stamps into ``(seconds from the first frame, frame rate)``; bad stamps give way to the nominal rate."""
    known = [time for time in times if time is not None]
    if len(known) < len(times) or any(after <= before for before, after in itertools.pairwise(known)):
        if nominal <= 0:
            raise DataError(f"{path}: has neither time stamps nor a frame rate; fix: convert it to mp4")
        return np.arange(len(times)) / nominal, nominal
    stamps = np.asarray(known, dtype=np.float64) - known[0]
    if len(stamps) == 1:
        return stamps, nominal or 1.0
    measured = (len(stamps) - 1) / stamps[-1]
    close = nominal > 0 and abs(measured - nominal) <= FPS_TOLERANCE * nominal
    return stamps, nominal if close else measured


def _is_even(times_sec: np.ndarray, fps: float) -> bool:
    """Tell whether every frame is within half a frame of its place on an even grid."""
    return bool(np.all(np.abs(times_sec - np.arange(len(times_sec)) / fps) < 0.5 / fps))


def _video_start(container: "InputContainer") -> float | None:
    """Return the time of the first video frame in seconds; None for a file with sound only."""
    videos = [s for s in container.streams.video if "attached_pic" not in str(s.disposition)]
    if not videos:
        return None
    start, unit = videos[0].start_time, videos[0].time_base
    if start is None or unit is None or container.format.name == "avi":
        return 0.0  # AVI has no stamps: all its streams start together
    return float(start * unit)


def _decode_audio(container: "InputContainer", stream: av.AudioStream, path: ClipFile) -> tuple[np.ndarray, float]:
    """Return ``(mono wave (N,), time of its first sample in seconds)`` at the stream's own rate."""
    blocks: list[np.ndarray] = []
    start, position = 0.0, 0
    rate = int(stream.rate)
    try:
        for frame in container.decode(stream):
            block = _to_mono(frame)
            if not blocks:
                start = float(frame.time or 0.0)
            elif frame.time is not None:
                gap = round((frame.time - start) * rate) - position
                if abs(gap) > AUDIO_GAP_SEC * rate:
                    shifted = _shift(block, gap)
                    block = shifted if gap > 0 else block[-gap:]
            blocks.append(block)
            position += len(block)
    except av.error.FFmpegError as error:
        raise _damaged(path, f"audio at {position / rate:.2f} s: {error.strerror}") from error
    if position == 0:
        raise _damaged(path, "not one audio packet could be decoded")
    wave = np.concatenate(blocks)
    if (
        stream.duration and stream.time_base and "mp4" in container.format.name
    ):  # the last AAC frame is padded; mp4 states the true end
        wave = wave[: max(1, round(stream.duration * stream.time_base * rate))]
    return wave, start


def _to_mono(frame: av.AudioFrame) -> np.ndarray:
    """Average the channels of a decoded block and scale integers to [-1, 1]."""
    block = frame.to_ndarray()
    channels = frame.layout.nb_channels
    if not frame.format.is_planar:
        block = block.reshape(-1, channels).T
    if block.dtype.kind == "u":
        block = (block.astype(np.float32) - 128.0) / 128.0
    elif block.dtype.kind == "i":
        block = block.astype(np.float32) / float(1 << (8 * block.dtype.itemsize - 1))
    return (block[0] if channels == 1 else block.mean(axis=0)).astype(np.float32)


def _shift(wave: np.ndarray, offset: int) -> np.ndarray:
    """Delay a waveform by ``offset`` samples (zeros in front), or cut that many when negative."""
    return np.pad(wave, (offset, 0)) if offset > 0 else wave[-offset:]


def _count_packets(container: "InputContainer", stream: "VideoStream", path: ClipFile) -> int:
    try:
        return sum(packet.size > 0 for packet in container.demux(stream))
    except av.error.FFmpegError as error:
        raise _damaged(path, error) from error
