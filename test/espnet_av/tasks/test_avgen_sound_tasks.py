# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Training of vocoders and of the token model through their command lines."""

import json
import math

import numpy as np
import pytest
import torch
import yaml

from espnet_av.avgen.hifigan import TINY, HiFiGAN
from espnet_av.avgen.mel import MelConfig
from espnet_av.avgen.tokens import TokenExtractor
from espnet_av.avgen.vocoder import load_vocoder
from espnet_av.avgen.vocoder_model import VocoderModel
from espnet_av.avgen.vocoder_parts import published_names
from espnet_av.bin import avgen_tokens_train, avgen_vocoder_train
from espnet_av.data.audio_io import write_audio
from espnet_av.data.data_dir import DataDir
from espnet_av.train.pretrained import find_weights
from espnet_av.utils.errors import DataError, UsageError

RATE = 22050
VOCODER = {
    "model_conf": {"preset": "tiny"},
    "discriminator_conf": {"n_ffts": [128, 256], "channels": 4},
    "loss_conf": {"spectrum_conf": {"n_ffts": [128, 512], "num_mels": [10, 40]}},
    "optim": "adamw",
    "optim_conf": {"lr": 1e-3},
    "optim2": "adamw",
    "optim2_conf": {"lr": 1e-3},
    "chunk_length": 2048,
    "batch_size": 4,
    "max_epoch": 2,
    "discriminator_start_step": 2,
    "best_model_criterion": [["valid", "mel_loss", "min"]],
    "num_workers": 0,
    "use_matplotlib": False,
}
TOKENS = {
    "model_conf": {"num_mels": 16, "dim": 12, "kernel": 5, "dilations": [1, 2]},
    "optim": "adam",
    "optim_conf": {"lr": 3e-3},
    "batch_size": 2,
    "max_epoch": 2,
    "num_workers": 0,
    "use_matplotlib": False,
}


def speech(folder, rate, count, texts=None):
    """Write tones of unlike lengths, with texts where they are wanted."""
    rng, data = np.random.default_rng(count), DataDir(folder)
    files, samples = {}, {}
    (folder / "wav").mkdir(parents=True)
    for number in range(count):
        uid, size = f"u{number}", rate // 2 + 1000 * number
        wave = 0.3 * np.sin(2 * np.pi * (200 + 300 * number) * np.arange(size) / rate) + 0.01 * rng.standard_normal(
            size
        )
        write_audio(folder / "wav" / f"{uid}.wav", wave, rate)
        files[uid], samples[uid] = folder / "wav" / f"{uid}.wav", size
    data.write("wav.scp", files)
    data.write("utt2num_samples", samples)
    if texts:
        data.write("text", {uid: texts[number % len(texts)] for number, uid in enumerate(files)})


def command(root, name, config, streams):
    path = root / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    options = ["--config", str(path), "--output_dir", str(root / name)]
    for kind in ("train", "valid"):
        for file, stream, type_name in streams:
            options += [f"--{kind}_data_path_and_name_and_type", f"{root / kind / file},{stream},{type_name}"]
    return options


@pytest.fixture(scope="module")
def vocoder_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("vocoder")
    speech(root / "train", RATE, 3)
    speech(root / "valid", RATE, 1)
    return root


@pytest.fixture(scope="module")
def token_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("tokens")
    speech(root / "train", 16000, 4, ["oh no", "it's me"])
    speech(root / "valid", 16000, 2, ["OH"])
    return root


SOUND = [("wav.scp", "audio", "sound")]
TEXT = [("wav.scp", "speech", "sound"), ("text", "text", "text")]


def test_vocoder_training_leaves_a_vocoder(vocoder_root):
    avgen_vocoder_train.main(command(vocoder_root, "exp", VOCODER, SOUND))
    folder = vocoder_root / "exp"
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert rows[1]["valid"]["mel_loss"] < rows[0]["valid"]["mel_loss"]
    assert {"adv_loss", "feat_match_loss", "discriminator_loss"} <= rows[1]["train"].keys()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["mel_conf"] == MelConfig().to_dict()
    assert config["model_conf"]["upsample_rates"] == list(TINY["upsample_rates"])
    vocoder = load_vocoder(folder)
    vocoder.check(MelConfig())
    mel = torch.randn(1, 80, 5, generator=torch.Generator().manual_seed(0))
    trained = HiFiGAN(**TINY).eval()
    weights = torch.load(find_weights(folder, None, VOCODER["best_model_criterion"]), weights_only=True)
    own = {name.removeprefix("vocoder.generator."): each for name, each in weights.items() if ".generator." in name}
    trained.load_state_dict(own)
    torch.testing.assert_close(vocoder(mel), trained(mel)[:, 0], atol=1e-5, rtol=0)


def test_vocoder_training_starts_from_a_published_one(vocoder_root):
    torch.manual_seed(0)
    published = vocoder_root / "published"
    published.mkdir()
    keys = {"sampling_rate": RATE, "hop_size": 256, "num_mels": 80, "n_fft": 1024, "win_size": 1024}
    (published / "config.json").write_text(json.dumps({**TINY, **keys}))
    network = HiFiGAN(**TINY)
    torch.save({"generator": published_names(network.state_dict())}, published / "generator.pt")
    still = {**VOCODER, "optim": "sgd", "optim_conf": {"lr": 0.0}, "max_epoch": 1}
    start = ["--model_name_or_path", str(published / "generator.pt")]
    avgen_vocoder_train.main([*command(vocoder_root, "from_published", still, SOUND), *start])
    weights = torch.load(vocoder_root / "from_published/1epoch.pth", weights_only=True)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(weights[f"vocoder.generator.{name}"], tensor)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--chunk_length", "2000"], "multiple of 256"),
        (["--mel_conf", "hop_length=128"], "bands or hop"),
        (["--mel_conf", "hops=128"], "mel_conf"),
        (["--loss_conf", "lambda_mels=1"], "loss_conf"),
        (["--loss_conf", "lambda_mel=-1"], "negative"),
        (["--loss_conf", "adversarial=wasserstein"], "adversarial"),
        (["--discriminator_conf", "depth=1"], "discriminator_conf"),
        (["--model_conf", "preset=huge"], "preset"),
        (["--collect_stats", "true"], "statistics"),
    ],
)
def test_wrong_vocoder_settings(vocoder_root, options, message):
    name = "wrong" + "".join(filter(str.isalnum, "".join(options)))
    with pytest.raises(UsageError, match=message):
        avgen_vocoder_train.main([*command(vocoder_root, name, VOCODER, SOUND), *options])


def test_turns_share_the_sound_and_train_one_network_each():
    torch.manual_seed(0)
    conf = {"spectrum_conf": {"n_ffts": [128], "num_mels": [10]}}
    for adversarial in ("hinge", "least_squares"):
        model = VocoderModel(HiFiGAN(**TINY), None, _small_discriminator(), adversarial=adversarial, **conf)
        audio = 0.1 * torch.randn(2, 2048)
        first = model(audio, forward_generator=True)
        first["loss"].backward()
        assert all(each.grad is None for each in model.discriminator.parameters())
        assert all(each.grad is not None for each in model.generator.parameters())
        model.zero_grad(set_to_none=True)
        calls = []
        model.generator.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        second = model(audio, forward_generator=False)
        second["loss"].backward()
        assert not calls and (first["optim_idx"], second["optim_idx"]) == (0, 1)
        assert all(each.grad is None for each in model.generator.parameters())
        assert all(each.grad is not None for each in model.discriminator.parameters())
        alone = model(audio, adversarial=False)
        assert set(alone["stats"]) == {"mel_loss", "spectrum_loss", "loss"}


def _small_discriminator():
    from espnet_av.avgen.vocoder_model import build_discriminator

    return build_discriminator("stft", {"n_ffts": [128], "channels": 4})


@pytest.mark.slow
def test_published_discriminator():
    from espnet_av.avgen.vocoder_model import build_discriminator

    model = VocoderModel(HiFiGAN(**TINY), None, build_discriminator("hifigan", {}), adversarial="least_squares")
    audio = 0.1 * torch.randn(1, 4096)
    for turn in (True, False):
        assert math.isfinite(model(audio, forward_generator=turn)["loss"].item())


def test_token_training_leaves_a_token_model(token_root):
    avgen_tokens_train.main(command(token_root, "exp", TOKENS, TEXT))
    rows = [json.loads(line) for line in (token_root / "exp/history.jsonl").read_text().splitlines()]
    assert rows[1]["train"]["loss"] < rows[0]["train"]["loss"] and "cer" in rows[0]["valid"]
    wav = np.zeros((2, 16000), np.float32)
    assert TokenExtractor.from_pretrained(token_root / "exp").extract(wav).shape == (2, 49, 29)


def test_text_without_labels_is_named(token_root):
    streams = [("wav.scp", "speech", "sound"), ("text_bad", "text", "text")]
    for kind in ("train", "valid"):
        lines = (token_root / kind / "text").read_text().splitlines()
        (token_root / kind / "text_bad").write_text("".join(f"{line} 5\n" for line in lines))
    with pytest.raises(DataError, match=r"utterance 'u\d'.*got '5'"):
        avgen_tokens_train.main(command(token_root, "bad", TOKENS, streams))
    with pytest.raises(UsageError, match="model_conf"):
        avgen_tokens_train.main([*command(token_root, "bad2", TOKENS, TEXT), "--model_conf", "width=3"])
