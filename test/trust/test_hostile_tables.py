# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Parquet and Arrow files made to fill the memory: they are refused before anything of them is unpacked."""

import io
import struct

import numpy as np
import pytest
from fuzz_inputs import limits

from espnet_av.data.shard_readers import read_rows
from espnet_av.utils.errors import DataError

arrow = pytest.importorskip("pyarrow")
ipc = pytest.importorskip("pyarrow.ipc")
parquet = pytest.importorskip("pyarrow.parquet")
MIB = 1 << 20
KINDS = ("parquet", "stream", "file")


def write(kind, table, compression="zstd", **options):
    """Return a table as a file of a kind, and the name to read it by."""
    stream = io.BytesIO()
    if kind == "parquet":
        parquet.write_table(table, stream, compression=compression or "none", **options)
        return stream.getvalue(), "a.parquet"
    make = ipc.new_stream if kind == "stream" else ipc.new_file
    with make(stream, table.schema, options=ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=options.get("row_group_size"))
    return stream.getvalue(), "a.arrow"


def read(content, name):
    """Read a file as shards are read, with little memory and little time."""
    with limits(20.0, 300):
        return [fields for _, fields, _ in read_rows(io.BytesIO(content), name)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
def test_good_tables_are_read(kind, compression):
    noise = [np.random.default_rng(number).bytes(50_000) for number in range(40)]
    rows = {"video": noise, "label": ["the same words"] * 40, "empty": [b""] * 40, "nothing": [None] * 40}
    rows["sound"] = [np.arange(n) / 7 for n in range(40)]
    content, name = write(kind, arrow.table(rows), compression, row_group_size=7)
    found = read(content, name)
    assert [fields["video"] for fields in found] == noise
    assert all(fields["label"] == "the same words" and fields["nothing"] is None for fields in found)
    assert [len(fields["sound"]) for fields in found] == list(range(40))


@pytest.mark.parametrize("kind", KINDS)
def test_texts_and_zeros_may_shrink(kind):
    table = arrow.table({"label": ["so many equal words " * 50_000], "silence": [bytes(20 * MIB)]})
    content, name = write(kind, table)
    assert len(content) < 100_000
    assert len(read(content, name)[0]["silence"]) == 20 * MIB


def bomb(kind):
    """Return a small file of 200 MB."""
    return write(
        kind, arrow.table({"a": [b"x"], "video": [bytes(200 * MIB)]}), use_dictionary=False, write_statistics=False
    )


@pytest.mark.parametrize("kind", KINDS)
def test_compressed_zeros(kind):
    content, name = bomb(kind)
    assert len(content) < 50_000
    with pytest.raises(DataError, match="claims more than it holds: 20971.* bytes would come out of"):
        read(content, name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inside", [True, False])
def test_values_without_bytes(kind, inside):
    number = 20_000_000
    nothing = arrow.nulls(number)
    if inside:
        nothing = arrow.ListArray.from_arrays(arrow.array([0, number], arrow.int32()), nothing)
    content, name = write(kind, arrow.table({"a": nothing}), row_group_size=number)
    with pytest.raises(DataError, match=r"claims more than it holds: 2000000\d values in"):
        read(content, name)


def test_one_large_value_in_many_rows_of_parquet():
    value = arrow.array([bytes(60 * MIB)])
    column = arrow.DictionaryArray.from_arrays(arrow.array([0] * 10, arrow.int32()), value)
    options = {"store_schema": False, "dictionary_pagesize_limit": 1 << 30, "write_statistics": False}
    content, name = write("parquet", arrow.table({"video": column}), **options)
    assert len(content) < 10_000
    with limits(60.0, 300):
        sizes = [len(fields["video"]) for _, fields, _ in read_rows(io.BytesIO(content), name)]
    assert sizes == [60 * MIB] * 10


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_one_large_value_in_a_dictionary_of_arrow(kind):
    column = arrow.DictionaryArray.from_arrays(arrow.array([0, 0], arrow.int32()), arrow.array([bytes(200 * MIB)]))
    content, name = write(kind, arrow.table({"video": column}))
    with pytest.raises(DataError, match="claims more than it holds: 20971.* bytes would come out of"):
        read(content, name)


@pytest.mark.parametrize("claim", [1 << 62, 1 << 34, -7, 1 << 30])
def test_arrow_buffers_that_lie(claim):
    content, name = bomb("stream")
    real = struct.pack("<q", 200 * MIB)
    assert content.count(real) == 2  # the claim, and the offsets of the values, which lie uncompressed
    with pytest.raises(DataError):
        read(content.replace(real, struct.pack("<q", claim), 1), name)


@pytest.mark.parametrize("length", [1 << 45, 1 << 33, -1])
def test_arrow_bodies_that_lie(tmp_path, length):
    content, _ = write("stream", arrow.table({"video": [bytes(range(256)) * 4]}), None)
    reader = ipc.MessageReader.open_stream(content)
    reader.read_next_message()
    body = struct.pack("<q", len(reader.read_next_message().body))
    assert content.count(body) >= 1
    (tmp_path / "a.arrow").write_bytes(content.replace(body, struct.pack("<q", length), 1))
    with pytest.raises(DataError, match="damaged or truncated table"), limits(20.0, 300):
        with open(tmp_path / "a.arrow", "rb") as stream:
            list(read_rows(stream, "a.arrow"))


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_are_cut_off(kind):
    content, name = write(kind, arrow.table({"a": [b"some bytes"] * 40}), row_group_size=10)
    for end in (0, 3, 7, 8, 100, len(content) // 2 + 3, len(content) - 9):
        if kind == "stream" and end == len(content) - 9:
            continue  # it may end without an end mark
        with pytest.raises(DataError, match="damaged or truncated table"):
            read(content[:end], name)
