# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Conversion of small random separators and front ends, both ways, by function and on the command line."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from espnet_av.avss.convert import from_rtfsnet, to_rtfsnet
from espnet_av.avss.convtasnet import ESPNET, TORCHAUDIO, ConvTasNet
from espnet_av.avss.convtasnet_names import to_espnet
from espnet_av.avss.inference import Separator
from espnet_av.avss.lip_embedding import LipEmbedder
from espnet_av.avss.published import is_ours, load_network, read_published
from espnet_av.avss.rtfsnet import RTFSNet
from espnet_av.bin import convert
from espnet_av.utils.errors import CheckpointError, UsageError

SMALL = {
    "repeats": 2, "channels": 8, "hidden": 4, "rnn_hidden": 3, "rnn_layers": 2, "attn_heads": 2, "attn_qk_channels": 2,
    "video_dim": 16, "video_hidden": 4, "video_depth": 2, "video_heads": 2, "video_ffn": 6, "caf_heads": 2,
}  # fmt: skip
UNTOLD = {key: SMALL[key] for key in ("repeats", "video_heads")}
CONVTASNET = {"filters": 16, "kernel": 8, "bottleneck": 6, "hidden": 8, "layers": 2, "stacks": 3}


def rtfsnet(**options) -> RTFSNet:
    torch.manual_seed(0)
    return RTFSNet(**{**SMALL, **options}).eval()


def run(*command: object) -> None:
    convert.main([str(word) for word in command])


def conf_options(conf: dict) -> list[str]:
    return [word for key, value in conf.items() for word in ("--model_conf", f"{key}={value}")]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("projection_norm", [True, False])
@pytest.mark.parametrize("container", ["best_model", "lightning"])
def test_rtfsnet_there_and_back(tmp_path, capsys, projection_norm, container):
    network = rtfsnet(projection_norm=projection_norm)
    official = to_rtfsnet(network.state_dict())
    assert "no_video" not in official and sum(key.endswith("scale_x") for key in official) == 2 * SMALL["rnn_layers"]
    args = {"refinement_module": {"audio_params": {"repeats": 2}}}
    if container == "best_model":
        infos = {"software_versions": {"torch_version": torch.__version__}}
        content = {"model_name": "AVNet", "state_dict": official, "model_args": args, "infos": infos}
    else:
        state = {f"audio_model.{key}": value for key, value in official.items()}
        state["video_model.frontend3D.0.weight"] = torch.zeros(1)
        content = {"state_dict": state, "epoch": 3, "hyper_parameters": args}
    torch.save(content, tmp_path / "theirs.pth")
    run("rtfsnet", tmp_path / "theirs.pth", tmp_path / "ours", *conf_options({"video_heads": 2}))
    told = capsys.readouterr().out
    assert "0 missing, 0 unexpected, 0 of another shape" in told and '"repeats": 2' in told
    assert f'"projection_norm": {json.dumps(projection_norm)}' in told
    assert ("dropped 1: lip-reading front end" in told) is (container == "lightning")

    separator = Separator.from_pretrained(tmp_path / "ours")
    assert same(separator.network.state_dict(), network.state_dict()) and separator.peak is None
    mix, lips = torch.randn(1, 3200), torch.randn(1, 5, 16)
    with torch.inference_mode():
        torch.testing.assert_close(separator.network(mix, lips), network(mix, lips), atol=0, rtol=0)

    run("ours", tmp_path / "ours", tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert back["model_name"] == "AVNet" and same(back["state_dict"], official)
    run("ours", tmp_path / "ours", tmp_path / "back.safetensors", "--to", "rtfsnet")
    assert same(load_file(tmp_path / "back.safetensors"), official)


def test_files_without_counters_are_whole():
    network = rtfsnet()
    official = {k: v for k, v in to_rtfsnet(network.state_dict()).items() if not k.endswith("num_batches_tracked")}
    state, report = from_rtfsnet(official)
    assert state.keys() == network.state_dict().keys() - {"no_video"}
    assert len(report.dropped) == 2 * SMALL["rnn_layers"] + 1


@pytest.mark.parametrize("name", ["missing", "extra", "shape"])
def test_rtfsnet_misfits_are_named_and_nothing_is_written(tmp_path, name):
    official = to_rtfsnet(rtfsnet().state_dict())
    key = "refinement_module.audio_net.blocks.fusion_layers.0.global_gate.full_layer.2.weight"
    if name == "missing":
        del official[key]
    elif name == "extra":
        official["decoder.extra"] = torch.zeros(1)
    else:
        official[key] = official[key][:-1]
    torch.save(official, tmp_path / "bad.pth")
    message = {"missing": f"1 missing .{key}", "extra": "1 unexpected .decoder.extra", "shape": "1 of another shape"}
    with pytest.raises(CheckpointError, match=message[name]):
        run("rtfsnet", tmp_path / "bad.pth", tmp_path / "ours", *conf_options(UNTOLD), "--report", tmp_path / "r.json")
    assert not (tmp_path / "ours").exists()
    assert len(json.loads((tmp_path / "r.json").read_text())["dropped"]) == 2 * SMALL["rnn_layers"] + 1


def test_other_networks_are_refused(tmp_path):
    torch.save({"encoder.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="not an RTFS-Net checkpoint; got 'encoder.weight'"):
        read_published("rtfsnet", tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="names of another program|incomplete"):
        read_published("convtasnet_espnet", tmp_path / "other.pth")
    torch.save(to_rtfsnet(rtfsnet().state_dict()), tmp_path / "rtfs.pth")
    with pytest.raises(UsageError, match="model_conf does not fit RTFSNet.*heads_of_video"):
        read_published("rtfsnet", tmp_path / "rtfs.pth", {"heads_of_video": 2})
    with pytest.raises(UsageError, match="cannot be written as avhubert"):
        run("rtfsnet", tmp_path / "rtfs.pth", tmp_path / "x", "--to", "avhubert")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds something that is no conversion"):
        run("rtfsnet", tmp_path / "rtfs.pth", tmp_path / "full", *conf_options(UNTOLD))


def test_front_end_there_and_back(tmp_path, capsys):
    torch.manual_seed(0)
    embedder = LipEmbedder(activation="swish", stem_channels=4, planes=(4, 5, 6, 7))
    state = {**embedder.net.state_dict(), "tcn.tcn_output.bias": torch.zeros(5)}
    torch.save({"model_state_dict": state, "epoch_idx": 1}, tmp_path / "lrw.pth")
    run("lipreading", tmp_path / "lrw.pth", tmp_path / "front.safetensors")
    assert "dropped 1: word classifier" in capsys.readouterr().out
    loaded = LipEmbedder.from_pretrained(tmp_path / "front.safetensors")
    assert loaded.digest() == embedder.digest() and loaded.name == "lrw.pth"
    assert is_ours(tmp_path / "front.safetensors") and not is_ours(tmp_path / "lrw.pth")
    run("ours", tmp_path / "front.safetensors", tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert same(back["model_state_dict"], embedder.net.state_dict())
    with pytest.raises(CheckpointError, match="no slopes of PReLU"):
        run("lipreading", tmp_path / "lrw.pth", tmp_path / "x.safetensors", "--model_conf", "activation=prelu")
    with pytest.raises(UsageError, match="OUT of a front end is a file"):
        run("lipreading", tmp_path / "lrw.pth", tmp_path / "folder")
    with pytest.raises(UsageError, match="has no form 'rtfsnet'; allowed: lipreading"):
        run("ours", tmp_path / "front.safetensors", tmp_path / "x.pth", "--to", "rtfsnet")
    assert not any((tmp_path / name).exists() for name in ("x.pth", "x.safetensors", "folder"))


@pytest.mark.parametrize("variant", ["torchaudio", "espnet", "ours"])
def test_convtasnet_there_and_back(tmp_path, variant):
    torch.manual_seed(0)
    network = ConvTasNet(**CONVTASNET, **{"torchaudio": TORCHAUDIO, "espnet": ESPNET, "ours": {}}[variant])
    kind = "convtasnet_espnet" if variant == "espnet" else "convtasnet"
    state = network.state_dict()
    theirs = to_espnet(state, layers=2) if variant == "espnet" else state
    torch.save(theirs, tmp_path / "theirs.pth")
    run(kind, tmp_path / "theirs.pth", tmp_path / "ours", "--model_conf", "layers=2")
    separator = Separator.from_pretrained(tmp_path / "ours")
    mix = torch.randn(2, 400)
    with torch.inference_mode():
        torch.testing.assert_close(separator.network(mix), network.eval()(mix))
    run("ours", tmp_path / "ours", tmp_path / "back.pth", "--to", kind)
    assert same(torch.load(tmp_path / "back.pth", weights_only=True), theirs)
    wrong = "convtasnet" if variant == "espnet" else "convtasnet_espnet"
    with pytest.raises(CheckpointError, match=f"names of another program.*convert it as {kind}"):
        run(wrong, tmp_path / "theirs.pth", tmp_path / "x")


def test_networks_load_without_writing_them(tmp_path):
    network = rtfsnet()
    torch.save(to_rtfsnet(network.state_dict()), tmp_path / "rtfs.pth")
    loaded = load_network(read_published("rtfsnet", tmp_path / "rtfs.pth", UNTOLD))
    assert same(loaded.state_dict(), network.state_dict()) and not loaded.training


def test_packs_of_recognisers_are_not_ours(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("model: avsr\n")
    assert not is_ours(tmp_path) and not is_ours(tmp_path / "absent")
