# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from espnet_av.codec.usage import codebook_usage, count_codes, find_codes, summarise_usage
from espnet_av.data.data_dir import write_scp


def test_perplexity():
    even = np.arange(64).repeat(5)
    single = np.full(320, 7)
    skewed = np.concatenate([np.zeros(240, int), np.ones(80, int)])
    counts = count_codes([np.stack([even, single, skewed])], 128)
    found = summarise_usage(counts)
    assert [item["layer"] for item in found] == [1, 2, 3]
    assert [item["used"] for item in found] == [64, 1, 2]
    assert found[0]["perplexity"] == pytest.approx(64) and found[0]["bits"] == pytest.approx(6)
    assert found[1]["perplexity"] == pytest.approx(1) and found[1]["bits"] == 0
    assert found[2]["bits"] == pytest.approx(0.811278, abs=1e-6)
    assert all(item["size"] == 128 and item["num_frames"] == 320 for item in found)


def test_recordings_are_added_and_the_batch_axis_is_allowed():
    counts = count_codes([np.zeros((2, 3), int), np.ones((2, 1, 4), int)], 8)
    assert counts[:, :2].tolist() == [[3, 4], [3, 4]]
    assert summarise_usage(count_codes([])) == []


def test_of_a_decoded_set(tmp_path):
    assert codebook_usage(tmp_path) == []
    (tmp_path / "codec").mkdir()
    np.save(tmp_path / "codec" / "a.npy", np.array([[1, 2, 3]]))
    write_scp(tmp_path / "codec" / "codec.scp", {"a": str(tmp_path / "codec" / "a.npy")})
    assert list(find_codes(tmp_path)) == ["a"]
    assert codebook_usage(tmp_path)[0]["used"] == 3
    np.save(tmp_path / "codec" / "a.npy", np.array([[1, 2, 5000]]))
    assert codebook_usage(tmp_path) == []  # broken codes are a warning
