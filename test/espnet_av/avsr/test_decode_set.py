# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Decoding of a set from the command line: the files, what ``infer.json`` says, and weights of another model."""

import json
import shlex
import sys
from pathlib import Path

import pytest
import torch
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from avsr_data import CONFIG, make_data_dir

from espnet_av.avsr.model import AVSRModel
from espnet_av.bin import avsr_infer
from espnet_av.data.data_dir import read_text
from espnet_av.utils.errors import CheckpointError, DataError

TOKENS = ["<blank>", "<unk>", "<space>", *"ABDEILNORSTUWY", "<eos>"]
WEIGHTS = "valid.wer_ctc.ave_1best.pth"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """An experiment folder with untrained weights, and a data folder of two clips beside it."""
    root = tmp_path_factory.mktemp("decode")
    make_data_dir(root / "test", 2)
    (root / "exp").mkdir()
    config = {"model_conf": CONFIG["model_conf"], "token_list": TOKENS, "token_type": "char"}
    config["best_model_criterion"] = CONFIG["best_model_criterion"]
    (root / "exp/config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    torch.manual_seed(0)
    torch.save(AVSRModel(vocab_size=len(TOKENS), **CONFIG["model_conf"]).state_dict(), root / "exp" / WEIGHTS)
    return root


def command(root, *words):
    options = ["--train_dir", root / "exp", "--data_dirs", root / "test", "--output_dir", root / "out dir", *words]
    return [str(word) for word in options]


def test_what_was_decoded_with_what(experiment):
    words = command(experiment, "--modalities", "audio", "--beam_size", 1)
    avsr_infer.main(words)
    folder = experiment / "out dir/audio/test"
    assert list(read_text(folder / "text", allow_empty=True)) == list(read_text(experiment / "test/text"))
    facts = json.loads((folder / "infer.json").read_text())
    assert facts["checkpoint"] == WEIGHTS
    assert shlex.split(facts["command"]) == ["python", "-m", "espnet_av.bin.avsr_infer", *words]
    assert facts["num_utterances"] == 2 and facts["beam_size"] == 1
    (experiment / "exp" / WEIGHTS).with_name("other.pth").write_bytes((experiment / "exp" / WEIGHTS).read_bytes())
    avsr_infer.main(command(experiment, "--modalities", "audio", "--beam_size", 1, "--weights", "other.pth"))
    assert json.loads((folder / "infer.json").read_text())["checkpoint"] == "other.pth"


def cut(weights):
    return {name: tensor[..., :1] if tensor.dim() > 1 else tensor for name, tensor in weights.items()}


def rename(weights):
    return {f"x.{name}": tensor for name, tensor in weights.items()}


@pytest.mark.parametrize(("change", "message"), [(cut, "of another shape"), (rename, "keys are unknown")])
def test_weights_of_another_model_are_refused(experiment, change, message):
    weights = torch.load(experiment / "exp" / WEIGHTS, weights_only=True)
    torch.save(change(weights), experiment / "exp/foreign.pth")
    words = command(experiment, "--output_dir", experiment / "foreign", "--weights", "foreign.pth")
    with pytest.raises(CheckpointError, match=rf"foreign\.pth is of another model than .*config\.yaml: .*{message}"):
        avsr_infer.main(words)
    assert not (experiment / "foreign").exists()


def test_a_data_folder_that_lacks_a_clip_leaves_nothing(experiment, tmp_path):
    data = make_data_dir(tmp_path / "test", 2)
    (data.path / "media/s1-001.npy").unlink()
    words = command(experiment, "--data_dirs", data.path, "--output_dir", tmp_path / "out")
    with pytest.raises(DataError, match=r"utterance 's1-001', video .*s1-001\.npy"):
        avsr_infer.main(words)
    assert not (tmp_path / "out").exists()
