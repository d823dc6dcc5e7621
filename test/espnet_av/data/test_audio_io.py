# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import soundfile

from espnet_av.data.audio_io import probe_audio, read_audio, resample_audio, write_audio
from espnet_av.utils.errors import DataError, MissingDataError, UsageError


@pytest.mark.parametrize("suffix", [".flac", ".wav"])
def test_round_trip_is_exact_in_16_bit(tmp_path, suffix):
    wave = np.round(np.sin(np.arange(1000) / 7) * 32000).astype(np.int16)
    path = tmp_path / f"a{suffix}"
    write_audio(path, wave / np.float32(32768), 16000)
    read, rate = read_audio(path, 16000)
    assert rate == 16000 and read.dtype == np.float32
    assert np.array_equal(np.rint(read * 32768), wave)
    write_audio(path, wave, 16000)
    assert np.array_equal(np.rint(read_audio(path)[0] * 32768), wave)
    assert probe_audio(path) == (1000, 16000)


def test_loud_samples_are_clipped_not_wrapped(tmp_path):
    write_audio(tmp_path / "a.wav", np.array([1.5, -1.5, 1.0], np.float32), 16000)
    read, _ = read_audio(tmp_path / "a.wav")
    assert read[0] > 0.99 and read[1] == -1.0 and read[2] > 0.99


def test_channels_are_averaged_and_parts_can_be_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([np.full(50, 0.5), np.full(50, -0.25)], 1), 16000)
    assert np.allclose(read_audio(tmp_path / "a.wav")[0], 0.125, atol=1e-4)
    write_audio(tmp_path / "b.wav", np.arange(100, dtype=np.int16), 16000)
    part, _ = read_audio(tmp_path / "b.wav", start=10, num_samples=5)
    assert np.rint(part * 32768).tolist() == [10, 11, 12, 13, 14]


def test_another_rate_is_refused_or_resampled(tmp_path):
    write_audio(tmp_path / "a.wav", np.sin(2 * np.pi * 440 * np.arange(44100) / 44100) * 0.5, 44100)
    with pytest.raises(DataError, match=r"a\.wav.*got 44100.*16000.*format"):
        read_audio(tmp_path / "a.wav", 16000)
    wave, rate = read_audio(tmp_path / "a.wav", 16000, resample=True)
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000) * 0.5
    assert rate == 16000 and len(wave) == 16000
    assert np.abs(wave - expected)[200:-200].max() < 2e-3  # no delay, no change of level
    assert len(resample_audio(np.zeros(44101, np.float32), 44100, 16000)) == 16001


def test_bad_files(tmp_path):
    with pytest.raises(MissingDataError, match="none.wav"):
        read_audio(tmp_path / "none.wav")
    with pytest.raises(MissingDataError, match="none.wav"):
        probe_audio(tmp_path / "none.wav")
    (tmp_path / "text.wav").write_text("no sound here")
    with pytest.raises(DataError, match="text.wav: cannot be read"):
        read_audio(tmp_path / "text.wav")
    with pytest.raises(DataError, match="text.wav: cannot be read"):
        probe_audio(tmp_path / "text.wav")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    with pytest.raises(DataError, match="no samples"):
        read_audio(tmp_path / "empty.wav")
    for wave in (np.zeros((5, 2)), np.array([0.0, np.nan]), np.zeros(5, np.int32)):
        with pytest.raises(UsageError):
            write_audio(tmp_path / "c.wav", wave, 16000)
    with pytest.raises(UsageError, match="suffix"):
        write_audio(tmp_path / "c.mp3", np.zeros(5), 16000)
    assert not list(tmp_path.glob("c.*"))
