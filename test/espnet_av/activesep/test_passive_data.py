# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Items of passive training: drawn anew at every access, the same for the same seed, fixed in validation."""

import argparse

import numpy as np
import pytest
from activesep_worlds import CLASSES, make_scene

from espnet_av.activesep.classes import ClassTable
from espnet_av.activesep.passive_data import ClipChooser, PassiveDataset, PassiveSet, PointBatches, stack_items
from espnet_av.activesep.passive_points import draw_passive_points
from espnet_av.activesep.sounds import ClipLibrary
from espnet_av.activesep.synthetic_clips import write_synthetic_clips
from espnet_av.utils.errors import DataError, UsageError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("passive")
    write_synthetic_clips(folder / "clips", CLASSES, per_class=3, seconds=1.0)
    return folder


@pytest.fixture(scope="module")
def points(root):
    return draw_passive_points(make_scene(root), 6)


@pytest.fixture(scope="module")
def clips(root):
    return ClipLibrary(root / "clips", classes=ClassTable.build(CLASSES))


def dataset(root, points, clips, seed=0):
    sets = [PassiveSet("train", points, clips), PassiveSet("unheard", points, clips, fixed=True)]
    return PassiveDataset(root, sets, seed=seed)


def same(one, other):
    return all(np.array_equal(one[1][name], other[1][name]) for name in one[1])


def test_draws(root, points, clips):
    items = dataset(root, points, clips)
    again = dataset(root, points, clips)
    assert same(items[1, "train:2"], again[1, "train:2"])
    assert not same(items[1, "train:2"], items[2, "train:2"])
    assert not same(items[1, "train:2"], dataset(root, points, clips, seed=1)[1, "train:2"])
    assert same(items[1, "unheard:2"], items[2, "unheard:2"])
    _, batch = stack_items([items[1, "train:0"], items[1, "train:1"]])
    assert batch["mixture_wave"].shape == (2, 2, 16000) and batch["target_dry"].shape == (2, 16000)
    assert not batch["unheard"].any() and items[1, "unheard:0"][1]["unheard"]


def test_distractors_never_are_targets(clips):
    chooser, rng = ClipChooser(clips), np.random.default_rng(0)
    draws = [chooser.draw(rng, 2) for _ in range(200)]
    esc = clips.classes.labels["esc"]
    assert {label for _, label in draws} == set(clips.classes.labels.values()) - {esc}
    assert any(names[1].startswith("esc") for names, _ in draws)
    assert all(names[0].split("_")[0] != names[1].split("_")[0] for names, _ in draws)
    with pytest.raises(DataError, match="fewer classes"):
        chooser.draw(rng, 5)


def test_unknown_classes(root):
    with pytest.raises(DataError, match="unknown classes"):
        ClipChooser(ClipLibrary(root / "clips", classes=ClassTable({"7540": 41})))


def test_batches_hold_one_set_each():
    batches = PointBatches({"heard": 7, "unheard": 4}, 3, least=2)
    found = batches.batches(1, False)
    assert [len(batch) for batch in found] == [3, 4, 4]  # a rest of one joins the batch before it
    assert all(len({uid.split(":")[0] for uid in batch}) == 1 for batch in found)
    assert batches.batches(1, True) == batches.batches(1, True) != batches.batches(2, True)
    assert sorted(sum(batches.batches(5, True), [])) == sorted(sum(found, []))


def test_folders_must_be_named():
    from espnet_av.tasks.activesep import ActiveSepTask

    args = argparse.Namespace(rir_dir=None, metadata_dir=None, world_root=None, points_dir="x", train_clips="y")
    with pytest.raises(UsageError, match="--world_root"):
        ActiveSepTask.build_sets(args, train=True)


def test_what_was_read_is_told(tmp_path):
    from espnet_av.tasks.activesep import ActiveSepTask

    names = {"points_version": "v1", "train_points": "train", "valid_points": "val", "valid_clips": None}
    args = argparse.Namespace(points_dir=str(tmp_path), train_clips="clips", unheard_clips="unheard", **names)
    assert ActiveSepTask.data_places(args, train=True) == [str(tmp_path / "v1/train"), "clips"]
    assert ActiveSepTask.data_places(args, train=False) == [str(tmp_path / "v1/val"), "clips", "unheard"]
