# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Offset and drift of clips, speakers and sets, from the correlations of :mod:`.sync`.

A clip of a few seconds is unsure of its offset: the talker opens the mouth several times, and any of them may fit. So a
clip is only named where two estimates agree, its own top and the place that looks most like the top of its set; and
many clips together tell the offset of a speaker or a set to a fraction of a frame.

Axis legend: ``L`` lags, ``R`` ratios of speed.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from espnet_av.data.doctor.findings import Limits
from espnet_av.data.doctor.sync import MAX_LAG, RATIOS, USUAL_SHAPE, find_offset, find_ratio, match_shape

MIDDLE = len(RATIOS) // 2
MIN_GROUP = 5  # clips that the offset of a speaker or set takes
MIN_DRIFT_SEC = 60.0  # of clips together, before their common drift is believed
AGREE = 1.5  # frames between two estimates of one offset


def shape_of(sharp: Sequence[np.ndarray]) -> np.ndarray:
    """Return the shape ``(L,)`` of the top of many sharp curves; that of speech in general where they are few."""
    return np.mean(sharp, axis=0) if len(sharp) >= MIN_GROUP else USUAL_SHAPE


def judge_clip(
    lags: np.ndarray, sharp: np.ndarray, shape: np.ndarray, seconds: float, limits: Limits
) -> list[tuple[str, str]]:
    """Name an offset, or a drift, that stands out of the correlations of a clip.

    Args:
        lags: ``(R, L)``.
        sharp: ``(L,)``.
        shape: Of the set ``(L,)``.
        seconds: Length of the pictures.
        limits: What counts.
    """
    found = []
    ratio, gain = find_ratio(lags)
    frames = seconds * 25.0 * (ratio - 1.0)
    if seconds >= limits.drift_sec and abs(frames) >= limits.drift_frames and gain >= limits.drift_gain:
        if lags.max() >= limits.offset_height:
            return [("av_drift", f"{say_drift(ratio)} ({frames:+.0f} frames within the clip, correlation +{gain:.2f})")]
    plain, matched = find_offset(lags[MIDDLE]), find_offset(match_shape(sharp, shape))
    sure = (
        abs(matched.frames) >= limits.offset_frames - 0.5
        and matched.margin >= limits.offset_margin
        and matched.lead >= limits.offset_lead
        and plain.margin >= limits.offset_gain
        and plain.height >= limits.offset_height
        and abs(plain.frames - matched.frames) <= AGREE
    )
    if sure:
        above = f"correlation {plain.height:.2f}, {plain.margin:.2f} above in sync"
        found.append(("av_offset", f"{say_offset(plain.frames)} ({above})"))
    return found


def describe_group(lags: Sequence[np.ndarray]) -> dict[str, Any] | None:
    """Return the offset of a speaker or set from the mean of its maps ``(R, L)``; None where too few clips tell."""
    if len(lags) < MIN_GROUP:
        return None
    mean = np.asarray(np.mean(lags, axis=0, dtype=np.float64))
    offset = find_offset(mean[MIDDLE])
    ratio, gain = find_ratio(mean)
    single = np.array([table[MIDDLE].argmax() - MAX_LAG for table in lags])
    return {
        "clips": len(lags),
        "offset_frames": round(offset.frames, 2),
        "correlation": round(offset.height, 3),
        "speed_ratio": round(ratio, 3),
        "speed_gain": round(gain, 3),
        "within_1_frame": round(float(np.mean(np.abs(single - offset.frames) <= 1.5)), 3),
        "curve": [round(float(value), 3) for value in mean[MIDDLE]],
    }


def judge_group(group: dict[str, Any], seconds: float, limits: Limits) -> list[tuple[str, str]]:
    """Name the offset or drift of a group as :func:`describe_group` gives it; ``seconds`` is its longest clip."""
    found = []
    frames = seconds * 25.0 * (group["speed_ratio"] - 1.0)
    enough = group["clips"] * seconds >= MIN_DRIFT_SEC
    if enough and group["speed_gain"] >= 0.5 * limits.drift_gain and abs(frames) >= limits.drift_frames:
        found.append(("av_drift", f"{say_drift(group['speed_ratio'])} ({group['clips']} clips)"))
    elif abs(group["offset_frames"]) >= limits.offset_frames - 0.5 and group["correlation"] >= limits.offset_height / 2:
        found.append(("av_offset", f"{say_offset(group['offset_frames'])} ({group['clips']} clips)"))
    return found


def say_offset(frames: float) -> str:
    """Say an offset in words.

    >>> say_offset(3.0)
    'the sound comes 3.0 frames after the lips'
    """
    return f"the sound comes {abs(frames):.1f} frames {'after' if frames > 0 else 'before'} the lips"


def say_drift(ratio: float) -> str:
    """Say a ratio of speed in words.

    >>> say_drift(1.042)
    'the lips fit when the video lasts 1.042 times as long'
    """
    return f"the lips fit when the video lasts {ratio:.3f} times as long"
