# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Losses of separation: values, padding, permutations, gradients."""

import itertools
import math

import pytest
import torch

from espnet_av.avss.losses import (
    ComplexSpectrogramMSE,
    NegativeSISNR,
    SeparationLoss,
    WeightedSum,
    best_permutation,
    reorder,
    si_snr,
    snr,
)
from espnet_av.utils.errors import UsageError


@pytest.fixture
def voices():
    torch.manual_seed(0)
    return torch.randn(3, 2, 1000), 0.1 * torch.randn(3, 2, 1000)


def test_levels_of_a_known_signal():
    wave = torch.sin(torch.arange(1600) * 0.1 * math.pi)
    noise = torch.cos(torch.arange(1600) * 0.1 * math.pi)  # same energy, at right angles
    assert float(si_snr(wave + 0.1 * noise, wave)) == pytest.approx(20, abs=1e-3)
    assert float(si_snr(7 * (wave + 0.1 * noise), wave)) == pytest.approx(20, abs=1e-3)
    assert float(snr(wave + 0.1 * noise + 3, wave)) == pytest.approx(20, abs=1e-3)
    assert float(snr(1.1 * wave, wave)) == pytest.approx(20, abs=1e-3)
    assert float(si_snr(wave + 0.1 * noise + 3, wave, zero_mean=False)) < 0


@pytest.mark.parametrize("level", [si_snr, snr])
def test_padding_does_not_count(voices, level):
    reference, noise = voices
    lengths = torch.tensor([1000, 700, 10])[:, None]
    padded = level(reference + noise, reference, num_samples=lengths)
    for item, length in enumerate(lengths[:, 0]):
        alone = level((reference + noise)[item, :, :length], reference[item, :, :length])
        torch.testing.assert_close(padded[item], alone)


@pytest.mark.parametrize("name", ["si_snr", "snr", "spectrogram_mse"])
@pytest.mark.parametrize("silent", ["estimate", "reference", "both"])
def test_silence_has_finite_gradients(name, silent):
    torch.manual_seed(0)
    estimate = torch.zeros(1, 1, 600) if silent != "reference" else torch.randn(1, 1, 600)
    reference = torch.zeros(1, 1, 600) if silent != "estimate" else torch.randn(1, 1, 600)
    estimate.requires_grad_()
    loss = SeparationLoss([{"name": name}])(estimate, reference).loss
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(estimate.grad).all()


def test_clamp_stops_the_gradient(voices):
    reference, _ = voices
    estimate = (reference * 0.999 + 1e-4 * torch.randn_like(reference)).requires_grad_()
    loss = NegativeSISNR(clamp_db=30.0)(estimate, reference)
    assert (loss == -30).all()
    loss.sum().backward()
    assert not estimate.grad.any()


def test_spectrogram_term(voices):
    reference, noise = voices
    spectra = [
        torch.stft(wave.flatten(0, 1), 256, 128, window=torch.hann_window(256), return_complex=True)
        for wave in (reference + noise, reference)
    ]
    difference = spectra[0] - spectra[1]
    expected = (difference.real.square() + difference.imag.square()).mean((1, 2)).view(3, 2)
    term = ComplexSpectrogramMSE()
    torch.testing.assert_close(term(reference + noise, reference), expected)
    assert not list(term.state_dict())
    lengths = torch.tensor([[1000], [700], [300]])
    garbage = noise.clone()
    garbage[1, :, 700:] = 9
    masked, clean = (term(reference + wave, reference, lengths) for wave in (garbage, noise))
    torch.testing.assert_close(masked, clean)
    assert (term(reference + garbage, reference)[1] > clean[1]).all()


def test_weights(voices):
    reference, noise = voices
    both = WeightedSum([{"name": "si_snr"}, {"name": "spectrogram_mse", "weight": 0.1, "n_fft": 64, "hop": 32}])
    parts = both.parts(reference + noise, reference)
    expected = parts["si_snr"] + 0.1 * parts["spectrogram_mse"]
    torch.testing.assert_close(both(reference + noise, reference), expected)


@pytest.mark.parametrize(
    "terms, message",
    [
        ([], "at least one"),
        ([{"name": "si_sdr"}], "unknown term"),
        ([{"weight": 1}], "unknown term"),
        ([{"name": "snr"}, {"name": "snr"}], "twice"),
        ([{"name": "snr", "n_fft": 3}], "wrong option"),
    ],
)
def test_wrong_terms(terms, message):
    with pytest.raises(UsageError, match=message):
        SeparationLoss(terms)


def test_permutation_of_each_item(voices):
    reference, noise = voices
    mixed_up = (reference + noise).clone()
    mixed_up[1] = mixed_up[1].flip(0)
    fixed, free = SeparationLoss([{"name": "si_snr"}]), SeparationLoss([{"name": "si_snr"}], pit=True)
    result = free(mixed_up.requires_grad_(), reference, torch.tensor([1000, 900, 800]))
    assert result.permutation.tolist() == [[0, 1], [1, 0], [0, 1]]
    ordered = reorder(mixed_up, result.permutation)
    same = fixed(ordered, reference, torch.tensor([1000, 900, 800]))
    torch.testing.assert_close(result.loss, same.loss)
    assert same.permutation.tolist() == [[0, 1]] * 3
    assert float(result.parts["si_snr"]) == pytest.approx(float(same.loss.detach()))
    result.loss.backward()
    assert mixed_up.grad.abs().sum() > 0


@pytest.mark.parametrize("sources", [1, 2, 3, 4, 5])
def test_best_permutation_is_the_best(sources):
    torch.manual_seed(sources)
    pairwise = torch.randn(4, sources, sources, dtype=torch.float64, requires_grad=True)
    least, order = best_permutation(pairwise)
    for item in range(4):
        means = {
            each: float(pairwise.detach()[item, list(each), range(sources)].mean())
            for each in itertools.permutations(range(sources))
        }
        assert float(least[item].detach()) == pytest.approx(min(means.values()))
        assert means[tuple(order[item].tolist())] == pytest.approx(min(means.values()))
    least.sum().backward()
    assert int((pairwise.grad != 0).sum()) == 4 * sources


def test_wrong_shapes(voices):
    reference, _ = voices
    with pytest.raises(UsageError, match="one shape"):
        SeparationLoss()(reference[:, :1], reference)
    with pytest.raises(UsageError, match="length"):
        si_snr(reference[..., :5], reference)
    with pytest.raises(UsageError, match="matrix"):
        best_permutation(torch.zeros(2, 3, 2))
