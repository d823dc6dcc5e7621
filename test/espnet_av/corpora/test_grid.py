# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The GRID reader on small trees in both layouts."""

import subprocess

import numpy as np
import pytest

from espnet_av.corpora.grid import find_clips, main, read_align, spell_out, split_clips
from espnet_av.corpora.grid_mixtures import draw_interferers, interferer_set_name
from espnet_av.data.audio_io import read_audio
from espnet_av.data.data_dir import DataDir
from espnet_av.data.video_io import write_video
from espnet_av.utils.errors import DataError, MissingDataError, UsageError

NAMES = (
    "bbaf2n",
    "bgwb5s",
    "lrak9a",
    "pwij3p",
    "swiz0n".replace("0", "z"),
    "sbbu2p",
    "lbwy9a",
    "prwd6p",
    "pgby6p",
    "brim8s",
)
ALIGN = """0 17500 sil
17500 23000 bin
23000 30500 blue
30500 35000 at
35000 40000 sp
40000 42750 f
42750 49000 two
49000 57250 now
57250 74500 sil
"""


def make_tree(root, speakers=("s1", "s2")):
    for speaker in speakers:
        (root / speaker).mkdir(parents=True)
        (root / "align" / speaker).mkdir(parents=True)
        for name in NAMES:
            (root / speaker / f"{name}.mpg").write_bytes(b"")
        (root / "align" / speaker / "bbaf2n.align").write_text(ALIGN)
    return root


def make_flat_tree(root, names=NAMES[:4]):
    (root / "video").mkdir(parents=True)
    rng = np.random.default_rng(0)
    frames = np.zeros((15, 32, 32, 3), np.uint8)
    for name in names:
        audio = (rng.standard_normal(9600) * 0.3).astype(np.float32)
        write_video(root / "video" / f"{name}.mp4", frames, audio=audio)
        (root / "video" / f"{name}.mp4").rename(root / "video" / f"{name}.mpg")
    return root


def no_lists():
    return dict.fromkeys(("train", "valid", "test"))


def test_official_layout(tmp_path):
    clips = find_clips(make_tree(tmp_path / "grid"))
    assert len(clips) == 2 * len(NAMES)
    assert clips[0].utt == "s1-bbaf2n"
    assert clips[0].align is not None
    assert [clip.utt for clip in clips] == sorted(clip.utt for clip in clips)


@pytest.mark.parametrize(("folder", "speaker"), [("grid_s7", "s7"), ("corpus", "s1"), ("videos7x", "s1")])
def test_flat_layout(tmp_path, folder, speaker):
    (tmp_path / folder / "video").mkdir(parents=True)
    (tmp_path / folder / "video" / "bbaf2n.mpg").write_bytes(b"")
    assert [clip.utt for clip in find_clips(tmp_path / folder)] == [f"{speaker}-bbaf2n"]


def test_words_and_times(tmp_path):
    (tmp_path / "x.align").write_text(ALIGN)
    words = read_align(tmp_path / "x.align")
    assert [word.text for word in words] == spell_out("bbaf2n") == "BIN BLUE AT F TWO NOW".split()
    assert (words[0].start_sec, words[0].end_sec) == (0.7, 0.92)
    (tmp_path / "x.align").write_text("0 17500\n")
    with pytest.raises(DataError, match="line 1"):
        read_align(tmp_path / "x.align")
    with pytest.raises(DataError, match="spells no GRID sentence"):
        spell_out("hello")


def test_split_is_by_speaker_and_seed(tmp_path):
    clips = find_clips(make_tree(tmp_path))
    sets = split_clips(clips, no_lists(), seed=1)
    assert {name: len(members) for name, members in sets.items()} == {"train": 16, "valid": 2, "test": 2}
    assert {clip.speaker for clip in sets["test"]} == {"s1", "s2"}
    assert sum(sets.values(), []) != sum(split_clips(clips, no_lists(), seed=2).values(), [])
    one = split_clips([clip for clip in clips if clip.speaker == "s1"], no_lists(), seed=1)
    assert one["test"] == [clip for clip in sets["test"] if clip.speaker == "s1"]  # speakers do not disturb each other


def test_lists(tmp_path):
    clips = find_clips(make_tree(tmp_path / "grid"))
    listed = tmp_path / "test.txt"
    listed.write_text("# my test set\ns1/bbaf2n\ns2-lrak9a\n\ns1-bgwb5s.mpg\n")
    sets = split_clips(clips, {**no_lists(), "test": listed}, seed=0)
    assert [clip.utt for clip in sets["test"]] == ["s1-bbaf2n", "s1-bgwb5s", "s2-lrak9a"]
    assert not set(sets["test"]) & set(sets["train"] + sets["valid"])
    assert len(sets["train"]) + len(sets["valid"]) == len(clips) - 3


@pytest.mark.parametrize(
    ("text", "words"),
    [("s1/nobody\n", "unknown"), ("bbaf2n\n", "several speakers"), ("s1/bbaf2n\ns1-bbaf2n\n", "twice")],
)
def test_bad_lists(tmp_path, text, words):
    clips = find_clips(make_tree(tmp_path / "grid"))
    (tmp_path / "list").write_text(text)
    with pytest.raises(DataError, match=words):
        split_clips(clips, {**no_lists(), "test": tmp_path / "list"})


def test_lists_that_overlap(tmp_path):
    clips = find_clips(make_tree(tmp_path / "grid"))
    (tmp_path / "list").write_text("s1/bbaf2n\n")
    with pytest.raises(DataError, match="share a clip"):
        split_clips(clips, {**no_lists(), "test": tmp_path / "list", "valid": tmp_path / "list"})
    with pytest.raises(UsageError, match="impossible shares"):
        split_clips(clips, no_lists(), valid_share=0.6, test_share=0.5)


def test_missing_corpus(tmp_path):
    for root in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(MissingDataError, match="zenodo.org/records/3625687") as raised:
            find_clips(root)
        assert raised.value.exit_code == 3


def test_duplicate_clip(tmp_path):
    make_tree(tmp_path, ["s1"])
    (tmp_path / "s1" / "again").mkdir()
    (tmp_path / "s1" / "again" / "bbaf2n.mpg").write_bytes(b"")
    with pytest.raises(DataError, match="exists twice"):
        find_clips(tmp_path)


def test_command_writes_data_folders(tmp_path):
    make_tree(tmp_path / "grid")
    assert main(["--grid_root", str(tmp_path / "grid"), "--output_dir", str(tmp_path / "data")]) == 0
    data = DataDir(tmp_path / "data" / "train")
    assert data.read("utt2spk").keys() == data.read("text").keys() == data.read("video.scp").keys()
    assert set(data.read("spk2utt")) == {"s1", "s2"}
    ctm = "".join((tmp_path / "data" / name / "words.ctm").read_text() for name in ("train", "valid", "test"))
    assert "s1-bbaf2n 1 0.700 0.220 BIN\n" in ctm


def test_interferer_sets(tmp_path):
    make_flat_tree(tmp_path / "grid")
    options = ["--grid_root", str(tmp_path / "grid"), "--output_dir", str(tmp_path / "data")]
    options += ["--test_share", "0.5", "--valid_share", "0.25", "--interferer_snrs", "-5 0"]
    assert main(options) == 0
    clean, noisy = DataDir(tmp_path / "data" / "test"), DataDir(tmp_path / "data" / "test_snr_n5_interferer_1")
    assert noisy.read("text") == clean.read("text")
    assert noisy.read("video.scp") == clean.read("video.scp")
    first = {utt: read_audio(path, 16000)[0] for utt, path in noisy.read("wav.scp").items()}
    assert all(np.abs(wave).max() < 1 for wave in first.values())
    assert DataDir(tmp_path / "data" / "test_snr_0_interferer_1").read("utt2interferer") == noisy.read("utt2interferer")
    assert main(options) == 0
    for utt, path in noisy.read("wav.scp").items():
        np.testing.assert_array_equal(read_audio(path, 16000)[0], first[utt])


def test_interferers_are_other_speakers_where_there_are_any():
    drawn = draw_interferers({"a-1": "a", "a-2": "a", "b-1": "b"}, seed=0)
    assert drawn["a-1"] == drawn["a-2"] == "b-1"
    assert drawn["b-1"] in ("a-1", "a-2")
    assert draw_interferers({"a-1": "a", "a-2": "a"}, seed=0) == {"a-1": "a-2", "a-2": "a-1"}
    assert interferer_set_name(10) == "test_snr_10_interferer_1"


def test_bad_snr(tmp_path):
    with pytest.raises(UsageError, match="whole numbers"):
        main(["--grid_root", str(tmp_path), "--interferer_snrs", "loud"])


def test_local_data_sh(tmp_path, repo_root):
    make_tree(tmp_path / "grid", ["s1"])
    script = repo_root / "egs" / "grid" / "avsr" / "local" / "data.sh"
    command = ["bash", str(script), "--grid_root", str(tmp_path / "grid"), "--output_dir", str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "test" / "text").is_file()
    command[3] = str(tmp_path / "nowhere")
    assert subprocess.run(command, capture_output=True, check=False).returncode == 3
