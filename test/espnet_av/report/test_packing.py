# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Packing: the weights come back, nothing of this machine goes out, and licences are kept."""

import json
import re
import shutil
import tarfile

import pytest
import torch
import yaml

from espnet_av.avsr.inference import AVSR, find_weights
from espnet_av.report.packing import (
    LicenceConflict,
    PackOptions,
    choose_checkpoint,
    pack_experiment,
    portable_config,
    verify_pack,
)
from espnet_av.report.sections import build_network
from espnet_av.train.loading import load_into, load_weights
from espnet_av.utils.errors import CheckpointError, DataError, MissingDataError, UsageError


@pytest.fixture
def trained(experiment):
    """The experiment with checkpoints of a small network; returns (experiment, network)."""
    torch.manual_seed(0)
    network = build_network(experiment.config())
    state = {f"avsr.{key}": value for key, value in network.state_dict().items()}
    torch.save(state, experiment.exp_dir / "valid.acc.ave_2best.pth")
    torch.save({key: value + 1 for key, value in state.items()}, experiment.exp_dir / "valid.acc.best.pth")
    return experiment, network


def test_round_trip(trained):
    experiment, network = trained
    folder = pack_experiment(experiment.exp_dir, experiment.exp_dir / "pack", experiment.dump_dir)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.yaml",
        "meta.json",
        "model.safetensors",
        "tokens.txt",
    ]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["token_list"] == experiment.config()["token_list"] == (folder / "tokens.txt").read_text().splitlines()
    assert config["bpemodel"] is None and config["token_type"] == "char"
    torch.manual_seed(1)
    other = build_network(config)
    state = load_weights(folder / "model.safetensors")
    assert all(key.startswith("avsr.") for key in state)
    load_into(other, {key.removeprefix("avsr."): value for key, value in state.items()}, strict=True)
    loaded = AVSR.from_pretrained(folder)
    assert loaded.tokenizer.tokens == config["token_list"]
    for key, value in network.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key
        assert torch.equal(value, loaded.model.state_dict()[key]), key


def test_meta_and_digests(trained):
    experiment, network = trained
    folder = pack_experiment(experiment.exp_dir, experiment.exp_dir / "pack", experiment.dump_dir)
    meta = verify_pack(folder)
    assert meta["class"] == "espnet_av.avsr.inference:AVSR" and meta["seed"] == 17
    assert meta["weights"]["source"] == "valid.acc.ave_2best.pth"
    assert meta["complexity"]["num_parameters"] == sum(p.numel() for p in network.parameters())
    assert meta["results"]["rows"][0]["wer"] == pytest.approx(0.1)
    assert [item["licence"] for item in meta["licences"] if item["trained_on"]] == ["CC-BY-4.0"]
    with (folder / "tokens.txt").open("a") as stream:
        stream.write("X\n")
    with pytest.raises(DataError, match="tokens.txt is not what was packed"):
        verify_pack(folder)
    (folder / "tokens.txt").unlink()
    with pytest.raises(MissingDataError, match="tokens.txt is missing"):
        verify_pack(folder)


def test_nothing_of_this_machine_is_packed(trained):
    experiment, _ = trained
    experiment.write_config(preprocessor_conf={"crop_size": 40, "audio_augment": {"noise_scp": "/data/noise.scp"}})
    folder = pack_experiment(experiment.exp_dir, experiment.exp_dir / "pack", experiment.dump_dir)
    for name in ("README.md", "config.yaml", "meta.json"):
        text = (folder / name).read_text()
        assert str(experiment.exp_dir) not in text and "do-not-show-me" not in text and "/data/" not in text
        assert not re.search(r"(?<![\w.:/])/(tmp|work|home|root|data)/", text), name
    assert yaml.safe_load((folder / "config.yaml").read_text())["preprocessor_conf"] == {"crop_size": 40}


def test_paths_that_must_stay_are_refused(experiment):
    config = experiment.config()
    config["model_conf"] = {"encoder_conf": {"init": ["a", "/nas/model.pth"]}}
    with pytest.raises(DataError, match="model_conf holds a path of this machine.*'/nas/model.pth'"):
        portable_config(config, config["token_list"])
    assert portable_config({**config, "model_conf": {}}, ["/", "~"])["token_list"] == ["/", "~"]  # tokens are no paths


def test_model_card(trained):
    experiment, _ = trained
    folder = pack_experiment(experiment.exp_dir, experiment.exp_dir / "pack", experiment.dump_dir)
    text = (folder / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    card = yaml.safe_load(head)
    assert card["license"] == "apache-2.0" and card["library_name"] == "espnet" and "datasets" not in card
    result = card["model-index"][0]["results"][0]
    assert result["dataset"]["name"] == "test"
    assert result["metrics"][0] == {"type": "wer", "name": "WER (%), audio-visual", "value": 10.0}
    sections = re.findall(r"^## (.+)$", body, flags=re.MULTILINE)
    assert sections == [
        *("Use", "Limits", "Training data", "Metrics", "Latency and size", "How to reproduce", "Licence")
    ]
    for piece in (
        "10.0 [",
        "real-time factor 0.500",
        "made by a test",
        "On 4 clips of silent faces it invented 2 words",
    ):
        assert piece in body, piece


def test_packed_weights_are_those_that_are_decoded(trained):
    experiment, _ = trained
    config = experiment.config()
    shutil.copy(experiment.exp_dir / "valid.acc.ave_2best.pth", experiment.exp_dir / "valid.acc.ave.pth")
    torch.save({}, experiment.exp_dir / "valid.loss.ave.pth")
    decoded = find_weights(experiment.exp_dir, criteria=config["best_model_criterion"])
    packed = choose_checkpoint(experiment.exp_dir, config, "ave")
    assert decoded.read_bytes() == packed.read_bytes()


def test_choice_of_the_checkpoint(trained):
    experiment, _ = trained
    folder, config = experiment.exp_dir, experiment.config()
    for name in ("valid.acc.ave_10best.pth", "valid.loss.ave_20best.pth", "3epoch.pth"):
        (folder / name).write_bytes(b"")
    assert choose_checkpoint(folder, config, "ave").name == "valid.acc.ave_10best.pth"  # numbers, not letters
    assert choose_checkpoint(folder, config, "best").name == "valid.acc.best.pth"
    assert choose_checkpoint(folder, config, "3epoch.pth").name == "3epoch.pth"
    assert choose_checkpoint(folder, {}, "ave").name == "valid.loss.ave_20best.pth"
    with pytest.raises(MissingDataError, match="no such checkpoint; got '9epoch.pth'; allowed: 3epoch.pth"):
        choose_checkpoint(folder, config, "9epoch.pth")
    for path in folder.glob("*.ave_*"):
        path.unlink()
    assert choose_checkpoint(folder, config, "ave").name == "valid.acc.best.pth"
    (folder / "valid.acc.best.pth").unlink()
    with pytest.raises(MissingDataError, match="no checkpoint to pack.*--stage 5"):
        choose_checkpoint(folder, config, "ave")


def test_repacking_replaces_only_a_pack(trained):
    experiment, _ = trained
    target = experiment.exp_dir / "pack"
    first = pack_experiment(experiment.exp_dir, target, experiment.dump_dir)
    pack_experiment(experiment.exp_dir, target, experiment.dump_dir, PackOptions(checkpoint="best"))
    assert verify_pack(first)["weights"]["source"] == "valid.acc.best.pth"
    mine = experiment.exp_dir / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="no packed model"):
        pack_experiment(experiment.exp_dir, mine, experiment.dump_dir)
    assert (mine / "thesis.tex").exists()
    assert [path.name for path in experiment.exp_dir.iterdir() if path.name.startswith(".")] == []


def test_failure_leaves_the_earlier_pack(trained):
    experiment, _ = trained
    target = pack_experiment(experiment.exp_dir, experiment.exp_dir / "pack", experiment.dump_dir)
    before = (target / "meta.json").read_bytes()
    (experiment.exp_dir / "valid.acc.ave_2best.pth").write_bytes(b"broken")
    with pytest.raises(CheckpointError):
        pack_experiment(experiment.exp_dir, target, experiment.dump_dir)
    assert (target / "meta.json").read_bytes() == before
    verify_pack(target)
    assert [path.name for path in experiment.exp_dir.iterdir() if path.name.startswith(".")] == []


def test_conflicting_licences_are_refused(trained):
    experiment, _ = trained
    experiment.write_meta("train", licence="CC-BY-NC-4.0")
    target = experiment.exp_dir / "pack"
    with pytest.raises(LicenceConflict, match="'CC-BY-NC-4.0' is non-commercial, 'Apache-2.0' is not.*--licence"):
        pack_experiment(experiment.exp_dir, target, experiment.dump_dir)
    assert not target.exists()
    pack_experiment(experiment.exp_dir, target, experiment.dump_dir, PackOptions(licence="CC-BY-NC-4.0"))
    experiment.write_meta("train", licence="no redistribution")
    with pytest.raises(LicenceConflict, match="does not allow"):
        pack_experiment(experiment.exp_dir, target, experiment.dump_dir, PackOptions(licence="CC-BY-NC-4.0"))
    experiment.write_meta("train", licence="CC0")
    experiment.write_meta("test", licence="no redistribution")  # tested on, not trained on
    pack_experiment(experiment.exp_dir, target, experiment.dump_dir)


def test_unknown_licences_ask_for_one_by_name(trained, monkeypatch, caplog):
    experiment, _ = trained
    config, target = experiment.config(), experiment.exp_dir / "pack"
    local = [["dump/train/wav.scp", "speech", "sound"]]
    experiment.write_config(train_data_path_and_name_and_type=local)
    experiment.write_meta("train", licence="CC BY-NC 4.0")
    monkeypatch.chdir("/")
    with pytest.raises(LicenceConflict, match="non-commercial"):
        pack_experiment(experiment.exp_dir, target)
    shutil.rmtree(experiment.dump_dir)
    with pytest.raises(LicenceConflict, match=r"not known.*train: 'not stated' \(no data.json was found\).*--licence"):
        pack_experiment(experiment.exp_dir, target)
    assert not target.exists()
    pack_experiment(experiment.exp_dir, target, None, PackOptions(licence="MIT"))
    assert "training data is not known: train: 'not stated'" in caplog.text
    meta = verify_pack(target)
    assert meta["licence"] == "MIT" and meta["unknown_licences"] == ["not stated"]
    assert "no data.json was found" in (target / "README.md").read_text()
    unknown = {key: [] for key in config if key.endswith("_data_path_and_name_and_type")}
    experiment.write_config(**unknown)
    with pytest.raises(LicenceConflict, match="no training data"):
        pack_experiment(experiment.exp_dir, target)


@pytest.mark.parametrize("licence", ["", "  "])
def test_a_licence_has_a_name(trained, licence):
    experiment, _ = trained
    with pytest.raises(UsageError, match="a licence needs a name"):
        pack_experiment(experiment.exp_dir, experiment.exp_dir / "pack", None, PackOptions(licence=licence))


def test_weights_of_another_model_are_not_packed(trained):
    experiment, network = trained
    state = {f"avsr.{key}": value for key, value in network.state_dict().items()}
    state.pop(next(iter(state)))
    torch.save(state, experiment.exp_dir / "foreign.pth")
    with pytest.raises(CheckpointError, match="foreign.pth is of another model than .*config.yaml.*--checkpoint"):
        pack_experiment(experiment.exp_dir, experiment.exp_dir / "pack", None, PackOptions(checkpoint="foreign.pth"))
    assert not (experiment.exp_dir / "pack").exists()


def test_shared_tensors_and_token_files(trained, monkeypatch):
    experiment, network = trained
    tied = {f"avsr.{key}": value.clone() for key, value in network.state_dict().items()}
    square = next(key for key, value in tied.items() if value.ndim == 2 and value.shape[0] == value.shape[1])
    first, second = [key for key, value in tied.items() if value.shape == tied[square].shape][:2]
    tied[second] = tied[first] = torch.cat([tied[square]] * 2, dim=1)[:, : len(tied[square])]
    torch.save(tied, experiment.exp_dir / "tied.pth")
    tokens = experiment.exp_dir / "tokens.txt"
    tokens.write_text("\n".join(experiment.config()["token_list"]) + "\n")
    (experiment.exp_dir / "sp.model").write_bytes(b"model")
    experiment.write_config(token_list=str(tokens), bpemodel=str(experiment.exp_dir / "sp.model"))
    options = PackOptions(checkpoint="tied.pth", archive=True, name="tied")
    folder = pack_experiment(experiment.exp_dir, experiment.exp_dir / "pack", None, options)
    state = load_weights(folder / "model.safetensors")
    assert all(torch.equal(state[key], value) for key, value in tied.items())
    assert (folder / "bpe.model").read_bytes() == b"model"
    assert yaml.safe_load((folder / "config.yaml").read_text())["bpemodel"] == "bpe.model"
    assert json.loads((folder / "meta.json").read_text())["name"] == "tied"


def test_archive_is_the_same_twice(trained, monkeypatch):
    experiment, _ = trained
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setattr("espnet_av.utils.source._git", lambda *arguments: None)  # it may change meanwhile
    archive = experiment.exp_dir / "pack.tar.gz"
    contents = []
    for _ in range(2):
        pack_experiment(experiment.exp_dir, experiment.exp_dir / "pack", experiment.dump_dir, PackOptions(archive=True))
        contents.append(archive.read_bytes())
    assert contents[0] == contents[1]
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        assert names == sorted(names) and names[0] == "pack/README.md"
        assert all(entry.mtime == 0 and entry.mode == 0o644 and not entry.uname for entry in tar)


def test_no_training(experiment):
    (experiment.exp_dir / "config.yaml").unlink()
    with pytest.raises(MissingDataError, match="--stage 5"):
        pack_experiment(experiment.exp_dir, experiment.exp_dir / "pack")


def test_weights_that_were_decoded_are_told_apart_by_what_they_hold(trained, caplog):
    experiment, _ = trained
    used = experiment.exp_dir / "decode" / "av" / "test" / "infer.json"
    shutil.copy(experiment.exp_dir / "valid.acc.ave_2best.pth", experiment.exp_dir / "valid.acc.ave.pth")
    for name, warned in (("valid.acc.ave.pth", False), ("valid.acc.best.pth", True)):
        caplog.clear()
        used.write_text(json.dumps({**json.loads(used.read_text()), "checkpoint": name}))
        pack_experiment(experiment.exp_dir, experiment.exp_dir / "pack", experiment.dump_dir)
        assert (f"was decoded with {name}" in caplog.text) == warned
