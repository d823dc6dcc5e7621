# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The active separation recipes: a generated world and a tiny tree of SoundSpaces through the driver."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from run_recipe import output_of, run_recipe

from espnet_av.activesep.classes import ClassTable
from espnet_av.activesep.episode_generator import EpisodeRules, draw_episodes
from espnet_av.activesep.episodes import read_episodes, write_episodes
from espnet_av.activesep.passive_points import draw_passive_points, read_passive_points, write_passive_points
from espnet_av.activesep.sound_sets import write_sound_set
from espnet_av.activesep.sounds import ClipLibrary
from espnet_av.activesep.synthetic_clips import synthesise
from espnet_av.activesep.world_generator import generate_scene
from espnet_av.activesep.world_layout import LayoutRules

ROOT = Path(__file__).resolve().parents[2]
RULES = LayoutRules(width=5, depth=2, num_rooms=2, furniture_share=0.1, num_sources=4)
CLASSES = ("7540", "3274", "music", "esc")
SPLITS = {"train": "train_3", "valid_unheard": "val_2", "test_heard": "test_2", "test_unheard": "testUnheard_2"}


def run(place, name, *words, **options):
    return run_recipe(place, f"{name}/activesep", *words, **options)


def succeed(place, name, *words):
    return output_of(place, f"{name}/activesep", *words)


def make_tree(root):
    """Write a house, sounds, episodes and points in the layout of SoundSpaces."""
    scene = {"num_taps": 400, "image_order": 1, "image_size": 48, "ears": "sphere"}
    store = generate_scene(root, "house0", 1, RULES, formats=("wavdir",), **scene)
    table = ClassTable.build(CLASSES)
    for number, split in enumerate(("train", "valUnheard", "testUnheard")):
        sounds = {name: [synthesise(name, 3.0, number) / 32768] for name in CLASSES}
        write_sound_set(root / "audio_data" / "mine", f"{split}_preprocessed", sounds, min_sec=3.0)
        clips = ClipLibrary(root / "audio_data" / "mine" / "min20s_clips" / f"{split}_preprocessed", classes=table)
        for index, (name, given) in enumerate(SPLITS.items()):
            heard = split == "train" and "unheard" not in name
            unheard = split == ("valUnheard" if name.startswith("valid") else "testUnheard") and "unheard" in name
            if heard or unheard:
                rules = EpisodeRules(min_distance=2.0)
                episodes = draw_episodes(store, clips, 16, rules, seed=index)  # all classes are targets of some
                write_episodes(root / "active_datasets", given, episodes)
    for split in ("train", "val"):
        points = draw_passive_points(store, 4, min_distance=2.0)
        write_passive_points(root / "passive_datasets", split, points)
    return root


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--episode_start", "middle"], "--episode_start is near or far"),
        (["--baselines", "luck"], "--baselines are novelty, navigation, improvement"),
        (["--movers", "fly"], "--movers are stand, rotate"),
        (["--policy_seeds", "one"], "--policy_seeds takes whole numbers"),
        (["--check", "half"], "--check is full or quick"),
        (["--test_episodes", "some"], "--test_episodes takes a whole number"),
        (["--config", "conf/none.yaml"], "--config: no file conf/none.yaml"),
        (["--passive_config", "conf/none.yaml"], "--passive_config: no file conf/none.yaml"),
        (["--policy_seed", "1"], "did you mean --policy_seeds?"),
    ],
)
def test_wrong_options(tmp_path, words, message):
    done = run(tmp_path, "mini_av", *words, "--list")
    assert done.returncode == 2 and message in done.stderr, done.stderr


def test_models_that_are_not_there(tmp_path):
    for option in ("--separators", "--download_model"):
        done = run(tmp_path, "mini_av", option, tmp_path / "absent", "--list")
        assert done.returncode == 3 and f"{option}: no file or folder" in done.stderr


def test_commands(tmp_path):
    shown = succeed(
        tmp_path, "mini_av", "--dry_run", "--policy_seeds", "3 4", "--baselines", "novelty", "--set", "lr=0.5"
    )
    exp = tmp_path / "exp" / "train_policy_mini_lr-0.5"
    assert f"--output_dir {exp}/policy/near_target_JOB" in shown and "# JOB=seed3,seed4" in shown
    assert f"--output_dir {exp}/policy/novelty_JOB" in shown and "--lr 0.5" in shown
    lines = {name: line for line in shown.splitlines() for name in ("near_target", "novelty") if f"{name}_JOB" in line}
    assert "--imitation_updates" not in lines["near_target"] and "--imitation_updates 0" in lines["novelty"]
    assert f"--separators {tmp_path}/exp/train_passive_mini " in shown
    assert "--policies near_target_seed3 near_target_seed4 novelty_seed3 novelty_seed4" in shown
    assert f"test_unheard={tmp_path}/dump/testUnheard_clips/min20s_clips" in shown
    assert f"--split valid_unheard --clips {tmp_path}/dump/valUnheard_clips/min20s_clips" in shown
    assert "# JOB=near_target,novelty" in shown and "# JOB=stand,rotate,random,doa,proximity,approach" in shown
    shown = succeed(tmp_path, "mini_av", "--dry_run", "--debug")
    assert "# JOB=stand,random\n" in shown
    shown = succeed(tmp_path, "mini_av", "--dry_run", "--debug", "--movers=doa approach")
    assert "# JOB=doa,approach\n" in shown
    shown = succeed(tmp_path, "mini_av", "--dry_run", "--nproc", 2)
    assert "utils/torchrun 2 python -m espnet_av.bin.activesep_train" in shown
    shown = succeed(tmp_path, "mini_av", "--dry_run", "--download_model", tmp_path)
    assert f"--given_model {tmp_path}" in shown and "activesep_train" not in shown


def test_the_corpus_must_be_there(tmp_path):
    done = run(tmp_path, "mp3d")
    assert done.returncode == 3 and "--soundspaces_root DIR" in done.stderr
    (tmp_path / "empty").mkdir()
    done = run(tmp_path, "mp3d", "--soundspaces_root", tmp_path / "empty")
    assert done.returncode == 3 and "a part of the data is missing" in done.stdout + done.stderr


@pytest.mark.slow
def test_data_stages_on_a_tree_of_soundspaces(tmp_path):
    root = make_tree(tmp_path / "root")
    (root / "audio_data" / "mine" / "min20s_clips" / "train_preprocessed" / "7540_bad.wav").write_text("no sound")
    words = ["--soundspaces_root", root, "--stop_stage", 4, "--max_dropped_share", 0.2, "--valid_episodes", 5]
    words += ["--splits", ",".join(f"{name}={split}" for name, split in SPLITS.items())]
    succeed(tmp_path, "mp3d", *words)
    assert len(read_episodes(tmp_path / "dump" / "episodes", "train")) == 16
    assert len(read_episodes(tmp_path / "dump" / "episodes", "valid_unheard")) == 5
    assert len(read_passive_points(tmp_path / "dump" / "points", "val")) == 4
    report = json.loads((tmp_path / "dump" / "train_clips" / "filter_report.json").read_text())
    assert report["reasons"]["unreadable"]["count"] == 1
    assert set(ClassTable.read(tmp_path / "dump" / "classes.json").labels) >= set(CLASSES)
    assert "stages are already done" in succeed(tmp_path, "mp3d", *words)


@pytest.mark.slow
def test_all_stages_on_a_generated_world(tmp_path):
    words = ["--debug", "--voices", "formula"]
    shown = succeed(tmp_path, "mini_av", *words)
    exp = tmp_path / "exp" / "train_policy_mini"
    results = json.loads((exp / "results.json").read_text())
    found = {(row["set"], row["system"]) for row in results["rows"]}
    systems = {"near_target", "stand", "random", "zero", "mixture", "oracle_ears"}
    assert {(name, system) for name in ("test_heard", "test_unheard") for system in systems} <= found
    assert "| learned policy " in shown and "report:" in shown
    page = (exp / "report.html").read_text()
    assert page.count("<audio") >= 4 and 'alt="map of house0' in page
    check = (
        "from espnet_av.activesep.agent import ActiveSeparationAgent as Agent; import sys;"
        "print(sum(p.numel() for p in Agent.from_pretrained(sys.argv[1]).parameters()))"
    )
    done = subprocess.run([sys.executable, "-c", check, str(exp / "pack")], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 1000
    assert "already done" in succeed(tmp_path, "mini_av", *words)
