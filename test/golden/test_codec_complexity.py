# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Operations, latency, bit rate and parameters of the reference codec, counted and measured."""

import json

import pytest

from espnet_av.codec.complexity import CodecComplexity, count_complexity
from espnet_av.codec.generator import CodecGenerator

FILE = "complexity.json"


@pytest.fixture(scope="module")
def golden(fixtures_dir) -> dict:
    path = fixtures_dir("codec") / FILE
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=["track1", "track2"])
def case(request, golden) -> tuple[CodecComplexity, dict, str]:
    if request.param not in golden:
        pytest.skip(f"{FILE} has no {request.param}")
    return count_complexity(CodecGenerator.from_preset(request.param)), golden[request.param], request.param


def test_latency(case):
    cost, want, track = case
    latency = cost.latency
    assert cost.hop_length == want["hop"] and cost.frame_rate == want["frame_rate"]
    assert latency.buffering_ms == pytest.approx(want["buffering_ms"])
    assert latency.encoder_ms == pytest.approx(want["encoder_lookahead_ms"])
    assert latency.decoder_ms == pytest.approx(want["decoder_lookahead_ms"])
    assert latency.total_ms == pytest.approx(want["total_latency_ms"])
    assert latency.measured_samples == want["empirical_max_lookahead_samples_over_frame"] + 1
    assert latency.measured_ms == pytest.approx(want["total_latency_ms"])
    assert cost.passes(track)


def test_operations(case):
    cost, want, _ = case
    assert cost.encoder_macs_per_s == want["encoder_macs_per_s"]
    assert cost.decoder_macs_per_s == want["decoder_macs_per_s"]
    assert cost.rvq_per_codebook == want["rvq_per_codebook"]
    for part in ("encoder", "decoder"):
        layers = {layer.name: layer.macs for layer in cost.layers if layer.part == part}
        assert layers == want[f"{part}_layer_macs"]
        assert cost.parameters[part] == want[f"{part}_params"]


def test_rates(case):
    cost, want, _ = case
    found = {f"n_q={rate.num_quantizers}": rate for rate in cost.rates}
    names = [name for name in want if name.startswith("n_q=")]
    assert names
    for name in names:
        rate = found[name]
        assert (rate.tx_macs, rate.rx_macs) == (want[name]["tx_macs"], want[name]["rx_macs"])
        assert rate.total_mflops == pytest.approx(want[name]["total_mflops"])
        assert rate.bitrate_bps == want[name]["bitrate_bps"]


def test_other_track_fails(golden):
    """The limits tell the tracks apart."""
    cost = count_complexity(CodecGenerator.from_preset("track2"), measure_latency=False)
    assert not cost.passes("track1") and cost.passes("track2")
    failed = {check.what for check in cost.checks["track1"] if not check.passed}
    assert failed == {"latency", "compute, both sides", "compute, receiver as shipped"}
