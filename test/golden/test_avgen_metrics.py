# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Metrics of generated faces and speech against values computed elsewhere."""

import json

import numpy as np
import pytest

from espnet_av.avgen import beats, metrics

TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def arrays(fixtures_dir) -> dict[str, np.ndarray]:
    path = fixtures_dir("avgen") / "metrics_inputs.npz"
    if not path.is_file():
        pytest.skip("no inputs of metrics in the golden data")
    with np.load(path) as found:
        return {name: found[name] for name in found.files}


@pytest.fixture(scope="module")
def expected(fixtures_dir) -> dict:
    path = fixtures_dir("avgen") / "metrics_expected.json"
    if not path.is_file():
        pytest.skip("no values of metrics in the golden data")
    return json.loads(path.read_text(encoding="utf-8"))


def assert_close(value: float):
    return pytest.approx(value, rel=TOLERANCE, abs=1e-12)


def test_frechet_distance(arrays, expected):
    real, generated = arrays["gt"], arrays["pred"]
    assert metrics.frechet_distance(real, generated) == assert_close(expected["fd_static"])
    moves = metrics.differences(real), metrics.differences(generated)
    assert metrics.frechet_distance(*moves) == assert_close(expected["fd_delta"])
    assert metrics.frechet_distance(real, real) == pytest.approx(expected["fd_self"], abs=1e-9)


def test_diversity(arrays, expected):
    samples = arrays["pred"]
    pairs = (arrays["div_idx1"], arrays["div_idx2"])
    assert metrics.static_diversity(samples, pairs=pairs) == assert_close(expected["div_static_mean_pair_l2"])
    assert metrics.kinetic_diversity(samples) == assert_close(expected["div_kinematic_temporal_var"])
    assert metrics.sample_diversity(samples) == assert_close(expected["div_sample_cross_var"])
    assert metrics.l1_diversity(samples) == assert_close(expected["l1div"])
    assert metrics.jerk(samples) == assert_close(expected["jerk_mean_abs"])


def test_beats(arrays, expected):
    np.testing.assert_allclose(
        beats.smooth(arrays["speed"], beats.SPEED_SIGMA), arrays["speed_smooth_sigma2"], rtol=TOLERANCE
    )
    np.testing.assert_array_equal(beats.motion_beats(arrays["speed"]), arrays["motion_beat_frames"])
    motion, audio, sigma = arrays["motion_beats_s"], arrays["audio_beats_s"], float(arrays["beat_sigma_s"])
    assert beats.beat_alignment(motion, audio, sigma) == assert_close(expected["beat_align_motion_to_audio"])
    assert beats.beat_alignment(audio, motion, sigma) == assert_close(expected["beat_align_audio_to_motion"])


def test_lip_sync(arrays, expected):
    by_lag = arrays["corr_by_lag_m10_p10"]
    found = metrics.lip_sync(arrays["audio_envelope"], arrays["mouth_opening"], max_lag=len(by_lag) // 2)
    np.testing.assert_allclose(found.by_lag, by_lag, rtol=TOLERANCE, atol=1e-9)
    assert found.r == assert_close(expected["lipsync_corr_lag0"])
    assert found.best_lag == expected["lipsync_best_lag_frames"]
    assert found.best_r == assert_close(expected["lipsync_best_corr"])
    assert found.confidence == assert_close(expected["lipsync_conf_max_minus_median"])


def test_closure(arrays, expected):
    found = metrics.closure(arrays["gt_opening"], arrays["pred_opening"], float(arrays["closure_threshold"]))
    assert found.f1 == assert_close(expected["lip_closure_f1"])
    assert found.precision == assert_close(expected["lip_closure_precision"])
    assert found.recall == assert_close(expected["lip_closure_recall"])


def test_words(expected):
    texts = [{str(number): text for number, text in enumerate(expected[name])} for name in ("refs", "hyps")]
    found = metrics.word_errors(*texts)
    assert found.wer == assert_close(expected["wer"])
    assert found.cer == assert_close(expected["cer_with_spaces"])


def test_distortion(arrays, expected):
    found = metrics.mel_cepstral_distortion(arrays["mcc_ref"], arrays["mcc_syn"])
    assert found == assert_close(expected["mcd_db"])
