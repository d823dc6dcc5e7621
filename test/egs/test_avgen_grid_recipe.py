# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The recipe that generates a real talker of GRID: what it runs, what it refuses, its data stages on real clips."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from run_recipe import output_of, run_recipe

from espnet_av.data.data_dir import DataDir

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "egs" / "grid" / "avgen"


def run(place, *words, **environ):
    return run_recipe(place, "grid/avgen", *words, environ=environ)


def shown(place, *words):
    return output_of(place, "grid/avgen", *words, "--dry_run")


def test_what_it_runs(tmp_path):
    lines = shown(tmp_path, "--grid_root", tmp_path, "--talker", "s5", "--vocoder", "own").splitlines()
    prepare = next(line for line in lines if "bash local/data.sh" in line)
    assert f"--grid_root {tmp_path} --talker s5 --num_valid 20 --num_test 20" in prepare
    used = {name: next(line for line in lines if f"bin.avgen_{name}_train" in line) for name in ("tokens", "vocoder")}
    assert "--config conf/train_tokens_talker.yaml" in used["tokens"]
    assert "--config ../../TEMPLATE/avgen/conf/train_vocoder_mini.yaml" in used["vocoder"]
    assert any("bin.avgen_train " in line and "--config conf/train_short.yaml" in line for line in lines)
    assert not any("avgen_text_train" in line for line in lines)
    more = shown(tmp_path, "--grid_root", tmp_path, "--text_model", "own", "--inputs", "audio text")
    assert "avgen_text_train" in more and "--task text" in more


def test_short_trainings_stay_within_forty_cpu_minutes():
    """Steps are counted, not seconds: the same seed gives the same model on a machine of any speed."""
    cost_sec = {"train_tokens_talker": 0.18, "train_short": 1.12, "train_head_vae_mini": 0.51}  # measured, one thread
    paths = [*FOLDER.glob("conf/train*.yaml"), FOLDER.parents[1] / "TEMPLATE/avgen/conf/train_head_vae_mini.yaml"]
    assert {path.stem for path in paths} == set(cost_sec)
    total = 0.0
    for path in paths:
        config = yaml.safe_load(path.read_text())
        assert "max_train_sec" not in config
        total += config["max_epoch"] * config["num_iters_per_epoch"] * cost_sec[path.stem]
    assert total <= 40 * 60


def test_it_needs_the_corpus(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 3 and "--grid_root" in done.stderr
    done = run(tmp_path, "--grid_root", tmp_path / "none")
    assert done.returncode == 3 and "no folder" in done.stderr
    done = run(tmp_path, "--grid_root", tmp_path, "--talkre", "s1")
    assert done.returncode == 2 and "did you mean --talker?" in done.stderr


def test_data_stage_alone(tmp_path):
    command = ["bash", "local/data.sh", "--grid_root", str(tmp_path), "--output_dir", str(tmp_path / "data")]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 3 and "no clips of GRID found" in done.stderr
    done = subprocess.run([*command, "--help"], cwd=FOLDER, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0 and "--talker NAME" in done.stdout


@pytest.mark.slow
def test_data_stages_on_real_clips(shared_data, tmp_path):
    pytest.importorskip("ai_edge_litert", reason="needs the extra 'face'")
    (tmp_path / "s1" / "video").mkdir(parents=True)
    for path in sorted((shared_data("grid_s1") / "video").glob("*.mpg"))[:12]:
        shutil.copy(path, tmp_path / "s1" / "video" / path.name)
    words = ["--grid_root", tmp_path / "s1", "--num_valid", 2, "--num_test", 2, "--stop_stage", 3]
    done = run(tmp_path, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {}
    for name in ("train", "valid", "test"):
        data = DataDir(tmp_path / "dump" / "filtered" / name)
        counts[name] = len(data.read("face.scp"))
        assert {np.load(path).shape for path in data.read("face.scp").values()} == {(90, 256)}
        assert all(len(text.split()) == 6 for text in data.read("text").values())
    assert counts == {"train": 8, "valid": 2, "test": 2}
