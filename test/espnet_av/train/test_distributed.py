# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Leaving the group of processes at the end of a training."""

import pytest
import torch.distributed as dist

from espnet_av.train.distributed import leaving_processes
from espnet_av.train.signals import TrainingInterrupted


@pytest.fixture
def group(tmp_path):
    """A group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


def test_a_group_is_left_at_the_end(group):
    with leaving_processes():
        assert dist.is_initialized()
    assert not dist.is_initialized()


@pytest.mark.parametrize(
    ("ending", "left"), [(TrainingInterrupted(99), True), (SystemExit(2), False), (ValueError(), False)]
)
def test_only_a_stop_signal_ends_all_processes_alike(group, ending, left):
    with pytest.raises(type(ending)), leaving_processes():
        raise ending
    assert dist.is_initialized() != left


def test_one_process_has_no_group():
    with leaving_processes():
        pass
    assert not dist.is_initialized()
