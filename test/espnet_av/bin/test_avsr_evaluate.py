# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""``espnet-av evaluate avsr`` with tiny recognisers: packed, published and by wrong names."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "avsr"))
from auto_avsr_small import CONF, make_auto_avsr
from avsr_data import CONFIG, make_data_dir

from espnet_av.avsr.convert import to_published
from espnet_av.avsr.inference import AVSR
from espnet_av.avsr.model import AVSRModel
from espnet_av.avsr.pretrained import find_recogniser
from espnet_av.avsr.tokenizer import SentencePieceTokenizer
from espnet_av.bin import avsr_evaluate, cli
from espnet_av.data.data_dir import read_text
from espnet_av.utils import hub
from espnet_av.utils.errors import CheckpointError, DataError, EnvironmentProblem, MissingDataError, UsageError

TOKENS = ["<blank>", "<unk>", "<space>", *"ABDEILNORSTUWY", "<eos>"]


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A packed model with random weights, and the data folders ``test_a`` and ``test_b`` of three clips each."""
    root = tmp_path_factory.mktemp("evaluate")
    for number, name in enumerate(("test_a", "test_b")):
        make_data_dir(root / "dump" / name, 3, seed=number)
    (root / "pack").mkdir()
    config = {"model_conf": CONFIG["model_conf"], "token_list": TOKENS, "token_type": "char"}
    (root / "pack/config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    torch.manual_seed(0)
    model = AVSRModel(vocab_size=len(TOKENS), **CONFIG["model_conf"])
    save_file(to_published(model.state_dict()), root / "pack/model.safetensors")
    return root


def command(work: Path, output: Path, *words: object) -> list[str]:
    options = ["--dataset_name", "data_dirs", "--data_root", work / "dump", "--checkpoint_path", work / "pack"]
    options += ["--output_dir_name", output, "--device", "cpu", "--num_resamples", 20, "--beam_size", 2, *words]
    return [str(word) for word in options]


def test_command_prints_and_writes(work, tmp_path, capsys):
    words = command(work, tmp_path / "out", "--set_id", "*", "--verbose", "--max_length", "1.5", "--modality", "audio")
    avsr_evaluate.main(words)
    lines = capsys.readouterr().out.splitlines()
    rates = [line for line in lines if line.startswith("WER ")]
    assert [line.split(":")[0] for line in rates] == ["WER test_a", "WER test_b"]
    assert sum(line.startswith("  HYP:") for line in lines) == 6 and lines[-1].endswith("RESULTS.md")
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert [f"WER {row['set']}: {row['wer']:.4f}" for row in results["rows"]] == rates
    assert all(row["ci_low"] <= row["wer"] <= row["ci_high"] and row["device"] == "cpu" for row in results["rows"])
    assert results["model"]["max_length"] == 1.5 and len(results["model"]["checkpoint_sha256"]) == 64
    line = json.loads((tmp_path / "out/decode/audio/test_a/hypotheses.jsonl").read_text().splitlines()[0])
    assert len(line["pieces"]) == 2  # 52 frames in pieces of at most 37


def test_hypotheses_are_those_of_the_recogniser(work, tmp_path):
    avsr_evaluate.main(command(work, tmp_path / "out", "--set_id", "test_a"))
    found = read_text(tmp_path / "out/decode/av/test_a/text", allow_empty=True)
    recogniser = AVSR.from_pretrained(work / "pack", beam_size=2)
    media = work / "dump/test_a/media"
    for uid, text in found.items():
        assert recogniser(media / f"{uid}.flac", media / f"{uid}.npy").text == text


@pytest.mark.slow
def test_several_processes_give_the_same(work, tmp_path):
    for jobs in (1, 2):
        avsr_evaluate.main(command(work, tmp_path / str(jobs), "--set_id", "test_a", "--nj", jobs, "--batch_size", 1))
    texts = [(tmp_path / jobs / "decode/av/test_a/text").read_text() for jobs in "12"]
    assert texts[0] == texts[1]


def test_program_has_the_verb():
    assert cli.find_module(["evaluate", "avsr", "--set-id", "*"]) == (
        "espnet_av.bin.avsr_evaluate",
        "espnet-av evaluate avsr",
        ["--set_id", "*"],
    )


def test_published_checkpoint_with_its_tokens(work, tmp_path):
    folder = tmp_path / "download"
    folder.mkdir()
    tokenizer = SentencePieceTokenizer.train(["A CAB ADDED", "A BAD BEAD"], folder / "bpe.model", vocab_size=12)
    units = ["<unk>", *tokenizer.tokens[2:-1]]
    conf = {**CONFIG["model_conf"], "decoder_conf": {**CONFIG["model_conf"]["decoder_conf"]}}
    model = AVSRModel(vocab_size=tokenizer.vocab_size, **conf)
    save_file(to_published(model.state_dict()), folder / "model.safetensors")
    heads = {"num_attention_heads": 2, "dheads": 2, "num_conv_pos_embedding_groups": 4, "model_type": "speech_to_text"}
    (folder / "config.json").write_text(json.dumps({**heads, "architectures": ["Other"]}))
    with pytest.raises(MissingDataError, match="unigram5000_units.txt.*--units FILE"):
        find_recogniser(folder, cache_dir=tmp_path / "cache")
    (folder / "my_units.txt").write_text("".join(f"{unit} {number}\n" for number, unit in enumerate(units, 1)))
    spec = find_recogniser(folder, cache_dir=tmp_path / "cache")
    assert spec.folder is None and spec.units == folder / "my_units.txt"
    assert spec.describe()["checkpoint"] == str(folder / "model.safetensors")
    options = ["--checkpoint_path", folder, "--cache_dir", tmp_path / "cache"]
    options += ["--set_id", "test_a", "--modality", "audio"]  # pooling of small lip networks is in no published file
    avsr_evaluate.main(command(work, tmp_path / "out", *options))
    texts = read_text(tmp_path / "out/decode/audio/test_a/text", allow_empty=True)
    recogniser = AVSR(model.eval(), tokenizer, beam_size=2)
    media = work / "dump/test_a/media"
    assert texts == {uid: recogniser(media / f"{uid}.flac", modality="audio").text for uid in texts}
    assert len(texts) == 3 and any(texts.values())


def test_auto_avsr_is_evaluated(work, tmp_path):
    (tmp_path / "pack").mkdir()
    config = {"model": "auto_avsr", "model_conf": CONF, "token_list": TOKENS, "token_type": "char"}
    (tmp_path / "pack/config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    save_file(make_auto_avsr(len(TOKENS)).state_dict(), tmp_path / "pack/model.safetensors")
    options = ["--model_type", "auto_avsr", "--checkpoint_path", tmp_path / "pack", "--set_id", "*"]
    avsr_evaluate.main(command(work, tmp_path / "out", *options))
    rows = json.loads((tmp_path / "out/results.json").read_text())["rows"]
    assert [row["set"] for row in rows] == ["test_a", "test_b"]


def offline(*_, **__):
    raise ConnectionError("no route")


def test_wrong_checkpoints_are_refused(work, tmp_path, monkeypatch):
    def evaluate(*words):
        avsr_evaluate.main(command(work, tmp_path / "out", *words))

    monkeypatch.setattr(hub, "require", lambda *_: type("Hub", (), {"snapshot_download": staticmethod(offline)}))
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    cases = [
        (UsageError, "muavic_en.*avsr_cocktail", ["--model_type", "muavic_en"]),
        (UsageError, "another model.*--model_type avsr_cocktail", ["--model_type", "auto_avsr"]),
        (MissingDataError, r"no such file or folder; got '\./nothing/here'", ["--checkpoint_path", "./nothing/here"]),
        (EnvironmentProblem, "cannot be reached.*no route", ["--checkpoint_path", "someone/model"]),
        (MissingDataError, "no weights", ["--checkpoint_path", tmp_path / "empty"]),
        (DataError, "unigram5000", ["--checkpoint_path", tmp_path / "broken.pth", "--cache_dir", tmp_path / "empty"]),
        (CheckpointError, "another model", ["--checkpoint_path", work / "pack/broken.pth"]),
        (UsageError, "unknown --set_id", ["--set_id", "test_c"]),
        (UsageError, "--beam_size is too small", ["--beam_size", "0"]),
        (UsageError, "--max_length is out of range; got nan", ["--max_length", "nan"]),
        (UsageError, "unknown device", ["--device", "tpu9"]),
    ]
    state = AVSRModel(vocab_size=len(TOKENS) + 1, **CONFIG["model_conf"]).state_dict()
    torch.save(state, work / "pack/broken.pth")
    for error, message, words in cases:
        with pytest.raises(error, match=message):
            evaluate(*words)
    (work / "pack/broken.pth").unlink()
    assert not (tmp_path / "out").exists()
    with pytest.raises(MissingDataError, match="auto_avsr/avsr_trlrwlrs2lrs3vox2avsp_base.pth"):
        find_recogniser(None, model_type="auto_avsr", cache_dir=tmp_path)
    if not torch.cuda.is_available():
        with pytest.raises(EnvironmentProblem, match="no such device; got 'cuda; torch sees 0 GPUs"):
            evaluate("--device", "cuda")
