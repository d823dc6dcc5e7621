# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from espnet_av.avsr.encoder import AVHubertEncoder, PositionalConvEmbedding
from espnet_av.utils.errors import UsageError


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Audio, video and mask of two clips of 7 and 4 frames."""
    mask = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    audio, video = torch.randn(2, 104, 7), torch.randn(2, 1, 7, 88, 88)
    return audio * mask[:, None], video * mask[:, None, :, None, None], mask


@torch.no_grad()
def test_padded_batch_equals_single_clips(make_model, inputs):
    audio, video, mask = inputs
    encoder = make_model().encoder.eval()
    together = encoder(audio, video, mask)
    for index, length in enumerate(mask.sum(dim=1).tolist()):
        alone = encoder(audio[index : index + 1, :, :length], video[index : index + 1, :, :length])
        torch.testing.assert_close(together[index : index + 1, :length], alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_what_lies_in_the_padding_does_not_matter(make_model, inputs):
    audio, video, mask = inputs
    encoder = make_model().encoder.eval()
    noisy = audio + 5 * torch.randn_like(audio) * ~mask[:, None]
    torch.testing.assert_close(encoder(noisy, video, mask)[mask], encoder(audio, video, mask)[mask])


@torch.no_grad()
@pytest.mark.parametrize("modality", ["audio", "video"])
def test_unused_stream_is_silent_and_may_be_absent(make_model, inputs, modality):
    audio, video, mask = inputs
    encoder = make_model().encoder.eval()
    both = encoder(audio, video, mask, modality=modality)
    streams = (audio, None) if modality == "audio" else (None, video)
    torch.testing.assert_close(both[mask], encoder(*streams, mask, modality=modality)[mask])
    zeros = (audio * 0 + 9, video) if modality == "video" else (audio, video * 0 + 9)
    torch.testing.assert_close(both[mask], encoder(*zeros, mask, modality=modality)[mask])
    assert not torch.allclose(both[mask], encoder(audio, video, mask)[mask])


def count_trunk_calls(encoder: AVHubertEncoder) -> list[int]:
    calls: list[int] = []
    encoder.feature_extractor_video.register_forward_pre_hook(lambda *_: calls.append(1))
    return calls


def test_dropped_video_is_not_computed(make_model, inputs):
    encoder = make_model(modality_dropout=1.0, audio_dropout=0.0).encoder.train()
    calls = count_trunk_calls(encoder)
    encoder(*inputs).sum().backward()
    assert not calls
    assert encoder.feature_extractor_video.proj.weight.grad is None
    encoder.reference_compat = True
    encoder(*inputs).sum().backward()
    assert calls
    assert (encoder.feature_extractor_video.proj.weight.grad == 0).all()


def test_frequency_of_modality_dropout(make_model, inputs):
    audio, video, _ = inputs
    encoder = make_model(modality_dropout=0.5, audio_dropout=0.25).encoder.train()
    encoder.modality_generator = torch.Generator().manual_seed(0)
    draws = [encoder._draw_used_streams("av", audio, video) for _ in range(2000)]
    assert draws.count((True, True)) == pytest.approx(1000, abs=80)
    assert draws.count((False, True)) == pytest.approx(250, abs=60)
    assert draws.count((True, False)) == pytest.approx(750, abs=80)
    assert encoder._draw_used_streams("audio", audio, None) == (True, False)
    assert encoder.eval()._draw_used_streams("av", audio, video) == (True, True)


def test_gradient_into_the_front_ends_is_scaled(make_model, inputs):
    gradients = {}
    for scale in (1.0, 0.1):
        encoder = make_model(feature_grad_mult=scale, modality_dropout=0.0).encoder
        encoder.train()
        for module in encoder.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        for layer in encoder.encoder.layers:
            layer.attention.dropout = 0.0
        encoder(*inputs)[inputs[2]].square().sum().backward()
        gradients[scale] = {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}
    for name, gradient in gradients[1.0].items():
        factor = 0.1 if name.startswith("feature_extractor") else 1.0
        torch.testing.assert_close(gradients[0.1][name], factor * gradient, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kernel", [5, 6])
def test_positional_convolution_keeps_the_length(kernel):
    module = PositionalConvEmbedding(8, kernel=kernel, groups=2)
    assert module(torch.randn(2, 11, 8)).shape == (2, 11, 8)
    assert module.conv.parametrizations.weight.original0.shape == (1, 1, kernel)


@torch.no_grad()
def test_old_names_of_weight_norm_load(make_model, inputs):
    encoder = make_model().encoder.eval()
    expected = encoder(*inputs)
    state = encoder.state_dict()
    stem = "encoder.pos_conv_embed.conv."
    for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
        state[stem + old] = state.pop(f"{stem}parametrizations.weight.{new}").clone()
    with torch.no_grad():
        encoder.encoder.pos_conv_embed.conv.parametrizations.weight.original1.zero_()
    encoder.load_state_dict(state, strict=True)
    torch.testing.assert_close(encoder(*inputs), expected)


def test_addition_needs_no_projection(make_model, inputs):
    encoder = make_model(fuse="add").encoder
    assert encoder.post_extract_proj is None
    assert encoder(*inputs).shape == (2, 7, 16)


def test_layerdrop_skips_layers(make_model, inputs):
    encoder = make_model(layerdrop=1.0).encoder.train()
    calls = []
    encoder.encoder.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    encoder(*inputs)
    assert not calls
    encoder.eval()(*inputs)
    assert calls


def test_gradient_checkpointing_gives_the_same_gradients(make_model, inputs):
    results = {}
    for recompute in (False, True):
        encoder = make_model(gradient_checkpointing=recompute, modality_dropout=0.0).encoder.train()
        calls = []
        encoder.encoder.layers[0].register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        torch.manual_seed(1)  # of the dropouts
        out = encoder(*inputs)
        out[inputs[2]].square().sum().backward()
        results[recompute] = out, {name: p.grad for name, p in encoder.named_parameters() if p.requires_grad}, calls
    torch.testing.assert_close(results[True][0], results[False][0])
    for name, gradient in results[False][1].items():
        torch.testing.assert_close(results[True][1][name], gradient)
    assert len(results[True][2]) == 2 and len(results[False][2]) == 1


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"fuse": "sum"}, "fusion.*'sum'.*concat, add"),
        ({"modality": "lips"}, "modality.*'lips'.*av, audio, video"),
        ({"num_heads": 3}, "num_heads"),
        ({"conv_pos_groups": 5}, "conv_pos_groups"),
    ],
)
def test_wrong_keywords_are_refused(make_model, keywords, message):
    with pytest.raises(UsageError, match=message):
        make_model(**keywords)


def test_missing_stream_is_refused(make_model, inputs):
    encoder = make_model().encoder
    with pytest.raises(UsageError, match="needs the video stream"):
        encoder(inputs[0], None)
    with pytest.raises(UsageError, match="needs the audio stream"):
        encoder(None, inputs[1])
