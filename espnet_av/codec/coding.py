# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Sound to ``.eav`` and back: files at once, pipes while they are written.

A file and a pipe with the same samples give the same codes: the sound is padded with zeros to whole frames.

Axes: ``F`` frames, ``N`` samples, ``Q`` layers of the quantiser.
"""

import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from espnet_av.codec.bitstream import (
    DEFAULT_BLOCK_FRAMES,
    HEADER_BYTES,
    CodeFile,
    CodeReader,
    CodeWriter,
    StreamHeader,
    TruncatedStreamError,
    check_model,
    conceal,
    payload_bytes,
    read_file,
    write_file,
)
from espnet_av.codec.inference import Codec
from espnet_av.codec.latency import look_ahead, look_back
from espnet_av.codec.streaming import StreamingDecoder, StreamingEncoder
from espnet_av.data.audio_io import read_audio
from espnet_av.utils.errors import DataError, describe, usage_error

logger = logging.getLogger(__name__)
CONCEALMENTS = ("repeat", "mute", "fail")


@dataclass(frozen=True)
class DecodeRules:
    """How a stream is decoded.

    Attributes:
        bitrate_kbps: Decode the codes of this rate only; None: all.
        conceal: Damaged frames: ``repeat`` the last good one, ``mute`` them, or ``fail``.
        allow_truncated: Decode what there is of a stream that was cut off.
    """

    bitrate_kbps: float | None = None
    conceal: str = "repeat"
    allow_truncated: bool = False

    def __post_init__(self) -> None:
        if self.conceal not in CONCEALMENTS:
            usage_error("conceal is unknown", got=self.conceal, allowed=CONCEALMENTS)


def encode_file(
    codec: Codec,
    source: Path,
    target: Path,
    bitrate_kbps: float | None = None,
    *,
    block_frames: int = DEFAULT_BLOCK_FRAMES,
    resample: bool = False,
) -> StreamHeader:
    """Encode a sound file.

    Args:
        codec: The model.
        source: A sound file; several channels are averaged.
        target: The ``.eav`` file.
        bitrate_kbps: None: the highest.
        block_frames: Frames of a block, which are lost together where the file is damaged.
        resample: Convert a file of another sample rate instead of refusing it.

    Raises:
        DataError: The file cannot be read, is empty, of another rate, or holds values that are not finite.
    """
    wave, _ = read_audio(source, codec.sample_rate, resample=resample)
    _look_at_levels(wave, str(source))
    codes = codec.encode(wave, bitrate_kbps, pad_input=True)[:, 0].cpu().numpy()
    header = codec.header(bitrate_kbps, block_frames=block_frames)
    return write_file(target, codes, header, len(wave))


def _look_at_levels(wave: np.ndarray, name: str) -> None:
    if not np.isfinite(wave).all():
        raise DataError(f"{name} holds samples that are not finite; fix: write the file again")
    clipped = int((np.abs(wave) >= 1).sum())
    if clipped:
        logger.warning("%s: %d of %d samples are at or above full scale", name, clipped, len(wave))


def encode_stream(codec: Codec, chunks: Iterable[np.ndarray], target: IO[bytes], header: StreamHeader) -> int:
    """Encode sound while it comes; every block goes out as soon as it is full.

    Args:
        codec: The model.
        chunks: ``(N,)`` float32.
        target: Receives the ``.eav`` stream.
        header: Of the stream, with :attr:`~StreamHeader.num_quantizers` of the bit rate.

    Returns:
        The number of samples.

    Raises:
        DataError: No samples came.
    """
    encoder = StreamingEncoder(codec.folded)
    writer = CodeWriter(target, header)
    for chunk in chunks:
        wav = torch.from_numpy(chunk)[None].to(codec.device)
        writer.write(encoder.encode(wav, header.num_quantizers)[:, 0].cpu().numpy())
    num_samples = encoder.num_samples
    if not num_samples:
        raise DataError("the input holds no samples")
    writer.write(encoder.flush(header.num_quantizers)[:, 0].cpu().numpy())
    writer.close(num_samples)
    return num_samples


@dataclass
class StreamHealth:
    """What was wrong with a stream.

    Attributes:
        damaged_frames: Number of damaged frames.
        spans: Their places, ``(first, last + 1)``, neighbours joined.
        complete: The end mark was there.
    """

    damaged_frames: int = 0
    spans: list[tuple[int, int]] = field(default_factory=list)
    complete: bool = False

    def add(self, first: int, frames: int) -> None:
        """Note damaged frames."""
        self.damaged_frames += frames
        if self.spans and self.spans[-1][1] == first:
            first = self.spans.pop()[0]
        self.spans.append((first, first + frames))

    def summary(self, frame_rate: float) -> str:
        """Return the damage in words, times in seconds."""
        places = [f"{first / frame_rate:.2f}-{last / frame_rate:.2f} s" for first, last in self.spans[:5]]
        return f"{self.damaged_frames} damaged frames ({', '.join(places)}{', ...' if len(self.spans) > 5 else ''})"


def decode_stream(
    codec: Codec, reader: CodeReader, rules: DecodeRules = DecodeRules(), health: StreamHealth | None = None
) -> Iterator[np.ndarray]:
    """Decode a stream while it comes.

    Args:
        codec: The model.
        reader: The stream.
        rules: How.
        health: Receives what was wrong.

    Yields:
        ``(N,)`` float32; together as long as the recording.

    Raises:
        CheckpointError: The stream was made with another model.
        DataError: The stream was cut off, after all that was there; or it is damaged and must not be.
    """
    health = StreamHealth() if health is None else health
    header = reader.header
    check_model(header, codec.header(0))
    layers = _layers(codec, header, rules)
    decoder = StreamingDecoder(codec.folded)
    hop, given, last = header.hop_length, 0, None
    cut: TruncatedStreamError | None = None
    blocks = iter(reader)
    while True:
        try:
            block = next(blocks, None)
        except TruncatedStreamError as error:
            block, cut = None, error
        if block is None:
            wav = decoder.flush()[0].cpu().numpy()
            if reader.num_samples is not None:
                wav = wav[: max(0, reader.num_samples - given)]
        else:
            codes = block.codes[:layers]
            if block.damaged:
                _note_damage(health, block.first_frame, codes.shape[1], rules)
                codes = conceal(codes, np.ones(codes.shape[1], bool), last)
            last = codes[:, -1]
            batch = torch.from_numpy(np.ascontiguousarray(codes))[:, None].to(codec.device)
            wav = decoder.decode(batch)[0].cpu().numpy()
        if rules.conceal == "mute":
            wav = _mute(wav, given, health.spans, hop)
        given += len(wav)
        if len(wav):
            yield wav
        if block is None:
            break
    health.complete = cut is None
    if cut is not None and not rules.allow_truncated:
        raise cut


def _note_damage(health: StreamHealth, first: int, frames: int, rules: DecodeRules) -> None:
    if rules.conceal == "fail":
        fix = "take another copy, or pass --conceal repeat"
        raise DataError(describe("the stream is damaged", got=f"frames {first} to {first + frames - 1}", fix=fix))
    health.add(first, frames)


def _mute(wav: np.ndarray, given: int, spans: list[tuple[int, int]], hop: int) -> np.ndarray:
    wav = wav.copy()
    for first, last in spans:
        wav[max(0, first * hop - given) : max(0, last * hop - given)] = 0
    return wav


def _layers(codec: Codec, header: StreamHeader, rules: DecodeRules) -> int:
    if rules.bitrate_kbps is None:
        return header.num_quantizers
    layers = codec.generator.codebooks_for(rules.bitrate_kbps)
    if layers > header.num_quantizers:
        got, allowed = f"{rules.bitrate_kbps:g} kbit/s", f"up to {header.bitrate_kbps:g} kbit/s"
        usage_error("the stream has no such bit rate", got=got, allowed=allowed)
    return layers


def decode_file(
    codec: Codec,
    source: Path,
    rules: DecodeRules = DecodeRules(),
    *,
    start_sec: float = 0.0,
    duration_sec: float | None = None,
    health: StreamHealth | None = None,
) -> np.ndarray:
    """Decode a file or a part of it, which is exactly that part of the whole.

    Args:
        codec: The model.
        source: The ``.eav`` file.
        rules: How.
        start_sec: Where to begin.
        duration_sec: How much; None: to the end.
        health: Receives what was wrong.

    Returns:
        ``(N,)`` float32.

    Raises:
        CheckpointError: The file was made with another model.
        DataError: The file is no stream, damaged or cut off.
        UsageError: It is not that long.
    """
    if not start_sec and duration_sec is None:
        with open_stream(source) as stream:
            parts = list(decode_stream(codec, CodeReader(stream, str(source)), rules, health))
        return np.concatenate([np.zeros(0, np.float32), *parts])
    health = StreamHealth() if health is None else health
    with open_stream(source) as stream:
        header = CodeReader(stream, str(source)).header
    check_model(header, codec.header(0), str(source))
    rate, hop = header.sample_rate, header.hop_length
    first = round(start_sec * rate)
    last = None if duration_sec is None else first + round(duration_sec * rate)
    total = header.num_samples
    if first < 0 or (last is not None and last <= first) or (total is not None and first >= total):
        length = "" if total is None else f" of {total / rate:.3f} s"
        usage_error(f"{source}{length} has no such part", got=(start_sec, duration_sec))
    before = 1 + math.ceil(look_back(codec.folded.decoder, header.frame_rate) * header.frame_rate)
    after = 1 + math.ceil(look_ahead(codec.folded.decoder, header.frame_rate) * header.frame_rate)
    from_frame = max(0, first // hop - before)
    frames = None if last is None else -(-last // hop) + after - from_frame
    part = read_file(
        source,
        num_quantizers=_layers(codec, header, rules),
        first_frame=from_frame,
        num_frames=frames,
        allow_truncated=rules.allow_truncated,
    )
    for index in np.flatnonzero(part.damaged):
        _note_damage(health, from_frame + int(index), 1, rules)
    health.complete = part.complete
    wav = codec.decode(part.codes[:, None])[0].cpu().numpy()
    end = part.header.num_samples if last is None else min(last, part.header.num_samples or last)
    if rules.conceal == "mute":
        wav = _mute(wav, from_frame * hop, health.spans, hop)
    return wav[first - from_frame * hop : None if end is None else end - from_frame * hop]


def open_stream(path: Path) -> IO[bytes]:
    """Open a file for reading.

    Raises:
        DataError: There is none.
    """
    try:
        return open(path, "rb")
    except OSError as error:
        raise DataError(describe(f"{path} cannot be read ({error.strerror})")) from error


def transcode_file(source: Path, target: Path, num_quantizers: int, block_frames: int | None = None) -> StreamHeader:
    """Write the first codes of each frame of a stream; no model is needed.

    Raises:
        DataError: A block is damaged: its codes cannot be trusted.
        UsageError: The stream has fewer layers.
    """
    found: CodeFile = read_file(source, num_quantizers=num_quantizers)
    if found.damaged.any():
        raise DataError(describe(f"{source} is damaged", got=f"{int(found.damaged.sum())} frames", fix="decode it"))
    header = found.header
    block = header.block_frames if block_frames is None else block_frames
    sizes = (header.digest, header.sample_rate, header.hop_length, header.bits_per_code)
    return write_file(target, found.codes, StreamHeader(*sizes, num_quantizers, block), header.num_samples)


def describe_file(path: Path) -> dict[str, Any]:
    """Return what is known of a stream: header, sizes in bits, damage.

    Raises:
        DataError: It is no stream, or its header is damaged.
    """
    health = StreamHealth()
    with open_stream(path) as stream:
        reader = CodeReader(stream, str(path))
        header, frames, blocks, packed = reader.header, 0, 0, 0
        try:
            for block in reader:
                count = block.codes.shape[1]
                frames, blocks = frames + count, blocks + 1
                packed += payload_bytes(count, header.bits_per_frame)
                if block.damaged:
                    health.add(block.first_frame, count)
        except TruncatedStreamError:
            health.complete = False
        else:
            health.complete = True
    size = path.stat().st_size
    samples = reader.num_samples
    seconds = (samples if samples is not None else frames * header.hop_length) / header.sample_rate
    payload_bits = frames * header.bits_per_frame
    return {
        "model": header.digest,
        "sample_rate": header.sample_rate,
        "hop_length": header.hop_length,
        "bits_per_code": header.bits_per_code,
        "num_quantizers": header.num_quantizers,
        "bitrate_kbps": header.bitrate_kbps,
        "num_samples": samples,
        "num_frames": frames,
        "seconds": seconds,
        "num_blocks": blocks,
        "block_frames": header.block_frames,
        "payload_bits": payload_bits,
        "padding_bits": 8 * packed - payload_bits,
        "header_bytes": HEADER_BYTES,
        "check_bytes": size - HEADER_BYTES - packed,
        "file_bytes": size,
        "file_kbps": 8 * size / seconds / 1000 if seconds else None,
        "damaged_frames": health.damaged_frames,
        "damaged_spans": health.spans,
        "complete": health.complete,
    }
