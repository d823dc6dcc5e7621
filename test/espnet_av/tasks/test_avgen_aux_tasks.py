# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The trainings beside the generator through their command lines, and tokens of a text through its own."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from avgen_aux_sets import make_head_set, make_token_set, spelled, train_command

from espnet_av.avgen.aux_data import HeadPreprocessor, TextTokensPreprocessor, read_actor_tokens, token_statistics
from espnet_av.avgen.head_vae import load_head_vae
from espnet_av.avgen.text import TextFrontEnd
from espnet_av.avgen.text_to_tokens import load_text_to_tokens, mel_rate_length
from espnet_av.bin import avgen_head_vae_train, avgen_text_to_tokens, avgen_text_train
from espnet_av.utils.errors import DataError, UsageError

HEAD = [("head.scp", "head", "npy")]
TEXT = [("text", "text", "text"), ("tokens.scp", "tokens", "npy")]
OPTIM = {"optim": "adamw", "optim_conf": {"lr": 1e-3}, "max_epoch": 1}
HEAD_CONFIG = {**OPTIM, "model_conf": {"feedforward": 32}, "best_model_criterion": [["valid", "mean_l1", "min"]]}
TEXT_CONFIG = {**OPTIM, "model_conf": {"preset": "tiny"}, "best_model_criterion": [["valid", "loss_flow", "min"]]}


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    root = tmp_path_factory.mktemp("heads")
    for seed, part in enumerate(("train", "valid")):
        make_head_set(root / part, seed=seed)
    command = train_command(root, HEAD, HEAD_CONFIG)
    avgen_head_vae_train.main(command)
    return root, command


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    root = tmp_path_factory.mktemp("texts")
    for seed, part in enumerate(("train", "valid")):
        make_token_set(root / part, count=4, seed=seed)
    command = train_command(root, TEXT, TEXT_CONFIG)
    avgen_text_train.main(command)
    return root, command


def history(root: Path) -> dict:
    return json.loads((root / "exp" / "history.jsonl").read_text().splitlines()[-1])


def test_head_vae_knows_its_statistics(heads):
    root, _ = heads
    vae, statistics = load_head_vae(root / "exp")
    assert vae.window == 16 and statistics.dim == 7
    assert float(statistics.mean[6]) == pytest.approx(1000, abs=30) and abs(float(statistics.mean[1])) > 0.9
    assert {"loss", "recon_l1", "kld", "mean_l1"} <= set(history(root)["valid"])
    config = yaml.safe_load((root / "exp" / "config.yaml").read_text())
    assert config["head_vectors"]["mean"] == pytest.approx(statistics.mean.tolist())


def test_statistics_can_be_given(heads, tmp_path):
    root, command = heads
    np.savez(tmp_path / "s.npz", head_mean=np.full(7, 2.0), head_std=np.full(7, 3.0))
    other = [*command, "--output_dir", str(tmp_path / "exp"), "--head_statistics", str(tmp_path / "s.npz")]
    avgen_head_vae_train.main([*other, "--max_steps", "1"])
    assert load_head_vae(tmp_path / "exp")[1].mean.tolist() == [2.0] * 7


def test_text_model_speaks(texts, tmp_path, capsys):
    root, _ = texts
    model = load_text_to_tokens(root / "exp")
    mean, std = token_statistics(root / "train" / "tokens.scp")
    assert float(model.mean) == pytest.approx(mean) and float(model.std) == pytest.approx(std)
    assert {"loss", "loss_duration", "loss_prior", "loss_flow"} <= set(history(root)["valid"])
    out = tmp_path / "a" / "said.npy"
    options = ["-i", "the cat", "-c", str(root / "exp"), "-o", str(out), "--seed", "3", "--device", "cpu"]
    avgen_text_to_tokens.main([*options, "--rate", "mel"])
    said = np.load(out)
    assert said.dtype == np.float32 and np.array_equal(said[0], model.generate("the cat", seed=3).numpy())
    assert str(said.shape) in capsys.readouterr().out
    avgen_text_to_tokens.main(options)
    assert len(np.load(out)[0]) == pytest.approx(len(said[0]) * 50 / 86.13, abs=1)
    assert mel_rate_length(len(np.load(out)[0])) == pytest.approx(len(said[0]), abs=2)  # as readers take it


def test_wrong_options_of_the_command_line(texts, tmp_path):
    root, _ = texts
    options = ["-c", str(root / "exp"), "-o", str(tmp_path / "x.npy"), "--device", "cpu", "-i"]
    for text, hint in (("", "nothing to say"), ("№ 5", "cannot be spoken")):
        with pytest.raises(UsageError, match=hint):
            avgen_text_to_tokens.main([*options, text])
    with pytest.raises(UsageError, match="array file"):
        avgen_text_to_tokens.main([*options, "a", "-o", "x.txt"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("which", "override", "hint"),
    [
        ("heads", ["--model_conf", "size=3"], "model_conf"),
        ("heads", ["--model_conf", "in_dim=4"], "width of the poses"),
        ("heads", ["--preprocessor_conf", "segment=2"], "preprocessor_conf"),
        ("texts", ["--model_conf", "layers=3"], "model_conf"),
        ("texts", ["--preprocessor_conf", "alignment=dtw"], "unknown alignment"),
        ("texts", ["--model_conf", "symbols=matcha"], "alignment: mas"),
    ],
)
def test_wrong_settings_are_usage_errors(which, override, hint, request, tmp_path):
    _, command = request.getfixturevalue(which)
    train = avgen_head_vae_train if which == "heads" else avgen_text_train
    with pytest.raises(UsageError, match=hint):
        train.main([*command, "--output_dir", str(tmp_path / "bad"), *override])
    assert not (tmp_path / "bad" / "checkpoint.pth").exists()


def test_head_items_are_at_the_mel_rate():
    rng = np.random.default_rng(0)
    motion = np.arange(400, dtype=np.float32)[:, None] * np.ones((1, 4), np.float32)
    train, valid = (HeadPreprocessor(flag, segment_frames=86) for flag in (True, False))
    item = train("u", {"head": motion}, rng)["head"]
    assert item.shape == (86, 4) and item.dtype == np.float32
    assert train("u", {"head": motion})["head"].shape == (86, 4)
    assert (item[-1] - item[0])[0] == pytest.approx(85 * 30 / 86.1328, abs=0.5)
    assert np.array_equal(valid("u", {"head": motion})["head"], valid("u", {"head": motion})["head"])
    assert len(valid("u", {"head": motion[:10]})["head"]) == 28
    wide = HeadPreprocessor(False, columns=[12, 16])("u", {"head": np.zeros((20, 104), np.float32)})["head"]
    assert wide.shape[1] == 4
    for bad in (np.zeros((20, 3, 3)), np.zeros((1, 4)), np.full((20, 4), np.nan)):
        with pytest.raises(DataError, match="utterance 'u'"):
            valid("u", {"head": bad})


def test_text_items_fit_together():
    rng = np.random.default_rng(0)
    tokens = spelled("SEE A CAT", rng)
    item = TextTokensPreprocessor()("u", {"text": "See a cat.", "tokens": np.stack([tokens, tokens])})
    assert item["text"].tolist() == TextFrontEnd().encode("see a cat")
    assert len(item["durations"]) == len(item["text"]) and item["durations"].sum() == len(item["tokens"])
    assert (item["durations"][1::2] > 0).all()
    assert len(item["tokens"]) == pytest.approx(len(tokens) / 50 * 86.13, abs=2)
    assert set(TextTokensPreprocessor(alignment="mas")("u", {"text": "see", "tokens": tokens})) == {"text", "tokens"}
    for text, values in (("5", tokens), ("see a cat " * 9, tokens), ("see", tokens[:, :28]), ("see", tokens[:0])):
        with pytest.raises(DataError, match="utterance 'u'"):
            TextTokensPreprocessor()("u", {"text": text, "tokens": values})
    assert torch.equal(read_actor_tokens(np.stack([tokens, -tokens])), torch.from_numpy(tokens))
