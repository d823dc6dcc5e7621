# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""STFT distance, levels and reward against numbers of the reference."""

import json
from pathlib import Path

import pytest
import torch
from activesep_recipe import read

from espnet_av.activesep import metrics
from espnet_av.activesep.reward import Facts, make_reward, mean_square_error, near_target_reward
from espnet_av.activesep.spectra import QUIRK_N_FFT, inverse

EXACT_DB = {"si_sdr": 1e-2, "snr": 1e-2, "sd_sdr": 1e-2}
ESTIMATES = {"mono": "pred", "monoFromMem": "pred_mem"}
FIRST = "e0t0_"


@pytest.fixture(scope="module")
def folder(fixtures_dir) -> Path:
    return fixtures_dir("activesep")


@pytest.fixture(scope="module")
def expected(folder) -> dict:
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def estimates(folder) -> dict[str, torch.Tensor]:
    return read(folder / "metrics.npz")


@pytest.fixture(scope="module")
def truth(folder) -> dict[str, torch.Tensor]:
    arrays = read(folder / "env_arrays.npz")
    return {name.removeprefix(FIRST): value.float()[None] for name, value in arrays.items() if name.startswith(FIRST)}


def target(truth: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    comps = truth["gt_mono_comps"]
    return comps[..., :1], comps[..., 1:2]


def test_stft_distance(expected, estimates, truth):
    assert metrics.stft_l2(estimates["pred"], target(truth)[0]).item() == pytest.approx(
        expected["stft_l2_mono"], rel=1e-4
    )
    ears = truth["gt_bin_comps"][..., 0:4:2]
    distance = metrics.stft_l2_binaural(truth["mixed_bin_audio_mag"], estimates["bin_masks"], ears)
    assert distance.item() == pytest.approx(expected["stft_l2_bin"], rel=1e-4)


def test_reward(expected, estimates, truth):
    magnitude, alive = target(truth)[0], torch.ones(1)
    assert mean_square_error(estimates["pred"], magnitude).item() == pytest.approx(expected["mse"], rel=1e-4)
    assert near_target_reward(estimates["pred"], magnitude, alive).item() == pytest.approx(expected["reward"], rel=1e-4)
    reward = make_reward("near_target")(Facts(not_done=alive, estimate=estimates["pred"], target=magnitude))
    assert reward.item() == pytest.approx(expected["reward"], rel=1e-4)


def test_wrong_inverse_is_reproduced(estimates, truth):
    magnitude, phase = target(truth)
    for name, spectrum in (("wave_pred", estimates["pred"]), ("wave_gt", magnitude)):
        wave = inverse(spectrum[..., 0], phase[..., 0], n_fft=QUIRK_N_FFT, length=len(estimates[name]))
        torch.testing.assert_close(wave[0], estimates[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ESTIMATES)
def test_levels(expected, estimates, truth, kind):
    magnitude, phase = target(truth)
    levels = metrics.oracle_phase_levels(estimates[ESTIMATES[kind]], magnitude, phase, names=tuple(EXACT_DB))
    quality = expected["quality"][kind]
    for name, tolerance in EXACT_DB.items():
        assert levels[name].item() == pytest.approx(quality[name], abs=tolerance), name


def test_improvements_are_those_of_the_reference(expected, estimates, truth):
    magnitude, phase = target(truth)
    mixture = {"mixed": truth["mixed_bin_audio_mag"], "mixed_phase": truth["mixed_bin_audio_phase"]}
    names = ("si_sdri", "sd_sdri", "snri")
    levels = metrics.oracle_phase_levels(estimates["pred"], magnitude, phase, names=names, **mixture)
    for name in names:
        assert levels[name].item() == pytest.approx(expected["quality"]["mono"][name], abs=1e-2), name


def test_aggregation(folder):
    evaluation = json.loads((folder / "evaluation.json").read_text())
    for name, expected in evaluation["aggregate"].items():
        kind, metric = name.split("/")
        summary = metrics.summarise(list(evaluation["metrics"][kind][metric].values()))
        assert summary.mean == pytest.approx(expected["mean"], rel=1e-4), name
        assert summary.std == pytest.approx(expected["std"], rel=1e-3), name
