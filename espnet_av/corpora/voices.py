# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The voices of mini_av: variants of espeak-ng's US English that a speech recogniser understands and can tell apart."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Voice:
    """A variant with rate (words per minute), pitch and pitch range (0-100); ``high``: above about 170 Hz."""

    name: str
    rate: int
    pitch: int
    pitch_range: int
    high: bool = False


# in the order in which speakers get them
TRAINING_VOICES = (
    Voice("m8", 150, 50, 50),
    Voice("edward2", 148, 55, 60),
    Voice("f1", 155, 50, 50, high=True),
    Voice("Nguyen", 145, 50, 45),
    Voice("grandpa", 148, 45, 50),
    Voice("anika", 120, 45, 50, high=True),
    Voice("Henrique", 152, 50, 60),
    Voice("announcer", 150, 50, 40),
    Voice("Gene2", 146, 55, 55),
    Voice("pablo", 158, 48, 50),
    Voice("Denis", 150, 60, 50),
    Voice("edward", 144, 42, 45),
    Voice("ed", 150, 50, 50),
)
UNSEEN_VOICES = (Voice("f4", 152, 50, 50, high=True), Voice("david", 150, 50, 50))
_SHIFTS = (
    (0, 0),
    (12, 14),
    (-8, -12),
    (-12, 10),
    (8, -14),
    (4, 24),
)  # rate, pitch: further speakers on the same variants


def voice_of(rank: int, *, unseen: bool) -> Voice:
    """Return the voice of a speaker: the variants of its group in turn, then the same ones at other rates and pitches.

    Args:
        rank: Number of the speaker within its group (training or unseen), from 0.
        unseen: The speaker is not heard in training.
    """
    voices = UNSEEN_VOICES if unseen else TRAINING_VOICES
    rate, pitch = _SHIFTS[rank // len(voices) % len(_SHIFTS)]
    voice = voices[rank % len(voices)]
    return replace(voice, rate=voice.rate + rate, pitch=max(0, min(99, voice.pitch + pitch)))
