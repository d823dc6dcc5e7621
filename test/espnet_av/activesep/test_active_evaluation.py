# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluations on a small house: the same for any number of environments, memory per episode, files, search."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

sys.path.insert(0, str(Path(__file__).parent))
import policy_toy

from espnet_av.activesep.agent import ActiveSeparationAgent
from espnet_av.activesep.convert import AGENT, to_reference, write_config, write_original
from espnet_av.activesep.eval_results import EvaluationResult
from espnet_av.activesep.evaluate import EvaluationOptions, evaluate
from espnet_av.activesep.evaluation_run import build_run, run_evaluation, search
from espnet_av.activesep.runner import checkpoints
from espnet_av.utils.errors import MissingDataError, UsageError

CONF = {"separator": {"base_channels": 2}, **policy_toy.MODEL}
CONF["policy"] = {**CONF["policy"], "image_size": 64}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return policy_toy.make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def agent():
    torch.manual_seed(3)
    return ActiveSeparationAgent(**CONF).eval()


def make_run(root, folder, **changes):
    names = ("world_root", "episodes", "split", "clips", "class_table", "max_steps", "device")
    values = {name: value for name, value in policy_toy.settings(root, folder).items() if name in names}
    return build_run({**values, "output_dir": str(folder), **changes})


def test_results_need_a_folder(root, agent, tmp_path):
    run = dataclasses.replace(make_run(root, tmp_path), output_dir=None)
    with pytest.raises(UsageError, match="--output_dir"):
        run_evaluation(run, agent)


@pytest.mark.parametrize("deterministic", [True, False])
def test_number_of_environments_does_not_matter(root, agent, tmp_path, deterministic):
    results = [
        run_evaluation(make_run(root, tmp_path / str(n), num_envs=n, deterministic=deterministic), agent)
        for n in (1, 4)
    ]
    one, four = (result.to_json() for result in results)
    assert one["episodes"] == four["episodes"] and one["summary"] == four["summary"]
    assert len(one["episodes"]) == 9 and one["episodes"][0]["rewards"][-1] == 0.0
    if not deterministic:
        other = run_evaluation(make_run(root, tmp_path / "seed", deterministic=False, seeds=7), agent)
        assert other.to_json()["episodes"] != one["episodes"]


def test_latest_refined_estimates_are_committed(root, agent, tmp_path):
    """With a refinement window of one second, a second's estimate is final when the next one has been heard."""
    run = make_run(root, tmp_path, refine=1, episode_count=2, num_envs=2)
    clips = run.read_clips()
    kept = []
    evaluate(
        agent,
        run.read_episodes(clips)[:2],
        lambda parts: run.make_envs(parts, clips, ["rgb"]),
        run.options(0),
        on_episode=lambda index, arrays: kept.append(arrays),
    )
    mono = torch.from_numpy(kept[0]["mono"])
    poses = torch.tensor([[0.0, 0, 0, t] for t in range(len(mono))])
    for second in range(len(mono)):
        last = min(second + 1, len(mono) - 1)
        with torch.no_grad():
            refined = agent.memory(
                *(mono[last : last + 1], poses[last : last + 1], mono[:last].flatten(1)[:, None]),
                *(poses[:last, None], torch.ones(1, last)),
            )
        torch.testing.assert_close(
            torch.from_numpy(kept[0]["monoFromMem"])[second], refined[second, 0], rtol=1e-4, atol=1e-5
        )


def test_files_and_sounds(root, agent, tmp_path):
    run = make_run(root, tmp_path, episode_count=2, seeds=[0, 1], deterministic=False, export_sounds=1)
    result = run_evaluation(run, agent)
    assert len(result.episodes) == 4 and result.settings["seed"] == [0, 1]
    again = EvaluationResult.read(tmp_path / "eval_metrics.json")
    assert again.to_json()["episodes"] == result.to_json()["episodes"]
    (folder,) = (tmp_path / "sounds").iterdir()
    assert {path.name for path in folder.glob("*.wav")} == {
        f"{n}.wav" for n in ("mixture", "target", "mono", "monoFromMem")
    }
    sound, rate = soundfile.read(folder / "mixture.wav")
    assert sound.shape == (policy_toy.STEPS * 16000, 2) and rate == 16000
    assert len(list((folder / "steps").glob("*_monoFromMem.wav"))) == policy_toy.STEPS
    summary = json.loads((tmp_path / "eval_metrics.json").read_text())["summary"]
    assert {"paper", "fixed", "honest"} == set(summary["monoFromMem"]) and summary["return"]["count"] == 4


def test_movers_and_estimators(root, agent, tmp_path):
    seen = []

    def rotate(move):
        seen.append((move.step, list(move.infos["node"])))
        return np.ones(len(move.episodes), dtype=int)

    zero = {"zero": lambda sensed, separation: torch.zeros_like(separation.mono)}
    result = run_evaluation(make_run(root, tmp_path, num_envs=3), agent, mover=rotate, estimators=zero)
    assert all(record.actions == [1] * policy_toy.STEPS and len(set(record.nodes)) == 1 for record in result.episodes)
    assert [step for step, _ in seen] == list(range(policy_toy.STEPS)) * 3
    np.testing.assert_allclose(result.values("zero", "paper", "stft_l2"), 0.72, atol=1e-5)


def test_search_goes_on_where_it_stopped(root, agent, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    write_config(data, AGENT, CONF)
    for number in (0, 2, 10):
        torch.manual_seed(number)
        write_original(data / f"ckpt.{number}.pth", to_reference(ActiveSeparationAgent(**CONF).state_dict()))
    files = checkpoints(data)
    assert [path.name for path in files] == ["ckpt.0.pth", "ckpt.2.pth", "ckpt.10.pth"]
    assert [path.name for path in checkpoints(data, first=1, interval=2)] == ["ckpt.2.pth"]
    run = make_run(root, tmp_path / "search", episode_count=2)
    best = search(run, files)
    found = json.loads((tmp_path / "search" / "checkpoint_search.json").read_text())
    values = {name: row["stft_l2"] for name, row in found["checkpoints"].items()}
    assert best.name == found["best"] == min(values, key=values.get) and len(set(values.values())) == 3
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "search").glob("*/eval_metrics.json")}
    assert search(run, files) == best and all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_mistakes(root, agent, tmp_path):
    with pytest.raises(UsageError, match="write num_envs"):
        make_run(root, tmp_path, num_env=3)
    with pytest.raises(UsageError, match="no such episodes"):
        run_evaluation(make_run(root, tmp_path, episode_names=["house0_99999"]), agent)
    with pytest.raises(UsageError, match="no checkpoint"):
        checkpoints(tmp_path)
    with pytest.raises(MissingDataError, match="no such evaluation"):
        EvaluationResult.read(tmp_path / "none.json")
    run = make_run(root, tmp_path)
    longer = dataclasses.replace(run.options(0), max_steps=policy_toy.STEPS + 1)
    clips = run.read_clips()
    with pytest.raises(UsageError, match="another length"):
        evaluate(agent, run.read_episodes(clips)[:1], lambda parts: run.make_envs(parts, clips, ["rgb"]), longer)
    with pytest.raises(UsageError, match="unknown metric"):
        EvaluationOptions(levels=("pesq",))
