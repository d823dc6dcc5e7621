# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the footer of a Parquet file says about its parts, read without the library.

``pyarrow`` ends the whole process when it is asked for the description of a damaged column; its reader, which raises
an error there, unpacks at once. The footer is a structure in the compact form of Thrift; all but sizes is passed over.
"""

import io
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

MAGIC = b"PAR1"
MAX_FOOTER_BYTES = 64 << 20
_MAX_DEPTH = 32
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_NUMBERS = (4, 5, 6)
#: Fields that are kept: number -> those of the structure or list below, None for a number.
_CHUNK = {5: None, 6: None, 7: None}
_WANTED = {4: {1: {3: _CHUNK}, 3: None}}


@dataclass(frozen=True)
class Chunk:
    """A column of a row group: single values, bytes that come out, bytes in the file."""

    num_values: int
    unpacked: int
    packed: int


@dataclass(frozen=True)
class RowGroup:
    """A row group."""

    num_rows: int
    chunks: tuple[Chunk, ...]


def read_row_groups(stream: BinaryIO) -> list[RowGroup]:
    """Return the row groups of a Parquet file; the position in the file is another afterwards.

    Raises:
        ValueError: It is none, or its footer is damaged.
    """
    end = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, end - 8))
    tail = stream.read(8)
    if len(tail) < 8 or tail[4:] != MAGIC:
        raise ValueError("no end mark")
    (length,) = struct.unpack("<I", tail[:4])
    if length > min(end - 8, MAX_FOOTER_BYTES):
        raise ValueError(f"a footer of {length} bytes")
    stream.seek(end - 8 - length)
    try:
        fields = _Compact(stream.read(length)).read(_STRUCT, _WANTED, 0)
        return [_row_group(group) for group in fields.get(4, [])]
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a damaged footer ({error!r})") from error


def _row_group(fields: dict) -> RowGroup:
    chunks = (column[3] for column in fields[1])
    return RowGroup(int(fields[3]), tuple(Chunk(int(each[5]), int(each[6]), int(each[7])) for each in chunks))


class _Compact:
    """A reader of the compact form of Thrift; every value takes a byte at least, so that its work is bounded."""

    def __init__(self, content: bytes) -> None:
        self._content, self._place = content, 0

    def read(self, kind: int, wanted: dict | None, depth: int) -> Any:
        """Read a value; of structures only fields in ``wanted``."""
        if depth > _MAX_DEPTH:
            raise ValueError("a footer that is nested too deeply")
        if kind in (_TRUE, _FALSE):  # in a list; as a field its kind is its value
            return self._byte() == _TRUE
        if kind == _BYTE:
            return self._byte()
        if kind in _NUMBERS:
            number = self._varint()
            return (number >> 1) ^ -(number & 1)
        if kind in (_DOUBLE, _BINARY):
            return self._skip(8 if kind == _DOUBLE else self._varint())
        if kind in (_LIST, _SET):
            return self._list(wanted, depth)
        if kind == _MAP:
            return self._map(depth)
        if kind == _STRUCT:
            return self._struct(wanted or {}, depth)
        raise ValueError(f"a footer with a value of kind {kind}")

    def _struct(self, wanted: dict, depth: int) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            delta, kind = head >> 4, head & 15
            number = number + delta if delta else self.read(_NUMBERS[0], None, depth)
            if kind in (_TRUE, _FALSE):
                continue
            value = self.read(kind, wanted.get(number), depth + 1)
            if number in wanted:
                fields[number] = value
        return fields

    def _list(self, wanted: dict | None, depth: int) -> list:
        head = self._byte()
        size, kind = head >> 4, head & 15
        size = self._varint() if size == 15 else size
        kept = []
        for _ in range(size):
            value = self.read(kind, wanted, depth + 1)
            if wanted is not None:
                kept.append(value)
        return kept

    def _map(self, depth: int) -> None:
        size = self._varint()
        kinds = self._byte() if size else 0
        for _ in range(size):
            self.read(kinds >> 4, None, depth + 1)
            self.read(kinds & 15, None, depth + 1)

    def _byte(self) -> int:
        value = self._content[self._place]
        self._place += 1
        return value

    def _varint(self) -> int:
        value, shift = 0, 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("a footer with a number without end")

    def _skip(self, length: int) -> None:
        if length > len(self._content) - self._place:
            raise ValueError("a footer that is cut off")
        self._place += length
