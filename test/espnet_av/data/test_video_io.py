# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from espnet_av.data.video_io import iter_frames, probe, read_audio_track, read_video, write_video
from espnet_av.utils.errors import DataError, MissingDataError

SUFFIXES = [".mp4", ".mkv", ".mov", ".avi"]


def flash_and_click(at=20, num_frames=50, size=64):
    frames = np.zeros((num_frames, size, size), np.uint8)
    frames[at] = 255
    audio = np.zeros(640 * num_frames, np.float32)
    audio[640 * at] = 0.9
    return frames, audio


def mux(path, video_start=0.0, audio_start=0.0, num_frames=20, at=8, pcm=False):
    """Write a clip whose streams start at different times; flash and click are shown at the same time."""
    frames, _ = flash_and_click(at, num_frames)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"x264-params": "threads=1:bframes=0"})
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        sound = out.add_stream("pcm_s16le" if pcm else "aac", rate=16000)
        sound.layout = "mono"
        for index, gray in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.repeat(gray[:, :, None], 3, 2), format="rgb24")
            frame.pts, frame.time_base = index + round(video_start * 25), Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        wave = np.zeros(640 * num_frames, np.float32)
        wave[640 * at + round((video_start - audio_start) * 16000)] = 0.9
        for start in range(0, len(wave), 1024):
            block = wave[None, start : start + 1024]
            if pcm:
                block = (block * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(block, format="s16" if pcm else "fltp", layout="mono")
            frame.sample_rate, frame.time_base = 16000, Fraction(1, 16000)
            frame.pts = start + round(audio_start * 16000)
            out.mux(sound.encode(frame))
        out.mux(sound.encode())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_flash_and_click_stay_together(tmp_path, suffix):
    frames, audio = flash_and_click()
    path = tmp_path / f"clip{suffix}"
    write_video(path, frames, 25, audio)
    video = read_video(path, gray=True, fps=25)
    wave = read_audio_track(path)
    assert video.frames.shape == frames.shape and video.fps == 25
    assert video.frames.mean(axis=(1, 2)).argmax() == 20
    assert abs(int(np.abs(wave).argmax()) - 640 * 20) <= 16  # 1 ms
    assert len(audio) <= len(wave) <= len(audio) + 1024
    assert wave.dtype == np.float32


@pytest.mark.parametrize("pcm", [False, True])
@pytest.mark.parametrize(("video_start", "audio_start"), [(0.0, 0.0), (0.2, 0.0), (0.0, 0.2), (0.4, 0.12)])
def test_streams_that_start_at_different_times_are_aligned(tmp_path, video_start, audio_start, pcm):
    path = tmp_path / "late.mkv"
    mux(path, video_start, audio_start, pcm=pcm)
    frames = read_video(path, gray=True).frames
    assert len(frames) == 20
    assert frames.mean(axis=(1, 2)).argmax() == 8
    assert abs(int(np.abs(read_audio_track(path)).argmax()) - 640 * 8) <= 16
    raw = read_audio_track(path, align=False)
    expected = 640 * 8 + round((video_start - audio_start) * 16000)
    assert abs(int(np.abs(raw).argmax()) - expected) <= 16


def test_every_frame_comes_back_in_order(tmp_path, stamped):
    write_video(tmp_path / "a.mp4", stamped.frames(60, 32))
    gray = read_video(tmp_path / "a.mp4", gray=True).frames
    assert np.abs(gray[:, 16, 16].astype(int) - (2 * np.arange(60) + 10)).max() <= 2
    assert np.array_equal(np.stack(list(iter_frames(tmp_path / "a.mp4", gray=True))), gray)


def test_gray_is_opencv_gray_of_the_rgb(tmp_path):
    rng = np.random.default_rng(0)
    write_video(tmp_path / "a.mp4", rng.integers(0, 256, (6, 32, 48, 3), dtype=np.uint8))
    rgb = read_video(tmp_path / "a.mp4").frames
    gray = read_video(tmp_path / "a.mp4", gray=True).frames
    assert rgb.shape == (6, 32, 48, 3) and rgb.dtype == np.uint8
    assert np.array_equal(gray, np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in rgb]))


def test_sound_is_resampled_without_delay(tmp_path):
    frames, _ = flash_and_click()
    time = np.arange(2 * 44100) / 44100
    write_video(tmp_path / "a.mp4", frames, 25, 0.5 * np.sin(2 * np.pi * 300 * time), 44100, audio_bit_rate=128000)
    wave = read_audio_track(tmp_path / "a.mp4", 16000)
    expected = 0.5 * np.sin(2 * np.pi * 300 * np.arange(len(wave)) / 16000)
    assert abs(len(wave) - 32000) <= 1
    assert np.abs(wave - expected)[500:-500].max() < 0.02
    assert len(read_audio_track(tmp_path / "a.mp4", None)) == 88200


def test_wrong_frame_rate_is_refused_or_resampled(tmp_path, stamped):
    write_video(tmp_path / "a.mp4", stamped.frames(60, 32), fps=30)
    with pytest.raises(DataError, match=r"a\.mp4: wrong frame rate; got 30\.0; allowed: 25; fix: .*format"):
        read_video(tmp_path / "a.mp4", fps=25)
    own = read_video(tmp_path / "a.mp4")
    assert own.fps == 30 and len(own.frames) == 60
    video = read_video(tmp_path / "a.mp4", gray=True, fps=25, resample=True)
    source = (video.frames[:, 16, 16].astype(int) - 10 + 1) // 2
    assert video.fps == 25 and len(video.frames) == 50
    assert np.abs(source / 30 - np.arange(50) / 25).max() <= 0.5 / 30 + 1e-6


def test_probe(tmp_path):
    frames, audio = flash_and_click()
    for suffix in SUFFIXES:
        write_video(tmp_path / f"a{suffix}", frames, 25, audio)
        info = probe(tmp_path / f"a{suffix}")
        assert (info.num_frames, info.fps, info.width, info.height) == (50, 25, 64, 64)
        assert info.has_audio and info.sample_rate == 16000 and info.duration_sec == 2.0
    write_video(tmp_path / "b.mp4", frames)
    assert not probe(tmp_path / "b.mp4").has_audio and probe(tmp_path / "b.mp4").sample_rate is None


def test_clips_without_sound_or_video(tmp_path):
    frames, audio = flash_and_click()
    write_video(tmp_path / "silent.mp4", frames)
    with pytest.raises(DataError, match=r"silent\.mp4: has no audio"):
        read_audio_track(tmp_path / "silent.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(audio[None, :1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    for read in (read_video, probe, lambda path: next(iter_frames(path))):
        with pytest.raises(DataError, match=r"sound\.mp4: has no video"):
            read(tmp_path / "sound.mp4")
    assert len(read_audio_track(tmp_path / "sound.mp4")) == 1024


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6])
def test_truncated_clips_are_named(tmp_path, suffix, share):
    rng = np.random.default_rng(0)
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    write_video(whole, rng.integers(0, 256, (50, 64, 64, 3), dtype=np.uint8), 25, rng.normal(0, 0.1, 32000))
    path.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    with pytest.raises(DataError, match=rf"cut\{suffix}"):
        read_video(path)


def test_files_that_are_no_clips(tmp_path):
    for name, content in (("empty.mp4", b""), ("text.mp4", b"hello" * 100), ("noise.mpg", bytes(range(256)) * 40)):
        (tmp_path / name).write_bytes(content)
        for read in (read_video, read_audio_track, probe):
            with pytest.raises(DataError, match=name):
                read(tmp_path / name)
    with pytest.raises(MissingDataError, match="none.mp4"):
        read_video(tmp_path / "none.mp4")


def test_a_clip_with_a_damaged_middle_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "a.mkv"
    write_video(path, rng.integers(0, 256, (50, 64, 64, 3), dtype=np.uint8), crf=10)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = bytes(4000)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.mkv"):
        read_video(path)


def write_mpeg(path, num_frames=50, at=20):
    """Write a clip as GRID has them: MPEG-1 video with mp2 sound at 44.1 kHz in a program stream."""
    frames, _ = flash_and_click(at, num_frames)
    with av.open(str(path), "w", format="mpeg") as out:
        video = out.add_stream("mpeg1video", rate=25, options={"b": "2000000"})
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        sound = out.add_stream("mp2", rate=44100)
        sound.layout = "mono"
        wave = np.zeros(1764 * num_frames, np.int16)
        wave[1764 * at] = 30000
        for index, gray in enumerate(frames):
            noisy = gray // 2 + np.random.default_rng(index).integers(0, 100, gray.shape, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(np.repeat(noisy[:, :, None], 3, 2), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        for start in range(0, len(wave), 1152):
            frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1152], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 44100, start, Fraction(1, 44100)
            out.mux(sound.encode(frame))
        out.mux(sound.encode())


def test_mpeg_program_streams(tmp_path):
    write_mpeg(tmp_path / "a.mpg")
    video = read_video(tmp_path / "a.mpg", gray=True, fps=25)
    wave = read_audio_track(tmp_path / "a.mpg")
    assert len(video.frames) == 50 and video.frames.mean(axis=(1, 2)).argmax() == 20
    assert abs(int(np.abs(wave).argmax()) - 640 * 20) <= 80  # 5 ms
    info = probe(tmp_path / "a.mpg")
    assert (info.num_frames, info.fps, info.sample_rate) == (50, 25, 44100)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_truncated_mpeg_program_streams_end_in_an_incomplete_frame(tmp_path, share):
    write_mpeg(tmp_path / "whole.mpg")
    content = (tmp_path / "whole.mpg").read_bytes()
    (tmp_path / "cut.mpg").write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"cut\.mpg: .*incomplete"):
        read_video(tmp_path / "cut.mpg")


def test_real_mpeg_clips(shared_data):
    folder = shared_data("grid_s1") / "video"
    path = sorted(folder.glob("*.mpg"))[0]
    video = read_video(path, gray=True, fps=25)
    wave = read_audio_track(path)
    assert video.frames.shape == (75, 288, 360) and video.fps == 25
    assert abs(len(wave) / 640 - 75) < 2 and 0.01 < np.abs(wave).max() <= 1
    info = probe(path)
    assert (info.num_frames, info.fps, info.sample_rate) == (75, 25, 44100)


def test_a_truncated_real_clip_is_refused(shared_data, tmp_path):
    path = sorted((shared_data("grid_s1") / "video").glob("*.mpg"))[0]
    (tmp_path / "cut.mpg").write_bytes(path.read_bytes()[:200000])
    with pytest.raises(DataError, match=r"cut\.mpg: .*incomplete"):
        read_video(tmp_path / "cut.mpg")
