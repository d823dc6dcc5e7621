# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Whole episodes against a recorded walk of the reference environment."""

import json

import numpy as np
import pytest

from espnet_av.activesep.env import ActiveSeparationEnv
from espnet_av.activesep.episodes import read_episodes
from espnet_av.activesep.graph import azimuth_of, orientation_of
from espnet_av.activesep.sounds import ClipLibrary

POSE, AUDIO, DEPTH = 1e-6, 1e-4, 1e-6
STORED = 2e-3  # half precision of the arrays
ARRAYS = {
    "rgb": "rgb",
    "depth": "depth",
    "mixed_mag": "mixed_bin_audio_mag",
    "mixed_phase": "mixed_bin_audio_phase",
    "gt_bin": "gt_bin_comps",
    "gt_mono": "gt_mono_comps",
}


def make_env(folder, **options):
    root = folder / "scene"
    path = next(root.glob("active_datasets/v1/val*/val*.json.gz"))
    clips = ClipLibrary(next(root.glob("audio_data/*/min20s_clips/*")))
    return ActiveSeparationEnv(root, read_episodes(path), clips, reference_compat=True, **options)


@pytest.fixture(scope="module")
def folder(fixtures_dir):
    return fixtures_dir("activesep")


@pytest.fixture(scope="module")
def walk(folder):
    return json.loads((folder / "env_trajectory.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def played(folder, walk):
    """Return (episode, step) -> observation, info, done, next samples."""
    env = make_env(folder)
    found = {}
    for number, episode in enumerate(walk["episodes"]):
        observation, info = env.reset()
        done = False
        found[number, 0] = observation, info, done, env._next_starts()
        for step, action in enumerate(episode["actions"], 1):
            observation, reward, done, truncated, info = env.step(action)
            assert reward == 0 and not truncated
            found[number, step] = observation, info, done, env._next_starts()
    return found


def steps(walk):
    return (
        (number, episode, step, expected)
        for number, episode in enumerate(walk["episodes"])
        for step, expected in enumerate(episode["steps"])
    )


def test_motion_and_clock(walk, played):
    for number, episode, step, expected in steps(walk):
        observation, info, done, starts = played[number, step]
        assert info["episode_id"] == episode["episode_id"]
        assert info["node"] == expected["node"] and info["rotation"] == expected["rotation"]
        assert azimuth_of(info["rotation"]) == expected["azimuth"]
        assert orientation_of(info["rotation"]) == expected["orientation"]
        assert info["geodesic_distance"] == expected["geodesic_to_target"]
        assert done == expected["done"]
        assert starts == expected["next_start_sample"]
        assert observation["target_class"].tolist() == [expected["target_class"]]
        np.testing.assert_allclose(observation["pose"], expected["pose"], atol=POSE)


@pytest.mark.parametrize("name", ["rgb", "depth", "mixed_mag", "gt_mono"])
def test_sums_of_arrays(walk, played, name):
    rtol = {"rgb": 0.0, "depth": DEPTH}.get(name, AUDIO)
    for number, _, step, expected in steps(walk):
        array = played[number, step][0][ARRAYS[name]]
        assert list(array.shape) == expected[name]["shape"]
        if name == "gt_mono":  # phases of near-zero bins are arbitrary, and sums of phases cancel
            check_energy(array, expected[name], rtol)
        else:
            array = array.astype(np.float64)
            for value, key in ((array.sum(), "sum"), ((array**2).sum(), "sumsq"), (np.abs(array).max(), "absmax")):
                np.testing.assert_allclose(value, expected[name][key], rtol=rtol, err_msg=f"{number} {step} {key}")


@pytest.mark.parametrize("name", ["gt_bin", "mixed_phase"])
def test_energies_of_arrays_with_phases(walk, played, name):
    for number, _, step, expected in steps(walk):
        array = played[number, step][0][ARRAYS[name]]
        assert list(array.shape) == expected[name]["shape"]
        check_energy(array, expected[name], 1e-3)


def check_energy(array, expected, rtol):
    array = array.astype(np.float64)
    np.testing.assert_allclose((array**2).sum(), expected["sumsq"], rtol=rtol)
    np.testing.assert_allclose(np.abs(array).max(), expected["absmax"], rtol=rtol)


def test_stored_arrays(folder, played):
    with np.load(folder / "env_arrays.npz") as arrays:
        assert arrays.files
        for key in arrays.files:
            place, name = key.split("_", 1)
            number, step = (int(part) for part in place[1:].split("t"))
            check_array(key, played[number, step][0][name], arrays[key], played[number, step][0])


def check_array(key, ours, theirs, observation):
    channels = theirs.shape[-1]
    ours, theirs = ours[..., :channels], theirs.astype(np.float64)
    if key.endswith("rgb"):
        np.testing.assert_array_equal(ours, theirs)
    elif key.endswith("depth"):
        np.testing.assert_allclose(ours, theirs, atol=DEPTH)
    elif key.endswith("phase"):
        check_phase(key, ours, theirs, observation["mixed_bin_audio_mag"])
    elif key.endswith("comps"):
        np.testing.assert_allclose(ours[..., ::2], theirs[..., ::2], atol=STORED, rtol=STORED, err_msg=key)
        check_phase(key, ours[..., 1::2], theirs[..., 1::2], theirs[..., ::2])
    else:
        np.testing.assert_allclose(ours, theirs, atol=STORED, err_msg=key)


def check_phase(key, ours, theirs, magnitude):
    loud = magnitude > 1e-3
    assert loud.any()
    distance = np.abs(np.exp(1j * ours.astype(np.float64)) - np.exp(1j * theirs))[loud]
    assert distance.max() < STORED, key


def test_waveforms_give_the_same_spectra(folder, walk, played):
    """The default observations carry what the half precision ones do."""
    from espnet_av.activesep.reference_sensors import normalise_magnitude, stft

    env = make_env(folder)
    env.reference_compat = False
    observation, _ = env.reset()
    compared = played[0, 0][0]
    mixture = np.log1p(stft(observation["mixture_wave"] / np.float32(32768))[0])
    np.testing.assert_allclose(np.moveaxis(mixture, 0, -1), compared["mixed_bin_audio_mag"], atol=STORED)
    ears = stft(observation["target_ears"] / np.float32(32768))[0]
    theirs = compared["gt_bin_comps"][..., 0:4:2]
    np.testing.assert_allclose(np.moveaxis(ears, 0, -1), theirs, atol=STORED, rtol=STORED)
    dry = normalise_magnitude(stft(observation["target_dry"] / np.float32(32768))[0])
    np.testing.assert_allclose(dry, compared["gt_mono_comps"][..., 0], atol=STORED, rtol=STORED)
