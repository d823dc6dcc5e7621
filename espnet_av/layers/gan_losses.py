# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Losses of a network that makes sound and its discriminator: hinge losses, feature matching."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from espnet_av.layers.stft_discriminator import Features


def _mean(terms: Sequence[Tensor]) -> Tensor:
    """Return the mean of tensors, added one after the other."""
    return sum(terms, torch.zeros(())) / len(terms)


def generator_hinge_loss(fake: Features) -> Tensor:
    """Return minus the mean logit of made sound, averaged over scales."""
    return _mean([-features[-1].float().mean() for features in fake])


def discriminator_hinge_loss(real: Features, fake: Features) -> tuple[Tensor, Tensor]:
    """Return how far real logits lie below 1 and fake ones above -1, each averaged over scales."""
    real_loss = _mean([F.relu(1 - features[-1].float()).mean() for features in real])
    fake_loss = _mean([F.relu(1 + features[-1].float()).mean() for features in fake])
    return real_loss, fake_loss


def feature_matching_loss(real: Features, fake: Features) -> Tensor:
    """Return the mean absolute difference of features, summed over layers (logits too), averaged over scales."""
    scales = []
    for real_features, fake_features in zip(real, fake, strict=True):
        pairs = zip(real_features, fake_features, strict=True)
        differences = (F.l1_loss(estimate.float(), goal.detach().float()) for goal, estimate in pairs)
        scales.append(sum(differences, torch.zeros(())))
    return _mean(scales)
