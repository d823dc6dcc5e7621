# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from auto_avsr_small import CONF, make_auto_avsr

from espnet_av.avsr.auto_avsr import AutoAVSRModel, WaveformRows
from espnet_av.avsr.inference import AVSR
from espnet_av.avsr.tokenizer import CharTokenizer
from espnet_av.utils.errors import UsageError


def test_waveform_is_normalised_over_the_clip_and_cut_into_frames():
    torch.manual_seed(0)
    wave = torch.rand(2, 3 * 640) * 0.1 + 0.3
    rows, counts = WaveformRows()(wave, torch.tensor([3 * 640, 640 + 1]))
    assert rows.shape == (2, 640, 3) and counts.tolist() == [3, 2]
    first = torch.nn.functional.layer_norm(wave[0], wave[0].shape, eps=1e-8)
    torch.testing.assert_close(rows[0].T.flatten(), first)
    short = torch.nn.functional.layer_norm(wave[1, :641], (641,), eps=1e-8)
    torch.testing.assert_close(rows[1].T.flatten()[:641], short)
    assert not rows[1].T.flatten()[641:].any()
    assert not WaveformRows()(torch.zeros(1, 640))[0].any()  # digital silence stays
    with pytest.raises(UsageError, match="mono"):
        WaveformRows()(torch.zeros(640))


@torch.no_grad()
@pytest.mark.parametrize("modality", ["av", "audio", "video"])
def test_a_padded_batch_gives_what_each_clip_gives_alone(batch, modality):
    model = make_auto_avsr().eval()
    clips = [batch[name] for name in ("speech", "speech_lengths", "video", "video_lengths")]
    audio, frames, lengths = model.prepare_inputs(*clips)
    together, _ = model.encode(audio, frames, lengths, modality=modality)
    for item, length in enumerate(lengths.tolist()):
        speech, video = batch["speech"][item, None, : length * 640], batch["video"][item, None, :length]
        one, mask = model.encode(*model.prepare_inputs(speech, None, video, None), modality=modality)
        assert one.shape == (1, length, 8) and mask.all()
        torch.testing.assert_close(together[item, :length], one[0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_reference_lets_padding_in(batch):
    ours, theirs = make_auto_avsr().eval(), make_auto_avsr(reference_compat=True).eval()
    clips = [batch[name] for name in ("speech", "speech_lengths", "video", "video_lengths")]
    inputs = ours.prepare_inputs(*clips)
    one, other = ours.encode(*inputs)[0], theirs.encode(*inputs)[0]
    torch.testing.assert_close(one[0], other[0])  # nothing is padded in the first clip
    assert not torch.allclose(one[1, :4], other[1, :4], atol=1e-4)


@torch.no_grad()
def test_streams_matter_and_can_be_left_out(batch):
    model = make_auto_avsr().eval()
    audio, frames, lengths = model.prepare_inputs(batch["speech"], None, batch["video"], None)
    full = {m: model.encode(audio, frames, lengths, modality=m)[0] for m in ("av", "audio", "video")}
    assert not torch.allclose(full["av"], full["audio"], atol=1e-3)
    assert not torch.allclose(full["audio"], full["video"], atol=1e-3)
    torch.testing.assert_close(model.encode(audio, None, lengths, modality="audio")[0], full["audio"])
    torch.testing.assert_close(model.encode(None, frames, lengths, modality="video")[0], full["video"])
    with pytest.raises(UsageError, match="needs the video stream"):
        model.encode(audio, None, lengths, modality="av")


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_halves_learn_from_their_stream_alone(batch, modality):
    model = make_auto_avsr(modality=modality)
    assert model.modalities == (modality,) and model.encoder.fusion is None
    clips = [batch[name] for name in ("speech", "speech_lengths", "video", "video_lengths")]
    audio, frames, lengths = model.prepare_inputs(*clips)
    output = model(audio, frames, lengths, batch["labels"])  # the network's own modality
    output.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    with pytest.raises(UsageError, match=f"does not have this modality.*'av'; allowed: {modality}"):
        model.encode(audio, frames, lengths, modality="av")


def test_training_reaches_every_parameter_and_padding_no_statistics(batch):
    model = make_auto_avsr(dropout=0.0, attention_dropout=0.0)
    clips = [batch[name] for name in ("speech", "speech_lengths", "video", "video_lengths")]
    model(*model.prepare_inputs(*clips), batch["labels"]).loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    other = make_auto_avsr(dropout=0.0, attention_dropout=0.0)
    noisy = [clips[0].clone(), clips[1], clips[2].clone(), clips[3]]
    noisy[0][1, 4 * 640 :] = 0.9
    noisy[2][1, 4:] = 7
    other(*other.prepare_inputs(*noisy), batch["labels"])
    for (name, one), two in zip(model.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(one, two, msg=name)


def test_padded_frames_do_not_count_in_the_fusion(batch):
    model = make_auto_avsr(dropout=0.0, attention_dropout=0.0)
    seen = []
    model.encoder.fusion.bn1.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    clips = [batch[name] for name in ("speech", "speech_lengths", "video", "video_lengths")]
    model(*model.prepare_inputs(*clips), batch["labels"])
    assert seen == [(7 + 4, 10)]


def test_modality_dropout_drops_one_stream(batch):
    model = make_auto_avsr(modality_dropout=1.0, audio_dropout=1.0)
    clips = [batch[name] for name in ("speech", "speech_lengths", "video", "video_lengths")]
    model(*model.prepare_inputs(*clips), batch["labels"]).loss.backward()
    assert all(p.grad is None for p in model.encoder.audio.parameters())
    assert all(p.grad is not None for p in model.encoder.video.parameters())


def test_recogniser_searches_with_it():
    tokenizer = CharTokenizer(list("ABCDEF"))
    recogniser = AVSR(make_auto_avsr(tokenizer.vocab_size), tokenizer, search_options={"max_len_ratio": 0.5})
    rng = np.random.default_rng(0)
    waves = [rng.standard_normal(n * 640).astype(np.float32) * 0.1 for n in (6, 9)]
    clips = [rng.integers(0, 256, (n, 96, 96), dtype=np.uint8) for n in (6, 9)]
    together = recogniser.decode_batch(waves, clips)
    for wave, clip, found in zip(waves, clips, together, strict=True):
        alone = recogniser(wave, clip)
        assert alone.texts == found.texts
        assert alone.score == pytest.approx(found.score, abs=1e-3)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"encoder_conf": {"modality": "lips"}}, "unknown modality; got 'lips'"),
        ({"ctc_weight": 1.5}, "ctc_weight is out of range"),
        ({"vocab_size": 2}, "vocabulary needs"),
        ({"video_size": 96}, "video_size is out of range"),
    ],
)
def test_bad_keywords_are_named(keywords, message):
    with pytest.raises(UsageError, match=message):
        AutoAVSRModel(**{**CONF, **keywords})


def test_audio_prediction_needs_lip_features():
    with pytest.raises(UsageError, match="no lips to predict audio from"):
        AutoAVSRModel(9, **CONF, audio_prediction_weight=1.0)
