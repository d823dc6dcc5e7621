# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Statistics of windows against plain means of all frames, and the command that writes them."""

import numpy as np
import pytest

from espnet_av.avgen.model_statistics import read_statistics
from espnet_av.avgen.statistics import Moments, compute_statistics
from espnet_av.bin import avgen_statistics
from espnet_av.data.data_dir import write_scp
from espnet_av.utils.errors import DataError, UsageError

STREAMS = {"mel": 80, "face": 12, "head": 7, "other_expression": 55, "other_head": 3}


class Windows:
    """Windows of chance; the first face value never changes, and half of the frames were lost."""

    participant = True

    def __init__(self, count=4, frames=30):
        rng = np.random.default_rng(0)
        self.keys = [str(number) for number in range(count)]
        self.items = {}
        for key in self.keys:
            item = {name: rng.normal(3, 2, (frames, dim)).astype(np.float32) for name, dim in STREAMS.items()}
            item["face"][:, 0] = 5
            item["valid"] = rng.random(frames) < 0.5
            self.items[key] = item

    def __getitem__(self, key):
        return key[1], self.items[key[1]]

    def all(self, name):
        return np.concatenate([item[name] for item in self.items.values()]).astype(np.float64)


def test_moments_are_those_of_all_frames_at_once():
    frames = np.random.default_rng(0).normal(100, 1, (50, 3))
    moments = Moments()
    for part in np.split(frames, [0, 7, 30]):
        moments.add(part)
    np.testing.assert_allclose(moments.mean, frames.mean(axis=0))
    np.testing.assert_allclose(moments.std(), frames.std(axis=0))
    np.testing.assert_allclose(moments.flat_std(), np.sqrt(frames.var(axis=0).mean()))


def test_statistics_of_windows():
    windows = Windows()
    mouth = np.eye(12)[2]
    found = compute_statistics(windows, mouth=mouth)
    face = windows.all("face")[windows.all("valid").astype(bool)]
    np.testing.assert_allclose(found["face_mean"], face.mean(axis=0), rtol=1e-5)
    assert found["face_std"][0] == 1
    np.testing.assert_allclose(found["face_std"][1:], face.std(axis=0)[1:], rtol=1e-5)
    np.testing.assert_allclose(found["mel_mean"], windows.all("mel").mean(), rtol=1e-5)
    np.testing.assert_allclose(found["mel_std"], windows.all("mel").std(), rtol=1e-5)
    np.testing.assert_allclose(found["head_std"], windows.all("head").std(axis=0), rtol=1e-5)
    partner = np.concatenate([windows.all("other_expression"), windows.all("other_head")], axis=1)
    np.testing.assert_allclose(found["partner_min"], partner.min(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(found["mouth_direction"], mouth)


def test_faces_can_stay_as_they_are_or_share_a_deviation():
    windows = Windows()
    assert "face_std" not in compute_statistics(windows, face="none")
    assert len(set(compute_statistics(windows, face="flat")["face_std"].tolist())) == 1
    with pytest.raises(UsageError, match="per_value"):
        compute_statistics(windows, face="each")
    with pytest.raises(DataError, match="mouth"):
        compute_statistics(windows, mouth=np.ones(3))


def test_a_given_range_of_the_partner_is_kept():
    low, high = np.zeros(58), np.ones(58)
    found = compute_statistics(Windows(), partner_range=(low, high))
    np.testing.assert_array_equal(found["partner_max"], high)


def test_the_command_writes_what_the_generator_reads(tmp_path, capsys):
    import soundfile

    rng = np.random.default_rng(0)
    pose = np.tile(np.eye(3, 4, dtype=np.float32), (60, 1, 1))
    arrays = {"face": rng.standard_normal((60, 12)), "head": pose, "tokens": rng.standard_normal((99, 29))}
    soundfile.write(tmp_path / "a.wav", 0.1 * rng.standard_normal(44100), 22050)
    write_scp(tmp_path / "wav.scp", {"a": tmp_path / "a.wav"})
    for name, values in arrays.items():
        np.save(tmp_path / f"{name}.npy", values.astype(np.float32))
        write_scp(tmp_path / f"{name}.scp", {"a": tmp_path / f"{name}.npy"})
    np.savez(tmp_path / "face_basis.npz", Q=np.eye(12)[:3], names=np.array(["opening", "width", "brow"]))
    output = tmp_path / "out" / "statistics.npz"
    assert avgen_statistics.main([str(tmp_path), str(output), "--dataset_conf", "segment_length=40"]) == 0
    found = read_statistics(output)
    assert found["head_std"].tolist() == [1.0] * 7
    assert found["mouth_direction"].tolist() == np.eye(12)[0].tolist()
    assert "mel_mean" in capsys.readouterr().out
