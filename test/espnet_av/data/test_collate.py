# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from espnet_av.data.collate import AVCollate
from espnet_av.utils.errors import DataError, UsageError


def item(uid, num_frames, size=4, num_labels=3):
    return uid, {
        "speech": np.full(640 * num_frames, 0.5, np.float32),
        "video": np.full((num_frames, size, size), 7, np.uint8),
        "text": np.arange(num_labels, dtype=np.int32),
        "seen": np.ones(num_frames, bool),
    }


def test_padding_and_lengths():
    uids, batch = AVCollate(ignore_id=-100)([item("a", 3, num_labels=2), item("b", 5)])
    assert uids == ["a", "b"]
    assert batch["speech"].shape == (2, 3200) and batch["speech"].dtype == torch.float32
    assert batch["video"].shape == (2, 5, 4, 4) and batch["video"].dtype == torch.uint8
    assert batch["text"].tolist() == [[0, 1, -100], [0, 1, 2]] and batch["text"].dtype == torch.int64
    assert batch["seen"].dtype == torch.bool and not batch["seen"][0, 3:].any()
    assert batch["speech_lengths"].tolist() == [1920, 3200] and batch["speech_lengths"].dtype == torch.int64
    assert batch["video_lengths"].tolist() == [3, 5] and batch["text_lengths"].tolist() == [2, 3]
    assert (batch["video"][0, :3] == 7).all() and (batch["video"][0, 3:] == 0).all()
    assert (batch["speech"][0, 1920:] == 0).all() and (batch["speech"][0, :1920] == 0.5).all()


def test_a_batch_does_not_change_its_items():
    single = AVCollate()([item("a", 3)])[1]
    both = AVCollate()([item("a", 3), item("b", 5)])[1]
    for name in ("speech", "video", "text"):
        length = int(both[f"{name}_lengths"][0])
        assert torch.equal(both[name][0, :length], single[name][0])


def test_lengths_rounded_up():
    batch = AVCollate(pad_to_multiple={"video": 4, "speech": 2560})([item("a", 3), item("b", 5)])[1]
    assert batch["video"].shape[1] == 8 and batch["speech"].shape[1] == 8 * 640 and batch["text"].shape[1] == 3
    assert batch["video_lengths"].tolist() == [3, 5]
    assert AVCollate(pad_to_multiple=4)([item("a", 5)])[1]["text"].tolist() == [[0, 1, 2, -1]]
    with pytest.raises(UsageError, match="pad_to_multiple"):
        AVCollate(pad_to_multiple=-1)


def test_read_only_and_mapped_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 4, 4), np.uint8))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    batch = AVCollate()([("a", {"video": mapped})])[1]
    batch["video"] += 1
    assert (np.load(tmp_path / "a.npy") == 1).all()


def test_unequal_frame_sizes_are_refused_by_name():
    with pytest.raises(DataError, match=r"'video' of utterance 'b'.*'a'.*\(5, 6, 6\)"):
        AVCollate()([item("a", 3), item("b", 5, size=6)])
    other = item("c", 3)
    other[1]["speech"] = other[1]["speech"].astype(np.int16)
    with pytest.raises(DataError, match="'speech' of utterance 'c'"):
        AVCollate()([item("a", 3), other])
    del other[1]["speech"]
    with pytest.raises(DataError, match="'c' does not hold the data of 'a'"):
        AVCollate()([item("a", 3), other])


def test_bad_items_are_left_out_and_a_batch_of_them_is_an_error():
    uids, batch = AVCollate()([None, item("b", 5), None])
    assert uids == ["b"] and batch["video"].shape[0] == 1
    with pytest.raises(DataError, match="not one utterance"):
        AVCollate()([None, None])


def test_data_without_a_time_axis():
    items = [
        ("a", {"speaker": np.array(3), "level": np.zeros(2)}),
        ("b", {"speaker": np.array(4), "level": np.ones(2)}),
    ]
    batch = AVCollate(not_sequence=["speaker", "level"])(items)[1]
    assert batch["speaker"].tolist() == [3, 4] and batch["level"].dtype == torch.float32
    assert set(batch) == {"speaker", "level"}
    with pytest.raises(UsageError, match="no time axis"):
        AVCollate()(items)
