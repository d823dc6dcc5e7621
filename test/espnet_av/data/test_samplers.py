# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_av.data.samplers import POOL_SIZES, BucketBatchSampler
from espnet_av.utils.errors import DataError, UsageError


def lengths_of(values):
    return {f"u{number:05d}": int(value) for number, value in enumerate(values)}


def mini_like():
    return lengths_of(np.random.default_rng(0).integers(37, 101, 600))  # 1.5 to 4 s


def log_normal():
    seconds = np.clip(np.exp(np.random.default_rng(0).normal(np.log(4), 0.7, 3000)), 1, 15)
    return lengths_of(np.round(seconds * 25))


@pytest.mark.parametrize("make", [mini_like, log_normal])
@pytest.mark.parametrize("limits", [{"batch_size": 6}, {"batch_size": 16}, {"batch_frames": 1600}])
def test_padding_stays_under_5_percent(make, limits):
    lengths = make()
    sampler = BucketBatchSampler(lengths, **limits)
    plain = BucketBatchSampler(lengths, sort=False, **limits)
    for epoch in (1, 2):
        assert sampler.padding_share(sampler.batches(epoch)) < 0.05
        assert plain.padding_share(plain.batches(epoch)) > 0.2
    assert sampler.padding_share(sampler.batches(1, shuffle=False)) < 0.05


@given(
    values=st.lists(st.integers(1, 400), min_size=4, max_size=120),
    batch_size=st.one_of(st.none(), st.integers(4, 20)),
    batch_frames=st.one_of(st.none(), st.integers(1600, 4000)),
    ranks=st.integers(1, 4),
    shuffle=st.booleans(),
    pool=st.integers(1, 5),
    epoch=st.integers(0, 3),
)
@settings(max_examples=300, deadline=None)
def test_every_utterance_once_within_the_limits(values, batch_size, batch_frames, ranks, shuffle, pool, epoch):
    if batch_size is None and batch_frames is None:
        batch_size = 4
    lengths = lengths_of(values)
    sampler = BucketBatchSampler(
        lengths, batch_frames, batch_size, shuffle=shuffle, min_batch_size=ranks, pool_batches=pool
    )
    batches = sampler.batches(epoch)
    assert sorted(uid for batch in batches for uid in batch) == sorted(lengths)
    assert sampler.batches(epoch) == batches
    for batch in batches:
        assert len(batch) >= ranks
        if len(batch) >= 2 * ranks or ranks == 1:
            assert batch_size is None or len(batch) <= batch_size
            frames = len(batch) * max(lengths[uid] for uid in batch)
            assert batch_frames is None or frames <= batch_frames


def test_batches_depend_on_seed_and_epoch_only():
    sampler = BucketBatchSampler(mini_like(), batch_size=8, seed=1)
    first, second = sampler.batches(1), sampler.batches(2)
    assert first != second and sampler.batches(1) == first
    assert BucketBatchSampler(mini_like(), batch_size=8, seed=2).batches(1) != first
    assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in second}  # other partners, too
    fixed = BucketBatchSampler(mini_like(), batch_size=8, seed=1, shuffle=False)
    assert fixed.batches(1) == fixed.batches(2) == sampler.batches(7, shuffle=False)
    assert len(fixed.batches(1)[0]) == 8 and fixed.lengths[fixed.batches(1)[0][0]] == max(fixed.lengths.values())


def test_another_process_makes_the_same_batches():
    code = (
        "from espnet_av.data.samplers import BucketBatchSampler as B;"
        "import sys; sys.stdout.write(repr(B({f'u{n}': n % 50 + 1 for n in range(300)}, 400, seed=5).batches(3)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == repr(BucketBatchSampler({f"u{n}": n % 50 + 1 for n in range(300)}, 400, seed=5).batches(3))


def test_order_without_sorting():
    sampler = BucketBatchSampler({"b": 5, "a": 50, "c": 7}, batch_size=2, sort=False, shuffle=False)
    assert sampler.batches(0) == [["b", "a"], ["c"]]


def test_wrong_use():
    with pytest.raises(UsageError, match="needs a limit"):
        BucketBatchSampler({"a": 1})
    with pytest.raises(UsageError, match="number of ranks"):
        BucketBatchSampler({"a": 1, "b": 1}, batch_size=1, min_batch_size=2)
    with pytest.raises(UsageError, match="batch_frames"):
        BucketBatchSampler({"a": 1}, batch_frames=0)
    with pytest.raises(DataError, match="no utterances"):
        BucketBatchSampler({}, batch_size=1)
    with pytest.raises(DataError, match="'a' has 0 frames"):
        BucketBatchSampler({"a": 0}, batch_size=1)
    with pytest.raises(DataError, match="fewer utterances than ranks"):
        BucketBatchSampler({"a": 1}, batch_size=4, min_batch_size=2)
    with pytest.raises(DataError, match=r"'b' of 400 frames.*batch_frames 300.*at least 400"):
        BucketBatchSampler({"a": 10, "b": 400}, batch_frames=300)
    with pytest.raises(DataError, match=r"at least 2 utterances.*at least 800"):
        BucketBatchSampler({"a": 10, "b": 400}, batch_frames=700, min_batch_size=2)


def test_pools_are_as_small_as_padding_allows():
    equal = BucketBatchSampler({f"u{k}": 75 for k in range(600)}, batch_size=6)
    assert equal.pool_batches == POOL_SIZES[0]
    rng = np.random.default_rng(3)
    lengths = {f"u{k}": int(n) for k, n in enumerate(rng.integers(50, 100, 3000))}
    sampler = BucketBatchSampler(lengths, batch_size=6)
    share = sampler.padding_share(sampler.batches(1))
    smaller = BucketBatchSampler(lengths, batch_size=6, pool_batches=sampler.pool_batches // 2)
    assert sampler.pool_batches in POOL_SIZES[1:-1]
    assert share < 0.04 < smaller.padding_share(smaller.batches(0))
    strict = BucketBatchSampler(lengths, batch_size=6, max_padding=0.0)
    assert strict.pool_batches == POOL_SIZES[-1]
