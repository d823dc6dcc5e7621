# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from espnet_av.data import sound_bank
from espnet_av.data.audio_io import write_audio

LEVELS = {"s1-a": 0.1, "s1-b": 0.2, "s2-a": 0.3}


@pytest.fixture
def speech_scp(tmp_path: Path) -> Path:
    """Three utterances of two speakers, each a constant of its own, with ``utt2spk`` beside the scp file."""
    for key, level in LEVELS.items():
        write_audio(tmp_path / f"{key}.flac", np.full(3 * 16000, level, np.float32), 16000)
    (tmp_path / "wav.scp").write_text("".join(f"{key} {tmp_path}/{key}.flac\n" for key in LEVELS))
    (tmp_path / "utt2spk").write_text("".join(f"{key} {key[:2]}\n" for key in LEVELS))
    return tmp_path / "wav.scp"


def drawn(bank: sound_bank.ClipBank, avoid: str | None) -> Counter:
    rng = np.random.default_rng(0)
    return Counter(round(float(bank(rng, avoid)[0]), 1) for _ in range(40))


def test_interferers_are_other_speakers(speech_scp):
    bank = sound_bank.ClipBank(speech_scp)
    assert set(drawn(bank, None)) == {0.1, 0.2, 0.3}
    assert set(drawn(bank, "s1-a")) == {0.3}
    assert set(drawn(bank, "s2-a")) == {0.1, 0.2}
    assert set(drawn(bank, "unknown")) == {0.1, 0.2, 0.3}


def test_with_one_speaker_they_are_other_utterances(speech_scp):
    (speech_scp.parent / "utt2spk").write_text("".join(f"{key} s1\n" for key in LEVELS))
    assert set(drawn(sound_bank.ClipBank(speech_scp), "s1-a")) == {0.2, 0.3}
    (speech_scp.parent / "utt2spk").unlink()
    assert set(drawn(sound_bank.ClipBank(speech_scp), "s1-a")) == {0.2, 0.3}


def test_folders_of_noise_are_read_in_parts(tmp_path, monkeypatch):
    folder = tmp_path / "musan" / "noise" / "free-sound"
    folder.mkdir(parents=True)
    ramp = np.arange(32000, dtype=np.float32) / 65536
    write_audio(folder / "ramp.wav", ramp, 16000)
    (folder / "README").write_text("no sound")
    reads = []
    original = sound_bank.read_audio

    def read_audio(*given, **options):
        reads.append(options.get("num_samples"))
        return original(*given, **options)

    monkeypatch.setattr(sound_bank, "read_audio", read_audio)
    bank = sound_bank.ClipBank(tmp_path / "musan")
    rng = np.random.default_rng(0)
    starts = {round(float(bank.part(rng, 800)[0] * 65536)) for _ in range(20)}
    assert len(starts) > 10 and max(starts) <= 32000 - 800 and set(reads) == {800}
    whole = bank.part(rng, 40000)
    assert whole.shape == (40000,) and np.array_equal(whole[:8000], whole[32000:])


def test_sounds_of_another_rate(tmp_path):
    write_audio(tmp_path / "high.wav", np.full(48000, 0.25, np.float32), 48000)
    part = sound_bank.ClipBank(tmp_path).part(np.random.default_rng(0), 1600)
    assert part.shape == (1600,) and part[800] == pytest.approx(0.25, abs=0.01)


def test_whole_sounds_keep_their_length_in_time(tmp_path):
    write_audio(tmp_path / "response.wav", np.full(4800, 0.25, np.float32), 48000)
    assert sound_bank.ClipBank(tmp_path).whole(np.random.default_rng(0)).shape == (1600,)
