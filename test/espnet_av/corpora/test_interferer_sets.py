# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Test sets with one or two interferers."""

import numpy as np
import pytest

from espnet_av.corpora.interferer_sets import write_interferer_sets
from espnet_av.data.audio_io import read_audio, write_audio
from espnet_av.data.data_dir import DataDir
from espnet_av.utils.errors import DataError


def make_set(folder, speakers="aabbccdd", silent=()):
    """Clips of noise; the sound is in FLAC files and there is no video at all."""
    data = DataDir(folder / "test")
    utts = [f"{speaker}-{index}" for index, speaker in enumerate(speakers)]
    for index, utt in enumerate(utts):
        rng = np.random.default_rng(index)
        wave = 0.05 * rng.standard_normal(8000 + 500 * index) * (utt not in silent)
        write_audio(folder / f"{utt}.flac", wave.astype(np.float32), 16000)
    data.write("wav.scp", {utt: folder / f"{utt}.flac" for utt in utts})
    data.write("video.scp", dict.fromkeys(utts, "none.mp4"))
    data.write("text", dict.fromkeys(utts, "HELLO"))
    data.write("utt2spk", {utt: utt[0] for utt in utts})
    data.write_meta({"licence": "CC0-1.0"})
    return data


def wave_of(data, utt):
    return read_audio(data.read("wav.scp")[utt], 16000)[0]


def test_levels_and_speakers(tmp_path):
    clean = make_set(tmp_path)
    write_interferer_sets(clean.path, tmp_path, (-5, 10), (1, 2), description="X")
    for level, snr_db in (("n5", -5), ("10", 10)):
        for number in (1, 2):
            noisy = DataDir(tmp_path / f"test_snr_{level}_interferer_{number}")
            drawn = noisy.read("utt2interferer")
            for utt in clean.read("text"):
                others = drawn[utt].split()
                assert len({utt[0], *(other[0] for other in others)}) == 1 + number
                target = wave_of(clean, utt).astype(np.float64)
                mixed = wave_of(noisy, utt) / float(noisy.read("utt2gain")[utt])
                added = mixed - target
                measured = 10 * np.log10(np.sum(target**2) / np.sum(added**2))
                assert measured == pytest.approx(snr_db, abs=0.1)
            assert noisy.meta["snr_db"] == snr_db and noisy.meta["description"].startswith("X, test_snr_")
            assert noisy.has("utt2inner_snr") == (number == 2)


def test_levels_share_the_draw_and_seeds_do_not(tmp_path):
    clean = make_set(tmp_path)
    for seed in (0, 0, 1):
        write_interferer_sets(clean.path, tmp_path / str(seed), (0, 5), (2,), seed=seed)
    tables = {
        (seed, snr): DataDir(tmp_path / f"{seed}/test_snr_{snr}_interferer_2").read("utt2interferer")
        for seed in (0, 1)
        for snr in (0, 5)
    }
    assert tables[0, 0] == tables[0, 5] != tables[1, 0]


def test_same_seed_same_sound(tmp_path):
    clean = make_set(tmp_path)
    waves = []
    for _ in range(2):
        write_interferer_sets(clean.path, tmp_path, (0,), (1,))
        data = DataDir(tmp_path / "test_snr_0_interferer_1")
        waves.append(np.concatenate([wave_of(data, utt) for utt in data.read("text")]))
    np.testing.assert_array_equal(*waves)


def test_silent_clips_have_no_part(tmp_path):
    clean = make_set(tmp_path, silent=("a-0",))
    (tmp_path / "b-2.flac").write_bytes(b"no sound")
    lines = write_interferer_sets(clean.path, tmp_path, (0,), (1,))
    assert lines == {"test_snr_0_interferer_1": "6 of 8 kept; dropped: silent 1, unreadable 1"}
    data = DataDir(tmp_path / "test_snr_0_interferer_1")
    assert not {"a-0", "b-2"} & {*data.read("text"), *data.read("utt2interferer").values()}


def test_refusals(tmp_path):
    clean = make_set(tmp_path, speakers="ab")
    with pytest.raises(DataError, match="2 interferers need 3 speakers"):
        write_interferer_sets(clean.path, tmp_path, (0,), (2,))
    assert not list(tmp_path.glob("test_*"))
    clean.write("segments", {"a-0": "a-0 0 1"})
    with pytest.raises(DataError, match="cut clips cannot be mixed"):
        write_interferer_sets(clean.path, tmp_path)
