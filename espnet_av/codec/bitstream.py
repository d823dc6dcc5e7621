# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The ``.eav`` file: codes of the codec as a file or as an endless stream of bytes.

Format, version 1. Numbers are little-endian, codes are packed with the most significant bit first.

Header, 56 bytes:

======  =====  ==========================================================================
offset  bytes  content
======  =====  ==========================================================================
0       4      magic ``EAVC``
4       1      version, 1
5       1      flags; bit 0: the length was not known when the header was written
6       2      length of the header, 56
8       16     digest of the model (:func:`espnet_av.codec.deploy.model_digest`)
24      4      sample rate in Hz
28      4      samples of a frame
32      1      bits of a code
33      1      codes of a frame (layers of the quantiser)
34      2      frames of a block, 1 to 255
36      8      number of samples; 2^64 - 1 where it was not known
44      8      number of frames; 2^64 - 1 where it was not known
52      4      CRC-32 of the bytes before
======  =====  ==========================================================================

Then blocks of that many frames (the last one may hold fewer), each:

=====  ==============================================================================================
bytes  content
=====  ==============================================================================================
1      number of frames in the block, 1 to 255
n      codes, frame after frame, within a frame layer after layer; ``ceil(frames * codes * bits / 8)``
2      CRC-16 (CCITT, as ``binascii.crc_hqx``) over the block's number (4 bytes) and the bytes before
=====  ==============================================================================================

Then the end mark: a byte 0, the number of samples (8 bytes), CRC-32 of ``EAVE`` and these 9 bytes.

Why so: all blocks but the last have the same size, so that any time is found without an index, and a damaged block is
stepped over; the first code of each frame alone is the stream of 1 kbit/s, so that a lower bit rate is read from the
file of a higher one; blocks are complete in themselves, so that a pipe can be read while it is written; the end mark
tells an ended recording from one that was cut off. A block's CRC covers its number: blocks that were moved are damaged.
"""

import binascii
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from espnet_av.utils.errors import CheckpointError, DataError, MissingDataError, describe, usage_error
from espnet_av.utils.files import atomic_write

MAGIC = b"EAVC"
VERSION = 1
UNKNOWN = 2**64 - 1
DEFAULT_BLOCK_FRAMES = 20
_HEADER = struct.Struct("<4sBBH16sIIBBHQQ")
HEADER_BYTES = _HEADER.size + 4
_END_MAGIC = b"EAVE"
END_BYTES = 13
BLOCK_OVERHEAD = 3
_LENGTH_UNKNOWN = 1


@dataclass(frozen=True)
class StreamHeader:
    """What a stream is about.

    Attributes:
        digest: Of the model, 32 hex digits.
        sample_rate: In Hz.
        hop_length: Samples of a frame.
        bits_per_code: Bits of a code.
        num_quantizers: Codes of a frame.
        block_frames: Frames of a block.
        num_samples: Samples of the recording; None: not known yet.
        num_frames: Frames of the recording; None: not known yet.
    """

    digest: str
    sample_rate: int
    hop_length: int
    bits_per_code: int
    num_quantizers: int
    block_frames: int = DEFAULT_BLOCK_FRAMES
    num_samples: int | None = None
    num_frames: int | None = None

    @property
    def bits_per_frame(self) -> int:
        """Bits of the codes of a frame."""
        return self.bits_per_code * self.num_quantizers

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    @property
    def bitrate_kbps(self) -> float:
        """Bit rate of the codes, without header and check sums."""
        return self.bits_per_frame * self.frame_rate / 1000

    def block_bytes(self, frames: int | None = None) -> int:
        """Return the bytes of a block, a full one if its frames are not given."""
        return BLOCK_OVERHEAD + payload_bytes(frames or self.block_frames, self.bits_per_frame)

    def pack(self) -> bytes:
        """Return the header as bytes.

        Raises:
            UsageError: A value does not fit into its field.
        """
        unknown = self.num_samples is None or self.num_frames is None
        if not 1 <= self.block_frames <= 255:
            usage_error("frames of a block", got=self.block_frames, allowed="1 to 255")
        if not (1 <= self.num_quantizers <= 255 and 1 <= self.bits_per_code <= 16):
            got = f"{self.num_quantizers} codes of {self.bits_per_code} bits"
            usage_error("the codes do not fit into the format", got=got, allowed="1 to 255 codes of 1 to 16 bits")
        body = _HEADER.pack(
            MAGIC,
            VERSION,
            _LENGTH_UNKNOWN if unknown else 0,
            HEADER_BYTES,
            bytes.fromhex(self.digest),
            self.sample_rate,
            self.hop_length,
            self.bits_per_code,
            self.num_quantizers,
            self.block_frames,
            UNKNOWN if unknown else self.num_samples,
            UNKNOWN if unknown else self.num_frames,
        )
        return body + struct.pack("<I", binascii.crc32(body))

    @classmethod
    def unpack(cls, data: bytes, name: str = "the stream") -> "StreamHeader":
        """Read a header.

        Args:
            data: The first :data:`HEADER_BYTES` bytes.
            name: For messages.

        Raises:
            DataError: The bytes are of something else, of another version, too few or damaged.
        """
        if data[:4] != MAGIC:
            got = data[:4] or "nothing"
            raise DataError(describe(f"{name} is no .eav stream", got=got, allowed=[MAGIC], fix="encode it first"))
        if len(data) > 4 and data[4] != VERSION:
            fix = "use the version of espnet_av that wrote it"
            raise DataError(describe(f"{name}: unknown version of the format", data[4], VERSION, fix))
        if len(data) < HEADER_BYTES:
            raise DataError(describe(f"{name} ends within its header", f"{len(data)} bytes", f"{HEADER_BYTES} or more"))
        (check,) = struct.unpack_from("<I", data, _HEADER.size)
        if binascii.crc32(data[: _HEADER.size]) != check:
            raise DataError(describe(f"{name}: the header is damaged", fix="take another copy of the file"))
        _, _, flags, length, digest, rate, hop, bits, layers, block, samples, frames = _HEADER.unpack_from(data)
        numbers = (rate, hop, bits, layers, block)
        if length != HEADER_BYTES or 0 in numbers or bits > 16 or block > 255:
            raise DataError(describe(f"{name}: the header holds impossible values", got=(length, *numbers)))
        unknown = bool(flags & _LENGTH_UNKNOWN)
        if not unknown and frames != -(-samples // hop):
            raise DataError(describe(f"{name}: samples and frames do not fit", got=(samples, frames)))
        lengths = (None, None) if unknown else (samples, frames)
        return cls(digest.hex(), rate, hop, bits, layers, block, *lengths)


@dataclass(frozen=True)
class CodeBlock:
    """A block that was read.

    Attributes:
        index: Its number.
        first_frame: Its first frame.
        codes: ``(Q, F)`` int64; of a damaged block what the bytes say, which is not to be used.
        damaged: Its check sum is wrong.
    """

    index: int
    first_frame: int
    codes: np.ndarray
    damaged: bool = False


@dataclass(frozen=True)
class CodeFile:
    """A whole recording.

    Attributes:
        header: With its lengths known.
        codes: ``(Q, F)`` int64; in damaged frames the last good ones again, or zeros before the first good one.
        damaged: ``(F,)`` bool.
        complete: The end mark is there and nothing is missing.
    """

    header: StreamHeader
    codes: np.ndarray
    damaged: np.ndarray
    complete: bool = True


def payload_bytes(frames: int, bits_per_frame: int) -> int:
    """Return the bytes that the codes of so many frames take."""
    return -(-frames * bits_per_frame // 8)


def pack_codes(codes: np.ndarray, bits: int) -> bytes:
    """Pack codes, the most significant bit first.

    Args:
        codes: ``(Q, F)`` integers; frame after frame, within a frame layer after layer.
        bits: Of a code.

    Raises:
        DataError: A code does not fit.

    >>> pack_codes(np.array([[1], [1023]]), 10).hex()
    '007ff0'
    """
    codes = np.asarray(codes)
    if codes.size and (codes.min() < 0 or codes.max() >= 1 << bits):
        raise DataError(
            describe("a code does not fit", (int(codes.min()), int(codes.max())), f"0 to {(1 << bits) - 1}")
        )
    places = np.arange(bits - 1, -1, -1)
    flat = codes.T.reshape(-1, 1).astype(np.int64) >> places & 1
    return np.packbits(flat.astype(np.uint8).reshape(-1)).tobytes()


def unpack_codes(data: bytes, frames: int, num_quantizers: int, bits: int) -> np.ndarray:
    """Return codes ``(Q, F)`` int64 that :func:`pack_codes` packed.

    >>> unpack_codes(bytes.fromhex("007ff0"), 1, 2, 10).tolist()
    [[1], [1023]]
    """
    count = frames * num_quantizers * bits
    flat = np.unpackbits(np.frombuffer(data, np.uint8), count=count).reshape(frames, num_quantizers, bits)
    return (flat.astype(np.int64) @ (1 << np.arange(bits - 1, -1, -1))).T


def _block_check(index: int, body: bytes) -> bytes:
    return struct.pack("<H", binascii.crc_hqx(body, binascii.crc_hqx(struct.pack("<I", index & 0xFFFFFFFF), 0xFFFF)))


def _end_mark(num_samples: int) -> bytes:
    body = struct.pack("<BQ", 0, num_samples)
    return body + struct.pack("<I", binascii.crc32(body, binascii.crc32(_END_MAGIC)))


class CodeWriter:
    """Write a stream while it is made.

    Args:
        stream: Binary, open for writing. Where it can seek, the header gets the length in the end.
        header: What the stream is about; its lengths may be unknown.

    Attributes:
        num_frames: Frames written or waiting for their block to fill.
    """

    def __init__(self, stream: IO[bytes], header: StreamHeader) -> None:
        self._stream, self._header = stream, header
        self._waiting = np.zeros((header.num_quantizers, 0), np.int64)
        self._index = 0
        self.num_frames = 0
        self._seekable = stream.seekable()
        self._start = stream.tell() if self._seekable else 0
        stream.write(header.pack())
        stream.flush()

    def write(self, codes: np.ndarray) -> None:
        """Add the codes ``(Q, F)`` of some frames; every block that is full goes out at once.

        Raises:
            DataError: Codes of another shape, or that do not fit into their bits.
        """
        codes = np.asarray(codes)
        if codes.ndim != 2 or codes.shape[0] != self._header.num_quantizers or codes.dtype.kind not in "iu":
            raise DataError(describe("wrong codes", codes.shape, f"integers ({self._header.num_quantizers}, frames)"))
        self.num_frames += codes.shape[1]
        self._waiting = np.concatenate([self._waiting, codes], axis=1)
        size = self._header.block_frames
        while self._waiting.shape[1] >= size:
            self._put(self._waiting[:, :size])
            self._waiting = self._waiting[:, size:]
        self._stream.flush()

    def close(self, num_samples: int | None = None) -> None:
        """End the stream.

        Args:
            num_samples: Of the recording; None: all frames are full.

        Raises:
            UsageError: Another number of frames than the samples or the header need.
        """
        hop = self._header.hop_length
        samples = self.num_frames * hop if num_samples is None else num_samples
        known = self._header.num_samples
        if -(-samples // hop) != self.num_frames or (known is not None and known != samples):
            got = f"{samples} samples in {self.num_frames} frames of {hop} samples"
            usage_error("samples and frames of the stream do not fit", got=got, allowed=known)
        if self._waiting.shape[1]:
            self._put(self._waiting)
        self._stream.write(_end_mark(samples))
        if known is None and self._seekable:
            end = self._stream.tell()
            self._stream.seek(self._start)
            self._stream.write(replace(self._header, num_samples=samples, num_frames=self.num_frames).pack())
            self._stream.seek(end)
        self._stream.flush()

    def _put(self, codes: np.ndarray) -> None:
        body = bytes([codes.shape[1]]) + pack_codes(codes, self._header.bits_per_code)
        self._stream.write(body + _block_check(self._index, body))
        self._index += 1


class CodeReader:
    """Read a stream, block by block.

    Args:
        stream: Binary, open for reading: a file, a pipe, a socket.
        name: For messages.

    Attributes:
        header: What the stream says about itself.
        num_samples: Of the recording; None until the end mark was read where the header does not tell.
        complete: The end mark was read.

    Raises:
        DataError: This is no ``.eav`` stream, of another version, or its header is damaged.
    """

    def __init__(self, stream: IO[bytes], name: str = "the stream") -> None:
        self._stream, self._name = stream, name
        self.header = StreamHeader.unpack(_read_all(stream, HEADER_BYTES), name)
        self.num_samples = self.header.num_samples
        self.complete = False
        self._index, self._frame, self._pushed = 0, 0, b""

    def __iter__(self) -> Iterator[CodeBlock]:
        """Yield the blocks as they come; damaged ones are marked.

        Raises:
            DataError: After the last block that is there, when the stream was cut off or goes on after its end.
        """
        while (block := self.read_block()) is not None:
            yield block

    def read_block(self) -> CodeBlock | None:
        """Return the next block, None after the end; waits for a pipe.

        Raises:
            DataError: The stream was cut off before its end mark, or goes on after it.
        """
        header = self.header
        if self.complete:
            return None
        left = None if header.num_frames is None else header.num_frames - self._frame
        if left == 0:
            self._end(self._take(END_BYTES))
            return None
        expected = min(left or header.block_frames, header.block_frames)
        size = header.block_bytes(expected)
        data = self._take(1)
        count = data[0] if data else 0
        if data and count == 0 and left is None:
            data += self._take(END_BYTES - 1)
            if self._is_end(data):
                self._end(data)
                return None
        elif 0 < count < expected and left is None:  # the last block, or a damaged count
            data += self._take(header.block_bytes(count) - 1)
            if _is_whole(self._index, data, header.block_bytes(count)):
                return self._make(data, count)
        data += self._take(max(0, size - len(data)))
        self._pushed = data[size:]
        if len(data) < size:
            self._refuse_cut(len(data))
        return self._make(data[:size], expected)

    def _take(self, size: int) -> bytes:
        """Return the next bytes, fewer only at the end of the stream."""
        pushed, self._pushed = self._pushed[:size], self._pushed[size:]
        return pushed + _read_all(self._stream, size - len(pushed))

    def seek(self, frame: int) -> None:
        """Go to the block that holds a frame; the stream must be able to seek.

        Raises:
            UsageError: There is no such frame.
        """
        index = frame // self.header.block_frames
        first = index * self.header.block_frames
        last = self.header.num_frames
        if frame < 0 or (last is not None and frame > last):
            usage_error(f"{self._name} has no frame", got=frame, allowed=f"0 to {last}")
        self._stream.seek(HEADER_BYTES + index * self.header.block_bytes())
        self._index, self._frame, self._pushed, self.complete = index, first, b"", False

    def _make(self, data: bytes, frames: int) -> CodeBlock:
        header = self.header
        good = data[0] == frames and _is_whole(self._index, data, len(data))
        codes = unpack_codes(data[1:-2], frames, header.num_quantizers, header.bits_per_code)
        block = CodeBlock(self._index, self._frame, codes, not good)
        self._index += 1
        self._frame += frames
        return block

    def _is_end(self, data: bytes) -> bool:
        return len(data) == END_BYTES and data == _end_mark(int.from_bytes(data[1:9], "little"))

    def _end(self, data: bytes) -> None:
        if len(data) < END_BYTES:
            self._refuse_cut(len(data))
        samples = int.from_bytes(data[1:9], "little")
        if self._is_end(data) and (self.num_samples in (None, samples)):
            if -(-samples // self.header.hop_length) != self._frame and self.header.num_frames is None:
                raise DataError(describe(f"{self._name}: blocks are missing", got=f"{self._frame} frames"))
            self.num_samples = samples
        elif self.num_samples is None:
            raise DataError(f"{self._name}: the end mark is damaged")
        self.complete = True
        if self._take(1):
            raise DataError(f"{self._name} goes on after its end mark; fix: take another copy of the file")

    def _refuse_cut(self, got: int) -> None:
        total = self.header.num_frames
        frames = f"{self._frame} of {total} frames" if total is not None else f"{self._frame} frames and no end mark"
        fix = "take another copy, or read what is there (--allow_truncated true)"
        raise TruncatedStreamError(describe(f"{self._name} was cut off", got=f"{frames}, {got} bytes more", fix=fix))


class TruncatedStreamError(DataError):
    """A stream that ends before its end mark."""


def _is_whole(index: int, data: bytes, size: int) -> bool:
    return len(data) == size and _block_check(index, data[:-2]) == data[-2:]


def _read_all(stream: IO[bytes], size: int) -> bytes:
    """Read ``size`` bytes, fewer only at the end of the stream."""
    parts, left = [], size
    while left > 0 and (data := stream.read(left)):
        parts.append(data)
        left -= len(data)
    return b"".join(parts)


def write_file(
    path: str | os.PathLike, codes: np.ndarray, header: StreamHeader, num_samples: int | None = None
) -> StreamHeader:
    """Write a recording; the file appears only when it is whole.

    Args:
        path: The file.
        codes: ``(Q, F)``.
        header: What the stream is about; its lengths are taken from here.
        num_samples: Of the recording; None: all frames are full.

    Returns:
        The header as written.
    """
    samples = codes.shape[1] * header.hop_length if num_samples is None else num_samples
    header = replace(header, num_samples=samples, num_frames=codes.shape[1])
    with atomic_write(path, "wb") as stream:
        writer = CodeWriter(stream, header)
        writer.write(codes)
        writer.close(samples)
    return header


def read_file(
    path: str | os.PathLike,
    *,
    num_quantizers: int | None = None,
    first_frame: int = 0,
    num_frames: int | None = None,
    allow_truncated: bool = False,
) -> CodeFile:
    """Read a recording, or a part of it.

    Args:
        path: The file.
        num_quantizers: Codes of a frame to return, the first ones; None: all.
        first_frame: Where to begin.
        num_frames: Frames to return; None: to the end.
        allow_truncated: Take what there is of a file that was cut off.

    Returns:
        Codes and what is known of them; its header speaks of the whole recording.

    Raises:
        MissingDataError: There is no such file.
        DataError: It is of something else, damaged in its header, or cut off.
        UsageError: It has no such frames or layers.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(describe(f"no stream {path}"))
    with open(path, "rb") as stream:
        reader = CodeReader(stream, str(path))
        if first_frame:
            reader.seek(first_frame)
        blocks, complete = _collect(reader, first_frame, num_frames, allow_truncated)
    header = reader.header
    layers = header.num_quantizers if num_quantizers is None else num_quantizers
    if not 1 <= layers <= header.num_quantizers:
        usage_error(f"{path} has no such layers", got=layers, allowed=f"1 to {header.num_quantizers}")
    empty = np.zeros((header.num_quantizers, 0), np.int64)
    codes = np.concatenate([empty, *(block.codes for block in blocks)], axis=1)
    damaged = np.concatenate([np.zeros(0, bool), *(np.full(b.codes.shape[1], b.damaged) for b in blocks)])
    skipped = first_frame - blocks[0].first_frame if blocks else 0
    kept = slice(skipped, None if num_frames is None else skipped + num_frames)
    total = (blocks[-1].first_frame + blocks[-1].codes.shape[1]) if blocks else 0
    if header.num_frames is None:
        samples = total * header.hop_length if reader.num_samples is None else reader.num_samples
        header = replace(header, num_samples=samples, num_frames=total)
    return CodeFile(header, conceal(codes[:layers], damaged)[:, kept], damaged[kept], complete)


def _collect(
    reader: CodeReader, first_frame: int, num_frames: int | None, allow_truncated: bool
) -> tuple[list[CodeBlock], bool]:
    blocks: list[CodeBlock] = []
    wanted = None if num_frames is None else first_frame + num_frames
    try:
        for block in reader:
            blocks.append(block)
            if wanted is not None and block.first_frame + block.codes.shape[1] >= wanted:
                return blocks, True
    except TruncatedStreamError:
        if not allow_truncated:
            raise
        return blocks, False
    return blocks, True


def conceal(codes: np.ndarray, damaged: np.ndarray, last: np.ndarray | None = None) -> np.ndarray:
    """Return codes with the last good frame in place of damaged ones.

    Args:
        codes: ``(Q, F)``.
        damaged: ``(F,)`` bool.
        last: ``(Q,)``, the last good frame before; None: zeros.
    """
    if not damaged.any():
        return codes
    first = np.zeros_like(codes[:, :1]) if last is None else last[: len(codes), None]
    source = np.maximum.accumulate(np.where(damaged, 0, np.arange(1, len(damaged) + 1)))
    return np.concatenate([first, codes], axis=1)[:, source]


def check_model(header: StreamHeader, expected: StreamHeader, name: str = "the stream") -> None:
    """Refuse a stream that was made with another model.

    Args:
        header: Of the stream.
        expected: What the model would write, with all its layers.
        name: For messages.

    Raises:
        CheckpointError: The digests differ, or the sizes do.
    """
    fix = "decode it with the model that encoded it"
    if header.digest != expected.digest:
        raise CheckpointError(describe(f"{name} was made with another model", header.digest, expected.digest, fix))
    sizes = ("sample_rate", "hop_length", "bits_per_code")
    got, wanted = (tuple(getattr(each, size) for size in sizes) for each in (header, expected))
    if got != wanted or header.num_quantizers > expected.num_quantizers:
        raise CheckpointError(describe(f"{name} does not fit the model", (*got, header.num_quantizers), wanted, fix))
