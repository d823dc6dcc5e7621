# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""``espnet-av codec`` and ``espnet-av complexity codec`` on files and pipes."""

import io
import json
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
import yaml

from espnet_av.bin import codec_complexity, codec_file
from espnet_av.codec.deploy import load_folded, save_folded
from espnet_av.codec.generator import CodecGenerator
from espnet_av.codec.inference import Codec
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import CheckpointError, DataError, UsageError

LENGTH = 9001


def make_model(folder, seed: int):
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    generator = CodecGenerator.from_preset("tiny")
    for layer in generator.quantizer.layers:
        layer._codebook.embed.normal_(0, 0.1)
        layer._codebook.inited.fill_(1)
    folder.mkdir()
    state = {f"codec.generator.{name}": value.contiguous() for name, value in generator.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": "lrac", "model_conf": {"preset": "tiny"}}))
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with two models, a sound file and its stream."""
    folder = tmp_path_factory.mktemp("codec")
    make_model(folder / "model", 0)
    make_model(folder / "other", 1)
    wave = np.random.default_rng(0).normal(size=LENGTH) * 0.1
    soundfile.write(folder / "in.wav", wave, 24000)
    run(folder, "encode", "in.wav", "in.eav", model=True)
    return folder


def run(folder, command: str, *arguments: str, model: bool = False) -> int:
    files = (".wav", ".eav", "exported")
    names = [str(folder / each) if each.endswith(files) else each for each in arguments]
    return codec_file.main([command, *(["--model", str(folder / "model")] if model else []), *names])


def pipe(monkeypatch, arguments: list[str], data: bytes) -> bytes:
    """Run with standard input and output replaced."""
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=output, flush=lambda: None))
    assert codec_file.main(arguments) == 0
    monkeypatch.undo()
    return output.getvalue()


def test_file_there_and_back(place):
    run(place, "decode", "in.eav", "out.wav", model=True)
    decoded, rate = soundfile.read(place / "out.wav", dtype="float32")
    codec = Codec.from_pretrained(place / "model")
    wave, _ = soundfile.read(place / "in.wav", dtype="float32")
    wanted = codec.decode(codec.encode(wave, pad_input=True), len(wave))[0].numpy()
    assert rate == 24000 and len(decoded) == LENGTH
    assert np.abs(decoded - wanted).max() < 1e-4  # 16 bits


def test_pipes_give_the_same(place, monkeypatch):
    model = ["--model", str(place / "model")]
    wav = (place / "in.wav").read_bytes()
    stream = pipe(monkeypatch, ["encode", *model, "-", "-"], wav)
    assert stream[56:] == (place / "in.eav").read_bytes()[56:]
    raw = pipe(monkeypatch, ["encode", *model, "--pipe_format", "s16le", "-", "-"], wav[44:])
    assert raw == stream
    decoded = pipe(monkeypatch, ["decode", *model, "-", "-"], stream)
    run(place, "decode", "in.eav", "out2.wav", model=True)
    assert decoded[:4] == b"RIFF" and decoded[44:] == (place / "out2.wav").read_bytes()[44:]


def test_part_is_that_part(place):
    run(place, "decode", "in.eav", "whole.wav", model=True)
    run(place, "decode", "--start", "0.2", "--duration", "0.1", "in.eav", "part.wav", model=True)
    whole, _ = soundfile.read(place / "whole.wav")
    part, _ = soundfile.read(place / "part.wav")
    assert len(part) == 2400 and np.abs(part - whole[4800:7200]).max() <= 1 / 32768
    with pytest.raises(UsageError, match="no such part"):
        run(place, "decode", "--start", "10", "in.eav", "part.wav", model=True)


def test_info_and_transcode(place, capsys):
    run(place, "transcode", "--bitrate", "1", "in.eav", "small.eav")
    capsys.readouterr()
    run(place, "info", "--json", "small.eav")
    facts = json.loads(capsys.readouterr().out)
    assert facts["payload_bits"] == 10 * -(-LENGTH // 240) and facts["complete"]
    assert facts["bitrate_kbps"] == 1 and facts["num_samples"] == LENGTH
    packed = (facts["payload_bits"] + facts["padding_bits"]) // 8
    assert facts["header_bytes"] + facts["check_bytes"] + packed == facts["file_bytes"]
    run(place, "info", "in.eav")
    assert "6 kbit/s" in capsys.readouterr().out
    run(place, "decode", "small.eav", "one.wav", model=True)
    run(place, "decode", "--bitrate", "1", "in.eav", "same.wav", model=True)
    assert (place / "one.wav").read_bytes() == (place / "same.wav").read_bytes()
    with pytest.raises(UsageError, match="no such bit rate"):
        run(place, "decode", "--bitrate", "6", "small.eav", "x.wav", model=True)


@pytest.mark.parametrize("conceal", ["repeat", "mute", "fail"])
def test_damage(place, conceal, caplog):
    """A damaged block is told with its time, treated, and leaves the rest as it is."""
    data = bytearray((place / "in.eav").read_bytes())
    data[56 + 153 + 30] ^= 0xFF
    (place / "bad.eav").write_bytes(data)
    arguments = ("--conceal", conceal, "bad.eav", "bad.wav")
    if conceal == "fail":
        with pytest.raises(DataError, match="frames 20 to"):
            run(place, "decode", *arguments, model=True)
        return
    run(place, "decode", *arguments, model=True)
    assert "18 damaged frames (0.20-0.38 s)" in caplog.text
    run(place, "decode", "in.eav", "good.wav", model=True)
    bad, good = (soundfile.read(place / name)[0] for name in ("bad.wav", "good.wav"))
    assert len(bad) == LENGTH and np.array_equal(bad[: 19 * 240], good[: 19 * 240])
    assert (np.abs(bad[4800:]).max() == 0) == (conceal == "mute")


def test_cut_off(place, capsys):
    (place / "cut.eav").write_bytes((place / "in.eav").read_bytes()[:230])
    with pytest.raises(DataError, match="cut off"):
        run(place, "decode", "cut.eav", "cut.wav", model=True)
    assert not (place / "cut.wav").exists()
    run(place, "decode", "--allow_truncated", "true", "cut.eav", "cut.wav", model=True)
    assert soundfile.info(place / "cut.wav").frames == 4800
    run(place, "info", "cut.eav")
    assert "CUT OFF" in capsys.readouterr().out


def test_bad_input(place, monkeypatch):
    soundfile.write(place / "rate.wav", np.zeros(160), 16000)
    soundfile.write(place / "empty.wav", np.zeros(0), 24000)
    soundfile.write(place / "nan.wav", np.full(300, np.nan, np.float32), 24000, subtype="FLOAT")
    soundfile.write(place / "one.wav", np.zeros(1), 24000)
    soundfile.write(place / "stereo.wav", np.zeros((500, 2), np.float32), 24000, subtype="FLOAT")
    for name, message in {"rate": "sample rate", "empty": "no samples", "nan": "not finite"}.items():
        with pytest.raises(DataError, match=message):
            run(place, "encode", f"{name}.wav", "x.eav", model=True)
    assert not (place / "x.eav").exists()
    for name in ("one", "stereo"):
        run(place, "encode", f"{name}.wav", "x.eav", model=True)
    run(place, "encode", "--resample", "true", "rate.wav", "x.eav", model=True)
    with pytest.raises(CheckpointError, match="another model"):
        codec_file.main(["decode", "--model", str(place / "other"), str(place / "in.eav"), str(place / "x.wav")])
    model = ["--model", str(place / "model")]
    header = b"RIFF" + bytes(4) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16)
    cases = {"no WAV": b"hello world, no sound", "sample rate": header, "WAV header": b"RIFF1234WAVE"}
    for message, data in cases.items():
        with pytest.raises(DataError, match=message):
            pipe(monkeypatch, ["encode", *model, "-", "-"], data)
    with pytest.raises(DataError, match="no samples"):
        pipe(monkeypatch, ["encode", *model, "--pipe_format", "s16le", "-", "-"], b"")


def test_export(place):
    run(place, "export", "--format", "deploy", "exported", model=True)
    codec, folded = Codec.from_pretrained(place / "model"), load_folded(place / "exported" / "codec.safetensors")
    wave = 0.1 * torch.randn(1, 1, 500, generator=torch.Generator().manual_seed(0))
    codes = codec.encode(wave[0])
    assert torch.equal(folded.encode(wave), codes) and folded.digest == codec.folded.digest
    assert torch.allclose(folded.decode(codes)[:, 0], codec.decode(codes), atol=1e-6)
    with pytest.raises(CheckpointError, match="no folded codec"):
        load_folded(place / "model" / "model.safetensors")
    pytest.importorskip("onnx")
    run(place, "export", "exported", model=True)
    assert (place / "exported" / "encoder.onnx").is_file() and (place / "exported" / "decoder.onnx").is_file()


def test_folded_codec_with_a_unit_of_other_steps(place, tmp_path):
    """A residual unit consists of two convolutions; a file that puts something else there is refused."""
    files = pytest.importorskip("safetensors.torch")
    path = save_folded(Codec.from_pretrained(place / "model").folded, tmp_path / "codec.safetensors")
    content = path.read_bytes()
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    structure = json.loads(metadata["codec"])
    unit = next(step for step in structure["encoder"] if step["kind"] == "residual")
    unit["second"] = {"kind": "elu"}
    files.save_file(files.load(content), path, {**metadata, "codec": json.dumps(structure)})
    with pytest.raises(CheckpointError, match="damaged"):
        load_folded(path)


def test_complexity(place, capsys, tmp_path):
    assert codec_complexity.main([str(place / "model"), "--output", str(tmp_path / "cost.json"), "--verbose"]) == 0
    printed = capsys.readouterr().out
    assert "model.1.block.1" in printed and "track1: all limits kept" in printed
    assert json.loads((tmp_path / "cost.json").read_text())["latency"]["total_ms"] == pytest.approx(30)
    assert run_main(codec_complexity.main, ["absent.yaml"], logs=False) == 3
