# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Tokens: labels, lengths, pieces, voice activity, files of published recognisers, folders of recordings."""

import json

import numpy as np
import pytest
import soundfile
import torch

from espnet_av.avgen.clock import token_frames
from espnet_av.avgen.ctc_tokens import BandNorm, CTCTokens, token_lengths
from espnet_av.avgen.token_labels import LABELS, labels_to_text, text_to_labels
from espnet_av.avgen.tokens import TokenExtractor
from espnet_av.avgen.vad import silent_frames
from espnet_av.avgen.wav2vec2 import build_wav2vec2, infer_sizes, load_wav2vec2, own_state
from espnet_av.bin import avgen_tokens
from espnet_av.utils.errors import CheckpointError, DataError, MissingDataError, UsageError

SIZES = {"num_mels": 16, "dim": 12, "kernel": 5, "dilations": [1, 2]}
WAV2VEC2 = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [(8, 10, 5), (8, 3, 2), (8, 3, 2), (8, 3, 2), (8, 3, 2), (8, 2, 2), (8, 2, 2)],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 12,
    "encoder_pos_conv_kernel": 4,
    "encoder_pos_conv_groups": 2,
    "encoder_num_layers": 1,
    "encoder_num_heads": 3,
    "encoder_ff_interm_features": 16,
    "encoder_layer_norm_first": False,
    "aux_num_out": 32,
}


def model(seed: int = 0) -> CTCTokens:
    torch.manual_seed(seed)
    return CTCTokens(**SIZES).eval()


def sound(num_samples: int, channels: int = 2, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal((channels, num_samples)).astype(np.float32)


def test_labels_and_text():
    assert len(LABELS) == 29 and LABELS[:3] == ("-", "|", "E")
    assert labels_to_text([LABELS.index(each) for each in "HH-E-LL-LOO||-W"]) == "HELLO W"
    for wrong in ("", "  ", "CAFÉ", "A|B", "A-B", "NO 5"):
        with pytest.raises(DataError, match=r"empty|no label"):
            text_to_labels(wrong)


@pytest.mark.parametrize("num_samples", [400, 559, 560, 719, 720, 1039, 1040, 4321])
def test_frames_are_those_of_wav2vec2(num_samples):
    logits = model()(torch.from_numpy(sound(num_samples)))
    assert logits.shape == (2, token_frames(num_samples), 29)
    assert token_lengths(torch.tensor([num_samples])).item() == token_frames(num_samples)


def test_pieces_of_a_bounded_model_make_the_whole():
    network = model()
    wav = sound(3 * 16000 + 777)
    whole = TokenExtractor(network).extract(wav)
    pieces = TokenExtractor(network, chunk_sec=1).extract(wav)
    assert whole.std() > 0.01
    np.testing.assert_allclose(pieces, whole, atol=1e-5)
    with pytest.raises(AssertionError):
        network.reach = 1
        np.testing.assert_allclose(TokenExtractor(network, chunk_sec=1).extract(wav), whole, atol=1e-5)


def test_padding_changes_nothing():
    network, wav = model(), torch.from_numpy(sound(9000))
    lengths = torch.tensor([9000, 5000])
    both = network(wav, lengths)
    alone = network(wav[1:, :5000])
    torch.testing.assert_close(both[1, : alone.shape[1]], alone[0], atol=1e-5, rtol=0)


def test_bands_are_normalised_by_frames_that_count():
    norm = BandNorm(2).train()
    x = 3 * torch.randn(2, 2, 50, generator=torch.Generator().manual_seed(0)) - 8
    mask = torch.ones(2, 1, 50)
    mask[1, :, 20:] = 0
    y = norm(x, mask)
    counted = torch.cat([y[0], y[1, :, :20]], dim=1)
    torch.testing.assert_close(counted.mean(1), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(counted.std(1, correction=0), torch.ones(2), atol=1e-4, rtol=0)
    assert (y[1, :, 20:] == 0).all()
    torch.testing.assert_close(norm(x.masked_fill(mask == 0, 1e6), mask), y)  # what stands there has no influence


def test_it_learns_a_word():
    torch.manual_seed(0)
    network = CTCTokens(**{**SIZES, "dim": 24, "dropout": 0.0, "mask_bands": 0, "mask_frames": 0}).train()
    time = torch.arange(1600) / 16000
    tones = {
        each: torch.sin(2 * np.pi * hertz * time) for each, hertz in zip("OHME", (300, 800, 1800, 4000), strict=True)
    }
    wav = torch.stack([torch.cat([tones[each] for each in word]) for word in ("OH", "ME")])
    labels, sizes = torch.tensor([text_to_labels("OH"), text_to_labels("ME")]), torch.tensor([2, 2])
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(80):
        loss, _ = network.loss(wav, torch.tensor([3200, 3200]), labels, sizes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert TokenExtractor(network).transcribe(wav.numpy()) == ["OH", "ME"]


def test_silence_is_put_where_nobody_speaks():
    wav = sound(32000)
    wav[0, 16000:] *= 1e-3  # 60 dB down
    wav[1] = 0
    silent = silent_frames(wav)
    assert silent.shape == (2, token_frames(32000))
    assert not silent[0, :47].any() and silent[0, 54:].all() and silent[1].all()
    assert not silent_frames(sound(32000)).any()
    vector = np.linspace(-1, 1, 29)
    plain, gated = (TokenExtractor(model(), vad=vad, silence=vector).extract(wav) for vad in ("none", "energy"))
    np.testing.assert_array_equal(gated[silent], np.broadcast_to(vector.astype(np.float32), gated[silent].shape))
    np.testing.assert_array_equal(gated[~silent], plain[~silent])


def test_measured_silence_is_the_mean_of_silent_frames():
    extractor, wav = TokenExtractor(model(), vad="energy"), sound(32000)
    wav[:, 16000:] *= 1e-3
    expected = extractor.logits(wav)[silent_frames(wav)].mean(0)
    np.testing.assert_allclose(extractor.measure_silence([wav]), expected, atol=1e-5)
    np.testing.assert_allclose(extractor.silence, expected, atol=1e-5)
    with pytest.raises(DataError, match="silent frame"):
        extractor.measure_silence([sound(32000)])


def hub_names(state: dict) -> dict:
    back = {"feature_extractor.": "wav2vec2.feature_extractor.", "aux.": "lm_head."}
    back |= {"encoder.feature_projection.": "wav2vec2.feature_projection.", "encoder.transformer.": "wav2vec2.encoder."}
    renamed = {}
    for name, tensor in state.items():
        old = next(old for old in back if name.startswith(old))
        new = back[old] + name.removeprefix(old)
        renamed[new.replace("parametrizations.weight.original0", "weight_g")] = tensor
    renamed = {name.replace("parametrizations.weight.original1", "weight_v"): each for name, each in renamed.items()}
    return {**renamed, "wav2vec2.masked_spec_embed": torch.zeros(12)}


@pytest.mark.parametrize("names", ["torchaudio", "hub"])
def test_files_of_wav2vec2(tmp_path, names):
    torch.manual_seed(0)
    network = build_wav2vec2(WAV2VEC2).eval()
    state = network.state_dict()
    path = tmp_path / "pytorch_model.bin"
    torch.save(state if names == "torchaudio" else hub_names(state), path)
    loaded, wav = load_wav2vec2(tmp_path, num_heads=3), torch.from_numpy(sound(4000))
    kept = [0, *range(4, 32)]
    torch.testing.assert_close(loaded(wav), network(wav)[0][..., kept], atol=1e-5, rtol=0)
    assert infer_sizes(own_state(state), 3) == {**WAV2VEC2, "aux_num_out": 29}


def test_bad_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(MissingDataError, match="WAV2VEC2_ASR_BASE_960H"):
        load_wav2vec2("wav2vec2")
    with pytest.raises(CheckpointError, match="no head"):
        own_state({"feature_extractor.conv_layers.0.conv.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="other labels"):
        own_state({"aux.weight": torch.zeros(30, 2), "aux.bias": torch.zeros(30)})
    state = own_state(build_wav2vec2(WAV2VEC2).state_dict())
    with pytest.raises(UsageError, match="num_heads"):
        infer_sizes(state)
    (tmp_path / "config.yaml").write_text("model: hifigan\n")
    with pytest.raises(DataError, match="no token model"):
        TokenExtractor.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("wav", "message"),
    [
        (np.zeros(16000, np.float32), "shape"),
        (np.zeros((1, 399), np.float32), "400 samples or more"),
        (np.zeros((1, 16000), np.int16), "int16"),
        (np.full((1, 16000), np.nan, np.float32), "not finite"),
    ],
)
def test_bad_sound(wav, message):
    with pytest.raises(DataError, match=message):
        TokenExtractor(model()).extract(wav)


def test_bad_settings():
    for options, message in (({"vad": "loud"}, "vad"), ({"chunk_sec": 0.1}, "pieces"), ({"silence": [0]}, "silence")):
        with pytest.raises(UsageError, match=message):
            TokenExtractor(model(), **options)


@pytest.fixture
def experiment(tmp_path):
    """Write a trained token model as an experiment folder."""
    folder = tmp_path / "exp"
    folder.mkdir()
    (folder / "config.yaml").write_text(json.dumps({"model": "ctc_tokens", "model_conf": SIZES}))
    torch.save({f"tokens.{name}": each for name, each in model().state_dict().items()}, folder / "valid.cer.best.pth")
    return folder


def test_folder_of_recordings(tmp_path, experiment, capsys):
    audio, output = tmp_path / "audio", tmp_path / "tokens"
    audio.mkdir()
    wav = sound(48000)
    wav[:, 24000:] *= 1e-3
    soundfile.write(audio / "scene01_audio.wav", wav.T, 48000)
    soundfile.write(audio / "scene02_audio.wav", sound(32000, seed=1).T, 16000)
    (audio / "scene03_audio.wav").write_bytes(b"no sound")
    command = ["-i", str(audio), "-o", str(output), "--model", str(experiment), "--vad", "energy", "--strip", "_audio"]
    command += ["--silence", "measure", "--device", "cpu"]
    with pytest.raises(DataError, match=r"1 of 3 recordings.*scene03_audio.wav"):
        avgen_tokens.main(command)
    command += ["--max_dropped_share", "0.5"]
    before = (output / "scene02.npy").stat().st_mtime_ns
    avgen_tokens.main(command)
    assert "0 recordings written, 2 were there, 1 left out" in capsys.readouterr().out
    assert (output / "scene02.npy").stat().st_mtime_ns == before
    tokens = np.load(output / "scene01.npy")
    assert tokens.shape == (2, token_frames(16000), 29) and tokens.dtype == np.float32
    silence = np.load(output / "silence.npy")
    assert (tokens[0, -1] == silence).all() and not (tokens[0, 0] == silence).all()
    with pytest.raises(DataError, match="other settings"):
        avgen_tokens.main([*command, "--chunk_sec", "5"])
    avgen_tokens.main([*command, "--chunk_sec", "5", "--overwrite"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--reference_compat", "--vad", "energy"], UsageError, "reference_compat"),
        (["--silence", "measure"], UsageError, "--vad energy"),
        ([], MissingDataError, "no recordings"),
    ],
)
def test_wrong_command(tmp_path, experiment, options, error, message):
    with pytest.raises(error, match=message):
        avgen_tokens.main(["-i", str(tmp_path / "none"), "--model", str(experiment), "--device", "cpu", *options])
