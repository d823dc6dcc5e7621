# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Episodes, passive data points, clips and classes: files, drawing, order, bad input."""

import dataclasses
import gzip
import json

import numpy as np
import pytest
import soundfile
from activesep_worlds import make_clips, make_episodes, make_scene

from espnet_av.activesep.classes import ClassTable
from espnet_av.activesep.episodes import (
    EpisodeIterator,
    episode_from_json,
    read_episodes,
    split_episodes,
    write_episodes,
)
from espnet_av.activesep.passive_points import draw_passive_points, read_passive_points, write_passive_points
from espnet_av.activesep.safe_pickle import write_pickle
from espnet_av.activesep.sound_sets import write_sound_set
from espnet_av.activesep.sounds import ClipLibrary, read_clip, take_chunk
from espnet_av.utils.errors import DataError, MissingDataError, UsageError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("episodes")


@pytest.fixture(scope="module")
def store(folder):
    return make_scene(folder, formats=("on_the_fly",))


@pytest.fixture(scope="module")
def clips(folder):
    return make_clips(folder)


@pytest.fixture(scope="module")
def episodes(store, clips):
    return make_episodes(store, clips, 12)


def test_round_trip(tmp_path, episodes):
    other = [dataclasses.replace(episode, scene="house1") for episode in episodes[:3]]
    path = write_episodes(tmp_path, "train", [*episodes, *other])
    assert read_episodes(tmp_path, "train") == read_episodes(path) == [*episodes, *other]
    assert read_episodes(tmp_path, "train", scenes=["house1"]) == other
    pattern = tmp_path / "{version}" / "{split}" / "{split}.json.gz"
    assert read_episodes(pattern, "train") == [*episodes, *other]
    write_episodes(tmp_path, "train", episodes)
    assert read_episodes(path) == episodes, "files of scenes that are gone stay"


@pytest.mark.parametrize("label", [-1, 102, 1.5, "3", True])
def test_label_out_of_range(tmp_path, episodes, label):
    found = episodes[0].to_json()
    found["info"][0]["target_label"] = label
    path = tmp_path / "val.json.gz"
    path.write_bytes(gzip.compress(json.dumps({"episodes": [found]}).encode()))
    with pytest.raises(DataError, match="label out of range.*0 to 101"):
        read_episodes(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("goals", []), ("start_position", [0, 1]), ("start_rotation", [0, 0, 0, float("nan")]), ("info", None)],
)
def test_malformed_episode(episodes, key, value):
    with pytest.raises(DataError, match="episode"):
        episode_from_json({**episodes[0].to_json(), key: value}, "some.json")


def test_missing_and_empty_splits(tmp_path):
    with pytest.raises(MissingDataError):
        read_episodes(tmp_path, "train")
    (tmp_path / "x.json.gz").write_bytes(gzip.compress(b'{"episodes": []}'))
    with pytest.raises(MissingDataError, match="without episodes"):
        read_episodes(tmp_path / "x.json.gz")
    (tmp_path / "y.json.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match="y.json.gz"):
        read_episodes(tmp_path / "y.json.gz")


def test_rules_of_drawn_episodes(store, clips):
    graph = store.graph
    for start in ("near", "far"):
        drawn = make_episodes(store, clips, 30, start=start, min_start=2.0, max_start=4.0)
        for episode in drawn:
            begin, target, distractor = (store.node_at(p) for p in (episode.start_position, *episode.goals))
            assert {target, distractor} <= set(store.sources)
            assert graph.distance(target, distractor) >= 2
            steps = graph.distance(begin, target)
            assert steps == 0 if start == "near" else 2 <= steps <= 4
            names = [sound.clip.split("_")[0] for sound in episode.sounds]
            assert len(set(names)) == 2 and names[0] != "esc"
            assert episode.target_label == clips.classes.label(names[0])
        assert len({episode.start_rotation for episode in drawn}) == 4
    assert make_episodes(store, clips, 5, seed=3) == make_episodes(store, clips, 5, seed=3)
    assert make_episodes(store, clips, 5, seed=3) != make_episodes(store, clips, 5, seed=4)
    with pytest.raises(UsageError, match="too small"):
        make_episodes(store, clips, 1, min_distance=50.0)
    with pytest.raises(UsageError, match="too few classes"):
        make_episodes(store, dataclasses_like(clips), 1, num_distractors=3, min_distance=0.0)


def dataclasses_like(clips):
    """Return the library without its fourth class."""
    smaller = ClipLibrary(clips.folder, classes=clips.classes)
    smaller.names = tuple(name for name in smaller.names if not name.startswith("esc"))
    return smaller


def test_order_of_episodes(episodes):
    two = [dataclasses.replace(e, scene=f"house{i % 2}", episode_id=str(i)) for i, e in enumerate(episodes)]
    plain = EpisodeIterator(two)
    assert [plain.next() for _ in range(24)] == two * 2
    drawn = EpisodeIterator(two, shuffle=True, seed=1)
    passes = [[drawn.next() for _ in two] for _ in range(3)]
    assert all(sorted(map(id, one)) == sorted(map(id, two)) for one in passes) and passes[0] != passes[1]
    assert all(sum(a.scene != b.scene for a, b in zip(one, one[1:], strict=False)) == 1 for one in passes)


def test_scene_changes_after_many_steps(episodes):
    two = [dataclasses.replace(e, scene=f"house{i // 6}", episode_id=str(i)) for i, e in enumerate(episodes)]
    order = EpisodeIterator(two, max_scene_steps=20, step_jitter=0.0)
    played = []
    for _ in range(12):
        played.append(order.next())
        for _ in range(10):
            order.count_step()
    assert [e.scene for e in played[:5]] == ["house0", "house0", "house1", "house1", "house0"]
    assert sorted(map(id, played)) == sorted(map(id, two)), "none is lost"


def test_iterator_state(episodes):
    one = EpisodeIterator(episodes, shuffle=True, seed=2, max_scene_steps=5)
    for _ in range(17):
        one.next()
        one.count_step()
    other = EpisodeIterator(episodes, shuffle=True, seed=0, max_scene_steps=5)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert [one.next() for _ in range(30)] == [other.next() for _ in range(30)]


def test_dealing(episodes):
    three = [dataclasses.replace(e, scene=f"house{i % 3}") for i, e in enumerate(episodes)]
    assert [{e.scene for e in part} for part in split_episodes(three, 2)] == [{"house0", "house2"}, {"house1"}]
    parts = split_episodes(three, 5)
    assert sorted(map(id, sum(parts, []))) == sorted(map(id, three)) and all(parts)
    with pytest.raises(UsageError, match="3 by scene"):
        split_episodes(three, 4, by="scene")


def test_passive_points(tmp_path, store):
    points = draw_passive_points(store, 40, near_share=0.5, max_distance=2, seed=1)
    write_passive_points(tmp_path, "train", points)
    assert read_passive_points(tmp_path, "train") == points
    steps = [store.graph.distance(point.receiver, point.sources[0]) for point in points]
    assert max(steps) <= 2 and 10 < sum(step == 0 for step in steps) < 38
    assert {point.azimuth for point in points} == {0, 90, 180, 270}
    with pytest.raises(MissingDataError):
        read_passive_points(tmp_path, "val")
    write_pickle(tmp_path / "v1" / "val" / "x.pkl", {"x": [{"r": 0, "azimuth": 45, "all_s": [1]}]})
    with pytest.raises(DataError, match=r"x\.pkl.*45"):
        read_passive_points(tmp_path, "val")


def test_clips(clips, tmp_path):
    assert set(clips.by_class()) == {"7540", "3274", "music", "esc"} and clips.names[0] in clips
    assert clips[clips.names[0]].dtype == np.int16
    clip = np.arange(10)
    np.testing.assert_array_equal(take_chunk(clip, 7, 16), [7, 8, 9, *range(10), 0, 1, 2])
    np.testing.assert_array_equal(take_chunk(clip, -2, 4), [8, 9, 0, 1])
    for name, rate, shape, subtype in (
        ("rate", 22050, (9,), "PCM_16"),
        ("stereo", 16000, (9, 2), "PCM_16"),
        ("float", 16000, (9,), "FLOAT"),
        ("empty", 16000, (0,), "PCM_16"),
    ):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(shape), rate, subtype=subtype)
        with pytest.raises(DataError, match=f"{name}.wav"):
            read_clip(tmp_path / f"{name}.wav")
    with pytest.raises(MissingDataError):
        clips["nobody_0"]
    with pytest.raises(MissingDataError, match="no clips"):
        ClipLibrary(make_empty(tmp_path))


def make_empty(folder):
    (folder / "empty").mkdir()
    return folder / "empty"


def test_classes(tmp_path):
    table = ClassTable.published()
    assert (table.label("music"), table.label("esc"), len(table.targets())) == (14, 81, len(table) - 1)
    table.learn([("19", 3)]).write(tmp_path / "table.json")
    assert ClassTable.read(tmp_path / "table.json").label("19") == 3
    with pytest.raises(DataError, match="two labels"):
        table.learn([("music", 3)])
    with pytest.raises(DataError, match="two classes"):
        ClassTable({"a": 1, "b": 1})
    with pytest.raises(DataError, match="out of range"):
        ClassTable({"a": 102})
    with pytest.raises(DataError, match="without a label"):
        table.label("nobody")
    built = ClassTable.build(["b", "a", "music"])
    assert built.labels == {"a": 0, "b": 1, "music": 14}


def test_sound_set(tmp_path):
    rng = np.random.default_rng(0)
    waves = [0.1 * rng.standard_normal(16000 * n) for n in (2, 3, 2, 1)]
    counts = write_sound_set(tmp_path, "train_preprocessed", {"s1": waves, "s2": waves[:1]}, min_sec=4.0)
    long, short = (
        sorted((tmp_path / kind / "train_preprocessed").glob("*.wav")) for kind in ("min20s_clips", "1s_chunks")
    )
    assert counts == (len(long), len(short)) == (2, 12)
    lengths = {path.stem: len(read_clip(path)) // 16000 for path in long}
    assert lengths == {"s1_000": 8, "s2_000": 4}
    assert all(len(read_clip(path)) == 16000 for path in short)
    with pytest.raises(UsageError, match="separator"):
        write_sound_set(tmp_path, "x", {"a_b": waves})
