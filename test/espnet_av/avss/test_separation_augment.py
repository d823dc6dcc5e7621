# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from espnet_av.avss import augment
from espnet_av.utils.errors import DataError, UsageError


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def noise(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    return rng.standard_normal(num_samples).astype(np.float32)


def rms_db(signal: np.ndarray) -> float:
    return 20 * np.log10(np.sqrt(np.square(signal, dtype=np.float64).mean()))


def test_peak_gain_brings_the_largest_magnitude_to_the_peak():
    assert augment.peak_gain(np.array([0.1, -0.33])) == pytest.approx(3.0)
    assert augment.peak_gain(np.array([0.1, -0.5]), 0.25) == pytest.approx(0.5)
    assert augment.peak_gain(np.zeros(4)) == augment.peak_gain(np.zeros(0)) == 1.0


@pytest.mark.parametrize("wanted", [-5.0, 0.0, 30.0])
def test_noise_is_added_at_the_ratio(rng, wanted):
    mix, sound = 0.05 * noise(rng, 8000), 3 * noise(rng, 8000)
    noisy = augment.add_noise(mix, sound, wanted)
    assert rms_db(mix) - rms_db(noisy - mix) == pytest.approx(wanted, abs=0.01)
    assert noisy.dtype == np.float32


def test_silence_gets_no_noise(rng):
    mix, silence = noise(rng, 100), np.zeros(100, np.float32)
    np.testing.assert_array_equal(augment.add_noise(mix, silence, 0.0), mix)
    np.testing.assert_array_equal(augment.add_noise(silence, mix, 0.0), silence)
    with pytest.raises(DataError, match="length"):
        augment.add_noise(mix, silence[1:], 0.0)


def test_background_noise_draws_ratios_from_the_whole_range_and_clips(rng):
    mix = 0.05 * noise(rng, 4000)
    step = augment.RandomBackgroundNoise(noise, snr_db=(0, 30), clip=False)
    ratios = [rms_db(mix) - rms_db(step(mix, rng) - mix) for _ in range(200)]
    assert 0 <= min(ratios) < 3 and 27 < max(ratios) <= 30.01
    loud = augment.RandomBackgroundNoise(noise, snr_db=(0, 0))(noise(rng, 4000), rng)
    assert loud.max() == 1 and loud.min() == -1


def test_probability_is_the_share_of_clips(rng):
    mix = 0.05 * noise(rng, 50)
    noisy = augment.RandomBackgroundNoise(noise, probability=0.25)
    changed = sum(not np.array_equal(noisy(mix, rng), mix) for _ in range(1000))
    assert 200 < changed < 300
    heard = augment.RandomImpulseResponse(lambda _: np.array([0.5]), probability=0.25)
    changed = sum(not np.array_equal(heard(mix, mix[None], rng)[0], mix) for _ in range(1000))
    assert 200 < changed < 300


def test_one_response_for_mixture_and_targets(rng):
    target = 0.1 * noise(rng, 600).reshape(2, 300)
    response = np.array([0.5, 0.0, -0.25], dtype=np.float32)
    mix, heard = augment.RandomImpulseResponse(lambda _: response)(target.sum(axis=0), target, rng)
    expected = 0.5 * target
    expected[:, 2:] -= 0.25 * target[:, :-2]
    np.testing.assert_allclose(heard, expected, atol=1e-6)
    np.testing.assert_allclose(mix, heard.sum(axis=0), atol=1e-6)
    assert mix.dtype == heard.dtype == np.float32 and heard.shape == target.shape


def test_response_is_clipped_on_demand(rng):
    loud = np.array([0.5, -0.5], dtype=np.float32)
    response = lambda _: np.array([4.0])  # noqa: E731
    assert augment.RandomImpulseResponse(response)(loud, loud[None], rng)[1].max() == 1
    assert augment.RandomImpulseResponse(response, clip=False)(loud, loud[None], rng)[1].max() == 2


@pytest.mark.parametrize("response", [np.zeros(3), np.zeros(0), np.ones((2, 2))])
def test_unusable_response_is_an_error(rng, response):
    with pytest.raises(DataError, match="impulse response"):
        augment.RandomImpulseResponse(lambda _: response)(np.ones(4), np.ones((1, 4)), rng)


@pytest.mark.parametrize(
    "options", [{"probability": 1.5}, {"probability": True}, {"snr_db": (5, 0)}, {"snr_db": 5}, {"snr_db": (1, 2, 3)}]
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(UsageError, match="noise"):
        augment.RandomBackgroundNoise(noise, **options)
