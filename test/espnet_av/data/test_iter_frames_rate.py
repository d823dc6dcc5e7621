# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Frames of a clip one by one at another rate: the same frames as the whole clip brought to that rate."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from espnet_av.data.video_io import _nearest_in_time, iter_frames, read_video, write_video


@pytest.mark.parametrize("source", [10, 24, 25, 29.97, 50])
def test_the_same_frames_as_of_the_whole_clip(tmp_path, source):
    path = tmp_path / "clip.mp4"
    write_video(path, (np.full((16, 16), 5 * index, np.uint8) for index in range(45)), fps=source)
    whole = read_video(path, gray=True, fps=25, resample=True).frames
    streamed = np.stack(list(iter_frames(path, gray=True, fps=25)))
    np.testing.assert_array_equal(streamed, whole)
    assert abs(len(streamed) - 45 * 25 / source) <= 0.5
    assert len(list(iter_frames(path))) == 45


def test_bad_stamps_give_way_to_the_nominal_rate():
    stamps = [5.0, 5.04, None, 5.04, 5.16]
    picked = list(_nearest_in_time(zip(stamps, range(5), strict=True), 25.0, 25.0))
    assert picked == [0, 1, 2, 3, 4]


def test_frames_are_not_hoarded():
    endless = ((float(Fraction(index, 50)), index) for index in itertools.count())
    assert list(itertools.islice(_nearest_in_time(endless, 50.0, 25.0), 4)) == [0, 2, 4, 6]
