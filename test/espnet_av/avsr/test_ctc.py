# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import torch

from espnet_av.avsr.ctc import CTC


def test_loss_is_the_sum_over_labels_averaged_over_clips():
    ctc = CTC(5, 6).eval()
    encoded, lengths = torch.randn(2, 8, 6), torch.tensor([8, 5])
    labels, label_lengths = torch.tensor([[1, 2, 2], [3, -1, -1]]), torch.tensor([3, 1])
    log_probs = ctc.log_softmax(encoded).transpose(0, 1)
    expected = torch.nn.functional.ctc_loss(
        log_probs, torch.tensor([1, 2, 2, 3]), lengths, label_lengths, reduction="none"
    )
    torch.testing.assert_close(ctc(encoded, lengths, labels, label_lengths), expected.mean())


def test_labels_that_do_not_fit_add_nothing_and_no_gradient_explodes():
    ctc = CTC(5, 6).eval()
    encoded = torch.randn(2, 8, 6, requires_grad=True)
    labels, label_lengths = torch.tensor([[1, 2, 3], [3, 1, -1]]), torch.tensor([3, 2])
    loss = ctc(encoded, torch.tensor([2, 8]), labels, label_lengths)
    alone = ctc(encoded[1:], torch.tensor([8]), labels[1:], label_lengths[1:])
    torch.testing.assert_close(loss, alone / 2)
    loss.backward()
    assert torch.isfinite(encoded.grad).all()
    assert (encoded.grad[0] == 0).all()


def test_dropout_obeys_eval():
    ctc = CTC(5, 6, dropout=0.5)
    encoded = torch.randn(1, 4, 6)
    assert not torch.equal(ctc.train().log_softmax(encoded), ctc.log_softmax(encoded))
    assert torch.equal(ctc.eval().log_softmax(encoded), ctc.log_softmax(encoded))


def test_greedy_removes_repeats_and_blanks_within_the_length():
    ctc = CTC(4, 4).eval()
    with torch.no_grad():
        ctc.ctc_lo.weight.copy_(torch.eye(4))
        ctc.ctc_lo.bias.zero_()
    best = torch.tensor([[0, 1, 1, 0, 1, 2, 2], [3, 3, 0, 2, 1, 1, 1]])
    encoded = torch.nn.functional.one_hot(best, 4).float()
    assert ctc.greedy(encoded, torch.tensor([7, 4])) == [[1, 1, 2], [3, 2]]
