# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest

from espnet_av.codec import metrics
from espnet_av.utils.errors import DataError, EnvironmentProblem, UsageError

RATE = 24000
QUICK = ("stoi", "snr", "si_sdr", "mel_distance", "stft_distance")


def speech(seconds=1.0, seed=0):
    """Return noise with a slow envelope, loud enough for all metrics."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.1 * rng.standard_normal(len(time)) * (1.2 + np.sin(2 * np.pi * 4 * time))).astype(np.float32)


def test_worse_signals_have_worse_values():
    s = speech()
    noise = speech(seed=1)
    good, bad = (metrics.score_signal(s + gain * noise, s, RATE, QUICK).values for gain in (0.05, 1.0))
    for name in QUICK:
        assert (good[name] > bad[name]) == metrics.METRICS[name].higher_is_better, name


def test_definitions_of_levels():
    s, e = speech(), speech() + 0.1 * speech(seed=1)
    found = metrics.score_signal(e, s, RATE, ["snr", "si_sdr"]).values
    s64, e64 = s.astype(np.float64), e.astype(np.float64)
    assert found["snr"] == pytest.approx(10 * np.log10((s64**2).sum() / ((e64 - s64) ** 2).sum()), abs=1e-4)
    p = (e64 @ s64) / (s64 @ s64) * s64
    assert found["si_sdr"] == pytest.approx(10 * np.log10((p @ p) / ((e64 - p) @ (e64 - p))), abs=1e-4)
    scaled = metrics.score_signal(0.5 * e, s, RATE, ["snr", "si_sdr"]).values
    assert scaled["si_sdr"] == pytest.approx(found["si_sdr"], abs=1e-3)
    assert scaled["snr"] < found["snr"] - 1


def test_equal_signals_have_no_level_and_no_distance():
    s = speech()
    found = metrics.score_signal(s, s, RATE, QUICK).values
    assert math.isnan(found["snr"]) and math.isnan(found["si_sdr"])
    assert found["mel_distance"] == found["stft_distance"] == 0
    assert found["stoi"] == pytest.approx(1, abs=1e-6)


def test_stft_distance_of_a_gain():
    s = speech()
    quiet = metrics.stft_distance(s, 0.5 * s)
    magnitudes = [np.abs(metrics._magnitudes(s, size)) for size in metrics.DISTANCE_WINDOWS]
    assert all((m > 2 * metrics.DISTANCE_FLOOR).all() for m in magnitudes)
    assert quiet == pytest.approx(sum(2 * np.log10(2) + 0.5 * m.mean() for m in magnitudes), rel=1e-5)


def test_silent_reference_has_no_comparing_metric():
    found = metrics.score_signal(speech(), np.zeros(RATE, np.float32), RATE, QUICK)
    assert found.silent_reference and not found.silent_estimate
    assert all(math.isnan(value) for value in found.values.values())


def test_silent_estimate_is_the_worst_and_not_left_out():
    found = metrics.score_signal(np.zeros(RATE, np.float32), speech(), RATE, ["pesq_wb", "visqol", *QUICK])
    assert found.silent_estimate
    assert found.values["pesq_wb"] == found.values["visqol"] == 1.0
    assert found.values["stoi"] == 0.0
    assert found.values["si_sdr"] == metrics.SILENT_ESTIMATE_DB
    assert found.values["snr"] == pytest.approx(0, abs=1e-6)


def test_lengths_may_differ_by_a_frame():
    s = speech()
    for cut in (0, 1, metrics.MAX_LENGTH_DIFFERENCE):
        assert metrics.fit_lengths(s[: len(s) - cut], s)[1].shape == (len(s) - cut,)
        assert metrics.fit_lengths(s, s[: len(s) - cut])[0].shape == (len(s) - cut,)
    with pytest.raises(DataError, match="a.wav has another length than its reference; got 23759"):
        metrics.fit_lengths(s[: len(s) - metrics.MAX_LENGTH_DIFFERENCE - 1], s, "a.wav")


@pytest.mark.parametrize("size", [1, 100, 600])
def test_short_signals_are_undefined_and_do_not_fail(size):
    names = [name for name in metrics.METRICS if metrics.METRICS[name].family not in ("distill_mos",)]
    found = metrics.score_signal(speech()[:size] + 0.01, speech()[:size], RATE, names).values
    for name in ("pesq_wb", "stoi", "visqol", "dnsmos_ovrl", "plcmos", "mel_distance"):
        assert math.isnan(found[name]), name
    assert math.isfinite(found["snr"]) == (size > 1)  # a single sample is nothing but its mean


def test_samples_that_are_not_finite_are_refused():
    bad = speech()
    bad[5] = np.nan
    with pytest.raises(DataError, match="not finite"):
        metrics.score_signal(bad, speech(), RATE, QUICK)


def test_without_reference_only_what_compares_is_undefined(monkeypatch):
    monkeypatch.setitem(metrics._FAMILIES, "plcmos", lambda pair: {"plcmos": 3.0})
    found = metrics.score_signal(speech(), None, RATE, ["plcmos", "stoi"]).values
    assert found["plcmos"] == 3.0
    assert math.isnan(found["stoi"])


def test_names():
    assert metrics.expand_metrics(["pesq", "dnsmos", "pesq_wb"]) == (
        *("pesq_wb", "dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak", "dnsmos_p808"),
    )
    with pytest.raises(UsageError, match="unknown metric; got 'mos'"):
        metrics.expand_metrics(["mos"])


def test_missing_package_has_a_reason(monkeypatch):
    found = metrics.importlib.util.find_spec
    monkeypatch.setattr(metrics.importlib.util, "find_spec", lambda name: None if name == "visqol" else found(name))
    assert metrics.why_skipped("visqol") == "no package visqol; fix: pip install 'espnet_av[scoring]'"
    assert metrics.why_skipped("snr") is None


def test_a_missing_package_is_no_undefined_value(monkeypatch):
    def fail(pair):
        raise EnvironmentProblem("no package")

    monkeypatch.setitem(metrics._FAMILIES, "plcmos", fail)
    with pytest.raises(EnvironmentProblem):
        metrics.score_signal(speech(), speech(), RATE, ["plcmos"])


def test_raters_of_plcmos_leave_the_generator_alone(monkeypatch):
    class Model:
        def __call__(self, wave):
            return {"plcmos": np.random.normal()}  # noqa: NPY002

    monkeypatch.setattr(metrics, "_plcmos_model", Model)
    np.random.seed(3)  # noqa: NPY002
    before = np.random.random()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    assert metrics.plcmos(speech()) == metrics.plcmos(speech()) != metrics.plcmos(speech(), seed=1)
    assert np.random.random() == before  # noqa: NPY002
