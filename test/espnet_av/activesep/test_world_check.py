# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The check of all data, the commands, and the adapter to habitat."""

import dataclasses
import sys
import types

import numpy as np
import pytest
import soundfile
from activesep_worlds import make_clips, make_episodes, make_scene

from espnet_av.activesep.data_check import CheckRequest, Problem, check_all, summarise
from espnet_av.activesep.episodes import write_episodes
from espnet_av.activesep.habitat_adapter import SceneSimulator, make_simulator
from espnet_av.activesep.passive_points import PassivePoint, write_passive_points
from espnet_av.activesep.safe_pickle import read_pickle, write_pickle
from espnet_av.activesep.scene import open_scene
from espnet_av.activesep.scene_files import ScenePaths
from espnet_av.bin import activesep_check, activesep_world, cli
from espnet_av.utils.errors import DataError, EnvironmentProblem, UsageError


@pytest.fixture
def root(tmp_path):
    store = make_scene(tmp_path, formats=("wavdir",))
    clips = make_clips(tmp_path)
    write_episodes(tmp_path / "active_datasets", "train", make_episodes(store, clips))
    nodes = store.sources
    write_passive_points(
        tmp_path / "passive_datasets", "train", [PassivePoint("house0", nodes[0], 90, tuple(nodes[:2]))]
    )
    return tmp_path


def check(root):
    return check_all(
        CheckRequest(
            ScenePaths.below(root),
            clips=(root / "audio_data" / "min20s_clips" / "train_preprocessed",),
            active=root / "active_datasets",
            splits=("train",),
            passive=root / "passive_datasets",
            passive_splits=("train",),
        )
    )


@pytest.mark.parametrize(("splits", "folder"), [("splits", "active"), ("passive_splits", "passive")])
def test_splits_need_their_folder(root, splits, folder):
    with pytest.raises(UsageError, match=f"set {folder}"):
        check_all(CheckRequest(ScenePaths.below(root), images=False, **{splits: ("train",)}))


def test_good_data(root):
    problems, lines = check(root)
    assert problems == [] and len(lines) == 4


def test_every_damage_is_named(root):
    store = open_scene(root, "house0", "wavdir")
    node, source = store.graph.nodes[0], store.sources[0]
    ScenePaths.below(root).rir("house0", 0, node, source).unlink()
    path = root / "scene_observations" / "mp3d" / "house0.pkl"
    seen = read_pickle(path)
    del seen[node, 270]
    write_pickle(path, seen)
    clips = make_clips(root)
    good = make_episodes(store, clips)
    moved = dataclasses.replace(good[0], start_position=(0.4, 0.0, 0.0))
    gone = dataclasses.replace(
        good[1], sounds=(dataclasses.replace(good[1].sounds[0], clip="7540_gone"), *good[1].sounds[1:])
    )
    away = dataclasses.replace(good[2], scene="house9")
    write_episodes(root / "active_datasets", "train", [moved, gone, away])
    soundfile.write(clips.folder / "music_bad.wav", np.zeros(100, np.int16), 8000)
    write_passive_points(root / "passive_datasets", "train", [PassivePoint("house0", 999, 0, (source,))])
    problems, _ = check(root)
    text = "\n".join(summarise(problems))
    for expected in (
        f"house0: 0/{node}_{source}",
        f"node {node} at 270 degrees",
        "starts off the graph",
        "7540_gone.wav",
        "house9",
        "music_bad.wav",
        "node 999",
    ):
        assert expected in text, text


def test_foreign_pickle_is_a_problem_not_a_crash(root):
    import os
    import pickle

    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {root / 'ran'}",)

    (root / "scene_observations" / "mp3d" / "house0.pkl").write_bytes(pickle.dumps(Attack()))
    problems, _ = check(root)
    assert len(problems) == 1 and "system" in problems[0].where and not (root / "ran").exists()


def test_summary_is_short():
    lines = summarise([Problem("hole", str(i)) for i in range(9)] + [Problem("dust", "x", blocks=False)], most=2)
    assert lines == ["error: hole: 9", "  0", "  1", "  ... and 7 more", "warning: dust: 1", "  x"]


def test_commands(tmp_path, capsys):
    root = str(tmp_path)
    small = ["--width", "4", "--depth", "2", "--num_rooms", "2", "--num_taps", "400", "--image_size", "8"]
    world = activesep_world.main
    world(
        [
            "scenes",
            "--root",
            root,
            "--names",
            "a",
            "b",
            *small,
            "--num_sources",
            "3",
            "--ears",
            "sphere",
            "--formats",
            "wavdir",
        ]
    )
    world(["clips", "--folder", f"{root}/clips", "--seconds", "1.5", "--per_class", "1"])
    draw = ["--root", root, "--scenes", "a", "b", "--num_per_scene", "3", "--split", "train"]
    world(
        [
            "episodes",
            *draw,
            "--clips",
            f"{root}/clips",
            "--output_dir",
            f"{root}/active_datasets",
            "--min_distance",
            "1",
        ]
    )
    world(["points", *draw, "--output_dir", f"{root}/passive_datasets", "--min_distance", "1"])
    world(["pack", "--root", root])
    assert type(open_scene(tmp_path, "b").backend).__name__ == "PackedScene"
    look = ["--root", root, "--clips", f"{root}/clips", "--splits", "train", "--passive_splits", "train"]
    assert activesep_check.main(look) == 0
    assert "0 errors, 0 warnings" in capsys.readouterr().out
    (tmp_path / "packed" / "mp3d" / "a" / "rirs.npy").unlink()
    assert activesep_check.main(look) == 3
    assert "rirs.npy" in capsys.readouterr().out


def test_verbs():
    assert cli.find_module(["world", "scenes", "--num-taps", "3"])[2] == ["scenes", "--num_taps", "3"]
    assert cli.find_module(["check-world"])[0] == "espnet_av.bin.activesep_check"


def test_simulator_walks_as_the_graph(root):
    store = open_scene(root, "house0", "wavdir")
    simulator = SceneSimulator(store)
    seen = simulator.reset()
    assert set(seen) == {"rgb", "depth"}
    simulator.step("TURN_LEFT")
    assert simulator.rotation == 90
    expected = store.graph.step_ahead(simulator.node, 90)
    simulator.step(0)
    state = simulator.get_agent_state()
    np.testing.assert_allclose(state.position, store.graph.positions[expected], atol=1e-6)
    assert simulator.set_agent_state(store.graph.positions[store.graph.nodes[3]], state.rotation)
    assert simulator.node == store.graph.nodes[3] and simulator.rotation == 90
    assert not simulator.set_agent_state([0.3, 0, 0], state.rotation)
    ends = [store.graph.positions[n] for n in store.graph.nodes[:2]]
    assert simulator.geodesic_distance(ends[0], ends) == 0
    assert simulator.geodesic_distance(ends[0], [9.0, 9.0, 9.0]) == np.inf
    assert simulator.is_navigable(simulator.sample_navigable_point())
    assert simulator.rir(store.sources[0]).shape[1] == 2
    with pytest.raises(UsageError):
        simulator.step("JUMP")
    with pytest.raises(DataError):
        simulator.get_observations_at([0.5, 0.5, 0.5])


def test_habitat_is_asked_for_late(root, monkeypatch):
    store = open_scene(root, "house0", "wavdir")
    monkeypatch.setitem(sys.modules, "habitat", None)
    with pytest.raises(EnvironmentProblem, match="habitat"):
        make_simulator(store)

    class Simulator:
        """What habitat-lab asks of a simulator."""

        def reset(self): ...
        def step(self, action): ...
        def get_agent_state(self, agent_id=0): ...
        def get_observations_at(self, position, rotation, keep_agent_at_new_pose=False): ...
        def sample_navigable_point(self): ...
        def geodesic_distance(self, position_a, position_b, episode=None): ...
        def seed(self, seed): ...
        def close(self): ...
        def is_navigable(self, point): ...

    for name in ("habitat", "habitat.core", "habitat.core.simulator"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["habitat.core.simulator"].Simulator = Simulator
    simulator = make_simulator(store, rotation=90)
    assert isinstance(simulator, Simulator)
    for name in vars(Simulator):
        if not name.startswith("_"):
            assert getattr(type(simulator), name) is not getattr(Simulator, name), name
    assert simulator.reset()["rgb"].dtype == np.uint8
