# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The plan of chunks and the reading of one: coverage, determinism, any batch first, any workers and ranks."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from codec_train_data import SAMPLE_RATE, make_speech

from espnet_av.codec.chunks import ChunkDataset, ChunkIterFactory, ChunkPlan, read_num_samples, split_chunk_id
from espnet_av.data.audio_io import read_audio
from espnet_av.data.data_dir import DataDir
from espnet_av.utils.errors import DataError, UsageError

LENGTH = 1000
LENGTHS = {"short": 300, "equal": 1000, "longer": 1499, "three": 2000, "long": 10_123, "at@sign": 1750}


def count(size: int) -> int:
    return max(0, (size - LENGTH) // 500) + 1


def flat(batches: list) -> list:
    return [key for batch in batches for key in batch]


def test_chunks_of_a_pass_cover_every_utterance_at_a_random_place():
    plan = ChunkPlan(LENGTHS, LENGTH, batch_size=1)
    starts = []
    for epoch in (1, 2, 3):
        keys = flat(plan.batches(epoch))
        found = {
            uid: sorted(start for _, name in keys for u, start in [split_chunk_id(name)] if u == uid) for uid in LENGTHS
        }
        for uid, size in LENGTHS.items():
            assert len(found[uid]) == count(size)
            assert np.all(np.diff(found[uid]) == 500)
            assert found[uid][0] >= 0 and found[uid][-1] + LENGTH <= max(size, LENGTH)
        assert {number for number, _ in keys} == {epoch}
        starts.append(found["long"][0])
    assert len(set(starts)) > 1


def test_plan_depends_on_seed_and_epoch_alone():
    plans = [ChunkPlan(LENGTHS, LENGTH, 3, seed=seed) for seed in (5, 5, 6)]
    assert plans[0].batches(7) == plans[1].batches(7)
    assert plans[0].batches(7) != plans[0].batches(8)
    assert plans[0].batches(7) != plans[2].batches(7)
    assert all(len(batch) == 3 for batch in plans[0].batches(7))
    assert plans[0].num_batches(7) == len(plans[0].batches(7)) == sum(map(count, LENGTHS.values())) // 3


@pytest.mark.parametrize("per_epoch", [1, 2, 4, 6, 13])
def test_epochs_of_some_utterances_are_pieces_of_the_passes(per_epoch):
    """As many passes as there are utterances: each pass must have been used whole, whatever the size of the epochs."""
    plan = ChunkPlan(LENGTHS, LENGTH, 1, utterances_per_epoch=per_epoch)
    keys = [key for epoch in range(1, len(LENGTHS) + 1) for key in flat(plan.batches(epoch))]
    seen = {(number, split_chunk_id(name)[0]) for number, name in keys}
    assert len(seen) == per_epoch * len(LENGTHS)
    assert seen == {(number + 1, uid) for number in range(per_epoch) for uid in LENGTHS}
    assert len(keys) == per_epoch * sum(map(count, LENGTHS.values()))
    assert all(plan.num_batches(epoch) == len(plan.batches(epoch)) for epoch in (1, 2, 3))


def test_validation_is_fixed_and_keeps_what_does_not_fill_a_batch():
    plan = ChunkPlan(LENGTHS, LENGTH, 4, shuffle=False, seed=1)
    keys = flat(plan.batches(1))
    assert plan.batches(1) == plan.batches(9) == ChunkPlan(LENGTHS, LENGTH, 4, shuffle=False, seed=2).batches(1)
    assert len(keys) == sum(map(count, LENGTHS.values())) and len(plan.batches(1)[-1]) == len(keys) % 4
    assert keys[0] == (0, "short@0") and {number for number, _ in keys} == {0}
    few = flat(ChunkPlan(LENGTHS, LENGTH, 4, shuffle=False, max_chunks=5).batches(1))
    assert len(few) == 5 and set(few) <= set(keys) and split_chunk_id(few[-1][1])[0] != "short"


def test_a_small_last_batch_of_validation_is_shared_by_all_ranks():
    plan = ChunkPlan({f"u{number}": 500 for number in range(9)}, LENGTH, 4, shuffle=False, min_batch_size=3)
    assert [len(batch) for batch in plan.batches(1)] == [4, 5]


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (UsageError, "chunk_length", {"chunk_length": 0}),
        (UsageError, "batch_size", {"batch_size": 0}),
        (UsageError, "chunk_shift_ratio", {"chunk_shift_ratio": 0.0}),
        (UsageError, "num_iters_per_epoch", {"utterances_per_epoch": 0}),
        (UsageError, "number of processes", {"batch_size": 2, "min_batch_size": 3}),
        (DataError, "too few chunks", {"batch_size": 1000}),
        (DataError, "no utterances", {"lengths": {}}),
        (DataError, "'none' has no samples", {"lengths": {"some": 9, "none": 0}}),
    ],
)
def test_what_cannot_be_planned(error, message, options):
    with pytest.raises(error, match=message):
        ChunkPlan(**{"lengths": LENGTHS, "chunk_length": LENGTH, "batch_size": 2, **options})


@pytest.fixture
def speech(tmp_path) -> DataDir:
    return make_speech(tmp_path / "train")


def factory(data: DataDir, *, workers: int = 0, preprocess=None, rank: int = 0, world: int = 1, shuffle: bool = True):
    lengths = read_num_samples(str(data / "wav.scp"))
    plan = ChunkPlan(lengths, 4800, 4, seed=3, shuffle=shuffle, min_batch_size=world)
    dataset = ChunkDataset([(str(data / "wav.scp"), "audio", "sound")], lengths, 4800, SAMPLE_RATE, preprocess, seed=3)
    return ChunkIterFactory(dataset, plan, seed=3, shuffle=shuffle, num_workers=workers, rank=rank, world_size=world)


def add_noise(uid, data, rng):
    """A preprocess that depends on its generator and on the whole utterance."""
    return {
        "audio": data["audio"] / np.abs(data["audio"]).max() + rng.normal(size=len(data["audio"])).astype(np.float32)
    }


def test_chunks_are_what_the_files_hold_padded_with_silence(speech):
    files = speech.read("wav.scp")
    for names, batch in factory(speech).build_iter(1):
        assert batch["audio"].shape == (4, 4800) and batch["audio"].dtype == torch.float32
        assert batch["audio_lengths"].tolist() == [4800] * 4
        for name, wave in zip(names, batch["audio"].numpy(), strict=True):
            uid, start = split_chunk_id(name)
            expected = read_audio(files[uid], SAMPLE_RATE)[0][start : start + 4800]
            np.testing.assert_array_equal(wave[: len(expected)], expected)
            assert not wave[len(expected) :].any()


def collected(loader) -> list:
    return [(names, batch["audio"]) for names, batch in loader]


def same(one: list, other: list) -> bool:
    return len(one) == len(other) and all(
        a == b and torch.equal(x, y) for (a, x), (b, y) in zip(one, other, strict=True)
    )


def test_epoch_goes_on_at_any_batch_with_any_number_of_workers(speech):
    whole = collected(factory(speech, preprocess=add_noise).build_iter(2))
    assert len(whole) == 2
    assert same(collected(factory(speech, preprocess=add_noise).build_iter(2, start_batch=1)), whole[1:])
    assert same(collected(factory(speech, preprocess=add_noise, workers=2).build_iter(2)), whole)
    assert not same(collected(factory(speech, preprocess=add_noise).build_iter(3)), whole)


def test_chunks_of_an_utterance_come_from_one_version_of_it(speech):
    chunks = {}
    for names, batch in factory(speech, preprocess=add_noise, shuffle=False).build_iter(1):
        chunks |= dict(zip(names, batch["audio"], strict=True))
    assert torch.equal(chunks["spk-u04@0"][2400:], chunks["spk-u04@2400"][:2400])


def test_ranks_share_every_batch(speech):
    whole = collected(factory(speech).build_iter(1))
    ranks = [collected(factory(speech, rank=rank, world=2).build_iter(1)) for rank in (0, 1)]
    for (names, wave), (names0, wave0), (names1, wave1) in zip(whole, *ranks, strict=True):
        assert names[0::2] == names0 and names[1::2] == names1
        assert torch.equal(wave[0::2], wave0) and torch.equal(wave[1::2], wave1)


def broken(speech: DataDir, kind: str) -> None:
    files, uid = speech.read("wav.scp"), "spk-u03"
    wave, _ = soundfile.read(files[uid], dtype="float32")
    if kind == "rate":
        soundfile.write(files[uid], wave, 16000)
    elif kind == "nan":
        wave[7] = np.nan
        soundfile.write(files[uid], wave, SAMPLE_RATE, subtype="FLOAT")
    elif kind == "short":
        soundfile.write(files[uid], wave[:9000], SAMPLE_RATE)
    elif kind == "empty":
        soundfile.write(files[uid], wave[:0], SAMPLE_RATE)
    elif kind == "text":
        Path(files[uid]).write_text("no sound")
    else:
        Path(files[uid]).unlink()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("rate", "wrong sample rate"),
        ("nan", "not finite"),
        ("short", "shorter than noted"),
        ("empty", "holds no samples"),
        ("text", "cannot be read"),
        ("gone", "no sound file"),
    ],
)
def test_a_bad_file_is_named(speech, kind, message):
    loader = factory(speech, shuffle=False).build_iter(1)
    broken(speech, kind)
    with pytest.raises(DataError, match=rf"'spk-u03'.*{message}"):
        list(loader)


def test_float_and_stereo_files_are_read(speech, tmp_path):
    files = speech.read("wav.scp")
    wave, _ = soundfile.read(files["spk-u02"], dtype="float32")
    soundfile.write(files["spk-u02"], np.stack([wave, 0.5 * wave], axis=1), SAMPLE_RATE, subtype="FLOAT")
    chunks = {
        name: wave
        for names, batch in factory(speech, shuffle=False).build_iter(1)
        for name, wave in zip(names, batch["audio"], strict=True)
    }
    np.testing.assert_allclose(chunks["spk-u02@0"], 0.75 * wave[:4800], atol=1e-6)


def test_lengths_come_from_a_shape_file_the_folder_or_the_files(speech, tmp_path):
    scp, noted = str(speech / "wav.scp"), speech.num_samples()
    assert read_num_samples(scp) == noted
    (tmp_path / "shape").write_text("".join(f"{uid} 7\n" for uid in noted))
    assert set(read_num_samples(scp, [str(tmp_path / "shape")]).values()) == {7}
    (speech / "utt2num_samples").unlink()
    assert read_num_samples(scp) == noted
    (tmp_path / "shape").write_text("spk-u00 7\n")
    with pytest.raises(DataError, match="4 of 5 utterances have no length"):
        read_num_samples(scp, [str(tmp_path / "shape")])


def test_streams_that_do_not_fit(speech, tmp_path):
    lengths = read_num_samples(str(speech / "wav.scp"))
    (tmp_path / "few.scp").write_text("spk-u00 x.wav\n")
    with pytest.raises(DataError, match="4 of 5 utterances are not in it"):
        ChunkDataset([(str(tmp_path / "few.scp"), "audio", "sound")], lengths, 4800, SAMPLE_RATE)
    with pytest.raises(UsageError, match="sound files"):
        ChunkDataset([(str(speech / "wav.scp"), "audio", "npy")], lengths, 4800, SAMPLE_RATE)
