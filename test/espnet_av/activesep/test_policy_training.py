# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Policy training on a small house: exact resumption, several processes, files, refusals."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import policy_toy

from espnet_av.activesep.agent import ActiveSeparationAgent
from espnet_av.activesep.episode_figures import LENGTH, REWARD
from espnet_av.activesep.graph import LEFT, STAY
from espnet_av.activesep.learner import ActiveSeparationLearner
from espnet_av.activesep.runner import build_agent, build_training, checkpoints, make_learner, train
from espnet_av.train.advantage import compare_groups
from espnet_av.train.checkpoint import CheckpointStore
from espnet_av.train.distributed import World
from espnet_av.train.signals import TrainingInterrupted
from espnet_av.utils.errors import CheckpointError, UsageError

LATER = ("elapsed_sec", "history", "options")  # times


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Train with the threads of the programs that are killed: sums depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return policy_toy.make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory):
    """The training that nobody cuts."""
    folder = tmp_path_factory.mktemp("whole")
    run(root, folder)
    return folder


def run(root, folder, **changes):
    train(build_training(policy_toy.settings(root, folder, **changes)))


def program(root, folder, *words, processes=1):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), policy_toy.__file__]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(root), str(folder), *words], env=environment, capture_output=True, text=True, timeout=900
    )
    return done.returncode, done.stderr


def differences(one, other, where=""):
    """Return the places where two states differ by a bit."""
    if isinstance(one, torch.Tensor):
        same = isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
        return [] if same else [where]
    if isinstance(one, dict):
        names = [name for name in {**one, **other} if name not in LATER]
        return [d for name in names for d in differences(one.get(name), other.get(name), f"{where}.{name}")]
    if isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return [where]
        return [d for i, (a, b) in enumerate(zip(one, other, strict=True)) for d in differences(a, b, f"{where}.{i}")]
    return [] if one == other else [where]


def assert_same(one, other):
    assert differences(CheckpointStore(one).load(), CheckpointStore(other).load()) == []


def test_sigkill_in_a_rollout_changes_nothing(root, whole, tmp_path):
    code, errors = program(root, tmp_path, "kill_at=14")  # in the fourth rollout, two steps in
    assert code == -signal.SIGKILL, errors
    assert CheckpointStore(tmp_path).load()["update"] == 2
    (tmp_path / "data" / ".ckpt.1.pth.q1.tmp").touch()  # as of a process that was killed while it wrote
    run(root, tmp_path)
    assert_same(tmp_path, whole)
    assert not list((tmp_path / "data").glob(".*"))


def test_sigterm_saves_and_asks_to_be_started_again(root, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(ActiveSeparationLearner, "_note", ActiveSeparationLearner._note)
    policy_toy.kill_at(10, signal.SIGTERM)
    with pytest.raises(TrainingInterrupted) as stopped:
        run(root, tmp_path, save_interval=0)
    assert stopped.value.code == 99 and (tmp_path / "stopped").read_text() == "99\n"
    assert CheckpointStore(tmp_path).load()["update"] == 3  # the rollout is finished and used first
    run(root, tmp_path, save_interval=0)
    assert_same(tmp_path, whole)


@pytest.mark.parametrize("reward", ["improvement", "novelty", "navigation"])
def test_rollouts_that_cut_episodes_go_on_exactly_too(root, tmp_path, monkeypatch, reward):
    changes = {"num_steps": 3, "reward": reward, "num_updates": 4}
    run(root, tmp_path / "whole", **changes)
    monkeypatch.setattr(ActiveSeparationLearner, "_note", ActiveSeparationLearner._note)
    policy_toy.kill_at(5, signal.SIGTERM)
    with pytest.raises(TrainingInterrupted):
        run(root, tmp_path / "cut", **changes)
    run(root, tmp_path / "cut", **changes)
    assert_same(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_that_are_killed_go_on_exactly(root, tmp_path):
    cut, two = tmp_path / "cut", tmp_path / "two"
    code, _ = program(root, cut, "kill_at=14", processes=2)
    assert code != 0 and CheckpointStore(cut).load()["update"] == 2
    code, errors = program(root, cut, "--", str(two), processes=2)
    assert code == 0, errors
    assert_same(cut, two)
    state = CheckpointStore(two).load()
    assert len(state["ranks"]) == 2 and state["env_steps"] == 5 * 2 * policy_toy.STEPS * 2
    episodes = [
        [each["playing"]["episode"]["episode_id"] for each in rank["learner"]["envs"]] for rank in state["ranks"]
    ]
    assert not set(episodes[0]) & set(episodes[1])


def collect(root, tmp_path, num_steps, total=8):
    """Return what ``total`` steps of forced actions gave, the sum of the memory's losses, and the figures."""
    options = build_training(policy_toy.settings(root, tmp_path, num_steps=num_steps))
    clips = options.read_clips()
    agent = build_agent(options, (64, 64))
    learner = make_learner(options, agent, World(0, 1, torch.device("cpu")), options.read_episodes(clips), clips)
    learner.auxiliary.loss_slots = 1
    learner.begin()
    refined, rewards, losses, sums = [], [], 0.0, {}
    for number in range(total // num_steps):
        learner.choose = lambda step, number=number: [(number * num_steps + step) % 3, 0]
        _, found = learner.collect()
        for name, (value, count) in found.items():
            old = sums.get(name, (0.0, 0.0))
            sums[name] = (old[0] + value, old[1] + count)
        refined.append(learner.storage.inputs["refined"].clone())
        rewards.append(learner.storage.rewards.clone())
        (batch,) = learner.auxiliary_batches(1)
        losses += learner.auxiliary(batch).item() * num_steps
    learner.close()
    return torch.cat(refined), torch.cat(rewards), losses, sums


def test_rollouts_that_cut_episodes_see_the_same(root, tmp_path):
    whole, cut = collect(root, tmp_path, 8), collect(root, tmp_path, 2)
    torch.testing.assert_close(cut[0], whole[0])
    torch.testing.assert_close(cut[1], whole[1])
    assert cut[2] == pytest.approx(whole[2], rel=1e-4)
    assert cut[3].keys() == whole[3].keys() and cut[3][LENGTH] == (policy_toy.STEPS * 4.0, 4.0)
    for name, (value, count) in whole[3].items():
        assert cut[3][name] == (pytest.approx(value, rel=1e-4), count), name


def test_a_group_plays_the_same_episodes(root, tmp_path):
    options = build_training(policy_toy.settings(root, tmp_path, num_envs=4, num_mini_batch=1, group_size=2))
    clips = options.read_clips()
    agent = build_agent(options, (64, 64))
    learner = make_learner(options, agent, World(0, 1, torch.device("cpu")), options.read_episodes(clips), clips)
    learner.begin()
    learner.choose = lambda step: [0, 1, 0, 2]
    for _ in range(3):
        learner.collect()
        pairs = learner.target.unflatten(1, (2, 2))
        torch.testing.assert_close(pairs[:, :, 0], pairs[:, :, 1])
        assert (pairs[:, 0] - pairs[:, 1]).abs().max() > 0.1
        assert (learner.storage.rewards[:, 0] - learner.storage.rewards[:, 1]).abs().max() > 0  # other actions
    learner.close()
    with pytest.raises(UsageError, match="a divisor of num_envs, 4"):
        run(root, tmp_path / "odd", num_envs=4, group_size=3)


def test_imitation_learns_the_way_and_hands_over_to_ppo(root, tmp_path):
    changes = {"num_envs": 4, "group_size": 2, "num_updates": 16, "use_linear_lr_decay": False}
    run(root, tmp_path, imitation_updates=14, **changes)
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    unlikely = [row["action_loss"] for row in rows]  # minus the log-probability of the expert's action
    assert 1.0 < unlikely[0] < 1.2 and min(unlikely[10:14]) < 0.8 * unlikely[0]
    assert max(map(abs, unlikely[14:])) < 0.3  # the surrogate of normalised advantages lies near 0
    with pytest.raises(UsageError, match="imitation_updates is too small"):
        build_training(policy_toy.settings(root, tmp_path, imitation_updates=-1))


def test_the_expert_of_a_policy_turns_where_it_has_arrived(root, tmp_path):
    options = build_training(policy_toy.settings(root, tmp_path, imitation_updates=1))
    clips = options.read_clips()
    agent = build_agent(options, (64, 64))
    learner = make_learner(options, agent, World(0, 1, torch.device("cpu")), options.read_episodes(clips), clips)
    learner.begin()
    seen = []
    learner.choose = lambda step: seen.append(learner.infos["way"].copy()) or [int(way) % 3 for way in seen[-1]]
    learner.collect()
    ways = torch.as_tensor(np.stack(seen))
    assert (ways == STAY).any() and (ways != STAY).any()
    torch.testing.assert_close(learner.storage.expert, torch.where(ways == STAY, LEFT, ways))
    learner.infos = {name: value for name, value in learner.infos.items() if name != "way"}
    learner.choose = None
    with pytest.raises(UsageError, match="imitation_updates"):
        learner.collect()
    learner.close()


def test_what_a_group_has_in_common_falls_out():
    own = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    common = 10 * torch.arange(6.0).reshape(3, 2).repeat_interleave(3, dim=1)
    found = compare_groups(own + common, 3)
    torch.testing.assert_close(found, compare_groups(own, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[1, 4], own[1, 4] - (own[1, 3] + own[1, 5]) / 2, atol=1e-4, rtol=0)
    assert compare_groups(own, 1) is own


def test_files(root, whole):
    rows = [json.loads(line) for line in (whole / "history.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[-1]["env_steps"] == 5 * 2 * policy_toy.STEPS and rows[-1][LENGTH] == policy_toy.STEPS
    assert all(-30 < row[REWARD] < 0 for row in rows)
    settings = json.loads((whole / "training.json").read_text())
    assert settings["data_digests"]["train"]["clips"] > 1 and "git_commit" in settings
    assert [path.name for path in checkpoints(whole / "data")] == ["ckpt.0.pth", "ckpt.1.pth", "ckpt.2.pth"]
    agents = [ActiveSeparationAgent.from_pretrained(path) for path in (whole, *checkpoints(whole / "data"))]
    states = [agent.state_dict() for agent in agents]
    assert differences(states[0], states[-1]) == []  # the last checkpoint is the result
    changed = differences(states[1], states[2])
    assert any(name.startswith(".policy") for name in changed) and any(name.startswith(".memory") for name in changed)
    assert not any(name.startswith(".separator") for name in changed)


def test_other_settings_are_refused(root, whole):
    with pytest.raises(UsageError, match=r"lr: 0\.01 -> 0\.02"):
        run(root, whole, lr=0.02)
    with pytest.raises(UsageError, match="resume_mode never"):
        run(root, whole, resume_mode="never")
    run(root, whole, log_interval=7)  # finished, and no other run


def test_another_number_of_processes_is_refused(root, whole, tmp_path):
    state = CheckpointStore(whole).load()
    CheckpointStore(tmp_path).save({**state, "ranks": [*state["ranks"], *state["ranks"]]})
    with pytest.raises(CheckpointError, match="another number of processes"):
        run(root, tmp_path)


def test_settings_are_checked(root, tmp_path):
    values = policy_toy.settings(root, tmp_path)
    with pytest.raises(UsageError, match="write num_updates"):
        build_training({**values, "num_update": 3})
    with pytest.raises(UsageError, match="output_dir"):
        build_training({name: value for name, value in values.items() if name != "output_dir"})
    with pytest.raises(UsageError, match="trained separators"):
        run(root, tmp_path, separators=None)
    with pytest.raises(UsageError, match="whole environments"):
        run(root, tmp_path, num_mini_batch=3)
    with pytest.raises(UsageError, match="clips is not given"):
        run(root, tmp_path, clips=None)
