# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Offset and drift of sound against lips."""

import numpy as np
import pytest
from doctor_plants import clip, faster, later

from espnet_av.data.doctor.findings import Limits
from espnet_av.data.doctor.lips import MIDDLE, describe_group, judge_clip, judge_group, shape_of
from espnet_av.data.doctor.sync import (
    USUAL_SHAPE,
    find_offset,
    find_ratio,
    lag_map,
    mouth_curves,
    near_repeats,
    repeated_share,
    sharp_curve,
    shrink,
    sound_envelope,
)


def compare(pair):
    wave, mouth = pair
    curves = (*mouth_curves(mouth), sound_envelope(wave, len(mouth), 640))
    return lag_map(*curves), sharp_curve(*curves)


def judged(pair, shape=USUAL_SHAPE):
    lags, sharp = compare(pair)
    return dict(judge_clip(lags, sharp, shape, len(pair[1]) / 25, Limits()))


@pytest.mark.parametrize("frames", [-7, -3, 0, 3, 6])
def test_a_planted_offset_is_found(frames):
    named = []
    for seed in range(4):
        pair = later(clip(seed, 6.0), frames)
        assert find_offset(compare(pair)[0][MIDDLE]).frames == pytest.approx(frames, abs=1.0)
        named += [detail for kind, detail in judged(pair).items() if kind == "av_offset"]
    assert len(named) >= 3 if frames else not named
    assert all(f"{'after' if frames > 0 else 'before'} the lips" in detail for detail in named)


@pytest.mark.parametrize(("ratio", "expected"), [(1.042, 1.042), (0.96, 0.96), (1.0, 1.0)])
def test_a_planted_drift_is_found(ratio, expected):
    pair = faster(clip(3, 12.0), ratio)
    assert find_ratio(compare(pair)[0])[0] == pytest.approx(expected, abs=0.008)
    assert set(judged(pair)) == ({"av_drift"} if ratio != 1.0 else set())


def test_many_clips_tell_what_one_does_not():
    """The offset of a speaker comes out of clips that are full of noise."""
    rng = np.random.default_rng(0)
    tables = []
    for seed in range(12):
        wave, mouth = later(clip(seed), 2)
        noisy = np.clip(mouth + rng.normal(0, 60, mouth.shape), 0, 255).astype(np.uint8)
        tables.append(compare((wave, noisy))[0])
    group = describe_group(tables)
    assert group["offset_frames"] == pytest.approx(2.0, abs=0.5)
    assert dict(judge_group(group, 3.0, Limits())).keys() == {"av_offset"}
    assert describe_group(tables[:4]) is None
    assert np.array_equal(shape_of([]), USUAL_SHAPE)


def test_sound_of_somebody_else_is_no_offset():
    """Lips that go with another sound have no place where they fit."""
    others = [(clip(seed)[0], clip(seed + 50)[1]) for seed in range(8)]
    assert sum("av_offset" in judged(pair) for pair in others) <= 1


def test_repeated_frames_are_counted():
    frames = clip(4)[1]
    assert repeated_share(frames) == (0.0, 1)
    assert repeated_share(frames[np.arange(75) // 3 * 3]) == (pytest.approx(50 / 74), 3)
    assert repeated_share(frames[:1]) == (0.0, 1)


@pytest.mark.parametrize("shape", [(5, 96, 96), (5, 20, 31), (5, 288, 360)])
def test_pictures_of_any_size_are_made_small(shape):
    small = shrink(np.full(shape, 7, np.uint8))
    assert small.shape[0] == 5 and max(small.shape[1:]) <= 28 and (small == 7).all()


def test_repeats_that_coding_has_changed():
    """A repeated frame with a little noise counts; motion, a face that holds still, and a cut do not."""
    rng = np.random.default_rng(0)
    mouth = clip(4)[1].astype(np.int16)
    noise = rng.integers(-1, 2, (90, *mouth.shape[1:]))
    assert near_repeats((mouth + noise[:75]).clip(0, 255).astype(np.uint8)) == 0
    often = mouth[(np.arange(90) / 1.2).astype(int)]
    assert near_repeats((often + noise).clip(0, 255).astype(np.uint8)) == 15
    still = np.concatenate([mouth[:20], np.repeat(mouth[20:21], 30, axis=0), mouth[50:]])
    assert near_repeats((still + noise[:75]).clip(0, 255).astype(np.uint8)) == 0
    assert near_repeats(mouth[:2].astype(np.uint8)) == 0
