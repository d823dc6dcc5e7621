# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Metrics of decoded speech against recorded values of their packages."""

import json
import math

import numpy as np
import pytest

from espnet_av.codec import metrics
from espnet_av.data.audio_io import resample_audio

MODEL = 0.02  # PESQ, ViSQOL and opinion scores, as the note of the values says
EXACT = 1e-4  # STOI and levels
SAMPLE_RATE = 24000
RATERS = 8  # draws of PLCMOS's random raters that tell how much it scatters
#: Recorded name -> ours and tolerance.
NAMES = {
    "pesq_wb": ("pesq_wb", MODEL),
    "stoi_24k": ("stoi", EXACT),
    "estoi_24k": ("estoi", EXACT),
    "visqol_speech": ("visqol", MODEL),
    "snr_db": ("snr", EXACT),
    "si_sdr_db": ("si_sdr", EXACT),
}


@pytest.fixture(scope="module")
def expected(fixtures_dir):
    path = fixtures_dir("codec") / "scores.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    content = json.loads(path.read_text(encoding="utf-8"))
    return {name: values for name, values in content.items() if isinstance(values, dict) and name != "versions"}


@pytest.fixture(scope="module")
def signals(fixtures_dir):
    path = fixtures_dir("codec") / "score_audio.npz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with np.load(path) as loaded:
        return {name: loaded[name] for name in loaded.files}


@pytest.fixture(scope="module")
def scores(signals, expected):
    names = [name for name in metrics.DEFAULT_METRICS if metrics.why_skipped(name) is None]
    return {name: metrics.score_signal(signals[name], signals["ref"], SAMPLE_RATE, names).values for name in expected}


def _require(name):
    reason = metrics.why_skipped(name)
    if reason:
        pytest.skip(reason)


@pytest.mark.parametrize("recorded", NAMES)
def test_values(scores, expected, recorded):
    name, tolerance = NAMES[recorded]
    _require(name)
    for degradation, values in expected.items():
        assert scores[degradation][name] == pytest.approx(values[recorded], abs=tolerance), degradation


@pytest.mark.parametrize("part", ["ovrl", "sig", "bak", "p808"])
def test_dnsmos(scores, expected, part):
    _require("dnsmos_ovrl")
    for degradation, values in expected.items():
        assert scores[degradation][f"dnsmos_{part}"] == pytest.approx(values["dnsmos"][f"{part}_mos"], abs=MODEL)


def test_plcmos(scores, signals, expected):
    """The recorded values were drawn with raters that nobody noted: they must lie where other raters' values lie."""
    _require("plcmos")
    for degradation, values in expected.items():
        wave = resample_audio(signals[degradation], SAMPLE_RATE, metrics.MODEL_RATE_HZ)
        drawn = [metrics.plcmos(wave, seed) for seed in range(RATERS)]
        assert scores[degradation]["plcmos"] == pytest.approx(drawn[metrics.PLCMOS_SEED], abs=1e-9)
        allowed = MODEL + 3 * np.std(drawn, ddof=1)
        assert math.isclose(np.mean(drawn), values["plcmos"], abs_tol=allowed), degradation
