# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 2 on utterances that are parts of recordings: sound and pictures are cut at the same frame."""

import numpy as np
import pytest

from espnet_av.bin.format_av import main
from espnet_av.data.audio_io import read_audio, write_audio
from espnet_av.data.data_dir import DataDir
from espnet_av.data.format_set import read_segments
from espnet_av.data.video_io import read_video, write_video
from espnet_av.utils.errors import DataError

NUM_FRAMES = 60


def stamped(num_frames=NUM_FRAMES):
    """Frames whose gray level is four times their number, and a wave with their number / 100 for each."""
    frames = np.repeat(np.arange(num_frames, dtype=np.uint8) * 4, 96 * 96 * 3).reshape(num_frames, 96, 96, 3)
    return frames, (np.arange(num_frames).repeat(640) / 100).astype(np.float32)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recording")
    frames, wave = stamped()
    write_video(folder / "r.mp4", frames, audio=wave)
    write_audio(folder / "r.wav", wave, 16000)
    return folder


def write_data(folder, recording, segments, *, wav="r.wav", **tables):
    data = DataDir(folder / "data")
    data.write("video.scp", {"rec": recording / "r.mp4"})
    if wav:
        data.write("wav.scp", {"rec": recording / wav})
    data.write("segments", segments)
    data.write("text", dict.fromkeys(segments, "HELLO"))
    data.write("utt2spk", dict.fromkeys(segments, "s"))
    for name, table in tables.items():
        data.write(name, table)
    return data


def run(data, output, *more):
    return main(["--data_dir", str(data.path), "--output_dir", str(output), "--roi", "center", *more])


def test_one_clock(recording, tmp_path):
    data = write_data(tmp_path, recording, {"a": "rec 0.4 1.2", "b": "rec 1.20 -1", "c": "rec 0 -1"})
    run(data, tmp_path / "dump" / "set")
    made = DataDir(tmp_path / "dump" / "set")
    assert made.num_frames() == {"a": 20, "b": 30, "c": 60}
    assert made.num_samples() == {"a": 12800, "b": 19200, "c": 38400}
    for utt, first in {"a": 10, "b": 30, "c": 0}.items():
        crops = np.load(made.read("mouth.scp")[utt])
        stamps = np.rint(crops.mean(axis=(1, 2)) / 4).astype(int)
        np.testing.assert_array_equal(stamps, first + np.arange(len(crops)))
        wave, _ = read_audio(made.read("wav.scp")[utt])
        np.testing.assert_array_equal(np.rint(wave[::640] * 100), stamps)
        np.testing.assert_array_equal(np.rint(wave[639::640] * 100), stamps)
    assert not made.has("segments") and not made.has("video.scp")


def test_track_of_the_clip(recording, tmp_path):
    data = write_data(tmp_path, recording, {"a": "rec 0.4 1.2", "z": "rec 2.0 9.0"}, wav=None)
    run(data, tmp_path / "dump" / "set", "--roi_format", "mp4")
    made = DataDir(tmp_path / "dump" / "set")
    assert made.num_samples() == {"a": 12800, "z": 6400}  # what ends behind the recording ends with it
    assert made.num_frames() == {"a": 20, "z": 10}
    wave, _ = read_audio(made.read("wav.scp")["a"])
    assert np.abs(wave[3200:9600] - (10 + np.arange(3200, 9600) // 640) / 100).mean() < 0.02
    assert len(read_video(made.read("mouth.scp")["a"]).frames) == 20


def test_a_segment_behind_the_recording_is_dropped(recording, tmp_path):
    data = write_data(tmp_path, recording, {"a": "rec 0.4 1.2", "b": "rec 7 8", "c": "gone 0 1"})
    run(data, tmp_path / "set", "--max_dropped_share", "0.9")
    assert list(DataDir(tmp_path / "set").read("text")) == ["a"]
    report = (tmp_path / "set" / "roi_report.json").read_text()
    assert "ends before the stretch begins" in report and "no line in video.scp" in report


def test_mouths_found_in_another_way(recording, tmp_path):
    segments = {"a": "rec 0 1", "b": "rec 0 1"}
    data = write_data(tmp_path, recording, segments, **{"utt2roi": {"a": "center"}})
    assert run(data, tmp_path / "set") == 0
    data.write("landmarks.scp", {"b": recording / "absent.npy"})
    words = ["--data_dir", str(data.path), "--output_dir", str(tmp_path / "two"), "--roi", "landmarks"]
    assert main([*words, "--max_dropped_share", "0.5"]) == 0
    assert list(DataDir(tmp_path / "two").read("text")) == ["a"]
    data.write("utt2roi", {"a": "lips"})
    with pytest.raises(DataError, match="'a' has an unknown kind of crop; got 'lips'"):
        run(data, tmp_path / "three")


@pytest.mark.parametrize("value", ["rec 0", "rec 0 1 2", "rec x 1", "rec 2 1", "rec -1 2", "rec 0 nan", "rec 0 inf"])
def test_malformed_segments(recording, tmp_path, value):
    data = write_data(tmp_path, recording, {"a": value})
    with pytest.raises(DataError, match="'a' is no segment"):
        read_segments(data)


def test_cuts_of_one_clip_are_cached_apart(recording, tmp_path):
    data = write_data(tmp_path, recording, {"a": "rec 0 1", "b": "rec 1 2"})
    run(data, tmp_path / "set")
    assert len(list((tmp_path / "mouth").rglob("*.npy"))) == 2
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    run(data, tmp_path / "set")
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}


def test_read_video_cuts_any_container(tmp_path):
    frames, _ = stamped(30)
    for suffix in (".mp4", ".mkv", ".avi"):
        write_video(tmp_path / f"v{suffix}", frames)
        cut = read_video(tmp_path / f"v{suffix}", gray=True, start_sec=0.4, end_sec=0.8)
        assert np.rint(cut.frames.mean(axis=(1, 2)) / 4).tolist() == list(range(10, 20)), suffix
        assert cut.times_sec[0] == 0
        late = read_video(tmp_path / f"v{suffix}", start_sec=1.0)
        assert len(late.frames) == 5
