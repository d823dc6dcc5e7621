# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The full-band voices: plan, change of voice, and the sets."""

import numpy as np
import pytest

from espnet_av.corpora import codec_sets, hq_voices
from espnet_av.data.audio_io import read_audio
from espnet_av.data.data_dir import DataDir, read_scp
from espnet_av.utils.errors import UsageError

RATE = codec_sets.SAMPLE_RATE


def test_plan(tmp_path):
    size = hq_voices.SIZES["default"]
    items = hq_voices.plan(size, 0, tmp_path)
    assert len({item.text for item in items}) == len(items) == 10 * 20 + 2 * 6 + 3 * 8
    speakers = {split: {item.speaker for item in items if item.split == split} for split in ("train", "valid", "test")}
    assert [len(found) for found in speakers.values()] == [10, 2, 3]
    voices = {split: {item.voice for item in items if item.split == split} for split in speakers}
    assert not voices["train"] & voices["valid"] and not (voices["train"] | voices["valid"]) & voices["test"]
    assert items == hq_voices.plan(size, 0, tmp_path) != hq_voices.plan(size, 1, tmp_path)


def test_pitch_moves():
    times = np.arange(RATE) / RATE
    wave = sum(np.sin(2 * np.pi * 200 * k * times) / k for k in range(1, 20)) * 0.1
    changed = hq_voices.change_voice(wave, hq_voices.HQVoice(0.5, 0.9, 1.0))
    assert len(changed) == len(wave)
    spectrum = np.abs(np.fft.rfft(changed[RATE // 4 : 3 * RATE // 4]))  # 2 Hz a bin
    near = {hertz: spectrum[hertz // 2 - 3 : hertz // 2 + 4].max() for hertz in (100, 150, 300)}
    assert near[100] > 5 * near[150] and near[300] > 5 * near[150]
    same = hq_voices.change_voice(wave, hq_voices.HQVoice(1.0, 1.0, 1.1))
    np.testing.assert_array_equal(same, wave)


def test_reverberation_keeps_the_direct_sound_in_place():
    speech = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    response = np.zeros(RATE // 2)
    response[[100, 700, 100 + RATE // 10]] = -0.8, 0.2, 0.1  # direct (negative), early, late
    heard, target = codec_sets.reverberate(speech, response)
    early = np.zeros(RATE)
    early[600:] = speech[:-600]
    np.testing.assert_allclose(target, -speech + 0.25 * early, atol=1e-5)
    late = np.zeros(RATE)
    late[RATE // 10 :] = speech[: -RATE // 10]
    np.testing.assert_allclose(heard - target, 0.125 * late, atol=1e-5)


def test_sizes():
    assert hq_voices.hq_size("7").train == 7
    with pytest.raises(UsageError, match="unknown corpus size"):
        hq_voices.hq_size("huge")


@pytest.mark.slow
def test_tiny_corpus_is_the_same_every_time(tmp_path):
    pytest.importorskip("hibari")
    for name in ("a", "b"):
        words = ["--output_dir", str(tmp_path / name), "--size", "tiny", "--seed", "3"]
        assert hq_voices.main(words) == 0
    train = [DataDir(tmp_path / name / "train") for name in "ab"]
    assert train[0].num_samples() == train[1].num_samples()
    for name in ("train", "test_track2_reverb"):
        first, second = (read_scp(tmp_path / place / name / "wav.scp") for place in "ab")
        for utt in first:
            np.testing.assert_array_equal(read_audio(first[utt])[0], read_audio(second[utt])[0])
    for track in (1, 2):
        data = DataDir(tmp_path / "a" / f"test_track{track}_noisy")
        same = [data.read("wav.scp")[utt] == data.read("reference.scp")[utt] for utt in data.keys]
        assert all(same) if track == 1 else not any(same)
    assert not set(read_scp(tmp_path / "a" / "noise.scp")) & set(read_scp(tmp_path / "a" / "noise_val.scp"))
    before = (tmp_path / "a" / "train").stat().st_mtime_ns
    hq_voices.main(["--output_dir", str(tmp_path / "a"), "--size", "tiny", "--seed", "3"])
    assert (tmp_path / "a" / "train").stat().st_mtime_ns == before  # nothing to do
