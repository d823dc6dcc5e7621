# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""``espnet-av infer avss``: options, configuration files and folders."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile
import torch
import yaml

from espnet_av.avss.lip_embedding import LipEmbedder
from espnet_av.avss.lip_modes import LIPS_MODES
from espnet_av.avss.rtfsnet import RTFSNet
from espnet_av.bin import avss_infer
from espnet_av.data.data_dir import DataDir
from espnet_av.utils.errors import DataError, MissingDataError, UsageError

SIZES = {
    "repeats": 1, "channels": 8, "hidden": 8, "rnn_hidden": 4, "rnn_layers": 1, "video_dim": 512, "video_hidden": 8,
    "video_heads": 2, "video_ffn": 8,
}  # fmt: skip


@pytest.fixture
def place(tmp_path):
    """A model and a set of two mixtures with mouth crops."""
    torch.manual_seed(0)
    model = tmp_path / "exp"
    model.mkdir()
    torch.save(RTFSNet(**SIZES).state_dict(), model / "valid.loss.best.pth")
    lips = LipEmbedder.from_pretrained("random:3").describe().to_dict()
    (model / "config.yaml").write_text(yaml.safe_dump({"model": "rtfsnet", "model_conf": SIZES, "lips": lips}))
    data = DataDir(tmp_path / "dump" / "test")
    rng = np.random.default_rng(0)
    tables = {name: {} for name in ("mix.scp", "mouth_s1.scp", "mouth_s2.scp")}
    for uid in ("a_b", "c_d"):
        soundfile.write(tmp_path / f"{uid}.wav", rng.uniform(-0.3, 0.3, 8000), 16000)
        tables["mix.scp"][uid] = tmp_path / f"{uid}.wav"
        for name in ("s1", "s2"):
            np.savez(tmp_path / f"{uid}_{name}.npz", data=rng.integers(0, 255, (13, 96, 96), dtype=np.uint8))
            tables[f"mouth_{name}.scp"][uid] = tmp_path / f"{uid}_{name}.npz"
    for name, table in tables.items():
        data.write(name, table)
    return tmp_path


def command(place, *more):
    words = ["--train_dir", place / "exp", "--data_dirs", place / "dump" / "test", "--output_dir", place / "out"]
    avss_infer.main([str(word) for word in (*words, "--device", "cpu", "--lip_frontend", "random:3", *more)])


def test_all_kinds_of_lips(place):
    command(place, "--lips_mode", "own", "swapped", "none")
    voices = {
        (mode, name): soundfile.read(place / "out" / mode / "test" / name / "a_b.wav")[0]
        for mode in ("own", "swapped", "none")
        for name in ("s1", "s2")
    }
    assert all(len(voice) == 8000 for voice in voices.values())
    assert np.array_equal(voices["own", "s1"], voices["swapped", "s2"])
    assert np.array_equal(voices["own", "s2"], voices["swapped", "s1"])
    assert np.array_equal(voices["none", "s1"], voices["none", "s2"])
    assert not np.allclose(voices["own", "s1"], voices["own", "s2"], atol=1e-6)
    assert "--lips_mode own swapped none" in json.loads((place / "out/own/test/infer.json").read_text())["command"]


def test_a_configuration_and_options_over_it(place, repo_root):
    config = repo_root / "egs" / "TEMPLATE" / "avss" / "conf" / "inf_rtfsnet.yaml"
    command(place, "--config", config, "--wav_format", "pcm16", "--key_file", place / "dump" / "test" / "mix.scp")
    assert soundfile.info(place / "out" / "test" / "s1" / "c_d.wav").subtype == "PCM_16"
    facts = json.loads((place / "out" / "test" / "infer.json").read_text())
    assert (facts["window_sec"], facts["wav_format"], facts["num_utterances"]) == (4.0, "pcm16", 2)


def test_every_key_of_the_template_configurations_is_known(repo_root):
    for name in ("rtfsnet", "convtasnet"):
        path = repo_root / "egs" / "TEMPLATE" / "avss" / "conf" / f"inf_{name}.yaml"
        words = ["--train_dir", "x", "--data_dirs", "y", "--output_dir", "z", "--config", str(path)]
        options = avss_infer.read_options(avss_infer.get_parser().parse_args(words))
        assert options == type(options)()  # what the template says is the default
    assert avss_infer.LIPS_MODES == LIPS_MODES


def test_scores_at_once(place, repo_root):
    data = DataDir(place / "dump" / "test")
    for name in ("s1", "s2"):
        data.write(f"{name}.scp", data.read("mix.scp"))
    config = repo_root / "egs" / "TEMPLATE" / "avss" / "conf" / "calc_metrics_rtfsnet.yaml"
    quick = place / "quick.yaml"
    quick.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), "metrics": ["si_snri", "snr"]}))
    command(place, "--score_config", quick)
    row = json.loads((place / "out" / "test" / "scores.json").read_text())
    assert row["si_snri"] < 0  # the mixture itself was the target
    rows = (place / "out" / "test" / "scores.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 2
    for name in ("rtfsnet", "convtasnet"):
        options = avss_infer.read_score_options(config.with_name(f"calc_metrics_{name}.yaml"))
        assert dataclasses.replace(options, pit="auto") == type(options)()  # the rest is the default
        assert options.pit == ("true" if name == "convtasnet" else "auto")


def test_wrong_input(place):
    (place / "typo.yaml").write_text("window_secs: 3\n")
    with pytest.raises(UsageError, match="window_sec"):
        command(place, "--config", place / "typo.yaml")
    with pytest.raises(DataError, match="another front end"):
        command(place, "--lip_frontend", "random:4")
    with pytest.raises(MissingDataError, match="stage 3"):
        command(place, "--data_dirs", str(place / "absent"))
    with pytest.raises(UsageError, match="device"):
        command(place, "--device", "gpu")
