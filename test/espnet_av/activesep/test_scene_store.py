# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Scenes of every backend, and what happens where a part of one is missing."""

import logging

import numpy as np
import pytest
import soundfile
from activesep_worlds import make_scene

from espnet_av.activesep import graph as graphs
from espnet_av.activesep.cache import LRUCache
from espnet_av.activesep.safe_pickle import read_pickle, write_pickle
from espnet_av.activesep.scene import SceneLibrary, open_scene
from espnet_av.activesep.scene_files import AZIMUTHS, ScenePaths, normalise_observation
from espnet_av.utils.errors import DataError, MissingDataError, UsageError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    make_scene(folder, formats=("packed", "wavdir"))
    return folder


@pytest.fixture
def tree(root, tmp_path):
    """Return a copy of the tree that a test may damage."""
    import shutil

    for part in ("metadata", "binaural_rirs", "scene_observations"):
        shutil.copytree(root / part, tmp_path / part)
    return tmp_path


def test_backends_agree(root):
    stores = {name: open_scene(root, "house0", name) for name in ("wavdir", "packed", "on_the_fly")}
    tree = stores["wavdir"]
    for name, store in stores.items():
        assert store.graph.positions.keys() == tree.graph.positions.keys() and tuple(store.sources) == tuple(
            tree.sources
        )
        np.testing.assert_allclose(store.points, tree.points, atol=1e-6)
        for node in tree.graph.nodes:
            assert store.graph.steps_from(node) == tree.graph.steps_from(node)
            for rotation in graphs.ROTATIONS:
                seen, other = store.observation(node, rotation), tree.observation(node, rotation)
                np.testing.assert_array_equal(seen["rgb"], other["rgb"])
                np.testing.assert_allclose(seen["depth"], other["depth"], atol=1e-6)
                for source in tree.sources:
                    response = tree.rir(rotation, node, source)
                    error = np.abs(store.rir(rotation, node, source) - response).max()
                    assert error <= (1e-4 if name == "packed" else 1e-7) * np.abs(response).max()


def test_auto_prefers_what_is_fast(root, tree):
    assert type(open_scene(root, "house0").backend).__name__ == "PackedScene"
    assert type(open_scene(tree, "house0").backend).__name__ == "WavTree"
    import shutil

    shutil.rmtree(tree / "binaural_rirs")
    assert type(open_scene(tree, "house0").backend).__name__ == "GeneratedScene"


def test_unknown_scene_names_those_that_are_there(root):
    with pytest.raises(MissingDataError, match="house0"):
        open_scene(root, "house7")
    with pytest.raises(UsageError, match="wavdir"):
        open_scene(root, "house0", "zip")


@pytest.mark.parametrize("damage", ["absent", "empty", "rubbish"])
def test_missing_rir(tree, caplog, damage):
    path = ScenePaths.below(tree).rir("house0", 90, *_first_pair(tree))
    path.unlink() if damage == "absent" else path.write_bytes(b"" if damage == "empty" else b"RIFF")
    receiver, source = _first_pair(tree)
    store = open_scene(tree, "house0", "wavdir")
    with caplog.at_level(logging.WARNING):
        assert not store.rir(90, receiver, source).any()
    assert "missing or empty" in caplog.text and store.missing == {(90, receiver, source)}
    assert store.rir(0, receiver, source).any()
    with pytest.raises(MissingDataError, match=f"receiver {receiver}, source {source}"):
        open_scene(tree, "house0", "wavdir", missing_rir="error").rir(90, receiver, source)


def _first_pair(root):
    store = open_scene(root, "house0", "wavdir")
    return store.graph.nodes[0], store.sources[0]


@pytest.mark.parametrize(("rate", "channels", "said"), [(44100, 2, "44100"), (16000, 1, "binaural")])
def test_wrong_rir(tree, rate, channels, said):
    receiver, source = _first_pair(tree)
    path = ScenePaths.below(tree).rir("house0", 0, receiver, source)
    soundfile.write(path, np.zeros((50, channels), np.float32), rate, subtype="FLOAT")
    with pytest.raises(DataError, match=said):
        open_scene(tree, "house0", "wavdir").rir(0, receiver, source)


def test_node_without_observation(tree):
    path = tree / "scene_observations" / "mp3d" / "house0.pkl"
    found = read_pickle(path)
    node = open_scene(tree, "house0", "wavdir").graph.nodes[1]
    del found[node, 180]
    write_pickle(path, found)
    store = open_scene(tree, "house0", "wavdir")
    store.observation(node, 90)
    with pytest.raises(DataError, match=f"node {node} at 180 degrees"):
        store.observation(node, 180)


def test_observations_of_both_generations():
    rng = np.random.default_rng(0)
    rgba, metres = rng.integers(0, 256, (4, 4, 4), np.uint8), rng.uniform(-1, 14, (4, 4)).astype(np.float32)
    ours = normalise_observation({"rgb": rgba, "depth": metres}, "x")
    np.testing.assert_array_equal(ours["rgb"], rgba[..., :3])
    np.testing.assert_allclose(ours["depth"][..., 0], np.clip(metres, 0, 10) / 10, atol=1e-7)
    again = normalise_observation(ours, "x")
    assert all(np.array_equal(again[key], ours[key]) for key in ours)
    for wrong in ({"rgb": np.zeros((4, 4))}, {"depth": np.zeros((4, 4, 2))}, [1]):
        with pytest.raises(DataError):
            normalise_observation(wrong, "x")


def test_observations_cannot_be_changed(root):
    seen = open_scene(root, "house0").observation(open_scene(root, "house0").graph.nodes[0], 0)
    with pytest.raises(ValueError, match="read-only"):
        seen["rgb"][:] = 0


def test_library_keeps_scenes(root):
    library = SceneLibrary(root, rir_cache=3)
    assert library["house0"] is library["house0"]


def test_cache_forgets_the_oldest():
    cache, made = LRUCache(2), []
    for key in (1, 2, 1, 3, 2, 1):
        cache.get(key, lambda key=key: made.append(key))
    assert made == [1, 2, 3, 2, 1] and len(cache) == 2


@pytest.mark.parametrize("rotation", graphs.ROTATIONS)
@pytest.mark.parametrize("sign", [1, -1])
def test_quaternions_of_either_sign(rotation, sign):
    assert graphs.rotation_of([sign * value for value in graphs.quaternion_of(rotation)]) == rotation
    assert graphs.quaternion_of(rotation)[1] >= 0


def test_moves():
    positions = {0: (0, 0, 0), 1: (1, 0, 0), 2: (0, 0, -1), 3: (-1, 0, -1)}
    graph = graphs.NavigationGraph(positions, {0: [1, 2, 3], 1: [0], 2: [0], 3: [0]})
    assert [graph.step_ahead(0, rotation) for rotation in (0, 90, 180, 270)] == [2, 0, 0, 1]
    loose = graphs.NavigationGraph(positions, {0: [3], 3: [0]}, allow_diagonal=True)
    assert loose.step_ahead(0, 0) == 3
    assert graph.distance(1, 2) == 2 and graphs.NavigationGraph(positions, {0: []}).distance(0, 1) == np.inf
    with pytest.raises(DataError, match="without a position"):
        graphs.NavigationGraph(positions, {0: [9]})


def test_points_file(tmp_path):
    points = np.array([[0.0, 0.0, 0.0], [1.0, 0.2, -3.0]])
    graphs.write_points(tmp_path / "points.txt", points)
    np.testing.assert_allclose(graphs.read_points(tmp_path / "points.txt"), points)
    (tmp_path / "points.txt").write_text("0 1 2 3\n2 1 2 3\n")
    with pytest.raises(DataError, match="points.txt:2"):
        graphs.read_points(tmp_path / "points.txt")


def test_azimuths_are_rotations_the_other_way():
    assert sorted(graphs.azimuth_of(rotation) for rotation in graphs.ROTATIONS) == list(AZIMUTHS)
    assert graphs.azimuth_of(90) == 270 and graphs.orientation_of(0) == 270
