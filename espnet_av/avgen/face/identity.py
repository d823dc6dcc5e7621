# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Who a generated face is: the numbers that shape head, features, hair, skin, light and manner of moving.

Lengths are in face units: the origin is between and below the eyes, x to the right of the picture, y down, the face
about 2 high; colours are RGB in 0..1.
"""

from dataclasses import dataclass

import numpy as np

# light to dark; neighbours in the list of speakers get different ones
SKIN_TONES = (
    (0.97, 0.83, 0.74), (0.94, 0.76, 0.62), (0.87, 0.68, 0.52),
    (0.76, 0.55, 0.40), (0.60, 0.40, 0.28), (0.43, 0.28, 0.20),
)  # fmt: skip
HAIR_COLOURS = (
    (0.09, 0.07, 0.06), (0.24, 0.15, 0.09), (0.42, 0.27, 0.14),
    (0.72, 0.56, 0.33), (0.58, 0.57, 0.56), (0.48, 0.22, 0.11),
)  # fmt: skip
IRIS_COLOURS = ((0.24, 0.15, 0.09), (0.35, 0.48, 0.60), (0.34, 0.44, 0.28), (0.16, 0.11, 0.08), (0.42, 0.33, 0.18))
SHORT_STYLES = ("short", "side", "crop", "curly", "receding")
LONG_STYLES = ("long", "bob", "tied")


@dataclass(frozen=True)
class Identity:
    """A face. ``light`` and ``light_drift`` are unit vectors towards the light (z to the camera)."""

    seed: int
    skin: tuple[float, float, float]
    lip: tuple[float, float, float]
    hair: tuple[float, float, float]
    iris: tuple[float, float, float]
    hair_style: str
    hairline: float
    parting: float
    beard: float
    age: float
    glasses: bool
    lash: float
    half_width: float
    half_height: float
    jaw: float
    eye_x: float
    eye_y: float
    eye_size: float
    eye_tilt: float
    brow_thick: float
    brow_gap: float
    brow_arch: float
    nose_width: float
    nose_length: float
    mouth_width: float
    mouth_y: float
    upper_lip: float
    lower_lip: float
    mouth_curve: float
    tooth_width: float
    light: tuple[float, float, float]
    light_drift: tuple[float, float, float]
    background: tuple[tuple[float, float, float], tuple[float, float, float]]
    shirt: tuple[float, float, float]
    zoom: float
    sway: float
    articulation_gain: float
    articulation_lag: float


def make_identity(index: int, seed: int, *, high_voice: bool) -> Identity:
    """Draw the face of a speaker.

    Skin, hair colour and hair style go round fixed lists by ``index``, so that neighbours never look alike; the rest is
    drawn from ``seed`` and ``index``.

    Args:
        index: Number of the speaker, from 0.
        seed: Seed of the corpus.
        high_voice: The voice is high: long hair, no beard, fuller lips.
    """
    rng = np.random.default_rng([seed, 21, index])

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    tone = (index * 2 + index // 3) % len(SKIN_TONES)
    skin = np.clip(np.array(SKIN_TONES[tone]) * between(0.95, 1.04), 0, 1)
    red = (0.50, 0.62) if high_voice else (0.62, 0.72)
    lip = np.clip(skin * (between(0.82, 0.93), between(*red), between(*red) + 0.03), 0, 1)
    colour = HAIR_COLOURS[(index * 5 + 1) % 6 if tone < 3 else index % 2]
    style = LONG_STYLES[(index + index // 3) % 3] if high_voice else SHORT_STYLES[(index + index // 5) % 5]
    light = _unit((between(-0.5, 0.5), between(-0.6, -0.25), between(0.75, 1.0)))
    hue = rng.uniform(0.0, 1.0)
    return Identity(
        seed=int(rng.integers(1 << 31)),
        skin=_floats(skin),
        lip=_floats(lip),
        hair=_floats(np.array(colour) * between(0.85, 1.15)),
        iris=IRIS_COLOURS[index % 5 if tone < 3 else (0, 3)[index % 2]],
        hair_style=style,
        hairline=between(-0.74, -0.60) - (0.10 if style == "receding" else 0.0),
        parting=between(0.15, 0.32) * (-1) ** index,
        beard=0.0 if high_voice else (0.0, 0.55, 0.0, 0.9, 0.0, 0.35)[(index * 3 + index // 2) % 6],
        age=1.0 if style == "receding" or colour == HAIR_COLOURS[4] else between(0.0, 0.3),
        glasses=index % 5 == 3,
        lash=between(0.85, 1.0) if high_voice else between(0.45, 0.65),
        half_width=between(0.64, 0.70) if high_voice else between(0.66, 0.76),
        half_height=between(0.95, 1.02),
        jaw=between(0.10, 0.32) if high_voice else between(0.0, 0.20),
        eye_x=between(0.275, 0.325),
        eye_y=between(-0.20, -0.14),
        eye_size=between(1.08, 1.28) if high_voice else between(0.92, 1.12),
        eye_tilt=between(-0.04, 0.10),
        brow_thick=between(0.018, 0.026) if high_voice else between(0.026, 0.042),
        brow_gap=between(0.145, 0.185),
        brow_arch=between(0.02, 0.06),
        nose_width=between(0.80, 0.98) if high_voice else between(0.92, 1.25),
        nose_length=between(0.14, 0.22),
        mouth_width=between(0.245, 0.305),
        mouth_y=between(0.47, 0.53),
        upper_lip=between(0.055, 0.078) if high_voice else between(0.042, 0.064),
        lower_lip=between(0.078, 0.100) if high_voice else between(0.062, 0.088),
        mouth_curve=between(-0.026, 0.002),
        tooth_width=between(0.046, 0.060),
        light=light,
        light_drift=_unit((light[0] + between(0.2, 0.35) * (-1) ** index, light[1] + between(-0.1, 0.1), light[2])),
        background=(
            _colour(hue, 0.30, between(0.45, 0.8)),
            _colour(hue + between(0.05, 0.4), 0.35, between(0.25, 0.6)),
        ),
        shirt=_colour(hue + 0.5, between(0.1, 0.6), between(0.2, 0.7)),
        zoom=between(0.90, 0.96),
        sway=between(0.5, 1.2),
        articulation_gain=between(0.88, 1.12),
        articulation_lag=between(-0.010, 0.020),
    )


def _floats(values: np.ndarray) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third


def _unit(vector: tuple[float, float, float]) -> tuple[float, float, float]:
    return _floats(np.array(vector) / np.linalg.norm(vector))


def _colour(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    wheel = 0.5 + 0.5 * np.cos(2 * np.pi * (hue + np.array([0.0, 1 / 3, 2 / 3])))
    return _floats(value * (1 - saturation + saturation * wheel))
