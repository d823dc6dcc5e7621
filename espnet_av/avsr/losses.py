# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Loss and accuracy of the attention decoder.

Axes: ``B`` batch, ``L`` output tokens, ``V`` vocabulary.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def add_sos_eos(labels: Tensor, sos: int, eos: int, ignore_id: int = -1) -> tuple[Tensor, Tensor]:
    """Make the decoder's input and target.

    Args:
        labels: ``(B, L)`` int64, padded at the end with ``ignore_id``.
        sos: Put in front of the input.
        eos: Put behind the target, and used as padding of the input.
        ignore_id: Padding of labels and target.

    Returns:
        Input and target, each ``(B, L + 1)``.
    """
    lengths = (labels != ignore_id).sum(dim=1)
    inputs = F.pad(labels.masked_fill(labels == ignore_id, eos), (1, 0), value=sos)
    targets = F.pad(labels, (0, 1), value=ignore_id)
    return inputs, targets.scatter(1, lengths.unsqueeze(1), eos)


def label_smoothing_loss(
    logits: Tensor, targets: Tensor, *, smoothing: float = 0.1, ignore_id: int = -1, normalize_length: bool = False
) -> Tensor:
    """Kullback-Leibler divergence from a smoothed one-hot distribution, as in ESPnet's ``LabelSmoothingLoss``.

    Args:
        logits: ``(B, L, V)``.
        targets: ``(B, L)`` int64.
        smoothing: Probability spread evenly over the ``V - 1`` wrong tokens.
        ignore_id: Targets that do not count.
        normalize_length: Divide by the number of tokens instead of the batch size.

    Returns:
        Scalar in nats, at least 0, lower is better.
    """
    log_probs = F.log_softmax(logits.float(), dim=-1)
    valid = targets != ignore_id
    right = log_probs.gather(2, targets.masked_fill(~valid, 0).unsqueeze(2)).squeeze(2)
    confidence, spread = 1.0 - smoothing, smoothing / (logits.shape[-1] - 1)
    negative_entropy = _xlogx(confidence) + (logits.shape[-1] - 1) * _xlogx(spread)
    divergence = negative_entropy - confidence * right - spread * (log_probs.sum(dim=2) - right)
    total = divergence.masked_fill(~valid, 0.0).sum()
    return total / (valid.sum() if normalize_length else logits.shape[0])


def _xlogx(probability: float) -> float:
    return probability * math.log(probability) if probability > 0 else 0.0


@torch.no_grad()
def token_accuracy(logits: Tensor, targets: Tensor, *, ignore_id: int = -1) -> Tensor:
    """Share of targets, ``<eos>`` included, that the teacher-forced decoder ranks first: 0 to 1, higher is better.

    Args:
        logits: ``(B, L, V)``.
        targets: ``(B, L)`` int64.
        ignore_id: Targets that do not count.
    """
    valid = targets != ignore_id
    hits = (logits.argmax(dim=-1) == targets) & valid
    return hits.sum() / valid.sum()
