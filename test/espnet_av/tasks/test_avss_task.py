# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The separation task through its command line: train, go on, start from weights, and refuse what is wrong."""

import copy
import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from avss_data import CONFIG, WIDTH, train_command

from espnet_av.bin import avss_train
from espnet_av.data.data_dir import DataDir
from espnet_av.tasks.avss import AVSSTask
from espnet_av.utils.errors import CheckpointError, DataError, UsageError

CONVTASNET = {
    **CONFIG,
    "model": "convtasnet",
    "model_conf": {"filters": 16, "bottleneck": 8, "hidden": 8, "layers": 2, "stacks": 1},
    "loss_conf": {"terms": [{"name": "si_snr"}]},
    "preprocessor_conf": {"segment_sec": 0.4, "remix": {}},
    "max_epoch": 1,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("avss")
    command = train_command(root, root / "exp")
    avss_train.main(command)
    return root, command


def other(command, root, name, *more):
    changed = command.copy()
    changed[changed.index("--output_dir") + 1] = str(root / name)
    return [*changed, *more]


def test_training_leaves_a_whole_experiment(trained):
    root, _ = trained
    names = {path.name for path in (root / "exp").iterdir()}
    assert {"config.yaml", "checkpoint.pth", "history.jsonl", "valid.si_snri.ave.pth"} <= names
    history = [json.loads(line) for line in (root / "exp/history.jsonl").read_text().splitlines()]
    assert {"loss", "loss_snr", "si_snr", "si_snri"} <= set(history[0]["valid"])
    assert "si_snr" not in history[0]["train"]
    config = yaml.safe_load((root / "exp/config.yaml").read_text())
    assert config["lips"]["digest"] == "0" * 64 and config["model_conf"]["video_dim"] == WIDTH


def test_same_seed_gives_the_same_weights_and_workers_do_not_matter(trained):
    root, command = trained
    avss_train.main(other(command, root, "again", "--num_workers", "2"))
    first, second = (torch.load(root / name / "2epoch.pth", weights_only=True) for name in ("exp", "again"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_network_without_lips_trains_on_sound_alone(trained):
    root, _ = trained
    avss_train.main(train_command(root, root / "sound", CONVTASNET, with_lips=False))
    history = json.loads((root / "sound/history.jsonl").read_text().splitlines()[0])
    assert "si_snri" in history["valid"]
    assert not yaml.safe_load((root / "sound/config.yaml").read_text())["lips"]


@pytest.mark.parametrize("name", ["valid.si_snri.ave.pth", "plain.pth"])
def test_training_starts_from_weights(trained, name):
    root, command = trained
    weights = torch.load(root / "exp/valid.si_snri.ave.pth", weights_only=True)
    torch.save({key.removeprefix("avss.network."): value for key, value in weights.items()}, root / "exp/plain.pth")
    out = f"from_{name}"
    rest = ["--model_name_or_path", str(root / "exp" / name), "--max_steps", "1", "--optim_conf", "lr=0.0"]
    avss_train.main(other(command, root, out, *rest))
    new = torch.load(root / out / "1epoch.pth", weights_only=True)
    assert all(torch.equal(new[key], weights[key]) for key in new if "running" not in key and "tracked" not in key)


def test_weights_of_another_model_are_refused(trained):
    root, command = trained
    torch.save({"encoder.weight": torch.zeros(3)}, root / "other.pth")
    with pytest.raises(CheckpointError, match="does not fit RTFSNet"):
        avss_train.main(other(command, root, "bad", "--model_name_or_path", str(root / "other.pth")))


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        (["--model_conf", "repeat=3"], "model_conf"),
        (["--model_conf", "video_dim=16"], "width of the lip embeddings"),
        (["--loss_conf", "weights=1"], "loss_conf"),
        (["--loss_conf", "terms=[{name: sdr}]"], "si_snr"),
        (["--preprocessor_conf", "segment=2"], "segment_sec"),
        (["--batch_type", "numel"], "batch_frames"),
    ],
)
def test_wrong_settings_are_usage_errors(trained, override, hint):
    root, command = trained
    with pytest.raises(UsageError, match=hint):
        avss_train.main(other(command, root, "bad", *override))
    assert not (root / "bad" / "checkpoint.pth").exists()


def test_a_network_with_lips_needs_lips(trained):
    root, _ = trained
    with pytest.raises(UsageError, match=r"looks at lips.*convtasnet"):
        avss_train.main(train_command(root, root / "bad", with_lips=False))


def test_lips_of_two_front_ends_do_not_mix(trained):
    root, command = trained
    data = DataDir(root / "valid")
    meta = copy.deepcopy(data.meta)
    data.write_meta({**meta, "lips": {**meta["lips"], "digest": "1" * 64, "front_end": "another"}})
    try:
        with pytest.raises(DataError, match="another front end"):
            avss_train.main(other(command, root, "bad"))
    finally:
        data.write_meta(meta)


def test_errors_become_a_line_and_an_exit_code(trained, capsys):
    root, command = trained
    assert avss_train.run(other(command, root, "bad", "--model_conf", "repeat=3")) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("avss_train: error: model_conf does not fit RTFSNet")


CONFIGURATIONS = sorted(Path(__file__).parents[3].glob("egs/*/avss/conf/train_*.yaml"))


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: f"{path.parts[-4]}-{path.stem}")
def test_configurations_of_the_recipes_are_complete(path):
    args = AVSSTask.get_parser().parse_args(["--config", str(path), "--output_dir", "x"])
    assert args.best_model_criterion[0][1] == "si_snri" and args.optim in ("adam", "adamw")
    with torch.device("meta"):
        model = AVSSTask.build_network(args)
    assert model.avss.loss.pit == (args.model == "convtasnet" or "pit" in path.name)
