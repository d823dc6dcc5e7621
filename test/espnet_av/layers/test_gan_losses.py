# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Hinge losses and feature matching, computed by hand."""

import torch

from espnet_av.layers.gan_losses import discriminator_hinge_loss, feature_matching_loss, generator_hinge_loss


def test_hinge_and_matching():
    real, fake = [[torch.tensor([1.0, 3.0]), torch.tensor([2.0, 0.0])]], [[torch.zeros(2), torch.tensor([-3.0, 1.0])]]
    assert generator_hinge_loss(fake) == 1
    assert [float(loss) for loss in discriminator_hinge_loss(real, fake)] == [0.5, 1.0]
    assert feature_matching_loss(real, fake) == 2 + 3
    assert feature_matching_loss(real * 2, fake * 2) == 5
