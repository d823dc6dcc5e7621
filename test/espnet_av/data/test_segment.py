# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_av.data.av_clock import AVClock
from espnet_av.data.dataset import AVDataset, item_rng
from espnet_av.data.iter_factory import AVIterFactory
from espnet_av.data.samplers import BucketBatchSampler
from espnet_av.data.segment import AVSegmentIter, SegmentTransform, window_id, window_starts
from espnet_av.utils.errors import DataError, UsageError


def streams(corpus):
    return corpus.path_name_type_list(["speech", "video"])


def test_random_segments_are_synchronous_and_cover_the_clip(stamped):
    transform = SegmentTransform(10)
    starts = set()
    for epoch in range(300):
        data = {"speech": stamped.clicks(25), "video": stamped.frames(25), "text": "hello"}
        cut = transform("a", data, item_rng(0, epoch, "a"))
        shown, heard = stamped.stamps_of(cut["speech"], cut["video"])
        assert shown.tolist() == heard.tolist() == list(range(shown[0], shown[0] + 10))
        assert len(cut["speech"]) == 6400 and cut["text"] == "hello"
        starts.add(int(shown[0]))
    assert starts == set(range(16))  # the first and the last place included


def test_short_clips_are_kept_or_padded(stamped):
    data = {"speech": stamped.clicks(6), "video": stamped.frames(6)}
    kept = SegmentTransform(10)("a", data, item_rng(0, 0, "a"))
    assert len(kept["video"]) == 6 and len(kept["speech"]) == 6 * 640
    padded = SegmentTransform(10, pad=True)("a", data, item_rng(0, 0, "a"))
    assert len(padded["video"]) == 10 and len(padded["speech"]) == 6400
    assert not padded["video"][6:].any() and not padded["speech"][6 * 640 :].any()
    assert np.array_equal(padded["video"][:6], data["video"])


def test_several_streams_are_cut_together(stamped):
    data = {"face": stamped.frames(20), "pose": np.arange(20), "mix": stamped.clicks(20), "target": stamped.clicks(20)}
    cut = SegmentTransform(5, video=["face", "pose"], audio=["mix", "target", "absent"])("a", data, item_rng(0, 1, "a"))
    shown, heard = stamped.stamps_of(cut["mix"], cut["face"])
    assert cut["pose"].tolist() == shown.tolist() == heard.tolist()
    assert np.array_equal(cut["mix"], cut["target"])
    data["pose"] = np.arange(19)
    with pytest.raises(DataError, match="'a': streams of different length.*19"):
        SegmentTransform(5, video=["face", "pose"])("a", data, item_rng(0, 1, "a"))
    with pytest.raises(DataError, match="'a' lacks a stream"):
        SegmentTransform(5)("a", data, item_rng(0, 1, "a"))


def test_other_rates():
    clock = AVClock(22050, 30)
    data = {"speech": np.arange(735 * 40, dtype=np.float32), "video": np.arange(40)}
    cut = SegmentTransform(7, clock)("a", data, item_rng(0, 0, "a"))
    assert cut["speech"][0] == clock.frames_to_samples(int(cut["video"][0])) and len(cut["speech"]) == 7 * 735


@given(total=st.integers(1, 200), window=st.integers(1, 60), hop=st.integers(1, 60))
@settings(max_examples=200, deadline=None)
def test_windows_cover_a_clip(total, window, hop):
    keep = window_starts(total, window, hop)
    assert keep[0][0] == 0 and sum(keep[-1]) == total or hop > window
    assert all(count == window for _, count in keep[:-1])
    assert all(start + count <= total and count > 0 for start, count in keep)
    assert window_starts(total, window, hop, "drop") == [entry for entry in keep if entry[1] == window]


def test_sliding_windows_are_synchronous(corpus, stamped):
    dataset = AVDataset(streams(corpus))
    lengths = corpus.num_frames()
    windows = AVSegmentIter(dataset, lengths, window=12, hop=8)
    seen = []
    for name, data in windows:
        uid, _, start = name.rpartition("@")
        shown, heard = stamped.stamps_of(data["speech"], data["video"])
        assert shown.tolist() == heard.tolist()
        assert shown[0] == int(start) and len(shown) == windows.lengths[name]
        again = windows[3, name][1]
        assert np.array_equal(again["speech"], data["speech"]) and np.array_equal(again["video"], data["video"])
        seen.append((uid, int(shown[-1])))
    assert {uid: max(last for other, last in seen if other == uid) + 1 for uid in lengths} == lengths
    assert len(windows) == len(seen) and windows.keys == sorted(windows.keys)


def test_windows_can_be_batched_and_resumed(corpus):
    def preprocess(uid, data, rng):
        return {**data, "noise": rng.standard_normal(2)}

    windows = AVSegmentIter(AVDataset(streams(corpus), seed=2), corpus.num_frames(), 12, 8, preprocess, last="pad")
    assert windows.has_name("video") and windows.names() == ("speech", "video")
    sampler = BucketBatchSampler(windows.lengths, batch_size=4)
    assert sampler.padding_share(sampler.batches(1)) == 0
    whole = [(uids, batch["noise"]) for uids, batch in AVIterFactory(windows, sampler).build_iter(1)]
    rest = [
        (uids, batch["noise"]) for uids, batch in AVIterFactory(windows, sampler, num_workers=2).build_iter(1, None, 3)
    ]
    assert [uids for uids, _ in rest] == [uids for uids, _ in whole[3:]]
    assert all((a[1] == b[1]).all() for a, b in zip(rest, whole[3:], strict=True))
    assert sorted(uid for uids, _ in whole for uid in uids) == windows.keys


def test_what_happens_to_the_rest(corpus):
    dataset = AVDataset(streams(corpus))
    keep, drop, pad = (AVSegmentIter(dataset, corpus.num_frames(), 12, last=last) for last in ("keep", "drop", "pad"))
    last = window_id("utt00", 12)
    assert keep.lengths[last] == 8 and last not in drop.lengths and pad.lengths[last] == 12
    assert len(pad[last][1]["video"]) == 12 and not pad[last][1]["video"][8:].any()
    assert len(pad[last][1]["speech"]) == 12 * 640
    with pytest.raises(DataError, match="shorter than a window"):
        AVSegmentIter(dataset, corpus.num_frames(), 100, last="drop")


def test_wrong_use(corpus):
    dataset = AVDataset(streams(corpus))
    with pytest.raises(UsageError):
        SegmentTransform(0)
    with pytest.raises(UsageError):
        SegmentTransform(5, video=[])
    with pytest.raises(UsageError, match="window and hop"):
        AVSegmentIter(dataset, corpus.num_frames(), 5, 0)
    with pytest.raises(UsageError, match="last"):
        AVSegmentIter(dataset, corpus.num_frames(), 5, last="cut")
    with pytest.raises(DataError, match="'utt00' is not known"):
        AVSegmentIter(dataset, {}, 5)
    wrong = {uid: 100 for uid in corpus.keys}
    with pytest.raises(DataError, match="'utt00' is shorter than utt2num_frames says"):
        AVSegmentIter(dataset, wrong, 50)["utt00@0000000"]
