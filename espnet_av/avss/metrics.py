# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Metrics of separated speech, in float64, each with its exact definition.

With reference ``s``, estimate ``e`` and mixture ``x`` of ``N`` samples:

* ``si_snr``: means subtracted; ``p = (<e, s> / (<s, s> + 1e-8)) s``;
  ``10 log10(<p, p> / (<e - p, e - p> + 1e-8) + 1e-8)``.
* ``si_sdr``: the same without subtracting means. It differs as soon as there is an offset.
* ``snr``: means subtracted; ``10 log10(<s, s> / (<e - s, e - s> + 1e-8) + 1e-8)``.
* ``sd_sdr``: as ``si_snr``, but all of ``e - s`` is noise: a wrong level counts.
* ``sdr``: BSS-eval version 3, distortion filter of 512 taps (``mir_eval.separation.bss_eval_sources``); ``sir`` and
  ``sar`` belong to it and need all references of the mixture.
* ``stoi``, ``estoi``: short-time objective intelligibility and its extended form, 0 to 1.
* ``pesq_wb``, ``pesq_nb``: MOS-LQO of P.862.2 (wide band, 16 kHz) and P.862.1 (narrow band).
* ``<metric>i``, as in ``si_snri``: the value of the estimate minus that of the mixture.

Levels are in dB and higher is better for all of them. Before comparing with printed tables:

* Columns called "SDRi" in the tables of CTCNet and RTFS-Net are ``snri`` here, not ``sdri`` (which is 2 dB higher or
  1 dB lower for the same signals).
* Their "PESQ" is the raw narrow-band score before its mapping to MOS, with the estimate given as reference: here
  ``pesq_raw_swapped``. It is about 1.3 above ``pesq_wb`` and not comparable with it.
* SI-SNR columns are safe: all definitions agree for signals without offset.
* The constants 1e-8 make ``si_snr`` depend on the level of very soft signals.
"""

import itertools
import logging
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from espnet_av.utils.errors import usage_error
from espnet_av.utils.optional import require

logger = logging.getLogger(__name__)
EPS = 1e-8
SDR_TAPS = 512
SDR_CEILING_DB = 100.0  # of BSS-eval, which rounding makes undefined for perfect estimates
MAX_FACTORIAL_SOURCES = 3
SILENT_PEAK = 0.5 / 32768  # what rounds to zero in 16 bits is silence
SILENT_ESTIMATE_DB = -30.0
PESQ_FLOOR = {"pesq_wb": 1.0, "pesq_nb": 1.0, "pesq_raw_swapped": -0.5}
LEVELS = ("si_snr", "si_sdr", "sd_sdr", "snr")
PERCEPTUAL = ("stoi", "estoi", "pesq_wb", "pesq_nb", "pesq_raw_swapped")
WHOLE_MIXTURE = ("sir", "sar")
BASE_METRICS = (*LEVELS, "sdr", *WHOLE_MIXTURE, *PERCEPTUAL)
DEFAULT_METRICS = (
    "si_snr",
    "si_snri",
    "si_sdr",
    "snr",
    "snri",
    "sdr",
    "sdri",
    "stoi",
    "estoi",
    "pesq_wb",
    "pesq_nb",
)


def si_snr(estimate: np.ndarray, reference: np.ndarray, *, zero_mean: bool = True) -> np.ndarray:
    """Return the scale-invariant SNR in dB over the last axis (``si_sdr`` with ``zero_mean=False``): ``(...)``."""
    e, s = _float64(estimate, reference, zero_mean)
    p = (e * s).sum(-1, keepdims=True) / ((s * s).sum(-1, keepdims=True) + EPS) * s
    return _ratio_db(p, e - p)


def snr(estimate: np.ndarray, reference: np.ndarray, *, zero_mean: bool = True) -> np.ndarray:
    """Return the signal-to-noise ratio in dB over the last axis: ``(...)``."""
    e, s = _float64(estimate, reference, zero_mean)
    return _ratio_db(s, e - s)


def sd_sdr(estimate: np.ndarray, reference: np.ndarray, *, zero_mean: bool = True) -> np.ndarray:
    """Return the scale-dependent SDR in dB over the last axis: ``(...)``."""
    e, s = _float64(estimate, reference, zero_mean)
    p = (e * s).sum(-1, keepdims=True) / ((s * s).sum(-1, keepdims=True) + EPS) * s
    return _ratio_db(p, e - s)


def sdr(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Return the BSS-eval SDR of one pair ``(N,)`` in dB, at most 100; NaN for silence, which it does not define."""
    values = _bss_eval("sdr_loss", *_float64(estimate, reference, zero_mean=False))
    return math.nan if values is None else -float(values[0])


def bss_eval(estimates: np.ndarray, references: np.ndarray) -> dict[str, np.ndarray]:
    """Return BSS-eval ``sdr``, ``sir`` and ``sar`` of estimates ``(S, N)`` in the order of the references, ``(S,)`` dB.

    NaN where a signal is silent: then it is defined for no source of the mixture.
    """
    values = _bss_eval("bss_eval_sources", *_float64(estimates, references, zero_mean=False), compute_permutation=False)
    names = ("sdr", "sir", "sar")
    if values is None:
        return {name: np.full(len(references), math.nan) for name in names}
    return {name: value.numpy() for name, value in zip(names, values, strict=True)}


def _bss_eval(function: str, estimates: np.ndarray, references: np.ndarray, **options: Any) -> Any:
    estimates, references = np.atleast_2d(estimates), np.atleast_2d(references)
    if not (estimates.any(-1).all() and references.any(-1).all()):
        return None
    module = require("fast_bss_eval", "avss")
    import torch  # its functions for numpy do not know that numpy.linalg.solve changed in numpy 2

    signals = [torch.from_numpy(signal.copy()) for signal in (references, estimates)]
    if function == "sdr_loss":
        signals.reverse()
    try:
        return getattr(module, function)(*signals, filter_length=SDR_TAPS, clamp_db=SDR_CEILING_DB, **options)
    except torch.linalg.LinAlgError:  # a reference of a few pulses or tones
        return None


def stoi(estimate: np.ndarray, reference: np.ndarray, sample_rate: int, *, extended: bool = False) -> float:
    """Return (E)STOI of a pair ``(N,)``, 0 to 1; NaN where the reference has less than 0.4 s of speech."""
    module = require("pystoi", "avss")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # of too short signals, for which it returns 1e-5
        try:
            return float(module.stoi(*_float64(reference, estimate, zero_mean=False), sample_rate, extended=extended))
        except RuntimeWarning:
            return math.nan


def pesq(estimate: np.ndarray, reference: np.ndarray, sample_rate: int, *, mode: str = "wb") -> float:
    """Return PESQ MOS-LQO of a pair ``(N,)``; NaN where it finds no speech or less than a quarter of a second.

    Args:
        estimate: ``(N,)``.
        reference: ``(N,)``.
        sample_rate: 16000, or 8000 for narrow band.
        mode: ``wb`` or ``nb``.

    Raises:
        UsageError: Another sample rate.
    """
    if sample_rate not in ((16000,) if mode == "wb" else (8000, 16000)):
        usage_error(f"PESQ ({mode}) at this sample rate", got=sample_rate, allowed="16000, or 8000 for nb")
    module = require("pesq", "avss")
    s, e = _float64(reference, estimate, zero_mean=False)
    if not (e.any() and s.any()):
        return math.nan
    try:
        return float(module.pesq(sample_rate, s, e, mode))
    except (module.PesqError, ValueError) as error:
        logger.debug("PESQ is not defined: %s", error)
        return math.nan


def raw_pesq(nb_lqo: float) -> float:
    """Turn a narrow-band MOS-LQO into the raw score of P.862 (-0.5 to 4.5), the inverse of P.862.1."""
    inside = min(max(nb_lqo, 1.0), 4.998)
    return (4.6607 - math.log(4 / (inside - 0.999) - 1)) / 1.4945


def is_silent(signal: np.ndarray) -> bool:
    """Tell whether nothing of a signal ``(N,)`` but its mean would survive 16 bits."""
    signal = np.asarray(signal, dtype=np.float64)
    return bool(np.abs(signal - signal.mean()).max(initial=0.0) < SILENT_PEAK)


def best_permutation(matrix: np.ndarray) -> list[int]:
    """Assign estimates to references with the greatest mean score.

    Args:
        matrix: ``(S, S)``: score of estimate (row) against reference (column). Up to 3 sources all permutations are
            tried, above the Hungarian method is used.

    Returns:
        For each reference the index of its estimate.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    sources = len(matrix)
    if sources <= MAX_FACTORIAL_SOURCES:
        orders = itertools.permutations(range(sources))
        return list(max(orders, key=lambda order: matrix[list(order), range(sources)].mean()))
    from scipy.optimize import linear_sum_assignment

    return [int(index) for index in linear_sum_assignment(-matrix.T)[1]]


@dataclass(frozen=True)
class SourceScore:
    """Scores of one pair of estimate and reference.

    Attributes:
        source: Index of the reference, from 0.
        estimate: Index of the estimate that was assigned to it.
        values: Metric -> value; NaN where it is not defined. Empty when the reference is silent.
        other_si_snri: SI-SNR improvement against the other source that it resembles most; NaN where there is none.
        right: Whether the estimate is nearer (SI-SNR) to its own reference than to any other.
        silent_reference: The reference is silent: the pair is left out of means.
        silent_estimate: The estimate is silent: ``si_snr``, ``si_sdr``, ``sd_sdr``, ``sdr`` are a fixed floor, PESQ is
            at the bottom of its scale and STOI 0.
    """

    source: int
    estimate: int
    values: dict[str, float] = field(default_factory=dict)
    other_si_snri: float = math.nan
    right: bool = False
    silent_reference: bool = False
    silent_estimate: bool = False


def check_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names.

    Raises:
        UsageError: A name is unknown.
    """
    allowed = (*BASE_METRICS, *(f"{name}i" for name in BASE_METRICS if name not in WHOLE_MIXTURE))
    for name in names:
        if name not in allowed:
            usage_error("unknown metric", got=name, allowed=allowed)
    return tuple(names)


def score_mixture(
    estimates: np.ndarray,
    references: np.ndarray,
    mixture: np.ndarray,
    *,
    sample_rate: int = 16000,
    metrics: Sequence[str] = DEFAULT_METRICS,
    pit: bool = False,
    silent_estimate_db: float = SILENT_ESTIMATE_DB,
) -> list[SourceScore]:
    """Score all sources of a mixture.

    Args:
        estimates: ``(S, N)``.
        references: ``(S, N)``.
        mixture: ``(N,)``.
        sample_rate: Hz.
        metrics: Names of metrics.
        pit: Assign estimates to references once, by mean SI-SNR, for all metrics; else the order stands.
        silent_estimate_db: Value of the dB metrics but ``snr`` for a silent estimate.

    Returns:
        One score per reference.

    Raises:
        UsageError: The shapes do not belong together, a metric is unknown, or a sample is not finite.
    """
    check_metrics(metrics)
    estimates, references, mixture = (np.asarray(x, np.float64) for x in (estimates, references, mixture))
    shapes = [estimates.shape, references.shape, mixture.shape]
    if references.ndim != 2 or estimates.shape != references.shape or mixture.shape != references.shape[1:]:
        usage_error(
            "estimates, references and mixture do not belong together", got=shapes, allowed="(S, N), (S, N), (N,)"
        )
    if not all(np.isfinite(x).all() for x in (estimates, references, mixture)):
        usage_error("samples that are not finite", allowed="numbers")
    matrix = si_snr(estimates[:, None], references[None])  # (estimate, reference)
    order = best_permutation(matrix) if pit else list(range(len(references)))
    mixture_levels = si_snr(mixture, references)
    whole = {}
    if any(name in WHOLE_MIXTURE for name in metrics):
        whole = bss_eval(estimates[order], references)
    scores = []
    for source, index in enumerate(order):
        if is_silent(references[source]):
            scores.append(SourceScore(source, index, silent_reference=True))
            continue
        silent = is_silent(estimates[index])
        values = _measure(estimates[index], references[source], mixture, metrics, sample_rate)
        values.update({name: float(whole[name][source]) for name in metrics if name in whole and name in WHOLE_MIXTURE})
        if silent:
            values = _with_floor(values, silent_estimate_db, references[source], mixture, sample_rate)
        others = [j for j in range(len(order)) if j != source and not is_silent(references[j])]
        towards = max((float(matrix[index, j] - mixture_levels[j]) for j in others), default=math.nan)
        nearest = max((float(matrix[index, j]) for j in others), default=-math.inf)
        right = bool(not silent and matrix[index, source] > nearest)
        scores.append(SourceScore(source, index, values, towards, right, silent_estimate=silent))
    return scores


def _measure(
    estimate: np.ndarray, reference: np.ndarray, mixture: np.ndarray, metrics: Sequence[str], sample_rate: int
) -> dict[str, float]:
    done: dict[tuple[str, bool], float] = {}

    def value(name: str, of_mixture: bool) -> float:
        if (name, of_mixture) not in done:
            done[name, of_mixture] = measure(name, mixture if of_mixture else estimate, reference, sample_rate)
        return done[name, of_mixture]

    return {
        name: value(name, False) if name in BASE_METRICS else value(name[:-1], False) - value(name[:-1], True)
        for name in metrics
        if name not in WHOLE_MIXTURE
    }


def measure(name: str, estimate: np.ndarray, reference: np.ndarray, sample_rate: int = 16000) -> float:
    """Return a metric of one pair ``(N,)`` by its name (without ``i``, ``sir`` and ``sar``); NaN where not defined."""
    functions: dict[str, Callable[[], float | np.ndarray]] = {
        "si_snr": lambda: si_snr(estimate, reference),
        "si_sdr": lambda: si_snr(estimate, reference, zero_mean=False),
        "sd_sdr": lambda: sd_sdr(estimate, reference),
        "snr": lambda: snr(estimate, reference),
        "sdr": lambda: sdr(estimate, reference),
        "stoi": lambda: stoi(estimate, reference, sample_rate),
        "estoi": lambda: stoi(estimate, reference, sample_rate, extended=True),
        "pesq_wb": lambda: pesq(estimate, reference, sample_rate),
        "pesq_nb": lambda: pesq(estimate, reference, sample_rate, mode="nb"),
        "pesq_raw_swapped": lambda: raw_pesq(pesq(reference, estimate, sample_rate, mode="nb")),
    }
    if name not in functions:
        usage_error("unknown metric of a pair", got=name, allowed=list(functions))
    return float(functions[name]())


def _with_floor(
    values: dict[str, float], floor_db: float, reference: np.ndarray, mixture: np.ndarray, sample_rate: int
) -> dict[str, float]:
    """Replace what silence makes undefined or arbitrary; ``snr`` stays, it is 0 dB by definition."""
    floors = dict.fromkeys(("si_snr", "si_sdr", "sd_sdr", "sdr", "sir", "sar"), floor_db)
    floors |= {**PESQ_FLOOR, "stoi": 0.0, "estoi": 0.0}
    result = {}
    for name, value in values.items():
        if name in floors:
            result[name] = floors[name]
        elif name[:-1] in floors:
            result[name] = floors[name[:-1]] - measure(name[:-1], mixture, reference, sample_rate)
        else:
            result[name] = value
    return result


def _float64(first: np.ndarray, second: np.ndarray, zero_mean: bool) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape[-1] != second.shape[-1]:
        usage_error("signals differ in length", got=[first.shape[-1], second.shape[-1]], allowed="as many samples")
    if zero_mean:
        return first - first.mean(-1, keepdims=True), second - second.mean(-1, keepdims=True)
    return first, second


def _ratio_db(signal: np.ndarray, noise: np.ndarray) -> np.ndarray:
    return 10 * np.log10((signal * signal).sum(-1) / ((noise * noise).sum(-1) + EPS) + EPS)
