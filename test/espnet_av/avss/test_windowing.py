# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Windows of long recordings."""

import itertools
import math

import numpy as np
import pytest

from espnet_av.avss.windowing import WindowJoiner, WindowRules, plan_windows, seam_error, summarise_seams
from espnet_av.utils.errors import UsageError


def random_plans(count=400):
    rng = np.random.default_rng(0)
    for _ in range(count):
        window = rng.uniform(0.12, 5)
        overlap = rng.uniform(0.01, window / 3)
        rules = WindowRules(window, overlap, rng.uniform(0, overlap / 3))
        yield rules, plan_windows(int(rng.integers(1, 400000)), rules), rng


def test_windows_cover_the_recording_on_video_frames():
    for rules, plan, _ in random_plans():
        first, last = plan.windows[0], plan.windows[-1]
        assert (first.start, last.end) == (0, plan.num_samples)
        assert all(w.start == 640 * w.first_frame and w.num_samples <= 640 * w.num_frames for w in plan.windows)
        assert last.num_samples > 640 * (last.num_frames - 1)  # as many lips as there is sound
        assert len({w.num_samples for w in plan.windows[:-1]}) <= 1  # so that they can be computed together
        assert max(w.num_frames for w in plan.windows) <= max(3, round(25 * rules.window_sec))


def test_fades_lie_in_the_overlaps_one_after_the_other():
    for rules, plan, _ in random_plans():
        before = 0
        for (a, b), (start, end) in zip(itertools.pairwise(plan.windows), plan.fades, strict=True):
            assert b.start <= start < end <= a.end
            assert start >= before
            margin = min(start - b.start, a.end - end)
            assert margin >= 640 * (round(25 * rules.margin_sec) - 1) or end - start == 640
            before = end


def test_what_is_cut_and_joined_is_the_same():
    for _, plan, rng in random_plans(100):
        wave = rng.standard_normal((2, plan.num_samples)).astype(np.float32)
        joiner = WindowJoiner(plan)
        joined = np.concatenate([joiner.add(wave[:, w.start : w.end]) for w in plan.windows], axis=1)
        assert np.abs(joined - wave).max() < 1e-6
        assert all((seam == -120).all() for seam in joiner.seams_db)


def test_one_window_fades_into_the_next():
    plan = plan_windows(9 * 16000, WindowRules())
    joiner = WindowJoiner(plan)
    values = [np.full((1, w.num_samples), float(k), np.float32) for k, w in enumerate(plan.windows)]
    joined = np.concatenate([joiner.add(value) for value in values], axis=1)[0]
    assert len(plan.windows) == 3
    assert (np.diff(joined) >= 0).all()
    ends = [0, *(edge for fade in plan.fades for edge in fade), plan.num_samples]
    for k in range(3):
        assert (joined[ends[2 * k] : ends[2 * k + 1]] == k).all()
    middle = sum(plan.fades[0]) // 2
    assert joined[middle] == pytest.approx(0.5, abs=1e-3)


def test_no_more_windows_than_needed():
    assert len(plan_windows(4 * 16000, WindowRules()).windows) == 1
    assert len(plan_windows(4 * 16000 + 1, WindowRules()).windows) == 2
    assert len(plan_windows(7 * 16000, WindowRules()).windows) == 2
    assert len(plan_windows(7 * 16000 + 1, WindowRules()).windows) == 3
    assert len(plan_windows(600 * 16000, WindowRules(math.inf)).windows) == 1


def test_voices_in_another_order_go_on_with_the_right_one():
    rng = np.random.default_rng(1)
    plan = plan_windows(12 * 16000, WindowRules())
    wave = rng.standard_normal((3, plan.num_samples)).astype(np.float32)
    orders = [np.arange(3)] + [rng.permutation(3) for _ in plan.windows[1:]]
    assert any((order != np.arange(3)).any() for order in orders)
    parts = [wave[order, w.start : w.end] for order, w in zip(orders, plan.windows, strict=True)]
    for align in (True, False):
        joiner = WindowJoiner(plan, align=align)
        joined = np.concatenate([joiner.add(part) for part in parts], axis=1)
        assert (np.abs(joined - wave).max() < 1e-6) == align


def test_seam_error_tells_the_disagreement():
    rng = np.random.default_rng(2)
    old = rng.standard_normal((3, 5000))
    old[2] = 0
    new = old + 0.1 * rng.standard_normal(old.shape) * [[1], [0], [0]]
    errors = seam_error(old, new)
    assert errors[0] == pytest.approx(-20, abs=0.5)
    assert errors[1] == -120
    assert np.isnan(errors[2])
    facts = summarise_seams([errors, np.array([-30.0, -40.0, np.nan])])
    assert facts["num_seams"] == 2
    assert facts["worst_seam_db"] == pytest.approx(errors[0], abs=0.01)
    assert summarise_seams([]) == {"num_seams": 0, "mean_seam_db": None, "worst_seam_db": None}


@pytest.mark.parametrize("lengths", [(0.0, 1.0, 0.2), (4.0, 2.0, 0.2), (4.0, 0.0, 0.0), (4.0, 1.0, 0.5), (4, 1, -1)])
def test_lengths_that_do_not_go_together(lengths):
    with pytest.raises(UsageError, match="out of range"):
        WindowRules(*lengths)
