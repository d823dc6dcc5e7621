# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Numbers of the reference audio-visual speech recogniser, reproduced.

All sizes, inputs and expected values come from the files of the golden folder (``ESPNET_AV_FIXTURES``).
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from espnet_av.avsr.augment import add_at_snr, fit_length
from espnet_av.avsr.beam_search import BeamSearch
from espnet_av.avsr.convert import config_to_keywords, from_published, load_strictly, to_published
from espnet_av.avsr.features import LogFbankStack, padded_num_samples
from espnet_av.avsr.losses import add_sos_eos
from espnet_av.avsr.model import AVSRModel
from espnet_av.avsr.text import normalize_text
from espnet_av.avsr.tokenizer import SentencePieceTokenizer
from espnet_av.data.mouth_pixels import center_crop, eval_transform, normalize, to_gray

TOKEN_MODEL_VARIABLE = "ESPNET_AV_UNIGRAM5000"  # path of unigram5000.model, unigram5000_units.txt beside it
IMPOSSIBLE_SCORE = -1e8  # the reference scores prefixes that CTC cannot realise near -1e9


@pytest.fixture(scope="module")
def folder(fixtures_dir) -> Path:
    return fixtures_dir("avsr")


@pytest.fixture(scope="module")
def model(folder, procedural_tensor) -> AVSRModel:
    description = json.loads((folder / "model_small.json").read_text())
    state = load_file(folder / "model_small.safetensors")
    for key, expected in description["procedural"].items():
        tensor = procedural_tensor(description.get("prefix", "") + key, expected["shape"], description["seed"])
        assert tensor.double().sum().item() == pytest.approx(expected["sum"], abs=1e-3), key
        assert tensor.double().norm().item() == pytest.approx(expected["l2"], rel=1e-5), key
        state[key] = tensor
    model = AVSRModel(**config_to_keywords(description["config_overrides"]))
    converted, _ = from_published(state)
    load_strictly(model, converted)
    assert sum(p.numel() for p in model.parameters()) == description["n_params"]
    assert to_published(model.state_dict()).keys() == state.keys()
    return model.eval()


def load(path: Path) -> dict[str, torch.Tensor]:
    with np.load(path) as arrays:
        return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}


def assert_close(actual: torch.Tensor, expected: torch.Tensor, *, atol: float, rtol: float = 0.0) -> None:
    assert actual.shape == expected.shape
    torch.testing.assert_close(actual.detach().float(), expected.float(), atol=atol, rtol=rtol)


@torch.no_grad()
def test_encoder(folder, model):
    data = load(folder / "a_encoder.npz")
    audio, video, mask, lengths = data["audio"], data["video"].float(), data["mask"], data["lengths"]
    encoder = model.encoder
    resnet = encoder.feature_extractor_video.resnet(video.squeeze(1)).unflatten(0, (video.shape[0], video.shape[2]))
    assert_close(resnet.transpose(1, 2), data["resnet_out"], atol=5e-5)
    heard, seen = encoder.extract_audio(audio), encoder.extract_video(video)
    assert_close(heard.transpose(1, 2), data["feat_audio"], atol=5e-5)
    assert_close(seen.transpose(1, 2), data["feat_video"], atol=5e-5)
    fused = encoder.fuse(heard, seen, mask)
    assert_close(fused[mask], data["fused_proj"][mask], atol=5e-5)
    outputs = {"out_masked": encoder(audio, video, mask)}
    for modality in ("audio", "video"):
        outputs[f"out_masked_modality_{modality}"] = encoder(audio, video, mask, modality=modality)
        lone = (audio, None) if modality == "audio" else (None, video)
        assert_close(
            encoder(*lone, mask, modality=modality)[mask], data[f"out_masked_modality_{modality}"][mask], atol=5e-5
        )
    for name, output in outputs.items():
        assert_close(output[mask], data[name][mask], atol=5e-5)
    for item, length in enumerate(lengths.tolist()):
        alone = encoder(audio[item : item + 1, :, :length], video[item : item + 1, :, :length])
        assert_close(alone, data[f"out_alone_{item}"], atol=5e-5)


@torch.no_grad()
def test_losses(folder, model):
    data = load(folder / "b_losses.npz")
    encoded, lengths, labels = data["enc_out"], data["enc_lens"], data["labels"]
    mask = model.valid_mask(lengths, encoded.shape[1])
    inputs, targets = add_sos_eos(labels, model.sos, model.eos)
    assert torch.equal(inputs, data["ys_in"])
    assert torch.equal(targets, data["ys_out"])
    valid = targets != model.ignore_id
    logits = model.decoder(encoded, mask, inputs, valid.sum(dim=1))
    assert_close(logits[valid], data["logits"][valid], atol=1e-4)
    assert_close(model.ctc.log_softmax(encoded), data["ctc_logp"], atol=1e-4)
    output = model.compute_loss(encoded, mask, lengths, labels)
    for name in ("loss_ctc", "loss_att", "loss"):
        assert_close(getattr(output, name), data[name], atol=0, rtol=1e-4)


@torch.no_grad()
def test_impossible_ctc_alignment_adds_nothing(folder, model):
    data = load(folder / "b_losses.npz")
    labels, lengths = data["ctc_inf_labels"], data["ctc_inf_lens"]
    encoded = data["enc_out"][: len(labels), : int(lengths.max())]
    loss = model.ctc(encoded, lengths, labels, (labels != model.ignore_id).sum(dim=1))
    assert_close(loss, data["ctc_inf_loss"], atol=0, rtol=1e-4)


@torch.no_grad()
def test_whole_model(folder, model):
    data, inputs = load(folder / "b_losses.npz"), load(folder / "a_encoder.npz")
    output = model(inputs["audio"], inputs["video"].float(), inputs["lengths"], data["e2e_labels"])
    for name in ("loss", "loss_ctc", "loss_att"):
        assert_close(getattr(output, name), data[f"e2e_{name}"], atol=0, rtol=1e-4)
    assert output.acc.item() == pytest.approx(data["e2e_acc"].item(), abs=1e-7)


@torch.no_grad()
def test_beam_search(folder, model):
    description = json.loads((folder / "c_beam.json").read_text())
    encoded = load(folder / "b_losses.npz")["enc_out"]
    assert description["sos_eos"] == model.eos
    for case in description["cases"]:
        search = BeamSearch(
            model.decoder,
            model.ctc,
            sos=model.sos,
            eos=model.eos,
            beam_size=case["beam"],
            ctc_weight=case["ctc_weight"],
            pre_beam_ratio=description["pre_beam_ratio"],
            max_len_ratio=case.get("maxlenratio", 0.0),
            min_len_ratio=case.get("minlenratio", 0.0),
        )
        hypotheses = search(encoded[case["item"], : case["frames"]])
        possible = [h for h in hypotheses if h.score > IMPOSSIBLE_SCORE]
        assert [h.ids for h in possible] == [h["yseq"] for h in case["nbest"]], case
        assert len(hypotheses) - len(possible) == case.get("dropped_degenerate", 0), case
        for ours, theirs in zip(possible, case["nbest"], strict=True):
            assert ours.score == pytest.approx(theirs["score"], abs=5e-3)
            assert ours.scores == pytest.approx(theirs["scores"], abs=5e-3)


def test_text_normalisation(folder):
    for pair in json.loads((folder / "e_text.json").read_text())["norm"]:
        assert normalize_text(pair["input"]) == pair["output"], pair["input"]


def test_tokens(folder):
    path = os.environ.get(TOKEN_MODEL_VARIABLE)
    if not path:
        pytest.skip(f"the public unigram5000 model is not part of the golden data; set {TOKEN_MODEL_VARIABLE}=FILE")
    description = json.loads((folder / "e_text.json").read_text())
    vocabulary = description["vocab"]
    units = Path(path).with_name(Path(path).stem + "_units.txt")
    tokenizer = SentencePieceTokenizer.from_units(path, units)
    assert tokenizer.vocab_size == vocabulary["size"]
    assert (tokenizer.blank_id, tokenizer.unk_id, tokenizer.eos_id) == (0, vocabulary["unk"], vocabulary["eos"])
    for case in description["tokens"]:
        assert tokenizer.text_to_tokens(case["text"]) == case["pieces"]
        assert tokenizer.encode(case["text"]) == case["ids"]
        assert tokenizer.decode(case["ids"]) == case["decoded"]


def indexed(data: dict[str, torch.Tensor], prefix: str) -> list[str]:
    return sorted(key.removeprefix(prefix) for key in data if key.startswith(prefix))


def test_audio_features(folder):
    data = load(folder / "f_audio.npz")
    features = LogFbankStack()
    items = indexed(data, "wav_")
    waves = {item: data[f"wav_{item}"].float() / 32768 for item in items}
    lengths = torch.tensor([len(waves[item]) for item in items])
    batch = torch.nn.utils.rnn.pad_sequence([waves[item] for item in items], batch_first=True)
    batch_out, batch_counts = features(batch, lengths)
    for row, item in enumerate(items):
        wave, length = waves[item].unsqueeze(0), lengths[row : row + 1]
        frames, counts = features.logfbank(wave, length)
        assert_close(frames[0], data[f"logfbank_{item}"], atol=1e-4)
        assert_close(features.stack_frames(frames, counts)[0][0], data[f"stacked_{item}"], atol=1e-4)
        out, _ = features(wave)
        assert_close(out[0].T, data[f"out_{item}"], atol=1e-4)
        assert_close(batch_out[row, :, : batch_counts[row]].T, data[f"out_{item}"], atol=1e-4)
        assert padded_num_samples(int(length)) == int(data[f"padded_len_{item}"])


def test_mixing_at_snr(folder):
    data = load(folder / "f_audio.npz")
    target, other = (data[f"wav_{item}"].numpy().astype(np.float32) / 32768 for item in (0, 1))
    for snr in indexed(data, "mix_snr_"):
        mixed = add_at_snr(target, fit_length(other, len(target)), float(snr))
        expected = data[f"mix_snr_{snr}"].numpy().reshape(-1)
        np.testing.assert_allclose(mixed, expected, atol=1e-6, rtol=0)


def test_video_transform(folder):
    data = load(folder / "g_video.npz")
    gray = to_gray(data["rgb"].numpy())
    np.testing.assert_array_equal(gray, data["gray"].numpy())
    assert_close(eval_transform(gray, data["out"].shape[-1])[0], data["out"].squeeze(1), atol=1e-5)
    for name in indexed(data, "odd_in"):
        expected = data[f"odd_out{name}"]
        assert_close(normalize(center_crop(data[f"odd_in{name}"], expected.shape[-1])), expected.squeeze(1), atol=1e-5)


def test_full_size_model_has_the_published_tensors(fixtures_dir):
    manifest = fixtures_dir("avsr").parents[1] / "manifests" / "avsrcocktail.json"
    if not manifest.is_file():
        pytest.skip(f"no manifest of the published checkpoint in {manifest}")
    manifest = json.loads(manifest.read_text())
    with torch.device("meta"):
        model = AVSRModel(**config_to_keywords(manifest["config_fields_read"]))
    ours = {key: list(tensor.shape) for key, tensor in to_published(model.state_dict()).items()}
    assert ours == manifest["tensors"]
    assert len(ours) == manifest["n_tensors"]
    assert sum(p.numel() for p in model.parameters()) == manifest["n_parameters"]
    assert sum(b.numel() for b in model.buffers()) == manifest["n_buffer_elements"]
