# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Packing of a separator: the weights come back, its front end goes along, its card tells what it can do."""

import json

import pytest
import torch
import yaml

from espnet_av.avss.inference import Separator
from espnet_av.avss.lip_embedding import LipEmbedder
from espnet_av.report.packing import LicenceConflict, PackOptions, pack_experiment, verify_pack
from espnet_av.report.sections import build_network
from espnet_av.utils.errors import DataError, UsageError


@pytest.fixture
def trained(separated):
    """The experiment with a checkpoint of its small network."""
    torch.manual_seed(0)
    network = build_network(separated.config())
    state = {f"avss.network.{key}": value for key, value in network.state_dict().items()}
    torch.save(state, separated.exp_dir / "valid.si_snri.ave_2best.pth")
    return separated, network


def pack(separated, **options):
    return pack_experiment(separated.exp_dir, separated.exp_dir / "pack", separated.dump_dir, PackOptions(**options))


def test_round_trip(trained):
    separated, network = trained
    folder = pack(separated)
    assert sorted(path.name for path in folder.iterdir()) == [
        *("README.md", "config.yaml", "meta.json", "model.safetensors")
    ]
    meta = verify_pack(folder)
    assert (meta["task"], meta["class"]) == ("avss", "espnet_av.avss.inference:Separator")
    assert meta["complexity"]["num_parameters"] == sum(p.numel() for p in network.parameters())
    assert meta["lips"]["dim"] == 16 and meta["results"]["rows"][0]["lips"] == "own"
    separator = Separator.from_pretrained(folder)
    assert separator.peak == 0.9 and separator.lips.digest == "ab" * 32
    for key, value in network.state_dict().items():
        assert torch.equal(value, separator.network.state_dict()[key]), key


def test_nothing_of_this_machine_is_packed(trained):
    separated, _ = trained
    folder = pack(separated)
    for name in ("README.md", "config.yaml", "meta.json"):
        text = (folder / name).read_text()
        assert str(separated.exp_dir) not in text and "/data/" not in text, name
    assert yaml.safe_load((folder / "config.yaml").read_text())["preprocessor_conf"] == {
        "peak": 0.9,
        "segment_sec": 2.0,
    }


def test_card(trained):
    separated, _ = trained
    _, head, body = (pack(separated) / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(head)
    assert card["pipeline_tag"] == "audio-to-audio" and card["metrics"] == ["si_snri"]
    result = card["model-index"][0]["results"]
    assert len(result) == 1  # wrong lips are no result to be proud of
    assert result[0]["dataset"]["name"] == "test" and result[0]["metrics"][0]["type"] == "si_snri"
    for piece in ("Separator.from_pretrained", "lips of a test", "--lip_frontend FILE", "| test | lips swapped |"):
        assert piece in body, piece


def test_card_of_a_network_without_lips(trained):
    separated, _ = trained
    content = json.loads((separated.exp_dir / "results.json").read_text())
    content["rows"] = [{**content["rows"][0], "lips": "audio"}]
    (separated.exp_dir / "results.json").write_text(json.dumps(content))
    separated.write_config(lips=None)
    body = (pack(separated) / "README.md").read_text()
    assert 'voices = separator("mix.wav")' in body and "lip_frontend" not in body
    with pytest.raises(UsageError, match="does not look at lips"):
        pack(separated, lip_frontend="random:0")


def test_front_end_goes_along(trained, tmp_path):
    separated, _ = trained
    embedder = LipEmbedder.from_pretrained("random:0")
    separated.write_config(lips=embedder.describe().to_dict())
    folder = pack(separated, lip_frontend="random:0")
    meta = verify_pack(folder)
    assert meta["lip_front_end"] == "lip_front_end.safetensors" and meta["lip_front_end"] in meta["files"]
    assert LipEmbedder.from_pretrained(folder / "lip_front_end.safetensors").digest() == embedder.digest()
    with pytest.raises(DataError, match="another front end"):
        pack(separated, lip_frontend="random:1")


def test_licence_of_the_front_end_counts(trained, tmp_path):
    separated, _ = trained
    reader = tmp_path / "reader"
    reader.mkdir()
    (reader / "meta.json").write_text(json.dumps({"licence": "CC-BY-NC-4.0"}))
    with pytest.raises(LicenceConflict, match="non-commercial"):
        pack(separated, lip_frontend=f"avsr:{reader}")
    assert not (separated.exp_dir / "pack").exists()
