# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Files made to do harm: nothing of them is executed, nothing is written, memory stays bounded, and the error is clear.

Every file is read by the function that reads such files in the package, in this process: its peak of memory is looked
at afterwards, and a file that shows that code was run must not appear.
"""

import gzip
import io
import json
import os
import pickle
import pickletools
import resource
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from small_models import TASKS, load, make_experiment

from espnet_av.activesep.safe_pickle import loads, read_pickle
from espnet_av.report.packing import verify_pack
from espnet_av.train.checkpoint import UnsafeCheckpointError, read_tensors
from espnet_av.train.foreign_file import read_foreign
from espnet_av.train.loading import load_weights
from espnet_av.utils.config import load_yaml
from espnet_av.utils.errors import CheckpointError, DataError, EspnetAVError, UsageError
from espnet_av.utils.untrusted import gunzip, load_npy, open_npz, parse_json, parse_yaml

MIB = 1 << 20
ALLOWED_GROWTH = 400 * MIB


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture(autouse=True)
def nothing_happens(tmp_path, monkeypatch):
    """Fail when code was run, when a file was written outside, or when the memory grew."""
    monkeypatch.chdir(tmp_path)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert not (tmp_path / "pwned").exists(), "code of the file was run"
    assert not (tmp_path.parent / "escaped").exists(), "a file was written outside"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024
    assert grown < ALLOWED_GROWTH, f"the memory grew by {grown / MIB:.0f} MiB"


def command(tmp_path):
    return Call(os.system, f"touch {tmp_path}/pwned")


# ---------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("reader", [read_tensors, load_weights, read_foreign])
@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoint_with_code(tmp_path, reader, zipped):
    path = tmp_path / "model.pth"
    harm = {"model": {"a": torch.zeros(2)}, "args": command(tmp_path)}
    torch.save(harm, path, _use_new_zipfile_serialization=zipped)
    try:
        state = reader(path)
    except CheckpointError as error:
        assert "posix.system" in str(error)
    else:  # objects beside the tensors are left out unread
        assert reader is read_foreign and list(state) == ["a"]


def test_checkpoint_that_is_a_pickle_and_nothing_else(tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(pickle.dumps(command(tmp_path)))
    with pytest.raises(CheckpointError):
        load_weights(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoint_that_asks_for_memory(tmp_path, zipped):
    path = tmp_path / "model.pth"
    torch.save({"a": Call(bytearray, 64 << 30)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsafeCheckpointError, match="claims more than it holds; got 'a bytearray'"):
        read_tensors(path)


def test_checkpoint_whose_tensors_are_one_number(tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"a": torch.zeros(1).expand(1 << 40)}, path)
    with pytest.raises(UnsafeCheckpointError, match="claims more than it holds.*4398046511104 bytes of tensors"):
        load_weights(path)


def test_checkpoint_whose_storage_is_longer_than_the_file(tmp_path):
    from torch._utils import _rebuild_tensor_v2

    path = tmp_path / "model.pth"
    storage = torch.zeros(3).storage()
    torch.save({"a": Call(_rebuild_tensor_v2, storage, 0, (1 << 40,), (1,), False, {})}, path)
    with pytest.raises(CheckpointError):
        load_weights(path)


def test_checkpoint_that_is_a_zip_bomb(tmp_path):
    good, path = tmp_path / "good.pth", tmp_path / "bomb.pth"
    torch.save({"a": torch.zeros(20 * MIB)}, good)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert path.stat().st_size < MIB
    with pytest.raises(UnsafeCheckpointError, match=r"claims more than it holds; got '.*data/0 of 83886080 bytes"):
        load_weights(path)


def safetensors(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


@pytest.mark.parametrize(
    "content",
    [
        safetensors(b"{}", length=1 << 62),
        safetensors(b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}', b"1234"),
        safetensors(b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}', b"1234"),
        safetensors(b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}'),
        safetensors(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}', b"1234"),
        safetensors(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}', b"1234"),
        safetensors(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
                    b'"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}', b"0" * 12),
        safetensors(b"[" * 100_000),
        safetensors(b"\xff\xfe"),
        b"",
        b"1234567",
    ],
)  # fmt: skip
def test_safetensors_with_a_lying_header(tmp_path, content):
    from espnet_av.avss.lip_embedding import read_note
    from espnet_av.codec.deploy import load_folded

    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    for reader in (load_weights, read_note, load_folded):
        with pytest.raises(CheckpointError, match="damaged"):
            reader(path)


def test_index_of_weights_stays_in_its_folder(tmp_path):
    from espnet_av.avsr.published import read_tensors_of

    outside, inside = tmp_path / "secret.safetensors", tmp_path / "model"
    outside.write_bytes(safetensors(b"{}"))
    inside.mkdir()
    index = inside / "model.safetensors.index.json"
    for content in ('{"weight_map": {"a": "../secret.safetensors"}}', "[" * 100_000, '{"weight_map": []}', "{"):
        index.write_text(content)
        with pytest.raises(CheckpointError):
            read_tensors_of(index)


# ---------------------------------------------------------------- packs


@pytest.fixture
def packed(tmp_path):
    """A function that makes the pack of a small model of a task."""
    return lambda task: Path(load(task, make_experiment(task, tmp_path / "made")).save_pretrained(tmp_path / "pack"))


@pytest.mark.parametrize(
    "text",
    [
        '!!python/object/apply:os.system ["touch pwned"]',
        'model: !!python/name:os.system ""',
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 10)}]\n" for i in range(9)),
        "a: &a [*a]",
        "[" * 5_000,
        "a: " + "1" * 10_000,
        "a: 2024-99-99",
        "token_list: 3\nmodel_conf: 3",
        "token_list: [[]]\nmodel_conf: []",
        "- not a mapping",
        "\x00",
    ],
)  # fmt: skip
@pytest.mark.parametrize("task", TASKS)
def test_configuration_of_a_pack(tmp_path, packed, task, text):
    """The loaders of all systems refuse it with an error of ours."""
    folder = tmp_path / "hostile"
    source = tmp_path.parent / f"pack_of_{task}"
    if not source.exists():
        shutil.copytree(packed(task), source)
    shutil.copytree(source, folder)
    (folder / "config.yaml").write_text(text)
    with pytest.raises(EspnetAVError):
        load(task, folder)


def test_yaml_bombs_are_no_configuration(tmp_path):
    layers = ["a: &a {k1: 1, k2: 2, k3: 3, k4: 4, k5: 5, k6: 6, k7: 7, k8: 8}"]
    layers += [
        f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 16)}]}}" for old, new in zip("abcdefg", "bcdefgh", strict=True)
    ]
    for text in (
        "\n".join(layers),
        f"a: &a {{x: 1}}\nb: {{<<: [{', '.join(['*a'] * 100)}]}}",
        "a: " + "x" * (33 * MIB),
    ):
        with pytest.raises(yaml.YAMLError):
            parse_yaml(text)
        (tmp_path / "train.yaml").write_text(text)
        with pytest.raises(UsageError, match="train.yaml is no valid YAML"):
            load_yaml(tmp_path / "train.yaml")
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, y: [*a, *a]}") == {"a": {"x": 1}, "b": {"x": 1, "y": [{"x": 1}] * 2}}


@pytest.mark.parametrize("task", ["avsr", "avss", "codec", "avgen"])
def test_configuration_that_claims_a_huge_network(tmp_path, packed, task):
    sizes = {
        "avsr": lambda conf: conf["decoder_conf"].update(ffn_dim=1 << 33),
        "avss": lambda conf: conf.update(channels=1 << 20, hidden=1 << 20),
        "codec": lambda conf: conf.update(codebook_size=1 << 34),
        "avgen": lambda conf: conf["transformer_conf"].update(hidden_dim=1 << 33),
    }
    folder = packed(task)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    sizes[task](config["model_conf"])
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(EspnetAVError):
        load(task, folder)


def test_pack_names_no_file_of_this_machine(tmp_path, packed):
    folder = packed("avsr")
    secret = tmp_path / "secret"
    secret.write_text("\n".join("abcdefg"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "token_list": str(secret)}))
    with pytest.raises(DataError, match="a file of the model is missing"):
        load("avsr", folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", ""])
def test_digests_are_of_files_in_the_pack(tmp_path, packed, name):
    folder = packed("avss")
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "files": {**meta["files"], name: "0" * 64}}))
    with pytest.raises(DataError, match="outside of the pack"):
        verify_pack(folder)
    (folder / "meta.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="not valid JSON"):
        verify_pack(folder)


# ---------------------------------------------------------------- arrays


def npy(shape, dtype="<f4", data=b"1234", order=False):
    head = repr({"descr": dtype, "fortran_order": order, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


def objects(tmp_path):
    stream = io.BytesIO()
    np.save(stream, np.array([command(tmp_path)], dtype=object), allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        objects,
        lambda _: npy((1 << 40,)),
        lambda _: npy((1 << 62, 1 << 62)),
        lambda _: npy((-1,)),
        lambda _: npy(("a",)),
        lambda _: npy((1,), dtype="V4611686018427387904"),
        lambda _: npy((1,), dtype="O"),
        lambda _: b"\x93NUMPY\x01\x00" + struct.pack("<H", 9) + b"__import_",
        lambda _: b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 31) + b"{",
        lambda _: pickle.dumps([1]),
        lambda _: b"",
        lambda _: b"PK\x03\x04",
    ],
)
def test_npy(tmp_path, make):
    from espnet_av.avgen.generator_parts import read_array
    from espnet_av.avgen.score_files import _load
    from espnet_av.data.types import load_video_npy

    path = tmp_path / "a.npy"
    path.write_bytes(make(tmp_path))
    for mmap in (True, False):
        with pytest.raises((ValueError, OSError)):
            load_npy(path, mmap=mmap)
    for reader in (lambda: load_video_npy(str(path)), lambda: read_array(path, (2,), 29), lambda: _load(path)):
        with pytest.raises(DataError):
            reader()


def write_zip(path, members, kind=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def zeros(num_bytes):
    return npy((num_bytes,), "|u1", bytes(num_bytes))


def test_npz(tmp_path, monkeypatch):
    from espnet_av.avgen.model_statistics import read_statistics
    from espnet_av.avss.lips import _read_npz
    from espnet_av.data.types import load_video_npz

    monkeypatch.setattr(open_npz.__wrapped__, "__defaults__", (64 * MIB,))
    path = tmp_path / "a.npz"
    bombs = {
        "objects": {"video.npy": objects(tmp_path)},
        "lying": {"video.npy": npy((1 << 40,))},
        "bomb": {"video.npy": zeros(80 * MIB)},
        "many": {f"{number}.npy": zeros(8 * MIB) for number in range(10)},
        "empty": {},
        "pickle": {"video.npy": pickle.dumps(command(tmp_path))},
    }
    for members in bombs.values():
        write_zip(path, members)
        for reader in (lambda: load_video_npz(str(path)), lambda: _read_npz(path)):
            with pytest.raises(DataError):
                reader()
    write_zip(path, {"mel_mean.npy": objects(tmp_path)})
    with pytest.raises(DataError):
        read_statistics(path)
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(DataError):
        load_video_npz(str(path))


def test_npz_bombs_are_seen_before_they_go_off(tmp_path):
    path = tmp_path / "a.npz"
    write_zip(path, {"a.npy": zeros(80 * MIB)})
    with pytest.raises(ValueError, match="83886208 bytes come out of it; allowed: 67108864"), open_npz(path, 64 * MIB):
        pass


def test_statistics_of_a_stranger(tmp_path):
    """A file of torch with arrays of NumPy in it: these may not bring kinds that NumPy would believe."""
    from espnet_av.corpora.audio2photoreal import read_data_stats

    path = tmp_path / "data_stats.pth"
    torch.save({"mean": np.arange(3.0), "n": np.float64(2)}, path)
    found = read_data_stats(path)
    np.testing.assert_array_equal(found["mean"], np.arange(3.0))
    torch.save({"mean": hostile_array()}, path)
    assert read_data_stats(path)["mean"].dtype == np.float64
    torch.save({"mean": command(tmp_path)}, path)
    with pytest.raises(DataError, match="cannot be read"):
        read_data_stats(path)


# ---------------------------------------------------------------- pickles of corpora


class EvilArray:
    """Pickles as an array of floats whose kind claims that they are addresses of objects."""

    def __reduce__(self):
        make, arguments, _ = np.arange(2.0).__reduce__()
        return make, arguments, (1, (2,), EvilKind(), False, b"\x41" * 16)


class EvilKind:
    def __reduce__(self):
        return np.dtype, ("f8", False, True), (3, "<", None, None, None, 8, 8, 63)


def hostile_array():
    return EvilArray()


def test_flags_of_a_pickled_kind_are_not_believed():
    array = loads(pickle.dumps(hostile_array(), 3))
    assert array.dtype == np.float64 and not array.dtype.hasobject
    copied = pickle.loads(pickle.dumps(array))
    assert type(copied) is np.ndarray


def memo(index):
    return b"\x80\x02]" + b"r" + struct.pack("<I", index) + b"."


def repeated(times):
    """A list of 4 MB that is copied again and again."""
    copies = b"".join(b"cbuiltins\nlist\n" + b"h\x00\x85R" + b"0" for _ in range(times))
    return b"\x80\x02" + b"B" + struct.pack("<I", 4 * MIB) + bytes(4 * MIB) + b"q\x00" + copies + b"."


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Call(os.system, "touch pwned")),
        pickle.dumps(Call(eval, "open('pwned', 'w')")),
        b"cos\nsystem\n(S'touch pwned'\ntR.",
        b"(S'touch pwned'\nios\nsystem\n.",
        b"cbuiltins\ngetattr\n.",
        b"cnumpy\nload\n.",
        b"cbuiltins\ndict.fromkeys\n.",
        pickle.dumps(np.array([Call(os.system, "touch pwned")], dtype=object)),
        pickle.dumps(Call(np.ndarray, (1 << 40,))),
        memo(0x7FFFFFFF),
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b".",
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.",
        b"I" + b"1" * 10_000 + b"\n.",
        b"",
        b"garbage",
        b"\x80\x02(" + b"t" * 10,
    ],
)
def test_pickles_of_corpora(tmp_path, content):
    path = tmp_path / "graph.pkl"
    path.write_bytes(content)
    with pytest.raises(DataError, match="graph.pkl"):
        read_pickle(path)


def test_pickles_that_copy_without_end():
    content = repeated(2000)
    assert sum(1 for _ in pickletools.genops(content)) > 2000
    with pytest.raises(DataError, match="much more memory than its size"):
        loads(content)
    assert loads(pickle.dumps({"a": {1, 2}, "b": [(1, 2)]}, 2)) == {"a": {1, 2}, "b": [(1, 2)]}


# ---------------------------------------------------------------- archives


def tar_with(*members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, kind, target, content in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.size = kind, target, len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def test_shards_write_nothing_and_follow_no_links(tmp_path):
    from espnet_av.data.shard_readers import read_rows

    (tmp_path / "secret").write_text("secret")
    content = tar_with(
        ("../escaped.txt", tarfile.REGTYPE, "", b"harm"),
        (str(tmp_path / "pwned.txt"), tarfile.REGTYPE, "", b"harm"),
        ("link.txt", tarfile.SYMTYPE, str(tmp_path / "secret"), b""),
        ("hard.txt", tarfile.LNKTYPE, "../secret", b""),
        ("zero.txt", tarfile.CHRTYPE, "", b""),
        ("pipe.txt", tarfile.FIFOTYPE, "", b""),
    )
    rows = list(read_rows(io.BytesIO(content), "a.tar"))
    assert [fields for _, fields, _ in rows] == [{"txt": b"harm"}] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret"]


def long_header(size):
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = tarfile.XHDTYPE, size
    return entry.tobuf(tarfile.USTAR_FORMAT)


def test_shards_with_huge_members(tmp_path, monkeypatch):
    from espnet_av.data.shard_readers import read_rows
    from espnet_av.utils import untrusted

    entry = tarfile.TarInfo("000.video")
    entry.size = 1 << 40
    bomb = gzip.compress(_sized("000.video", 80 * MIB) + bytes(80 * MIB))
    header = gzip.compress(long_header(40 * MIB) + bytes(40 * MIB), 1)
    monkeypatch.setattr(untrusted.read_member, "__defaults__", (64 * MIB,))
    for name, content in (("a.tar", entry.tobuf()), ("a.tar.gz", bomb), ("b.tar.gz", header)):
        with pytest.raises(DataError, match="damaged or truncated shard"):
            list(read_rows(io.BytesIO(content), name))


def _sized(name, size):
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry.tobuf()


def test_debian_packages(tmp_path):
    from espnet_av.corpora.debian_packages import read_files

    data = tar_with(
        ("./usr/a.wav", tarfile.SYMTYPE, "/etc/passwd", b""), ("./../../escaped", tarfile.REGTYPE, "", b"x")
    )
    for content in (
        data,
        _sized("./usr/a.wav", 1 << 40),
        long_header(1 << 32),
    ):
        path = tmp_path / "sounds.deb"
        header = f"{'data.tar':<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        path.write_bytes(b"!<arch>\n" + header + content)
        try:
            assert dict(read_files(path, r".*\.wav")) == {}
        except DataError as error:
            assert "cannot be read" in str(error)


def test_compressed_episodes(tmp_path, monkeypatch):
    from espnet_av.activesep.episodes import _read_json

    path = tmp_path / "split.json.gz"
    for content in (gzip.compress(b"[" * 100_000), gzip.compress(b"{}")[:-4], b"\x1f\x8b", b"nothing"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="split.json.gz is no JSON"):
            _read_json(path)
    bomb = gzip.compress(bytes(80 * MIB))
    with pytest.raises(ValueError, match="more than 67108864 bytes come out of it"):
        gunzip(bomb, 64 * MIB)
    assert gunzip(gzip.compress(b"one") + gzip.compress(b" two")) == b"one two"


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "\x00", '{"a":' * 100_000, "1" * 10_000])
def test_json(text):
    with pytest.raises(ValueError):
        parse_json(text)
