# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""One clock for audio and video: every cut, pad and change of frame rate goes through this module.

Rounding rules (exact, in rational numbers, never in floats):

* Frame ``k`` covers the samples from ``floor(k * sample_rate / fps)`` up to the first sample of frame ``k + 1``.
  At 16 kHz and 25 fps this is ``640 * k``.
* A waveform of ``n`` samples holds ``floor(n * fps / sample_rate)`` whole frames.
* Audio is cut or zero-padded **at the end** to the samples of a whole number of frames. The start never moves.
* A new frame rate takes, for every tick ``k / fps``, the source frame that is nearest in time (the earlier of two
  equally near ones). The clip keeps its duration, rounded to the nearest frame (halves up), at least one frame.

Axis legend: ``N`` audio samples, ``T`` video frames, ``H`` x ``W`` pixels, ``C`` channels.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from espnet_av.utils.errors import DataError, UsageError, describe

DEFAULT_SAMPLE_RATE = 16000
DEFAULT_FPS = 25


@dataclass(frozen=True)
class AVClock:
    """Sample rate and frame rate of one corpus, and the arithmetic between them.

    Args:
        sample_rate: Audio samples per second (Hz).
        fps: Video frames per second; a fraction such as ``Fraction(30000, 1001)`` is exact.
    """

    sample_rate: int = DEFAULT_SAMPLE_RATE
    fps: float | Fraction = DEFAULT_FPS

    def __post_init__(self) -> None:
        if self.sample_rate <= 0 or self.fps <= 0:
            raise UsageError(describe("sample rate and frame rate must be above 0", (self.sample_rate, self.fps)))

    @property
    def ratio(self) -> Fraction:
        """Samples per frame as an exact fraction."""
        return Fraction(self.sample_rate) / exact_fps(self.fps)

    @property
    def samples_per_frame(self) -> int:
        """Samples per frame where this is a whole number (640 at 16 kHz and 25 fps).

        Raises:
            UsageError: If it is not whole; use :meth:`frames_to_samples` then.
        """
        if self.ratio.denominator != 1:
            raise UsageError(
                describe(
                    f"{self.sample_rate} Hz is no whole number of samples per frame at {self.fps} fps",
                    got=float(self.ratio),
                    fix="use frames_to_samples(), or another sample rate",
                )
            )
        return int(self.ratio)

    def frames_to_samples(self, num_frames: int) -> int:
        """Return the first sample of frame ``num_frames``, which is also the length of that many frames."""
        return num_frames * self.ratio.numerator // self.ratio.denominator

    def samples_to_frames(self, num_samples: int) -> int:
        """Return the number of whole frames in ``num_samples`` samples."""
        return num_samples * self.ratio.denominator // self.ratio.numerator

    def drift_frames(self, num_samples: int, num_frames: int) -> float:
        """Return how much longer the audio is than the video, in frames (negative: audio is shorter)."""
        return float(num_samples / self.ratio - num_frames)

    def fit_audio(self, wave: np.ndarray, num_frames: int) -> np.ndarray:
        """Cut or zero-pad a waveform at its end to the length of ``num_frames`` video frames.

        Args:
            wave: Samples ``(N,)`` or ``(N, C)``.
            num_frames: Video frames to cover.

        Returns:
            ``(frames_to_samples(num_frames), ...)``, same dtype. The input itself where the length is already right.
        """
        target = self.frames_to_samples(num_frames)
        if len(wave) >= target:
            return wave[:target]
        padding = [(0, target - len(wave))] + [(0, 0)] * (wave.ndim - 1)
        return np.pad(wave, padding)

    def segment(
        self, wave: np.ndarray, video: np.ndarray, start_frame: int, num_frames: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cut the same stretch of time out of audio and video.

        Args:
            wave: Samples ``(N,)`` or ``(N, C)``; zero-padded at the end where it is shorter than the video.
            video: Frames ``(T, ...)``.
            start_frame: First frame of the stretch.
            num_frames: Frames of the stretch.

        Returns:
            ``(samples of these frames, video[start_frame : start_frame + num_frames])``.

        Raises:
            UsageError: If the stretch leaves the video.
        """
        if start_frame < 0 or num_frames < 1 or start_frame + num_frames > len(video):
            raise UsageError(
                describe(
                    "segment outside the video",
                    got=f"frames {start_frame} to {start_frame + num_frames}",
                    allowed=f"0 to {len(video)}",
                )
            )
        end_frame = start_frame + num_frames
        first, last = self.frames_to_samples(start_frame), self.frames_to_samples(end_frame)
        cut = wave[first:last]
        if len(cut) < last - first:
            cut = np.pad(cut, [(0, last - first - len(cut))] + [(0, 0)] * (wave.ndim - 1))
        return cut, video[start_frame:end_frame]

    def resample_indices(self, times_sec: np.ndarray, duration_sec: float) -> np.ndarray:
        """Return the source frame that is shown at each tick of this clock.

        Args:
            times_sec: Start of every source frame ``(T,)``, rising, seconds from the first frame.
            duration_sec: Length of the clip, from the first frame to the end of the last one.

        Returns:
            ``(T',)`` int64 indices into the source frames, ``T' = max(1, floor(duration_sec * fps + 1/2))``.

        Raises:
            DataError: If there is no frame or the times do not rise.
        """
        times = np.asarray(times_sec, dtype=np.float64)
        if len(times) == 0 or np.any(np.diff(times) <= 0):
            raise DataError(describe("frame times must be rising and not empty", got=times[:5].tolist()))
        fps = float(exact_fps(self.fps))
        # 1e-6 frames: half a frame counts up whatever the last bit of the duration says
        ticks = np.arange(max(1, int(np.floor(duration_sec * fps + 0.5 + 1e-6)))) / fps
        right = np.clip(np.searchsorted(times, ticks, side="left"), 0, len(times) - 1)
        left = np.maximum(right - 1, 0)
        # 1e-9 s: a tick in the exact middle goes to the earlier frame whatever the last bit of the times says
        nearer_right = times[right] - ticks + 1e-9 < ticks - times[left]
        past_last = ticks >= times[right]
        return np.where(nearer_right | past_last, right, left).astype(np.int64)


def exact_fps(fps: float | Fraction) -> Fraction:
    """Turn a frame rate into a fraction, with 29.97 and its kin meant as N * 1000 / 1001.

    >>> exact_fps(29.97)
    Fraction(30000, 1001)
    """
    if isinstance(fps, (int, Fraction)):
        return Fraction(fps)
    whole = round(fps * 1.001)
    if abs(fps - round(fps)) > 1e-6 and abs(whole * 1000 / 1001 - fps) < 5e-3:
        return Fraction(whole * 1000, 1001)
    return Fraction(fps).limit_denominator(10000)


def resample_frames(
    frames: np.ndarray, source_fps: float, fps: float = DEFAULT_FPS, times_sec: np.ndarray | None = None
) -> np.ndarray:
    """Bring a clip to another frame rate by picking, at each tick, the frame that is nearest in time.

    Args:
        frames: ``(T, ...)``.
        source_fps: Frame rate of ``frames``.
        fps: Wanted frame rate.
        times_sec: Start of every frame ``(T,)`` in seconds where the spacing is uneven.

    Returns:
        ``(T', ...)`` with ``T' = max(1, floor(T / source_fps * fps + 1/2))`` for even spacing.
    """
    step = 1.0 / float(exact_fps(source_fps))
    times = np.arange(len(frames)) * step if times_sec is None else np.asarray(times_sec, np.float64)
    if len(times) != len(frames):
        raise DataError(describe("as many times as frames are needed", got=(len(times), len(frames))))
    duration = float(times[-1] - times[0]) + step if len(times) else 0.0
    return frames[AVClock(fps=fps).resample_indices(times - times[:1].sum(), duration)]
