# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 2 on small clips with given landmarks: no model files are needed."""

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from espnet_av.bin.format_av import main
from espnet_av.data.audio_io import read_audio, write_audio
from espnet_av.data.data_dir import DataDir
from espnet_av.data.format_set import load_crops
from espnet_av.data.mouth_roi import MEAN_FACE
from espnet_av.data.video_io import write_video
from espnet_av.utils.assets import fetch_asset
from espnet_av.utils.errors import DataError, EnvironmentProblem, MissingDataError, UsageError

NUM_FRAMES = 20


def landmarks(num_frames=NUM_FRAMES):
    """Landmarks (T, 68, 2) of a face of half the mean face's size that drifts to the right."""
    points = np.tile([128.0, 120.0], (68, 1))
    angles = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    points[48:] = np.c_[130 + 22 * np.cos(angles), 157 + 8 * np.sin(angles)]
    for index, place in MEAN_FACE.items():
        points[index] = place
    return points / 2 + np.linspace(0, 10, num_frames)[:, None, None] * [1, 0]


def pictures(seed, num_frames=NUM_FRAMES):
    rng = np.random.default_rng(seed)
    picture = cv2.GaussianBlur(rng.integers(0, 255, (128, 160, 3)).astype(np.uint8), (0, 0), 3)
    return np.stack([np.roll(picture, index // 2, axis=1) for index in range(num_frames)])


def tone(num_frames=NUM_FRAMES, rate=16000):
    return (0.3 * np.sin(np.arange(num_frames * rate // 25) * 0.05)).astype(np.float32)


class Corpus:
    """A data folder with clips that the test adds one by one."""

    def __init__(self, root):
        self.root = root
        self.tables = {name: {} for name in ("video.scp", "landmarks.scp", "text", "utt2spk", "wav.scp")}
        root.mkdir(parents=True, exist_ok=True)

    def add(self, utt, *, seed=0, points=None, wav=None, **video):
        path = self.root / f"{utt}.mp4"
        fps = video.get("fps", 25)
        frames = video.get("frames", pictures(seed))
        write_video(path, frames, fps=fps, audio=video.get("audio", tone(len(frames) * 25 // fps)))
        np.save(self.root / f"{utt}.npy", landmarks(len(frames)) if points is None else points)
        self.tables["video.scp"][utt] = path
        self.tables["landmarks.scp"][utt] = self.root / f"{utt}.npy"
        self.tables["text"][utt] = f"SAY {utt.upper()}"
        self.tables["utt2spk"][utt] = "spk"
        if wav is not None:
            self.tables["wav.scp"][utt] = wav
        return path

    def write(self, name="data"):
        data = DataDir(self.root / name)
        for file, table in self.tables.items():
            if table:
                data.write(file, table)
        data.write_meta({"licence": "CC0-1.0"})
        return data


@pytest.fixture
def corpus(tmp_path):
    return Corpus(tmp_path / "corpus")


def run(data, output, *more):
    return main(["--data_dir", str(data.path), "--output_dir", str(output), "--roi", "landmarks", *map(str, more)])


def files_below(root):
    """Content of every visible file below ``root``, paths replaced."""
    content = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            content[str(path.relative_to(root))] = path.read_bytes().replace(str(root).encode(), b"ROOT")
    return content


def test_data_folder(corpus, tmp_path):
    for index, utt in enumerate(("b", "a", "c")):
        corpus.add(utt, seed=index)
    (corpus.root / "data").mkdir()
    (corpus.root / "data" / "words.ctm").write_text("b 1 0.1 0.2 SAY\nb 1 0.3 0.2 B\na 1 0.1 0.2 SAY\n")
    assert run(corpus.write(), tmp_path / "dump" / "set") == 0
    data = DataDir(tmp_path / "dump" / "set")
    assert [(s.file, s.name, s.type) for s in data.streams] == [
        ("wav.scp", "speech", "sound"),
        ("mouth.scp", "video", "video_npy"),
        ("text", "text", "text"),
    ]
    assert data.meta == {"sample_rate": 16000, "fps": 25, "licence": "CC0-1.0"}
    assert data.num_frames() == dict.fromkeys("abc", NUM_FRAMES)
    assert data.read("spk2utt") == {"spk": "a b c"}
    assert (data / "words.ctm").read_text() == "a 1 0.1 0.2 SAY\nb 1 0.1 0.2 SAY\nb 1 0.3 0.2 B\n"
    crops = np.load(data.read("mouth.scp")["a"])
    assert crops.dtype == np.uint8
    assert crops.shape == (NUM_FRAMES, 96, 96)
    wave, rate = read_audio(data.read("wav.scp")["a"])
    assert rate == 16000
    assert len(wave) == data.num_samples()["a"]
    assert abs(len(wave) - NUM_FRAMES * 640) <= 1024
    report = json.loads((data / "roi_report.json").read_text())
    assert (report["num_kept"], report["num_dropped"], report["detected_share_of_kept_frames"]) == (3, 0, 1.0)
    sheet = cv2.imread(str(data / "roi_contact_sheet.png"))
    assert sheet.shape[0] > 3 * 96
    assert sheet.std() > 10


@pytest.mark.parametrize(("kind", "type_name"), [("npz", "video_npz"), ("mp4", "video")])
def test_other_formats_hold_the_same_crops(corpus, tmp_path, kind, type_name):
    corpus.add("a")
    data = corpus.write()
    run(data, tmp_path / "npy")
    run(data, tmp_path / "other", "--roi_format", kind)
    expected = load_crops(DataDir(tmp_path / "npy").read("mouth.scp")["a"])
    other = DataDir(tmp_path / "other")
    assert other.streams[1].type == type_name
    crops = load_crops(other.read("mouth.scp")["a"])
    if kind == "mp4":
        assert crops.shape == (*expected.shape, 3)
        crops = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in crops])
        assert np.abs(crops.astype(int) - expected).mean() < 3
    else:
        np.testing.assert_array_equal(crops, expected)


def test_processes_do_not_change_the_result(corpus, tmp_path):
    for index in range(4):
        corpus.add(f"u{index}", seed=index)
    data = corpus.write()
    run(data, tmp_path / "one" / "set")
    run(data, tmp_path / "two" / "set", "--nj", 2)
    assert files_below(tmp_path / "one") == files_below(tmp_path / "two")


def test_every_loss_has_its_reason(corpus, tmp_path):
    for index in range(4):
        corpus.add(f"good{index}", seed=index)
    corpus.add("silent", audio=None)
    corpus.add("faceless", points=np.full((NUM_FRAMES, 68, 2), np.nan))
    mostly = landmarks()
    mostly[3:6] = np.nan
    corpus.add("mostly", points=mostly)
    corpus.add("short", frames=pictures(0, 8))
    corpus.add("misfit", points=landmarks(5))
    whole = corpus.add("truncated", frames=pictures(0, 60)).read_bytes()
    (corpus.root / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    corpus.add("gone").unlink()
    corpus.add("wordless")
    del corpus.tables["text"]["wordless"]
    corpus.tables["text"]["unseen"] = "NO CLIP"
    run(corpus.write(), tmp_path / "set", "--max_dropped_share", 0.9)
    data = DataDir(tmp_path / "set")
    assert sorted(data.read("text")) == ["good0", "good1", "good2", "good3"]
    report = json.loads((data / "roi_report.json").read_text())
    reasons = {utt: reason for reason, entry in report["reasons"].items() for utt in entry["utterances"]}
    assert reasons == {
        "silent": "no_audio",
        "faceless": "no_face",
        "mostly": "low_detection",
        "short": "too_few_frames",
        "misfit": "unreadable",
        "truncated": "unreadable",
        "gone": "missing_file",
        "wordless": "no_text",
        "unseen": "no_video",
    }
    assert report["reasons"]["unreadable"]["count"] == 2
    assert "17 of 20 frames" in report["reasons"]["low_detection"]["utterances"]["mostly"]


def test_too_many_losses_fail_the_stage(corpus, tmp_path):
    corpus.add("good")
    corpus.add("bad", points=np.full((NUM_FRAMES, 68, 2), np.nan))
    with pytest.raises(DataError, match="1 of 2 kept; dropped: no_face 1") as raised:
        run(corpus.write(), tmp_path / "set")
    assert raised.value.exit_code == 5
    assert not (tmp_path / "set").exists()
    report = json.loads((tmp_path / "set.roi_report.json").read_text())
    assert "bad" in report["reasons"]["no_face"]["utterances"]
    run(corpus.write(), tmp_path / "set", "--max_dropped_share", 0.5)
    assert not (tmp_path / "set.roi_report.json").exists()


def test_reference_rules_keep_any_gap(corpus, tmp_path):
    points = landmarks()
    points[2:] = np.nan
    corpus.add("a", points=points)
    with pytest.raises(DataError, match="low_detection"):
        run(corpus.write(), tmp_path / "set")
    run(corpus.write(), tmp_path / "set", "--reference_compat")
    report = json.loads((tmp_path / "set" / "roi_report.json").read_text())
    assert report["clips"]["a"]["num_interpolated"] == NUM_FRAMES - 2


def test_sound_from_wav_scp(corpus, tmp_path):
    ready, other = corpus.root / "ready.flac", corpus.root / "other.wav"
    write_audio(ready, tone(), 16000)
    write_audio(other, tone(rate=48000), 48000)
    corpus.add("ready", wav=ready)
    corpus.add("other", wav=other, audio=None)
    run(corpus.write(), tmp_path / "set")
    waves = DataDir(tmp_path / "set").read("wav.scp")
    assert waves["ready"] == str(ready)  # used as it is
    wave, rate = read_audio(waves["other"])
    assert (len(wave), rate) == (NUM_FRAMES * 640, 16000)


def test_folders_with_the_same_clips_share_crops(corpus, tmp_path):
    corpus.add("a")
    clean = corpus.write("clean")
    write_audio(corpus.root / "noisy.flac", 0.5 * tone(), 16000)
    corpus.tables = {name: {f"noisy-{utt}": value for utt, value in t.items()} for name, t in corpus.tables.items()}
    corpus.tables["wav.scp"]["noisy-a"] = corpus.root / "noisy.flac"
    noisy = corpus.write("noisy")
    run(clean, tmp_path / "clean")
    run(noisy, tmp_path / "noisy")
    assert (
        DataDir(tmp_path / "clean").read("mouth.scp")["a"] == DataDir(tmp_path / "noisy").read("mouth.scp")["noisy-a"]
    )
    assert len(list((tmp_path / "mouth").rglob("*.npy"))) == 1


def test_other_settings_or_another_clip_make_other_crops(corpus, tmp_path):
    corpus.add("a")
    data = corpus.write()
    run(data, tmp_path / "set")
    first = DataDir(tmp_path / "set").read("mouth.scp")["a"]
    run(data, tmp_path / "set", "--crop_size", 88)
    assert np.load(DataDir(tmp_path / "set").read("mouth.scp")["a"]).shape[1:] == (88, 88)
    corpus.add("a", seed=5)
    run(data, tmp_path / "set")
    assert DataDir(tmp_path / "set").read("mouth.scp")["a"] != first


def test_a_crop_that_was_removed_is_made_again(corpus, tmp_path):
    corpus.add("a")
    data = corpus.write()
    run(data, tmp_path / "set")
    crop = DataDir(tmp_path / "set").read("mouth.scp")["a"]
    before = np.load(crop)
    os.unlink(crop)
    run(data, tmp_path / "set")
    np.testing.assert_array_equal(np.load(crop), before)


def test_other_frame_rate_goes_through_the_clock(corpus, tmp_path):
    corpus.add("a", frames=pictures(0, 60), fps=50, points=landmarks(60), audio=tone(30))
    run(corpus.write(), tmp_path / "set")
    data = DataDir(tmp_path / "set")
    assert data.num_frames() == {"a": 30}
    assert abs(data.num_samples()["a"] - 30 * 640) <= 1024
    report = json.loads((data / "roi_report.json").read_text())
    assert "50.000 fps" in report["clips"]["a"]["note"]


def test_centre_crop_and_no_video(corpus, tmp_path):
    corpus.add("a")
    data = corpus.write()
    main(["--data_dir", str(data.path), "--output_dir", str(tmp_path / "centre"), "--roi", "center"])
    crops = np.load(DataDir(tmp_path / "centre").read("mouth.scp")["a"])
    middle = cv2.cvtColor(pictures(0)[0], cv2.COLOR_RGB2GRAY)[16:112, 32:128]
    assert np.abs(crops[0].astype(int) - middle).mean() < 5
    main(["--data_dir", str(data.path), "--output_dir", str(tmp_path / "sound"), "--roi", "none"])
    sound = DataDir(tmp_path / "sound")
    assert not sound.has("mouth.scp")
    assert [stream.name for stream in sound.streams] == ["speech", "text"]
    assert abs(sound.num_frames()["a"] - NUM_FRAMES) <= 1


def test_duplicate_ids_and_missing_files_of_the_folder(corpus, tmp_path):
    corpus.add("a")
    data = corpus.write()
    with (data / "text").open("a") as stream:
        stream.write("a AGAIN\n")
    with pytest.raises(DataError, match="duplicate id 'a'"):
        run(data, tmp_path / "set")
    (data / "video.scp").unlink()
    with pytest.raises(MissingDataError, match=r"no video\.scp"):
        run(data, tmp_path / "set")
    with pytest.raises(MissingDataError, match="no data folder"):
        run(DataDir(tmp_path / "nowhere"), tmp_path / "set")
    with pytest.raises(UsageError, match="--nj"):
        run(data, tmp_path / "set", "--nj", 0)


def test_full_disk_stops_with_a_clear_word(corpus, tmp_path, monkeypatch):
    corpus.add("a")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(EnvironmentProblem, match="the disk is full"):
        run(Corpus.write(corpus), tmp_path / "set")
    assert not (tmp_path / "set").exists()


def wait_until_empty(group):
    """Wait until a process group has no member: a killed run leaves no process behind."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(group, signal.SIGKILL)
    raise AssertionError("processes were left behind")


@pytest.mark.parametrize("num_processes", [1, 2])
def test_killed_and_run_again_gives_the_same_files(corpus, tmp_path, num_processes):
    for index in range(6):
        corpus.add(f"u{index:02d}", seed=index)
    for index in range(6, 60):  # many ids, few clips to encode
        for table in corpus.tables.values():
            if table:
                table[f"u{index:02d}"] = table[f"u{index % 6:02d}"]
        copy = corpus.root / f"u{index:02d}.mp4"
        copy.write_bytes((corpus.root / f"u{index % 6:02d}.mp4").read_bytes())
        corpus.tables["video.scp"][f"u{index:02d}"] = copy
    data = corpus.write()
    run(data, tmp_path / "whole" / "set")
    command = [sys.executable, "-m", "espnet_av.bin.format_av", "--roi", "landmarks", "--data_dir", str(data.path)]
    command += ["--output_dir", str(tmp_path / "killed" / "set"), "--nj", str(num_processes)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as job:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "killed").rglob("*.npy.json")) and time.monotonic() < deadline:
            time.sleep(0.001)
        job.send_signal(signal.SIGKILL)
    assert job.returncode == -signal.SIGKILL
    wait_until_empty(job.pid)
    assert not (tmp_path / "killed" / "set").exists()
    done = len(list((tmp_path / "killed").rglob("*.npy.json")))
    assert 0 < done < 60
    run(data, tmp_path / "killed" / "set")
    assert files_below(tmp_path / "killed") == files_below(tmp_path / "whole")


def test_real_faces(tmp_path, shared_data):
    pytest.importorskip("ai_edge_litert", reason="needs the extra 'face'")
    try:
        fetch_asset("face_landmark.tflite")
    except EnvironmentProblem as error:
        pytest.skip(f"no model files: {error}")
    names = ("bbaf5a", "pbio7a")  # a good clip and a damaged one
    videos = {name: shared_data("grid_s1") / "video" / f"{name}.mpg" for name in names}
    if not all(path.is_file() for path in videos.values()):
        pytest.skip("these two clips of GRID are not there")
    data = DataDir(tmp_path / "data")
    data.write("video.scp", videos)
    data.write("text", dict.fromkeys(names, "WORDS"))
    data.write("utt2spk", dict.fromkeys(names, "s1"))
    options = ["--data_dir", str(data.path), "--output_dir", str(tmp_path / "set"), "--max_dropped_share", "0.5"]
    assert main(options) == 0
    report = json.loads((tmp_path / "set" / "roi_report.json").read_text())
    assert report["clips"]["bbaf5a"]["detected_share"] == 1.0
    assert list(report["reasons"]["low_detection"]["utterances"]) == ["pbio7a"]
    assert list(DataDir(tmp_path / "set").read("mouth.scp")) == ["bbaf5a"]
