# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Training on shards through the task: it learns from them, and a cut training goes on as if nothing had happened."""

import copy
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import shard_data as made
from avsr_data import CONFIG, train_command

from espnet_av.bin import avsr_train
from espnet_av.data.stream_plan import write_stream_plan
from espnet_av.train.checkpoint import CheckpointStore
from espnet_av.utils.errors import UsageError


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    root = tmp_path_factory.mktemp("stream")
    shards = made.make_avyt(root / "shards", {"lrs2/train": (5, 4), "vox2/dev": (6,)})
    sources = {
        "lrs2": {"source": str(shards), "config": "lrs2", "split": "train"},
        "vox2": {"source": str(shards), "config": "vox2", "split": "dev"},
    }
    options = {"probabilities": {"lrs2": 0.6, "vox2": 0.4}, "shuffle_buffer": 6, "pool_batches": 2, "num_streams": 2}
    plan = write_stream_plan(root / "plan.yaml", sources, **options)
    config = {**copy.deepcopy(CONFIG), "num_iters_per_epoch": 4, "save_every_steps": 1}
    return [*train_command(root, root / "unused", config), "--train_stream", str(plan)]


def train(command, folder, *words):
    avsr_train.main([*command, "--output_dir", str(folder), *words])
    return CheckpointStore(folder).load()


def test_a_cut_training_goes_on_exactly(command, tmp_path):
    whole = train(command, tmp_path / "whole")
    assert whole["progress"]["step"] == 8 and whole["ranks"][0]["data"]["taken"] == 8
    for steps in (3, 5):  # in the middle of each epoch
        cut = train(command, tmp_path / "cut", "--max_steps", str(steps))
        assert cut["progress"]["step"] == steps
        assert cut["ranks"][0]["data"]["taken"] == steps
    end = train(command, tmp_path / "cut", "--num_workers", "2")
    assert end["ranks"][0]["data"] == whole["ranks"][0]["data"]
    assert all(torch.equal(end["model"][name], whole["model"][name]) for name in whole["model"])


def test_the_length_of_an_epoch_must_be_said(command, tmp_path):
    with pytest.raises(UsageError, match="--num_iters_per_epoch"):
        avsr_train.main([*command, "--output_dir", str(tmp_path), "--num_iters_per_epoch", "none"])
