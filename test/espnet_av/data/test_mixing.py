# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Mixing at a given ratio, by properties and against values of the reference system (fixture f)."""

import numpy as np
import pytest

from espnet_av.data.mixing import fit_length, limit_peak, mix_at_snr
from espnet_av.utils.errors import DataError


@pytest.fixture
def signals():
    rng = np.random.default_rng(0)
    return rng.standard_normal(4000).astype(np.float32) * 0.1, rng.standard_normal(3000).astype(np.float32)


@pytest.mark.parametrize("snr_db", [-5, 0, 12.5])
def test_realised_ratio(signals, snr_db):
    target, other = signals
    added = mix_at_snr(target, other, snr_db) - target
    ratio = 10 * np.log10(np.sum(target.astype(float) ** 2) / np.sum(added.astype(float) ** 2))
    assert ratio == pytest.approx(snr_db, abs=1e-3)
    assert not added[3000:].any()  # the shorter interference was padded at the end


def test_golden_mixtures(fixtures_dir):
    path = fixtures_dir("avsr") / "f_audio.npz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with np.load(path) as golden:
        target, other = (golden[name].astype(np.float32) / 32768 for name in ("wav_0", "wav_1"))
        names = [name for name in golden.files if name.startswith("mix_snr_")]
        assert names
        for name in names:
            mixture = mix_at_snr(target, other, float(name.removeprefix("mix_snr_")))
            np.testing.assert_allclose(mixture, golden[name].reshape(-1), atol=1e-6)


def test_silence(signals):
    target, _ = signals
    np.testing.assert_array_equal(mix_at_snr(target, np.zeros(10), 0), target)
    with pytest.raises(DataError, match="silent target"):
        mix_at_snr(np.zeros(10), target, 0)


def test_stereo_is_refused(signals):
    with pytest.raises(DataError, match="mono"):
        mix_at_snr(np.zeros((10, 2)), signals[0], 0)


def test_fit_length():
    assert fit_length(np.arange(5), 3).tolist() == [0, 1, 2]
    assert fit_length(np.arange(2), 4).tolist() == [0, 1, 0, 0]


def test_limit_peak():
    quiet = np.array([0.5, -0.5], np.float32)
    same, gain = limit_peak(quiet)
    assert same is quiet
    assert gain == 1.0
    loud, gain = limit_peak(np.array([2.0, -4.0], np.float32))
    assert np.abs(loud).max() == pytest.approx(0.99)
    assert gain == pytest.approx(0.99 / 4)
