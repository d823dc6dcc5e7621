# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What tables that others made may claim: a file of some kilobytes must not ask for the memory of the machine.

Compression makes bombs: 20 kB of Zstandard are 600 MB of zeros. Both formats say how much comes out before anything is
unpacked, Parquet in its footer, Arrow before each compressed buffer; that is looked at first. A Parquet footer may lie,
and the library then believes the head of a page, which can claim 2 GiB; Arrow's claim is the one that is acted on.
"""

import io
import struct
from typing import Any, BinaryIO

from espnet_av.data.parquet_footer import RowGroup
from espnet_av.utils.optional import require

MIB = 1 << 20
FREE_BYTES = 64 * MIB  # may come out of a part of any size
MAX_RATIO = 50  # of unpacked to packed bytes; sound and pictures hardly shrink, text does by ten
FREE_VALUES = 1_000_000
VALUES_PER_BYTE = 64  # of packed bytes; equal values take next to nothing
_ARROW_FILE = b"ARROW1\0\0"
_ARROW_END = b"ARROW1"
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3


class TooLargeError(ValueError):
    """A table claims more than a file of its size holds."""


def require_bounded(packed: int, unpacked: int, values: int) -> None:
    """Look at what a part of a table claims.

    Args:
        packed: Its bytes in the file.
        unpacked: Bytes that come out.
        values: Single values that it holds.

    Raises:
        TooLargeError: That is more than ``packed`` bytes hold.

    >>> require_bounded(10_000_000, 400_000_000, 160_000_000)
    """
    if not 0 <= unpacked <= max(FREE_BYTES, MAX_RATIO * packed):
        raise TooLargeError(f"{unpacked} bytes would come out of {packed}")
    if not 0 <= values <= FREE_VALUES + VALUES_PER_BYTE * packed:
        raise TooLargeError(f"{values} values in {packed} bytes")


def require_bounded_row_group(group: RowGroup) -> int:
    """Look at a row group of a Parquet file.

    Returns:
        How many rows may be unpacked at once: all may hold one large value that is stored once.

    Raises:
        TooLargeError: It claims more than it holds.
    """
    for chunk in group.chunks:
        require_bounded(chunk.packed, chunk.unpacked, chunk.num_values)
    packed = sum(chunk.packed for chunk in group.chunks)
    require_bounded(packed, sum(chunk.unpacked for chunk in group.chunks), group.num_rows)
    return max(1, FREE_BYTES // max((chunk.unpacked for chunk in group.chunks if chunk.unpacked), default=1))


class BoundedArrow(io.RawIOBase):
    """An Arrow file as the stream of messages that it is, each looked at before it is given on.

    Args:
        stream: The open file, in the streaming or the random access form.

    Raises:
        OSError: A file in the random access form is cut off.
        TooLargeError: While reading, when a message claims more than it holds.
    """

    def __init__(self, stream: BinaryIO) -> None:
        start = 0
        if stream.read(len(_ARROW_FILE)) == _ARROW_FILE:
            start = len(_ARROW_FILE)
            stream.seek(-len(_ARROW_END), io.SEEK_END)
            if stream.read(len(_ARROW_END)) != _ARROW_END:
                raise OSError("no end mark")
        stream.seek(start)
        self._messages = require("pyarrow.ipc", "hub").MessageReader.open_stream(stream)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        """See :class:`io.RawIOBase`."""
        return True

    def read(self, size: int = -1) -> bytes:
        """See :class:`io.RawIOBase`."""
        parts, missing = [], size if size >= 0 else 1 << 62
        while missing:
            if not self._left:
                try:
                    message = self._messages.read_next_message()
                except StopIteration:
                    break
                require_bounded_message(message)
                self._left = memoryview(message.serialize())
            parts.append(bytes(self._left[:missing]))
            self._left = self._left[missing:]
            missing -= len(parts[-1])
        return b"".join(parts)


def require_bounded_message(message: Any) -> None:
    """Look at a message of the Arrow format.

    Args:
        message: ``pyarrow.ipc.Message``.

    Raises:
        TooLargeError: It claims more than it holds, or cannot be understood.
    """
    body = memoryview(message.body) if message.body is not None else memoryview(b"")
    try:
        head = _Table.root(bytes(message.metadata))
        kind, table = head.number(1, "<B"), head.table(2)
        if kind == _DICTIONARY_BATCH and table is not None:
            table = table.table(1)
        if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH) or table is None:
            return
        values = [length for length, _ in table.pairs(1)]
        unpacked = len(body)
        if table.table(3) is not None:
            claims = [_claim(body, offset, length) for offset, length in table.pairs(2)]
            unpacked = sum(claims) if min(claims, default=0) >= 0 else -1
    except (struct.error, IndexError, ValueError) as error:
        raise TooLargeError(f"a message that cannot be understood ({error})") from error
    require_bounded(len(body), unpacked, sum(values) if min(values, default=0) >= 0 else -1)


def _claim(body: memoryview, offset: int, length: int) -> int:
    """Return the bytes that a compressed buffer claims to hold; one that did not shrink is kept as it is."""
    if length == 0:
        return 0
    if not 0 <= offset <= offset + length <= len(body):
        raise ValueError("a buffer outside of its message")
    (claimed,) = struct.unpack_from("<q", body, offset)
    return length if claimed == -1 else claimed


class _Table:
    """A table of FlatBuffers, in which Arrow describes its messages; fields are counted from 0."""

    def __init__(self, content: bytes, place: int) -> None:
        self._content, self._place = content, place
        (back,) = struct.unpack_from("<i", content, place)
        self._fields = place - back
        if not 0 <= self._fields < len(content):
            raise ValueError("a table without fields")
        (self._size,) = struct.unpack_from("<H", content, self._fields)

    @classmethod
    def root(cls, content: bytes) -> "_Table":
        """Return the outermost table."""
        (place,) = struct.unpack_from("<I", content, 0)
        return cls(content, place)

    def _find(self, index: int) -> int | None:
        entry = 4 + 2 * index
        if entry + 2 > self._size:
            return None
        (offset,) = struct.unpack_from("<H", self._content, self._fields + entry)
        return self._place + offset if offset else None

    def number(self, index: int, kind: str) -> int:
        """Return a number, 0 where it is left out."""
        place = self._find(index)
        return 0 if place is None else int(struct.unpack_from(kind, self._content, place)[0])

    def _target(self, index: int) -> int | None:
        place = self._find(index)
        return None if place is None else place + struct.unpack_from("<I", self._content, place)[0]

    def table(self, index: int) -> "_Table | None":
        """Return an inner table, None where it is left out."""
        place = self._target(index)
        return None if place is None else _Table(self._content, place)

    def pairs(self, index: int) -> list[tuple[int, int]]:
        """Return a list of pairs of whole numbers."""
        place = self._target(index)
        if place is None:
            return []
        (count,) = struct.unpack_from("<I", self._content, place)
        content = self._content[place + 4 : place + 4 + 16 * count]
        if len(content) != 16 * count:
            raise ValueError("a list that is cut off")
        return list(struct.iter_unpack("<qq", content))
