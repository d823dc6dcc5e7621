# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Shards: where they lie, what their samples hold, positions, damage, decoding, and the hub."""

import pickle
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import shard_data as made

from espnet_av.data import shard_files
from espnet_av.data.av_shards import AVShards, BadShards, ShardSample, decode_sample, shard_splits, to_sample
from espnet_av.utils.errors import DataError, EnvironmentProblem, MissingDataError, UsageError

DUMMY = {"video": b"mp4", "length": b"3"}


def rows(prefix, count, **more):
    return [
        {**DUMMY, "label": f"{prefix} {n}".encode(), "sample_id": f"{prefix}{n}".encode(), **more} for n in range(count)
    ]


def ids(shards):
    return [sample.sample_id for sample in shards]


# ------------------------------------------------------------------------------------------------ finding shards


@pytest.mark.parametrize(
    "names",
    [
        ["lrs2/test.tar"],
        ["lrs2/test-00000.tar", "lrs2/test-00001.tar"],
        ["lrs2/test-00000-of-00002.tar", "lrs2/test-00001-of-00002.tar"],
        ["lrs2/test_000000.tar"],
        ["lrs2/test/a.tar", "lrs2/test/b.tar"],
    ],
)
def test_layout_by_names(tmp_path, names):
    others = ["lrs2/test_snr_0_interferer_2.tar", "lrs2/test_snr_n5_interferer_1-00000.tar", "vox2/test.tar"]
    for name in [*names, *others]:
        made.write_tar(tmp_path / name, rows("x", 1))
    assert AVShards(tmp_path, "lrs2", "test").shards == names
    assert AVShards(tmp_path, "lrs2", "test_snr_0_interferer_2").shards == [others[0]]
    assert AVShards(tmp_path, "lrs2", "test_snr_n5_interferer_1").shards == [others[1]]
    assert set(shard_splits(tmp_path)["lrs2"]) == {"test", "test_snr_0_interferer_2", "test_snr_n5_interferer_1"}


@pytest.mark.parametrize("names", [["train-0001.tar"], ["data/train-00000-of-00001.tar"], ["train/0.tar"]])
def test_layout_of_one_configuration(tmp_path, names):
    for name in names:
        made.write_tar(tmp_path / name, rows("x", 1))
    assert AVShards(tmp_path, "default", "train").shards == names


def test_layout_by_readme(tmp_path):
    for name in ("a/one-0.tar", "a/deep/er/one-1.tar", "a/two.tar", "b/x.tar"):
        made.write_tar(tmp_path / name, rows(name[0], 1))
    (tmp_path / "README.md").write_text(
        "---\nlicence: x\nconfigs:\n- config_name: first\n  data_files:\n  - split: train\n    path: a/**/one-*.tar\n"
        "  - split: test\n    path: [a/two.tar, 'b/?.tar']\n- config_name: second\n  data_dir: b\n"
        "  data_files: '*.tar'\n---\n# Text\n"
    )
    assert AVShards(tmp_path, "first", "train").shards == ["a/deep/er/one-1.tar", "a/one-0.tar"]
    assert AVShards(tmp_path, "first", "test").shards == ["a/two.tar", "b/x.tar"]
    assert AVShards(tmp_path, "second", "train").shards == ["b/x.tar"]
    assert shard_splits(tmp_path) == {"first": ["train", "test"], "second": ["train"]}
    with pytest.raises(UsageError, match=r"no such configuration; got 'third'; allowed: first, second"):
        AVShards(tmp_path, "third", "train")


def test_splits_are_joined_in_order(tmp_path):
    made.write_tar(tmp_path / "lrs2/train.tar", rows("t", 2))
    made.write_tar(tmp_path / "lrs2/pretrain.tar", rows("p", 1))
    assert ids(AVShards(tmp_path, "lrs2", "train+pretrain")) == ["t0", "t1", "p0"]


def test_what_is_not_there(tmp_path):
    with pytest.raises(MissingDataError, match="no folder with shards"):
        AVShards(tmp_path / "none/at/all", "lrs2", "test")
    with pytest.raises(MissingDataError, match="holds no shards"):
        AVShards(tmp_path, "lrs2", "test")
    made.write_tar(tmp_path / "lrs2/test.tar", rows("t", 1))
    with pytest.raises(UsageError, match=r"no such split of 'lrs2'; got 'tset'; allowed: test"):
        AVShards(tmp_path, "lrs2", "tset")


# ------------------------------------------------------------------------------------------------ samples


def test_columns(tmp_path):
    first = {"video": b"abc", "label": "GR\u00dcSS GOTT ".encode(), "length": b"75", "sample_id": b"main/1/2"}
    second = {"mp4": b"x", "txt": b"HELLO", "start_time": b"1.5", "end_time": b"3"}
    third = {"label": b"WEBVTT\n\n00:01.000 --> 00:02.000\nHI\n"}
    made.write_tar(tmp_path / "a/b.tar", [first, second, third])
    assert list(AVShards(tmp_path, "a", "b")) == [
        ShardSample("main/1/2", b"abc", "GR\u00dcSS GOTT", 75),
        ShardSample("000001", b"x", "HELLO", 0, 1.5, 3.0),
        ShardSample("000002", b"", third["label"].decode(), 0),
    ]


def test_rows_of_other_readers():
    assert to_sample({"video": {"bytes": b"x", "path": None}, "label": "A", "length": 5, "sample_id": 7}).length == 5
    assert to_sample({"video": b"x", "__key__": "k", "label": None}) == ShardSample("k", b"x", "", 0)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"length": b"3"}, "needs 'video' or 'label'"),
        ({"video": b""}, "no bytes"),
        ({"video": b"x", "label": b"\xff"}, "'label' is not UTF-8"),
        ({"video": b"x", "length": b"many"}, "'length' is no number; got 'many'"),
        ({"video": b"x", "length": b"-1"}, "no number of frames"),
        ({"video": b"x", "start_time": b"nan"}, "'start_time' is no number"),
        ({"video": 3}, "bytes of an mp4"),
    ],
)
def test_bad_samples_are_named_counted_and_left_out(tmp_path, caplog, fields, match):
    with pytest.raises(DataError, match=match):
        to_sample(fields, "k")
    tar = {name: value for name, value in fields.items() if isinstance(value, bytes)}
    if tar:
        made.write_tar(tmp_path / "a/b.tar", [*rows("g", 1), tar, *rows("h", 2)])
        shards = AVShards(tmp_path, "a", "b")
        assert ids(shards) == ["g0", "h0", "h1"]
        assert list(shards.skipped) == ["a/b.tar:000001"]
        assert "left out a/b.tar:000001" in caplog.text


def test_too_many_bad_samples(tmp_path):
    made.write_tar(tmp_path / "a/b.tar", [*rows("g", 20), *[{"length": b"1"}] * 6])
    with pytest.raises(BadShards, match="6 of 26 samples"):
        list(AVShards(tmp_path, "a", "b"))
    assert len(list(AVShards(tmp_path, "a", "b", max_bad_share=0.5))) == 20


# ------------------------------------------------------------------------------------------------ positions and damage


def write_table(path, samples, kind):
    arrow = pytest.importorskip("pyarrow")
    table = arrow.Table.from_pylist(samples)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "parquet":
        pytest.importorskip("pyarrow.parquet").write_table(table, path, row_group_size=3)
    else:
        make = arrow.ipc.new_stream if kind == "stream" else arrow.ipc.new_file
        with make(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=3)


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "parquet", "stream", "file"])
def test_reading_goes_on_at_every_position(tmp_path, kind):
    samples = rows("s", 8, video=bytes(range(256)) * 5)
    if kind.startswith("tar"):
        path = made.write_tar(tmp_path / f"a/b.{kind}", samples, "w:gz" if kind == "tar.gz" else "w")
    else:
        path = tmp_path / ("a/b.parquet" if kind == "parquet" else "a/b.arrow")
        write_table(path, samples, kind)
    shards = AVShards(tmp_path, "a", "b")
    whole = list(shards.read_shard(0))
    assert [sample.sample_id for sample, _ in whole] == [f"s{n}" for n in range(8)]
    assert whole[0][0].video == bytes(range(256)) * 5
    for number, (_, position) in enumerate(whole, 1):
        assert list(shards.read_shard(0, position)) == whole[number:]
    assert shards.skipped == {}


def test_long_member_names_keep_positions(tmp_path):
    import io
    import tarfile

    path = tmp_path / "a" / "b.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for number in range(3):
            for name, content in rows("s", 1)[0].items():
                member = tarfile.TarInfo(f"{'x' * 120}{number}.{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    shards = AVShards(tmp_path, "a", "b")
    whole = list(shards.read_shard(0))
    assert len(whole) == 3
    assert [len(list(shards.read_shard(0, position))) for _, position in whole] == [2, 1, 0]


@pytest.mark.parametrize("cut", [0.3, 0.5, 0.9])
def test_truncated_shard(tmp_path, cut):
    made.write_tar(tmp_path / "a/b-0.tar", rows("s", 10))
    path = made.write_tar(tmp_path / "a/b-1.tar", rows("t", 10))
    content = path.read_bytes()
    members = 10 * len(rows("s", 1)[0]) * 1024  # a header and a block each; the rest is padding
    path.write_bytes(content[: int(cut * members)])
    with pytest.raises(BadShards, match="1 of 2 shards are damaged.*damaged or truncated shard"):
        list(AVShards(tmp_path, "a", "b"))
    shards = AVShards(tmp_path, "a", "b", max_bad_share=0.5)
    found = ids(shards)
    assert found[:10] == [f"s{n}" for n in range(10)]
    assert found[10:] == [f"t{n}" for n in range(len(found) - 10)] and len(found) < 20
    assert list(shards.skipped) == ["a/b-1.tar"]


def test_overwritten_header_is_no_silent_end(tmp_path):
    path = made.write_tar(tmp_path / "a/b.tar", rows("s", 10))
    content = bytearray(path.read_bytes())
    content[12 * 1024 : 12 * 1024 + 512] = b"\x55" * 512
    path.write_bytes(content)
    with pytest.raises(BadShards, match="no end mark"):
        list(AVShards(tmp_path, "a", "b"))


def test_damaged_table(tmp_path):
    write_table(tmp_path / "a/b.parquet", rows("s", 8), "parquet")
    path = tmp_path / "a/b.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadShards, match="damaged or truncated table"):
        list(AVShards(tmp_path, "a", "b"))


# ------------------------------------------------------------------------------------------------ decoding


def test_decoding():
    speech, video = decode_sample(to_sample(made.sample_fields("x", "A", 30)))
    assert video.dtype == np.uint8 and video.shape == (30, 96, 96)
    assert speech.dtype == np.float32 and speech.shape == (30 * 640,)
    assert 0.05 < np.sqrt(np.mean(speech**2)) < 0.2


def test_other_sample_rates_are_converted():
    speech, video = decode_sample(ShardSample("x", made.clip_bytes(30, rate=44100), "", 0))
    assert len(speech) == 640 * len(video) == 640 * 30
    assert np.abs(speech[-640:]).max() > 0


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (lambda: made.clip_bytes(30, fps=30), "x1: wrong frame rate; got 30.0"),
        (lambda: made.clip_bytes(30, size=64), r"x1: frames of another size; got \(64, 64\)"),
        (lambda: made.clip_bytes(30)[:3000], "x1: unreadable, damaged or truncated clip"),
        (lambda: b"no clip", "x1: unreadable"),
        (lambda: b"", "x1: has no clip"),
    ],
)
def test_clips_that_cannot_be_used(content, match):
    with pytest.raises(DataError, match=match):
        decode_sample(ShardSample("x1", content(), "", 0))


# ------------------------------------------------------------------------------------------------ the hub


class Hub:
    """Stands in for ``huggingface_hub``: a folder as a data set of the hub."""

    def __init__(self, folder):
        self.folder, self.failure, self.opened = folder, None, []

    def HfApi(self):
        return self

    def HfFileSystem(self):
        return self

    def dataset_info(self, name, revision=None):
        if self.failure is not None:
            raise self.failure
        names = [path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()]
        return SimpleNamespace(sha="c0ffee", siblings=[SimpleNamespace(rfilename=name) for name in names])

    def open(self, address, mode, block_size):
        self.opened.append(address)
        return open(self.folder / address.removeprefix("datasets/org/set@c0ffee/"), mode)

    def hf_hub_download(self, name, path, repo_type, revision, cache_dir):
        assert (repo_type, revision) == ("dataset", "c0ffee")
        target = Path(cache_dir) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return shutil.copy(self.folder / path, target)


@pytest.fixture()
def hub(tmp_path, monkeypatch):
    made.write_tar(tmp_path / "hub/lrs2/train-0.tar", rows("s", 3))
    made.write_tar(tmp_path / "hub/lrs2/train-1.tar", rows("t", 2))
    stand_in = Hub(tmp_path / "hub")
    monkeypatch.setattr(shard_files, "require", lambda module, extra: stand_in)
    return stand_in


def test_streaming_from_the_hub_opens_shards_as_they_are_needed(hub):
    shards = AVShards("org/set", "lrs2", "train")
    assert hub.opened == []
    walk = iter(shards)
    assert next(walk).sample_id == "s0" and hub.opened == ["datasets/org/set@c0ffee/lrs2/train-0.tar"]
    assert ids(shards) == ["s0", "s1", "s2", "t0", "t1"]
    _, position = next(shards.read_shard(0))
    assert [sample.sample_id for sample, _ in shards.read_shard(0, position)] == ["s1", "s2"]
    assert ids(pickle.loads(pickle.dumps(shards))) == ids(shards)


def test_without_streaming_shards_are_kept_in_the_cache(hub, tmp_path):
    shards = AVShards("org/set", "lrs2", "train", streaming=False, cache_dir=tmp_path / "cache")
    assert len(ids(shards)) == 5 and hub.opened == []
    assert (tmp_path / "cache/lrs2/train-1.tar").is_file()


def failure(name, *bases):
    return type(name, bases or (Exception,), {})("the hub's words")


@pytest.mark.parametrize(
    ("error", "kind", "match"),
    [
        (failure("RepositoryNotFoundError"), MissingDataError, "no such repository"),
        (failure("GatedRepoError"), MissingDataError, "gated.*hf auth login"),
        (failure("OfflineModeIsEnabled", ConnectionError), EnvironmentProblem, "hub cannot be reached"),
    ],
)
def test_errors_of_the_hub(hub, error, kind, match):
    hub.failure = error
    with pytest.raises(kind, match=f"{match}.*no folder 'org/set' either"):
        AVShards("org/set", "lrs2", "train")


def test_a_network_that_breaks_ends_the_reading_and_loses_no_shard_in_silence(hub, monkeypatch):
    shards = AVShards("org/set", "lrs2", "train")

    def broken(self, size=-1):
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(
        hub, "open", lambda *_, **__: SimpleNamespace(read=broken.__get__(hub), seek=lambda *_: 0, tell=int, close=int)
    )
    with pytest.raises(EnvironmentProblem, match="reset by peer"):
        list(shards)


def test_a_folder_of_that_name_comes_first(hub, tmp_path, monkeypatch):
    made.write_tar(tmp_path / "org/set/lrs2/train.tar", rows("local", 1))
    monkeypatch.chdir(tmp_path)
    assert ids(AVShards("org/set", "lrs2", "train")) == ["local0"]
