# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Metrics of decoded speech, each with its exact definition.

With reference ``s`` and decoded signal ``e`` of ``N`` samples at the rate of the codec:

* ``pesq_wb``, ``pesq_nb``: MOS-LQO of P.862.2 (wide band) and P.862.1 (narrow band) at 16 kHz, 1 to 4.64 or 4.55.
* ``stoi``, ``estoi``: short-time objective intelligibility and its extended form, 0 to 1, at the rate of the codec.
* ``visqol``: ViSQOL 3 for speech (16 kHz, lattice mapping), MOS-LQO 1 to 5.
* ``dnsmos_ovrl``, ``dnsmos_sig``, ``dnsmos_bak``, ``dnsmos_p808``: DNSMOS P.835 and P.808 at 16 kHz, 1 to 5.
* ``plcmos``: PLCMOS v2 at 16 kHz, 1 to 5. The model asks 15 random raters; they are the same for every signal here, so
  that values repeat. Other raters move a single value by about 0.03.
* ``distill_mos``: Distill-MOS at 16 kHz, 1 to 5.
* ``snr``: ``10 log10(<s, s> / <e - s, e - s>)`` in dB, means not subtracted.
* ``si_sdr``: scale-invariant SDR in dB, means not subtracted.
* ``mel_distance``, ``stft_distance``: :func:`mel_distance` and :func:`stft_distance`; lower is better.

PESQ, STOI, ViSQOL and the levels compare with the reference; DNSMOS, PLCMOS and Distill-MOS hear the decoded signal
alone. Rates are changed by a polyphase filter (:func:`espnet_av.data.audio_io.resample_audio`).
"""

import functools
import importlib.util
import inspect
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.avss.metrics import is_silent, pesq, si_snr, snr, stoi
from espnet_av.data.audio_io import resample_audio
from espnet_av.utils.errors import DataError, EnvironmentProblem, describe, usage_error
from espnet_av.utils.optional import require

logger = logging.getLogger(__name__)
MODEL_RATE_HZ = 16000  # of PESQ, ViSQOL and the networks
MIN_MODEL_SEC = 0.25  # shorter signals have no opinion score
MAX_LENGTH_DIFFERENCE = 240  # samples: one frame of the codec
SILENT_ESTIMATE_DB = -30.0
PLCMOS_SEED = 0
DISTANCE_WINDOWS = (2048, 512)
DISTANCE_MELS = (150, 80)
DISTANCE_FLOOR = 1e-5


@dataclass(frozen=True)
class Metric:
    """How a metric is shown, and what it needs.

    Attributes:
        title: For tables, with the unit.
        digits: Digits after the point.
        family: What computes it; several metrics may come out of one computation.
        higher_is_better: Direction.
        needs_reference: Whether it compares with the reference.
        worst: Value of a silent decoded signal; None takes what comes out.
    """

    title: str
    digits: int
    family: str
    higher_is_better: bool = True
    needs_reference: bool = True
    worst: float | None = None


METRICS: dict[str, Metric] = {
    "pesq_wb": Metric("PESQ wb", 2, "pesq_wb", worst=1.0),
    "pesq_nb": Metric("PESQ nb", 2, "pesq_nb", worst=1.0),
    "stoi": Metric("STOI", 3, "stoi", worst=0.0),
    "estoi": Metric("ESTOI", 3, "estoi", worst=0.0),
    "visqol": Metric("ViSQOL", 2, "visqol", worst=1.0),
    "dnsmos_ovrl": Metric("DNSMOS OVRL", 2, "dnsmos", needs_reference=False),
    "dnsmos_sig": Metric("DNSMOS SIG", 2, "dnsmos", needs_reference=False),
    "dnsmos_bak": Metric("DNSMOS BAK", 2, "dnsmos", needs_reference=False),
    "dnsmos_p808": Metric("DNSMOS P.808", 2, "dnsmos", needs_reference=False),
    "plcmos": Metric("PLCMOS", 2, "plcmos", needs_reference=False),
    "distill_mos": Metric("Distill-MOS", 2, "distill_mos", needs_reference=False),
    "snr": Metric("SNR (dB)", 2, "snr"),
    "si_sdr": Metric("SI-SDR (dB)", 2, "si_sdr", worst=SILENT_ESTIMATE_DB),
    "mel_distance": Metric("mel distance", 3, "mel_distance", higher_is_better=False),
    "stft_distance": Metric("STFT distance", 3, "stft_distance", higher_is_better=False),
}
DEFAULT_METRICS = tuple(name for name in METRICS if name not in ("pesq_nb", "distill_mos"))
#: Names that configurations of others use.
ALIASES: dict[str, tuple[str, ...]] = {
    "pesq": ("pesq_wb",),
    "dnsmos": ("dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak", "dnsmos_p808"),
}
#: Family -> module that must be there and the extra of setup.py that holds it.
PACKAGES = {
    "pesq_wb": (("pesq",), "scoring"),
    "pesq_nb": (("pesq",), "scoring"),
    "stoi": (("pystoi",), "scoring"),
    "estoi": (("pystoi",), "scoring"),
    "visqol": (("visqol", "ai_edge_litert"), "scoring"),
    "dnsmos": (("speechmos", "onnxruntime", "librosa"), "scoring"),
    "plcmos": (("speechmos", "onnxruntime"), "scoring"),
    "distill_mos": (("distillmos", "xls_r_sqa"), "scoring-neural"),
    "mel_distance": (("librosa",), "scoring"),
}
_UNDEFINED = (ValueError, RuntimeError, ArithmeticError, IndexError, KeyError)  # what packages raise on odd signals


@dataclass(frozen=True)
class SignalScore:
    """Scores of one decoded signal.

    Attributes:
        values: Metric -> value; NaN where it is not defined.
        silent_reference: The reference is silent: metrics that compare with it are not defined.
        silent_estimate: The decoded signal is silent although the reference is not: PESQ, STOI, ViSQOL and SI-SDR have
            the worst value of their scale.
    """

    values: dict[str, float] = field(default_factory=dict)
    silent_reference: bool = False
    silent_estimate: bool = False


def expand_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names with aliases resolved, each once.

    Raises:
        UsageError: A name is unknown.
    """
    found: dict[str, None] = {}
    for name in names:
        if name not in METRICS and name not in ALIASES:
            usage_error("unknown metric", got=name, allowed=[*METRICS, *ALIASES])
        found.update(dict.fromkeys(ALIASES.get(name, (name,))))
    return tuple(found)


def why_skipped(name: str) -> str | None:
    """Return why a metric cannot be computed here, or None."""
    modules, extra = PACKAGES.get(METRICS[name].family, ((), ""))
    absent = [module for module in modules if importlib.util.find_spec(module) is None]
    if not absent:
        return None
    return f"no package {', '.join(absent)}; fix: pip install 'espnet_av[{extra}]'"


def fit_lengths(estimate: np.ndarray, reference: np.ndarray, what: str = "decoded signal") -> tuple[Any, Any]:
    """Cut the longer of two signals ``(N,)``, by one frame at most.

    Raises:
        DataError: They differ by more.
    """
    difference = abs(len(estimate) - len(reference))
    if difference > MAX_LENGTH_DIFFERENCE:
        allowed = f"{len(reference)} samples, {MAX_LENGTH_DIFFERENCE} more or less"
        fix = "decode it again, or name the references that belong to it"
        raise DataError(describe(f"{what} has another length than its reference", len(estimate), allowed, fix))
    size = min(len(estimate), len(reference))
    return estimate[:size], reference[:size]


def score_signal(
    estimate: np.ndarray, reference: np.ndarray | None, sample_rate: int, metrics: Sequence[str] = DEFAULT_METRICS
) -> SignalScore:
    """Score a decoded signal.

    Args:
        estimate: ``(N,)`` in [-1, 1].
        reference: ``(N,)``; may differ by one frame. None leaves metrics that compare undefined.
        sample_rate: Of both, Hz.
        metrics: Names.

    Raises:
        UsageError: A metric is unknown.
        DataError: The lengths differ too much, or a sample is not finite.
        EnvironmentProblem: A package is missing (:func:`why_skipped` tells before).
    """
    metrics = expand_metrics(metrics)
    if reference is not None:
        estimate, reference = fit_lengths(estimate, reference)
    if not all(np.isfinite(x).all() for x in (estimate, reference) if x is not None):
        raise DataError(describe("samples that are not finite", allowed="numbers", fix="decode the signal again"))
    pair = _Pair(estimate, reference, sample_rate)
    silent_reference = reference is not None and is_silent(reference)
    silent_estimate = reference is not None and not silent_reference and is_silent(estimate)
    families: dict[str, Mapping[str, float]] = {}
    values = {}
    for name in metrics:
        metric = METRICS[name]
        if metric.needs_reference and (reference is None or silent_reference):
            values[name] = math.nan
        elif silent_estimate and metric.worst is not None:
            values[name] = metric.worst
        else:
            if metric.family not in families:
                families[metric.family] = _measure(metric.family, pair)
            values[name] = families[metric.family].get(name, math.nan)
    return SignalScore(values, silent_reference, silent_estimate)


class _Pair:
    """Both signals, at the rate of the codec and at that of the models."""

    def __init__(self, estimate: np.ndarray, reference: np.ndarray | None, sample_rate: int) -> None:
        self.estimate, self._reference, self.sample_rate = estimate, reference, sample_rate
        self.seconds = len(estimate) / sample_rate

    @property
    def reference(self) -> np.ndarray:
        """Reference; what compares with it is not defined without."""
        if self._reference is None:
            raise ValueError("there is no reference")
        return self._reference

    @functools.cached_property
    def estimate_16k(self) -> np.ndarray:
        """Decoded signal at 16 kHz."""
        return np.clip(resample_audio(self.estimate, self.sample_rate, MODEL_RATE_HZ), -1.0, 1.0)

    @functools.cached_property
    def reference_16k(self) -> np.ndarray:
        """Reference at 16 kHz."""
        return np.clip(resample_audio(self.reference, self.sample_rate, MODEL_RATE_HZ), -1.0, 1.0)


def _measure(family: str, pair: _Pair) -> Mapping[str, float]:
    """Return what a family of metrics gives; empty where it is not defined for these signals."""
    try:
        return _FAMILIES[family](pair)
    except EnvironmentProblem:
        raise
    except _UNDEFINED as error:
        logger.debug("%s is not defined: %s", family, error)
        return {}


def _pesq(pair: _Pair, mode: str) -> dict[str, float]:
    return {f"pesq_{mode}": pesq(pair.estimate_16k, pair.reference_16k, MODEL_RATE_HZ, mode=mode)}


def _stoi(pair: _Pair, extended: bool) -> dict[str, float]:
    value = stoi(pair.estimate, pair.reference, pair.sample_rate, extended=extended)
    return {"estoi" if extended else "stoi": value}


def _snr(pair: _Pair) -> dict[str, float]:
    if np.array_equal(pair.estimate, pair.reference):
        return {}  # without bound
    return {"snr": float(snr(pair.estimate, pair.reference, zero_mean=False))}


def _si_sdr(pair: _Pair) -> dict[str, float]:
    if np.array_equal(pair.estimate, pair.reference):
        return {}
    return {"si_sdr": float(si_snr(pair.estimate, pair.reference, zero_mean=False))}


def _visqol(pair: _Pair) -> dict[str, float]:
    if pair.seconds < MIN_MODEL_SEC:
        return {}
    signals = [np.asarray(x, np.float64) for x in (pair.reference_16k, pair.estimate_16k)]
    return {"visqol": float(_visqol_api().measure_from_arrays(*signals, MODEL_RATE_HZ).moslqo)}


@functools.lru_cache(maxsize=1)
def _visqol_api() -> Any:
    require("ai_edge_litert.interpreter", "scoring")  # without it ViSQOL would fall back to a mapping that flatters
    api = require("visqol", "scoring").VisqolApi()
    api.create(mode="speech", use_lattice_model=True)
    logging.getLogger("visqol").setLevel(logging.WARNING)
    return api


def _dnsmos(pair: _Pair) -> dict[str, float]:
    if pair.seconds < MIN_MODEL_SEC:
        return {}
    found = _dnsmos_model()(pair.estimate_16k, MODEL_RATE_HZ, False)
    return {f"dnsmos_{name}": float(found[f"{name}_mos"]) for name in ("ovrl", "sig", "bak", "p808")}


@functools.lru_cache(maxsize=1)
def _dnsmos_model() -> Any:
    module = require("speechmos.dnsmos", "scoring")
    folder = Path(inspect.getfile(module)).parent / "dnsmos_models"
    model = module.DNSMOS.__new__(module.DNSMOS)  # its constructor gives each session a thread per core
    model.onnx_sess, model.p808_onnx_sess = (_session(folder / f"{name}.onnx") for name in ("sig_bak_ovr", "model_v8"))
    return model


def _plcmos(pair: _Pair) -> dict[str, float]:
    if pair.seconds < MIN_MODEL_SEC:
        return {}
    return {"plcmos": plcmos(pair.estimate_16k)}


def plcmos(wave: np.ndarray, seed: int = PLCMOS_SEED) -> float:
    """Return PLCMOS of a signal ``(N,)`` at 16 kHz, with the random raters of a seed."""
    model = _plcmos_model()
    kept = np.random.get_state()  # noqa: NPY002  the package draws from the global generator
    try:
        np.random.seed(seed)  # noqa: NPY002
        return float(model(wave)["plcmos"])
    finally:
        np.random.set_state(kept)  # noqa: NPY002


@functools.lru_cache(maxsize=1)
def _plcmos_model() -> Any:
    model = require("speechmos.plcmos", "scoring").PLCMOS()
    model.session = _session(model.model_path)
    return model


def _session(path: str | Path) -> Any:
    onnxruntime = require("onnxruntime", "scoring")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _distill_mos(pair: _Pair) -> dict[str, float]:
    if pair.seconds < MIN_MODEL_SEC:
        return {}
    import torch

    with torch.inference_mode():
        value = _distill_mos_model()(torch.from_numpy(pair.estimate_16k)[None])
    return {"distill_mos": float(value.squeeze())}


@functools.lru_cache(maxsize=1)
def _distill_mos_model() -> Any:
    return require("distillmos", "scoring-neural").ConvTransformerSQAModel().eval()


def stft_distance(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Return the distance of magnitude spectra of a pair ``(N,)``; 0 for equal signals, lower is better.

    Sum over Hann windows of 2048 and 512 samples (hop a quarter, reflected edges) of the mean of
    ``|A - B| + |log10 max(A, 1e-5)^2 - log10 max(B, 1e-5)^2|``, the STFT distance of the Descript Audio Codec's
    evaluation.
    """
    return sum(
        _spectral_difference(*(_magnitudes(x, size) for x in (estimate, reference))) for size in DISTANCE_WINDOWS
    )


def mel_distance(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> float:
    """Return the distance of mel spectra of a pair ``(N,)``: as :func:`stft_distance`, with 150 and 80 mel bands."""
    total = 0.0
    for size, bands in zip(DISTANCE_WINDOWS, DISTANCE_MELS, strict=True):
        matrix = _mel_matrix(sample_rate, size, bands)
        total += _spectral_difference(*(matrix @ _magnitudes(x, size) for x in (estimate, reference)))
    return total


def _spectral_difference(first: np.ndarray, second: np.ndarray) -> float:
    logs = [2 * np.log10(np.maximum(x, DISTANCE_FLOOR)) for x in (first, second)]
    return float(np.abs(first - second).mean() + np.abs(logs[0] - logs[1]).mean())


def _magnitudes(wave: np.ndarray, size: int) -> np.ndarray:
    """Return magnitudes ``(size // 2 + 1, frames)``."""
    wave = np.asarray(wave, np.float64)
    if len(wave) <= size // 2:
        raise ValueError("the signal is shorter than half a window")
    padded = np.pad(wave, size // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: size // 4]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    return np.abs(np.fft.rfft(frames * window, axis=-1)).T


@functools.lru_cache(maxsize=8)
def _mel_matrix(sample_rate: int, size: int, bands: int) -> np.ndarray:
    return require("librosa", "scoring").filters.mel(sr=sample_rate, n_fft=size, n_mels=bands)


_FAMILIES: dict[str, Callable[[_Pair], Mapping[str, float]]] = {
    "pesq_wb": functools.partial(_pesq, mode="wb"),
    "pesq_nb": functools.partial(_pesq, mode="nb"),
    "stoi": functools.partial(_stoi, extended=False),
    "estoi": functools.partial(_stoi, extended=True),
    "visqol": _visqol,
    "dnsmos": _dnsmos,
    "plcmos": _plcmos,
    "distill_mos": _distill_mos,
    "snr": _snr,
    "si_sdr": _si_sdr,
    "mel_distance": lambda pair: {"mel_distance": mel_distance(pair.estimate, pair.reference, pair.sample_rate)},
    "stft_distance": lambda pair: {"stft_distance": stft_distance(pair.estimate, pair.reference)},
}
