# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from espnet_av._espnet import AbsIterFactory
from espnet_av.data.collate import AVCollate
from espnet_av.data.dataset import AVDataset, AVIterableDataset
from espnet_av.data.iter_factory import AVIterFactory, refuse_chunk_iterators
from espnet_av.data.samplers import BucketBatchSampler
from espnet_av.data.segment import SegmentTransform
from espnet_av.utils.errors import DataError, UsageError


class Augment:
    """A random segment and noise, as a training preprocess would do."""

    def __init__(self, num_frames=15):
        self.segment = SegmentTransform(num_frames)

    def __call__(self, uid, data, rng):
        data = self.segment(uid, data, rng)
        data["noise"] = rng.standard_normal(4)
        return data


def streams(corpus):
    return corpus.path_name_type_list(["speech", "video"])


def build(corpus, preprocess=None, batch_size=3, seed=5, ranks=1, **options):
    dataset = AVDataset(streams(corpus), preprocess or Augment(), seed=seed)
    sampler = BucketBatchSampler(corpus.num_frames(), batch_size=batch_size, seed=seed, min_batch_size=ranks)
    return AVIterFactory(dataset, sampler, AVCollate(), seed=seed, world_size=ranks, **options)


def contents(loader):
    return [(uids, {name: value.clone() for name, value in batch.items()}) for uids, batch in loader]


def assert_equal(first, second):
    assert [uids for uids, _ in first] == [uids for uids, _ in second]
    for (_, one), (_, other) in zip(first, second, strict=True):
        assert list(one) == list(other)
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_items_do_not_depend_on_workers(corpus):
    alone = build(corpus)
    assert isinstance(alone, AbsIterFactory) and isinstance(alone.build_iter(1), DataLoader)
    with_workers = build(corpus, num_workers=2, prefetch_factor=1)
    kept = build(corpus, num_workers=2, persistent_workers=True)
    for epoch in (1, 2):
        reference = contents(alone.build_iter(epoch))
        assert len(reference) == alone.num_batches(epoch) == 4
        assert_equal(contents(with_workers.build_iter(epoch)), reference)
        assert_equal(contents(kept.build_iter(epoch)), reference)
    assert not torch.equal(contents(alone.build_iter(1))[0][1]["noise"], contents(alone.build_iter(2))[0][1]["noise"])


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("num_iters", [None, 3])
def test_the_rest_of_an_epoch_is_what_it_would_have_been(corpus, num_workers, num_iters):
    whole = contents(build(corpus, num_iters_per_epoch=num_iters).build_iter(2))
    for start in range(len(whole) + 1):
        restarted = build(corpus, num_workers=num_workers, num_iters_per_epoch=num_iters)
        loader = restarted.build_iter(2, start_batch=start)
        assert len(loader) == len(whole) - start
        assert_equal(contents(loader), whole[start:])
    with pytest.raises(UsageError, match="no such batch"):
        build(corpus).build_iter(1, start_batch=5)


def test_an_abandoned_epoch_leaves_no_trace(corpus):
    factory = build(corpus, num_workers=2, persistent_workers=True)
    for _ in factory.build_iter(1):
        break
    assert_equal(contents(factory.build_iter(2)), contents(build(corpus).build_iter(2)))


def test_ranks_share_the_same_batches(corpus):
    whole = build(corpus, batch_size=4, ranks=2).epoch_batches(3)
    parts = [
        [uids for uids, _ in contents(build(corpus, batch_size=4, ranks=2, rank=rank).build_iter(3))] for rank in (0, 1)
    ]
    assert len(parts[0]) == len(parts[1]) == len(whole)
    for batch, first, second in zip(whole, *parts, strict=True):
        assert not set(first) & set(second)
        assert sorted(first + second) == sorted(uid for _, uid in batch)
        assert abs(len(first) - len(second)) <= 1
    noises = [
        {uid: row for uids, batch in contents(loader) for uid, row in zip(uids, batch["noise"], strict=True)}
        for loader in (build(corpus, batch_size=4, ranks=2, rank=rank).build_iter(3) for rank in (0, 1))
    ]
    rows = torch.stack([*noises[0].values(), *noises[1].values()])
    assert len(torch.unique(rows, dim=0)) == len(rows) == 10  # no two ranks draw the same numbers


def test_pieces_of_passes_cover_everything(corpus):
    factory = build(corpus, num_iters_per_epoch=3)
    passes = [key for number in (1, 2, 3) for batch in build(corpus).epoch_batches(number) for key in batch]
    pieces = [key for epoch in (1, 2, 3, 4) for batch in factory.epoch_batches(epoch) for key in batch]
    assert pieces == passes  # 4 epochs of 3 batches are 3 passes of 4 batches
    assert factory.num_batches(1) == 3 and len(factory.build_iter(1)) == 3
    long = build(corpus, num_iters_per_epoch=7)
    assert [key for batch in long.epoch_batches(1) for key in batch] == passes[: sum(map(len, long.epoch_batches(1)))]
    assert {number for number, _ in long.epoch_batches(1)[-1]} == {2}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_global_generators_are_left_alone(corpus, num_workers):
    factory = build(corpus, num_workers=num_workers)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    contents(factory.build_iter(1))
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1]) and random.getstate() == before[2]


def test_no_shuffling_for_validation(corpus):
    factory = build(corpus, shuffle=False)
    assert [uids for uids, _ in factory.build_iter(1)] == [uids for uids, _ in factory.build_iter(2)]
    assert [uids for uids, _ in factory.build_iter(1, shuffle=True)] != [uids for uids, _ in factory.build_iter(1)]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_errors_of_workers_are_one_line(corpus, num_workers):
    (corpus / "utt04.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"^utterance 'utt04', video") as caught:
        contents(build(corpus, num_workers=num_workers).build_iter(1))
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_skipped_items_do_not_change_the_number_of_steps(corpus, num_workers):
    (corpus / "utt04.npy").write_bytes(b"")
    dataset = AVDataset(streams(corpus), on_error="skip", max_bad_share=0.1)
    sampler = BucketBatchSampler(corpus.num_frames(), batch_size=3)
    factory = AVIterFactory(dataset, sampler, num_workers=num_workers)
    found = contents(factory.build_iter(1))
    assert len(found) == factory.num_batches(1) == 4
    assert sorted(uid for uids, _ in found for uid in uids) == [uid for uid in corpus.keys if uid != "utt04"]
    sampler = BucketBatchSampler(corpus.num_frames(), batch_size=1)
    with pytest.raises(DataError, match="not one utterance of a batch"):
        contents(AVIterFactory(dataset, sampler, num_workers=num_workers).build_iter(1))


def test_wrong_use(corpus):
    with pytest.raises(UsageError, match="no such rank"):
        build(corpus, ranks=2, rank=2)
    with pytest.raises(UsageError, match="count from 1"):
        build(corpus).build_iter(0)
    with pytest.raises(UsageError, match="num_iters_per_epoch"):
        build(corpus, num_iters_per_epoch=0)
    dataset = AVDataset(streams(corpus))
    with pytest.raises(DataError, match=r"1 of 1 utterances of the shape file.*nobody"):
        AVIterFactory(dataset, BucketBatchSampler({"nobody": 5}, batch_size=1))
    small = BucketBatchSampler({"utt00": 20}, batch_size=1)
    with pytest.raises(DataError, match=r"fewer utterances in a batch \(utt00\) than ranks"):
        AVIterFactory(dataset, small, world_size=2).build_iter(1)


def test_chunk_iterators_are_refused_with_the_replacement():
    for name in ("chunk", "category_chunk"):
        with pytest.raises(UsageError, match=f"{name}.*SegmentTransform.*AVSegmentIter"):
            refuse_chunk_iterators(name)
    for name in ("sequence", "task", None):
        refuse_chunk_iterators(name)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_clicks_stay_at_their_frames_in_every_path(corpus, stamped, num_workers):
    """Frame-stamped clips with a click track, through training, statistics, inference and a restart."""

    def check(loader, cut):
        count = 0
        for uids, batch in loader:
            for row, uid in enumerate(uids):
                frames = int(batch["video_lengths"][row])
                assert int(batch["speech_lengths"][row]) == 640 * frames
                speech, video = batch["speech"][row][: 640 * frames].numpy(), batch["video"][row][:frames].numpy()
                shown, heard = stamped.stamps_of(speech, video)
                assert shown.tolist() == heard.tolist(), uid
                assert (np.diff(shown) == 1).all() and len(shown) == frames
                assert frames == 15 if cut else (shown[0], frames) == (0, corpus.num_frames()[uid])
                count += 1
        return count

    for epoch in (1, 2):
        assert check(build(corpus, SegmentTransform(15), num_workers=num_workers).build_iter(epoch), cut=True) == 10
        assert check(build(corpus, Augment(), num_workers=num_workers).build_iter(epoch, start_batch=2), cut=True) in (
            4,
            5,
            6,
        )
    whole = build(corpus, lambda uid, data, rng: data, num_workers=num_workers).build_iter(1)
    assert check(whole, cut=False) == 10
    for batch_size in (1, 4):  # inference, statistics
        dataset = AVIterableDataset(streams(corpus))
        loader = DataLoader(dataset, batch_size=batch_size, collate_fn=AVCollate(), num_workers=num_workers)
        assert check(loader, cut=False) == 10
