# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Both U-Nets against numbers of the reference."""

from pathlib import Path

import pytest
import torch
from activesep_recipe import assert_close, read, reference_agent

from espnet_av.activesep.separators import PassiveSeparator, masked_magnitude


@pytest.fixture(scope="module")
def folder(fixtures_dir) -> Path:
    return fixtures_dir("activesep")


@pytest.fixture(scope="module")
def data(folder) -> dict[str, torch.Tensor]:
    return read(folder / "separators.npz")


@pytest.fixture(scope="module")
def separator(folder) -> PassiveSeparator:
    return reference_agent(folder).separator


@torch.no_grad()
def test_extractor(data, separator):
    unet = separator.extractor.unet
    prepared = separator.extractor.prepare(data["mixed_log1p"], data["target_class"])
    bottleneck, skips = unet.encoder(prepared)
    assert_close(bottleneck.flatten(1), data["bin_bottleneck"])
    sums = torch.stack([skip.double().sum() for skip in skips])
    assert_close(sums, data["bin_skip0_sum"], atol=0)
    assert_close(separator.extractor(data["mixed_log1p"], data["target_class"]), data["binSepMasks"])


@torch.no_grad()
def test_converter(data, separator):
    converter = separator.converter
    prepared = converter.prepare(masked_magnitude(data["mixed_log1p"], data["binSepMasks"]))
    assert_close(converter.unet.encoder(prepared)[0].flatten(1), data["mono_bottleneck"])


@torch.no_grad()
def test_both(data, separator):
    mask, mono = separator(data["mixed_log1p"], data["target_class"])
    assert_close(mask, data["binSepMasks"])
    assert_close(mono, data["pred_mono"])
