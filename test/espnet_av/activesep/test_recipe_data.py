# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Data stages of the recipes: what is left out, and why."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import soundfile
from activesep_worlds import CLASSES, make_clips, make_scene

from espnet_av.activesep.classes import ClassTable
from espnet_av.activesep.episode_generator import EpisodeRules, draw_episodes
from espnet_av.activesep.episodes import read_episodes, write_episodes
from espnet_av.activesep.passive_points import draw_passive_points, read_passive_points, write_passive_points
from espnet_av.activesep.recipe_data import (
    Stores,
    filter_clips,
    filter_scenes,
    make_episodes,
    make_points,
    pack_into,
)
from espnet_av.activesep.scene import open_scene
from espnet_av.data.drops import TooManyDropped
from espnet_av.utils.errors import DataError, MissingDataError

RULES = EpisodeRules(min_distance=2.0, start="far", min_start=1.0, max_start=6.0)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A house with the plan only, packed into another root, and clips."""
    root = tmp_path_factory.mktemp("world")
    make_scene(root / "plans", formats=("on_the_fly",))
    pack_into(root / "plans", "mp3d", "house0", root / "dump", "int16")
    clips = make_clips(root / "dump")
    return root, clips


def test_packed_scenes_keep_graph_and_plan(world):
    root, _ = world
    plan, packed = (open_scene(root / name, "house0") for name in ("plans", "dump"))
    assert packed.backend.__class__.__name__ == "PackedScene"
    assert packed.graph.nodes == plan.graph.nodes and packed.sources == plan.sources
    receiver, source = packed.graph.nodes[-1], packed.sources[0]
    assert np.allclose(packed.rir(90, receiver, source), plan.rir(90, receiver, source), atol=1e-3)
    assert (root / "dump" / "metadata" / "mp3d" / "house0" / "world.json").is_file()


def test_scenes_that_cannot_be_used_are_left_out(world, tmp_path):
    root, _ = world
    shutil.copytree(root / "dump" / "packed", tmp_path / "world" / "packed")
    for name in ("train", "test"):
        (tmp_path / "lists").mkdir(exist_ok=True)
        (tmp_path / "lists" / name).write_text("house0\nnowhere\n")
    options = {"full": True, "max_share": 0.6}
    places = (tmp_path / "world", "mp3d", tmp_path / "lists", ["train", "test"], tmp_path / "out")
    drops = filter_scenes(*places, **options)
    assert (tmp_path / "out" / "test").read_text() == "house0\n"
    report = json.loads((tmp_path / "out" / "filter_report.json").read_text())
    assert report["reasons"]["cannot_be_opened"]["count"] == 1 and "nowhere" in drops
    with pytest.raises(TooManyDropped):
        filter_scenes(*places, full=False, max_share=0.1)
    (tmp_path / "lists" / "test").write_text("nowhere\n")
    with pytest.raises(DataError, match="'test' has no scene"):
        filter_scenes(*places, **options)


def test_clips_that_cannot_be_used_are_left_out(world, tmp_path):
    _, clips = world
    folder = tmp_path / "audio" / "min20s_clips" / "train_preprocessed"
    shutil.copytree(clips.folder, folder)
    soundfile.write(folder / "7540_fast.wav", np.zeros(44100), 44100, subtype="PCM_16")
    soundfile.write(folder / "7540_short.wav", np.zeros(8000), 16000, subtype="PCM_16")
    soundfile.write(folder / "stranger_a.wav", np.zeros(20000), 16000, subtype="PCM_16")
    (folder / "7540_text.wav").write_text("no sound")
    table = ClassTable.build(CLASSES)
    drops = filter_clips(tmp_path / "audio", "train", table, tmp_path / "dump" / "train_clips", max_share=0.6)
    counts = {reason: entry["count"] for reason, entry in drops.summary()["reasons"].items()}
    assert counts == {"wrong_format": 1, "too_short": 1, "class_without_label": 1, "unreadable": 1}
    kept = sorted(path.name for path in (tmp_path / "dump" / "train_clips" / "min20s_clips").glob("*.wav"))
    assert (
        len(kept) == len(CLASSES)
        and soundfile.info(str(tmp_path / "dump" / "train_clips" / "min20s_clips" / kept[0])).frames
    )
    with pytest.raises(TooManyDropped, match="filter_report"):
        filter_clips(tmp_path / "audio", "train", table, tmp_path / "dump" / "train_clips", max_share=0.1)
    assert (tmp_path / "dump" / "train_clips" / "min20s_clips").is_dir()  # the earlier one is whole
    with pytest.raises(MissingDataError, match="no clips"):
        filter_clips(tmp_path / "audio", "testUnheard", table, tmp_path / "dump" / "x", max_share=1.0)


def test_given_episodes_that_cannot_be_played_are_left_out(world, tmp_path):
    root, clips = world
    store = open_scene(root / "dump", "house0")
    good = draw_episodes(store, clips, 3, RULES)
    bad = [
        dataclasses.replace(good[0], episode_id="a", scene="elsewhere"),
        dataclasses.replace(good[0], episode_id="b", start_position=(0.4, 0.0, 0.0)),
        dataclasses.replace(good[0], episode_id="c", goals=((0.0, 9.0, 0.0), good[0].goals[1])),
        dataclasses.replace(
            good[0], episode_id="d", sounds=(dataclasses.replace(good[0].sounds[0], clip="7540_x"),) * 2
        ),
        dataclasses.replace(
            good[0], episode_id="e", sounds=tuple(dataclasses.replace(s, target_label=99) for s in good[0].sounds)
        ),
    ]
    write_episodes(tmp_path / "given" / "active_datasets", "val_5", [*good, *bad])
    (tmp_path / "given" / "valid.json").write_text('{"split": "val_5"}')
    options = {"given": tmp_path / "given", "count": 0, "rules": RULES, "seed": 0}
    places = ("valid", ["house0"], Stores(root / "dump", "mp3d"), clips, tmp_path / "episodes")
    drops = make_episodes(*places, **options, max_share=0.9)
    reasons = {reason: entry["count"] for reason, entry in drops.summary()["reasons"].items()}
    names = ("scene_left_out", "starts_off_the_graph", "source_off_the_graph", "clip_left_out", "other_label")
    assert reasons == dict.fromkeys(names, 1)
    assert read_episodes(tmp_path / "episodes", "valid") == good
    with pytest.raises(TooManyDropped):
        make_episodes(*places, **options, max_share=0.1)


def test_drawn_episodes_depend_on_seed_and_set(world, tmp_path):
    root, clips = world
    places = (["house0"], Stores(root / "dump", "mp3d"), clips)
    options = {"given": None, "count": 4, "rules": RULES, "max_share": 0.0}
    for name, folder, seed in (("test", "a", 0), ("test", "b", 0), ("valid", "a", 0), ("test", "c", 1)):
        make_episodes(name, *places, tmp_path / folder, **options, seed=seed)
    first = read_episodes(tmp_path / "a", "test")
    assert len(first) == 4 and first == read_episodes(tmp_path / "b", "test")
    assert first != read_episodes(tmp_path / "a", "valid") and first != read_episodes(tmp_path / "c", "test")


def test_points(world, tmp_path):
    root, _ = world
    stores = Stores(root / "dump", "mp3d")
    draw = {"num_distractors": 1, "min_distance": 2.0}
    make_points("train", ["house0"], stores, tmp_path / "drawn", given=None, count=5, draw=draw, seed=0)
    drawn = read_passive_points(tmp_path / "drawn", "train")
    assert len(drawn) == 5
    given = draw_passive_points(stores["house0"], 4, min_distance=2.0, seed=3)
    off = dataclasses.replace(given[0], receiver=999)
    write_passive_points(tmp_path / "given" / "passive_datasets", "val", [*given, off])
    drops = make_points(
        "val", ["house0"], stores, tmp_path / "out", given=tmp_path / "given", count=0, draw=draw, seed=0
    )
    assert drops.summary()["reasons"]["off_the_graph"]["count"] == 1
    assert read_passive_points(tmp_path / "out", "val") == given
