# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A whole evaluation against the recorded one of the published program."""

import json
from pathlib import Path

import numpy as np
import pytest
from activesep_recipe import reference_agent

from espnet_av.activesep.episodes import read_episodes
from espnet_av.activesep.evaluate import EvaluationOptions, evaluate
from espnet_av.activesep.metrics import LEVELS, STFT_L2
from espnet_av.activesep.sounds import ClipLibrary
from espnet_av.activesep.vector_env import make_vector_env

STFT = 1e-3
LEVEL = 0.05  # dB
PROBABILITY = 1e-3


@pytest.fixture(scope="module")
def folder(fixtures_dir) -> Path:
    return fixtures_dir("activesep")


@pytest.fixture(scope="module")
def recorded(folder):
    path = folder / "evaluation.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def result(folder, recorded):
    scene = folder / "scene"
    (top,) = scene.glob("active_datasets/*/val*/*.json.gz")
    order = [tuple(recorded["episode_map"][str(number)]) for number in range(1, len(recorded["episode_map"]) + 1)]
    by_name = {(episode.scene, episode.episode_id): episode for episode in read_episodes(top)}
    episodes = [by_name[name] for name in order]
    (clips,) = (ClipLibrary(path) for path in scene.glob("audio_data/*/min20s_clips/train_preprocessed"))
    levels = tuple(name for name in recorded["metrics"]["mono"] if name in LEVELS)
    options = EvaluationOptions(num_envs=2, max_steps=len(recorded["actions"][0]), levels=levels)
    return evaluate(
        reference_agent(folder),
        episodes,
        lambda parts: make_vector_env(
            len(parts), scene, parts, clips, reference_compat=True, max_steps=options.max_steps
        ),
        options,
    )


def test_actions(result, recorded):
    assert [record.actions for record in result.episodes] == recorded["actions"]
    for record, expected in zip(result.episodes, recorded["action_probs"], strict=True):
        np.testing.assert_allclose(record.probs, expected, rtol=0, atol=PROBABILITY)


@pytest.mark.parametrize("kind", ["mono", "monoFromMem"])
def test_metrics_of_every_second(result, recorded, kind):
    for theirs, episodes in recorded["metrics"][kind].items():
        ours = STFT_L2 if theirs == "STFT_L2_loss" else theirs
        found = result.values(kind, "paper", ours)
        expected = [episodes[str(number)] for number in range(1, len(episodes) + 1)]
        tolerance = {"rtol": STFT} if ours == STFT_L2 else {"rtol": 0, "atol": LEVEL}
        if ours in (STFT_L2, "si_sdr"):
            np.testing.assert_allclose(found, expected, err_msg=f"{kind} {theirs}", **tolerance)


def test_aggregate(result, recorded):
    summary = result.summary()
    for name, expected in recorded["aggregate"].items():
        kind, metric = name.split("/")
        if metric in ("STFT_L2_loss", "si_sdr"):
            found = summary[kind]["paper"][STFT_L2 if metric == "STFT_L2_loss" else metric]
            np.testing.assert_allclose(found["mean"], expected["mean"], rtol=STFT, atol=LEVEL * (metric == "si_sdr"))
            np.testing.assert_allclose(found["std"], expected["std"], rtol=5e-2, atol=1e-4)


def test_log_lines(result, recorded):
    expected = recorded["aggregate"]["monoFromMem/STFT_L2_loss"]
    line = next(line for line in result.log_lines() if line.startswith("MonoFromMem STFT L2 loss over all steps"))
    assert float(line.split("mean: ")[1].split(",")[0]) == pytest.approx(expected["mean"], abs=1e-3)
