# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from espnet_av.avsr.losses import add_sos_eos, label_smoothing_loss, token_accuracy

TARGETS = torch.tensor([[1, 2, 4], [3, 4, -1]])


def test_decoder_input_and_target():
    inputs, targets = add_sos_eos(torch.tensor([[1, 2], [3, -1]]), sos=5, eos=4)
    assert inputs.tolist() == [[5, 1, 2], [5, 3, 4]]
    assert targets.tolist() == TARGETS.tolist()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_loss_is_the_divergence_from_the_smoothed_targets(smoothing):
    logits = torch.randn(2, 3, 5)
    wanted = torch.full((2, 3, 5), smoothing / 4)
    wanted.scatter_(2, TARGETS.clamp(min=0).unsqueeze(2), 1 - smoothing)
    divergence = torch.nn.functional.kl_div(logits.log_softmax(-1), wanted, reduction="none").sum(-1)
    expected = divergence[TARGETS >= 0].sum()
    torch.testing.assert_close(label_smoothing_loss(logits, TARGETS, smoothing=smoothing), expected / 2)
    by_token = label_smoothing_loss(logits, TARGETS, smoothing=smoothing, normalize_length=True)
    torch.testing.assert_close(by_token, expected / 5)


def test_accuracy_ignores_padding():
    logits = torch.nn.functional.one_hot(torch.tensor([[1, 2, 0], [3, 4, 2]]), 5).float()
    assert token_accuracy(logits, TARGETS).item() == pytest.approx(4 / 5)
