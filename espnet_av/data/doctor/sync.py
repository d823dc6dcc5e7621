# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Whether sound and lips go together: cross-correlation of mouth motion and opening with the envelope of the sound.

Axis legend: ``T`` video frames, ``H`` x ``W`` pixels, ``N`` samples, ``L`` lags from ``-MAX_LAG`` to ``MAX_LAG``,
``R`` ratios of speed.

Sign: a lag above 0 says that the sound comes that many video frames after the lips, below 0 that it comes before.
"""

from dataclasses import dataclass

import numpy as np

MAX_LAG = 15
NUM_LAGS = 2 * MAX_LAG + 1
MIN_FRAMES = 3 * MAX_LAG  # shorter clips tell nothing
GUARD = 3  # frames round the best lag that its rivals must not be in
REACH = 8  # frames round a lag whose shape is compared
TREND = 25  # frames: what changes more slowly is left out of the sharp curve
SMOOTH = np.array([0.06, 0.24, 0.4, 0.24, 0.06])  # Gauss of one frame
RATIOS = 1.0 + 0.007 * np.arange(-8, 9)  # 24 to 25 fps is 1.042
DIP = 0.4  # of the change before and after it: less is a repeated frame
USUAL_SHAPE = np.exp(-0.5 * np.square(np.arange(-MAX_LAG, MAX_LAG + 1) / 2.0))


@dataclass(frozen=True)
class Offset:
    """An estimate of the offset between sound and lips.

    Attributes:
        frames: Lag in video frames, with a fraction from a parabola through the top.
        height: Mean correlation there, -1 to 1.
        margin: How much higher it is than in sync (lags -1 to 1); 0 where the best lag is one of them.
        lead: How much higher it is than any lag more than three frames away.
    """

    frames: float
    height: float
    margin: float
    lead: float


def mouth_curves(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how fast the picture changes and how dark its darkest part is: lips that open show a dark mouth.

    Args:
        frames: ``(T, H, W)`` gray uint8, the mouth and what is round it.

    Returns:
        Two curves ``(T,)``: log of the mean change over two frames, and minus the mean of the darkest tenth.
    """
    small = shrink(frames)
    count = len(small)
    change = np.zeros(count)
    if count > 2:
        change[1:-1] = np.abs(small[2:] - small[:-2]).reshape(count - 2, -1).mean(axis=1)
        change[0], change[-1] = change[1], change[-2]
    flat = small.reshape(count, -1)
    darkest = max(1, flat.shape[1] // 10)
    dark = -np.partition(flat, darkest, axis=1)[:, :darkest].mean(axis=1)
    return np.log(np.convolve(change, SMOOTH, "same") + 0.1), dark


def shrink(frames: np.ndarray, share: float = 0.6, size: int = 28) -> np.ndarray:
    """Return the middle of pictures ``(T, H, W)`` as about ``size`` x ``size`` means, float32."""
    height, width = frames.shape[1:3]
    step_y, step_x = max(1, int(height * share) // size), max(1, int(width * share) // size)
    rows, columns = min(size, int(height * share) // step_y), min(size, int(width * share) // step_x)
    top, left = (height - rows * step_y) // 2, (width - columns * step_x) // 2
    part = frames[:, top : top + rows * step_y, left : left + columns * step_x]
    return part.reshape(len(frames), rows, step_y, columns, step_x).mean(axis=(2, 4), dtype=np.float32)


def sound_envelope(wave: np.ndarray, num_frames: int, samples_per_frame: float) -> np.ndarray:
    """Return log10 of the power of each video frame ``(T,)`` of a waveform ``(N,)``; what is missing is silence."""
    edges = np.minimum(np.round(np.arange(num_frames + 1) * samples_per_frame).astype(np.int64), len(wave))
    sums = np.concatenate(([0.0], np.cumsum(np.square(wave, dtype=np.float64))))
    power = (sums[edges[1:]] - sums[edges[:-1]]) / samples_per_frame
    return np.log10(np.maximum(power, 0.0) + max(1e-9, 1e-4 * float(power.max(initial=0.0))))


def lag_map(motion: np.ndarray, dark: np.ndarray, envelope: np.ndarray) -> np.ndarray:
    """Return the correlation ``(R, L)`` of lips and sound at every ratio and lag, the mean of both cues.

    Args:
        motion: ``(T,)``.
        dark: ``(T,)``.
        envelope: ``(T,)``.
    """
    cues = [motion, dark]
    return np.mean([_correlations(_stretched(cue), envelope) for cue in cues], axis=0)


def sharp_curve(motion: np.ndarray, dark: np.ndarray, envelope: np.ndarray) -> np.ndarray:
    """Return the correlation ``(L,)`` of which half is that of what changes within a second: its top is narrower."""
    cues = [motion, dark]
    sound = _without_trend(envelope)
    quick = [_correlations(_without_trend(cue)[None], sound)[0] for cue in cues]
    return np.mean([*quick, *(_correlations(cue[None], envelope)[0] for cue in cues)], axis=0)


def _without_trend(values: np.ndarray) -> np.ndarray:
    padded = np.pad(values, TREND // 2, mode="edge")
    return values - np.convolve(padded, np.full(TREND, 1.0 / TREND), "valid")[: len(values)]


def _stretched(cue: np.ndarray) -> np.ndarray:
    """Return a curve ``(T,)`` played at every ratio of speed ``(R, T)``; where it has ended, its last value stays."""
    times = np.arange(len(cue))
    return np.stack([cue if ratio == 1.0 else np.interp(times / ratio, times, cue) for ratio in RATIOS])


def _correlations(lips: np.ndarray, sound: np.ndarray) -> np.ndarray:
    count = lips.shape[1]
    found = np.zeros((len(lips), NUM_LAGS))
    for index, lag in enumerate(range(-MAX_LAG, MAX_LAG + 1)):
        a = lips[:, max(0, -lag) : count - max(0, lag)]
        b = sound[max(0, lag) : count - max(0, -lag)]
        a, b = a - a.mean(axis=1, keepdims=True), b - b.mean()
        scale = np.sqrt(np.square(a).sum(axis=1) * np.square(b).sum())
        found[:, index] = np.where(scale > 1e-9, a @ b / np.maximum(scale, 1e-9), 0.0)
    return found


def find_offset(curve: np.ndarray) -> Offset:
    """Find the lag at the top of a curve ``(L,)``."""
    best = int(curve.argmax())
    fraction = 0.0
    if 0 < best < NUM_LAGS - 1:
        left, top, right = curve[best - 1 : best + 2]
        bend = left - 2 * top + right
        fraction = float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5)) if bend < -1e-9 else 0.0
    in_sync = curve[MAX_LAG - 1 : MAX_LAG + 2].max()
    far = np.delete(curve, np.arange(max(0, best - GUARD), min(NUM_LAGS, best + GUARD + 1)))
    top = float(curve[best])
    return Offset(best - MAX_LAG + fraction, top, float(top - in_sync), float(top - far.max()))


def match_shape(curve: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Return how well the surroundings of each lag ``(L,)`` look like the top of another curve.

    Args:
        curve: The sharp curve of a clip ``(L,)``.
        shape: That of many clips ``(L,)``, which is smooth.
    """
    top = int(shape.argmax())
    shape, curve = shape - shape.mean(), curve - curve.mean()
    found = np.zeros(NUM_LAGS)
    for lag in range(NUM_LAGS):
        low, high = max(-REACH, -lag, -top), min(REACH + 1, NUM_LAGS - lag, NUM_LAGS - top)
        wanted = shape[top + low : top + high]
        scale = np.sqrt(np.square(wanted).sum() * np.square(curve).sum())
        found[lag] = curve[lag + low : lag + high] @ wanted / scale if scale > 1e-9 else 0.0
    return found


def find_ratio(table: np.ndarray) -> tuple[float, float]:
    """Return the ratio of speed that agrees best in a map ``(R, L)``, and how much better than ratio 1."""
    tops = table.max(axis=1)
    best = int(tops.argmax())
    return float(RATIOS[best]), float(tops[best] - tops[len(RATIOS) // 2])


def repeated_share(frames: np.ndarray) -> tuple[float, int]:
    """Return the share of frames ``(T, H, W)`` equal to the one before, and the longest run of equal frames."""
    if len(frames) < 2:
        return 0.0, len(frames)
    same = np.array([np.array_equal(a, b) for a, b in zip(frames[1:], frames, strict=False)])
    longest = run = 1
    for equal in same:
        run = run + 1 if equal else 1
        longest = max(longest, run)
    return float(same.mean()), longest


def near_repeats(frames: np.ndarray) -> int:
    """Return how many frames ``(T, H, W)`` differ much less from the one before than their neighbours do from theirs.

    A repeated frame comes out of lossy coding a little different; a face that holds still does so for longer than a
    frame. One frame in six is found in clips of 25 frames a second that were made 30 and coded well.
    """
    change = np.array(
        [np.abs(np.subtract(b, a, dtype=np.int16)).mean() for a, b in zip(frames, frames[1:], strict=False)]
    )
    if len(change) < 3:
        return 0
    around = np.minimum(np.append(change[1:], np.inf), np.append(np.inf, change[:-1]))
    return int(np.count_nonzero(change < DIP * around))
