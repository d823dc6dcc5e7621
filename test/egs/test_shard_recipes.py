# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The recipes of AVYT and AVCocktail on tiny shards."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from run_recipe import output_of, run_recipe

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "espnet_av"))
import shard_data as made

from espnet_av.data.data_dir import DataDir

ROOT = Path(__file__).resolve().parents[2]


def run(place, name, *words, **options):
    return run_recipe(place, f"{name}/avsr", *words, **options)


def succeed(place, name, *words):
    return output_of(place, f"{name}/avsr", *words)


def make_avcocktail(root):
    times = {"start_time": 0.0, "end_time": 1.2}
    for split in ("asd_chunk", "fixed_chunk", "gold_chunk"):
        made.write_tar(root / f"video_3/{split}.tar", [made.sample_fields("x0", "", **times)])
    made.write_tar(root / "labels/video_3.tar", [{"label": b"WEBVTT\n\n00:00.000 --> 00:01.000\nBIN BLUE\n"}])
    return root


def test_avyt_data(tmp_path):
    root = made.make_avyt(tmp_path / "avyt")
    options = ["--avyt_root", root, "--test_sets", "test", "--stop_stage", 3]
    succeed(tmp_path, "avyt", *options, "--streaming_dataset", "true")
    train = DataDir(tmp_path / "dump" / "train")
    crops = np.load(train.read("mouth.scp")["lrs2-lrs2_train_00002"])
    assert crops.shape == (34, 96, 96) and crops.dtype == np.uint8
    plan = yaml.safe_load((tmp_path / "data" / "train_stream.yaml").read_text())
    assert plan["streaming"] is True and list(plan["sources"]) == ["lrs2", "vox2", "avyt", "avyt-mix"]
    shown = run(tmp_path, "avyt", "--avyt_root", root, "--test_sets", "test", "--stage", 5, "--dry_run").stdout
    assert f"--train_stream {tmp_path}/data/train_stream.yaml" in shown
    assert 'stage 1 "prepare" again: option' in succeed(tmp_path, "avyt", *options, "--unpack_train", "true")
    assert len(DataDir(tmp_path / "dump" / "train").read("text")) == 39
    shown = run(tmp_path, "avyt", "--avyt_root", root, "--test_sets", "test", "--stage", 5, "--dry_run").stdout
    assert "--train_stream" not in shown


def test_avcocktail_data_and_what_is_missing(tmp_path):
    succeed(tmp_path, "avcocktail", "--avcocktail_root", make_avcocktail(tmp_path / "root"), "--stop_stage", 1)
    assert json.loads((tmp_path / "data" / "sets.json").read_text())["video_3"]["problems"] == []
    done = run(tmp_path / "other", "avcocktail", "--stop_stage", 1)
    assert done.returncode == 3 and "--avcocktail_root DIR" in done.stdout + done.stderr
    done = run(tmp_path / "other", "avyt", "--stop_stage", 1)
    assert done.returncode == 3 and "--avyt_root DIR" in done.stdout + done.stderr


@pytest.mark.slow
def test_debug_takes_avyt_through_all_stages_and_its_model_to_avcocktail(tmp_path):
    root = made.make_avyt(tmp_path / "avyt")
    succeed(tmp_path, "avyt", "--avyt_root", root, "--test_sets", "test", "--debug")
    exp = tmp_path / "exp" / "train_debug_bpe5000"
    assert {row["set"] for row in json.loads((exp / "results.json").read_text())["rows"]} == {"test"}
    place, cocktail = tmp_path / "second", make_avcocktail(tmp_path / "root")
    shown = succeed(place, "avcocktail", "--avcocktail_root", cocktail, "--checkpoint_path", exp / "pack")
    assert "video_3_gold_chunk" in shown
    assert "nothing to do" in succeed(
        place, "avcocktail", "--avcocktail_root", cocktail, "--checkpoint_path", exp / "pack"
    )
