# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Samples out of one shard file, from any position on: tar (WebDataset), Parquet, and the Arrow files of ``datasets``.

In a tar shard the members of a sample follow each other and share the name up to the first dot: ``000012.video``,
``000012.label``, ``000012.length``. In tables a sample is a row.
"""

import os
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Literal

from espnet_av.data.parquet_footer import read_row_groups
from espnet_av.data.table_limits import BoundedArrow, TooLargeError, require_bounded_row_group
from espnet_av.utils.errors import DataError
from espnet_av.utils.optional import require
from espnet_av.utils.untrusted import BoundedTarInfo, read_member

#: Key of the sample, its fields, and the position to go on at.
Row = tuple[str, dict[str, Any], int]


def read_rows(stream: BinaryIO, path: str, start: int = 0) -> Iterator[Row]:
    """Yield the samples of a shard.

    Args:
        stream: The open file.
        path: Its name; the suffix tells the format.
        start: Position that an earlier sample gave, 0 for the beginning: the byte of the next sample in a plain tar
            file, its number in other formats.

    Yields:
        ``(key, {field: value}, position after it)``.

    Raises:
        DataError: The file is damaged or truncated; samples before the damage have been given.
    """
    if path.endswith(".tar"):
        yield from _read_tar(stream, path, start)
    elif path.endswith((".tar.gz", ".tgz")):
        yield from _numbered(_read_tar(stream, path, 0, "r:gz"), start)
    else:
        yield from _numbered(_read_table(stream, path, start), 0, first=start)


def _numbered(rows: Iterator[Row], skip: int, first: int = 0) -> Iterator[Row]:
    for number, (key, fields, _) in enumerate(rows, first):
        if number >= skip:
            yield key, fields, number + 1


def _read_tar(stream: BinaryIO, path: str, start: int, mode: Literal["r:", "r:gz"] = "r:") -> Iterator[Row]:
    key: str | None = None
    fields: dict[str, Any] = {}
    try:
        stream.seek(start)
        with tarfile.open(fileobj=stream, mode=mode, tarinfo=BoundedTarInfo) as archive:
            for member in iter(archive.next, None):
                # tarfile would remember every member of a shard of many gigabytes
                archive.members.clear()  # type: ignore[attr-defined]  # not in its stubs
                if not member.isfile():
                    continue
                stem, _, field = os.path.basename(member.name).partition(".")
                name = os.path.join(os.path.dirname(member.name), stem)
                if key is not None and name != key:
                    yield key, fields, member.offset
                    fields = {}
                key = name
                fields[field.lower()] = read_member(archive, member)
            end = archive.offset
            archive.fileobj.seek(end)
            if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile ends there in silence
                raise tarfile.ReadError(f"no end mark at byte {end}")
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        where = f"after sample '{key}'" if key is not None else "at its beginning"
        raise DataError(f"{path}: damaged or truncated shard {where} ({error}); fix: fetch it again") from error
    if key is not None:
        yield key, fields, end


def _read_table(stream: BinaryIO, path: str, start: int) -> Iterator[Row]:
    arrow = require("pyarrow", "hub")
    row = 0
    try:
        for batch in _table_batches(stream, path):
            batch.validate(full=True)  # the library believes offsets of Arrow files, and reads anywhere
            if row + batch.num_rows <= start:
                row += batch.num_rows
                continue
            skip, names = max(0, start - row), batch.schema.names
            for offset in range(skip, batch.num_rows):
                fields = {name: column[offset].as_py() for name, column in zip(names, batch.columns, strict=True)}
                yield str(fields.get("__key__") or f"{os.path.basename(path)}:{row + offset}"), fields, 0
            row += batch.num_rows
    except TooLargeError as error:
        raise DataError(f"{path}: a table that claims more than it holds: {error}; fix: fetch it again") from error
    except (arrow.ArrowException, OSError, MemoryError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: damaged or truncated table ({error}) after row {row}; fix: fetch it again") from error


def _table_batches(stream: BinaryIO, path: str) -> Iterator[Any]:
    """Yield record batches of a Parquet file, or of an Arrow file in the streaming or the random access form."""
    if path.endswith(".parquet"):
        try:
            groups = read_row_groups(stream)
        except ValueError as error:
            raise OSError(str(error)) from error
        table = require("pyarrow.parquet", "hub").ParquetFile(stream)
        if len(groups) != table.num_row_groups:
            raise OSError("a footer that can be read in two ways")
        for number, group in enumerate(groups):
            rows = require_bounded_row_group(group)
            yield from table.iter_batches(batch_size=min(rows, 16), row_groups=[number])
        return
    yield from require("pyarrow.ipc", "hub").open_stream(BoundedArrow(stream))
