# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Text to tokens: symbols, generation and training steps."""

import shutil

import pytest
import torch

from espnet_av.avgen.text import CHARACTERS, MATCHA, TextFrontEnd, interleave, phonemes
from espnet_av.avgen.text_to_tokens import TextToTokens, load_text_to_tokens, mel_rate_length
from espnet_av.avgen.token_labels import text_to_labels
from espnet_av.utils.errors import CheckpointError, EnvironmentProblem, UsageError


@pytest.fixture(scope="module")
def model() -> TextToTokens:
    torch.manual_seed(0)
    return TextToTokens(preset="tiny").eval()


def test_tables():
    assert len(MATCHA) == 178 and len(CHARACTERS) == 29 and len(set(CHARACTERS)) == 29
    front_end = TextFrontEnd()
    assert len(text_to_labels(front_end.clean("It's - a,  cat."))) == len(front_end.encode("it's a cat")) // 2


def test_characters():
    front_end = TextFrontEnd()
    assert front_end.clean("  Héllo, it’s\nme – you?") == "HELLO IT'S ME YOU"
    assert front_end.encode("ab") == [0, 3, 0, 4, 0] == interleave([3, 4])
    assert front_end.pieces("one two three", 7) == ["one two", "three"]
    assert front_end.pieces("incomprehensible a", 5) == ["incomprehensible", "a"]


@pytest.mark.parametrize("text", ["", "  \n", "?!", "'"])
def test_nothing_to_say(text):
    with pytest.raises(UsageError, match="nothing to say"):
        TextFrontEnd().encode(text)


def test_strange_characters_are_named():
    with pytest.raises(UsageError, match=r"got '5中'.*spell out"):
        TextFrontEnd().encode("room 5 中")
    with pytest.raises(UsageError, match="g2p espeak"):
        TextFrontEnd("matcha", "none").encode("hə5")
    with pytest.raises(UsageError, match="does not go with"):
        TextFrontEnd("characters", "espeak")
    with pytest.raises(UsageError, match="table of symbols"):
        TextFrontEnd("letters")


def test_phonemes(monkeypatch, tmp_path):
    assert TextFrontEnd("matcha", "none").encode("hə")[1::2] == [MATCHA.index("h"), MATCHA.index("ə")]
    program = tmp_path / "espeak-ng"
    program.write_text('#!/bin/sh\nread text; echo " ðɪs (en)ɪz:$text"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert phonemes("this, now.") == "ðɪs ɪz:this, ðɪs ɪz:now."
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(EnvironmentProblem, match="apt-get install espeak-ng"):
        TextFrontEnd("matcha").encode("this")


def test_same_seed_same_tokens(model):
    first, again = (model.generate("the cat sat", seed=3) for _ in range(2))
    assert torch.equal(first, again) and first.shape[1] == 29 and first.isfinite().all()
    assert not torch.equal(first, model.generate("the cat sat", seed=4))
    still = [model.generate("the cat sat", seed=seed, temperature=0.0) for seed in (1, 2)]
    assert torch.equal(*still)


def test_speed_changes_the_length(model):
    slow, normal, fast = (len(model.generate("the cat sat on", speed=speed)) for speed in (0.5, 1.0, 2.0))
    assert abs(slow - 2 * normal) <= 1 and abs(2 * fast - normal) <= 1


def test_long_text_goes_in_pieces(model, monkeypatch):
    import espnet_av.avgen.text_to_tokens as module

    monkeypatch.setattr(module, "LONGEST_PIECE", 10)
    parts = [len(model.generate(piece)) for piece in ("the cat", "sat on a", "mat")]
    assert len(model.generate("the cat sat on a mat")) == sum(parts)


@pytest.mark.parametrize("options", [{"speed": 0}, {"temperature": -1}, {"steps": 0}, {"solver": "rk"}, {"seed": -1}])
def test_wrong_options(model, options):
    with pytest.raises(UsageError):
        model.generate("a", **options)


@pytest.mark.parametrize("ids", [[], [0, 29, 0], [-1]])
def test_wrong_numbers(model, ids):
    with pytest.raises(UsageError, match="0 to 28"):
        model.generate(ids)


@torch.no_grad()
def test_batch_is_what_its_sequences_are_alone(model):
    ids = torch.randint(1, 29, (2, 11))
    tokens, lengths = torch.randn(2, 40, 29), torch.tensor([40, 29])
    noise, t = torch.randn(2, 29, 40), torch.tensor([0.3, 0.8])
    symbols = torch.tensor([11, 7])
    mu, durations = model.encoder(ids, (torch.arange(11) < symbols[:, None]).unsqueeze(1).float())
    alone_mu, alone_durations = model.encoder(ids[1:, :7], torch.ones(1, 1, 7))
    torch.testing.assert_close(mu[1:, :, :7], alone_mu, atol=1e-5, rtol=0)
    torch.testing.assert_close(durations[1:, :, :7], alone_durations, atol=1e-5, rtol=0)
    loss, terms = model(ids, symbols, tokens, lengths, noise=noise, t=t)
    assert set(terms) == {"loss_duration", "loss_prior", "loss_flow"}
    assert float(loss) == pytest.approx(sum(map(float, terms.values())), rel=1e-5)
    tokens[1, 29:], noise[1, :, 29:] = 50.0, 50.0
    assert float(model(ids, symbols, tokens, lengths, noise=noise, t=t)[0]) == pytest.approx(float(loss), rel=1e-5)


def test_training_reaches_every_weight():
    torch.manual_seed(0)
    model = TextToTokens(preset="tiny").train()
    torch.nn.init.normal_(model.encoder.prenet.proj.weight)  # the prenet begins as the identity
    durations = torch.tensor([[3, 4, 5, 0, 8]])
    loss, _ = model(
        torch.tensor([[0, 3, 0, 4, 0]]), torch.tensor([5]), torch.randn(1, 20, 29), torch.tensor([20]), durations
    )
    loss.backward()
    silent = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.abs().sum()]
    assert [name for name in silent if not name.endswith("conv_k.bias")] == []  # softmax does not see that one


@torch.no_grad()
def test_validation_repeats_itself(model):
    batch = (torch.tensor([[0, 3, 0]]), torch.tensor([3]), torch.randn(1, 9, 29), torch.tensor([9]))
    assert float(model(*batch)[0]) == float(model(*batch)[0])


def test_files(model, tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="no weights of a text-to-tokens model"):
        load_text_to_tokens(tmp_path / "other.pth")
    published = TextToTokens(preset="tiny", symbols="matcha", rounding="ceil")
    state = published.state_dict()
    torch.save(
        {("mel_" + name if name in ("mean", "std") else name): value for name, value in state.items()},
        tmp_path / "m.pth",
    )
    loaded = load_text_to_tokens(tmp_path / "m.pth")
    assert loaded.rounding == "ceil" and loaded.decoder.estimator.additive_mask_quirk
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize("conf", [{"preset": "huge"}, {"symbols": "x"}, {"rounding": "x"}, {"std": 0.0}])
def test_wrong_configuration(conf):
    with pytest.raises(UsageError):
        TextToTokens(**{"preset": "tiny", **conf})


def test_length_at_the_mel_rate():
    assert mel_rate_length(49) in (85, 86)  # one second
    assert mel_rate_length(1) >= 1
