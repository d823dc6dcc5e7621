# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Scores of one recording: its samples against the real sound, face and head.

Axes: ``F`` frames of motion, ``N`` samples of sound, ``K`` controls of a face.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from espnet_av.avgen import beats, metrics
from espnet_av.avgen.score_files import RATE, FaceBasis, Take, Truth, load_sample, load_truth
from espnet_av.utils.errors import DataError, describe

SAME_LENGTH = 0.02  # share by which a sample may be longer or shorter and still be compared moment by moment
SAME_LENGTH_FRAMES = 3
OPENING, WIDTH = 0, 1
ENERGY_SIGMA = 4.0  # frames: slow enough that a nod is one event
FLOOR = 1e-10  # power of no sound
POSE_DIM, QUATERNION = 7, 4
SMALLEST_STD = 1e-4  # below, a value of a pose does not move

Ratios = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class HeadScale:
    """Callable that gives poses in deviations of the real ones, so that turning and shifting count alike.

    Attributes:
        mean: ``(D,)``.
        std: ``(D,)``.
        anchor: Quaternion that all signs agree with; None for angles.
    """

    mean: np.ndarray
    std: np.ndarray
    anchor: np.ndarray | None = None

    def __call__(self, head: np.ndarray) -> np.ndarray:
        """Return scaled poses ``(F, D)``.

        Raises:
            DataError: They are of another form than the real ones.
        """
        if head.shape[1] != len(self.mean):
            raise DataError(describe("poses have another form than the real ones", head.shape[1], len(self.mean)))
        return (_one_sign(head, self.anchor) - self.mean) / self.std

    @classmethod
    def of(cls, heads: Sequence[np.ndarray]) -> "HeadScale":
        """Return the scale of real poses, each ``(F, D)``."""
        pooled = np.concatenate(heads)
        anchor = pooled[0, :QUATERNION] if pooled.shape[1] == POSE_DIM else None
        pooled = _one_sign(pooled, anchor)
        return cls(pooled.mean(axis=0), np.maximum(pooled.std(axis=0), SMALLEST_STD), anchor)


def _one_sign(head: np.ndarray, anchor: np.ndarray | None) -> np.ndarray:
    if anchor is None:
        return head
    signs = np.where(head[:, :QUATERNION] @ anchor < 0, -1.0, 1.0)[:, None]
    return np.concatenate([head[:, :QUATERNION] * signs, head[:, QUATERNION:]], axis=1)


@dataclass(frozen=True)
class ScoredUtterance:
    """Scores of one recording.

    Attributes:
        uid: Its id.
        seconds: Motion of all samples.
        num_samples: Number of samples.
        ratios: Metric -> what stands above and below the line.
        faces: Codes of each sample, ``(F, C)``.
        heads: Poses of each sample, ``(F, 7)`` or ``(F, 4)``.
        listening: Codes of the frames where the actor listens, ``(L, C)``; None where that is not known.
        followed: Name -> correlation with the partner at each delay.
        curves: Envelope and opening of the first sample and of the real recording, for pictures.
        words: ``ref`` and ``hyp`` of the first sample.
    """

    uid: str
    seconds: float
    num_samples: int
    ratios: Ratios
    faces: Sequence[np.ndarray] = ()
    heads: Sequence[np.ndarray] = ()
    listening: np.ndarray | None = None
    followed: Mapping[str, np.ndarray] = field(default_factory=dict)
    curves: Mapping[str, list[float]] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)


def score_item(
    item: tuple[Truth, Sequence[Path] | None],
    *,
    basis: FaceBasis | None,
    threshold: float,
    head_scale: HeadScale | None = None,
) -> ScoredUtterance:
    """Read the samples of a recording and score them; a recording without samples is scored itself.

    Raises:
        DataError: A file is damaged or does not belong to the data.
    """
    truth, paths = item
    real = load_truth(truth)
    takes = [real] if paths is None else [load_sample(path) for path in paths]
    for take in takes:
        if take.face.shape[1] != real.face.shape[1]:
            what = f"samples of '{truth.uid}' have face codes of another width"
            raise DataError(describe(what, got=take.face.shape[1], allowed=real.face.shape[1]))
    heads = [None if take.head is None or head_scale is None else head_scale(take.head) for take in takes]
    found = [_ratios(take, real, truth, basis, threshold, own=paths is None) for take in takes]
    found += [
        _motion_ratios(*pair, take.fps)
        for take, head in zip(takes, heads, strict=True)
        for pair in (("face", take.face), ("head", head))
    ]
    ratios = add_ratios(found)
    for name, arrays in (("face", [take.face for take in takes]), ("head", heads)):
        arrays = [array for array in arrays if array is not None]
        if len(arrays) > 1:
            length = min(map(len, arrays))
            ratios[f"div_sample_{name}"] = (metrics.sample_diversity(np.stack([a[:length] for a in arrays])), 1)
    first = takes[0]
    mask = listening_frames(first, real) if same_timing(first, real) else None
    return ScoredUtterance(
        truth.uid,
        sum(len(take.face) / take.fps for take in takes),
        len(takes),
        ratios,
        [take.face.astype(np.float32) for take in takes],
        [take.head for take in takes if take.head is not None],
        first.face[: len(mask)][mask].astype(np.float32) if mask is not None else None,
        _followed(first, real, basis),
        _curves(first, real, basis, own=paths is None),
    )


def add_ratios(found: Sequence[Ratios]) -> Ratios:
    """Return the sums of ratios above and below the line."""
    total: Ratios = {}
    for ratios in found:
        for name, (above, below) in ratios.items():
            before = total.get(name, (0.0, 0.0))
            total[name] = (before[0] + above, before[1] + below)
    return total


def same_timing(take: Take, real: Take) -> bool:
    """Tell whether a sample lasts as long as the recording, so that moments can be compared."""
    slack = max(SAME_LENGTH_FRAMES, SAME_LENGTH * len(real.face))
    return abs(len(take.face) - len(real.face)) <= slack


def _ratios(take: Take, real: Take, truth: Truth, basis: FaceBasis | None, threshold: float, *, own: bool) -> Ratios:
    """Return the figures of one sample."""
    found: Ratios = {}
    matched = same_timing(take, real)
    if take.wav is not None:
        found |= _voice_ratios(take, take.wav, real, matched, own=own)
    if basis is None:
        return found
    controls, real_controls = basis.controls(take.face), basis.controls(real.face)
    if take.wav is not None:
        envelope = beats.rms_envelope(take.wav, RATE, len(controls), take.fps)
        sync = metrics.lip_sync(envelope, controls[:, OPENING])
        if sync is not None:
            names = ("lip_sync_r", "lip_sync_lag", "lip_sync_best_r", "lip_sync_confidence")
            values = (sync.r, sync.best_lag, sync.best_r, sync.confidence)
            found |= {name: (float(value), 1.0) for name, value in zip(names, values, strict=True)}
    if matched:
        length = min(len(controls), len(real_controls))
        found |= _mouth_ratios(controls[:length], real_controls[:length], real, truth, threshold)
    return found


def _motion_ratios(name: str, values: np.ndarray | None, fps: float) -> Ratios:
    """Diversity and jerk of one movement; none where it is not known or too short."""
    if values is None or len(values) < 4:
        return {}
    third = np.abs(metrics.differences(values, 3)[0]) * fps**3
    return {
        f"div_kinetic_{name}": (metrics.kinetic_diversity(values), 1.0),
        f"l1div_{name}": (metrics.l1_diversity(values), 1.0),
        f"jerk_{name}": (float(third.sum()), float(third.size)),
    }


def _voice_ratios(take: Take, wav: np.ndarray, real: Take, matched: bool, *, own: bool) -> Ratios:
    """Figures of the sound, and of the head against it."""
    found: Ratios = {}
    if take.head is not None and len(take.head) > 3:
        motion = beats.speed_times(beats.motion_beats(head_speed(take.head, take.fps)), take.fps)
        audio = beats.audio_beats(wav, RATE)
        for name, pair in (("motion_to_audio", (motion, audio)), ("audio_to_motion", (audio, motion))):
            value = beats.beat_alignment(*pair)
            if math.isfinite(value):
                found[f"beat_{name}"] = (value, 1.0)
    mask = listening_frames(take, real) if matched else None
    if mask is not None and mask.any() and real.wav is not None:
        level = beats.rms_envelope(wav, RATE, len(mask), take.fps, sigma=0)
        speaking = beats.speaking_frames(beats.rms_envelope(real.wav, RATE, len(mask), real.fps))
        if speaking.any():
            powers = [float((level[part] ** 2).mean()) for part in (mask, speaking)]
            found["listening_level_db"] = (10 * math.log10((powers[0] + FLOOR) / (powers[1] + FLOOR)), 1.0)
    if own or real.wav is None:
        return found
    mel, real_mel = log_mel(wav), log_mel(real.wav)
    if take.mel is not None:
        found["vocoder_mel_l1"] = (metrics.mel_distance(take.mel, mel), 1.0)
    if matched:
        found["mel_l1"] = (metrics.mel_distance(real_mel, mel), 1.0)
    cepstra = metrics.mel_cepstra(real_mel), metrics.mel_cepstra(mel)
    found["mcd"] = (metrics.mel_cepstral_distortion(*cepstra, align=True), 1.0)
    return found


def _mouth_ratios(
    controls: np.ndarray, real_controls: np.ndarray, real: Take, truth: Truth, threshold: float
) -> Ratios:
    """Figures of the mouth against the real one at the same times."""
    found: Ratios = {}
    opening, real_opening = controls[:, OPENING], real_controls[:, OPENING]
    closed = metrics.closure(real_opening, opening, threshold)
    found["closure_f1"] = (2.0 * closed.num_both, float(closed.num_real + closed.num_generated))
    found["closure_precision"] = (float(closed.num_both), float(closed.num_generated))
    found["closure_recall"] = (float(closed.num_both), float(closed.num_real))
    value = metrics.correlate_at(real_opening, opening, 0)
    if math.isfinite(value):
        found["opening_r"] = (value, 1.0)
    if controls.shape[1] > WIDTH and real.wav is not None:
        spoken = spoken_visemes(truth, real_controls, real.fps)
        heard = beats.speaking_frames(beats.rms_envelope(real.wav, RATE, len(spoken), real.fps))
        named = heard & (spoken != "") & (spoken != "sil")
        visemes = _visemes()
        same = metrics.nearest_viseme(opening, controls[:, WIDTH], visemes)[named] == spoken[named]
        found["viseme_accuracy"] = (float(same.sum()), float(len(same)))
    return found


@functools.cache
def _visemes() -> Mapping[str, Sequence[float]]:
    from espnet_av.avgen.face.visemes import VISEMES

    return VISEMES


def spoken_visemes(truth: Truth, controls: np.ndarray, fps: float) -> np.ndarray:
    """Return the name of the viseme of each frame: of the phone that is spoken, else the nearest of the real mouth.

    Args:
        truth: The recording.
        controls: Of the real face, ``(F, K)``.
        fps: Their rate.

    Returns:
        ``(F,)``; empty where no phone is.
    """
    if truth.phones is None:
        return metrics.nearest_viseme(controls[:, OPENING], controls[:, WIDTH], _visemes())
    from espnet_av.avgen.face.visemes import viseme_spans
    from espnet_av.utils.experiment import read_json

    content = read_json(truth.phones) or {}
    names = np.full(len(controls), "", dtype="<U8")
    times = (np.arange(len(controls)) + 0.5) / fps
    try:
        spans = viseme_spans([(str(label), float(start), float(end)) for label, start, end in content["phones"]])
    except (KeyError, TypeError, ValueError) as error:
        allowed = '{"phones": [[label, start, end], ...]}'
        raise DataError(describe(f"{truth.phones} holds no phones ({error!r})", allowed=allowed)) from error
    for span in spans:
        names[(times >= span.start) & (times < span.end)] = span.viseme
    return names


def head_speed(head: np.ndarray, fps: float) -> np.ndarray:
    """Return the speed of a head between frames: angular for ``(F, 7)``, of the angles for ``(F, 4)``."""
    if head.shape[1] != POSE_DIM:
        return beats.vector_speed(head, fps)
    import torch

    from espnet_av.avgen.pose import quaternion_to_matrix

    return beats.rotation_speed(quaternion_to_matrix(torch.from_numpy(head[:, :QUATERNION])).numpy(), fps)


@functools.cache
def _mel_transform() -> Callable:
    from espnet_av.avgen.mel import MelSpectrogram

    return MelSpectrogram()


def log_mel(wav: np.ndarray) -> np.ndarray:
    """Return the logarithmic mel spectrogram ``(T, 80)`` of sound ``(N,)`` at 22.05 kHz."""
    import torch

    with torch.no_grad():
        return _mel_transform()(torch.from_numpy(np.asarray(wav, dtype=np.float32))[None])[0].T.numpy()


def listening_frames(take: Take, real: Take) -> np.ndarray | None:
    """Return where only the partner speaks in the real recording, bool ``(F,)``; None where there is no partner."""
    if real.partner is None or real.wav is None:
        return None
    length = min(len(take.face), len(real.face))
    own, other = (
        beats.speaking_frames(beats.rms_envelope(wav, RATE, length, real.fps)) for wav in (real.wav, real.partner)
    )
    return other & ~own


def _followed(take: Take, real: Take, basis: FaceBasis | None) -> dict[str, np.ndarray]:
    """Return how brow and head follow the partner's voice."""
    if real.partner is None or not np.any(real.partner):
        return {}
    length = min(len(take.face), len(real.face))
    partner = beats.rms_envelope(real.partner, RATE, length, real.fps, ENERGY_SIGMA)
    found = {}
    brow = basis.column("brow") if basis is not None else None
    if basis is not None and brow is not None:
        raised = basis.controls(take.face[:length])[:, brow]
        found["brow"] = metrics.response(partner, beats.smooth(raised, ENERGY_SIGMA), take.fps)
    if take.head is not None and length > 3:
        speed = beats.smooth(head_speed(take.head[:length], take.fps), ENERGY_SIGMA)
        found["head"] = metrics.response(partner[1:], speed, take.fps)
    return found


def _curves(take: Take, real: Take, basis: FaceBasis | None, *, own: bool) -> dict[str, list[float]]:
    """Return loudness and mouth of a sample, rounded: what a report draws."""
    if basis is None or take.wav is None:
        return {}
    found = {
        "envelope": beats.rms_envelope(take.wav, RATE, len(take.face), take.fps),
        "opening": basis.controls(take.face)[:, OPENING],
    }
    if not own and same_timing(take, real):
        found["real_opening"] = basis.controls(real.face)[:, OPENING]
    return {name: np.round(values, 4).tolist() for name, values in found.items()}
