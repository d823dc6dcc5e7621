# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Scenes, graphs, observations and data points of the reference's layout, read without running their pickles."""

import numpy as np
import pytest

from espnet_av.activesep.binaural import hear
from espnet_av.activesep.episodes import read_episodes
from espnet_av.activesep.graph import read_graph
from espnet_av.activesep.packed import pack_scene
from espnet_av.activesep.passive_points import read_passive_points
from espnet_av.activesep.reference_sensors import normalise_magnitude, stft
from espnet_av.activesep.scene import open_scene
from espnet_av.activesep.scene_files import AZIMUTHS, ScenePaths
from espnet_av.activesep.sounds import ClipLibrary

ATOL = 1e-4


@pytest.fixture(scope="module")
def folder(fixtures_dir):
    return fixtures_dir("activesep")


@pytest.fixture(scope="module")
def root(folder):
    return folder / "scene"


@pytest.fixture(scope="module")
def names(root):
    return ScenePaths.below(root).scenes()


def test_old_graph_of_networkx(folder):
    path = folder / "graph_networkx22.pkl"
    if not path.is_file():
        pytest.skip(f"no {path}")
    graph = read_graph(path)
    assert sorted(graph.nodes) == [0, 1, 2]
    assert {n: sorted(graph.neighbours[n]) for n in graph.nodes} == {0: [1], 1: [0, 2], 2: [1]}
    for node, point in enumerate(((0, 0, 0), (1, 0, 0), (1, 0, -1))):
        np.testing.assert_array_equal(graph.positions[node], point)


def test_scene_opens(root, names):
    assert names
    for name in names:
        store = open_scene(root, name, "wavdir")
        assert 0 < len(store.graph) <= len(store.points)
        for node in store.graph.nodes:
            np.testing.assert_allclose(store.graph.positions[node], store.points[node], atol=1e-6)
            assert store.node_at(store.points[node] + 0.004) == node
        assert store.node_at(store.points.max(axis=0) + 5) is None
        found = [store.rir(a, r, s) for a in AZIMUTHS for r in store.graph.nodes for s in store.sources]
        assert all(response.dtype == np.float32 and response.shape[1] == 2 for response in found)
        empty = [path for path in (root / "binaural_rirs").rglob("*.wav") if path.stat().st_size < 100]
        assert len(store.missing) == len(empty)


def test_both_generations_of_observations_agree(root, names):
    for name in names:
        raw = open_scene(root, name, "wavdir")
        new = open_scene(ScenePaths.below(root, observations="scene_observations_processed"), name, "wavdir")
        compared = 0
        for node in raw.graph.nodes:
            for rotation in (0, 90, 180, 270):
                if new.backend.observation(node, rotation) is None:
                    continue
                compared += 1
                ours, theirs = raw.observation(node, rotation), new.observation(node, rotation)
                np.testing.assert_array_equal(ours["rgb"], theirs["rgb"])
                np.testing.assert_allclose(ours["depth"], theirs["depth"], atol=1e-6)
        assert compared


def test_packed_scene_is_the_same(root, names, tmp_path):
    name = names[0]
    store = open_scene(root, name, "wavdir")
    pack_scene(store, tmp_path / "packed" / "mp3d" / name)
    packed = open_scene(tmp_path, name)
    assert packed.graph.neighbours == store.graph.neighbours and tuple(packed.sources) == tuple(store.sources)
    np.testing.assert_array_equal(packed.points, store.points)
    for receiver in store.graph.nodes:
        for rotation in (0, 90, 180, 270):
            np.testing.assert_array_equal(
                packed.graph.step_ahead(receiver, rotation), store.graph.step_ahead(receiver, rotation)
            )
            for key, array in store.observation(receiver, rotation).items():
                np.testing.assert_array_equal(packed.observation(receiver, rotation)[key], array)
            for source in store.sources:
                np.testing.assert_array_equal(
                    packed.rir(rotation, receiver, source), store.rir(rotation, receiver, source)
                )
    assert packed.missing == store.missing


def test_splits_with_and_without_content_files(root):
    splits = {
        path.parent.name: path
        for path in (root / "active_datasets").glob("*/*/*.json.gz")
        if path.parent.name != "content"
    }
    assert splits
    for split, path in splits.items():
        by_folder, by_file = read_episodes(root / "active_datasets", split), read_episodes(path)
        assert by_folder == by_file and by_folder
        assert all(len(episode.goals) == len(episode.sounds) for episode in by_folder)


def test_passive_data_point(folder, root, names):
    with np.load(folder / "passive_datapoint.npz") as loaded:
        expected = {key: loaded[key] for key in loaded.files}
    points = [point for split in ("train", "val") for point in read_passive_points(root / "passive_datasets", split)]
    assert points and all(point.scene in names for point in points)
    point = points[0]
    store = open_scene(root, point.scene, "wavdir")
    clips = ClipLibrary(next((root / "audio_data").glob("*/1s_chunks/*")))
    by_class = clips.by_class()
    music = by_class.pop("music")[0]
    target = next(iter(by_class.values()))[0]
    waves = [
        hear(store, point.azimuth, point.receiver, source, clips[clip], 0, len(clips[clip]), wrap_int16=True)
        for source, clip in zip(point.sources, (target, music), strict=True)
    ]
    mixture = np.log1p(stft(np.sum(waves, axis=0, dtype=np.float64) / 32768 / len(waves))[0])
    ears = stft(waves[0] / 32768)[0]
    dry = normalise_magnitude(stft(clips[target] / 32768)[0])
    for key, value in _match(expected, mixture, ears, dry).items():
        np.testing.assert_allclose(value, expected[key], atol=ATOL, err_msg=key)


def _match(expected, mixture, ears, dry):
    """Name our arrays as the file does, by what the names say."""
    found = {}
    for key, array in expected.items():
        if array.ndim != 3:
            continue
        if "mono" in key:
            found[key] = dry[..., None][..., : array.shape[-1]]
        elif "mix" in key:
            found[key] = np.moveaxis(mixture, 0, -1)
        elif "bin" in key:
            found[key] = np.moveaxis(ears, 0, -1)
    assert len(found) >= 3, sorted(expected)
    return found
