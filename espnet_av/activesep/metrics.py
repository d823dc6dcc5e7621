# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Metrics of active separation, in the paper's form and in two that say more.

Each second of an episode is measured, then seconds are averaged, then episodes. Three columns:

* ``paper``: the estimate gets the *phase of the dry target*, and estimate and target pass through an inverse transform
  of 1022 samples while 1023 were analysed. That inverse alone destroys a signal (noise sent through both has an SI-SDR
  of about -2 dB), so these numbers compare only with numbers of the same kind.
* ``fixed``: the same with the right inverse, still with the phase of the target.
* ``honest``: what a listener would hear. The estimate gets the phase of the mixture at each ear and is compared with
  the target as it arrives there; the mean of both ears. ``si_sdri`` is its gain over the mixture.

Levels are in dB and higher is better, STFT-L2 is lower is better; an estimate of all zeros scores 0.72 by it. A silent
second has no level: NaN, which :func:`summarise` counts.

Axes: ``B`` seconds, ``F`` 512 bins, ``T`` 32 frames, ``N`` samples. Several estimates of the same seconds may be
measured at once, ``(K, B, F, T, 1)``: what they are compared with is then computed once, and results are ``(K, B)``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from espnet_av.activesep.separators import masked_magnitude
from espnet_av.activesep.spectra import (
    N_FFT,
    QUIRK_N_FFT,
    STEP_SAMPLES,
    inverse,
    normalise_magnitude,
    stft,
    to_float,
)
from espnet_av.utils.errors import usage_error

COLUMNS = ("paper", "fixed", "honest")
LEVELS = ("si_sdr", "si_sir", "si_sar", "sd_sdr", "snr", "srr")
IMPROVEMENTS = ("si_sdri", "sd_sdri", "snri", "si_siri", "si_sari")
WAVE_METRICS = (*LEVELS, *IMPROVEMENTS)
STFT_L2 = "stft_l2"
CONFIDENCE = 0.95


def stft_l2(estimate: Tensor, target: Tensor) -> Tensor:
    """Return the STFT distance of magnitudes that share a phase: the mean square over real and imaginary parts.

    Args:
        estimate: Linear magnitude, ``(B, F, T, 1)``.
        target: Normalised linear magnitude, ``(B, F, T, 1)``.

    Returns:
        ``(B,)``, lower is better: half the mean square of the difference.
    """
    return 0.5 * (estimate.float() - target.float()).square().mean((-3, -2, -1))


def stft_l2_binaural(mixed: Tensor, mask: Tensor, target: Tensor) -> Tensor:
    """Return the STFT distance at the ears, summed over them.

    Args:
        mixed: ``log(1 + magnitude)`` of the mixture, ``(B, F, T, 2)``.
        mask: Of the target extractor, ``(B, F, T, 2)``.
        target: Linear magnitude of the target at the ears, ``(B, F, T, 2)``.

    Returns:
        ``(B,)``, lower is better.
    """
    difference = masked_magnitude(mixed.float(), mask.float()) - target.float()
    return 0.5 * difference.square().mean((1, 2)).sum(-1)


def _db(signal: Tensor, noise: Tensor) -> Tensor:
    return 10 * torch.log10(signal / noise)


def _scale_levels(estimate: Tensor, reference: Tensor) -> dict[str, Tensor]:
    """Return the levels of one estimate of one source, without means, ``(..., N)`` -> ``(...)`` each."""
    energy = reference.square().sum(-1)
    alpha = (reference * estimate).sum(-1) / energy
    scaled = alpha.unsqueeze(-1) * reference
    residual = estimate - scaled
    # with one source as reference, interference is what of the residual lies along it
    along = (reference * residual).sum(-1) / energy
    interference = along.unsqueeze(-1) * reference
    signal = scaled.square().sum(-1)
    snr = _db(energy, (estimate - reference).square().sum(-1))
    return {
        "si_sdr": _db(signal, residual.square().sum(-1)),
        "si_sir": _db(signal, interference.square().sum(-1)),
        "si_sar": _db(signal, (residual - interference).square().sum(-1)),
        "sd_sdr": snr + 10 * torch.log10(alpha.square()),
        "snr": snr,
        "srr": -10 * torch.log10((1 - 1 / alpha).square()),
    }


def wave_levels(
    estimate: Tensor, reference: Tensor, mixture: Tensor | None = None, *, names: Sequence[str] = ("si_sdr",)
) -> dict[str, Tensor]:
    """Return scale-aware levels as defined by Le Roux et al., "SDR - half-baked or well done?" (2019).

    Means are subtracted, no constants are added. With ``a = <s, e> / <s, s>``: ``si_sdr`` compares ``a s`` with
    ``e - a s``, ``snr`` compares ``s`` with ``e - s``, ``sd_sdr`` is ``snr + 20 log10 |a|``, ``srr`` is
    ``-20 log10 |1 - 1 / a|``. ``si_sir`` and ``si_sar`` split the residual by the target alone and say nothing; they
    are here because the reference has them. Names ending in ``i`` subtract the value of the mixture.

    Args:
        estimate: ``(..., N)``.
        reference: ``(..., N)``.
        mixture: ``(..., N)``, for improvements.
        names: Of :data:`WAVE_METRICS`.

    Returns:
        ``(...)`` for each name, float64; NaN or infinite where a signal is silent.

    Raises:
        UsageError: An unknown name, or an improvement without a mixture.
    """
    unknown = [name for name in names if name not in WAVE_METRICS]
    if unknown:
        usage_error("unknown metric", got=unknown, allowed=WAVE_METRICS)
    gains = [name for name in names if name in IMPROVEMENTS]
    heard = _without_mean(reference)
    levels = _scale_levels(_without_mean(estimate), heard)
    if gains:
        if mixture is None:
            usage_error("an improvement needs the mixture", got=gains)
        base = _scale_levels(_without_mean(mixture), heard)
        levels |= {f"{name}i": levels[name] - base[name] for name in LEVELS}
    return {name: levels[name] for name in names}


def _without_mean(signal: Tensor) -> Tensor:
    return signal.double() - signal.double().mean(-1, keepdim=True)


def _second(magnitude: Tensor, phase: Tensor, n_fft: int) -> Tensor:
    return inverse(magnitude.squeeze(-1), phase.squeeze(-1), n_fft=n_fft, length=STEP_SAMPLES)


def oracle_phase_levels(
    estimate: Tensor,
    target: Tensor,
    target_phase: Tensor,
    *,
    column: str = "paper",
    names: Sequence[str] = ("si_sdr",),
    mixed: Tensor | None = None,
    mixed_phase: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return levels of an estimate with the phase of the target, columns ``paper`` and ``fixed``.

    Args:
        estimate: Linear magnitude, ``(B, F, T, 1)``.
        target: Normalised linear magnitude, ``(B, F, T, 1)``.
        target_phase: Radians, ``(B, F, T, 1)``.
        column: ``paper`` or ``fixed``.
        names: Of :data:`WAVE_METRICS`.
        mixed: ``log(1 + magnitude)`` of the mixture for improvements, ``(B, F, T, 2)``. In ``paper`` it is taken as if
            it were a magnitude, which makes improvements meaningless, as in the reference.
        mixed_phase: Radians, ``(B, F, T, 2)``.

    Returns:
        ``(B,)`` for each name, float64.
    """
    if column not in ("paper", "fixed"):
        usage_error("column of metrics with the phase of the target", got=column, allowed=["paper", "fixed"])
    n_fft = QUIRK_N_FFT if column == "paper" else N_FFT
    mixture = None
    if mixed is not None and mixed_phase is not None:
        magnitude = mixed.float() if column == "paper" else torch.expm1(mixed.float())
        mixture = inverse(magnitude.movedim(-1, 1), mixed_phase.movedim(-1, 1), n_fft=n_fft).mean(1)
    waves = [_second(magnitude, target_phase, n_fft) for magnitude in (estimate, target)]
    return wave_levels(waves[0], waves[1], mixture, names=names)


def honest_levels(
    estimate: Tensor, mixture_wave: Tensor, target_ears: Tensor, *, names: Sequence[str] = ("si_sdr", "si_sdri")
) -> dict[str, Tensor]:
    """Return levels of what would be heard: the estimate with the phase of the mixture, at each ear, then their mean.

    Args:
        estimate: Linear magnitude, ``(B, F, T, 1)``.
        mixture_wave: ``(B, 2, N)``, int16 or float.
        target_ears: The target as it arrives, ``(B, 2, N)``, int16 or float.
        names: Of :data:`WAVE_METRICS`.

    Returns:
        ``(B,)`` for each name, float64.
    """
    mixture, target = (to_float(wave) for wave in (mixture_wave, target_ears))
    levels = wave_levels(heard(estimate, mixture), target, mixture, names=names)
    return {name: value.mean(-1) for name, value in levels.items()}


def heard(estimate: Tensor, mixture_wave: Tensor) -> Tensor:
    """Return sound from a magnitude with the phase of the mixture.

    Args:
        estimate: Linear magnitude, ``(B, F, T, 1)``.
        mixture_wave: ``(B, 2, N)``, int16 or float.

    Returns:
        Both ears, ``(B, 2, N)``. The level is that of the estimate, which says nothing.
    """
    _, phase = stft(mixture_wave)
    return inverse(estimate.float().movedim(-1, -3), phase, length=mixture_wave.shape[-1])


def honest_stft_l2(estimate: Tensor, mixture_wave: Tensor, target_ears: Tensor) -> Tensor:
    """Return the STFT distance with the phase of the mixture from the normalised target at the ears, their mean.

    Args:
        estimate: Linear magnitude, ``(B, F, T, 1)``.
        mixture_wave: ``(B, 2, N)``, int16 or float.
        target_ears: ``(B, 2, N)``, int16 or float.

    Returns:
        ``(B,)``, lower is better; all zeros score 0.72.
    """
    (_, mixed_phase), (magnitude, phase) = stft(mixture_wave), stft(target_ears)
    magnitude, estimate = normalise_magnitude(magnitude), estimate.float().movedim(-1, -3)
    # |a e^{ip} - b e^{iq}|^2 = a^2 + b^2 - 2 a b cos(p - q)
    square = estimate.square() + magnitude.square() - 2 * estimate * magnitude * (mixed_phase - phase).cos()
    return 0.5 * square.mean((-3, -2, -1))


def all_columns(
    estimate: Tensor,
    target: Tensor,
    target_phase: Tensor,
    mixture_wave: Tensor | None = None,
    target_ears: Tensor | None = None,
    *,
    names: Sequence[str] = ("si_sdr",),
) -> dict[str, dict[str, Tensor]]:
    """Return all columns of a batch of seconds.

    Args:
        estimate: Linear magnitude, ``(B, F, T, 1)``.
        target: Normalised linear magnitude, ``(B, F, T, 1)``.
        target_phase: Radians, ``(B, F, T, 1)``.
        mixture_wave: ``(B, 2, N)``; without it and the next there is no honest column.
        target_ears: ``(B, 2, N)``.
        names: Levels of :data:`LEVELS`; the honest column also gets ``si_sdri``.

    Returns:
        Column -> metric (``stft_l2`` among them) -> ``(B,)``.
    """
    columns: dict[str, dict[str, Tensor]] = {}
    for column in ("paper", "fixed"):
        levels = oracle_phase_levels(estimate, target, target_phase, column=column, names=names)
        columns[column] = {STFT_L2: stft_l2(estimate, target), **levels}
    if mixture_wave is not None and target_ears is not None:
        levels = honest_levels(estimate, mixture_wave, target_ears, names=tuple(dict.fromkeys((*names, "si_sdri"))))
        columns["honest"] = {STFT_L2: honest_stft_l2(estimate, mixture_wave, target_ears), **levels}
    return columns


@dataclass(frozen=True)
class Summary:
    """Mean over episodes.

    Attributes:
        mean: NaN without episodes.
        std: Of episodes around it (division by their number, as in the reference).
        ci95: Half the width of the 95 % interval of the mean (Student's t).
        count: Episodes.
        num_nan: Episodes left out because a second of theirs has no value.
    """

    mean: float
    std: float
    ci95: float
    count: int
    num_nan: int

    def facts(self) -> dict[str, float | int | None]:
        """Return a dictionary for JSON; what is not a number is None."""
        facts = asdict(self)
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value for name, value in facts.items()
        }


def summarise(episodes: Sequence[Sequence[float]] | np.ndarray) -> Summary:
    """Average the seconds of each episode, then episodes.

    Args:
        episodes: Values of each second of each episode. Those with a NaN or an infinite value are left out and counted.
    """
    from scipy.stats import t as student

    means = np.array([float(np.mean(np.asarray(seconds, dtype=np.float64))) for seconds in episodes], dtype=np.float64)
    kept = means[np.isfinite(means)]
    count = len(kept)
    if not count:
        return Summary(math.nan, math.nan, math.nan, 0, len(means))
    mean, std = float(kept.mean()), float(kept.std())
    half = math.nan
    if count > 1:
        half = float(student.ppf((1 + CONFIDENCE) / 2, count - 1) * kept.std(ddof=1) / math.sqrt(count))
    return Summary(mean, std, half, count, len(means) - count)


def summarise_all(values: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, Summary]:
    """Return :func:`summarise` of each metric."""
    return {name: summarise(episodes) for name, episodes in values.items()}
