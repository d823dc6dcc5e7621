# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Conversion of small random checkpoints on the command line, both ways."""

import hashlib
import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "avsr"))
from auto_avsr_small import CONF, make_auto_avsr

from espnet_av.avsr.convert import to_avhubert, to_published
from espnet_av.avsr.convert_auto_avsr import to_auto_avsr
from espnet_av.avsr.inference import AVSR
from espnet_av.avsr.model import AVSRModel
from espnet_av.avsr.published import find_checkpoint, load_recogniser, read_published
from espnet_av.avsr.tokenizer import SentencePieceTokenizer
from espnet_av.bin import convert
from espnet_av.utils.errors import CheckpointError, DataError, MissingDataError, UsageError

AVHUBERT = {
    "encoder_conf": {"dim": 16, "num_layers": 1, "num_heads": 2, "ffn_dim": 20, "conv_pos": 6, "conv_pos_groups": 4},
    "decoder_conf": {"num_layers": 1, "num_heads": 2, "ffn_dim": 20},
}
AVHUBERT["encoder_conf"].update(stem_channels=3, resnet_planes=[3, 4, 5, 6], num_classes=5, label_dim=3)
HEADS = ["--model_conf", "encoder_conf.num_heads=2", "--model_conf", "decoder_conf.num_heads=2"]
WORDS = ["THE CAT SAT", "ON A MAT", "HE READS LIPS", "AND HEARS SOUND", "BLUE RED GREEN NOW"]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory) -> Path:
    """Return a folder with a small SentencePiece model and its unit list, as auto_avsr publishes them."""
    folder = tmp_path_factory.mktemp("spm")
    tokenizer = SentencePieceTokenizer.train(WORDS, folder / "unigram.model", vocab_size=40)
    lines = [f"{token} {number}" for number, token in enumerate(["<unk>", *tokenizer.tokens[2:-1]], 1)]
    (folder / "unigram_units.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def options(tokens) -> list[str]:
    return ["--unigram_model", str(tokens / "unigram.model"), "--units", str(tokens / "unigram_units.txt")]


@pytest.fixture
def vocab_size(tokens) -> int:
    return SentencePieceTokenizer.from_units(tokens / "unigram.model", tokens / "unigram_units.txt").vocab_size


def make_avsr(vocab_size: int) -> AVSRModel:
    torch.manual_seed(0)
    return AVSRModel(vocab_size, **AVHUBERT)


def run(*command: object) -> None:
    convert.main([str(word) for word in command])


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("kind", ["avsrcocktail", "auto_avsr"])
def test_there_and_back(tmp_path, options, vocab_size, kind, capsys):
    if kind == "auto_avsr":
        model, heads = make_auto_avsr(vocab_size), ["--model_conf", "decoder_conf.num_heads=2"]
        published, source = to_auto_avsr(model.state_dict()), tmp_path / "theirs.pth"
        torch.save(published, source)
    else:
        model, heads = make_avsr(vocab_size), HEADS
        published, source = to_published(model.state_dict()), tmp_path / "model.safetensors"
        save_file(published, source)
    run(kind, source, tmp_path / "ours", *options, *heads)
    told = capsys.readouterr().out
    assert hashlib.sha256(source.read_bytes()).hexdigest() in told
    assert f"fit: {len(published)} loaded, 0 missing, 0 unexpected, 0 of another shape" in told

    recogniser = AVSR.from_pretrained(tmp_path / "ours")
    assert type(recogniser.model) is type(model)
    assert same(recogniser.model.state_dict(), model.state_dict())
    assert recogniser.tokenizer.decode(recogniser.tokenizer.encode("HE READS")) == "HE READS"
    note = json.loads((tmp_path / "ours/conversion.json").read_text())
    assert sorted(note["loaded"]) == sorted(model.state_dict()) and note["missing"] == note["unexpected"] == []

    run("ours", tmp_path / "ours", tmp_path / "back.pth")
    assert same(torch.load(tmp_path / "back.pth", weights_only=True), published)
    run("ours", tmp_path / "ours/model.safetensors", tmp_path / "back.safetensors", "--to", kind)
    assert same(load_file(tmp_path / "back.safetensors"), published)


def test_folder_of_the_hub_with_parts_and_configuration(tmp_path, tokens, vocab_size):
    model = make_avsr(vocab_size)
    published = to_published(model.state_dict())
    names = sorted(published)
    for number, part in enumerate((names[:50], names[50:]), 1):
        save_file({name: published[name] for name in part}, tmp_path / f"model-{number}.safetensors")
    parts = {name: f"model-{1 if name in names[:50] else 2}.safetensors" for name in names}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    config = {"num_attention_heads": 2, "dheads": 2, "mtlalpha": 0.25, "torch_dtype": "float32", "architectures": ["X"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for path in tokens.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    recogniser = load_recogniser("avsrcocktail", tmp_path, beam_size=2)
    assert same(recogniser.model.state_dict(), model.state_dict())
    assert (recogniser.model.ctc_weight, recogniser.beam_size) == (0.25, 2)
    assert recogniser.checkpoint.name == "model.safetensors.index.json"


@pytest.mark.parametrize("finetuned", [False, True])
def test_encoder_of_avhubert(tmp_path, finetuned, capsys):
    encoder = make_avsr(9).encoder
    theirs = to_avhubert(encoder.state_dict(), finetuned=finetuned)
    prefix = "encoder.w2v_model." if finetuned else ""
    assert f"{prefix}encoder.pos_conv.0.weight_g" in theirs and f"{prefix}encoder.layers.0.fc1.weight" in theirs
    theirs[f"{prefix}final_proj.weight"] = torch.zeros(2)
    if finetuned:
        theirs["decoder.embed_tokens.weight"] = torch.zeros(2)
    torch.save({"model": theirs, "cfg": {"x": Path("settings")}}, tmp_path / "avhubert.pt")
    heads = HEADS[:2]
    run("avhubert", tmp_path / "avhubert.pt", tmp_path / "encoder.safetensors", *heads, "--report", tmp_path / "r.json")
    assert "dropped 1: pre-training head" in capsys.readouterr().out
    expected = {f"avsr.encoder.{key}": tensor for key, tensor in encoder.state_dict().items()}
    assert same(load_file(tmp_path / "encoder.safetensors"), expected)
    assert len(json.loads((tmp_path / "r.json").read_text())["dropped"]) == 1 + finetuned
    with pytest.raises(UsageError, match="encoder alone cannot recognise"):
        load_recogniser("avhubert", tmp_path / "avhubert.pt", model_conf={"encoder_conf": {"num_heads": 2}})


def test_ours_as_encoder_and_as_avhubert(tmp_path):
    model = make_avsr(9)
    (tmp_path / "exp").mkdir()
    torch.save({f"avsr.{key}": value for key, value in model.state_dict().items()}, tmp_path / "exp/valid.acc.best.pth")
    config = {"model": "avsr", "model_conf": AVHUBERT, "best_model_criterion": [["valid", "acc", "max"]]}
    (tmp_path / "exp/config.yaml").write_text(yaml.safe_dump(config))
    run("ours", tmp_path / "exp", tmp_path / "encoder.safetensors", "--to", "encoder")
    assert len(load_file(tmp_path / "encoder.safetensors")) == len(model.encoder.state_dict())
    run("ours", tmp_path / "exp", tmp_path / "avhubert.pth", "--to", "avhubert")
    assert same(torch.load(tmp_path / "avhubert.pth", weights_only=True), to_avhubert(model.encoder.state_dict()))
    with pytest.raises(CheckpointError, match="a model 'avsr' has no form 'auto_avsr'; fix: pass --to avsrcocktail"):
        run("ours", tmp_path / "exp", tmp_path / "x.pth", "--to", "auto_avsr")
    (tmp_path / "exp/config.yaml").write_text(yaml.safe_dump({**config, "model": "auto_avsr", "model_conf": CONF}))
    with pytest.raises(CheckpointError, match="valid.acc.best.pth is of another model than"):
        run("ours", tmp_path / "exp", tmp_path / "x.pth")
    assert not (tmp_path / "x.pth").exists()


def test_a_misfit_is_reported_and_nothing_is_written(tmp_path, options, vocab_size, capsys):
    published = to_published(make_avsr(vocab_size).state_dict())
    published["avsr.encoder.extra"] = published.pop("avsr.decoder.after_norm.bias")
    torch.save(published, tmp_path / "bad.pth")
    command = ("avsrcocktail", tmp_path / "bad.pth", tmp_path / "ours", *options, *HEADS)
    with pytest.raises(CheckpointError, match="1 missing .decoder.after_norm.bias., 1 unexpected .encoder.extra."):
        run(*command, "--report", tmp_path / "report.json")
    assert not (tmp_path / "ours").exists()
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["missing"], report["unexpected"]) == (["decoder.after_norm.bias"], ["encoder.extra"])
    assert "1 missing, 1 unexpected" in capsys.readouterr().out


def test_old_names_of_weight_norm(tmp_path, options, vocab_size):
    model = make_avsr(vocab_size)
    old = {
        key.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for key, value in to_published(model.state_dict()).items()
    }
    torch.save(old, tmp_path / "old.pth")
    run("avsrcocktail", tmp_path / "old.pth", tmp_path / "ours", *options, *HEADS)
    assert same(AVSR.from_pretrained(tmp_path / "ours").model.state_dict(), model.state_dict())


def test_bad_input_is_named(tmp_path, tokens, options, vocab_size):
    torch.save(to_published(make_avsr(vocab_size).state_dict()), tmp_path / "good.pth")
    good = ("avsrcocktail", tmp_path / "good.pth", tmp_path / "out")
    with pytest.raises(UsageError, match="do not tell the number of heads of encoder_conf"):
        run(*good, *options)
    with pytest.raises(MissingDataError, match="no --unigram_model, and .* fix: pass --unigram_model FILE"):
        run(*good, *HEADS)
    (tmp_path / "short.txt").write_text("<unk> 1\nA 2\n")
    with pytest.raises(DataError, match="the unit list gives 4 ids, good.pth has"):
        run(*good, *HEADS, *options[:3], tmp_path / "short.txt")
    with pytest.raises(MissingDataError, match="no such checkpoint"):
        run("auto_avsr", tmp_path / "absent.pth", tmp_path / "out", *options)
    with pytest.raises(CheckpointError, match="not an auto_avsr checkpoint"):
        run("auto_avsr", tmp_path / "good.pth", tmp_path / "out", *options)
    with pytest.raises(UsageError, match="OUT must be a file here"):
        run("ours", tmp_path / "good.pth", tmp_path / "folder")
    with pytest.raises(UsageError, match="cannot be written as auto_avsr"):
        run(*good, "--to", "auto_avsr")
    with pytest.raises(UsageError, match="model_conf|do not fit"):
        run(*good, *HEADS, *options, "--model_conf", "encoder_conf.no_such=1")
    with pytest.raises(UsageError, match="muavic_en.*cannot be run"):
        read_published("muavic_en", tmp_path / "good.pth")
    (tmp_path / "two").mkdir()
    for name in ("a.pth", "b.pth"):
        (tmp_path / "two" / name).write_bytes(b"")
    with pytest.raises(UsageError, match="holds several checkpoints"):
        find_checkpoint(tmp_path / "two")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_things_is_not_replaced(tmp_path, options, vocab_size):
    torch.save(to_published(make_avsr(vocab_size).state_dict()), tmp_path / "good.pth")
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    command = ("avsrcocktail", tmp_path / "good.pth", out, *options, *HEADS)
    with pytest.raises(UsageError, match="holds something that is no conversion"):
        run(*command)
    assert (out / "thesis.txt").read_text() == "mine"
    (out / "thesis.txt").unlink()
    run(*command)
    run(*command)  # a conversion is replaced
    assert (out / "model.safetensors").is_file()
