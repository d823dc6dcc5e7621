# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Metrics and rewards of active separation: anchors, what is scale-invariant, averages, states."""

import math

import numpy as np
import pytest
import torch

from espnet_av.activesep import metrics
from espnet_av.activesep.reward import REWARDS, Facts, ImprovementReward, make_reward
from espnet_av.activesep.spectra import STEP_SAMPLES, normalised_mono_target, stft
from espnet_av.utils.errors import UsageError


@pytest.fixture
def waves() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    dry = torch.randn(2, STEP_SAMPLES, generator=random) * 0.1
    ears = torch.stack((0.8 * dry, 0.3 * dry), 1)
    return {"dry": dry, "ears": ears, "mixture": (ears + 0.1 * torch.randn(ears.shape, generator=random)) / 2}


@pytest.fixture
def target(waves) -> tuple[torch.Tensor, torch.Tensor]:
    return normalised_mono_target(waves["dry"]), stft(waves["dry"])[1].unsqueeze(-1)


def test_zeros_score_what_they_must(waves, target):
    zeros = torch.zeros_like(target[0])
    torch.testing.assert_close(metrics.stft_l2(zeros, target[0]), torch.full((2,), 0.72))
    torch.testing.assert_close(
        metrics.honest_stft_l2(zeros, waves["mixture"], waves["ears"]), torch.full((2,), 0.72), rtol=1e-5, atol=0
    )
    assert metrics.oracle_phase_levels(zeros, *target)["si_sdr"].isnan().all()


def test_columns_differ_as_they_should(waves, target):
    columns = metrics.all_columns(1.01 * target[0], *target, waves["mixture"], waves["ears"], names=("si_sdr", "snr"))
    assert list(columns) == list(metrics.COLUMNS)
    assert columns["fixed"]["si_sdr"].min() > 90
    assert columns["honest"]["si_sdr"].max() < 30
    assert (columns["honest"]["si_sdri"] > 0).all()
    assert columns["paper"].keys() == {"stft_l2", "si_sdr", "snr"}
    assert "honest" not in metrics.all_columns(target[0], *target)


def test_honest_column_hears_the_phase_of_the_mixture(waves):
    magnitude, _ = stft(waves["ears"])
    mono = magnitude[:, :1].movedim(1, -1)
    levels = metrics.honest_levels(mono, waves["ears"], waves["ears"], names=("si_sdr",))
    assert levels["si_sdr"].min() > 90  # without a distractor the phase is right
    sound = metrics.heard(mono, waves["mixture"])
    assert sound.shape == waves["mixture"].shape
    mixed = metrics.wave_levels(waves["mixture"], waves["ears"])["si_sdr"].mean(-1)
    gain = metrics.honest_levels(mono, waves["mixture"], waves["ears"])
    torch.testing.assert_close(gain["si_sdr"] - gain["si_sdri"], mixed)


def test_levels_by_hand():
    reference = torch.tensor([1.0, -1.0, 1.0, -1.0])
    estimate = torch.tensor([2.0, -2.0, 2.0, -2.0]) + torch.tensor([0.5, 0.5, -0.5, -0.5]) + 7.0  # offsets do not count
    levels = metrics.wave_levels(estimate, reference, names=("si_sdr", "snr", "sd_sdr", "srr"))
    assert levels["si_sdr"].item() == pytest.approx(10 * math.log10(4 / 0.25))
    assert levels["snr"].item() == pytest.approx(10 * math.log10(1 / 1.25))
    assert levels["sd_sdr"].item() == pytest.approx(10 * math.log10(4 / 1.25))
    assert levels["srr"].item() == pytest.approx(20 * math.log10(2))


def test_mistakes(waves, target):
    with pytest.raises(UsageError, match="unknown metric.*pesq"):
        metrics.wave_levels(waves["dry"], waves["dry"], names=("pesq",))
    with pytest.raises(UsageError, match="needs the mixture"):
        metrics.wave_levels(waves["dry"], waves["dry"], names=("si_sdri",))
    with pytest.raises(UsageError, match="column"):
        metrics.oracle_phase_levels(target[0], *target, column="honest")


def test_averages():
    summary = metrics.summarise([[1.0, 3.0], [4.0, 4.0], [math.nan, 1.0], [math.inf, 1.0]])
    assert (summary.mean, summary.std, summary.count, summary.num_nan) == (3.0, 1.0, 2, 2)
    assert summary.ci95 == pytest.approx(12.706 * math.sqrt(2) / math.sqrt(2), rel=1e-3)  # t of one degree of freedom
    nothing = metrics.summarise([[math.nan]])
    assert nothing.count == 0 and nothing.num_nan == 1 and nothing.facts()["mean"] is None
    assert metrics.summarise_all({"x": [[2.0]]})["x"].mean == 2.0


def facts(not_done: list[float], **values: object) -> Facts:
    return Facts(torch.tensor(not_done), **values)


def quality(value: float, not_done: list[float]) -> Facts:
    """Facts with a normalised error of ``-value``."""
    target = torch.full((len(not_done), 4, 4, 1), 1.2)
    return facts(not_done, estimate=target + 1.2 * math.sqrt(-value), target=target)


def test_near_target():
    reward = make_reward("near_target")
    assert reward(quality(-0.25, [1.0, 0.0])).tolist() == pytest.approx([-0.25, 0.0], rel=1e-5)


@pytest.mark.parametrize(("twice", "last"), [(False, 0.1 + 10 * -0.2), (True, 20 * -0.2)])
def test_improvement(twice, last):
    reward = ImprovementReward(num_steps=3, twice_quirk=twice)
    reward.start(quality(-0.5, [0.0]))
    steps = ((-0.3, 1), (-0.2, 1), (-0.9, 0), (-0.3, 1), (-0.2, 1))  # the third action ends the episode
    values = [reward(quality(q, [alive])).item() for q, alive in steps]
    assert values == pytest.approx([0.2, last, 0.0, 0.6, last], rel=1e-4)


def test_navigation():
    reward = make_reward("navigation", slack=-0.1)
    reward.start(facts([0.0], distance=torch.tensor([3.0])))
    steps = ((2.0, 1.0), (2.0, 1.0), (7.0, 0.0), (6.0, 1.0))
    values = [reward(facts([alive], distance=torch.tensor([metres]))).item() for metres, alive in steps]
    assert values == pytest.approx([0.9, -0.1, 0.0, 0.9])


def test_novelty():
    reward = make_reward("novelty")
    reward.start(facts([0.0], places=[("a", 0)]))
    steps = ((1, 1.0), (0, 1.0), (0, 1.0), (5, 0.0), (5, 1.0))
    values = [reward(facts([alive], places=[("a", node)])).item() for node, alive in steps]
    assert values == pytest.approx([1.0, 2**-0.5, 3**-0.5, 0.0, 2**-0.5])


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_rewards_are_saved_and_restored(name):
    def observation(number: int) -> Facts:
        random = np.random.RandomState(number)
        estimate, target = (torch.from_numpy(random.rand(2, 4, 4, 1)).float() for _ in range(2))
        distance = torch.from_numpy(random.rand(2)).float()
        return Facts(torch.ones(2), estimate, target, distance, [("a", number % 2), ("b", 0)])

    one, other = make_reward(name), make_reward(name)
    one.start(observation(0))
    one(observation(1))
    other.load_state_dict(one.state_dict())
    for number in (2, 3):
        assert torch.equal(one(observation(number)), other(observation(number)))


@pytest.mark.parametrize("name", [name for name in REWARDS if make_reward(name).needs])
def test_reward_without_what_it_needs(name):
    with pytest.raises(UsageError, match=make_reward(name).needs[0]):
        make_reward(name).start(facts([0.0]))
        make_reward(name)(facts([1.0]))


def test_unknown_reward():
    with pytest.raises(UsageError, match="near_target"):
        make_reward("fame")
