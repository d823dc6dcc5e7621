# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Streams mixed out of several sources: shares, coverage, order, parts, and exact resumption."""

import json
from collections import Counter
from itertools import islice

import pytest

from espnet_av.data.mix import MixedStream
from espnet_av.utils.errors import CheckpointError, DataError, UsageError


class Lists:
    """A source of names in memory: shards of given sizes."""

    def __init__(self, prefix, *sizes):
        numbers = iter(range(sum(sizes)))
        self.contents = [[f"{prefix}{next(numbers)}" for _ in range(size)] for size in sizes]
        self.shards = [f"{prefix}-{number}.tar" for number in range(len(sizes))]
        self.num_read = 0

    def read_shard(self, index, position=0):
        for number, name in enumerate(self.contents[index][position:], position + 1):
            self.num_read += 1
            yield name, number


def three(**options):
    sources = {"a": Lists("a", 5, 4, 3), "b": Lists("b", 6), "c": Lists("c", 2, 2)}
    return MixedStream(sources, {"a": 0.5, "b": 0.3, "c": 0.2}, **options)


def samples(stream, count=None):
    return [item.sample for item in islice(stream, count)]


@pytest.mark.parametrize(
    ("stop", "expected"),
    [  # what interleave_datasets of the package "datasets" gives for seed 11
        ("all_exhausted", "a0 b0 c0 a1 a2 c1 a3 a4 c2 c3 b1 c0 c1 a0 a1 c2 c3 c0 c1 c2 c3 a2 c0 b2"),
        ("first_exhausted", "a0 b0 c0 a1 a2 c1 a3 a4"),
    ],
)
def test_legacy_order_is_that_of_datasets(stop, expected):
    sources = {"a": Lists("a", 5), "b": Lists("b", 2, 1), "c": Lists("c", 4)}
    probabilities = {"a": 0.3, "b": 0.2, "c": 0.5}
    assert samples(MixedStream(sources, probabilities, seed=11, stop=stop, legacy=True)) == expected.split()


def test_every_sample_comes_and_the_end_comes():
    stream = three(shuffle_buffer=4)
    found = samples(stream)
    assert set(found) == {f"a{n}" for n in range(12)} | {f"b{n}" for n in range(6)} | {f"c{n}" for n in range(4)}
    assert samples(stream) == []
    assert found != samples(three(shuffle_buffer=4, seed=12))
    assert found == samples(three(shuffle_buffer=4))


def test_shares_are_the_probabilities():
    counts = Counter(item.source for item in islice(three(stop="never"), 6000))
    assert counts["a"] / 6000 == pytest.approx(0.5, abs=0.02)
    assert counts["b"] / 6000 == pytest.approx(0.3, abs=0.02)


def test_passes_are_counted_and_each_holds_every_sample_in_another_order():
    stream = MixedStream({"a": Lists("a", *[1] * 8)}, stop="never", shuffle_buffer=1)
    items = list(islice(stream, 24))
    assert [item.pass_number for item in items] == [1] * 8 + [2] * 8 + [3] * 8
    passes = [[item.sample for item in items[start : start + 8]] for start in (0, 8, 16)]
    assert all(sorted(each) == sorted(passes[0]) for each in passes)
    assert passes[0] != passes[1] != passes[2]


@pytest.mark.parametrize(("world_size", "num_workers"), [(1, 3), (2, 1), (2, 2)])
def test_parts_share_the_samples(world_size, num_workers):
    sources = {"many": Lists("m", *[3] * 7), "one": Lists("o", 9)}
    found = {name: [] for name in sources}
    for rank in range(world_size):
        for worker in range(num_workers):
            part = {"rank": rank, "world_size": world_size, "worker": worker, "num_workers": num_workers}
            for item in MixedStream(sources, shuffle_buffer=5, **part):
                if item.pass_number == 1:
                    found[item.source].append(item.sample)
    assert sorted(found["many"]) == sorted(f"m{n}" for n in range(21))
    assert sorted(found["one"]) == sorted(f"o{n}" for n in range(9))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("stop", ["all_exhausted", "never"])
@pytest.mark.parametrize("buffer", [1, 7, 50])
def test_resumes_exactly_after_any_sample(legacy, stop, buffer):
    options = {"legacy": legacy, "stop": stop, "shuffle_buffer": buffer}
    whole = list(islice(three(**options), 40))
    for taken in range(0, len(whole) + 1, 3):
        first = three(**options)
        begin = [item for _, item in zip(range(taken), first, strict=False)]
        state = json.loads(json.dumps(first.state_dict()))
        second = three(**options)
        second.load_state_dict(state)
        assert begin + list(islice(second, 40 - taken)) == whole
        assert begin + list(islice(first, 40 - taken)) == whole  # going on is the same as resuming


def test_resuming_reads_one_block_again_and_nothing_before():
    first = MixedStream({"a": Lists("a", 100, 100)}, shuffle_buffer=10, stop="never")
    samples(first, 155)
    source = Lists("a", 100, 100)
    second = MixedStream({"a": source}, shuffle_buffer=10, stop="never")
    second.load_state_dict(first.state_dict())
    samples(second, 1)
    assert source.num_read <= 11


def test_state_of_another_stream_is_refused():
    state = three().state_dict()
    with pytest.raises(CheckpointError, match=r"'seed': \(11, 12\)"):
        three(seed=12).load_state_dict(state)
    with pytest.raises(CheckpointError, match="num_parts"):
        three(num_workers=2).load_state_dict(state)


def test_shuffling_is_local_and_complete():
    stream = MixedStream({"a": Lists("a", 1000)}, shuffle_buffer=100)
    order = [int(name[1:]) for name in samples(stream)]
    assert sorted(order) == list(range(1000))
    assert all(abs(place - number) < 100 for place, number in enumerate(order))
    assert sum(place == number for place, number in enumerate(order)) < 50


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"stop": "soon"}, "all_exhausted"),
        ({"probabilities": {"a": 1}}, "one probability per source"),
        ({"probabilities": {"a": 1, "b": 0, "c": 1}}, "above 0"),
        ({"rank": 1}, "no such part"),
    ],
)
def test_wrong_options(options, match):
    sources = {"a": Lists("a", 1), "b": Lists("b", 1), "c": Lists("c", 1)}
    with pytest.raises(UsageError, match=match):
        MixedStream(sources, **options)
    with pytest.raises(UsageError, match="at least one source"):
        MixedStream({})


def test_empty_source_is_an_error_and_no_endless_loop():
    with pytest.raises(DataError, match="source 'a' has no sample"):
        samples(MixedStream({"a": Lists("a", 0), "b": Lists("b", 3)}))
