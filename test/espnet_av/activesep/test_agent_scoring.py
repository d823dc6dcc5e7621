# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Played episodes become rows with intervals over episodes, and paired differences."""

import json
import math

import numpy as np
import pytest

from espnet_av.activesep.checkpoint_search import parse_policy
from espnet_av.activesep.eval_results import EpisodeRecord, EvaluationResult
from espnet_av.activesep.scoring import difference, facts_of, score
from espnet_av.report import activesep_results as shown
from espnet_av.report.results import read_results
from espnet_av.utils.errors import UsageError
from espnet_av.utils.experiment import write_json


def make_record(number, reward, distance, *, silent=False):
    """Return an episode of three seconds, worse refined than alone by nothing."""
    level = [math.nan if silent else 1.0 + number] * 3

    def kind(shift):
        return {
            "paper": {"stft_l2": [distance + shift] * 3, "si_sdr": level},
            "fixed": {"stft_l2": [distance + shift] * 3, "si_sdr": level},
            "honest": {"stft_l2": [distance + shift] * 3, "si_sdr": level, "si_sdri": level},
        }

    return EpisodeRecord(
        scene="house0",
        episode_id=str(number),
        target_label=1,
        actions=[0] * 3,
        probs=[[1.0, 0, 0]] * 3,
        values=[0.0] * 3,
        rewards=[reward, reward, 0.0],
        nodes=[0, 1, 2],
        rotations=[0] * 3,
        distances=[2.0, 1.0, 0.0],
        metrics={"mono": kind(0.1), "monoFromMem": kind(0.0), "mixture": kind(0.2)},
    )


def make_result(rewards, distance=0.3, silent=()):
    records = [make_record(k, reward, distance, silent=k in silent) for k, reward in enumerate(rewards)]
    return EvaluationResult(records, {"seed": 0})


def test_intervals_are_over_episodes_not_over_seeds():
    found = facts_of({0: [1.0, 2.0, 3.0], 1: [3.0, 4.0, 5.0]})
    assert found["mean"] == pytest.approx(3.0) and found["count"] == 3
    assert found["seed_means"] == [2.0, 4.0] and found["seed_std"] == pytest.approx(np.sqrt(2))
    half = 4.302652729696142 * 1.0 / np.sqrt(3)  # Student's t for two degrees of freedom
    assert found["ci95"] == pytest.approx(half)


def test_values_that_are_not_there_are_counted():
    found = facts_of({0: [1.0, math.nan, 3.0], 1: [math.inf, math.nan, 5.0]})
    assert found["num_nan"] == 3 and found["count"] == 2 and found["mean"] == pytest.approx((1.0 + 4.0) / 2)
    nothing = facts_of({0: [math.nan]})
    assert nothing["mean"] is None and nothing["num_nan"] == 1


def test_difference_is_paired():
    ours = {0: [1.0, 11.0, 21.0, 31.0]}
    found = difference(ours, {0: [0.0, 10.0, 20.0, 30.1]})
    assert found["mean"] == pytest.approx(0.975) and found["ci_low"] > 0.8
    assert difference(ours, {0: [1.0]}) is None
    seeds = difference({0: [1.0, 2.0], 1: [3.0, 4.0]}, {1: [0.0, 1.0]})
    assert seeds["seed_means"] == [1.0, 3.0]  # seed 0 has no partner of its own


@pytest.fixture()
def played():
    return {
        "test_heard": {
            "near_target": {0: make_result([-0.2, -0.3, -0.4], 0.2), 1: make_result([-0.3, -0.2, -0.4], 0.2)},
            "stand": {0: make_result([-0.6, -0.7, -0.8], 0.4, silent=(2,))},
        }
    }


def test_rows(played):
    found = score(played, ["near_target", "stand"])
    rows = {row["system"]: row for row in found["rows"]}
    assert list(rows) == ["near_target", "stand", "mixture", "mixture_along_policy"]
    policy, stand = rows["near_target"], rows["stand"]
    assert policy["return"]["mean"] == pytest.approx(-0.6) and policy["seeds"] == [0, 1]
    assert policy["refined"]["paper"]["stft_l2"]["mean"] == pytest.approx(0.2)
    assert policy["alone"]["paper"]["stft_l2"]["mean"] == pytest.approx(0.3)
    assert rows["mixture"]["refined"]["paper"]["stft_l2"]["mean"] == pytest.approx(0.6)
    assert stand["refined"]["honest"]["si_sdr"]["num_nan"] == 1 and stand["last_distance"]["mean"] == 0
    assert policy["seconds"]["at_once"][0] is None
    assert policy["seconds"]["at_once"][1] == pytest.approx(0.72 * 0.3)
    (compared,) = found["comparisons"]
    assert compared["return"]["mean"] == pytest.approx(0.8) and compared["return"]["ci_low"] > 0
    assert compared["paper"]["mean"] == pytest.approx(-0.2)


def test_tables(played, tmp_path):
    results = {"task": shown.TASK, **score(played), "versions": {}}
    write_json(tmp_path / "results.json", results)
    results = read_results(tmp_path)  # what is no number has become null
    json.dumps(results, allow_nan=False)
    text = shown.results_markdown(results, [], "trial")
    first = text.splitlines()[2]
    assert first.startswith("| set") and all(name in first for name in ("paper", "fixed", "honest", "return"))
    assert "| learned policy " in text and " 1 of 3 |" in text
    assert " higher |" in text and "full model, paper" in text
    assert "## Seeds" in text


def test_names_of_policies():
    assert parse_policy("novelty_seed12") == ("novelty", 12)
    with pytest.raises(UsageError, match="not the name of a policy"):
        parse_policy("novelty")
