# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The recipes of LRS2 and LRS3 on tiny trees in the layouts of the corpora."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from lrs_trees import make_auto_avsr, make_lrs2, make_lrs3, make_vox2
from run_recipe import output_of

from espnet_av.data.data_dir import DataDir

ROOT = Path(__file__).resolve().parents[2]
LEVELS = ("n5", "0", "5", "10")
NINE = ["test", *(f"test_snr_{level}_interferer_{number}" for level in LEVELS for number in (1, 2))]


def run(place, name, *words):
    return output_of(place, f"{name}/avsr", *words)


def test_lrs2_data_with_vox2(tmp_path):
    lrs2, vox2 = make_lrs2(tmp_path / "lrs2"), make_vox2(tmp_path / "vox2", m4a=True)
    run(
        tmp_path, "lrs2", "--lrs2_root", lrs2, "--vox2_root", vox2, "--roi", "center", "--stop_stage", 3,
        "--vox2_transcript_file", vox2 / "transcripts.txt", "--max_cut_sec", 2,
    )  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "dump").glob("test*")) == sorted(NINE)
    train = DataDir(tmp_path / "dump" / "train")
    assert len(train.read("text")) == 4 + 2 + 2
    frames = train.num_frames()
    assert frames["lrs2_50000-00001"] == 30 and frames["lrs2_90000-pretrain-00001-01"] == 38
    assert {len(np.load(path)) for utt, path in train.read("mouth.scp").items() if utt.startswith("vox2")} == {30}
    clean, noisy = (DataDir(tmp_path / "dump" / name) for name in ("test", NINE[1]))
    assert clean.read("mouth.scp") == noisy.read("mouth.scp")  # the crops are made once
    assert not set(clean.read("wav.scp").values()) & set(noisy.read("wav.scp").values())


def test_lrs3_official_and_prepared_by_auto_avsr(tmp_path):
    lrs3 = make_lrs3(tmp_path / "lrs3")
    (tmp_path / "lrs3-valid.id").write_text("trainval/2vn_zk/50001\n")
    options = ["--stop_stage", 3, "--interferer_snrs", "", "--test_sets", "test", "--lrs3_root"]
    run(tmp_path, "lrs3", *options, lrs3, "--roi", "center", "--valid_list", tmp_path / "lrs3-valid.id")
    assert list(DataDir(tmp_path / "dump" / "valid").read("text")) == ["lrs3_2vn_zk-50001"]
    assert len(DataDir(tmp_path / "dump" / "train").read("text")) == 5 + 3
    prepared = make_auto_avsr(tmp_path / "auto")
    run(tmp_path / "second", "lrs3", *options, prepared)  # no --roi: its clips are mouths, and no face is looked for
    assert len(DataDir(tmp_path / "second" / "dump" / "train").read("mouth.scp")) == 2


@pytest.mark.slow
def test_debug_takes_lrs2_through_all_stages(tmp_path):
    lrs2 = make_lrs2(tmp_path / "lrs2")
    shown = run(tmp_path, "lrs2", "--lrs2_root", lrs2, "--roi", "center", "--debug")
    exp = tmp_path / "exp" / "train_debug_bpe5000"
    results = json.loads((exp / "results.json").read_text())
    assert {row["set"] for row in results["rows"]} == {"test", NINE[1]}
    assert (exp / "report.html").is_file() and (exp / "pack").is_dir()
    assert "report.html" in shown


@pytest.mark.parametrize("name", ["lrs2", "lrs3"])
def test_the_configuration_is_the_published_one(name):
    from espnet_av.avsr.model import AVSRModel

    conf = yaml.safe_load((ROOT / "egs" / name / "avsr" / "conf" / "train.yaml").read_text())
    assert conf["batch_size"] * conf["accum_grad"] == 12 and conf["grad_clip"] == 1.0
    assert conf["optim_conf"] == {"lr": 1e-4, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.005}
    import torch

    with torch.device("meta"):
        model = AVSRModel(5049, **conf["model_conf"])
    assert sum(parameter.numel() for parameter in model.parameters()) == 428_849_754


@pytest.mark.parametrize("name", ["lrs2", "lrs3"])
def test_a_missing_corpus_is_told_with_the_way_to_get_it(tmp_path, name):
    command = ["bash", str(ROOT / "egs" / name / "avsr" / "run.sh"), "--datadir", str(tmp_path / "data")]
    command += ["--expdir", str(tmp_path / "exp"), "--dumpdir", str(tmp_path / "dump")]
    environ = {key: value for key, value in os.environ.items() if key not in ("LRS2_ROOT", "LRS3_ROOT")}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, check=False)
    assert done.returncode == 3 and f"--{name}_root DIR" in done.stderr
    (tmp_path / "empty").mkdir()
    command += [f"--{name}_root", str(tmp_path / "empty")]
    environ["ESPNET_AV_MIN_DISK_GB"] = "0"
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, check=False)
    assert done.returncode == 3 and f"no {name.upper()} corpus" in done.stderr
