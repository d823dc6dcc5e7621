# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Formatting and filtering of sound: what is kept, converted, refused."""

import json

import numpy as np
import pytest
import soundfile

from espnet_av.bin import filter_audio, format_audio
from espnet_av.data.audio_format import FormatRules, format_audio_set
from espnet_av.data.data_dir import DataDir
from espnet_av.utils.errors import DataError, UsageError

RATE = 24000


def tone(seconds=0.5, rate=RATE, gain=0.3):
    return (gain * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def make_set(folder, waves, **tables):
    """Write a data folder; ``waves``: id -> (wave, rate, subtype)."""
    folder.mkdir(parents=True)
    paths = {}
    for utt, (wave, rate, subtype) in waves.items():
        paths[utt] = folder / "wav" / f"{utt}.wav"
        paths[utt].parent.mkdir(exist_ok=True)
        soundfile.write(paths[utt], wave, rate, subtype=subtype)
    data = DataDir(folder)
    data.write("wav.scp", paths)
    for name, table in tables.items():
        data.write(name, table)
    return folder, paths


def run_format(tmp_path, folder, *words):
    command = ["--data_dir", folder, "--output_dir", tmp_path / "out", "--audio_dir", tmp_path / "audio", *words]
    assert format_audio.main([str(word) for word in command]) == 0
    return DataDir(tmp_path / "out")


def test_right_files_stay_and_others_are_converted(tmp_path):
    stereo = np.stack([tone(), np.zeros(RATE // 2, np.float32)], axis=1)
    waves = {
        "a": (tone(), RATE, "PCM_16"),
        "b": (tone(rate=16000), 16000, "PCM_16"),
        "c": (tone(), RATE, "FLOAT"),
        "d": (stereo, RATE, "PCM_16"),
        "e": (tone(gain=1.5), RATE, "FLOAT"),
        "f": (np.zeros(1), RATE, "PCM_16"),
    }
    folder, paths = make_set(tmp_path / "in", waves, utt2spk=dict.fromkeys(waves, "s"), text=dict.fromkeys(waves, "hi"))
    data = run_format(tmp_path, folder)
    found = data.read("wav.scp")
    assert found["a"] == str(paths["a"]) and found["f"] == str(paths["f"])
    for utt in "bcde":
        info = soundfile.info(found[utt])
        assert (info.samplerate, info.channels, info.subtype, info.frames) == (RATE, 1, "PCM_16", RATE // 2)
        assert str(tmp_path / "audio") in found[utt]
    assert data.num_samples() == {"a": 12000, "b": 12000, "c": 12000, "d": 12000, "e": 12000, "f": 1}
    np.testing.assert_allclose(soundfile.read(found["b"])[0][1000:-1000], tone()[1000:-1000], atol=2e-3)
    np.testing.assert_allclose(soundfile.read(found["d"])[0], tone() / 2, atol=1e-4)
    assert np.abs(soundfile.read(found["e"])[0]).max() > 0.999
    changed = json.loads((data.path / "format_report.json").read_text())["changed"]
    counts = {name: entry["count"] for name, entry in changed.items()}
    assert counts == {"resampled": 1, "from_float": 2, "mono": 1, "clipped": 1}
    assert (data / "feats_type").read_text() == "raw\n" and data.read("text")["a"] == "hi"
    assert data.streams[0].name == "audio" and data.meta["sample_rate"] == RATE


def test_references_never_replace_inputs(tmp_path):
    noisy, clean = tone(rate=16000), tone(rate=16000, gain=0.1)
    folder, paths = make_set(tmp_path / "in", {"u": (noisy, 16000, "PCM_16")})
    other = tmp_path / "clean" / "u.wav"  # the same name, another folder
    other.parent.mkdir()
    soundfile.write(other, clean, 16000)
    DataDir(folder).write("reference.scp", {"u": other})
    data = run_format(tmp_path, folder)
    heard, reference = (soundfile.read(data.read(name)["u"])[0] for name in ("wav.scp", "reference.scp"))
    assert np.abs(heard).max() == pytest.approx(0.3, abs=0.02) and np.abs(reference).max() == pytest.approx(
        0.1, abs=0.02
    )
    assert [stream.name for stream in data.streams] == ["audio", "speech_ref1"]


def test_unusable_files_are_counted(tmp_path):
    bad = tone().copy()
    bad[3] = np.nan
    waves = {
        "ok": (tone(), RATE, "PCM_16"),
        "nan": (bad, RATE, "FLOAT"),
        "int": (tone() * 30000, RATE, "FLOAT"),
        "none": (np.zeros(0), RATE, "PCM_16"),
        "short": (tone(0.5), RATE, "PCM_16"),
    }
    folder, paths = make_set(tmp_path / "in", waves)
    (folder / "wav" / "text.wav").write_text("no sound")
    (folder / "wav" / "zero.wav").write_bytes(b"")
    table = {
        **paths,
        "gone": tmp_path / "gone.wav",
        "text": folder / "wav" / "text.wav",
        "zero": folder / "wav" / "zero.wav",
    }
    references = {**table, "short": tmp_path / "long.wav"}
    soundfile.write(tmp_path / "long.wav", tone(0.6), RATE)
    DataDir(folder).write("wav.scp", table)
    DataDir(folder).write("reference.scp", references)
    data = run_format(tmp_path, folder, "--max_dropped_share", "0.9")
    assert data.keys == ["ok"]
    reasons = json.loads((data.path / "format_report.json").read_text())["reasons"]
    found = {name: sorted(entry["utterances"]) for name, entry in reasons.items()}
    assert found == {
        "not_finite": ["nan"],
        "not_scaled": ["int"],
        "empty": ["none", "zero"],
        "no_file": ["gone"],
        "unreadable": ["text"],
        "reference_length": ["short"],
    }
    with pytest.raises(DataError, match="too many utterances lost"):
        format_audio_set(folder, tmp_path / "strict", FormatRules(tmp_path / "audio"), 1, 0.1)
    assert (tmp_path / "strict.format_report.json").is_file() and not (tmp_path / "strict").exists()


def test_segments(tmp_path):
    folder, _ = make_set(tmp_path / "in", {"rec": (tone(1.0), RATE, "PCM_16")})
    DataDir(folder).write("segments", {"rec-1": "rec 0.25 0.75", "rec-2": "rec 0.5 2"})
    data = run_format(tmp_path, folder)
    assert data.num_samples() == {"rec-1": 12000, "rec-2": 12000}
    np.testing.assert_allclose(soundfile.read(data.read("wav.scp")["rec-1"])[0], tone(1.0)[6000:18000], atol=1e-4)
    DataDir(folder).write("segments", {"x": "other 0 1"})
    with pytest.raises(DataError, match="no such recording"):
        run_format(tmp_path, folder)


def test_commands_and_formats_are_refused(tmp_path):
    folder, _ = make_set(tmp_path / "in", {"a": (tone(), RATE, "PCM_16")})
    with pytest.raises(UsageError, match="archives of Kaldi are not read"):
        run_format(tmp_path, folder, "--audio_format", "flac.ark")
    (folder / "wav.scp").write_text("a sox x.wav -t wav - |\n")
    with pytest.raises(DataError, match="commands are not run"):
        run_format(tmp_path, folder)


def test_filter_keeps_what_lies_strictly_between(tmp_path):
    sizes = {"a": 24000, "b": 24001, "c": 47999, "d": 48000}
    folder, _ = make_set(tmp_path / "in", {utt: (np.zeros(size), RATE, "PCM_16") for utt, size in sizes.items()})
    data = run_format(tmp_path, folder)
    words = [
        "--data_dir",
        data.path,
        "--output_dir",
        tmp_path / "kept",
        "--min_wav_duration",
        1,
        "--max_wav_duration",
        2,
    ]
    assert filter_audio.main([str(word) for word in words]) == 0
    assert DataDir(tmp_path / "kept").keys == ["b", "c"]
    reasons = json.loads((tmp_path / "kept" / "filter_report.json").read_text())["reasons"]
    assert list(reasons["too_short"]["utterances"]) == ["a"] and list(reasons["too_long"]["utterances"]) == ["d"]
    with pytest.raises(UsageError, match="must be below"):
        filter_audio.main([*map(str, words[:4]), "--min_wav_duration", "3", "--max_wav_duration", "2"])
    with pytest.raises(DataError, match="run stage 2"):
        filter_audio.main(["--data_dir", str(folder), "--output_dir", str(tmp_path / "x")])
