# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Active speaker scores without a trained network: the lips move while there is sound.

A heuristic for when no Light-ASD weights are at hand. It knows nothing of what is said: a face that chews while
somebody else talks may pass as the talker. The scale is that of the default thresholds of segmentation: above 1.0
speech begins, below 0.8 it ends.
"""

import numpy as np

from espnet_av.data.face_tracks import FaceTrack
from espnet_av.utils.errors import usage_error

SAMPLES_PER_FRAME = 640
INNER_LIP_PAIRS = ((61, 67), (62, 66), (63, 65))
MOUTH_CORNERS = (60, 64)
EYE_CORNERS = (36, 45)
MIN_LEVEL_DB = -60.0  # of full scale; what is softer is silence in any recording
LIMIT = 3.0


class MouthMotionScorer:
    """Scores tracks by lip motion and sound level.

    The score is 1 where the weaker of two cues just passes, plus up to ``agreement`` where both rise and fall together:

    * motion: log2 of the local mean speed of lip opening and mouth width over ``motion_threshold``. On GRID (20 clips)
      95 % of the speaking frames are above the default and 95 % of the silent ones below;
    * sound: level in dB over a threshold between the soft and the loud parts of the track, per ``step_db``.

    Args:
        motion_threshold: Change within 80 ms in shares of the distance of the outer eye corners.
        window_sec: Time over which motion and level are looked at.
        step_db: Level over the threshold that counts as much as twice the motion.
        agreement: Weight of the correlation of both cues over ``agreement_sec``.
        agreement_sec: See ``agreement``.
        fps: Frames per second of the tracks.

    Raises:
        UsageError: A number that is not positive.
    """

    def __init__(
        self,
        *,
        motion_threshold: float = 0.009,
        window_sec: float = 0.6,
        step_db: float = 6.0,
        agreement: float = 0.3,
        agreement_sec: float = 2.0,
        fps: float = 25,
    ) -> None:
        numbers = (motion_threshold, window_sec, step_db, agreement_sec, fps)
        if min(numbers) <= 0 or agreement < 0:
            usage_error("settings of the lip motion must be above 0", got=(*numbers, agreement))
        self.motion_threshold = motion_threshold
        self.window = max(3, round(window_sec * fps) | 1)
        self.step_db = step_db
        self.agreement = agreement
        self.agreement_window = max(5, round(agreement_sec * fps) | 1)

    def score_track(self, track: FaceTrack, wave: np.ndarray) -> np.ndarray:
        """Score a track.

        Args:
            track: With landmarks.
            wave: ``(N,)`` sound of the track at 16 kHz, float in [-1, 1] or int16.

        Returns:
            ``(T,)`` float32.
        """
        moved = np.log2(np.maximum(lip_motion(track.landmarks, self.window), 1e-6) / self.motion_threshold)
        heard = self._sound(wave, track.num_frames)
        score = 1.0 + np.minimum(moved, heard)
        score += self.agreement * _correlation(moved, heard, self.agreement_window)
        return np.clip(score, -LIMIT, LIMIT).astype(np.float32)

    def _sound(self, wave: np.ndarray, num_frames: int) -> np.ndarray:
        level = _running_max(sound_level(wave, num_frames), self.window)
        soft, loud = np.percentile(level, [10, 95])
        threshold = max(MIN_LEVEL_DB, soft + 0.4 * (loud - soft) if loud - soft > 2 * self.step_db else loud - 20.0)
        return (level - threshold) / self.step_db


def lip_motion(landmarks: np.ndarray, window: int = 15) -> np.ndarray:
    """Return how fast the lips move: change within two frames, in shares of the distance of the outer eye corners.

    Speed tells speech from slow changes (a smile, a breath) better than the spread of the opening does.

    Args:
        landmarks: ``(T, 68, 2)``.
        window: Frames over which the mean is taken.

    Returns:
        ``(T,)`` float64.
    """
    points = np.asarray(landmarks, np.float64)
    eyes = np.maximum(np.linalg.norm(points[:, EYE_CORNERS[0]] - points[:, EYE_CORNERS[1]], axis=1), 1e-3)
    upper, lower = zip(*INNER_LIP_PAIRS, strict=True)
    opening = np.linalg.norm(points[:, list(upper)] - points[:, list(lower)], axis=2).mean(axis=1) / eyes
    width = np.linalg.norm(points[:, MOUTH_CORNERS[0]] - points[:, MOUTH_CORNERS[1]], axis=1) / eyes
    return _running_mean(_change(opening) + 0.5 * _change(width), window)


def _change(values: np.ndarray) -> np.ndarray:
    """Return the absolute change over two frames of a curve ``(T,)``, smoothed over three; 0 at its start."""
    smooth = _running_mean(values, 3)
    change = np.zeros(len(values))
    change[2:] = np.abs(smooth[2:] - smooth[:-2])
    return change


def sound_level(wave: np.ndarray, num_frames: int) -> np.ndarray:
    """Return the level of each video frame ``(T,)`` in dB of full scale, of a waveform ``(N,)``; -100 at most soft."""
    samples = np.asarray(wave)
    samples = samples / 32768.0 if samples.dtype == np.int16 else samples.astype(np.float64)
    wanted = num_frames * SAMPLES_PER_FRAME
    samples = np.pad(samples[:wanted], (0, max(0, wanted - len(samples))))
    power = np.square(samples.reshape(num_frames, SAMPLES_PER_FRAME)).mean(axis=1)
    return 10.0 * np.log10(np.maximum(power, 1e-10))


def _windows(values: np.ndarray, window: int) -> np.ndarray:
    """Return the window round each value ``(T, window)``; the ends are repeated."""
    padded = np.pad(values, window // 2, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, window)


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    return _windows(values, window).mean(axis=1)


def _running_max(values: np.ndarray, window: int) -> np.ndarray:
    """The loudest frame near: gaps between syllables are no silence."""
    return _windows(values, window).max(axis=1)


def _correlation(left: np.ndarray, right: np.ndarray, window: int) -> np.ndarray:
    """Return the correlation ``(T,)`` of two curves in a window round each frame; 0 where one of them is flat."""
    a, b = _windows(left, window), _windows(right, window)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    scale = np.sqrt(np.square(a).sum(axis=1) * np.square(b).sum(axis=1))
    return np.where(scale > 1e-9, (a * b).sum(axis=1) / np.maximum(scale, 1e-9), 0.0)
