# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_av.data.av_clock import AVClock, exact_fps, resample_frames
from espnet_av.utils.errors import DataError, UsageError


def test_samples_per_frame():
    assert AVClock().samples_per_frame == 640
    assert AVClock(48000, 30).samples_per_frame == 1600
    with pytest.raises(UsageError, match="frames_to_samples"):
        _ = AVClock(16000, 30).samples_per_frame
    with pytest.raises(UsageError):
        AVClock(0, 25)


def test_rates_near_a_thousandth_are_meant_exactly():
    assert exact_fps(29.97) == Fraction(30000, 1001)
    assert exact_fps(23.976) == Fraction(24000, 1001)
    assert exact_fps(25.0) == 25
    assert exact_fps(12.5) == Fraction(25, 2)
    assert exact_fps(29.9) == Fraction(299, 10)


@given(
    rate=st.sampled_from([8000, 16000, 22050, 44100, 48000]),
    fps=st.sampled_from([25, 30, 29.97, 23.976, 50]),
    count=st.integers(0, 100000),
)
@settings(max_examples=200, deadline=None)
def test_frames_and_samples_agree(rate, fps, count):
    clock = AVClock(rate, fps)
    samples = clock.frames_to_samples(count)
    assert samples == int(count * clock.ratio)
    assert clock.samples_to_frames(samples) in (count, count - 1 if clock.ratio.denominator > 1 else count)
    assert clock.samples_to_frames(-(-count * clock.ratio.numerator // clock.ratio.denominator)) == count
    assert abs(clock.drift_frames(samples, count)) < 1 / clock.ratio + 1e-9


@given(num_samples=st.integers(0, 5000), num_frames=st.integers(0, 8))
@settings(max_examples=100, deadline=None)
def test_fit_audio_moves_only_the_end(num_samples, num_frames):
    wave = np.arange(1, num_samples + 1, dtype=np.float32)
    fitted = AVClock().fit_audio(wave, num_frames)
    kept = min(num_samples, 640 * num_frames)
    assert fitted.shape == (640 * num_frames,) and fitted.dtype == wave.dtype
    assert np.array_equal(fitted[:kept], wave[:kept]) and not fitted[kept:].any()


def test_fit_audio_keeps_channels():
    assert AVClock().fit_audio(np.ones((10, 2)), 1).shape == (640, 2)


def test_segment_cuts_both_at_the_same_frame(stamped):
    wave, video = stamped.clicks(30), stamped.frames(30)
    cut_wave, cut_video = AVClock().segment(wave, video, 12, 5)
    frames, clicks = stamped.stamps_of(cut_wave, cut_video)
    assert frames.tolist() == clicks.tolist() == [12, 13, 14, 15, 16]


def test_segment_pads_short_audio_at_its_end(stamped):
    cut_wave, _ = AVClock().segment(stamped.clicks(10, extra=-700), stamped.frames(10), 8, 2)
    assert len(cut_wave) == 1280 and cut_wave[0] == np.float32(9 / 1000) and not cut_wave[580:].any()
    with pytest.raises(UsageError, match="outside"):
        AVClock().segment(stamped.clicks(10), stamped.frames(10), 8, 3)


def test_resample_picks_the_nearest_frame():
    frames = np.arange(60)
    assert resample_frames(frames, 50, 25).tolist() == list(range(0, 60, 2))
    assert resample_frames(frames[:4], 12.5, 25).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]  # ties go to the earlier frame
    assert resample_frames(frames[:30], 30, 25).tolist()[:7] == [0, 1, 2, 4, 5, 6, 7]
    assert resample_frames(frames[:30], 25, 25).tolist() == list(range(30))


@given(source=st.sampled_from([12.5, 15, 23.976, 24, 29.97, 30, 50, 60]), count=st.integers(1, 200))
@settings(max_examples=100, deadline=None)
def test_resample_keeps_the_duration_and_never_strays(source, count):
    fps = 25
    picked = resample_frames(np.arange(count), source, fps)
    rate = float(exact_fps(source))
    assert len(picked) == max(1, int(count / exact_fps(source) * fps + Fraction(1, 2)))
    ticks = np.minimum(np.arange(len(picked)) / fps, (count - 1) / rate)
    assert np.all(np.abs(picked / rate - ticks) <= 0.5 / rate + 1e-6)


def test_resample_by_uneven_times():
    times = np.array([0.0, 0.01, 0.08, 0.12])
    assert resample_frames(np.arange(4), 25, 25, times).tolist() == [0, 1, 2, 3]
    with pytest.raises(DataError, match="rising"):
        resample_frames(np.arange(3), 25, 25, np.array([0.0, 0.1, 0.1]))
    with pytest.raises(DataError, match="as many times"):
        resample_frames(np.arange(3), 25, 25, np.array([0.0, 0.1]))
