# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""From phones with times to the movement of a mouth, frame by frame.

Each phone has a viseme, each viseme a target of seven articulation values (``ARTICULATION``). Coarticulation follows
the dominance functions of Cohen and Massaro ("Modeling coarticulation in synthetic visual speech", 1993): every
segment pulls with a weight that falls off in time, and consonants made with the lips pull hardest. Lips that must close
(p, b, m) or touch the teeth (f, v) do so in at least one video frame, whatever the neighbours want.

Legend: T video frames, A = 7 articulation values, K segments.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ARTICULATION = ("opening", "width", "upper_raise", "lower_tuck", "teeth", "tongue", "press")
OPENING, WIDTH, UPPER_RAISE, LOWER_TUCK, TEETH, TONGUE, PRESS = range(7)

# opening 0..1, width -1 (round) .. +1 (spread), upper lip raised, lower lip under the upper teeth, teeth seen,
# tongue seen, lips pressed
VISEMES: dict[str, tuple[float, ...]] = {
    "sil": (0.02, 0.0, 0.0, 0.0, 0.0, 0.0, 0.12),
    "PBM": (0.0, 0.02, 0.0, 0.0, 0.0, 0.0, 1.0),
    "FV": (0.14, 0.08, 0.45, 1.0, 0.95, 0.0, 0.1),
    "TH": (0.24, 0.10, 0.20, 0.0, 0.55, 1.0, 0.0),
    "TDN": (0.25, 0.20, 0.20, 0.0, 0.80, 0.50, 0.0),
    "L": (0.36, 0.10, 0.20, 0.0, 0.35, 0.95, 0.0),
    "SZ": (0.12, 0.40, 0.35, 0.0, 1.0, 0.05, 0.0),
    "SH": (0.26, -0.70, 0.70, 0.0, 0.95, 0.05, 0.0),
    "R": (0.22, -0.50, 0.30, 0.0, 0.30, 0.30, 0.0),
    "W": (0.07, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "KG": (0.32, 0.05, 0.10, 0.0, 0.35, 0.15, 0.0),
    "H": (0.38, 0.05, 0.10, 0.0, 0.20, 0.20, 0.0),
    "AA": (1.0, 0.0, 0.25, 0.0, 0.20, 0.30, 0.0),
    "AE": (0.82, 0.50, 0.50, 0.0, 0.55, 0.40, 0.0),
    "AH": (0.58, 0.0, 0.20, 0.0, 0.25, 0.30, 0.0),
    "EH": (0.52, 0.50, 0.40, 0.0, 0.55, 0.40, 0.0),
    "IH": (0.32, 0.50, 0.30, 0.0, 0.65, 0.35, 0.0),
    "IY": (0.22, 1.0, 0.40, 0.0, 0.85, 0.25, 0.0),
    "UW": (0.14, -1.0, 0.0, 0.0, 0.0, 0.05, 0.0),
    "UH": (0.28, -0.70, 0.10, 0.0, 0.10, 0.20, 0.0),
    "OW": (0.50, -0.85, 0.05, 0.0, 0.05, 0.15, 0.0),
    "AO": (0.78, -0.45, 0.10, 0.0, 0.10, 0.25, 0.0),
    "ER": (0.36, -0.40, 0.30, 0.0, 0.30, 0.30, 0.0),
}
# weight and width in seconds of a viseme's dominance
_DOMINANCE: dict[str, tuple[float, float]] = {
    "PBM": (6.0, 0.045), "FV": (4.5, 0.050), "W": (3.0, 0.070), "SH": (2.2, 0.060), "TH": (2.2, 0.050),
    "L": (1.3, 0.050), "sil": (0.7, 0.080), "KG": (0.6, 0.045), "H": (0.4, 0.040),
}  # fmt: skip
_VOWELS = frozenset(("AA", "AE", "AH", "EH", "IH", "IY", "UW", "UH", "OW", "AO", "ER"))
_VOWEL_DOMINANCE, _OTHER_DOMINANCE = (1.3, 0.060), (1.0, 0.050)

_CLASSES: dict[str, str] = {
    "PBM": "p b m", "FV": "f v", "TH": "T D", "TDN": "t d n t# n- ?", "L": "l l# @L", "SZ": "s z ;", "SH": "S Z tS dZ",
    "R": "r r- R", "W": "w", "KG": "k g N", "H": "h", "IH": "j I I2 I#", "IY": "i i: i@", "AA": "A: A@ A 0 aa",
    "AE": "a", "AH": "V @ @2 @5 a#", "EH": "E e@", "UW": "u: u", "UH": "U U@", "AO": "O: O O@ o@ O2", "ER": "3: 3",
}  # fmt: skip
_GLIDES: dict[str, tuple[str, str]] = {
    "eI": ("EH", "IY"), "aI": ("AA", "IY"), "aU": ("AA", "UW"), "OI": ("AO", "IY"), "oU": ("OW", "UW"),
    "aI@": ("AA", "ER"), "aI3": ("AA", "ER"), "aU@": ("AA", "ER"), "i@3": ("IY", "ER"), "I@": ("IY", "ER"),
}  # fmt: skip
PHONE_TO_VISEME: dict[str, str] = {phone: name for name, phones in _CLASSES.items() for phone in phones.split()}

_SUBFRAMES = 4  # the movement is computed on a grid this much finer than the video


@dataclass(frozen=True)
class VisemeSpan:
    """A viseme with start and end in seconds."""

    viseme: str
    start: float
    end: float


def phone_visemes(phone: str) -> tuple[str, ...]:
    """Return the viseme of a phone of espeak-ng's en-us, two for a diphthong.

    Raises:
        KeyError: The phone is unknown.
    """
    if phone == "sil":
        return ("sil",)
    return _GLIDES[phone] if phone in _GLIDES else (PHONE_TO_VISEME[phone],)


def viseme_spans(phones: Sequence[tuple[str, float, float]]) -> list[VisemeSpan]:
    """Turn phones (label, start, end in seconds) into visemes; a diphthong is split in the middle."""
    spans = []
    for label, start, end in phones:
        names = phone_visemes(label)
        bounds = np.linspace(start, end, len(names) + 1)
        spans += [VisemeSpan(name, float(bounds[k]), float(bounds[k + 1])) for k, name in enumerate(names)]
    return spans


def articulation_track(
    spans: Sequence[VisemeSpan], num_frames: int, fps: float = 25.0, lag_sec: float = 0.0
) -> np.ndarray:
    """Return the movement of the mouth.

    Args:
        spans: Visemes that cover the clip in order, K of them.
        num_frames: Video frames T; frame ``t`` shows the time ``(t + 0.5) / fps``.
        fps: Frames per second.
        lag_sec: The mouth is this much ahead of the sound (negative: behind).

    Returns:
        float32 ``(T, A)`` in the order of ``ARTICULATION``.
    """
    fine = _SUBFRAMES
    times = (np.arange(num_frames * fine) + 0.5) / (fps * fine) + lag_sec
    targets = np.array([VISEMES[span.viseme] for span in spans])  # (K, A)
    middle = np.array([(span.start + span.end) / 2 for span in spans])
    half = np.array([(span.end - span.start) / 2 for span in spans])
    weight, width = np.array([_dominance(span.viseme) for span in spans]).T
    distance = np.maximum(np.abs(times[:, None] - middle) - 0.6 * half, 0.0)  # (T * fine, K)
    pull = weight * np.exp(-((distance / width) ** 1.4))
    track = (pull @ targets + 1e-6 * targets[0]) / (pull.sum(1, keepdims=True) + 1e-6)
    kernel = np.hanning(fine + 3)[1:-1]
    padded = np.pad(track, ((len(kernel) // 2,) * 2, (0, 0)), mode="edge")
    track = np.stack([np.convolve(column, kernel / kernel.sum(), "valid") for column in padded.T], axis=1)
    frames = track[fine // 2 :: fine][:num_frames]
    frame_times = (np.arange(num_frames) + 0.5) / fps + lag_sec
    return _enforce_contacts(frames, spans, frame_times, 1.0 / fps).astype(np.float32)


def _dominance(viseme: str) -> tuple[float, float]:
    return _DOMINANCE.get(viseme, _VOWEL_DOMINANCE if viseme in _VOWELS else _OTHER_DOMINANCE)


def _enforce_contacts(
    track: np.ndarray, spans: Sequence[VisemeSpan], times: np.ndarray, frame_sec: float
) -> np.ndarray:
    """Pull the frames around the middle of p, b, m, f, v onto the target of the contact."""
    for span in spans:
        if span.viseme not in ("PBM", "FV"):
            continue
        distance = np.abs(times - (span.start + span.end) / 2)
        hold = max((span.end - span.start) / 2, 0.75 * frame_sec)
        grip = np.exp(-((distance / hold) ** 4))[:, None]
        grip[np.argmin(distance)] = 1.0
        track = track * (1 - grip) + np.array(VISEMES[span.viseme]) * grip
    return track
