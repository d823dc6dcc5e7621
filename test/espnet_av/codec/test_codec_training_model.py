# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The two turns of a batch, validation at every bit rate, and the codec's own losses."""

import random

import pytest
import torch

from espnet_av.codec.generator import CodecGenerator
from espnet_av.codec.model import CodecModel, network_state
from espnet_av.codec.semantic import SemanticLoss, load_extractor
from espnet_av.layers.stft_discriminator import MultiScaleSTFTDiscriminator
from espnet_av.utils.errors import DataError, UsageError

SAMPLES = 1200


def make(**options) -> CodecModel:
    torch.manual_seed(0)
    random.seed(0)
    discriminator = MultiScaleSTFTDiscriminator(n_ffts=[128, 256], channels=3)
    mel = {"n_ffts": [64, 256], "num_mels": [10, 40]}
    generator = CodecGenerator.from_preset("tiny")
    return CodecModel(generator, discriminator, **{"mel_loss_conf": mel, **options}).train()


@pytest.fixture
def audio() -> torch.Tensor:
    return torch.randn(2, SAMPLES, generator=torch.Generator().manual_seed(1)) * 0.3


def grads(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def run_turns(model: CodecModel, **batch) -> list[dict]:
    """Take both turns; return for each its result with the gradients it left on both networks."""
    results = []
    for forward_generator in (True, False):
        result = model(**batch, forward_generator=forward_generator)
        result["loss"].backward()
        results.append(result | {"generator": grads(model.generator), "discriminator": grads(model.discriminator)})
        model.zero_grad(set_to_none=True)
    return results


def test_turns_share_one_pass_through_the_codec(audio):
    model = make()
    calls = []
    model.generator.register_forward_hook(lambda *_: calls.append(1))
    learned = []
    codebook = model.generator.quantizer.layers[0]._codebook
    for _ in range(3):
        run_turns(model, audio=audio)
        learned.append(codebook.embed_avg.clone())
    assert len(calls) == 3
    model = make(cache_generator_outputs=False)
    model.generator.register_forward_hook(lambda *_: calls.append(1))
    run_turns(model, audio=audio)
    assert len(calls) == 5
    assert not torch.equal(learned[0], learned[1])


def test_turns_of_different_batches_share_nothing(audio):
    """A discriminator's turn that was skipped leaves nothing to the next batch."""
    model, other = make(), audio.flip(0)
    model(audio)
    seen = []
    model.generator.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0][:, 0]))
    model(other)
    assert torch.equal(seen[0], other)
    model.clear_cache()
    model(other, forward_generator=False)
    assert len(seen) == 2


@pytest.mark.parametrize("number", [1, 6])
def test_shortcuts_change_no_result(audio, number):
    target = audio.roll(5, dims=1)
    default = run_turns(make(), audio=audio, speech_ref1=target, num_quantizers=number)
    compat = run_turns(make(reference_compat=True), audio=audio, speech_ref1=target, num_quantizers=number)
    for one, other in zip(default, compat, strict=True):
        assert one["stats"] == other["stats"]
        assert one["generator"].keys() == other["generator"].keys()
        assert all(torch.equal(one["generator"][name], grad) for name, grad in other["generator"].items())
    assert default[0]["discriminator"] == {}
    assert compat[0]["discriminator"] != {}
    assert default[1]["generator"] == {}
    for name, grad in compat[1]["discriminator"].items():
        assert torch.equal(default[1]["discriminator"][name], grad), name


def test_discriminator_first(audio):
    model = make()
    fake = model(audio, forward_generator=False)
    fake["loss"].backward()
    assert fake["optim_idx"] == 1
    with torch.no_grad():
        for parameter in model.discriminator.parameters():
            parameter.add_(0.01)  # its step: the generator must see the new one
    generator = model(audio)
    generator["loss"].backward()
    assert generator["optim_idx"] == 0
    assert grads(model.generator)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_loss_is_the_weighted_sum(audio):
    weights = {"lambda_adv": 0.5, "lambda_reconstruct": 3.0, "lambda_quantization": 2.0, "lambda_commit": 7.0}
    model = make(**weights, use_dual_decoder=True)
    stats = model(audio, num_quantizers=2)["stats"]
    names = ("adv", "codec", "reconstruct", "feat_match", "mel", "mel_direct")
    total = sum(stats[f"{name}_loss"] for name in names)
    torch.testing.assert_close(stats["loss"], total)
    torch.testing.assert_close(stats["codec_loss"], stats["codec_commit_loss"] + stats["codec_quantization_loss"])
    plain = make()(audio, num_quantizers=2)["stats"]
    torch.testing.assert_close(stats["adv_loss"], 0.5 * plain["adv_loss"])
    torch.testing.assert_close(10 * stats["codec_commit_loss"], 7 * plain["codec_commit_loss"])
    assert plain["reconstruct_loss"] == 0 == plain["codec_quantization_loss"]
    assert min(stats["reconstruct_loss"], stats["codec_quantization_loss"]) > 0


def test_without_discriminator(audio):
    model = make()
    model.discriminator.register_forward_hook(lambda *_: pytest.fail("the discriminator ran"))
    result = model(audio, adversarial=False, num_quantizers=1)
    result["loss"].backward()
    torch.testing.assert_close(result["loss"], result["stats"]["mel_loss"] + result["stats"]["codec_loss"])


@torch.no_grad()
def test_validation_is_of_all_rates_and_repeats(audio):
    model = make()
    model(audio)
    model.clear_cache()
    model.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first = [model(audio, forward_generator=turn)["stats"] for turn in (True, False)]
    random.seed(99)
    torch.manual_seed(99)
    second = [model(audio, forward_generator=turn)["stats"] for turn in (True, False)]
    assert first == second
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    stats = first[0]
    assert stats["mel_loss_1kbps"] != stats["mel_loss_6kbps"]
    torch.testing.assert_close(stats["mel_loss"], (stats["mel_loss_1kbps"] + stats["mel_loss_6kbps"]) / 2)
    assert {"discriminator_loss", "real_loss_1kbps", "fake_loss_6kbps"} <= first[1].keys()
    assert model(audio, num_quantizers=6)["stats"]["mel_loss"] == stats["mel_loss_6kbps"]


def test_training_draws_all_rates(audio):
    model = make()
    drawn = {model.draw_num_quantizers(audio.device) for _ in range(40)}
    assert drawn == {1, 6}


def test_target_of_another_length(audio):
    with pytest.raises(DataError, match="differ in shape"):
        make()(audio, speech_ref1=audio[:, :-1])


def test_bad_settings():
    with pytest.raises(UsageError, match="lambda_mel"):
        make(lambda_mel=-1.0)
    with pytest.raises(UsageError, match="keyword"):
        make(mel_loss_conf={"n_mel": 3})
    with pytest.raises(UsageError, match="wavlm_large"):
        load_extractor("whisper")


def test_semantic_loss_passes_gradients_to_the_estimate_alone():
    loss = SemanticLoss(lambda wav: [wav, wav.square()], 16000)
    estimate, target = torch.randn(1, 1, 50, requires_grad=True), torch.randn(1, 1, 50, requires_grad=True)
    loss(estimate, target).backward()
    assert estimate.grad is not None
    assert target.grad is None
    assert loss(target, target) == 0


def test_a_few_steps_lower_the_loss(audio):
    model = make(lambda_commit=1.0)
    optimizers = [torch.optim.Adam(part.parameters(), lr=3e-3) for part in (model.generator, model.discriminator)]
    losses = []
    for _ in range(12):
        for forward_generator in (True, False):
            result = model(audio, forward_generator=forward_generator, num_quantizers=6)
            result["loss"].backward()
            optimizers[result["optim_idx"]].step()
            model.zero_grad()
            losses += [float(result["stats"]["mel_loss"])] if forward_generator else []
    assert losses[-1] < 0.8 * losses[0]


def test_weights_of_the_codec_alone():
    model = make()
    own = model.generator.state_dict()
    trained = {f"codec.{name}": tensor for name, tensor in model.state_dict().items()}
    assert network_state(trained).keys() == own.keys() == network_state(own).keys()


def test_quantiser_that_starts_later(audio):
    """Without layers the decoder sees the latent itself, codebooks stay as they were, and the encoder learns."""
    model = make(quantizer_start_step=3)
    before = {name: tensor.clone() for name, tensor in model.generator.quantizer.state_dict().items()}
    output = model.generator(audio.unsqueeze(1), 0)
    assert torch.equal(output.quantized, output.latent)
    assert output.codes.shape == (0, len(audio), output.latent.shape[2])
    assert output.commit_loss == 0
    model(audio, num_quantizers=0, adversarial=False)["loss"].backward()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.generator.quantizer.state_dict().items())
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.generator.encoder.parameters())
    with pytest.raises(UsageError, match="quantizer_start_step"):
        make(quantizer_start_step=-1)
