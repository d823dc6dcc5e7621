# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The environment: gymnasium's rules, sounds, chance, state, bad input."""

import dataclasses

import gymnasium
import numpy as np
import pytest
import scipy.signal
import soundfile
from activesep_worlds import make_clips, make_episodes, make_scene
from gymnasium.utils.env_checker import check_env

from espnet_av.activesep.binaural import hear
from espnet_av.activesep.env import ActiveSeparationEnv
from espnet_av.activesep.graph import FORWARD, LEFT, RIGHT, STAY
from espnet_av.activesep.scene import SceneStore, open_scene
from espnet_av.activesep.sounds import ClipLibrary, take_chunk
from espnet_av.activesep.vector_env import load_vector_state, make_vector_env, vector_state
from espnet_av.utils.errors import DataError, UsageError

STEPS = 4


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("env")
    for name, seed in (("house0", 1), ("house1", 2)):
        make_scene(folder, name, seed)
    return folder


@pytest.fixture(scope="module")
def clips(root):
    return make_clips(root)


@pytest.fixture(scope="module")
def store(root):
    return open_scene(root, "house0")


@pytest.fixture(scope="module")
def episodes(root, store, clips):
    return make_episodes(store, clips) + make_episodes(open_scene(root, "house1"), clips)


@pytest.fixture
def env(root, episodes, clips):
    return ActiveSeparationEnv(root, episodes, clips, max_steps=STEPS)


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.filterwarnings("ignore:.*WARN.*:UserWarning")
def test_gymnasium_checker(root, episodes, clips, compat):
    env = ActiveSeparationEnv(root, episodes, clips, max_steps=STEPS, reference_compat=compat, shuffle=True)
    check_env(env, skip_render_check=True)


def test_moves_and_end(env, episodes):
    observation, info = env.reset()
    assert env.observation_space.contains(observation)
    start = info["rotation"]
    _, reward, done, truncated, info = env.step(LEFT)
    assert info["rotation"] == (start + 90) % 360 and reward == 0 and not done and not truncated
    env.step(RIGHT)
    _, _, _, _, info = env.step(FORWARD)
    assert info["node"] in (*env.store.graph.neighbours[env._start_node], env._start_node)
    assert info["geodesic_distance"] == env.store.graph.distance(info["node"], env._source_nodes[0])
    assert env.step(FORWARD)[2]
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(FORWARD)
    assert env.reset()[1]["episode_id"] == episodes[1].episode_id
    with pytest.raises(UsageError, match="action"):
        env.step(4)


def test_stay_is_off_unless_asked_for(root, episodes, clips):
    assert ActiveSeparationEnv(root, episodes, clips).action_space.n == 3
    env = ActiveSeparationEnv(root, episodes, clips, allow_stay=True)
    assert env.action_space.n == 4
    _, before = env.reset()
    _, _, _, _, after = env.step(STAY)
    assert (before["node"], before["rotation"]) == (after["node"], after["rotation"])


def test_pose_is_seen_from_the_start(root, store, episodes, clips):
    env = ActiveSeparationEnv(store, [e for e in episodes if e.scene == "house0"], clips)
    for _ in range(4):
        observation, info = env.reset()
        np.testing.assert_array_equal(observation["pose"], 0)
        for step in range(1, 10):
            before = observation["pose"]
            node, heading = info["node"], before[2]
            observation, _, _, _, info = env.step(FORWARD if step % 3 else LEFT)
            moved = observation["pose"][:2] - before[:2]
            length = float(info["node"] != node)
            # heading counts to the left, the second coordinate to the right
            np.testing.assert_allclose(moved, [length * np.cos(heading), -length * np.sin(heading)], atol=1e-6)
            assert observation["pose"][3] == step
            if not step % 3:
                assert np.isclose((observation["pose"][2] - heading) % (2 * np.pi), np.pi / 2)


@pytest.mark.parametrize("convolution", ["same", "causal"])
def test_sound_is_the_convolution(store, clips, convolution):
    clip = clips[clips.names[0]]
    receiver, source = store.graph.nodes[2], store.sources[0]
    response = store.rir(90, receiver, source)
    start = len(clip) - 5000  # crosses the end of the clip
    if convolution == "same":
        chunk = take_chunk(clip, start, 16000)
        expected = [scipy.signal.fftconvolve(chunk, response[:, ear], mode="same") for ear in (0, 1)]
    else:
        chunk = take_chunk(clip, start - 16000, 32000)
        expected = [scipy.signal.fftconvolve(chunk, response[:, ear])[16000:32000] for ear in (0, 1)]
    for wrap in (False, True):
        heard = hear(store, 90, receiver, source, clip, start, 16000, convolution=convolution, wrap_int16=wrap)
        assert heard.dtype == np.int16
        assert np.abs(heard - np.rint(expected)).max() <= (0 if wrap and convolution == "same" else 1)


class Loud:
    """A scene where everything is twelve times as loud."""

    def __init__(self, store):
        self.points, self.graph, self.sources = store.points, store.graph, store.sources
        self._store = store

    def rir(self, *place):
        return self._store.rir(*place) * 12

    def observation(self, *place):
        return self._store.observation(*place)


def test_loud_samples_saturate_or_wrap(store, clips):
    loud = SceneStore("loud", Loud(store))
    place = 0, store.sources[0], store.sources[0]
    clip = (np.sin(np.arange(20000) / 9) * 32000).astype(np.int16)
    exact = scipy.signal.fftconvolve(clip[:16000], loud.rir(*place)[:, 0], mode="same")
    over = np.abs(exact) > 33000
    assert over.any()
    clipped = hear(loud, *place, clip, 0, 16000)[0]
    wrapped = hear(loud, *place, clip, 0, 16000, wrap_int16=True)[0]
    assert (np.abs(clipped[over].astype(int)) >= 32767).all()
    np.testing.assert_array_equal(wrapped[over], ((np.rint(exact[over]).astype(np.int64) + 32768) % 65536 - 32768))


def test_mixture_is_the_mean_and_clips_go_on(env):
    observation, _ = env.reset()
    first = env._starts
    components = env._components()
    np.testing.assert_array_equal(observation["target_ears"], components[0])
    mean = np.sum(components, axis=0, dtype=np.int32) / 2
    assert np.abs(observation["mixture_wave"] - mean).max() <= 0.5
    for _ in range(3):
        env.step(LEFT)
    lengths = [len(wave) for wave in env._waves]
    assert env._starts == [(s + 3 * 16000) % n for s, n in zip(first, lengths, strict=True)]


def test_sensors(root, episodes, clips):
    env = ActiveSeparationEnv(root, episodes, clips, sensors=("audio", "class"))
    observation, _ = env.reset()
    assert set(observation) == {"mixture_wave", "target_class"} == set(env.observation_space.spaces)
    assert observation["target_class"] == episodes[0].target_label
    with pytest.raises(UsageError, match="smell"):
        ActiveSeparationEnv(root, episodes, clips, sensors=("smell",))


def test_one_to_three_sources(store, clips):
    for count in (0, 2):
        env = ActiveSeparationEnv(
            store, make_episodes(store, clips, 2, num_distractors=count, min_distance=1.0), clips, reference_compat=True
        )
        observation, _ = env.reset()
        assert observation["gt_bin_comps"].shape == (512, 32, 4 * (count + 1))
        assert env.observation_space.contains(observation)


def test_same_seed_same_walk(root, episodes, clips):
    def walk(seed):
        env = ActiveSeparationEnv(root, episodes, clips, max_steps=STEPS, shuffle=True)
        ids = [env.reset(seed=seed)[1]["episode_id"]]
        return ids + [env.reset()[1]["episode_id"] for _ in range(20)]

    assert walk(5) == walk(5) != walk(6)


def test_state_continues_exactly(root, episodes, clips):
    def make():
        return ActiveSeparationEnv(root, episodes, clips, max_steps=STEPS, shuffle=True, seed=3)

    def play(env, observation, count):
        found = [observation]
        for step in range(count):
            observation, _, done, _, _ = env.step(step % 3)
            found.append(observation)
            if done:
                found.append(env.reset()[0])
        return found

    one = make()
    play(one, one.reset()[0], 6)
    import json

    state = json.loads(json.dumps(one.state))
    other = make()
    other.state = state
    ours, theirs = play(one, one.observe()[0], 11), play(other, other.observe()[0], 11)
    assert len(ours) == len(theirs) and all(map(same, ours, theirs))


def test_clock_runs_on_where_the_reference_lets_it(store, episodes, clips):
    single = [next(e for e in episodes if e.scene == "house0")]
    for compat, expected in ((True, 3), (False, 0)):
        env = ActiveSeparationEnv(store, single, clips, max_steps=2, reference_compat=compat)
        env.reset()
        env.step(LEFT), env.step(LEFT)
        assert env.reset()[0]["pose"][3] == expected


def test_vector_resets_in_the_last_step(root, episodes, clips):
    with_two = make_vector_env(2, root, episodes, clips, max_steps=STEPS)
    observation, info = with_two.reset(seed=[0, 1])
    assert observation["mixture_wave"].shape == (2, 2, 16000) and set(info["scene"]) == {"house0", "house1"}
    for step in range(1, STEPS + 1):
        observation, _, done, _, info = with_two.step(np.array([LEFT, RIGHT]))
        assert done.all() == (step == STEPS)
    np.testing.assert_array_equal(observation["pose"], 0)
    assert info["final_obs"][0]["pose"][3] == STEPS and info["step"].tolist() == [0, 0]
    with_two.close()


def test_vector_state(root, episodes, clips):
    def make():
        return make_vector_env(2, root, episodes, clips, max_steps=STEPS, shuffle=True)

    one, other = make(), make()
    one.reset(seed=1), other.reset(seed=9)
    for step in range(STEPS + 2):
        one.step(np.array([step % 3, 0]))
    load_vector_state(other, vector_state(one))
    for step in range(2 * STEPS):
        ours, theirs = one.step(np.array([1, step % 3]))[0], other.step(np.array([1, step % 3]))[0]
        assert same(ours, theirs)


def test_processes_give_the_same(root, episodes, clips):
    both = [make_vector_env(2, root, episodes, clips, max_steps=2, asynchronous=a) for a in (False, True)]
    try:
        first = [envs.reset(seed=4)[0] for envs in both]
        assert same(*first)
        for _ in range(3):
            assert same(*(envs.step(np.array([0, 1]))[0] for envs in both))
        load_vector_state(both[1], vector_state(both[0]))
    finally:
        for envs in both:
            envs.close()


def test_start_off_the_graph(store, episodes, clips):
    moved = dataclasses.replace(episodes[0], start_position=(0.3, 0.0, 0.0))
    with pytest.raises(DataError, match=r"episode 0: starts off the graph.*0\.3"):
        ActiveSeparationEnv(store, [moved], clips).reset()
    lost = dataclasses.replace(episodes[0], goals=(episodes[0].goals[0], (50.0, 0.0, 0.0)))
    with pytest.raises(DataError, match="a source is off the graph"):
        ActiveSeparationEnv(store, [lost], clips).reset()


def test_clip_of_another_rate(store, episodes, clips, tmp_path):
    for sound in episodes[0].sounds:
        soundfile.write(tmp_path / f"{sound.clip}.wav", np.zeros(8000, np.int16), 8000)
    with pytest.raises(DataError, match="8000.*16000"):
        ActiveSeparationEnv(store, episodes[:1], ClipLibrary(tmp_path)).reset()


def test_small_errors(root, episodes, clips):
    with pytest.raises(UsageError):
        ActiveSeparationEnv(root, [], clips)
    with pytest.raises(UsageError, match="convolution"):
        ActiveSeparationEnv(root, episodes, clips, convolution="none")
