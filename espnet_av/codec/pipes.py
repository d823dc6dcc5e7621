# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Sound through pipes while it is made: WAV of unknown length, or samples without a header.

Axes: ``C`` channels, ``N`` samples.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np

from espnet_av.utils.errors import DataError, describe

#: Names of sample types -> dtype; ``wav`` has a header that tells.
SAMPLE_TYPES: dict[str, np.dtype] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}
PIPE_FORMATS = ("wav", *SAMPLE_TYPES)
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_ENDLESS = 0xFFFFFFFF


@dataclass(frozen=True)
class PipeSound:
    """What comes through a pipe.

    Attributes:
        dtype: Of a sample.
        channels: ``C``.
        num_bytes: Bytes that follow; None: to the end of the pipe.
    """

    dtype: np.dtype
    channels: int = 1
    num_bytes: int | None = None


def open_pipe(stream: IO[bytes], kind: str, sample_rate: int) -> PipeSound:
    """Read what stands before the samples.

    Args:
        stream: Binary.
        kind: One of :data:`PIPE_FORMATS`.
        sample_rate: That a header must tell, in Hz.

    Raises:
        DataError: This is no WAV, of another rate, or with samples of another type.
    """
    if kind != "wav":
        return PipeSound(SAMPLE_TYPES[kind])
    start = stream.read(12)
    if start[:4] != b"RIFF" or start[8:] != b"WAVE":
        fix = "send a WAV, or name the samples with --pipe_format s16le or f32le"
        raise DataError(describe("the input is no WAV", got=start[:4] or "nothing", fix=fix))
    found: PipeSound | None = None
    while len(head := stream.read(8)) == 8:
        name, size = head[:4], int.from_bytes(head[4:], "little")
        if name == b"data":
            if found is None:
                break
            endless = size in (0, _ENDLESS) or size >= 0x7FFFF000  # what programs write that do not know it yet
            return PipeSound(found.dtype, found.channels, None if endless else size)
        body = stream.read(size + size % 2)
        if name == b"fmt ":
            found = _read_format(body, sample_rate)
    raise DataError("the input ends within its WAV header")


def _read_format(body: bytes, sample_rate: int) -> PipeSound:
    if len(body) < 16:
        raise DataError("the input has a damaged WAV header")
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
    if tag == _EXTENSIBLE and len(body) >= 26:
        (tag,) = struct.unpack_from("<H", body, 24)
    if rate != sample_rate:
        fix = "convert it before, e.g. ffmpeg -i IN -ar 24000 -f wav -"
        raise DataError(describe("the input has a wrong sample rate", rate, [sample_rate], fix))
    kinds = {(_PCM, 16): "s16le", (_FLOAT, 32): "f32le"}
    if (tag, bits) not in kinds or not channels:
        got = f"format {tag}, {bits} bits, {channels} channels"
        raise DataError(describe("the input has samples of an unknown type", got, "16 bits, or 32 bits float"))
    return PipeSound(SAMPLE_TYPES[kinds[tag, bits]], channels)


def read_chunks(stream: IO[bytes], sound: PipeSound, max_samples: int = 2400) -> Iterator[np.ndarray]:
    """Yield samples as they come, ``(N,)`` float32 with 1 to ``max_samples``; channels are averaged.

    Raises:
        DataError: The pipe ends within a sample, or values are not finite.
    """
    width = sound.dtype.itemsize * sound.channels
    left, rest = sound.num_bytes, b""
    read = getattr(stream, "read1", stream.read)
    while left is None or left > 0:
        wanted = max_samples * width - len(rest)
        data = read(wanted if left is None else min(wanted, left))
        if not data:
            break
        left = None if left is None else left - len(data)
        data = rest + data
        whole = len(data) // width * width
        rest = data[whole:]
        if whole:
            yield _to_float(np.frombuffer(data[:whole], sound.dtype), sound.channels)
    if rest or left:
        raise DataError(describe("the input was cut off", got=f"{len(rest)} bytes of a sample, {left or 0} missing"))


def _to_float(samples: np.ndarray, channels: int) -> np.ndarray:
    wave = samples.astype(np.float32) / (32768.0 if samples.dtype.kind == "i" else 1.0)
    if not np.isfinite(wave).all():
        raise DataError("the input holds samples that are not finite")
    return wave if channels == 1 else wave.reshape(-1, channels).mean(axis=1, dtype=np.float32)


def wav_header(sample_rate: int) -> bytes:
    """Return the header of a mono WAV with 16 bits whose length is not known."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, _PCM, 1, sample_rate, 2 * sample_rate, 2, 16)
    return b"RIFF" + struct.pack("<I", _ENDLESS) + b"WAVE" + form + b"data" + struct.pack("<I", _ENDLESS)


def to_bytes(wave: np.ndarray, kind: str) -> bytes:
    """Return samples ``(N,)`` float as bytes of one of :data:`PIPE_FORMATS`."""
    if kind == "f32le":
        return wave.astype("<f4").tobytes()
    return np.clip(np.rint(wave.astype(np.float64) * 32768), -32768, 32767).astype("<i2").tobytes()
