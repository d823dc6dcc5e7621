# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The ``.eav`` format: sizes to the bit, random access, pipes, and every kind of damage."""

import io
import random
from dataclasses import replace

import numpy as np
import pytest

from espnet_av.codec.bitstream import (
    BLOCK_OVERHEAD,
    END_BYTES,
    HEADER_BYTES,
    CodeReader,
    CodeWriter,
    StreamHeader,
    TruncatedStreamError,
    check_model,
    conceal,
    pack_codes,
    read_file,
    unpack_codes,
    write_file,
)
from espnet_av.utils.errors import CheckpointError, DataError, UsageError

HEADER = StreamHeader("ab" * 16, 24000, 240, 10, 6)


def make_codes(frames: int, layers: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1024, (layers, frames))


def make_bytes(codes: np.ndarray, samples: int | None = None, **fields) -> bytes:
    """Return a stream that was written through a pipe, two frames at a time."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    pipe = Pipe()
    writer = CodeWriter(pipe, replace(HEADER, num_quantizers=len(codes), **fields))
    for start in range(0, codes.shape[1], 2):
        writer.write(codes[:, start : start + 2])
    writer.close(samples)
    return pipe.getvalue()


def read_bytes(data: bytes) -> tuple[np.ndarray, CodeReader, list]:
    reader = CodeReader(io.BytesIO(data))
    blocks = list(reader)
    return np.concatenate([np.zeros((6, 0), int), *(block.codes for block in blocks)], axis=1), reader, blocks


def test_layout():
    """Codes stand frame after frame, the most significant bit first; 1 kbit/s is 5 bytes for 4 frames."""
    codes = np.array([[0b1000000001, 3], [1, 0b1111111111]])
    bits = "".join(f"{byte:08b}" for byte in pack_codes(codes, 10))
    assert bits == "1000000001" + "0000000001" + "0000000011" + "1111111111"
    assert len(pack_codes(make_codes(4, 1), 10)) == 5 and len(pack_codes(make_codes(2, 6), 10)) == 15
    codes = make_codes(33)
    assert (unpack_codes(pack_codes(codes, 10), 33, 6, 10) == codes).all()
    with pytest.raises(DataError, match="does not fit"):
        pack_codes(np.array([[1024]]), 10)


@pytest.mark.parametrize("frames", [1, 19, 20, 21, 101])
@pytest.mark.parametrize("layers", [1, 6])
def test_size_to_the_byte(tmp_path, frames, layers):
    codes = make_codes(frames, layers)
    path = tmp_path / "a.eav"
    write_file(path, codes, replace(HEADER, num_quantizers=layers), frames * 240 - 7)
    full, rest = divmod(frames, 20)
    payload = full * (20 * layers * 10 // 8) + -(-rest * layers * 10 // 8)
    blocks = full + bool(rest)
    assert path.stat().st_size == HEADER_BYTES + payload + blocks * BLOCK_OVERHEAD + END_BYTES
    found = read_file(path)
    assert (found.codes == codes).all() and found.complete and not found.damaged.any()
    assert found.header.num_samples == frames * 240 - 7 and found.header.num_frames == frames


@pytest.mark.parametrize("block_frames", [1, 3, 20, 255])
@pytest.mark.parametrize("frames", [0, 1, 2, 40, 61])
def test_pipe(frames, block_frames):
    """A stream of unknown length ends with its end mark; a file gets the length into its header."""
    codes = make_codes(frames)
    data = make_bytes(codes, block_frames=block_frames)
    found, reader, _ = read_bytes(data)
    assert (found == codes).all() and reader.complete and reader.num_samples == frames * 240
    assert reader.header.num_frames is None
    file = io.BytesIO()
    writer = CodeWriter(file, replace(HEADER, block_frames=block_frames))
    writer.write(codes)
    writer.close()
    assert file.getvalue()[HEADER_BYTES:] == data[HEADER_BYTES:]
    assert CodeReader(io.BytesIO(file.getvalue())).header.num_frames == frames


def test_blocks_come_at_once():
    """A block can be read as soon as it was written."""
    pipe = io.BytesIO()
    writer = CodeWriter(pipe, HEADER)
    codes = make_codes(25)
    writer.write(codes[:, :19])
    assert len(pipe.getvalue()) == HEADER_BYTES
    writer.write(codes[:, 19:])
    block = CodeReader(io.BytesIO(pipe.getvalue())).read_block()
    assert (block.codes == codes[:, :20]).all() and not block.damaged


def test_random_access_and_lower_rate(tmp_path):
    codes, path = make_codes(205), tmp_path / "a.eav"
    write_file(path, codes, HEADER)
    for first, count in ((0, 5), (19, 2), (100, 41), (200, 5), (204, None)):
        part = read_file(path, first_frame=first, num_frames=count, num_quantizers=1)
        assert (part.codes == codes[:1, first : None if count is None else first + count]).all()
    with pytest.raises(UsageError, match="no frame"):
        read_file(path, first_frame=206)
    with pytest.raises(UsageError, match="layers"):
        read_file(path, num_quantizers=7)


def test_damage_costs_one_block():
    codes = make_codes(100)
    good = make_bytes(codes)
    size = HEADER.block_bytes()
    for known in (False, True):
        for place in range(2 * size, 3 * size):
            data = bytearray(good)
            if known:
                data[:HEADER_BYTES] = replace(HEADER, num_samples=24000, num_frames=100).pack()
            data[HEADER_BYTES + place] ^= 1 << place % 8
            found, reader, blocks = read_bytes(bytes(data))
            assert [block.damaged for block in blocks] == [False, False, True, False, False]
            assert (np.delete(found, range(40, 60), 1) == np.delete(codes, range(40, 60), 1)).all()
            assert reader.complete


def test_moved_block_is_damaged():
    """A block in another's place does not pass for it."""
    data, size = make_bytes(make_codes(60)), HEADER.block_bytes()
    first, second = HEADER_BYTES, HEADER_BYTES + size
    swapped = data[:first] + data[second : second + size] + data[first:second] + data[second + size :]
    assert [block.damaged for block in read_bytes(swapped)[2]] == [True, True, False]


def test_concealment():
    codes = np.arange(1, 7)[None]
    damaged = np.array([True, False, True, True, False, True])
    assert conceal(codes, damaged).tolist() == [[0, 2, 2, 2, 5, 5]]
    assert conceal(codes, damaged, np.array([9])).tolist() == [[9, 2, 2, 2, 5, 5]]


def test_cut_off_is_told(tmp_path):
    path = tmp_path / "a.eav"
    for known in (False, True):
        codes = make_codes(50)
        if known:
            write_file(path, codes, HEADER)
            data = path.read_bytes()
        else:
            data = make_bytes(codes)
        for size in range(HEADER_BYTES, len(data)):
            path.write_bytes(data[:size])
            with pytest.raises(TruncatedStreamError, match="cut off"):
                read_file(path)
            found = read_file(path, allow_truncated=True)
            assert not found.complete
            assert (found.codes == codes[:, : found.codes.shape[1]]).all()


def test_foreign_files(tmp_path):
    path = tmp_path / "a.eav"
    data = make_bytes(make_codes(3))
    newer = bytearray(data)
    newer[4] = 2
    damaged = bytearray(data)
    damaged[30] ^= 1
    cases = {
        "no .eav stream": (b"", b"RIFF1234WAVEfmt ", b"\x00" * 200),
        "unknown version": (bytes(newer),),
        "ends within its header": (data[:40],),
        "header is damaged": (bytes(damaged),),
        "goes on after its end": (data + b"x",),
    }
    for message, contents in cases.items():
        for content in contents:
            path.write_bytes(content)
            with pytest.raises(DataError, match=message):
                read_file(path)
    with pytest.raises(DataError, match="no stream"):
        read_file(tmp_path / "absent.eav")


def test_other_models():
    check_model(replace(HEADER, num_quantizers=1), HEADER)
    with pytest.raises(CheckpointError, match="another model"):
        check_model(replace(HEADER, digest="cd" * 16), HEADER)
    with pytest.raises(CheckpointError, match="does not fit"):
        check_model(replace(HEADER, hop_length=320), HEADER)


def test_writer_refuses():
    with pytest.raises(UsageError, match="1 to 255"):
        replace(HEADER, block_frames=0).pack()
    writer = CodeWriter(io.BytesIO(), HEADER)
    with pytest.raises(DataError, match="wrong codes"):
        writer.write(make_codes(3, 5))
    writer.write(make_codes(3))
    with pytest.raises(UsageError, match="do not fit"):
        writer.close(4 * 240)


def test_fuzz():
    """Whatever happens to a stream: codes of damaged blocks are marked, or the stream is refused; nothing else."""
    chance = random.Random(7)
    codes = make_codes(90)
    for block_frames in (1, 20):
        good = make_bytes(codes, block_frames=block_frames)
        for _ in range(400):
            data = bytearray(good)
            for _ in range(chance.randint(1, 4)):
                place = chance.randrange(len(data))
                kind = chance.random()
                if kind < 0.6:
                    data[place] = chance.randrange(256)
                elif kind < 0.8:
                    del data[place : place + chance.randint(1, 40)]
                else:
                    data[place:place] = chance.randbytes(chance.randint(1, 40))
            try:
                for block in CodeReader(io.BytesIO(bytes(data))):
                    count = block.codes.shape[1]
                    wanted = codes[:, block.first_frame : block.first_frame + count]
                    assert block.damaged or (block.codes == wanted).all()
            except DataError:
                pass
