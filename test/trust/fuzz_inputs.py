# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Inputs for readers of files: valid ones, valid ones with wounds, and noise; and the limits that readers keep."""

import binascii
import contextlib
import gzip
import resource
import signal
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from espnet_av.utils.errors import EspnetAVError

LONGEST_SEC = 5.0
MOST_MEMORY_MB = 1024
#: Bytes that have broken readers elsewhere.
HURTFUL = (
    b"\x00 \xff\xfe \xef\xbb\xbf \r \n\n \t \xe2\x80\xa8 \xc2\xb2 \xd9\xa3 -1 1e999 NaN inf 0 -0 ''".split(b" ")
    + [b"9" * 400, b"9" * 5000, b"[" * 3000, b"{" * 3000, b"- " * 2000, b"18446744073709551616", b"null", b'"', b"<c."]
    + [b"&#" + b"1" * 5000 + b";", b"/", b"../../", b"**", b" ", b"|", b"-->", b"NOTE", b"&a [*a]", b"2024-99-99", b"~"]
)


@dataclass(frozen=True)
class Reader:
    """A reader and what it reads.

    Attributes:
        name: As it is called.
        read: Takes the path.
        file: Name of the file.
        seeds: Valid contents.
        words: Further bytes to put in.
        also: Exit by ``SystemExit(2)`` counts as a clear error: readers of command lines.
    """

    name: str
    read: Callable[[Path], object]
    file: str
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()
    also: bool = False


@st.composite
def wounded(draw: st.DrawFn, reader: Reader) -> bytes:
    """Draw a content for a reader."""
    content = bytearray(draw(st.sampled_from(reader.seeds)))
    words = [*HURTFUL, *reader.words]
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, max(0, len(content))))
        how = draw(st.integers(0, 6))
        if how == 0 and content:
            content[place % len(content)] ^= 1 << draw(st.integers(0, 7))
        elif how == 1:
            del content[place:]
        elif how == 2:
            del content[place : place + draw(st.integers(1, 40))]
        elif how == 3:
            content[place:place] = draw(st.binary(max_size=12))
        elif how == 4:
            content[place:place] = draw(st.sampled_from(words)) * draw(st.sampled_from((1, 1, 1, 1000)))
        elif how == 5:
            content[place : place + draw(st.integers(1, 12))] = draw(st.sampled_from(words))
        else:
            end = place + draw(st.integers(1, 200))
            content[place:place] = content[place:end] * draw(st.sampled_from((1, 1, 50)))
    return bytes(content[:200_000])


def contents(reader: Reader) -> st.SearchStrategy[bytes]:
    """Return contents for a reader: mostly wounded ones, some noise."""
    return st.one_of(wounded(reader), wounded(reader), wounded(reader), st.binary(max_size=300), st.text().map(_encode))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogatepass")


@contextlib.contextmanager
def limits(seconds: float = LONGEST_SEC, megabytes: int = MOST_MEMORY_MB) -> Iterator[None]:
    """Let the block fail when it takes longer (on the processor), or so much more memory than there is now."""

    def end(*_: object) -> None:
        raise AssertionError(f"no end after {seconds} s")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = [signal.signal(number, end) for number in (signal.SIGPROF, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 30 * seconds)
    resource.setrlimit(resource.RLIMIT_AS, (now + megabytes * 2**20, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in zip((signal.SIGPROF, signal.SIGALRM), before, strict=True):
            signal.signal(number, handler)


def assert_read_or_refused(reader: Reader, folder: Path, content: bytes) -> bool:
    """Let a reader read a content; return whether it took it. All but errors of the project pass through."""
    path = folder / reader.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    with limits():
        try:
            reader.read(path)
        except EspnetAVError as error:
            assert str(error).strip()
            assert len(str(error)) < 5000, "an error message of that length is not read"
            return False
        except SystemExit as end:
            assert reader.also and end.code == 2
            return False
    return True


def bitstream_header(
    rate: int, hop: int, bits: int, layers: int, block: int, samples: int, frames: int, flags: int = 0
) -> bytes:
    """Return the header of an ``.eav`` file with a right check sum, whatever the values."""
    body = struct.pack(
        "<4sBBH16sIIBBHQQ", b"EAVC", 1, flags, 56, bytes(16), rate, hop, bits, layers, block, samples, frames
    )
    return body + struct.pack("<I", binascii.crc32(body))


def gzipped_zeros(megabytes: int) -> bytes:
    """Return a small file that is large when it is unpacked."""
    return gzip.compress(bytes(megabytes * 2**20), 9)
