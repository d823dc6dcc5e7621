# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""auto_avsr through the command lines: train, decode, start from a converted encoder."""

import copy
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "avsr"))
from auto_avsr_small import CONF, make_auto_avsr
from avsr_data import CONFIG, train_command

from espnet_av.avsr.convert_auto_avsr import to_auto_avsr
from espnet_av.bin import avsr_infer, avsr_train, convert
from espnet_av.data.data_dir import read_text
from espnet_av.tasks.avsr import AVSRTask
from espnet_av.utils.errors import UsageError


def config(**encoder) -> dict:
    """Return a training configuration of one step; keywords go to the encoder."""
    conf = copy.deepcopy({**CONFIG, "model": "auto_avsr", "model_conf": CONF, "max_epoch": 1, "max_steps": 1})
    conf["model_conf"]["encoder_conf"].update(encoder)
    return conf


def decode(root: Path, modality: str) -> Path:
    folders = ["--train_dir", str(root / "exp"), "--data_dirs", str(root / "valid"), "--output_dir", str(root / "dec")]
    avsr_infer.main([*folders, "--modalities", modality, "--beam_size", "1"])
    return root / "dec" / modality / "valid"


@pytest.mark.parametrize("modality", ["av", "audio", "video"])
def test_train_and_decode(tmp_path, modality):
    avsr_train.main(train_command(tmp_path, tmp_path / "exp", config(modality=modality)))
    row = json.loads((tmp_path / "exp/history.jsonl").read_text().splitlines()[0])
    assert {"loss", "loss_ctc", "loss_att", "acc", "wer_ctc"} <= set(row["valid"])
    folder = decode(tmp_path, modality)
    assert list(read_text(folder / "text", allow_empty=True)) == list(read_text(tmp_path / "valid/text"))
    if modality != "av":
        with pytest.raises(UsageError, match=f"got 'av'; allowed: {modality}"):
            decode(tmp_path, "av")


def test_depth_of_layers():
    model = torch.nn.ModuleDict({"avsr": make_auto_avsr(audio_conf={"num_layers": 3})})
    depth = AVSRTask.depth_rule(model)
    found: dict[int, set[str]] = {}
    for name, _ in model.named_parameters():
        part = ".".join(name.split(".")[1:4])
        found.setdefault(depth(name), set()).add(part if ".encoders." not in name else "layer")
    assert found[0] == {f"encoder.{s}.{part}" for s in ("video", "audio") for part in ("frontend", "embed")}
    assert found[1] == found[2] == found[3] == {"layer"}
    assert "encoder.fusion.fc1" in found[4] and "ctc.ctc_lo.weight" in found[4] and len(found) == 5


def test_new_decoder_on_a_converted_encoder(tmp_path):
    published = to_auto_avsr(make_auto_avsr(40).state_dict())
    torch.save(published, tmp_path / "theirs.pth")
    heads = ["--model_conf", "decoder_conf.num_heads=2"]
    encoder = tmp_path / "encoder.safetensors"
    convert.main(["auto_avsr", str(tmp_path / "theirs.pth"), str(encoder), "--to", "encoder", *heads])
    command = train_command(tmp_path, tmp_path / "exp", config())
    avsr_train.main([*command, "--init_param", f"{encoder}:avsr.encoder", "--optim_conf", "lr=0.0"])
    trained = torch.load(tmp_path / "exp/1epoch.pth", weights_only=True)
    start = load_file(encoder)
    fixed = [key for key in start if "running" not in key and "tracked" not in key]
    assert fixed and all(torch.equal(trained[key], start[key]) for key in fixed)
    assert trained["avsr.ctc.ctc_lo.bias"].shape != published["ctc.ctc_lo.bias"].shape
