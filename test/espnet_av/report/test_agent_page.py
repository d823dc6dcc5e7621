# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The report and the pack of an active separation experiment, from files as the stages leave them."""

import json
import math
import shutil

import numpy as np
import pytest
import soundfile
import yaml
from activesep_worlds import make_clips, make_episodes, make_scene

from espnet_av.activesep.agent import ActiveSeparationAgent
from espnet_av.activesep.checkpoint_search import read_played
from espnet_av.activesep.episodes import read_episodes, write_episodes
from espnet_av.activesep.eval_results import EpisodeRecord, EvaluationResult
from espnet_av.activesep.presets import get_preset
from espnet_av.activesep.scoring import score
from espnet_av.bin import activesep_score, show_results
from espnet_av.data.data_record import data_record
from espnet_av.report.activesep_sections import headline_cards
from espnet_av.report.packing import PackOptions, pack_experiment, verify_pack
from espnet_av.report.page import ReportOptions, build_report
from espnet_av.train.conversion import save
from espnet_av.utils.experiment import write_json

SEPARATOR = {"base_channels": 2}


def conf_of_agent():
    conf = get_preset("mini")
    conf["separator"] = SEPARATOR
    conf["memory"] |= {"channels": 2, "ffn_dim": 8, "num_layers": 1}
    conf["policy"] |= {"hidden_size": 8, "channels": [2, 2, 2], "image_size": [48, 48]}
    return conf


def make_record(store, episode, rewards):
    nodes = [store.node_at(episode.start_position)]
    for _ in rewards[1:]:
        nodes.append(store.graph.neighbours[nodes[-1]][0])
    values = [0.3 - 0.1 * number for number in range(len(rewards))]
    columns = {name: {"stft_l2": values, "si_sdr": values, "si_sdri": values} for name in ("paper", "fixed", "honest")}
    return EpisodeRecord(
        scene=episode.scene,
        episode_id=episode.episode_id,
        target_label=episode.target_label,
        actions=[0] * len(rewards),
        probs=[[1.0, 0.0, 0.0]] * len(rewards),
        values=[0.0] * len(rewards),
        rewards=[*rewards[:-1], 0.0],
        nodes=nodes,
        rotations=[0] * len(rewards),
        distances=[float(store.graph.distance(node, nodes[0])) for node in nodes],
        metrics={"mono": columns, "monoFromMem": columns, "zero": {"paper": {"stft_l2": [0.72], "si_sdr": [math.nan]}}},
    )


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """An experiment that was scored, and its data folder."""
    root = tmp_path_factory.mktemp("agent")
    exp, dump = root / "exp" / "trial", root / "dump"
    store = make_scene(dump / "world")
    episodes = make_episodes(store, make_clips(root), 3)
    write_episodes(dump / "episodes", "test_heard", episodes)
    write_json(dump / "episodes" / "v1" / "test_heard" / "filter_report.json", {"num_kept": 3, "num_dropped": 0})
    write_json(dump / "train_clips" / "data.json", {"licence": "Apache-2.0", "description": "formula"})
    for system, reward in (("near_target", -0.2), ("stand", -0.5), ("random", -0.6)):
        records = [make_record(store, episode, [reward] * 3) for episode in episodes]
        EvaluationResult(records, {}).write(exp / "test" / "test_heard" / system / "seed0")
    sounds = exp / "test" / "test_heard" / "near_target" / "seed0" / "sounds" / "0002_house0_1"
    sounds.mkdir(parents=True)
    for name in ("mixture", "mono", "monoFromMem", "target"):
        soundfile.write(sounds / f"{name}.wav", 0.1 * np.random.default_rng(0).standard_normal((16000, 2)), 16000)
    policy = exp / "policy" / "near_target_seed0"
    policy.mkdir(parents=True)
    lines = [
        {"update": k, "env_steps": 160 * k, "entropy": 1.0, "Environment/Reward": -8.0 + k, "Policy/Action_prob_0": 0.3}
        for k in (1, 2)
    ]
    (policy / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    conf = conf_of_agent()
    save(exp / "model.safetensors", ActiveSeparationAgent(**conf).state_dict())
    config = {
        "task": "activesep",
        "model": "activesep",
        "model_conf": conf,
        "reward": "near_target",
        "seed": 0,
        "lr": 0.5,
    }
    (exp / "config.yaml").write_text(yaml.safe_dump(config))
    facts = {"reward": "near_target", "seed": 0, "checkpoint": "x/ckpt.1.pth", "stft_l2": 0.3, "return": -4.0}
    best = {"chosen": "near_target_seed0", "valid_set": "valid", "policies": {"near_target_seed0": facts}}
    write_json(exp / "best.json", best)
    results = {"task": "activesep", **score(read_played(exp, ["test_heard"])), "best": best, "versions": {}}
    write_json(exp / "results.json", results)
    return exp, dump


def test_page(experiment, tmp_path):
    exp, dump = experiment
    page = build_report(exp, dump, ReportOptions(images_dir=tmp_path))
    assert "Active audio-visual separation" in page and "learned policy" in page
    assert page.count("<audio") == 4 and 'alt="map of house0' in page and 'alt="spectrograms of house0' in page
    assert "near_target_seed0: 2 updates, 320 environment steps" in page
    assert "higher than &#39;stand&#39;" in page
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"returns.svg", "refinement.svg", "reward_curves.svg", "map.png", "spectrograms.png"}


def test_page_of_other_episodes_than_those_that_were_played(experiment, tmp_path):
    exp, dump = (shutil.copytree(place, tmp_path / place.name) for place in experiment)
    folder = dump / "episodes" / "v1" / "test_heard"
    activesep_score.main(["--exp_dir", str(exp), "--sets", "test_heard", "--data_dirs", str(folder)])
    rows = json.loads((exp / "results.json").read_text())["rows"]
    assert {row["data_digest"] for row in rows} == {data_record([folder])["tables"]}
    assert 'alt="map of house0' in build_report(exp, dump)
    write_episodes(dump / "episodes", "test_heard", read_episodes(dump / "episodes", "test_heard")[:2])
    page = build_report(exp, dump)
    assert "Not the data that were scored" in page and 'alt="map of house0' not in page and page.count("<audio") == 4


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.1, 0.9, "higher than 'stand'"),
        (-0.9, -0.1, "lower than 'stand'"),
        (-1, 1, "no difference shown from 'stand'"),
    ],
)
def test_the_first_card_compares(experiment, low, high, words):
    results = json.loads((experiment[0] / "results.json").read_text())
    for item in results["comparisons"]:
        item["return"] |= {"ci_low": low, "ci_high": high}
    assert words in headline_cards(results, None)[0]["detail"]


def test_page_of_an_experiment_that_was_not_scored(experiment, tmp_path):
    exp, _ = experiment
    (tmp_path / "config.yaml").write_text((exp / "config.yaml").read_text())
    page = build_report(tmp_path, tmp_path / "nothing")
    assert "stage 7 (score) has not run" in page and "Active audio-visual separation" in page


def test_small_pages_leave_sounds_out(experiment):
    exp, dump = experiment
    page = build_report(exp, dump, ReportOptions(max_media_bytes=60_000))
    assert page.count("<audio") < 4 and "were left out to keep the page below 20 MB" in page


def test_pack_is_an_agent(experiment, tmp_path):
    exp, dump = experiment
    folder = pack_experiment(exp, tmp_path / "pack", dump, PackOptions())
    meta = verify_pack(folder)
    assert meta["task"] == "activesep" and meta["weights"]["source"] == "model.safetensors"
    loaded = ActiveSeparationAgent.from_pretrained(folder).state_dict()
    made = ActiveSeparationAgent.from_pretrained(exp).state_dict()
    assert loaded.keys() == made.keys() and all(bool((loaded[name] == made[name]).all()) for name in made)
    card = (folder / "README.md").read_text()
    assert "ActiveSeparationAgent.from_pretrained" in card and "| learned policy " in card


def test_results_are_shown(experiment, capsys):
    exp, _ = experiment
    show_results.main([str(exp)])
    assert "| learned policy" in capsys.readouterr().out
    show_results.main([str(exp), "--format", "tsv"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("run\tset\tsystem\treturn") and "\tstands\t" in "\n".join(lines)
