# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import copy
import pickle

import numpy as np
import pytest
from torch.utils.data import DataLoader

from espnet_av._espnet import AbsDataset, AbsTask, IterableESPnetDataset
from espnet_av.data.audio_io import write_audio
from espnet_av.data.collate import AVCollate
from espnet_av.data.dataset import AVDataset, AVIterableDataset, item_rng
from espnet_av.utils.errors import DataError, UsageError


def characters(uid, data, rng):
    """Turn text into numbers, count the calls, and add what only the generator knows."""
    assert data["speech"].dtype == np.float32 and isinstance(data["text"], str)
    data["text"] = np.array([ord(letter) for letter in data["text"]], dtype=np.int32)
    data["speech"] = data["speech"] / 2
    data["noise"] = rng.standard_normal(3)
    data["half"] = np.zeros(2, np.float16)
    return data


def av_only(corpus):
    return corpus.path_name_type_list(["speech", "video"])


def test_item_rng_depends_on_its_three_arguments_only():
    reference = item_rng(1, 2, "a").integers(0, 1 << 60)
    assert reference == item_rng(1, 2, "a").integers(0, 1 << 60)
    others = [item_rng(*key).integers(0, 1 << 60) for key in ((2, 2, "a"), (1, 3, "a"), (1, 2, "b"), (12, 2, "a"))]
    assert len({reference, *others}) == 5
    assert item_rng(0, 1, "utt").integers(0, 1 << 30) == 394576641  # the same in every release and process


def test_items_keep_integer_types_and_floats_become_float32(corpus):
    uid, data = AVDataset(corpus.path_name_type_list(), characters)["utt03"]
    assert uid == "utt03"
    assert data["video"].dtype == np.uint8 and data["video"].shape == (29, 16, 16)
    assert data["text"].dtype == np.int32
    assert {data[name].dtype for name in ("speech", "noise", "half")} == {np.dtype("float32")}
    assert len(data["speech"]) == 29 * 640  # seven samples were cut off at the end
    assert data["speech"][640] == pytest.approx(0.001, rel=0.02)  # halved once, not twice


def test_map_and_streaming_items_are_equal(corpus):
    by_id = AVDataset(corpus.path_name_type_list(), characters, seed=3)
    by_id.set_epoch(2)
    stream = AVIterableDataset(corpus.path_name_type_list(), characters, seed=3)
    stream.set_epoch(2)
    count = 0
    for uid, item in stream:
        _, reference = by_id[uid]
        assert list(item) == list(reference)
        for name in item:
            assert item[name].dtype == reference[name].dtype
            assert np.array_equal(item[name], reference[name]), (uid, name)
        count += 1
    assert count == len(by_id) == len(stream) == 10
    by_id.set_epoch(3)
    assert not np.array_equal(by_id["utt00"][1]["noise"], by_id[2, "utt00"][1]["noise"])
    assert np.array_equal(next(iter(stream))[1]["noise"], by_id[2, "utt00"][1]["noise"])


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_streaming_gives_every_item_once_whatever_the_workers(corpus, num_workers):
    dataset = AVIterableDataset(av_only(corpus))
    loader = DataLoader(dataset, batch_size=2, collate_fn=AVCollate(), num_workers=num_workers)
    uids = [uid for batch, _ in loader for uid in batch]
    assert sorted(uids) == corpus.keys
    if num_workers < 2:
        assert uids == corpus.keys


def test_key_file_gives_choice_and_order(corpus, tmp_path):
    (tmp_path / "keys").write_text("utt07 x\nutt02\n")
    assert [uid for uid, _ in AVIterableDataset(av_only(corpus), key_file=tmp_path / "keys")] == ["utt07", "utt02"]
    assert [uid for uid, _ in AVIterableDataset(av_only(corpus), key_file=["utt09"])] == ["utt09"]
    with pytest.raises(DataError, match="first 'nobody'"):
        AVIterableDataset(av_only(corpus), key_file=["nobody"])


def test_espnet_accepts_both(corpus):
    class Task(AbsTask):
        @classmethod
        def required_data_names(cls, train=True, inference=False):
            return ("speech", "video")

        @classmethod
        def optional_data_names(cls, train=True, inference=False):
            return ("text",)

        add_task_arguments = build_collate_fn = build_preprocess_fn = build_model = None

    for dataset in (AVDataset(corpus.path_name_type_list()), AVIterableDataset(corpus.path_name_type_list())):
        assert isinstance(dataset, (AbsDataset, IterableESPnetDataset))
        Task.check_task_requirements(dataset, False, train=True)
        assert dataset.has_name("video") and dataset.names() == ("speech", "video", "text")
    with pytest.raises(RuntimeError, match="required"):
        Task.check_task_requirements(AVDataset(corpus.path_name_type_list(["speech"])), False, train=True)


def test_datasets_can_be_pickled(corpus):
    dataset = AVDataset(corpus.path_name_type_list(), characters, on_error="skip")
    for other in (pickle.loads(pickle.dumps(dataset)), copy.deepcopy(dataset)):
        assert np.array_equal(other["utt01"][1]["noise"], dataset["utt01"][1]["noise"])


def test_errors_name_the_utterance_the_stream_and_the_reason(corpus):
    (corpus / "utt04.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"utterance 'utt04', video \(video_npy of .*mouth.scp\): .*utt04.npy"):
        AVDataset(av_only(corpus))["utt04"]
    write_audio(corpus / "utt05.flac", np.zeros(8000), 8000)
    with pytest.raises(DataError, match="utterance 'utt05', speech .*wrong sample rate; got 8000"):
        AVDataset(av_only(corpus))["utt05"]
    with pytest.raises(DataError, match="utterance 'nobody' is not in"):
        AVDataset(av_only(corpus))["nobody"]


def test_drift_is_refused(corpus, stamped):
    write_audio(corpus / "utt02.flac", stamped.clicks(26, extra=1300), 16000)
    with pytest.raises(DataError, match=r"'utt02'.*\+2.03 frames.*2.0 frames.*filter"):
        AVDataset(av_only(corpus))["utt02"]
    assert len(AVDataset(av_only(corpus), max_drift_frames=2.1)["utt02"][1]["speech"]) == 26 * 640
    assert len(AVDataset(av_only(corpus), max_drift_frames=None, sync=None)["utt02"][1]["speech"]) == 26 * 640 + 1300


def test_streams_must_hold_the_same_utterances(corpus):
    table = corpus.read("mouth.scp")
    corpus.write("mouth.scp", {uid: path for uid, path in table.items() if uid != "utt05"})
    with pytest.raises(DataError, match=r"mouth.scp: .*1 missing, first 'utt05', 0 extra.*fix_data_dir"):
        AVDataset(av_only(corpus))
    corpus.write("mouth.scp", {**table, "utt99": "x"})
    with pytest.raises(DataError, match="0 missing, 1 extra"):
        AVDataset(av_only(corpus))
    assert len(AVDataset(av_only(corpus), keys=["utt05"])) == 1


def test_wrong_use(corpus):
    streams = av_only(corpus)
    with pytest.raises(UsageError, match="at least one stream"):
        AVDataset([])
    with pytest.raises(UsageError, match="same name"):
        AVDataset([streams[0], streams[0]])
    with pytest.raises(UsageError, match="on_error"):
        AVDataset(streams, on_error="ignore")
    with pytest.raises(UsageError, match=r"\(uid, data, rng\)"):
        AVDataset(streams, lambda uid, data: data)
    with pytest.raises(UsageError, match="'text' must be a numeric array; got 'str'"):
        AVDataset(corpus.path_name_type_list())["utt00"]
    corpus.write("wav.scp", {})
    with pytest.raises(DataError, match="no utterances"):
        AVDataset(av_only(corpus))


def test_bad_items_are_left_out_up_to_a_share(corpus, caplog):
    for uid in ("utt01", "utt06"):
        (corpus / f"{uid}.npy").write_bytes(b"")
    dataset = AVDataset(av_only(corpus), on_error="skip", max_bad_share=0.1)
    assert dataset["utt01"] is None and dataset["utt01"] is None and dataset["utt00"] is not None
    assert dataset.bad_items == ["utt01"]
    assert caplog.text.count("left out: utterance 'utt01'") == 1
    with pytest.raises(DataError, match=r"2 of 10 utterances cannot be read.*20.00%.*10.00%"):
        _ = dataset["utt06"]
    stream = AVIterableDataset(av_only(corpus), on_error="skip", max_bad_share=0.2)
    assert len(list(stream)) == 8 and stream.bad_items == ["utt01", "utt06"]


def test_the_share_counts_over_all_workers(corpus):
    for uid in ("utt01", "utt06"):
        (corpus / f"{uid}.npy").write_bytes(b"")
    dataset = AVDataset(av_only(corpus), on_error="skip", max_bad_share=0.2)
    loader = DataLoader(dataset, batch_sampler=[[uid] for uid in corpus.keys], collate_fn=len, num_workers=2)
    assert len(list(loader)) == 10
    assert dataset.bad_items == ["utt01", "utt06"]
