# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stages 2 and 3 for ready-made mixtures."""

import json

import numpy as np
import pytest
import soundfile
from mixture_trees import make_layout, wave, write_mouth

from espnet_av.bin import filter_mixtures, format_mixtures
from espnet_av.corpora.avss_layout import main as read_layout
from espnet_av.data.audio_io import read_audio, write_audio
from espnet_av.data.drops import TooManyDropped
from espnet_av.data.mixture_dir import read_mixtures
from espnet_av.data.parallel import map_items


@pytest.fixture()
def raw(tmp_path):
    """A corpus of three mixtures, and the function that formats it."""
    root = make_layout(tmp_path / "root", ("test",))

    def run(*words, share="0.9"):
        assert read_layout(["--root", str(root), "--output_dir", str(tmp_path / "data")]) == 0
        places = [f"--{name}_dir={tmp_path / name}" for name in ("audio", "mouth")]
        sets = [f"--data_dir={tmp_path / 'data' / 'test'}", f"--output_dir={tmp_path / 'formatted'}"]
        format_mixtures.main([*sets, *places, "--max_dropped_share", share, *words])
        return {mixture.utt: mixture for mixture in read_mixtures(tmp_path / "formatted")}

    return root, run


def reasons(folder):
    """Return reason of each lost mixture."""
    found = json.loads(folder.read_text())["reasons"]
    return {utt: reason for reason, entry in found.items() for utt in entry["utterances"]}


def test_good_files_stay_where_they_are(raw, tmp_path):
    root, run = raw
    mixture = run()["a_1_b"]
    assert mixture.mix == str(root / "audio" / "test" / "mix" / "a_1_b.wav")
    assert (mixture.num_samples, mixture.num_frames) == (32000, 50)
    assert not (tmp_path / "audio").exists() and not (tmp_path / "mouth").exists()


def test_other_rates_channels_and_formats_are_converted(raw):
    root, run = raw
    for part, seed in (("mix", 0), ("s1", 1), ("s2", 2)):
        folder = root / "audio" / "test" / part
        stereo = np.stack([wave(seed, 88200), wave(seed, 88200)], axis=1)
        soundfile.write(folder / "a_1_b.wav", stereo, 44100)
        soundfile.write(folder / "b_c.mp3", read_audio(folder / "b_c.wav")[0], 16000)
        (folder / "b_c.wav").unlink()
    mixtures = run()
    assert len(mixtures) == 3
    for name in ("a_1_b", "b_c"):
        paths = (mixtures[name].mix, *mixtures[name].sources)
        assert all(soundfile.info(path).samplerate == 16000 and path.endswith(".flac") for path in paths)
    assert mixtures["a_1_b"].num_samples == 32000
    assert mixtures["b_c"].num_frames in (50, 51)  # an encoder may add a little


def test_mouths_are_cut_to_the_sound(raw):
    root, run = raw
    write_mouth(root / "mouths" / "b.npz", 7, 75)
    mixtures = run()
    cut = np.load(mixtures["a_1_b"].mouths[1])
    assert np.array_equal(cut, np.load(root / "mouths" / "b.npz")["data"][:50])
    assert mixtures["b_c"].mouths[0] == mixtures["a_1_b"].mouths[1]  # made once
    assert set(run("--long_mouths", "drop")) == {"c_a_1"}
    write_mouth(root / "mouths" / "b.npz", 7, 51)  # one frame more or less is the tolerance
    assert len(run("--long_mouths", "drop")) == 3


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"frames": np.zeros((50, 96, 96), np.uint8)}, "unreadable"),
        ({"data": np.zeros((50, 96, 96), np.float32)}, "unreadable"),
        ({"data": np.zeros((50, 64, 64), np.uint8)}, "unreadable"),
        ({"data": np.zeros((40, 96, 96), np.uint8)}, "lips_length"),
    ],
)
def test_bad_mouths(raw, tmp_path, arrays, reason):
    root, run = raw
    write_mouth(root / "mouths" / "b.npz", 0, **arrays)
    assert set(run()) == {"c_a_1"}
    assert reasons(tmp_path / "formatted" / "format_report.json") == {"a_1_b": reason, "b_c": reason}
    with pytest.raises(TooManyDropped, match=reason):
        run(share="0.5")


def test_bad_sound(raw, tmp_path):
    root, run = raw
    folder = root / "audio" / "test"
    write_audio(folder / "s2" / "a_1_b.wav", wave(0, 31999), 16000)
    (folder / "s1" / "b_c.wav").write_bytes(b"no sound")
    assert set(run()) == {"c_a_1"}
    assert reasons(tmp_path / "formatted" / "format_report.json") == {"a_1_b": "unequal_length", "b_c": "unreadable"}


def test_filter(raw, tmp_path):
    root, run = raw
    folder = root / "audio" / "test"
    write_audio(folder / "s2" / "a_1_b.wav", np.zeros(32000, np.float32), 16000)
    write_audio(folder / "mix" / "b_c.wav", wave(9), 16000)
    run()
    words = [f"--data_dir={tmp_path / 'formatted'}", f"--output_dir={tmp_path / 'used'}", "--max_dropped_share=0.9"]
    filter_mixtures.main(words)
    assert [mixture.utt for mixture in read_mixtures(tmp_path / "used")] == ["b_c", "c_a_1"]
    assert reasons(tmp_path / "used" / "filter_report.json") == {"a_1_b": "silent"}
    assert json.loads((tmp_path / "used" / "filter_report.json").read_text())["not_the_sum"] == ["b_c"]
    filter_mixtures.main([*words, "--keep_silent"])
    assert len(read_mixtures(tmp_path / "used")) == 3
    with pytest.raises(TooManyDropped, match="too_short 3"):
        filter_mixtures.main([*words, "--keep_silent", "--min_sec", "2.1"])


def test_processes_keep_the_order():
    items = list(range(40))
    assert list(map_items(str, items, 2, "test")) == [str(item) for item in items]
