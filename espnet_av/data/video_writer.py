# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Write H.264 clips with sound that are the same bytes in every run."""

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np

from espnet_av.data.av_clock import DEFAULT_FPS, DEFAULT_SAMPLE_RATE, AVClock, exact_fps
from espnet_av.utils.errors import UsageError, describe
from espnet_av.utils.files import atomic_path

AAC_BLOCK = 1024  # samples per frame of the encoder; other sizes make the muxer fail now and then
# x264 gives the same bits in every run only on one thread and without macroblock-tree rate control
X264_PARAMS = "threads=1:no-mbtree=1"
SoundCodec = Literal["aac", "pcm_s16le"]
CONTAINERS: dict[str, SoundCodec] = {".mp4": "aac", ".mkv": "aac", ".mov": "aac", ".avi": "pcm_s16le"}


def write_video(
    path: str | os.PathLike,
    frames: np.ndarray | Iterable[np.ndarray],
    fps: float = DEFAULT_FPS,
    audio: np.ndarray | None = None,
    sample_rate: int = DEFAULT_SAMPLE_RATE,
    crf: int = 18,
    *,
    preset: str = "veryfast",
    audio_bit_rate: int = 48000,
) -> None:
    """Write a clip as H.264 (yuv420p) with AAC sound; ``.avi`` gets PCM sound. The file appears only when whole.

    Args:
        path: Target: ``.mp4``, ``.mkv``, ``.mov`` or ``.avi``.
        frames: uint8 ``(T, H, W, 3)`` RGB or ``(T, H, W)`` gray, or an iterable of such frames; H and W even.
        fps: Frames per second.
        audio: ``(N,)`` float in [-1, 1]; sample 0 belongs to the start of frame 0. None: no sound track.
        sample_rate: Rate of ``audio`` in Hz.
        crf: x264 quality, 0 (lossless) to 51; 18 is visually clean.
        preset: x264 speed preset.
        audio_bit_rate: Of the AAC track in bit/s.

    Raises:
        UsageError: For an unknown suffix, wrong shapes or dtypes, or no frames.
    """
    path = Path(path)
    if path.suffix.lower() not in CONTAINERS:
        raise UsageError(describe("unknown suffix of a clip", str(path), list(CONTAINERS)))
    if audio is not None:
        audio = _checked_audio(path, audio)
    images = iter(frames)
    first = next(images, None)
    if first is None:
        raise UsageError(f"{path}: a clip needs at least one frame")
    _check_frame(path, first, first.shape)
    options = {"fflags": "+bitexact"}
    if path.suffix.lower() in (".mp4", ".mov"):
        options["movie_timescale"] = str(sample_rate)  # else the length of the sound is rounded up to a millisecond
    with atomic_path(path) as temporary, av.open(str(temporary), "w", container_options=options) as out:
        video = _video_stream(out, first.shape, fps, crf, preset, path.suffix.lower())
        blocks: Iterator[tuple[int, list[av.Packet]]] = iter(())
        if audio is not None:
            blocks = _AudioTrack(out, CONTAINERS[path.suffix.lower()], audio, sample_rate, audio_bit_rate).packets()
        _mux(out, video, _chain(first, images), blocks, AVClock(sample_rate, fps), path)


def _video_stream(
    out: av.container.OutputContainer, shape: tuple[int, ...], fps: float, crf: int, preset: str, suffix: str
) -> av.VideoStream:
    options = {"crf": str(crf), "preset": preset, "threads": "1", "x264-params": X264_PARAMS}
    if suffix == ".avi":
        options["x264-params"] += ":bframes=0"  # AVI stores no time stamps, so frames must come in order
    stream = out.add_stream("libx264", rate=exact_fps(fps), options=options)
    stream.height, stream.width = shape[:2]
    stream.pix_fmt = "yuv420p"
    return stream


class _AudioTrack:
    """The sound of a clip in encoder-sized blocks with explicit time stamps."""

    def __init__(
        self, out: av.container.OutputContainer, codec: SoundCodec, audio: np.ndarray, sample_rate: int, bit_rate: int
    ) -> None:
        self.audio, self.sample_rate, self.codec = audio, sample_rate, codec
        options = {"aac_coder": "fast", "flags": "+bitexact"} if codec == "aac" else {"flags": "+bitexact"}
        self.stream = out.add_stream(codec, rate=sample_rate, options=options)
        self.stream.layout = "mono"
        if codec == "aac":
            self.stream.bit_rate = bit_rate

    def packets(self) -> Iterator[tuple[int, list[av.Packet]]]:
        """Yield ``(first sample of the block, its packets)``."""
        for start in range(0, len(self.audio), AAC_BLOCK):
            block = np.ascontiguousarray(self.audio[None, start : start + AAC_BLOCK])
            layout = "fltp"
            if self.codec != "aac":
                block, layout = np.clip(np.rint(block * 32768.0), -32768, 32767).astype(np.int16), "s16"
            frame = av.AudioFrame.from_ndarray(block, format=layout, layout="mono")
            frame.sample_rate = self.sample_rate
            frame.pts = start
            frame.time_base = Fraction(1, self.sample_rate)
            yield start, self.stream.encode(frame)
        yield len(self.audio), self.stream.encode(None)


def _mux(
    out: av.container.OutputContainer,
    video: av.VideoStream,
    images: Iterator[np.ndarray],
    blocks: Iterator[tuple[int, list[av.Packet]]],
    clock: AVClock,
    path: Path,
) -> None:
    """Encode frames and sound blocks in the order of time, so that the muxer holds little."""
    shape, written = None, -1
    for index, image in enumerate(images):
        shape = shape or image.shape
        _check_frame(path, image, shape)
        rgb = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame.pts = index
        frame.time_base = 1 / exact_fps(clock.fps)
        out.mux(video.encode(frame))
        while written < clock.frames_to_samples(index + 1):
            start, packets = next(blocks, (None, []))
            if start is None:
                break
            written = start
            out.mux(packets)
    out.mux(video.encode(None))
    for _, packets in blocks:
        out.mux(packets)


def _chain(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest


def _check_frame(path: Path, image: np.ndarray, shape: tuple[int, ...]) -> None:
    good = image.dtype == np.uint8 and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3))
    if not good or image.shape != shape:
        raise UsageError(
            describe(f"{path}: frames must be alike", (str(image.dtype), image.shape), "uint8 (H, W[, 3])")
        )
    if image.shape[0] % 2 or image.shape[1] % 2:
        raise UsageError(describe(f"{path}: odd frame size", image.shape[:2], "even H and W", "crop or pad by a pixel"))


def _checked_audio(path: Path, audio: np.ndarray) -> np.ndarray:
    audio = np.asarray(audio)
    if audio.ndim != 1 or audio.dtype.kind != "f" or not np.isfinite(audio).all():
        raise UsageError(
            describe(f"{path}: wrong audio", (str(audio.dtype), audio.shape), "finite float (N,) in [-1, 1]")
        )
    return np.clip(audio, -1.0, 1.0).astype(np.float32)
