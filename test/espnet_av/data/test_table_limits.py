# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What tables may claim. Files made to do harm are in test/trust/test_hostile_tables.py."""

import io

import pytest

from espnet_av.data.parquet_footer import Chunk, RowGroup
from espnet_av.data.table_limits import BoundedArrow, TooLargeError, require_bounded, require_bounded_row_group

MIB = 1 << 20


def test_limits_grow_with_the_file():
    require_bounded(10 * MIB, 500 * MIB, 100 * MIB)
    require_bounded(10, 64 * MIB, 1_000_640)
    for claim in ((10 * MIB, 501 * MIB, 0), (10, 64 * MIB + 1, 0), (10, -1, 0), (10, 0, 1_000_641), (10, 0, -1)):
        with pytest.raises(TooLargeError):
            require_bounded(*claim)


def test_rows_that_are_unpacked_at_once():
    small, large = Chunk(9, 1000, 900), Chunk(9, 60 * MIB, 900)
    assert require_bounded_row_group(RowGroup(9, (small, small))) > 16
    assert require_bounded_row_group(RowGroup(9, (small, large))) == 1
    assert require_bounded_row_group(RowGroup(0, ())) > 16
    with pytest.raises(TooLargeError):  # each may, all together not
        require_bounded_row_group(RowGroup(9, (large, large)))


@pytest.mark.parametrize("form", ["stream", "file"])
@pytest.mark.parametrize("size", [1, 7, 1000, -1])
def test_messages_pass_unchanged(form, size):
    ipc = pytest.importorskip("pyarrow.ipc")
    table = pytest.importorskip("pyarrow").table({"a": [b"bytes", b""], "b": ["text", None]})
    stream = io.BytesIO()
    with (ipc.new_stream if form == "stream" else ipc.new_file)(stream, table.schema) as writer:
        writer.write_table(table)
    bounded, parts = BoundedArrow(io.BytesIO(stream.getvalue())), []
    while part := bounded.read(size):
        assert size < 0 or len(part) <= size
        parts.append(part)
    assert ipc.open_stream(b"".join(parts)).read_all().equals(table)
