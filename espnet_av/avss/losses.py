# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Losses of speech separation: negative SNR and SI-SNR, complex spectra, weighted sums and permutations of them.

A term compares estimates and references of any leading shape, so that one term serves fixed order (``(B, S, N)`` each)
and permutations (``(B, S, 1, N)`` against ``(B, 1, S, N)``).

Axes: ``B`` batch, ``S`` sources, ``N`` samples. Levels are in dB; a loss is lower when the estimate is better.
"""

import functools
import itertools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from espnet_av.utils.errors import usage_error

EPS = 1e-8
MAX_FACTORIAL_SOURCES = 3  # up to so many sources all permutations are tried, above the Hungarian method is used


def si_snr(
    estimate: Tensor,
    reference: Tensor,
    *,
    num_samples: Tensor | None = None,
    zero_mean: bool = True,
    eps: float = EPS,
    clamp_db: float | None = None,
) -> Tensor:
    """Scale-invariant signal-to-noise ratio in dB (Le Roux et al., "SDR - half-baked or well done?", 2019).

    ``p = (<e, s> / (<s, s> + eps)) s``, then ``10 log10(<p, p> / (<e - p, e - p> + eps) + eps)``. Silence gives -80 dB
    with finite gradients.

    Args:
        estimate: ``(..., N)``.
        reference: ``(..., N)``, broadcast against ``estimate``.
        num_samples: Valid samples of each item, broadcast against ``(...)``; what lies behind does not count.
        zero_mean: Subtract the mean of both signals first (of the valid samples).
        eps: Added to energies and to the ratio.
        clamp_db: Limit the value to ``[-clamp_db, clamp_db]``; beyond it there is no gradient.

    Returns:
        ``(...)`` dB, higher is better.
    """
    estimate, reference = _prepare(estimate, reference, num_samples, zero_mean)
    scale = (estimate * reference).sum(-1, keepdim=True) / (reference.square().sum(-1, keepdim=True) + eps)
    projection = scale * reference
    return _ratio_db(projection, estimate - projection, eps, clamp_db)


def snr(
    estimate: Tensor,
    reference: Tensor,
    *,
    num_samples: Tensor | None = None,
    zero_mean: bool = True,
    eps: float = EPS,
    clamp_db: float | None = None,
) -> Tensor:
    """Signal-to-noise ratio in dB: ``10 log10(<s, s> / (<e - s, e - s> + eps) + eps)``; it fixes the level of outputs.

    Arguments and result as in :func:`si_snr`.
    """
    estimate, reference = _prepare(estimate, reference, num_samples, zero_mean)
    return _ratio_db(reference, estimate - reference, eps, clamp_db)


class Term(Protocol):
    """What the terms of a loss have in common: lower is better, one value for each pair of signals."""

    def __call__(self, estimate: Tensor, reference: Tensor, num_samples: Tensor | None = None) -> Tensor:
        """``(..., N)`` against ``(..., N)`` -> ``(...)``; ``num_samples`` broadcasts against ``(...)``."""
        ...


class NegativeSISNR(nn.Module):
    """Negative :func:`si_snr`."""

    def __init__(self, *, zero_mean: bool = True, eps: float = EPS, clamp_db: float | None = None) -> None:
        super().__init__()
        self.options: dict[str, Any] = {"zero_mean": zero_mean, "eps": eps, "clamp_db": clamp_db}

    def forward(self, estimate: Tensor, reference: Tensor, num_samples: Tensor | None = None) -> Tensor:
        """``(..., N)`` against ``(..., N)`` -> ``(...)`` dB."""
        return -si_snr(estimate, reference, num_samples=num_samples, **self.options)


class NegativeSNR(nn.Module):
    """Negative :func:`snr`, the training loss of the published RTFS-Net code."""

    def __init__(self, *, zero_mean: bool = True, eps: float = EPS, clamp_db: float | None = None) -> None:
        super().__init__()
        self.options: dict[str, Any] = {"zero_mean": zero_mean, "eps": eps, "clamp_db": clamp_db}

    def forward(self, estimate: Tensor, reference: Tensor, num_samples: Tensor | None = None) -> Tensor:
        """``(..., N)`` against ``(..., N)`` -> ``(...)`` dB."""
        return -snr(estimate, reference, num_samples=num_samples, **self.options)


class ComplexSpectrogramMSE(nn.Module):
    """Mean of ``re^2 + im^2`` of the difference of two complex spectrograms.

    The waveforms are analysed, not what a network gives before synthesis: the spectra are consistent. The difference of
    two spectra is the spectrum of the difference, so only one transform is made.

    Args:
        n_fft: Window (periodic Hann) and transform size in samples.
        hop: Samples between frames.
    """

    window: Tensor

    def __init__(self, *, n_fft: int = 256, hop: int = 128) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.hop = hop
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, estimate: Tensor, reference: Tensor, num_samples: Tensor | None = None) -> Tensor:
        """``(..., N)`` against ``(..., N)`` -> ``(...)``."""
        difference = estimate - reference
        if num_samples is not None:
            difference = difference * _valid(difference, num_samples)
        window = self.window.to(difference.dtype)
        rows = difference.flatten(0, -2)
        spectrum = torch.stft(rows, self.n_fft, self.hop, window=window, return_complex=True)
        energy = torch.view_as_real(spectrum).square().sum(-1).mean(-2).unflatten(0, difference.shape[:-1])
        if num_samples is None:
            return energy.mean(-1)
        num_frames = torch.div(num_samples.to(energy.device), self.hop, rounding_mode="floor") + 1
        return (energy * _valid(energy, num_frames)).sum(-1) / num_frames


TERMS = {"si_snr": NegativeSISNR, "snr": NegativeSNR, "spectrogram_mse": ComplexSpectrogramMSE}


class WeightedSum(nn.Module):
    """Several terms at once.

    Args:
        terms: One mapping per term: ``name`` (``si_snr``, ``snr``, ``spectrogram_mse``), ``weight`` (1 when not given)
            and the keywords of the term.

    Raises:
        UsageError: No term, an unknown name or keyword, or a name that occurs twice.
    """

    def __init__(self, terms: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self.weights: dict[str, float] = {}
        self.terms = nn.ModuleDict()
        if not terms:
            usage_error("a loss needs at least one term", allowed=sorted(TERMS))
        for term in terms:
            options = dict(term)
            name = options.pop("name", None)
            weight = float(options.pop("weight", 1.0))
            if name not in TERMS:
                usage_error("unknown term of a loss", got=name, allowed=sorted(TERMS))
            if name in self.weights:
                usage_error("a term of a loss occurs twice", got=name)
            try:
                self.terms[name] = TERMS[name](**options)
            except TypeError as error:
                usage_error(f"wrong option of the term {name!r} of a loss ({error})", got=sorted(options))
            self.weights[name] = weight

    def parts(self, estimate: Tensor, reference: Tensor, num_samples: Tensor | None = None) -> dict[str, Tensor]:
        """Return the values of all terms without their weights, each ``(...)``."""
        return {name: term(estimate, reference, num_samples) for name, term in self.terms.items()}

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of what :meth:`parts` gave."""
        return functools.reduce(operator.add, (weight * parts[name] for name, weight in self.weights.items()))

    def forward(self, estimate: Tensor, reference: Tensor, num_samples: Tensor | None = None) -> Tensor:
        """``(..., N)`` against ``(..., N)`` -> ``(...)``."""
        return self.total(self.parts(estimate, reference, num_samples))


@dataclass(frozen=True)
class SeparationLossResult:
    """What :class:`SeparationLoss` gives.

    Attributes:
        loss: Scalar, with gradient.
        parts: Name of each term -> its mean without weight, detached.
        permutation: ``(B, S)``: the estimate that belongs to each reference.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    permutation: Tensor


class SeparationLoss(nn.Module):
    """Mean over batch and sources of a weighted sum of terms, in fixed order or under the best permutation.

    Args:
        terms: As of :class:`WeightedSum`; None takes negative SNR, the loss of the published RTFS-Net code.
        pit: Permutation-invariant training: of all assignments of estimates to references, the one with the least loss
            counts, for each item of the batch on its own.
    """

    def __init__(self, terms: Sequence[Mapping[str, Any]] | None = None, *, pit: bool = False) -> None:
        super().__init__()
        self.sum = WeightedSum([{"name": "snr"}] if terms is None else terms)
        self.pit = pit

    def forward(self, estimate: Tensor, reference: Tensor, num_samples: Tensor | None = None) -> SeparationLossResult:
        """Compare ``estimate (B, S, N)`` with ``reference (B, S, N)``; ``num_samples (B,)`` are the valid samples.

        Raises:
            UsageError: The shapes differ.
        """
        if estimate.shape != reference.shape or estimate.dim() != 3:
            shapes = [tuple(estimate.shape), tuple(reference.shape)]
            usage_error("estimates and references must have one shape", got=shapes, allowed="(B, S, N)")
        if not self.pit:
            lengths = None if num_samples is None else num_samples[:, None]
            parts = self.sum.parts(estimate, reference, lengths)
            order = torch.arange(estimate.shape[1], device=estimate.device).expand(estimate.shape[:2])
        else:
            lengths = None if num_samples is None else num_samples[:, None, None]
            pairs = self.sum.parts(*_all_pairs(estimate, reference), lengths)
            _, order = best_permutation(self.sum.total({name: pair.detach() for name, pair in pairs.items()}))
            parts = {name: pair.gather(1, order.unsqueeze(1)).squeeze(1) for name, pair in pairs.items()}
        loss = self.sum.total(parts).mean()
        return SeparationLossResult(loss, {name: part.detach().mean() for name, part in parts.items()}, order)


def best_permutation(pairwise_loss: Tensor) -> tuple[Tensor, Tensor]:
    """Assign estimates to references with the least mean loss.

    Args:
        pairwise_loss: ``(B, S, S)``: loss of estimate (row) against reference (column).

    Returns:
        Least loss ``(B,)``, the mean over references, with gradient; and for each reference the index of its estimate
        ``(B, S)``. Of equally good assignments the first in the order of permutations counts (up to 3 sources).

    Raises:
        UsageError: Not a square matrix per item.
    """
    if pairwise_loss.dim() != 3 or pairwise_loss.shape[1] != pairwise_loss.shape[2]:
        usage_error("a matrix of losses per item is needed", got=tuple(pairwise_loss.shape), allowed="(B, S, S)")
    sources = pairwise_loss.shape[-1]
    if sources <= MAX_FACTORIAL_SOURCES:
        orders = torch.tensor(list(itertools.permutations(range(sources))), device=pairwise_loss.device)  # (P, S)
        columns = torch.arange(sources, device=pairwise_loss.device)
        means = pairwise_loss[:, orders, columns].mean(-1)  # (B, P)
        least, choice = means.min(-1)
        return least, orders[choice]
    from scipy.optimize import linear_sum_assignment

    transposed = pairwise_loss.detach().transpose(1, 2).cpu().double().numpy()
    order = torch.stack([torch.from_numpy(linear_sum_assignment(matrix)[1]) for matrix in transposed])
    order = order.to(pairwise_loss.device)
    return pairwise_loss.gather(1, order.unsqueeze(1)).squeeze(1).mean(-1), order


def reorder(estimate: Tensor, permutation: Tensor) -> Tensor:
    """Bring estimates ``(B, S, N)`` into the order of the references with ``permutation (B, S)``."""
    return estimate.gather(1, permutation.unsqueeze(-1).expand(*permutation.shape, estimate.shape[-1]))


def _all_pairs(estimate: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    return estimate.unsqueeze(2), reference.unsqueeze(1)


def _valid(signal: Tensor, num_samples: Tensor) -> Tensor:
    return torch.arange(signal.shape[-1], device=signal.device) < num_samples.to(signal.device).unsqueeze(-1)


def _prepare(estimate: Tensor, reference: Tensor, num_samples: Tensor | None, zero_mean: bool) -> tuple[Tensor, Tensor]:
    if estimate.shape[-1] != reference.shape[-1]:
        shapes = [tuple(estimate.shape), tuple(reference.shape)]
        usage_error("estimate and reference differ in length", got=shapes, allowed="(..., N) both")
    if num_samples is None:
        if zero_mean:
            estimate = estimate - estimate.mean(-1, keepdim=True)
            reference = reference - reference.mean(-1, keepdim=True)
        return estimate, reference
    count = num_samples.to(estimate.device).unsqueeze(-1).clamp(min=1)
    cleaned = []
    for signal in (estimate, reference):
        valid = _valid(signal, num_samples)
        signal = signal * valid
        cleaned.append((signal - signal.sum(-1, keepdim=True) / count) * valid if zero_mean else signal)
    return cleaned[0], cleaned[1]


def _ratio_db(signal: Tensor, noise: Tensor, eps: float, clamp_db: float | None) -> Tensor:
    level = 10 * torch.log10(signal.square().sum(-1) / (noise.square().sum(-1) + eps) + eps)
    return level if clamp_db is None else level.clamp(-clamp_db, clamp_db)
