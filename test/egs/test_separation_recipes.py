# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The recipes of speech separation: data stages on tiny corpora, what the driver refuses, and all stages."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from lrs_trees import write_clip
from mixture_trees import CLIPS, make_layout, make_two_mix
from run_recipe import output_of, run_recipe

from espnet_av.data.data_dir import DataDir

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "model": "rtfsnet",
    "model_conf": {
        "repeats": 2, "channels": 8, "hidden": 4, "rnn_hidden": 2, "rnn_layers": 1, "attn_heads": 2,
        "attn_qk_channels": 2, "video_hidden": 8, "video_heads": 2, "video_depth": 2, "video_ffn": 8, "caf_heads": 2,
        "n_fft": 64, "hop": 32,
    },
    "loss_conf": {"terms": [{"name": "snr"}]},
    "preprocessor_conf": {"segment_sec": 0.4},
    "batch_size": 2,
    "max_epoch": 1,
    "optim": "adamw",
    "best_model_criterion": [["valid", "si_snri", "max"]],
    "num_workers": 0,
}  # fmt: skip


def run(place, name, *words, **options):
    return run_recipe(place, f"{name}/avss", *words, **options)


def succeed(place, name, *words):
    return output_of(place, f"{name}/avss", *words)


@pytest.fixture()
def tiny(tmp_path):
    """Configurations of the smallest network and of quick scores, as options."""
    (tmp_path / "train_tiny.yaml").write_text(yaml.safe_dump(TINY))
    (tmp_path / "calc.yaml").write_text("metrics: [si_snr, si_snri]\n")
    return ["--config", tmp_path / "train_tiny.yaml", "--score_config", tmp_path / "calc.yaml"]


@pytest.mark.parametrize("corpus", sorted(CLIPS))
def test_data_of_the_benchmarks(tmp_path, corpus):
    root = make_two_mix(tmp_path / "root", corpus, mouth_frames=75)
    succeed(tmp_path, corpus, f"--{corpus}_root", root, "--stop_stage", 3)
    for name in ("train", "valid", "test"):
        data = DataDir(tmp_path / "dump" / "filtered" / name)
        assert [stream.name for stream in data.streams] == ["mix", "s1", "s2"]
        assert set(data.num_samples().values()) == {32000}
        assert {np.load(path).shape for path in data.read("mouth_s1.scp").values()} == {(50, 96, 96)}


def test_front_ends(tmp_path):
    root = make_layout(tmp_path / "root")
    words = ["--lrs2_root", root, "--stage", 4]
    done = run(tmp_path, "lrs2", "--lrs2_root", root, "--stop_stage", 4)
    assert done.returncode == 3 and "--lip_frontend FILE" in done.stderr
    done = run(tmp_path, "lrs2", *words, "--lip_frontend", tmp_path / "absent.pth")
    assert done.returncode == 3 and "absent.pth, which does not exist" in done.stderr
    shown = succeed(tmp_path, "lrs2", *words, "--config", "conf/train_convtasnet.yaml", "--dry_run")
    assert "embed_lips" not in shown and "dump/filtered/train/mix.scp,mix,sound" in shown
    assert "--lips_mode" not in shown and "conf/inf_convtasnet.yaml" in shown


def test_lips_of_a_recogniser_are_trained_where_there_are_none(tmp_path):
    shown = succeed(tmp_path, "mini_av", "--dry_run", "--lip_reader", tmp_path / "avsr")
    assert 'stage 3a "lip_reader" (dry run)' in shown
    assert f"$ bash {tmp_path}/avsr/run.sh --stop_stage 5" in shown
    assert f"--lip_frontend avsr:{tmp_path}/avsr/exp/train_word" in shown
    marker = tmp_path / "avsr" / "exp" / "train_word" / ".stages" / "5.train.done"
    marker.parent.mkdir(parents=True)
    marker.touch()
    assert "3a" not in succeed(tmp_path, "mini_av", "--dry_run", "--lip_reader", tmp_path / "avsr")
    assert "3a" not in succeed(tmp_path / "new", "mini_av", "--dry_run", "--lip_frontend", "random")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--source", "clip"], "--source is clips or mixtures"),
        (["--roi", "none"], "--roi is face, landmarks or center"),
        (["--pair_kinds", "twins"], "--pair_kinds are same_speaker"),
        (["--lips_modes", "mine"], "--lips_modes are own"),
        (["--train_mixtures", "0"], "--train_mixtures takes a whole number above 0"),
        (["--config", "conf/train_none.yaml"], "--config: no file conf/train_none.yaml"),
        (["--score_config", "conf/none.yaml"], "--score_config: no file conf/none.yaml"),
        (["--lip_frontent", "x"], "did you mean --lip_frontend?"),
        (["--hub_repo", "a/b", "--skip_upload", "false", "--model_licence", "not redistributable"], "--hub_repo: the"),
    ],
)
def test_wrong_options(tmp_path, words, message):
    done = run(tmp_path, "mini_av", *words, "--list")
    assert done.returncode == 2 and message in done.stderr


def test_noise_and_microphones_follow_the_data_folder(tmp_path):
    shown = succeed(tmp_path, "mini_av", "--dry_run", "--config", "conf/train_rtfsnet_with_augs.yaml")
    assert f"--set preprocessor_conf.noise.scp={tmp_path}/data/noise.scp" in shown
    assert f"--set preprocessor_conf.impulse_response.scp={tmp_path}/data/microphones.scp" in shown


@pytest.mark.parametrize(
    "name", ["train_convtasnet", "train_av_convtasnet", "train_rtfsnet", "train_rtfsnet_multiloss", "train_rtfsnet_pit"]
)
def test_configurations_of_the_template(tmp_path, name):
    shown = succeed(tmp_path, "lrs3", "--dry_run", "--config", f"conf/{name}.yaml", "--lip_frontend", "random")
    assert f"--config ../../TEMPLATE/avss/conf/{name}.yaml" in shown
    assert f"{tmp_path}/exp/{name}/logs" in shown


def test_mixtures_of_clips(tmp_path):
    root = tmp_path / "grid"
    for speaker, seed in (("s1", 0), ("s4", 20)):
        for index, name in enumerate(("bbaf2n", "bgam3p", "lrbe5a", "pwws9s", "sgix1n", "brid4s", "lwam8a", "pbwz7p")):
            write_clip(root / speaker / f"{name}.mp4", seed + index, 60)
            (root / speaker / f"{name}.mp4").rename(root / speaker / f"{name}.mpg")
    lists = {"train": "bbaf2n bgam3p lrbe5a pwws9s", "valid": "sgix1n brid4s", "test": "lwam8a pbwz7p"}
    words = []
    for name, clips in lists.items():
        lines = [f"{speaker}/{clip}\n" for speaker in ("s1", "s4") for clip in clips.split()]
        (tmp_path / f"{name}.list").write_text("".join(lines))
        words += [f"--{name}_list", tmp_path / f"{name}.list"]
    words += ["--grid_root", root, "--roi", "center", "--train_mixtures", 6, "--valid_mixtures", 2]
    words += ["--lip_frontend", "random"]  # none is trained
    succeed(tmp_path, "grid", *words, "--stop_stage", 3)
    train = DataDir(tmp_path / "dump" / "filtered" / "train")
    assert sorted(train.read("pair_kind").values()) == ["other"] * 3 + ["same_speaker"] * 3
    assert set(train.num_samples().values()) == {32000}
    assert len(DataDir(tmp_path / "dump" / "filtered" / "test").read("mix.scp")) == 6  # all that four clips allow
    assert DataDir(tmp_path / "data").has("noise.scp") and DataDir(tmp_path / "data").has("microphones.scp")


@pytest.mark.slow
def test_all_stages_on_a_folder_of_mixtures(tmp_path, tiny):
    root = make_layout(tmp_path / "root")
    words = ["--lrs2_root", root, "--lip_frontend", "random", "--lip_variants", 2, "--lips_modes", "own swapped", *tiny]
    words += ["--min_train_sec", 1]
    shown = succeed(tmp_path, "lrs2", *words)
    exp = tmp_path / "exp" / "train_tiny"
    results = json.loads((exp / "results.json").read_text())
    assert [(row["set"], row["lips"], row["n_pairs"]) for row in results["rows"]] == [
        ("test", "own", 6),
        ("test", "swapped", 6),
    ]
    assert (exp / "report.html").is_file() and (exp / "pack").is_dir() and "report.html" in shown
    assert np.load(DataDir(tmp_path / "dump" / "train").read("lips_s1.scp")["b_c"]).shape[:2] == (2, 50)
    again = succeed(tmp_path, "lrs2", *words)
    assert "nothing to do: all 10 stages are already done" in again


@pytest.mark.slow
def test_debug_takes_mini_av_through_all_stages(tmp_path, tiny):
    succeed(tmp_path, "mini_av", "--debug", *tiny)
    rows = json.loads((tmp_path / "exp" / "train_tiny" / "results.json").read_text())["rows"]
    assert {row["set"] for row in rows} == {"test_seen", "test_unseen"}
    assert {row["lips"] for row in rows} == {"own", "swapped", "none"}
