# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Alignment of symbols with frames, against all paths and against torchaudio."""

import itertools

import pytest
import torch

from espnet_av.avgen.alignment import ctc_durations, maximum_path
from espnet_av.avgen.aux_data import scale_durations
from espnet_av.avgen.durations import duration_path, frame_counts, sequence_mask, total_frames
from espnet_av.utils.errors import DataError, UsageError


def test_best_of_all_monotonic_paths():
    torch.manual_seed(1)
    scores = torch.randn(3, 4, 7, dtype=torch.float64)
    path = maximum_path(scores, torch.tensor([4, 3, 1]), torch.tensor([7, 5, 6]))
    for row, (symbols, frames) in enumerate(((4, 7), (3, 5), (1, 6))):
        best = max(
            sum(float(scores[row, index, frame]) for frame, index in enumerate(steps))
            for steps in itertools.product(range(symbols), repeat=frames)
            if steps[0] == 0 and steps[-1] == symbols - 1 and all(b - a in (0, 1) for a, b in itertools.pairwise(steps))
        )
        assert float((path[row] * scores[row]).sum()) == pytest.approx(best)
        assert path[row].sum() == frames


def test_ctc_agrees_with_torchaudio():
    from torchaudio.functional import forced_align

    torch.manual_seed(0)
    for labels in ([3, 3, 5], [1], [2, 4, 2, 2, 7]):
        scores = torch.randn(1, 14, 9).log_softmax(-1)
        counts = ctc_durations(scores[0], torch.tensor(labels))
        aligned, _ = forced_align(scores, torch.tensor([labels], dtype=torch.int32))
        states = torch.arange(len(counts)).repeat_interleave(counts)
        spoken = torch.tensor([0, *itertools.chain(*((label, 0) for label in labels))])
        assert torch.equal(spoken[states], aligned[0].long())
        assert counts.sum() == 14 and (counts[1::2] > 0).all()


def test_too_little_sound_is_told():
    with pytest.raises(DataError, match="3 frames or more for 2 labels"):
        ctc_durations(torch.zeros(2, 5), torch.tensor([1, 1]))
    with pytest.raises(DataError, match="cannot be aligned"):
        maximum_path(torch.zeros(1, 3, 2), torch.tensor([3]), torch.tensor([2]))


def test_cumulative_rounding_keeps_the_length():
    log_durations = torch.log(torch.tensor([[[0.4, 2.5, 1.3, 0.2, 5.5]]]))
    mask = torch.tensor([[[1.0, 1, 1, 1, 0]]])
    counts = frame_counts(log_durations, mask, 1.5, "cumulative")
    assert counts.tolist() == [[[1.0, 3.0, 2.0, 1.0, 0.0]]] and int(total_frames(counts)) == 7  # 6.6
    assert int(total_frames(frame_counts(log_durations, mask))) == 1 + 3 + 2 + 1
    path = duration_path(counts.squeeze(1), mask.transpose(1, 2) * sequence_mask(torch.tensor([7])).unsqueeze(1))
    assert torch.equal(path.sum(-1), counts.squeeze(1)) and (path.sum(1) == 1).all()


def test_durations_at_another_rate():
    counts = torch.tensor([2, 0, 3, 1, 4])
    scaled = scale_durations(counts, 17)
    assert scaled.sum() == 17 and scaled[1] == 0 and (scaled - counts * 1.7).abs().max() <= 1


@pytest.mark.parametrize(("scale", "rounding"), [(0.0, "ceil"), (-1.0, "ceil"), (1.0, "floor")])
def test_wrong_settings(scale, rounding):
    with pytest.raises(UsageError):
        frame_counts(torch.zeros(1, 1, 2), torch.ones(1, 1, 2), scale, rounding)
