# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The generator's task through its command line: train, go on, start from weights, and refuse what is wrong."""

import json

import numpy as np
import pytest
import torch
import yaml

from espnet_av.avgen.choices import build_model
from espnet_av.avgen.head_vae import HeadVAE
from espnet_av.avgen.model import network_state
from espnet_av.bin import avgen_train
from espnet_av.data.dataset import item_rng
from espnet_av.tasks.avgen import AVGenTask
from espnet_av.train.loading import load_weights
from espnet_av.utils.errors import DataError, MissingDataError, UsageError

CONFIG = {
    "model_conf": {
        "face_dim": 12,
        "melspec_dim": 6,
        "transformer_conf": {"d_model": 16, "hidden_dim": 16, "num_heads": 2, "window_per_layer": [[4, 2]]},
    },
    "batch_size": 2,
    "max_epoch": 2,
    "num_workers": 0,
    "ema_decay": 0.9,
    "use_matplotlib": False,
}


class Windows:
    """Random windows of 20 frames and more, the same for the same seed, pass and name."""

    def __init__(self, folder, *, train, participant, seed, frames=20):
        self.seed, self.participant = seed, participant
        self.lengths = {f"{'t' if train else 'v'}{number}": frames + number for number in range(6 if train else 2)}
        self.keys = list(self.lengths)

    def __getitem__(self, key):
        number, uid = key
        rng = item_rng(self.seed, number, uid)
        dims = {"mel": 6, "face": 12, "head": 7, "tokens": 29}
        data = {name: rng.standard_normal((self.lengths[uid], dim)).astype(np.float32) for name, dim in dims.items()}
        return uid, {**data, "valid": rng.random(self.lengths[uid]) > 0.2}


@pytest.fixture(scope="module", autouse=True)
def windows():
    patch = pytest.MonkeyPatch()

    def open_data(cls, args, train):
        return Windows(args.train_dir, train=train, participant=False, seed=args.seed, **args.dataset_conf)

    patch.setattr(AVGenTask, "open_data", classmethod(open_data))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("avgen")
    (root / "train.yaml").write_text(yaml.safe_dump(CONFIG))
    torch.manual_seed(3)
    torch.save({"model_state_dict": HeadVAE(window=None).state_dict()}, root / "vae.pt")
    np.savez(root / "stats.npz", mel_mean=-3.0, mel_std=2.0, face_std=np.full(12, 0.5), count=7)
    command = ["--config", str(root / "train.yaml"), "--output_dir", str(root / "exp")]
    for name in ("train", "valid"):
        (root / name).mkdir()
        (root / name / "wav.scp").write_text("a a.wav\n")
    command += ["--train_dir", str(root / "train"), "--valid_dir", str(root / "valid")]
    command += ["--head_vae", str(root / "vae.pt"), "--statistics", str(root / "stats.npz")]
    avgen_train.main(command)
    return root, command


def other(command, root, name, *more):
    changed = command.copy()
    changed[changed.index("--output_dir") + 1] = str(root / name)
    return [*changed, *more]


def test_training_leaves_a_whole_experiment(trained):
    root, _ = trained
    assert {"config.yaml", "checkpoint.pth", "history.jsonl", "valid.loss.ave.pth"} <= {
        path.name for path in (root / "exp").iterdir()
    }
    history = [json.loads(line) for line in (root / "exp/history.jsonl").read_text().splitlines()]
    assert {"loss", "loss_face", "loss_head", "loss_mel", "loss_t1", "loss_t4"} <= set(history[0]["valid"])
    assert "loss_mel" in history[0]["train"]


def test_the_model_stands_alone(trained):
    root, _ = trained
    config = yaml.safe_load((root / "exp/config.yaml").read_text())
    assert config["data_digests"]["train"]["clips"] > 0 and config["data_digests"]["valid"]["tables"]
    model = build_model(config["model"], config["model_conf"])
    model.load_state_dict(network_state(load_weights(root / "exp/valid.loss.ave.pth")), strict=True)
    assert model.mel_mean == -3 and (model.face_std == 0.5).all() and model.head_vae.window is None
    vae = torch.load(root / "vae.pt", weights_only=True)["model_state_dict"]
    own = model.head_vae.state_dict()
    assert all(torch.equal(own[name], vae[name]) for name in vae)
    assert model.eval().generate(torch.randn(30, 29))[0].mel.shape == (30, 6)


def test_training_starts_from_weights_with_other_statistics(trained):
    root, command = trained
    np.savez(root / "other.npz", mel_mean=-1.0)
    rest = ["--model_name_or_path", str(root / "exp/valid.loss.ave.pth"), "--max_epoch", "1", "--optim_conf", "lr=0.0"]
    avgen_train.main(other(command, root, "again", *rest, "--statistics", str(root / "other.npz")))
    old, new = (load_weights(root / path) for path in ("exp/valid.loss.ave.pth", "again/1epoch.pth"))
    assert new["avgen.mel_mean"] == -1 and new["avgen.mel_std"] == 2
    assert all(torch.allclose(new[name], old[name], atol=1e-6) for name in new if "transformer" in name)


@pytest.mark.parametrize(
    ("more", "kind", "hint"),
    [
        (["--model_conf", "preset=huge"], UsageError, "preset"),
        (["--model_conf", "weight=1"], UsageError, "model_conf"),
        (["--model", "gan"], SystemExit, ""),
        (["--statistics", "nowhere.npz"], MissingDataError, "stage 4"),
        (["--collect_stats", "true"], UsageError, "stage 4"),
    ],
)
def test_wrong_settings_are_refused(trained, more, kind, hint):
    root, command = trained
    with pytest.raises(kind, match=hint or None):
        avgen_train.main(other(command, root, "bad", *more))
    assert not (root / "bad/checkpoint.pth").exists()


def test_what_is_missing_is_named(trained):
    root, command = trained
    start = command.index("--head_vae")
    without_vae = other(command[:start] + command[start + 2 :], root, "bad")
    with pytest.raises(UsageError, match="stage 4c"):
        avgen_train.main(without_vae)
    start = command.index("--valid_dir")
    with pytest.raises(UsageError, match="--valid_dir"):
        avgen_train.main(other(command[:start] + command[start + 2 :], root, "bad"))
    np.savez(root / "strange.npz", count=7)
    with pytest.raises(DataError, match="no statistics"):
        avgen_train.main(other(command, root, "bad", "--statistics", str(root / "strange.npz")))


def test_defaults_are_those_of_the_published_system():
    args = AVGenTask.get_parser().parse_args(["--output_dir", "x"])
    assert args.optim == "adamw" and args.optim_conf["lr"] == 1e-4 and args.optim_conf["betas"] == [0.9, 0.98]
    assert args.batch_size == 16 and args.best_model_criterion[0][1] == "loss"
