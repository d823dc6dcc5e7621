# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Published files of the generator and its parts into ours and back, and files that are refused."""

import json
import shutil

import avgen_trees
import pytest
import torch
import yaml

from espnet_av.avgen import convert
from espnet_av.avgen import convert_parts as parts
from espnet_av.avgen.bigvgan import BigVGAN
from espnet_av.avgen.choices import build_model
from espnet_av.avgen.head_vae import HeadVAE, load_head_vae
from espnet_av.avgen.text_to_tokens import TextToTokens, load_text_to_tokens
from espnet_av.avgen.vocoder import load_vocoder
from espnet_av.avgen.vocoder_parts import published_names
from espnet_av.bin.convert import main
from espnet_av.train.loading import load_weights
from espnet_av.utils.errors import CheckpointError, MissingDataError, UsageError

SIZES = {"d_model": 32, "hidden_dim": 48, "num_heads": 4, "window_per_layer": [[16, 8], [16, 8]]}
VOCODER = {
    "resblock": "1",
    "upsample_rates": [4, 4],
    "upsample_kernel_sizes": [8, 8],
    "upsample_initial_channel": 8,
    "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": [[1, 3]],
    "activation": "snakebeta",
    "snake_logscale": True,
    "num_mels": 8,
    "n_fft": 64,
    "hop_size": 16,
    "win_size": 64,
    "sampling_rate": 8000,
    "fmin": 0,
    "fmax": 4000,
}


def same(first, second) -> bool:
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module", params=[False, True], ids=["actor", "dyadic"])
def published(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    options = {"participant_cond": request.param, "head_vae": False, "input_head_dim": 8, "condition_drop": 0.0}
    model = build_model("avflow", {"transformer_conf": SIZES, "face_dim": 20, "melspec_dim": 80, **options})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    _, state = convert.original_names(None, model.state_dict())
    content = {"iteration": 7, "model_state_dict": state, "optimizer_state_dict": {"state": {}, "param_groups": []}}
    torch.save(content, folder / "av_flow.pt")
    torch.save({"iteration": 7, "model_state_dict": HeadVAE(window=None).state_dict()}, folder / "vae.pt")
    return folder, model, state, request.param


def test_generator_there_and_back(published, tmp_path, capsys):
    folder, model, state, dyadic = published
    main(["av_flow", str(folder / "av_flow.pt"), str(tmp_path / "ours"), "--report", str(tmp_path / "report.json")])
    config = yaml.safe_load((tmp_path / "ours/config.yaml").read_text())
    assert config["model"] == "avflow" and config["model_conf"]["participant_cond"] == dyadic
    assert config["model_conf"]["transformer_conf"] == SIZES and config["model_conf"]["token_dim"] == 29
    again = build_model(config["model"], config["model_conf"])
    again.load_state_dict(load_weights(tmp_path / "ours/model.safetensors"), strict=True)
    assert same(
        {name: each for name, each in again.state_dict().items() if "transformer" in name},
        {name: each for name, each in model.state_dict().items() if "transformer" in name},
    )
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["loaded"]) == len(state) and not (report["missing"] or report["unexpected"])
    main(["ours", str(tmp_path / "ours"), str(tmp_path / "back.pt")])
    content = torch.load(tmp_path / "back.pt", weights_only=True)
    assert same(content["model_state_dict"], state)
    assert "sha256" in capsys.readouterr().out


def test_generator_with_head_vae_and_statistics(published, tmp_path):
    import numpy as np

    folder, _, state, _ = published
    np.savez(tmp_path / "stats.npz", mel_mean=-4.0, face_std=np.full(20, 0.5), further=1.0)
    more = ["--head_vae", str(folder / "vae.pt"), "--statistics", str(tmp_path / "stats.npz")]
    main(["av_flow", str(folder / "av_flow.pt"), str(tmp_path / "ours"), *more])
    config = yaml.safe_load((tmp_path / "ours/config.yaml").read_text())
    model = build_model(config["model"], config["model_conf"])
    model.load_state_dict(load_weights(tmp_path / "ours/model.safetensors"), strict=True)
    assert model.head_vae.window is None and model.mel_mean == -4 and (model.face_std == 0.5).all()
    assert same(model.head_vae.state_dict(), torch.load(folder / "vae.pt", weights_only=True)["model_state_dict"])
    _, _, ours = convert.read_ours(tmp_path / "ours")
    assert same(convert.original_names("av_flow", ours)[1], state)


def test_what_a_generator_lacks_is_told(published, tmp_path, caplog):
    folder, *_, dyadic = published
    convert_one = ["av_flow", str(folder / "av_flow.pt"), str(tmp_path / "ours")]
    main(convert_one)
    assert "no head VAE is given: heads are 8 latents" in caplog.text
    convert_one += ["--head_vae", str(folder / "vae.pt")]
    caplog.clear()
    main(convert_one)
    assert "no statistics of the head are given" in caplog.text
    assert ("no range of the partner's face is given" in caplog.text) == dyadic
    caplog.clear()
    root = avgen_trees.make_50h(tmp_path / "root")
    main([*convert_one, "--statistics", str(root)])
    assert not caplog.records
    state = load_weights(tmp_path / "ours/model.safetensors")
    assert state["head_mean"].tolist() == [1, 0, 0, 0, 1, 0, 0] and (state["partner_max"] == 3).all()
    (root / "headpose/headpose_normstats/head_qvec_std.npy").unlink()
    with pytest.raises(MissingDataError, match="head_qvec_std"):
        main([*convert_one, "--statistics", str(root)])


def test_the_command_of_the_recipe_makes_a_whole_generator(published, tmp_path, repo_root, caplog):
    folder, *_ = published
    page = (repo_root / "egs/av50h/avgen/README.md").read_text()
    (command,) = [line for line in page.splitlines() if line.startswith("espnet-av convert")]
    root = avgen_trees.make_50h(tmp_path / "DIR")
    (root / "head_vae").mkdir()
    shutil.copy(folder / "vae.pt", root / "head_vae" / "iter-0500000.pt")
    shutil.copy(folder / "av_flow.pt", root / "av_flow_ckpt_50h.pt")
    main([word.replace("DIR", str(root)).replace("OUT", str(tmp_path / "OUT")) for word in command.split()[2:]])
    config = yaml.safe_load((tmp_path / "OUT/config.yaml").read_text())
    assert config["model_conf"]["input_head_dim"] == 7 and not caplog.records


def test_windows_of_another_number_of_layers_are_refused(published):
    folder, *_ = published
    with pytest.raises(UsageError, match=r"as many as the layers.*2 pairs"):
        convert.read_published("av_flow", folder / "av_flow.pt", {"transformer_conf": {"window_per_layer": [[1, 1]]}})


def test_wrong_generators_are_refused(published, tmp_path):
    folder, _, state, _ = published
    torch.save({"model_state_dict": {**state, "extra.weight": torch.zeros(1)}}, tmp_path / "extra.pt")
    with pytest.raises(CheckpointError, match=r"extra\.weight"):
        convert.read_published("av_flow", tmp_path / "extra.pt")
    lacking = {name: each for name, each in state.items() if "fusion.1.weight" not in name}
    torch.save({"model_state_dict": lacking}, tmp_path / "lacking.pt")
    with pytest.raises(CheckpointError, match="1 missing"):
        convert.read_published("av_flow", tmp_path / "lacking.pt")
    with pytest.raises(UsageError, match="no conversion"):
        (tmp_path / "full").mkdir()
        (tmp_path / "full/file").write_text("x")
        convert.write_ours(convert.read_published("av_flow", folder / "av_flow.pt"), tmp_path / "full")
    with pytest.raises(UsageError, match="no such form"):
        convert.original_names("lrac", {})
    other = build_model("avflow", {"transformer_conf": {**SIZES, "highway": "conv"}, "head_vae": False})
    with pytest.raises(CheckpointError, match="no place"):
        convert.original_names(None, other.state_dict())


def test_head_vae_there_and_back(published, tmp_path):
    folder, *_ = published
    state = torch.load(folder / "vae.pt", weights_only=True)["model_state_dict"]
    main(["head_vae", str(folder / "vae.pt"), str(tmp_path / "ours")])
    vae, statistics = load_head_vae(tmp_path / "ours")
    assert same(vae.state_dict(), state) and vae.window is None and statistics is None
    main(["ours", str(tmp_path / "ours"), str(tmp_path / "back.pt")])
    assert same(torch.load(tmp_path / "back.pt", weights_only=True)["model_state_dict"], state)


def test_text_to_tokens_there_and_back(tmp_path):
    torch.manual_seed(0)
    model = TextToTokens(symbols="matcha", preset="tiny", rounding="ceil")
    torch.save(model.state_dict(), tmp_path / "text_to_tokens.pth")
    main(["text_to_tokens", str(tmp_path / "text_to_tokens.pth"), str(tmp_path / "ours")])
    assert same(load_text_to_tokens(tmp_path / "ours").state_dict(), model.state_dict())
    main(["ours", str(tmp_path / "ours"), str(tmp_path / "back.pth")])
    assert same(torch.load(tmp_path / "back.pth", weights_only=True), model.state_dict())


def test_a_text_model_of_characters_stays_one(tmp_path):
    torch.manual_seed(0)
    model = TextToTokens(symbols="characters", preset="tiny").eval()
    torch.save(model.state_dict(), tmp_path / "text_to_tokens.pth")
    main(["text_to_tokens", str(tmp_path / "text_to_tokens.pth"), str(tmp_path / "ours")])
    expected = model.generate("HELLO", steps=2)
    for path in (tmp_path / "text_to_tokens.pth", tmp_path / "ours"):
        torch.testing.assert_close(load_text_to_tokens(path).generate("HELLO", steps=2), expected)
    few = TextToTokens(symbols="matcha", n_vocab=30, preset="tiny")
    with pytest.raises(UsageError, match="fewer symbols than the table matcha; got 30"):
        few.generate("HELLO", g2p="none")


def test_a_generator_whose_head_is_no_latent_has_no_published_form(tmp_path):
    model = build_model("avflow", {"transformer_conf": SIZES, "face_dim": 20, "head_vae": False})
    with pytest.raises(CheckpointError, match="no published form.*got 7; allowed: 8"):
        convert.original_names("av_flow", model.state_dict())


@pytest.mark.parametrize("weight_norm", [True, False])
def test_bigvgan_there_and_back(tmp_path, weight_norm):
    torch.manual_seed(0)
    sizes = {name: value for name, value in VOCODER.items() if name in BigVGAN.__init__.__annotations__}
    network = BigVGAN(**sizes, weight_norm=weight_norm)
    source = tmp_path / "bigvgan_tiny"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(VOCODER))
    torch.save({"generator": published_names(network.state_dict())}, source / "bigvgan_generator.pt")
    mel = torch.randn(1, 8, 12)
    expected = load_vocoder(source)(mel)
    main(["bigvgan", str(source), str(tmp_path / "ours")])
    torch.testing.assert_close(load_vocoder(tmp_path / "ours")(mel), expected)
    (tmp_path / "back").mkdir()
    main(["ours", str(tmp_path / "ours"), str(tmp_path / "back/bigvgan_generator.pt")])
    torch.testing.assert_close(load_vocoder(tmp_path / "back")(mel), expected)
    assert parts.find_kind(tmp_path / "ours") == "bigvgan"


def test_other_parts_are_refused(published, tmp_path):
    folder, *_ = published
    with pytest.raises(CheckpointError, match="text-to-tokens"):
        parts.read_published("text_to_tokens", folder / "vae.pt")
    with pytest.raises(CheckpointError, match="head VAE"):
        parts.read_published("head_vae", folder / "av_flow.pt")
    with pytest.raises(UsageError, match="unknown part"):
        parts.read_published("hifigan", folder / "vae.pt")
    main(["head_vae", str(folder / "vae.pt"), str(tmp_path / "ours")])
    with pytest.raises(UsageError, match="no such form"):
        main(["ours", str(tmp_path / "ours"), str(tmp_path / "back.pt"), "--to", "bigvgan"])
