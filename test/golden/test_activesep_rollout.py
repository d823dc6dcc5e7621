# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Two rollouts with a policy update and a memory update between them, against the published trainer."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from activesep_recipe import reference_agent

from espnet_av.activesep.convert import to_reference
from espnet_av.activesep.episode_figures import L2, LENGTH, REWARD
from espnet_av.activesep.episodes import read_episodes
from espnet_av.activesep.learner import ActiveSeparationLearner, LearnerOptions
from espnet_av.activesep.reward import make_reward
from espnet_av.activesep.sounds import ClipLibrary
from espnet_av.activesep.vector_env import make_vector_env
from espnet_av.train.advantage import normalise
from espnet_av.train.ppo_options import PPOOptions
from espnet_av.train.ppo_update import update_auxiliary, update_policy

CLIP, LR, MEMORY_LR = 0.1, 1e-4, 5e-3  # published settings, before anything decays
VALUE = 1e-3
LOSS = 1e-3
DELTA = 5e-2
LATER = 5e-2
PREFIX = "actor_critic."


@pytest.fixture(scope="module")
def folder(fixtures_dir) -> Path:
    return fixtures_dir("activesep")


@pytest.fixture(scope="module")
def recorded(folder):
    path = folder / "rollout.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return json.loads(path.read_text())


def make_envs(folder: Path, first: list[str]):
    """Return environments whose lists of episodes begin with those named."""
    scene = folder / "scene"
    (top,) = scene.glob("active_datasets/*/val*/*.json.gz")
    episodes = read_episodes(top)
    (clips,) = scene.glob("audio_data/*/min20s_clips/train_preprocessed")
    starts = [next(i for i, e in enumerate(episodes) if e.episode_id == name) for name in first]
    lists = [episodes[start:] + episodes[:start] for start in starts]
    return make_vector_env(len(lists), scene, lists, ClipLibrary(clips), reference_compat=True)


class Run:
    """What happened, in the places of the recording."""

    def __init__(self, folder: Path, recorded: dict, tmp: Path):
        agent = copy.deepcopy(reference_agent(folder))
        agent.memory.requires_grad_(True), agent.policy.requires_grad_(True)
        actions = np.array(recorded["actions"])
        self.steps = len(actions) // len(recorded["rollouts"])
        slots = json.loads((folder / "external_memory.json").read_text())["total_size"] + 1
        options = LearnerOptions(num_steps=self.steps, max_steps=self.steps, loss_slots=slots)
        envs = make_envs(folder, recorded["env_first_episode"])
        learner = ActiveSeparationLearner(agent, envs, make_reward("near_target"), options)
        ppo = PPOOptions(output_dir=str(tmp), clip_param=CLIP)
        learner.begin()
        self.before = {name: value.clone() for name, value in to_reference(agent.state_dict()).items()}
        self.figures, self.storages, self.stats = [], [], {}
        for number in range(len(recorded["rollouts"])):
            learner.choose = lambda step, number=number: actions[number * self.steps + step]
            next_value, sums = learner.collect()
            learner.storage.finish(next_value, gamma=ppo.gamma, tau=ppo.tau)
            self.figures.append(sums)
            self.storages.append(copy.deepcopy(learner.storage))
            if number == 0:
                self.update(learner, ppo)
        self.agent = agent

    def update(self, learner, ppo):
        storage, policy = learner.storage, learner.policy
        optimizer = torch.optim.Adam(policy.parameters(), lr=LR, eps=ppo.eps)
        self.stats |= update_policy(policy, optimizer, storage, normalise(storage.advantages()), ppo, CLIP)
        self.after_policy = {name: value.clone() for name, value in to_reference(learner.model.state_dict()).items()}
        optimizer = torch.optim.Adam(learner.auxiliary.parameters(), lr=MEMORY_LR, eps=ppo.eps)
        found = update_auxiliary(learner.auxiliary, optimizer, lambda: learner.auxiliary_batches(1), ppo)
        self.stats |= {"memory_loss": found["loss"], **learner.auxiliary_stats()}
        self.after_memory = {name: value.clone() for name, value in to_reference(learner.model.state_dict()).items()}
        learner.after_update()


@pytest.fixture(scope="module")
def run(folder, recorded, tmp_path_factory) -> Run:
    return Run(folder, recorded, tmp_path_factory.mktemp("rollout"))


def assert_close(found, expected, **tolerances):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), **{"rtol": 0, "atol": 0, **tolerances})


def test_first_rollout(run, recorded):
    expected, storage = recorded["rollouts"][0], run.storages[0]
    assert_close(storage.rewards, expected["rewards"], atol=VALUE)
    assert_close(storage.values[:-1], expected["values"], atol=VALUE)
    assert_close(storage.log_probs, expected["log_probs"], atol=VALUE)
    assert_close(storage.masks[1:], expected["masks"][1:])
    assert_close(storage.returns, expected["returns"][: run.steps], atol=1e-2)
    assert_close(storage.inputs["mask"].sum((2, 3, 4)), expected["binmask_sum"], rtol=1e-2)


def test_energy_of_refined_estimates(run, recorded):
    for expected, storage, tolerance in zip(recorded["rollouts"], run.storages, (1e-3, LATER), strict=False):
        energy = storage.inputs["refined"].double().square().sum((2, 3, 4))
        assert_close(energy, expected["monoFromMem_l2"], rtol=tolerance)


def test_figures_of_episodes(run, recorded):
    expected = recorded["rollouts"][0]["episode_stats_cumulative"]
    names = {
        "ep_r": REWARD,
        "ep_s": LENGTH,
        "ep_b": f"{L2}bin_avgAllSteps",
        "ep_ma": f"{L2}mono_avgAllSteps",
        "ep_ml": f"{L2}mono_lastStep",
        "ep_mma": f"{L2}monoFromMem_avgAllSteps",
        "ep_mml": f"{L2}monoFromMem_lastStep",
    }
    for theirs, ours in names.items():
        total, count = run.figures[0][ours]
        assert_close(total, np.sum(expected[theirs]), rtol=2e-3)
        assert count == np.sum(expected["ep_c"])
    for action in range(3):
        total, _ = run.figures[0][f"Policy/Action_prob_{action}"]
        assert_close(total, np.array(expected["ep_p"])[:, action].sum(), atol=VALUE)


def test_losses(run, recorded):
    expected = recorded["rollouts"][0]
    for ours, theirs in (
        ("value_loss", "value_loss"),
        ("action_loss", "action_loss"),
        ("entropy", "entropy"),
        ("bin_loss", "bin_loss"),
        ("mono_loss", "mono_loss"),
        ("memory_loss", "monoFromMem_loss_mean_over_4_epochs"),
    ):
        assert_close(run.stats[ours].item(), expected[theirs], rtol=LOSS, atol=1e-5)


@pytest.mark.parametrize("part", ["pol", "sep"])
def test_changes_of_parameters(run, recorded, part):
    expected = recorded["rollouts"][0][f"after_{part}_update"]
    after = run.after_policy if part == "pol" else run.after_memory
    for name, value in expected.items():
        change = after[PREFIX + name].double() - run.before[PREFIX + name].double()
        assert_close(change.norm().item(), value["delta_l2"], rtol=DELTA)
    untouched = set(after) - {PREFIX + name for name in recorded["rollouts"][0]["after_pol_update"]}
    if part == "pol":
        assert all(torch.equal(after[name], run.before[name]) for name in untouched)


def test_second_rollout(run, recorded):
    expected, storage = recorded["rollouts"][1], run.storages[1]
    assert_close(storage.masks[0], expected["masks"][0])
    assert_close(storage.rewards, expected["rewards"], rtol=LATER)
    assert_close(storage.values[:-1], expected["values"], rtol=LATER, atol=VALUE)
    assert_close(storage.log_probs, expected["log_probs"], rtol=LATER)
