# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Windows of recordings: they equal the same frames of the whole, and every frame of a set is used."""

import json

import numpy as np
import pytest
import soundfile
import torch

from espnet_av.avgen import clock, gap_repair
from espnet_av.avgen.dataset import Windows, open_windows
from espnet_av.avgen.mel import MelSpectrogram, resample
from espnet_av.avgen.recordings import Recording, measure, positions, read_at
from espnet_av.data.collate import AVCollate
from espnet_av.data.data_dir import write_scp
from espnet_av.utils.errors import DataError, MissingDataError, UsageError


def rotations(frames, rng):
    """Random upright poses ``(N, 3, 4)`` that turn to and fro."""
    angle = 0.5 * np.sin(np.arange(frames) / 7 + rng.uniform(0, 6))
    pose = np.zeros((frames, 3, 4), dtype=np.float32)
    pose[:, 0, 0], pose[:, 0, 2], pose[:, 1, 1] = np.cos(angle), np.sin(angle), 1
    pose[:, 2, 0], pose[:, 2, 2] = -np.sin(angle), np.cos(angle)
    pose[..., 3] = rng.standard_normal((frames, 3))
    return pose


def write_recording(folder, uid, frames=60, rate=48000, seed=0, missing=None, partner=True):
    """Write the files of a recording; returns it."""
    rng = np.random.default_rng(seed)
    samples = frames * rate // 30
    soundfile.write(folder / f"{uid}.wav", 0.1 * rng.standard_normal((samples, 2)), rate, subtype="PCM_16")
    tokens = clock.token_frames(int(samples / rate * 16000))
    arrays = {
        "face": rng.standard_normal((frames, 256)).astype(np.float32),
        "head": rotations(frames, rng),
        "tokens": rng.standard_normal((2, tokens, 29)).astype(np.float32),
    }
    if partner:
        arrays["other_expression"] = rng.standard_normal((frames, 55)).astype(np.float32)
        arrays["other_head"] = rng.standard_normal((frames, 3)).astype(np.float32)
    if missing is not None:
        arrays["missing"] = np.array(missing, dtype=np.int64)
    files = {}
    for name, values in arrays.items():
        files[name] = str(folder / f"{uid}.{name}.npy")
        np.save(files[name], values)
    return Recording(uid, str(folder / f"{uid}.wav"), files.pop("face"), files.pop("head"), **files)


def write_data_dir(folder, recordings):
    """Write a data folder of recordings."""
    for name in ("wav", "face", "head", "tokens", "missing", "other_expression", "other_head"):
        table = {each.uid: getattr(each, name) for each in recordings if getattr(each, name) is not None}
        if table:
            write_scp(folder / f"{name}.scp", table)
    (folder / "data.json").write_text(json.dumps({"motion_fps": 30}))
    return folder


@pytest.mark.parametrize("rate", [48000, 44100, 22050, 16000])
def test_the_mel_of_a_window_is_that_of_the_whole(tmp_path, rate):
    recording = write_recording(tmp_path, "a", rate=rate)
    windows = Windows([recording], train=False, segment_length=40)
    wave, _ = soundfile.read(recording.wav, dtype="float32")
    whole = MelSpectrogram()(resample(torch.from_numpy(wave.T[:1].copy()), rate, clock.SAMPLE_RATE))[0].T.numpy()
    frames = windows.recordings["a"][1].frames
    assert frames == len(whole) == clock.mel_frames(len(wave), rate)
    for start in (0, 1, 50, frames - 40):
        np.testing.assert_allclose(windows.cut("a", start, 40)["mel"], whole[start : start + 40], atol=2e-4)


def test_motion_and_tokens_of_a_window_are_those_of_the_whole(tmp_path):
    recording = write_recording(tmp_path, "a", frames=61)
    windows = Windows([recording], train=False, participant=True, segment_length=40)
    frames = windows.recordings["a"][1].frames
    whole = windows.cut("a", 0, frames)
    face = clock.resample_linear(np.load(recording.face), frames, ratio=clock.MEL_RATE / 30)
    np.testing.assert_allclose(whole["face"], face, atol=2e-5)
    tokens = np.load(recording.tokens)
    ratio = 61 / 30 * clock.MEL_RATE / tokens.shape[1]
    np.testing.assert_allclose(whole["tokens"], clock.resample_linear(tokens[0], frames, ratio=ratio), atol=2e-5)
    np.testing.assert_allclose(whole["other_tokens"], clock.resample_linear(tokens[1], frames, ratio=ratio), atol=2e-5)
    for start in (0, 3, 77, frames - 40):
        cut = windows.cut("a", start, 40)
        for name in set(whole) - {"mel"}:
            np.testing.assert_allclose(cut[name], whole[name][start : start + 40], atol=1e-6, err_msg=name)


def test_gaps_are_filled_across_the_ends_of_windows(tmp_path):
    missing = [0, 1, 20, 21, 22, 23, 24, 25, 59]
    recording = write_recording(tmp_path, "a", missing=missing)
    windows = Windows([recording], train=False, segment_length=10)
    filled, valid = gap_repair.repair(np.load(recording.face), np.array(missing))
    frames = windows.recordings["a"][1].frames
    where = positions(0, frames, clock.MEL_RATE / 30)
    for start in (0, 62, 100, frames - 10):
        cut = windows.cut("a", start, 10)
        np.testing.assert_allclose(cut["face"], read_at(filled, where[start : start + 10]), atol=1e-5)
        seen = read_at(valid[:, None].astype(float), where[start : start + 10])[:, 0] == 1
        assert cut["valid"].tolist() == seen.tolist()


def test_training_draws_new_starts_and_validation_does_not(tmp_path):
    recordings = [write_recording(tmp_path, uid, seed=seed) for seed, uid in enumerate("ab")]
    train = Windows(recordings, train=True, segment_length=50, seed=3)
    again = Windows(recordings, train=True, segment_length=50, seed=3)
    key = train.keys[0]
    faces = [train[(number, key)][1]["face"] for number in (1, 2)]
    assert not np.array_equal(*faces)
    np.testing.assert_array_equal(again[(2, key)][1]["face"], faces[1])
    valid = Windows(recordings, train=False, segment_length=50)
    assert valid.lengths == {f"{uid}#{k:04d}": 50 for uid in "ab" for k in range(172 // 50)}
    np.testing.assert_array_equal(*(valid[(number, key)][1]["face"] for number in (1, 2)))
    last = valid.cut("a", 172 - 50, 50)["face"]
    np.testing.assert_array_equal(valid[(1, "a#0002")][1]["face"], last)


def test_a_data_folder_gives_batches(tmp_path):
    recordings = [write_recording(tmp_path, "a"), write_recording(tmp_path, "b", frames=30, seed=1, missing=[4])]
    folder = write_data_dir(tmp_path, recordings)
    windows = open_windows(folder, train=True, participant=True, segment_length=100)
    uids, batch = AVCollate()([windows[(1, key)] for key in windows.keys])
    assert uids == ["a#0000", "b#0000"]
    assert batch["mel_lengths"].tolist() == [100, 86]
    assert batch["mel"].shape == (2, 100, 80)
    assert batch["valid"].dtype == torch.bool
    assert not batch["valid"][1].all()
    assert batch["other_expression"].shape == (2, 100, 55)


def test_the_sign_of_rotations_follows_the_reference(tmp_path):
    recording = write_recording(tmp_path, "a")
    heads = []
    for reference in ((1, 0, 0, 0), (-1, 0, 0, 0)):
        windows = Windows([recording], train=False, segment_length=40, head_reference=reference)
        heads.append(windows.cut("a", 30, 40)["head"])
    np.testing.assert_allclose(heads[0][:, :4], -heads[1][:, :4])
    np.testing.assert_allclose(heads[0][:, 4:], heads[1][:, 4:])
    assert heads[0][0, 0] > 0


def test_bad_recordings_are_left_out_and_counted(tmp_path):
    good = [write_recording(tmp_path, f"g{number}", seed=number) for number in range(3)]
    bad = write_recording(tmp_path, "bad", partner=False)
    np.save(bad.tokens, np.zeros((2, 40, 29), dtype=np.float32))
    windows = Windows([*good, bad], train=True, max_dropped_share=0.3)
    assert "do not last as long" in windows.dropped["bad"]
    with pytest.raises(DataError, match="1 of 4 recordings"):
        Windows([*good, bad], train=True, max_dropped_share=0.1)
    np.save(bad.face, np.zeros((40, 256), dtype=np.float32))
    with pytest.raises(DataError, match="do not fit"):
        measure(bad)
    np.save(bad.head, np.zeros((40, 3, 4), dtype=np.float32))
    with pytest.raises(DataError, match="differ in length"):
        measure(bad)


def test_recordings_without_a_partner_are_counted(tmp_path):
    both = [write_recording(tmp_path, f"b{number}", seed=number) for number in range(3)]
    alone = write_recording(tmp_path, "alone", partner=False)
    (tmp_path / "some").mkdir()
    (tmp_path / "none").mkdir()
    some = write_data_dir(tmp_path / "some", [*both, alone])
    with pytest.raises(DataError, match=r"1 of 4 .*'alone'.*alone--\{expression,headpose\}\.npy.*max_dropped_share"):
        open_windows(some, train=True, participant=True)
    windows = open_windows(some, train=True, participant=True, max_dropped_share=0.25)
    assert list(windows.dropped) == ["alone"] and "participant_cond" in windows.dropped["alone"]
    assert len(open_windows(some, train=True).recordings) == 4
    with pytest.raises(DataError, match="1 of 1 .*no face of its partner"):
        open_windows(write_data_dir(tmp_path / "none", [alone]), train=True, participant=True, max_dropped_share=1)
    with pytest.raises(DataError, match="there are no recordings"):
        Windows([], train=True)
    np.save(both[0].tokens, np.load(both[0].tokens)[:1])
    with pytest.raises(DataError, match=r"b0\.tokens\.npy"):
        Windows(both, train=True, participant=True)


def test_wrong_folders_and_options_are_refused(tmp_path):
    with pytest.raises(MissingDataError, match="wav.scp"):
        open_windows(tmp_path, train=True)
    folder = write_data_dir(tmp_path, [write_recording(tmp_path, "a")])
    with pytest.raises(UsageError, match="segment_lenght"):
        open_windows(folder, train=True, segment_lenght=10)
    with pytest.raises(UsageError, match="segment_length"):
        open_windows(folder, train=True, segment_length=0)
    with pytest.raises(UsageError, match="subset"):
        open_windows(folder, train=True, subset="dev")
    with pytest.raises(DataError, match="0 to 9"):
        gap_repair.find_gaps(10, np.array([10]))
