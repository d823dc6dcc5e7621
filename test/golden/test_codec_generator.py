# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Activations, latents, codes and waveforms of the reference codec, reproduced."""

import json
from pathlib import Path

import pytest
import torch
from codec_formula import assert_close, assert_codes, fill, find_seed, generator_files
from torch import Tensor, nn

from espnet_av.codec.generator import CodecGenerator


@pytest.fixture(scope="module")
def folder(fixtures_dir) -> Path:
    return fixtures_dir("codec")


@pytest.fixture(scope="module", params=[1, 2])
def case(request, folder) -> tuple[CodecGenerator, list[dict[str, Tensor]]]:
    generator = fill(CodecGenerator.from_preset(f"track{request.param}"), find_seed(folder), "generator.")
    return generator.eval(), list(generator_files(folder, request.param))


def check_layers(model: nn.Sequential, x: Tensor, golden: dict[str, Tensor], prefix: str) -> Tensor:
    for number, layer in enumerate(model):
        x = layer(x)
        name = f"{prefix}.{number}"
        assert list(x.shape[1:]) == golden[f"{name}.shape"].tolist()
        head, tail = golden[f"{name}.head"], golden[f"{name}.tail"]
        assert_close(x[0, :, : head.shape[1]], head, f"{name}.head")
        assert_close(x[0, :, -tail.shape[1] :], tail, f"{name}.tail")
        stats = torch.stack([x.mean(), x.std(correction=0), x.abs().max()])
        assert_close(stats, golden[f"{name}.stats"][:3], f"{name}.stats")
    return x


@torch.no_grad()
def test_layers(case):
    generator, runs = case
    for golden in runs:
        latent = check_layers(generator.encoder.model, golden["audio"][None, None], golden, "enc")
        assert_close(latent[0], golden["z"], "latent")
        quantized = generator.quantizer(latent).quantized
        assert_close(quantized[0], golden["zq_6kbps"], "quantised latent")
        wav = check_layers(generator.decoder.model, golden["zq_6kbps"][None], golden, "dec")
        assert_close(wav[0, 0, : len(golden["wav_6kbps"])], golden["wav_6kbps"], "waveform")


@torch.no_grad()
def test_codes_and_waveforms(case):
    generator, runs = case
    for golden in runs:
        wav, margin = golden["audio"][None, None], golden["rvq.margin_rel"]
        rates = [int(name.split("_")[1].removesuffix("kbps")) for name in golden if name.startswith("codes_")]
        assert rates
        for rate in rates:
            codes = generator.encode(wav, rate)
            assert codes.dtype == torch.int64
            assert codes.shape == (rate, 1, generator.num_frames(wav.shape[-1]))
            expected = golden[f"codes_{rate}kbps"].long()
            assert_codes(codes[:, 0], expected, margin)
            if f"wav_{rate}kbps" in golden:
                assert_close(generator.quantizer.decode(expected[:, None])[0], golden[f"zq_{rate}kbps"], "latent")
                wanted = golden[f"wav_{rate}kbps"]
                decoded = generator.decode(expected[:, None])
                assert decoded.shape[-1] == codes.shape[-1] * generator.hop_length
                assert_close(decoded[0, 0, : len(wanted)], wanted, f"waveform at {rate} kbps")
        wanted = golden["wav_unquantized"]
        assert_close(generator.decoder(generator.encoder(wav))[0, 0, : len(wanted)], wanted, "without quantiser")


@torch.no_grad()
def test_quantiser(case):
    generator, runs = case
    for golden in runs:
        latent = golden["z"][None]
        layer = generator.quantizer.layers[0]
        assert_close(layer.project_in(latent.transpose(1, 2))[0], golden["rvq.layer0.project_in"], "project_in")
        found = generator.quantizer(latent)
        assert_codes(found.codes[:, 0], golden["rvq.forward_eval_codes"].long(), golden["rvq.margin_rel"])
        assert found.commit_loss.item() == golden["rvq.forward_eval_commit"].item()
        assert generator.bitrate_of(len(found.codes)) == pytest.approx(golden["rvq.forward_eval_bw"].item())


@torch.no_grad()
def test_lengths_and_bit_rates(folder):
    values = json.loads((folder / "values.json").read_text())
    generator = fill(CodecGenerator.from_preset("track1"), find_seed(folder), "generator.").eval()
    for samples, codes_shape, wav_shape in values["length_table_track1"]:
        codes = generator.encode(torch.zeros(1, 1, samples))
        assert list(codes.shape) == codes_shape
        assert list(generator.decode(codes).shape) == wav_shape
    for rate, expected in values["codebooks_for_target_bw"].items():
        assert generator.codebooks_for(None if rate == "none" else float(rate)) == expected, rate
