# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The generator as one object: where it is loaded from, what it is told, what comes out."""

import numpy as np
import pytest
import soundfile
import torch
import yaml

from espnet_av.avgen import convert
from espnet_av.avgen.choices import build_model
from espnet_av.avgen.clock import mel_frames, motion_frames
from espnet_av.avgen.inference import AVGenerator, Partner
from espnet_av.avgen.sampler import SolverRules
from espnet_av.avgen.tokens import TokenExtractor
from espnet_av.utils.errors import CheckpointError, DataError, MissingDataError, UsageError

CONF = {
    "face_dim": 12,
    "melspec_dim": 80,
    "transformer_conf": {"d_model": 32, "hidden_dim": 32, "num_heads": 2, "window_per_layer": [[4, 2], [3, 1]]},
}
FAST = SolverRules(2)


class Recogniser(torch.nn.Module):
    """Tokens that tell how loud each frame is."""

    reach = 0

    def forward(self, sound):
        frames = sound.unfold(1, 400, 320)
        return frames.abs().mean(-1, keepdim=True).expand(-1, -1, 29).contiguous()


class Texts:
    """Tokens that tell the letters."""

    def generate(self, text, *, speed=1.0, seed=0):
        frames = max(1, round(20 * len(text) / speed))
        return torch.full((frames, 29), float(len(text))) + 0.01 * seed


def make(**options):
    torch.manual_seed(0)
    model = build_model("avflow", {**CONF, **options})
    for name, parameter in model.named_parameters():
        if not name.startswith("head_vae."):
            torch.nn.init.normal_(parameter, std=0.1)
    model.set_statistics({"mel_mean": -4.0, "face_mean": np.arange(12.0)})
    return model.eval()


def save(model, folder, conf=CONF, name="model.pth", prefix=""):
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model": "avflow", "model_conf": dict(conf), "best_model_criterion": [["valid", "loss", "min"]]}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save({prefix + key: value for key, value in model.state_dict().items()}, folder / name)
    return folder


@pytest.fixture
def generator():
    parts = {"text_to_tokens": Texts, "extractor": lambda: TokenExtractor(Recogniser())}
    return AVGenerator(make(), **parts)


@pytest.fixture
def dyadic():
    parts = {"text_to_tokens": Texts, "extractor": lambda: TokenExtractor(Recogniser())}
    return AVGenerator(make(participant_cond=True), **parts)


def faces(samples):
    return np.concatenate([sample.face for sample in samples])


def speech(num_samples=16000, channels=1, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal((channels, num_samples)).astype(np.float32)


def test_an_experiment_a_pack_and_a_weights_file_are_one_model(tmp_path, generator):
    """The statistics come with the weights."""
    model = generator.model
    trained = save(model, tmp_path / "exp", name="valid.loss.best.pth", prefix="avgen.")
    packed = save(model, tmp_path / "pack", name="valid.loss.ave.pth")
    tokens = torch.randn(50, 29, generator=torch.Generator().manual_seed(1))
    wanted = faces(generator(tokens=tokens.numpy(), tokens_rate="mel", solver=FAST))
    for source in (trained, packed, packed / "valid.loss.ave.pth"):
        loaded = AVGenerator.from_pretrained(source, vocoder="none")
        found = faces(loaded(tokens=tokens.numpy(), tokens_rate="mel", solver=FAST))
        np.testing.assert_array_equal(found, wanted)
        assert loaded.model.face_mean[3] == 3 and loaded.vocoder is None


def test_a_published_checkpoint_and_its_conversion_are_one_model(tmp_path):
    sizes = {"d_model": 32, "hidden_dim": 48, "num_heads": 4, "window_per_layer": [[16, 8], [16, 8]]}
    conf = {"transformer_conf": sizes, "face_dim": 20, "head_vae": False, "input_head_dim": 8, "condition_drop": 0.0}
    model = build_model("avflow", conf)
    _, state = convert.original_names(None, model.state_dict())
    source = tmp_path / "av_flow.pt"
    torch.save({"iteration": 7, "model_state_dict": state}, source)
    convert.write_ours(convert.read_published("av_flow", source), tmp_path / "converted")
    tokens = np.random.default_rng(0).standard_normal((30, 29)).astype(np.float32)
    places = (source, tmp_path / "converted", tmp_path / "converted" / "model.safetensors")
    made = [AVGenerator.from_pretrained(place, vocoder="none")(tokens=tokens, solver=FAST) for place in places]
    assert made[0][0].face.shape[1] == 20
    for other in made[1:]:
        np.testing.assert_array_equal(faces(other), faces(made[0]))


def test_what_cannot_be_loaded_is_refused(tmp_path):
    with pytest.raises(MissingDataError, match="no such generator"):
        AVGenerator.from_pretrained(tmp_path / "absent")
    folder = save(make(), tmp_path / "exp", name="valid.loss.best.pth")
    with pytest.raises(MissingDataError, match="no such vocoder"):
        AVGenerator.from_pretrained(folder, vocoder=tmp_path / "absent")
    with pytest.raises(MissingDataError, match="no bigvgan beside"):
        AVGenerator.from_pretrained(folder, vocoder="bigvgan")
    with pytest.raises(MissingDataError, match="text_to_tokens"):
        AVGenerator.from_pretrained(folder, vocoder="none", text_to_tokens=tmp_path / "absent")
    save(make(), tmp_path / "other", {**CONF, "face_dim": 10}, name="valid.loss.best.pth")
    with pytest.raises(CheckpointError, match="face"):
        AVGenerator.from_pretrained(tmp_path / "other")
    loaded = AVGenerator.from_pretrained(folder, vocoder="none")
    with pytest.raises(MissingDataError, match="text-to-tokens"):
        loaded("HELLO")
    with pytest.raises(MissingDataError, match="token model"):
        loaded(audio=speech())
    with pytest.raises(UsageError, match="nothing to say"):
        loaded()


def test_without_a_vocoder_of_its_own_there_is_still_sound(tmp_path, caplog):
    folder = save(make(), tmp_path / "exp", name="valid.loss.best.pth")
    loaded = AVGenerator.from_pretrained(folder)
    assert "Griffin-Lim" in caplog.text
    sample = loaded(tokens=np.zeros((20, 29), np.float32), tokens_rate="mel", solver=FAST)[0]
    assert sample.wav.shape == (256 * 20,) and np.isfinite(sample.wav).all() and loaded.sample_rate == 22050


def test_lengths_follow_the_input(generator):
    wave = speech(21000)
    frames = mel_frames(21000, 16000)
    sample = generator(audio=wave, solver=FAST)[0]
    assert sample.mel.shape == (frames, 80) and len(sample.face) == motion_frames(frames)
    assert generator("HELLO", solver=FAST)[0].mel.shape[0] == 100
    assert generator("HELLO", text_options={"speed": 2}, solver=FAST)[0].mel.shape[0] == 50
    assert generator("HELLO", max_seconds=0.5, solver=FAST)[0].mel.shape[0] == 43
    tokens = np.zeros((1, 50, 29), np.float32)
    assert generator(tokens=tokens, solver=FAST)[0].mel.shape[0] == 87
    assert generator(tokens=tokens, tokens_rate="mel", solver=FAST)[0].mel.shape[0] == 50
    assert len(generator("HELLO", fps=25, solver=FAST)[0].face) == motion_frames(100, 25)


def test_sound_comes_before_text_and_text_before_tokens(generator):
    wave, tokens = speech(), np.ones((40, 29), np.float32)
    heard = faces(generator(audio=wave, solver=FAST))
    np.testing.assert_array_equal(faces(generator("HELLO", audio=wave, tokens=tokens, solver=FAST)), heard)
    read = faces(generator("HELLO", solver=FAST))
    np.testing.assert_array_equal(faces(generator("HELLO", tokens=tokens, solver=FAST)), read)
    assert heard.shape != read.shape


def test_files_are_as_good_as_arrays(tmp_path, generator):
    wave = speech(channels=2)
    soundfile.write(tmp_path / "a.wav", wave.T, 16000, subtype="FLOAT")
    wanted = faces(generator(audio=wave, solver=FAST))
    np.testing.assert_array_equal(faces(generator(audio=tmp_path / "a.wav", solver=FAST)), wanted)
    np.testing.assert_array_equal(faces(generator(audio=wave[0], solver=FAST)), wanted)
    tokens = np.random.default_rng(0).standard_normal((2, 40, 29)).astype(np.float32)
    np.save(tmp_path / "t.npy", tokens)
    wanted = faces(generator(tokens=tokens[0], solver=FAST))
    np.testing.assert_array_equal(faces(generator(tokens=tmp_path / "t.npy", solver=FAST)), wanted)


def test_samples_follow_the_seed(generator):
    first, second = generator("HELLO", num_samples=2, seed=3, solver=FAST)
    assert np.abs(first.face - second.face).max() > 0.1
    again = generator("HELLO", num_samples=2, seed=3, solver=FAST)
    np.testing.assert_array_equal(again[1].face, second.face)
    assert np.abs(generator("HELLO", seed=4, solver=FAST)[0].face - first.face).max() > 0.1


@pytest.mark.parametrize("shape", [(40, 28), (40,), (0, 29), (1, 1, 40, 29), (29, 40), (3, 40, 29)])
def test_wrong_tokens_are_refused(generator, shape):
    with pytest.raises(DataError, match="another form|too many channels"):
        generator(tokens=np.zeros(shape, np.float32))


def test_damaged_files_are_named(tmp_path, generator):
    (tmp_path / "bad.npy").write_text("no array")
    for what, hint in ((tmp_path / "bad.npy", "bad.npy"), (tmp_path / "absent.npy", "no such file")):
        with pytest.raises(DataError, match=hint):
            generator(tokens=what)
    with pytest.raises(DataError, match="not finite"):
        generator(tokens=np.full((5, 29), np.nan, np.float32))
    with pytest.raises(UsageError, match="rate of tokens"):
        generator(tokens=np.zeros((5, 29), np.float32), tokens_rate="video")
    for wrong in ({"max_seconds": -1}, {"max_seconds": float("nan")}, {"fps": 0}, {"fps": float("nan")}):
        with pytest.raises(UsageError, match="max_seconds|fps above 0"):
            generator("HELLO", **wrong)


def test_the_partner_moves_the_actor(dyadic, tmp_path):
    wave = speech(channels=2)
    alone = faces(dyadic(audio=wave[:1], solver=FAST))
    by_channel = faces(dyadic(audio=wave, solver=FAST))
    given = faces(dyadic(audio=wave[:1], partner=Partner(audio=wave[1]), solver=FAST))
    assert np.abs(alone - given).max() > 1e-3
    np.testing.assert_allclose(by_channel, given, atol=1e-5)
    np.save(tmp_path / "expression.npy", np.ones((30, 55), np.float32))
    seen = faces(dyadic(audio=wave[:1], partner=Partner(wave[1], expression=tmp_path / "expression.npy"), solver=FAST))
    assert np.abs(seen - given).max() > 1e-3
    features = {"expression": np.ones((30, 55), np.float32), "head": np.zeros((30, 3), np.float32)}
    assert np.isfinite(faces(dyadic("HELL", partner=Partner(**features), solver=FAST))).all()


def test_the_second_of_two_channels_is_the_partner(dyadic, tmp_path, caplog):
    caplog.set_level("INFO")
    wave, tokens = speech(channels=2), np.random.default_rng(0).standard_normal((2, 50, 29)).astype(np.float32)
    soundfile.write(tmp_path / "both.wav", wave.T, 16000, subtype="FLOAT")
    np.save(tmp_path / "both.npy", tokens)
    pairs = (
        (Partner(tmp_path / "both.wav"), Partner(wave[1])),
        (Partner(tokens=tmp_path / "both.npy"), Partner(tokens=tokens[1])),
    )
    for both, alone in pairs:
        found, wanted = (dyadic.read_partner(each, 80)["other_tokens"] for each in (both, alone))
        torch.testing.assert_close(found, wanted)
    assert caplog.text.count("the partner is the second channel") == 2 and "both.wav" in caplog.text
    with pytest.raises(DataError, match="too many channels.*3.*1 or 2"):
        dyadic.read_sound(speech(channels=3))


def test_a_partner_who_ends_early_is_refused_or_silent(dyadic, tmp_path):
    np.save(tmp_path / "short.npy", np.ones((12, 55), np.float32))
    for partner in (Partner(audio=speech(8000)), Partner(speech(20000), expression=tmp_path / "short.npy")):
        with pytest.raises(DataError, match=r"shorter than the actor.*0\.[345]\d s.*1\.16 s or more.*pad"):
            dyadic.read_partner(partner, 100)
    with pytest.raises(DataError, match=r"short\.npy"):
        dyadic.read_partner(Partner(speech(20000), expression=tmp_path / "short.npy"), 100)
    streams = dyadic.read_partner(Partner(audio=speech(8000), pad=True), 100)
    assert {name: tuple(each.shape) for name, each in streams.items()} == {
        "other_tokens": (100, 29),
        "other_expression": (100, 55),
        "other_head": (100, 3),
    }
    silence = torch.from_numpy(dyadic.extractor.silence)
    torch.testing.assert_close(streams["other_tokens"][-1], silence)
    assert (streams["other_tokens"][0] > 10 * silence).all()
    assert len(dyadic.read_partner(Partner(audio=speech(32000)), 100)["other_tokens"]) == 100


def test_a_partner_is_refused_where_it_says_nothing(generator, dyadic):
    with pytest.raises(UsageError, match="knows no partner"):
        generator("HELLO", partner=Partner(audio=speech()))
    with pytest.raises(UsageError, match="nothing of the partner"):
        dyadic("HELLO", partner=Partner())
