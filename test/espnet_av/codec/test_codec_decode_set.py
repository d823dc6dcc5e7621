# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Decoding of sets: files, resuming, rates, bad input."""

import json

import numpy as np
import pytest
import soundfile
import torch

from espnet_av.bin import codec_infer
from espnet_av.codec.decode_set import DecodeOptions, SetDecoder
from espnet_av.codec.generator import CodecGenerator
from espnet_av.codec.inference import Codec
from espnet_av.codec.presets import TINY
from espnet_av.data.data_dir import DataDir, read_scp
from espnet_av.utils.errors import DataError, MissingDataError, UsageError


@pytest.fixture(scope="module")
def codec():
    torch.manual_seed(0)
    generator = CodecGenerator(**TINY)
    for layer in generator.quantizer.layers:
        layer.codebook.data.normal_()
    return Codec(generator)


@pytest.fixture()
def data(tmp_path):
    paths = {}
    rng = np.random.default_rng(0)
    for utt, size in {"a": 1, "b": 4803, "c": 240}.items():
        paths[utt] = tmp_path / f"{utt}.wav"
        soundfile.write(paths[utt], 0.1 * rng.standard_normal(size), 24000)
    folder = DataDir(tmp_path / "set")
    folder.path.mkdir()
    folder.write("wav.scp", paths)
    return folder.path


def test_files_and_facts(codec, data, tmp_path):
    facts = SetDecoder(codec, 6.0, DecodeOptions()).decode(data, tmp_path / "out")
    wavs, codes = read_scp(tmp_path / "out" / "wav" / "wav.scp"), read_scp(tmp_path / "out" / "codec" / "codec.scp")
    assert {utt: soundfile.info(path).frames for utt, path in wavs.items()} == {"a": 1, "b": 4803, "c": 240}
    assert {utt: np.load(path).shape for utt, path in codes.items()} == {"a": (6, 1), "b": (6, 21), "c": (6, 1)}
    wave, _ = soundfile.read(tmp_path / "b.wav", dtype="float32")
    whole = codec.resynthesise(torch.from_numpy(wave), 6.0).numpy()
    np.testing.assert_allclose(soundfile.read(wavs["b"])[0], np.clip(whole, -1, 1), atol=2 / 32768)
    bits = 23 * 6 * 10
    assert facts["measured_kbps"] == pytest.approx(bits / 1000 / (5044 / 24000), rel=1e-3)
    assert facts == json.loads((tmp_path / "out" / "infer.json").read_text())


def test_goes_on_where_it_was_and_begins_anew(codec, data, tmp_path):
    out = tmp_path / "out"
    SetDecoder(codec, 1.0, DecodeOptions()).decode(data, out)
    kept = (out / "wav" / "b.wav").stat().st_mtime_ns
    (out / "wav" / "a.wav").unlink()
    SetDecoder(codec, 1.0, DecodeOptions()).decode(data, out)
    assert (out / "wav" / "a.wav").is_file() and (out / "wav" / "b.wav").stat().st_mtime_ns == kept
    SetDecoder(codec, 3.0, DecodeOptions()).decode(data, out)
    assert np.load(out / "codec" / "b.npy").shape == (3, 21)


def test_codes_alone(codec, data, tmp_path):
    SetDecoder(codec, 6.0, DecodeOptions(encode_only=True)).decode(data, tmp_path / "out", ["b"])
    assert not (tmp_path / "out" / "wav").exists() and list(read_scp(tmp_path / "out" / "codec" / "codec.scp")) == ["b"]


def test_bad_input(codec, data, tmp_path):
    for rate in (0, 7, -1):
        with pytest.raises(UsageError, match="the model has no such bit rate"):
            SetDecoder(codec, rate, DecodeOptions())
    with pytest.raises(DataError, match="lacks utterances"):
        SetDecoder(codec, 1, DecodeOptions()).decode(data, tmp_path / "out", ["x"])
    soundfile.write(tmp_path / "c.wav", np.full(240, np.nan), 24000, subtype="FLOAT")
    with pytest.raises(DataError, match="unusable 1"):
        SetDecoder(codec, 1, DecodeOptions()).decode(data, tmp_path / "out")
    facts = SetDecoder(codec, 1, DecodeOptions(max_bad_share=0.5)).decode(data, tmp_path / "out")
    assert facts["num_utterances"] == 2 and "not finite" in (tmp_path / "out" / "bad.json").read_text()
    soundfile.write(tmp_path / "b.wav", np.zeros(800), 16000)
    with pytest.raises(DataError, match="wrong sample rate"):
        SetDecoder(codec, 1, DecodeOptions()).decode(data, tmp_path / "out")


def test_command_line(tmp_path):
    common = ["--train_dir", str(tmp_path), "--output_dir", str(tmp_path / "out")]
    with pytest.raises(UsageError, match="nothing to decode"):
        codec_infer.main(common)
    with pytest.raises(MissingDataError, match="no data folder"):
        codec_infer.main([*common, "--data_dirs", str(tmp_path / "none")])
    (tmp_path / "decode.yaml").write_text("encode_onyl: true\n")
    args = codec_infer.get_parser().parse_args([*common, "--config", str(tmp_path / "decode.yaml")])
    with pytest.raises(UsageError, match="write encode_only"):
        codec_infer.read_options(args)
