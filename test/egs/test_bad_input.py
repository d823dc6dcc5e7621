# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Bad input as a user meets it: the GRID recipe on a small tree, broken in the ways that corpora and disks break."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from espnet_av.bin import format_av, shapes
from espnet_av.corpora import grid
from espnet_av.data.data_dir import DataDir
from espnet_av.data.video_io import write_video
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import EXIT_BAD_ENVIRONMENT, DataError

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("bbaf2n", "bgwb5s", "lrak9a", "pwij3p", "swizzn", "sbbu2p", "lbwy9a", "prwd6p", "pgby6p", "brim8s")
BROKEN = {"bbaf2n": "unreadable", "bgwb5s": "unreadable", "lrak9a": "no_audio"}
NUM_FRAMES = 20


def write_clip(path, seed, fps=25, rate=16000, sound=True):
    """Write a clip of NUM_FRAMES noisy frames in the GRID manner, ``<name>.mpg``."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (NUM_FRAMES, 112, 112, 3), dtype=np.uint8)
    wave = (0.1 * rng.standard_normal(NUM_FRAMES * rate // fps)).astype(np.float32)
    write_video(path.with_suffix(".mp4"), frames, fps=fps, audio=wave if sound else None, sample_rate=rate)
    path.with_suffix(".mp4").replace(path)


def write_tree(root):
    """Write ten clips: one cut in half, one of noise, one without sound, one of 30 fps, one of 8 kHz, one untimed."""
    (root / "s1").mkdir(parents=True)
    (root / "align" / "s1").mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        special = {"lrak9a": {"sound": False}, "pwij3p": {"fps": 30}, "swizzn": {"rate": 8000}}.get(name, {})
        write_clip(root / "s1" / f"{name}.mpg", seed, **special)
    whole = (root / "s1" / "bbaf2n.mpg").read_bytes()
    (root / "s1" / "bbaf2n.mpg").write_bytes(whole[: len(whole) // 2])
    (root / "s1" / "bgwb5s.mpg").write_bytes(np.random.default_rng(0).bytes(5000))
    (root / "align" / "s1" / "sbbu2p.align").write_text("")
    (root / "test.list").write_text("brim8s\npgby6p\n")
    (root / "valid.list").write_text("prwd6p\n")
    return root


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("corpus") / "grid")


class Run:
    """Calls the recipe with all its folders below one place.

    Args:
        place: Holds ``data``, ``dump`` and ``exp``.
        root: The corpus.
    """

    def __init__(self, place, root):
        self.place, self.root = place, root

    def __call__(self, *words):
        command = ["bash", str(ROOT / "egs/grid/avsr/run.sh"), "--grid_root", str(self.root), "--nj", "1"]
        command += ["--test_sets", "test", "--interferer_snrs", "", "--roi", "center", *map(str, words)]
        command += ["--test_list", str(self.root / "test.list"), "--valid_list", str(self.root / "valid.list")]
        for name in ("data", "dump", "exp"):
            command += [f"--{name}dir", str(self.place / name)]
        environ = {**os.environ, "ESPNET_AV_MIN_DISK_GB": "0", "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=300, check=False)


def test_damaged_clips_of_a_corpus(tree, tmp_path):
    run = Run(tmp_path, tree)
    failed = run("--stop_stage", 3)
    assert failed.returncode == 5, failed.stdout + failed.stderr
    assert 'stage 2 "format" FAILED' in failed.stderr and "too many utterances lost: 4 of 7 kept" in failed.stderr
    assert "s1-bbaf2n" in failed.stderr and "raise --max_dropped_share" in failed.stderr
    assert not (tmp_path / "dump/formatted/train").exists()
    assert json.loads((tmp_path / "dump/formatted/train.roi_report.json").read_text())["num_dropped"] == 3
    done = run("--stop_stage", 3, "--max_dropped_share", 0.5)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'stage 1 "prepare" is already done' in done.stdout
    report = json.loads((tmp_path / "dump/formatted/train/roi_report.json").read_text())
    reasons = {utt: reason for reason, entry in report["reasons"].items() for utt in entry["utterances"]}
    assert reasons == {f"s1-{name}": reason for name, reason in BROKEN.items()}
    assert "bbaf2n.mpg" in report["reasons"]["unreadable"]["utterances"]["s1-bbaf2n"]
    assert "30.000 fps" in report["clips"]["s1-pwij3p"]["note"]
    train = DataDir(tmp_path / "dump/train")
    assert train.num_samples()["s1-swizzn"] == pytest.approx(640 * NUM_FRAMES, abs=640)  # of 8 kHz, now 16
    assert train.read("text")["s1-sbbu2p"] == "SET BLUE BY U TWO PLEASE"  # the alignment is empty
    assert not (tmp_path / "dump/formatted/train.roi_report.json").exists()


def test_configuration_that_is_not_there_is_noticed_at_once(tree, tmp_path):
    for option in ("--config", "--infer_config"):
        failed = Run(tmp_path, tree)(option, tmp_path / "nowhere.yaml")
        assert failed.returncode == 2
        assert f"{option}: no file {tmp_path / 'nowhere.yaml'}" in failed.stderr
    assert not list(tmp_path.iterdir())


def test_text_files_that_are_none(tree, tmp_path):
    root = tmp_path / "grid"
    (root / "s1").mkdir(parents=True)
    (root / "align/s1").mkdir(parents=True)
    for name in NAMES:
        (root / "s1" / f"{name}.mpg").touch()
    options = ["--grid_root", str(root), "--output_dir", str(tmp_path / "data")]
    (root / "align/s1/bbaf2n.align").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"bbaf2n\.align, line 1 is no alignment.*fetch the file again, or remove it"):
        grid.main(options)
    (root / "align/s1/bbaf2n.align").unlink()
    (tmp_path / "list").write_bytes(b"bbaf2n\n\xff\n")
    with pytest.raises(DataError, match=f"{tmp_path / 'list'}: 1 unknown clips"):
        grid.main([*options, "--test_list", str(tmp_path / "list")])
    assert grid.main(options) == 0


def test_clips_without_sound_cost_the_noisy_sets_no_others(tree, tmp_path, capsys):
    (tmp_path / "list").write_text("\n".join(NAMES[:6]))
    options = ["--grid_root", str(tree), "--output_dir", str(tmp_path / "data"), "--interferer_snrs", "0"]
    assert grid.main([*options, "--test_list", str(tmp_path / "list"), "--valid_share", "0.3"]) == 0
    assert "test_snr_0_interferer_1: 3 clips, 3 without sound left out" in capsys.readouterr().out
    noisy = DataDir(tmp_path / "data/test_snr_0_interferer_1")
    assert set(noisy.read("text")) == {"s1-pwij3p", "s1-swizzn", "s1-sbbu2p"}
    assert set(noisy.read("utt2interferer").values()) <= set(noisy.read("text"))


def write_tables(folder):
    """Write the tables of a data folder of three utterances; the media are not there."""
    data = DataDir(folder)
    utts = ("a", "b", "c")
    for name in ("wav.scp", "mouth.scp", "text", "utt2spk"):
        data.write(name, {utt: f"/none/{utt}" if name.endswith("scp") else "WORDS" for utt in utts})
    data.write("utt2num_frames", dict.fromkeys(utts, 50))
    data.write("utt2num_samples", dict.fromkeys(utts, 32000))
    data.write_streams([("wav.scp", "speech", "sound"), ("mouth.scp", "video", "video_npy"), ("text",) * 3])
    return data


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mouth.scp", "a /none/a\nc /none/c\n", "mouth.scp: no entry for 'b'; fix: utils/fix_data_dir"),
        ("text", "a WORDS\na WORDS\nb WORDS\nc WORDS\n", "text:2: duplicate id 'a'"),
        ("text", "a WORDS\nb\nc WORDS\n", "text:2: 'b' has no text"),
        ("utt2num_frames", "a 50\nb many\nc 50\n", "utt2num_frames: 'b' has no whole number; got 'many'"),
        ("utt2spk", "a\nb x\nc x\n", "utt2spk:1: 'a' has no value"),
        ("streams", "wav.scp speech\n", "streams:1: malformed line"),
    ],
)
def test_data_folder_edited_by_hand_stops_before_training(tmp_path, name, content, message):
    data = write_tables(tmp_path / "train")
    options = ["--data_dir", str(data.path), "--output_dir", str(tmp_path / "stats")]
    good = (data / name).read_text()
    (data / name).write_text(content)
    with pytest.raises(DataError) as caught:
        shapes.main(options)
    assert message in str(caught.value)
    assert not (tmp_path / "stats").exists()
    (data / name).write_text(good)
    shapes.main(options)
    assert (tmp_path / "stats/video_shape").read_text() == "a 50\nb 50\nc 50\n"


@pytest.fixture()
def small_disk(tmp_path):
    """A disk of 640 kB; a function makes it larger."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        return subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True
        ).returncode

    if mount("size=640k") != 0:
        pytest.skip("mounting a small disk needs rights that this user lacks")
    yield folder, lambda: mount("remount,size=64m")
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(("kind", "nj"), [("npy", 1), ("npz", 1), ("mp4", 1), ("npy", 2)])
def test_full_disk_while_formatting(tmp_path, small_disk, capsys, kind, nj):
    disk, enlarge = small_disk
    write_clip(tmp_path / "clip.mpg", 0)
    videos = {}
    for index in range(8):
        videos[f"u{index}"] = tmp_path / f"clip{index}.mpg"
        videos[f"u{index}"].write_bytes((tmp_path / "clip.mpg").read_bytes())
    data = DataDir(tmp_path / "data")
    data.write("video.scp", videos)
    data.write("text", dict.fromkeys(videos, "WORDS"))
    options = ["--data_dir", str(data.path), "--output_dir", str(disk / "set"), "--roi", "center", "--nj", str(nj)]
    options += ["--roi_format", kind]
    assert run_main(format_av.main, options) == EXIT_BAD_ENVIRONMENT
    assert "error: the disk is full" in (message := capsys.readouterr().err) and "make room" in message
    assert not (disk / "set").exists() and not list(disk.rglob(".*"))
    assert enlarge() == 0
    assert run_main(format_av.main, options) == 0
    assert len(DataDir(disk / "set").read("mouth.scp")) == 8


def test_full_disk_in_any_command(capsys):
    def main(cmd):
        raise OSError(28, "No space left on device", "/x/report.html")

    assert run_main(main, []) == EXIT_BAD_ENVIRONMENT
    message = capsys.readouterr().err
    assert "the disk is full" in message and "/x/report.html" in message and "run the same command again" in message

    def denied(cmd):
        raise PermissionError(13, "Permission denied")

    with pytest.raises(PermissionError):
        run_main(denied, [])
