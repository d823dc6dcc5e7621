# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Streams give what the whole recording gives, however it is cut."""

import math
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from codec_graphs import AHEAD, UNIT, make_codec

from espnet_av.codec.deploy import Conv, Residual, run_steps
from espnet_av.codec.inference import Codec
from espnet_av.codec.presets import preset_conf
from espnet_av.codec.stream_engine import StreamEngine
from espnet_av.utils.errors import DataError, UsageError

TOLERANCE = 1e-5
#: Looks ahead by steps that are no whole number of later strides.
ODD_CONF = {
    "latent_dim": 8,
    "encoder_conf": {"channels": [4, 4, 6], "strides": [2, 3, 2], "units": [[AHEAD], [AHEAD, UNIT], [AHEAD]]},
    "decoder_conf": {"channels": [6, 4, 4], "strides": [3, 2, 2], "units": [[AHEAD], [UNIT], [AHEAD]]},
    "quantizer_conf": {"num_quantizers": 3, "codebook_size": 16, "codebook_dim": 4},
    "bitrates": [8.0, 24.0],
}


SHARED = make_codec(**preset_conf("tiny"))


@pytest.fixture
def codec() -> Codec:
    return SHARED


@pytest.fixture(scope="module")
def odd_codec() -> Codec:
    return make_codec(**ODD_CONF)


def run_stream(codec: Codec, wav: torch.Tensor, sizes: list[int], rate: float | None) -> tuple[torch.Tensor, ...]:
    codes, parts, start = [], [], 0
    with codec.streaming(len(wav)) as stream:
        while start < wav.shape[1]:
            size = sizes[len(codes) % len(sizes)]
            codes.append(stream.encode(wav[:, start : start + size], rate))
            parts.append(stream.decode(codes[-1]))
            start += size
        end = stream.flush()
    return torch.cat([*codes, end.codes], dim=2), torch.cat([*parts, end.wav], dim=1)


@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(1, 6000),
    sizes=st.lists(st.integers(1, 2500), min_size=1, max_size=4),
    batch=st.integers(1, 2),
    rate=st.sampled_from([1.0, 3.0, 6.0]),
)
def test_any_chunking(length, sizes, batch, rate):
    codec = SHARED
    wav = 0.3 * torch.randn(batch, length, generator=torch.Generator().manual_seed(length))
    sizes = [max(size, length // 200) for size in sizes]
    codes, decoded = run_stream(codec, wav, sizes, rate)
    wanted = codec.encode(wav, rate, pad_input=True)
    assert torch.equal(codes, wanted)
    assert decoded.shape == wav.shape
    assert torch.allclose(decoded, codec.decode(wanted, length), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("length", [1, 11, 12, 13, 400])
def test_look_ahead_within_strides(odd_codec, length):
    """A delay that is no whole number of strides is made one, and taken off again."""
    wav = 0.3 * torch.randn(2, length, generator=torch.Generator().manual_seed(length))
    codes, decoded = run_stream(odd_codec, wav, [5, 30], None)
    wanted = odd_codec.encode(wav, pad_input=True)
    assert torch.equal(codes, wanted)
    assert torch.allclose(decoded, odd_codec.decode(wanted, length), atol=TOLERANCE, rtol=0)


def test_delay_is_the_latency(codec):
    """A frame comes out as soon as the frames that it looks at are in."""
    with codec.streaming() as stream:
        frames = [stream.encode(torch.zeros(240)).shape[2] for _ in range(4)]
        assert frames == [0, 1, 1, 1]
        assert stream.delay_ms == pytest.approx(20)
        assert [stream.decode(torch.zeros(6, 1, 1, dtype=torch.int64)).shape[1] for _ in range(3)] == [0, 240, 240]


def test_state_moves(codec):
    """A stream goes on in another object, whatever sizes its chunks have there."""
    wav = 0.3 * torch.randn(1, 3000, generator=torch.Generator().manual_seed(1))
    wanted, sound = run_stream(codec, wav, [3000], None)
    first = codec.streaming()
    codes = [first.encode(wav[:, :1111])]
    parts = [first.decode(codes[0])]
    state = first.state()
    first.encode(wav[:, :500])  # the state is a copy
    second = codec.streaming()
    second.load_state(state)
    codes.append(second.encode(wav[:, 1111:]))
    parts.append(second.decode(codes[-1]))
    end = second.flush()
    assert torch.equal(torch.cat([*codes, end.codes], 2), wanted)
    assert torch.allclose(torch.cat([*parts, end.wav], 1), sound, atol=TOLERANCE, rtol=0)
    with pytest.raises(UsageError, match="batch size"):
        codec.streaming(2).load_state(state)


def test_stream_can_be_used_again(codec):
    wav = 0.3 * torch.randn(700, generator=torch.Generator().manual_seed(2))
    stream = codec.streaming()
    results = []
    for _ in range(2):
        codes = stream.encode(wav)
        results.append(torch.cat([codes, stream.flush().codes], dim=2))
    assert torch.equal(*results)


def test_bad_chunks(codec):
    stream = codec.streaming()
    with pytest.raises(DataError, match="wrong shape"):
        stream.encode(torch.zeros(2, 240))
    with pytest.raises(DataError, match="wrong shape or type"):
        stream.encode(torch.zeros(240, dtype=torch.int32))
    with pytest.raises(DataError, match="not finite"):
        stream.encode(torch.full((240,), math.nan))
    with pytest.raises(DataError, match="out of range"):
        stream.decode(torch.full((1, 1, 1), 1024))
    with pytest.raises(DataError, match="no codes"):
        stream.decode(torch.zeros(7, 1, 1, dtype=torch.int64))
    with pytest.raises(UsageError, match="multiple of 240"):
        StreamEngine(codec.folded.encoder, 1, 240).run(torch.zeros(1, 1, 100))


def test_network_that_begins_with_a_residual_unit():
    torch.manual_seed(0)
    first, second = (Conv(0.3 * torch.randn(4, 4, 3), torch.randn(4), 1, 1, 2 - ahead, ahead) for ahead in (1, 0))
    steps = (Residual(first, second),)
    x = torch.randn(1, 4, 120)
    engine = StreamEngine(steps, 4, 40)
    streamed = torch.cat([engine.run(x), engine.flush()], dim=2)[..., engine.delay :]
    assert torch.allclose(streamed, run_steps(steps, x), atol=TOLERANCE, rtol=0)


def test_long_recordings_in_pieces(codec, monkeypatch):
    """Long recordings go through the network piece by piece, with the same result at their ends."""
    wav = 0.3 * torch.randn(2, 24000 * 2 + 77, generator=torch.Generator().manual_seed(3))
    codes = codec.encode(wav, 6.0)
    sound = codec.decode(codes)
    monkeypatch.setattr("espnet_av.codec.inference.LONG_SEC", 0.5)
    assert torch.equal(codec.encode(wav, 6.0), codes)
    assert torch.allclose(codec.decode(codes), sound, atol=TOLERANCE, rtol=0)
