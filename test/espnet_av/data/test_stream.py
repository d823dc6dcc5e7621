# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Batches out of streams: the same with any number of workers, limits kept, bad clips left out, exact resumption."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from espnet_av.data.collate import AVCollate
from espnet_av.data.stream import BatchStream, StreamFactory, StreamPlan
from espnet_av.utils.errors import CheckpointError, DataError, UsageError


@dataclass(frozen=True)
class Sample:
    sample_id: str
    length: int
    label: str = "BIN"
    video: bytes = b""


class Memory:
    """A source of samples with lengths of 10 to 40 frames in two shards."""

    def __init__(self, prefix, count, **samples):
        made = [Sample(f"{prefix}{n}", 10 + n * 7 % 31, **samples) for n in range(count)]
        self.contents = [made[: count // 2], made[count // 2 :]]
        self.shards = ["0.tar", "1.tar"]

    def read_shard(self, index, position=0):
        for number, sample in enumerate(self.contents[index][position:], position + 1):
            yield sample, number


def decode(sample):
    if "bad" in sample.sample_id:
        raise DataError("damaged")
    return np.ones(640 * sample.length, np.float32), np.zeros((sample.length, 2, 2), np.uint8)


def preprocess(uid, data, rng):
    return {"speech": data["speech"][:4] * rng.random(), "video": data["video"], "text": np.array([1])}


def plan(**options):
    sources = options.pop("sources", None) or {"a": Memory("a", 40), "b": Memory("b", 30)}
    return StreamPlan(sources, decode, **{"shuffle_buffer": 8, "pool_batches": 3, "num_streams": 2, **options})


def factory(num_iters=12, plan_options=None, **options):
    return StreamFactory(plan(**(plan_options or {})), preprocess, num_iters, **{"batch_size": 4, **options})


def seen(batches):
    return [(names, batch["speech"].tolist(), batch["video_lengths"].tolist()) for names, batch in batches]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_the_batches(workers):
    assert seen(factory().build_iter(1)) == seen(factory(num_workers=workers).build_iter(1))


def test_epochs_go_on_in_the_stream():
    one = factory(num_iters=6)
    two = seen(one.build_iter(1)) + seen(one.build_iter(2))
    assert two == seen(factory(num_iters=12).build_iter(1))
    assert one.num_batches(1) == 6


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("legacy", [False, True])
def test_resumes_exactly_at_every_batch(workers, legacy):
    options = {"plan_options": {"legacy": legacy}, "batch_size": 3}
    whole = seen(factory(**options).build_iter(1))
    for taken in range(13) if workers == 0 else (5,):
        first = factory(**options, num_workers=workers)
        begin = [batch for _, batch in zip(range(taken), first.build_iter(1), strict=False)]
        state = json.loads(json.dumps(first.state_dict()))
        second = factory(**options, num_workers=workers)
        second.load_state_dict(state)
        assert seen(begin) + seen(second.build_iter(1, start_batch=taken)) == whole


def test_building_and_iterating_draws_nothing_from_the_global_generators():
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    list(factory(num_workers=1).build_iter(1))
    assert torch.equal(torch.rand(1), wanted)


def test_batches_keep_their_limits_and_have_little_padding():
    plan_options = {"pool_batches": 10, "num_streams": 1, "max_frames": 30}
    used = padded = 0
    for names, batch in factory(30, plan_options, batch_frames=100, batch_size=None).build_iter(1):
        lengths = batch["video_lengths"]
        assert len(names) * int(lengths.max()) <= 100 and int(lengths.max()) <= 30
        used, padded = used + int(lengths.sum()), padded + len(names) * int(lengths.max())
    assert used / padded > 0.85


def test_ranks_take_different_clips_and_share_the_limits():
    ranks = [factory(4, batch_size=4, rank=rank, world_size=2) for rank in range(2)]
    names = [[name for batch in each.build_iter(1) for name in batch[0]] for each in ranks]
    assert len(names[0]) == len(names[1]) == 8
    assert not set(names[0]) & set(names[1])


def test_the_same_clip_differs_from_pass_to_pass():
    source = {"a": Memory("a", 4)}
    found = {}
    for names, batch in factory(8, {"sources": source, "num_streams": 1}).build_iter(1):
        for name, speech in zip(names, batch["speech"].tolist(), strict=True):
            found.setdefault(name, set()).add(speech[0])
    assert all(len(values) >= 6 for values in found.values())


def test_bad_clips_are_left_out_and_too_many_are_an_error(caplog):
    good = {"a": Memory("a", 200), "b": Memory("bad", 4)}
    names = [name for batch in factory(20, {"sources": good, "probabilities": {"a": 0.95, "b": 0.05}}).build_iter(1)
             for name in batch[0]]  # fmt: skip
    assert names and not any("bad" in name for name in names)
    assert "left out b-bad" in caplog.text and "damaged" in caplog.text
    with pytest.raises(DataError, match="clips cannot be used"):
        list(factory(20, {"sources": {"a": Memory("a", 20), "b": Memory("bad", 40)}}).build_iter(1))
    with pytest.raises(DataError, match="no transcript"):
        list(factory(20, {"sources": {"a": Memory("a", 20, label=" ")}}).build_iter(1))


def test_unusable_lengths_do_not_loop_for_ever():
    stream = BatchStream(plan(max_frames=5, min_frames=1), None, AVCollate(), batch_frames=None, batch_size=2)
    with pytest.raises(DataError, match="none of 1000 clips"):
        stream.next()


def test_state_of_other_streams_is_refused():
    one = factory()
    with pytest.raises(CheckpointError, match="num_streams: 2"):
        factory(plan_options={"num_streams": 1}).load_state_dict(one.state_dict())


def test_lost_place_is_said(caplog):
    assert len(list(factory().build_iter(2, start_batch=3))) == 9
    assert "the place in the stream after batch 15 is not known" in caplog.text


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_iters": None}, "--num_iters_per_epoch"),
        ({"batch_size": None}, "--batch_frames"),
        ({"num_workers": 3}, "a divisor of 2"),
    ],
)
def test_wrong_options(options, match):
    with pytest.raises(UsageError, match=match):
        factory(**options)
