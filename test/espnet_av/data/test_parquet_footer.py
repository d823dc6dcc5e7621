# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The sizes in a Parquet footer, against those that pyarrow gives."""

import io

import pytest

from espnet_av.data.parquet_footer import Chunk, read_row_groups

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def write(**options):
    rows = {"key": [f"k{n}" for n in range(500)], "x": [[0.5] * (n % 4) for n in range(500)], "n": list(range(500))}
    rows |= {"flag": [True, None] * 250, "nested": [{"a": n, "b": [b"x" * n]} for n in range(500)]}
    stream = io.BytesIO()
    parquet.write_table(arrow.table(rows), stream, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zstd", "row_group_size": 7},
        {"compression": "none", "version": "1.0", "use_dictionary": False},
        {"data_page_version": "2.0", "write_page_index": True, "row_group_size": 100},
        {"store_schema": False, "write_statistics": False, "sorting_columns": [parquet.SortingColumn(2)]},
    ],
)
def test_sizes(options):
    content = write(**options)
    metadata = parquet.ParquetFile(io.BytesIO(content)).metadata
    groups = read_row_groups(io.BytesIO(content))
    assert len(groups) == metadata.num_row_groups
    for number, group in enumerate(groups):
        wanted = metadata.row_group(number)
        columns = [wanted.column(index) for index in range(wanted.num_columns)]
        assert group.num_rows == wanted.num_rows
        assert list(group.chunks) == [
            Chunk(each.num_values, each.total_uncompressed_size, each.total_compressed_size) for each in columns
        ]


def test_what_is_no_footer():
    content = write()
    size = int.from_bytes(content[-8:-4], "little")
    deep = b"\x1c" * 10_000
    for bad in (b"", b"PAR1", content[:-1], content[:-8] + (1 << 31).to_bytes(4, "little") + b"PAR1",
                content[:-8] + size.to_bytes(4, "little") + b"PARE", b"\xff" * 20 + b"\x14\0\0\0PAR1",
                deep + len(deep).to_bytes(4, "little") + b"PAR1", b"\x18\x7f\x02\0\0\0PAR1"):  # fmt: skip
        with pytest.raises(ValueError):
            read_row_groups(io.BytesIO(bad))
