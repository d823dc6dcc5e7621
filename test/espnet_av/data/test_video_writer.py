# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from espnet_av.data.video_io import probe, read_audio_track, read_video
from espnet_av.data.video_writer import write_video
from espnet_av.utils.errors import UsageError


def test_the_same_input_gives_the_same_bytes(tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (30, 64, 64, 3), dtype=np.uint8)
    audio = rng.normal(0, 0.1, 19000)
    for suffix in (".mp4", ".mkv", ".avi"):
        for name in ("a", "b"):
            write_video(tmp_path / f"{name}{suffix}", frames, 25, audio)
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("num_samples", [1, 1023, 1024, 1025, 12345, 40000])
def test_any_length_of_sound(tmp_path, num_samples):
    wave = np.random.default_rng(1).normal(0, 0.1, num_samples)
    write_video(tmp_path / "a.mp4", np.zeros((25, 32, 32), np.uint8), 25, wave)
    read = read_audio_track(tmp_path / "a.mp4")
    assert len(read) == num_samples
    assert len(read_video(tmp_path / "a.mp4").frames) == 25


def test_frames_may_come_from_a_generator(tmp_path):
    write_video(tmp_path / "a.mp4", (np.full((32, 32, 3), 8 * level, np.uint8) for level in range(12)), fps=12.5)
    assert probe(tmp_path / "a.mp4").fps == 12.5
    assert read_video(tmp_path / "a.mp4").frames.shape == (12, 32, 32, 3)


@pytest.mark.parametrize(
    ("name", "frames", "audio", "match"),
    [
        ("a.gif", np.zeros((2, 8, 8), np.uint8), None, "suffix"),
        ("a.mp4", np.zeros((0, 8, 8), np.uint8), None, "at least one frame"),
        ("a.mp4", np.zeros((2, 9, 8), np.uint8), None, "odd"),
        ("a.mp4", np.zeros((2, 8, 8), np.float32), None, "float32"),
        ("a.mp4", [np.zeros((8, 8), np.uint8), np.zeros((8, 10), np.uint8)], None, "alike"),
        ("a.mp4", np.zeros((2, 8, 8), np.uint8), np.zeros((4, 2)), "audio"),
        ("a.mp4", np.zeros((2, 8, 8), np.uint8), np.array([np.nan]), "audio"),
    ],
)
def test_wrong_input_is_refused_and_leaves_nothing(tmp_path, name, frames, audio, match):
    with pytest.raises(UsageError, match=match):
        write_video(tmp_path / name, frames, 25, audio)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_x264_runs_with_the_settings_that_give_the_same_bits_everywhere(tmp_path, suffix):
    write_video(tmp_path / f"a{suffix}", np.zeros((4, 32, 32), np.uint8))
    content = (tmp_path / f"a{suffix}").read_bytes()
    assert b" threads=1 " in content and b" mbtree=0" in content
    assert (b" bframes=0 " in content) == (suffix == ".avi")
