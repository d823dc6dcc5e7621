# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The published codecs with reference weights, as streams and as ONNX graphs, against the whole recording."""

import numpy as np
import pytest
import torch
from codec_formula import fill, find_seed, generator_files

from espnet_av.codec.generator import CodecGenerator
from espnet_av.codec.inference import Codec

TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=[1, 2])
def case(request, fixtures_dir) -> tuple[Codec, list[torch.Tensor]]:
    folder = fixtures_dir("codec")
    generator = fill(CodecGenerator.from_preset(f"track{request.param}"), find_seed(folder), "generator.")
    return Codec(generator), [golden["audio"] for golden in generator_files(folder, request.param)]


def same_but_ties(codec: Codec, codes: torch.Tensor, wanted: torch.Tensor) -> None:
    """Codes agree, but for a frame or two where two entries are equally near."""
    assert codes.shape == wanted.shape
    assert (codes != wanted).any(0).float().mean() < 0.02


@pytest.mark.parametrize("chunk", [97, 240, 1999])
def test_stream(case, chunk):
    codec, recordings = case
    for wave in recordings:
        wanted = codec.encode(wave, pad_input=True)
        with codec.streaming() as stream:
            codes = [stream.encode(piece) for piece in wave.split(chunk)]
            codes = torch.cat([*codes, stream.flush().codes], dim=2)
        same_but_ties(codec, codes, wanted)
        with codec.streaming() as stream:
            parts = [stream.decode(piece) for piece in wanted.split(chunk // 240 + 1, dim=2)]
            wav = torch.cat([*parts, stream.flush().wav], dim=1)
        assert torch.allclose(wav, codec.decode(wanted), atol=TOLERANCE, rtol=0)


def test_latent_of_frames(case):
    """The encoder frame by frame gives the latent of the whole recording."""
    codec, recordings = case
    wave = recordings[0][: 240 * 30]
    engine = codec.streaming().encoder._engine
    latent = torch.cat([*(engine.run(piece[None, None]) for piece in wave.split(240)), engine.flush()], dim=2)
    with torch.no_grad():
        wanted = codec.generator.encoder(wave[None, None])
    assert torch.allclose(latent[..., engine.delay :], wanted, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("frames", [1, 3, 40])
def test_onnx(case, frames, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from espnet_av.codec.onnx_export import OnnxFrames, export_onnx

    codec, recordings = case
    paths = export_onnx(codec.folded, tmp_path)
    wave = recordings[0][: 240 * frames]
    wanted = codec.encode(wave)
    codes = OnnxFrames(paths["encoder"]).run_all(wave[None, None].numpy())
    same_but_ties(codec, torch.from_numpy(codes), wanted)
    decoder = OnnxFrames(paths["decoder"])
    for layers in (1, len(wanted)):
        wav = decoder.run_all(wanted[:layers].numpy())[:, 0]
        assert np.abs(wav - codec.decode(wanted[:layers]).numpy()).max() < TOLERANCE
