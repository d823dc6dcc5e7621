# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Counts against numbers computed by hand."""

import pytest
import torch
from torch.nn import functional

from espnet_av.report.complexity import card_rows, complexity_of_model, decoding_cost, experiment_card
from espnet_av.report.sections import build_network
from espnet_av.utils.complexity import count_macs, count_parameters


def test_macs_by_hand():
    linear, conv = torch.nn.Linear(6, 10), torch.nn.Conv1d(4, 8, 3, padding=1)
    assert count_macs(linear, torch.zeros(5, 6)) == 5 * 6 * 10
    assert count_macs(conv, torch.zeros(1, 4, 20)) == 20 * 3 * 4 * 8
    query = torch.zeros(1, 2, 7, 16)
    assert count_macs(functional.scaled_dot_product_attention, query, query, query) == 2 * (2 * 7 * 7 * 16)


def test_fused_attention_hides_nothing():
    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    length, width, inner = 9, 16, 32
    expected = length * (4 * width * width + 2 * width * inner) + 2 * length * length * width
    assert count_macs(layer.eval(), torch.zeros(1, length, width)) == expected
    assert torch.backends.mha.get_fastpath_enabled()


def test_card_of_an_experiment(experiment):
    network = build_network(experiment.config())
    card = experiment_card(experiment.exp_dir, network)
    total, parts = count_parameters(network)
    assert card.num_parameters == total == sum(parts.values())
    assert set(parts) == {"encoder", "decoder", "ctc"}
    macs = card.encoder_gmacs_per_sec
    assert macs["av"] > macs["video"] > macs["audio"] > 0 and card.decoder_mmacs_per_token > 0
    assert [(item["modality"], item["rtf"], item["peak_rss_mb"]) for item in card.decoding] == [
        ("av", 0.5, 300.0),
        ("audio", 0.5, 300.0),
    ]
    assert card_rows(card) == card_rows(card.to_dict())
    assert any("real-time factor 0.500, peak memory 300 MB" in value for _, value in card_rows(card))
    assert complexity_of_model(network)[0] == pytest.approx(macs)


def test_real_time_factor_is_weighted_by_length(experiment):
    path = experiment.exp_dir / "decode" / "av" / "test" / "infer.json"
    path.write_text('{"decode_sec": 8.0, "audio_sec": 4.0}')  # 4 s of sound, beside another 4 s at 0.5
    assert decoding_cost(experiment.exp_dir)[0]["rtf"] == pytest.approx((8 + 2) / (4 + 4))


def test_nothing_known(tmp_path):
    card = experiment_card(tmp_path)
    assert card.num_parameters is None and card_rows(card) == []
