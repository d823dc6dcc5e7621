# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Features and logits of the reference discriminator, reproduced."""

from pathlib import Path

import pytest
import torch
from codec_formula import assert_close, fill, find_seed, read
from torch import Tensor

from espnet_av.layers.stft_discriminator import MultiScaleSTFTDiscriminator


@pytest.fixture(scope="module")
def folder(fixtures_dir) -> Path:
    return fixtures_dir("codec")


@pytest.fixture(scope="module")
def golden(folder) -> dict[str, Tensor]:
    return read(folder / "discriminator.npz")


@pytest.fixture(scope="module")
def discriminator(folder) -> MultiScaleSTFTDiscriminator:
    return fill(MultiScaleSTFTDiscriminator(), find_seed(folder), "discriminator.").eval()


@torch.no_grad()
def test_spectra(discriminator, golden):
    for number, scale in enumerate(discriminator.scales):
        spectrum = scale.spec_transform(golden["y"][None, None])[0].transpose(1, 2)  # (2, N, M)
        for part, name in enumerate(("re", "im")):
            wanted = golden[f"stft.d{number}.{name}"]
            assert_close(spectrum[part, :, : wanted.shape[1]], wanted, f"scale {number} {name}")


@pytest.mark.parametrize("name", ["y", "y_hat"])
@torch.no_grad()
def test_features(discriminator, golden, name):
    found = discriminator(golden[name][None, None])
    assert len(found) == len({key.split(".")[1] for key in golden if key.startswith(f"{name}.d")})
    for number, features in enumerate(found):
        for layer, tensor in enumerate(features):
            key, tensor = f"{name}.d{number}.{layer}", tensor[0]
            assert list(tensor.shape) == golden[f"{key}.shape"].tolist()
            stats = torch.stack([tensor.mean(), tensor.std(correction=0), tensor.abs().max()])
            assert_close(stats, golden[f"{key}.stats"][:3], f"{key}.stats")
            if f"{key}.full" in golden:
                assert_close(tensor, golden[f"{key}.full"], key)
                continue
            corner, center = golden[f"{key}.corner"], golden[f"{key}.center"]
            a, b, c = corner.shape
            assert_close(tensor[:a, :b, :c], corner, f"{key}.corner")
            middle = tensor.shape[1] // 2
            a, b, c = center.shape
            assert_close(tensor[-a:, middle : middle + b, -c:], center, f"{key}.center")
