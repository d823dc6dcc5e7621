# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Mel features and every loss term of the reference on fixed waveforms, reproduced."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from codec_formula import LOSS_REL, assert_close, fill, find_seed, generator_files, read

from espnet_av.layers.gan_losses import discriminator_hinge_loss, feature_matching_loss, generator_hinge_loss
from espnet_av.layers.mel_loss import MultiScaleMelLoss
from espnet_av.layers.stft_discriminator import MultiScaleSTFTDiscriminator


@pytest.fixture(scope="module")
def folder(fixtures_dir) -> Path:
    return fixtures_dir("codec")


def test_mel_features(folder):
    golden, wav = read(folder / "mel_features.npz"), read(folder / "discriminator.npz")["y"][None]
    scales = MultiScaleMelLoss().scales
    assert len(scales) == sum(key.startswith("melmat.") for key in golden)
    for number, scale in enumerate(scales):
        wanted = golden[f"melmat.{number}"]
        torch.testing.assert_close(scale.filters, wanted, atol=1e-8, rtol=1e-6)
        log_mel = golden[f"logmel.{number}"]
        assert_close(scale(wav)[0, : len(log_mel)], log_mel, f"scale {number}")


@pytest.mark.parametrize("track", [1, 2])
@torch.no_grad()
def test_terms(folder, track):
    values = json.loads((folder / "values.json").read_text())[f"track{track}_losses_on_wav6_vs_input"]
    golden = next(generator_files(folder, track))
    target, estimate = golden["audio"][None, None], golden["wav_6kbps"][None, None]
    estimate = estimate[..., : target.shape[-1]]
    mel = MultiScaleMelLoss()
    l1, l2 = mel.parts(estimate, target)
    discriminator = fill(MultiScaleSTFTDiscriminator(), find_seed(folder), "discriminator.")
    real, fake = discriminator(target), discriminator(estimate)
    real_loss, fake_loss = discriminator_hinge_loss(real, fake)
    found = {
        "mel_per_scale_l1": l1,
        "mel_per_scale_l2": l2,
        "mel_alphas": mel.alphas,
        "mel_total_norm": mel.norm,
        "mel_loss": mel(estimate, target),
        "gen_adv_hinge": generator_hinge_loss(fake),
        "disc_real": real_loss,
        "disc_fake": fake_loss,
        "feat_match": feature_matching_loss(real, fake),
        "reconstruct_l1": F.l1_loss(estimate, target),
    }
    assert found.keys() == values.keys()
    for name, value in found.items():
        assert (
            [float(each) for each in value] == pytest.approx(values[name], rel=LOSS_REL)
            if isinstance(value, list)
            else float(value) == pytest.approx(values[name], rel=LOSS_REL)
        ), name
