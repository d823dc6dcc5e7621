# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Published checkpoints of the codec: there and back, names of older torch, and what is refused."""

import json

import pytest
import torch
import yaml
from torch import Tensor

from espnet_av.bin import convert as command
from espnet_av.codec.choices import build_generator
from espnet_av.codec.convert import load_generator, read_ours, read_published
from espnet_av.codec.generator import CodecGenerator
from espnet_av.codec.model import CodecModel
from espnet_av.codec.names import MEL_CONSTANTS, NORMS, to_published
from espnet_av.utils.errors import CheckpointError, UsageError


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = CodecModel(CodecGenerator.from_preset("tiny"))
    return to_published({f"codec.{name}": tensor for name, tensor in model.state_dict().items()})


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def run(*words: object) -> None:
    command.main([str(word) for word in words])


def test_there_and_back(tmp_path, published, capsys):
    torch.save(published, tmp_path / "theirs.pth")
    run("lrac", tmp_path / "theirs.pth", tmp_path / "ours", "--report", tmp_path / "report.json")
    told = capsys.readouterr().out
    assert "0 missing, 0 unexpected, 0 of another shape" in told
    assert f"dropped {len(MEL_CONSTANTS)}" in told
    assert set(json.loads((tmp_path / "report.json").read_text())["dropped"]) == set(MEL_CONSTANTS)
    run("ours", tmp_path / "ours", tmp_path / "back.pth")
    assert same(torch.load(tmp_path / "back.pth", weights_only=True), published)
    config = yaml.safe_load((tmp_path / "ours" / "config.yaml").read_text())
    _, name, state = read_ours(tmp_path / "ours")
    generator = build_generator(name, config["model_conf"])
    prefix = "codec.generator."
    generator.load_state_dict({n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)})


@pytest.mark.parametrize("wrapped", [False, True])
def test_names_of_older_torch(tmp_path, published, wrapped):
    old = dict(published)
    for before, after in NORMS.items():
        old = {name.replace(after, before): tensor for name, tensor in old.items()}
    assert not same(old, published)
    if wrapped:
        old = {"model": {f"module.{name}": tensor for name, tensor in old.items()}, "epoch": 3}
    torch.save(old, tmp_path / "old.pth")
    run("lrac", tmp_path / "old.pth", tmp_path / "new.pth", "--to", "lrac")
    assert same(torch.load(tmp_path / "new.pth", weights_only=True), published)


def test_the_codec_alone(tmp_path, published):
    prefix = "codec."
    alone = {n.removeprefix(prefix): t for n, t in published.items() if n.startswith("codec.generator.")}
    torch.save(alone, tmp_path / "alone.pth")
    converted = read_published(tmp_path / "alone.pth")
    assert converted.model_conf["latent_dim"] == 12
    generator = load_generator(converted)
    assert not generator.training
    assert same({f"generator.{n}": t for n, t in generator.state_dict().items()}, alone)
    assert same(to_published(converted.state), {prefix + n: t for n, t in alone.items()})


def test_misfits(tmp_path, published):
    path = tmp_path / "theirs.pth"
    lacking = dict(published)
    missing = next(name for name in lacking if name.endswith("project_in.weight"))
    lacking.pop(missing)
    torch.save(lacking, path)
    with pytest.raises(CheckpointError, match="1 missing"):
        read_published(path)
    assert read_published(path, strict=False).fit.missing == [missing]
    torch.save(published, path)
    with pytest.raises(CheckpointError, match="of another shape"):
        read_published(path, {"preset": "track1"})
    torch.save({"encoder.weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of the codec"):
        read_published(path)


def test_exporting_what_does_not_fit(tmp_path, published):
    torch.save(published, tmp_path / "theirs.pth")
    run("lrac", tmp_path / "theirs.pth", tmp_path / "ours")
    with pytest.raises(UsageError, match="no such form"):
        run("ours", tmp_path / "ours", tmp_path / "x.pth", "--to", "rtfsnet")
    with pytest.raises(UsageError, match="cannot be written"):
        run("lrac", tmp_path / "theirs.pth", tmp_path / "x", "--to", "encoder")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(UsageError, match="no conversion"):
        run("lrac", tmp_path / "theirs.pth", tmp_path / "full")
    config = tmp_path / "ours" / "config.yaml"
    conf = yaml.safe_load(config.read_text())
    conf["model_conf"] = {"preset": "track1"}
    config.write_text(yaml.safe_dump(conf))
    with pytest.raises(CheckpointError, match="another model"):
        run("ours", tmp_path / "ours", tmp_path / "x.pth")
