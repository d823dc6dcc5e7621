# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Metrics and losses of separated speech against recorded values of the reference programs."""

import json

import numpy as np
import pytest
import torch

from espnet_av.avss import losses, metrics

LEVEL = 1e-6  # dB, in float64
LEVEL_FLOAT32 = 1e-3
STOI = 1e-6
PESQ = 1e-4
RAW_PESQ = 0.05  # an inverse mapping with rounded constants


@pytest.fixture(scope="module")
def expected(fixtures_dir):
    path = fixtures_dir("avss") / "metrics_expected.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def signals(fixtures_dir):
    with np.load(fixtures_dir("avss") / "metrics_signals.npz") as loaded:
        found = {name: loaded[name] / 32768.0 for name in ("sources", "estimates", "mix")}
        return {**found, "fs": int(loaded["fs"])}


@pytest.fixture(scope="module")
def scores(signals):
    names = (*metrics.DEFAULT_METRICS, "sir", "sar", "pesq_raw_swapped")
    return metrics.score_mixture(
        signals["estimates"], signals["sources"], signals["mix"], sample_rate=signals["fs"], metrics=names, pit=True
    )


def test_pairwise(signals, expected):
    estimates, sources = signals["estimates"][:, None], signals["sources"][None]
    for found, key in (
        (metrics.si_snr(estimates, sources), "pairwise_si_snr_zero_mean"),
        (metrics.si_snr(estimates, sources, zero_mean=False), "pairwise_si_sdr_no_zero_mean"),
        (metrics.snr(estimates, sources), "pairwise_snr_zero_mean"),
        (metrics.sd_sdr(estimates, sources), "pairwise_sd_sdr_zero_mean"),
    ):
        np.testing.assert_allclose(found, expected[key], atol=LEVEL, rtol=0, err_msg=key)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, LEVEL), (torch.float32, LEVEL_FLOAT32)])
def test_losses_are_the_same_values(signals, expected, dtype, tolerance):
    estimates = torch.from_numpy(signals["estimates"]).to(dtype)[:, None]
    sources = torch.from_numpy(signals["sources"]).to(dtype)[None]
    for found, key in (
        (losses.si_snr(estimates, sources), "pairwise_si_snr_zero_mean"),
        (losses.si_snr(estimates, sources, zero_mean=False), "pairwise_si_sdr_no_zero_mean"),
        (losses.snr(estimates, sources), "pairwise_snr_zero_mean"),
    ):
        torch.testing.assert_close(
            found.double(), torch.tensor(expected[key], dtype=torch.float64), atol=tolerance, rtol=0
        )


def test_permutation(scores, expected):
    assert [voice.estimate for voice in scores] == expected["pit_perm_est_for_ref"]
    mean = np.mean([voice.values["si_snr"] for voice in scores])
    assert mean == pytest.approx(expected["pit_si_snr_mean"], abs=LEVEL)


@pytest.mark.parametrize(
    "name, key, tolerance",
    [
        ("si_snr", "si_snr", LEVEL),
        ("si_snri", "si_snri", LEVEL),
        ("snr", "snr_zero_mean", LEVEL),
        ("snri", "sdri_as_in_reference_code", LEVEL),
        ("sdr", "fast_bss_eval_sdr", LEVEL),
        ("sdri", "sdri_bss_eval", LEVEL),
        ("stoi", "stoi", STOI),
        ("estoi", "estoi", STOI),
        ("pesq_wb", "pesq_wb", PESQ),
        ("pesq_nb", "pesq_nb", PESQ),
        ("pesq_raw_swapped", "pypesq_raw_as_in_reference_code_swapped", RAW_PESQ),
    ],
)
def test_values(scores, expected, name, key, tolerance):
    np.testing.assert_allclose([voice.values[name] for voice in scores], expected[key], atol=tolerance, rtol=0)


def test_bss_eval(scores, expected):
    for name in ("sdr", "sir", "sar"):
        found = [voice.values[name] for voice in scores]
        np.testing.assert_allclose(found, expected["bss_eval_512"][name], atol=LEVEL, rtol=0, err_msg=name)


@pytest.mark.parametrize("name", ["stoi", "estoi", "pesq_wb", "pesq_nb"])
def test_values_of_the_mixture(signals, expected, name):
    tolerance = PESQ if name.startswith("pesq") else STOI
    found = [metrics.measure(name, signals["mix"], source, signals["fs"]) for source in signals["sources"]]
    np.testing.assert_allclose(found, expected[f"{name}_mix"], atol=tolerance, rtol=0)


def _edge_case(name, source):
    """Return estimate and reference of a named case; None for names that are not known."""
    silence = np.zeros_like(source)
    kind, _, value = name.rpartition("_")
    if name in ("perfect", "negated", "silent_estimate", "silent_reference", "both_silent", "constant_estimate"):
        return {
            "perfect": (source, source),
            "negated": (-source, source),
            "silent_estimate": (silence, source),
            "silent_reference": (source, silence),
            "both_silent": (silence, silence),
            "constant_estimate": (silence + 0.1, source),
        }[name]
    if kind == "scaled":
        return float(value) * source, source
    if kind == "dc_offset":
        return source + float(value), source
    if kind == "tiny_reference":
        return source, float(value) * source
    parts = name.split("_")
    if parts[0] == "delay":
        count = int(parts[1])
        return np.concatenate([np.zeros(count), source[:-count]]), source
    return None


def test_edge_cases(signals, expected):
    source = signals["sources"][0]
    checked = 0
    for name, values in expected["edge_cases"].items():
        pair = _edge_case(name, source)
        if pair is None:
            continue
        checked += 1
        estimate, reference = pair
        assert float(metrics.si_snr(estimate, reference)) == pytest.approx(values["ref_si_snr"], abs=LEVEL), name
        assert float(metrics.snr(estimate, reference)) == pytest.approx(values["ref_snr"], abs=LEVEL), name
        assert metrics.stoi(estimate, reference, signals["fs"]) == pytest.approx(values["stoi"], abs=STOI), name
        found = metrics.pesq(estimate, reference, signals["fs"])
        if isinstance(values["pesq_wb"], str):
            assert np.isnan(found), name
        else:
            assert found == pytest.approx(values["pesq_wb"], abs=PESQ), name
        pair32 = [torch.from_numpy(signal.astype(np.float32)) for signal in (estimate, reference)]
        exact = 104 if values["ref_si_snr"] > 60 else None  # where float32 ends
        level = float(losses.si_snr(*pair32))
        assert level == pytest.approx(values["ref_si_snr_f32"], abs=LEVEL_FLOAT32 if exact is None else 0.05), name
        if "espnet_si_snr_clamp30" in values:
            clamped = float(losses.si_snr(*pair32, clamp_db=30.0))
            assert clamped == pytest.approx(np.clip(values["ref_si_snr_f32"], -30, 30), abs=LEVEL_FLOAT32), name
    assert checked >= 5


def test_permutations_of_many_sources(expected):
    for case in expected["pit_matrices"]["cases"].values():
        pairwise = torch.tensor(case["pairwise_loss"], dtype=torch.float64)
        least, order = losses.best_permutation(pairwise)
        assert order.tolist() == case["est_index_for_ref"]
        np.testing.assert_allclose(least, case["min_loss"], atol=1e-9, rtol=0)
        assert [metrics.best_permutation(-matrix) for matrix in pairwise.numpy()] == case["est_index_for_ref"]
