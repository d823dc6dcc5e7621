# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The codec as a whole: bit rates, lengths, delays, presets and configurations."""

import pytest
import torch
import yaml

from espnet_av.codec.choices import build_generator, complete_conf
from espnet_av.codec.generator import CodecGenerator
from espnet_av.codec.presets import PRESETS, TRACK_LIMITS, preset_conf, track_limits
from espnet_av.utils.errors import DataError, UsageError


@pytest.fixture(scope="module")
def tiny() -> CodecGenerator:
    torch.manual_seed(0)
    generator = CodecGenerator.from_preset("tiny")
    generator.train()(torch.randn(2, 1, 4800) * 0.3)
    return generator.eval()


def delay_ms(model: torch.nn.Sequential, rate: float) -> float:
    """Add up the looks ahead of all layers."""
    delay = 0.0
    for layer in model:
        stride = getattr(layer, "stride", 1)
        upsamples = type(layer).__name__ == "Upsample"
        delay += 1000 * getattr(layer, "right_context", 0) / rate
        rate = rate * stride if upsamples else rate / stride
    return delay


@pytest.mark.parametrize("track", ["track1", "track2"])
def test_published_sizes_keep_the_limits(track):
    with torch.device("meta"):
        generator = CodecGenerator.from_preset(track)
    assert (generator.sample_rate, generator.hop_length, generator.frame_rate) == (24000, 240, 100.0)
    assert (generator.num_quantizers, generator.codebook_size, generator.bits_per_code) == (6, 1024, 10)
    assert generator.bitrates == (1.0, 6.0)
    ahead = delay_ms(generator.encoder.model, 24000) + delay_ms(generator.decoder.model, 100)
    assert 10 + ahead == pytest.approx(track_limits(track).latency_ms)


def test_default_is_track_1():
    assert str(CodecGenerator()) == str(CodecGenerator.from_preset("track1"))


def test_codebooks_for_bit_rates(tiny):
    rates = {None: 6, 0: 6, 0.5: 1, 1: 1, 1.99: 1, 2: 2, 3.9: 3, 6: 6, 12: 6, 1e9: 6, float("inf"): 6}
    assert {rate: tiny.codebooks_for(rate) for rate in rates} == rates
    assert [tiny.bitrate_of(number) for number in (1, 6)] == [1.0, 6.0]
    for bad in (-1, float("nan")):
        with pytest.raises(UsageError, match="must be positive"):
            tiny.codebooks_for(bad)


@torch.no_grad()
def test_lengths_and_rates(tiny):
    for length in (1, 239, 240, 241, 1000):
        wav = torch.randn(2, 1, length)
        codes = tiny.encode(wav)
        assert codes.shape == (6, 2, tiny.num_frames(length))
        assert torch.equal(tiny.encode(wav, 1), codes[:1])
        assert tiny.decode(codes[:2]).shape == (2, 1, 240 * codes.shape[-1])
        assert tiny(wav).wav.shape == wav.shape


@torch.no_grad()
def test_padded_input_is_that_of_a_stream(tiny):
    wav = torch.randn(1, 1, 1000)
    padded = torch.cat([wav, torch.zeros(1, 1, 200)], dim=-1)
    assert torch.equal(tiny.pad_input(wav), padded)
    assert torch.equal(tiny.encode(wav, pad_input=True), tiny.encode(padded))
    assert tiny.pad_input(padded) is padded or torch.equal(tiny.pad_input(padded), padded)
    difference = (tiny.encoder(wav) - tiny.encoder(padded)).abs().amax((0, 1))
    assert difference[:-3].max() < 1e-6 < difference.max()


def test_future_that_reaches_an_output(tiny):
    wav = torch.randn(1, 1, 4800, requires_grad=True)
    tiny.decoder(tiny.encoder(wav))[0, 0, 2400].backward()
    last = int(wav.grad[0, 0].abs().nonzero().max())
    ahead = 24 * (delay_ms(tiny.encoder.model, 24000) + delay_ms(tiny.decoder.model, 100))
    assert last - 2400 <= ahead + 239


def test_forward_agrees_with_encode_and_decode(tiny):
    wav = torch.randn(1, 1, 960)
    with torch.no_grad():
        output = tiny(wav, 2)
        assert torch.equal(output.codes, tiny.encode(wav, 2))
        torch.testing.assert_close(output.wav, tiny.decode(output.codes))
        difference = output.latent - output.quantized
        expected = difference.abs().mean() + difference.square().mean()
        torch.testing.assert_close(output.quantization_loss, expected)


@pytest.mark.parametrize("shape", [(1, 2, 100), (1, 100), (100,), (1, 1, 0)])
def test_what_is_no_batch_of_mono_waveforms(tiny, shape):
    with pytest.raises(DataError, match="mono waveforms"):
        tiny.encode(torch.zeros(shape))
    with pytest.raises(DataError, match="mono waveforms"):
        tiny(torch.zeros(shape))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_yaml_and_are_copies(name):
    conf = preset_conf(name)
    assert yaml.safe_load(yaml.safe_dump(conf)) == conf
    conf["encoder_conf"]["strides"].append(7)
    assert preset_conf(name) != conf


def test_configurations():
    built = build_generator("lrac", {"preset": "tiny", "bitrates": [2, 4]})
    assert built.bitrates == (2.0, 4.0)
    complete = complete_conf("lrac", {"preset": "tiny", "bitrates": [2, 4]})
    assert complete == complete_conf("lrac", complete)
    assert str(build_generator("lrac", complete)) == str(built)
    assert complete_conf("track2", {}) == preset_conf("track2")
    for call, message in [
        (lambda: complete_conf("lrac", {"preset": "track3"}), "did you mean 'track[12]'"),
        (lambda: complete_conf("track1", {"preset": "track2"}), "two codecs"),
        (lambda: build_generator("soundstorm"), "unknown"),
        (lambda: build_generator("lrac", {"preset": "tiny", "hop": 3}), "does not fit"),
        (lambda: CodecGenerator.from_preset("tiny", hop=3), "does not fit"),
        (lambda: CodecGenerator(encoder_conf={"channels": [8]}), "does not fit"),
        (lambda: CodecGenerator.from_preset("tiny", bitrates=[6, 1]), "ascending"),
        (lambda: CodecGenerator.from_preset("tiny", decoder_conf=half_rate()), "same product"),
        (lambda: track_limits("track9"), "track"),
    ]:
        with pytest.raises(UsageError, match=message):
            call()
    assert set(TRACK_LIMITS) == {"track1", "track2"}


def half_rate() -> dict:
    conf = preset_conf("tiny")["decoder_conf"]
    return conf | {"strides": [5, 4, 3, 2]}
