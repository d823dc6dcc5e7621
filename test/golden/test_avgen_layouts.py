# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Readers of the published layouts against golden data (``ESPNET_AV_FIXTURES``), from which all values come."""

import json

import numpy as np
import pytest
import torch

from espnet_av.avgen import gap_repair, participant
from espnet_av.avgen.dataset import Windows, open_windows
from espnet_av.avgen.pose import pose_to_vector, vector_to_pose
from espnet_av.corpora import audio2photoreal, fifty_hours


@pytest.fixture(scope="module")
def fifty(fixtures_dir):
    return fixtures_dir("avgen") / "format_50h"


@pytest.fixture(scope="module")
def item(fixtures_dir):
    path = sorted(fixtures_dir("avgen").glob("format_50h_item*.npz"))[0]
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.fixture(scope="module")
def people(fixtures_dir):
    return sorted(path for path in (fixtures_dir("avgen") / "a2p_format").iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def repaired(fixtures_dir):
    with np.load(fixtures_dir("avgen") / "a2p_expected.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def published(fifty, item):
    """Open the 50h folder as the published system reads it, and name the golden item's segment and length."""
    length = len(item["expr_code"])
    options = {"segment_length": length, "subset": "all", "reference_compat": True}
    windows = open_windows(fifty, train=False, participant=True, **options)
    return windows, str(item["segment"]), int(item["frame_idx"]), length


def test_the_golden_item_of_the_50h_layout(fifty, item):
    windows, segment, start, length = published(fifty, item)
    cut = windows.cut(segment, start, length)
    close = {"atol": 1e-5, "rtol": 0}
    np.testing.assert_allclose(cut["face"], item["expr_code"], **close)
    np.testing.assert_allclose(cut["tokens"], item["self_tokens"], **close)
    np.testing.assert_allclose(cut["other_tokens"], item["other_tokens"], **close)
    low, high = participant.read_range(fifty / fifty_hours.PARTNER_RANGE)
    seen = np.concatenate([cut["other_expression"], cut["other_head"]], axis=1)
    scaled = participant.scale_to_range(seen, low, high, clip=None)
    expected = np.concatenate([item["other_expr"], item["other_head"]], axis=1)
    np.testing.assert_allclose(scaled, expected, **close)
    matrix = torch.from_numpy(np.concatenate([item["head_R"], item["head_t"][..., None]], axis=-1))
    expected = pose_to_vector(matrix, reference_compat=True).numpy()
    np.testing.assert_allclose(cut["head"][:, :4], expected[:, :4], **close)
    step = 1e-7 * max(np.abs(expected[:, 4:]).max(), 100)  # translations are around a thousand, in float32
    np.testing.assert_allclose(cut["head"][:, 4:], expected[:, 4:], atol=step, rtol=2e-7)


def test_the_golden_item_is_cut_at_the_right_samples(fifty, item):
    windows, segment, start, length = published(fifty, item)
    sound = windows.sound(segment, start, length)
    np.testing.assert_array_equal(sound, np.stack([item["self_audio"], item["other_audio"]]))
    frames = windows.recordings[segment][1].frames
    assert frames - length == int(item["n_items"])


def test_rotations_of_the_better_reading_are_rotations_near_the_published(fifty, item):
    windows, segment, start, length = published(fifty, item)
    better = open_windows(fifty, train=False, subset="all", segment_length=length).cut(segment, start, length)["head"]
    rotation, _ = vector_to_pose(torch.from_numpy(better).double())
    eye = torch.eye(3, dtype=torch.float64).expand_as(rotation)
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), eye, atol=1e-6, rtol=0)
    assert np.abs(np.linalg.norm(better[:, :4], axis=1) - 1).max() < 1e-5
    assert (np.sum(better[1:, :4] * better[:-1, :4], axis=1) >= 0).all()


def test_the_50h_tree_is_read_whole(fixtures_dir, fifty):
    tree = json.loads((fixtures_dir("avgen") / "format_50h_tree.json").read_text())
    found = fifty_hours.find_segments(fifty)
    assert [each.uid for each in found] == tree["segments"]
    described = {each["path"]: each for each in tree["files"]}
    windows = open_windows(fifty, train=False, participant=True, subset="all", segment_length=20)
    for recording in found:
        _, extent = windows.recordings[recording.uid]
        sound = described[f"audio/{recording.uid}.wav"]
        assert (extent.samples, extent.rate, extent.channels) == tuple(
            sound[name] for name in ("frames", "samplerate", "channels")
        )
        assert extent.motion == described[f"expression_codes/{recording.uid}.npy"]["shape"][0]
        assert extent.tokens == described[f"{fifty_hours.TOKEN_DIRS[0]}/{recording.uid}.npy"]["shape"][1]
        assert recording.has_partner


def test_gaps_are_repaired(people, repaired):
    checked = 0
    for person in people:
        for scene in audio2photoreal.find_scenes(person):
            name = f"{scene.uid}_repaired_gapfill"
            face, missing = np.load(scene.face), np.load(scene.missing)
            own, valid = gap_repair.repair(face, missing)
            np.testing.assert_allclose(own, repaired[name], atol=1e-6, rtol=0)
            assert np.flatnonzero(~valid).tolist() == sorted(missing.tolist())
            checked += 1
    assert checked == sum(name.endswith("_repaired_gapfill") for name in repaired)


def test_gaps_as_the_published_loader_leaves_them(people, repaired):
    checked = 0
    for person in people:
        for scene in audio2photoreal.find_scenes(person):
            name = f"{scene.uid}_reference_behaviour"
            if name in repaired:
                own = gap_repair.repair_as_published(np.load(scene.face), np.load(scene.missing))
                np.testing.assert_allclose(own, repaired[name], atol=1e-6, rtol=0)
                checked += 1
    assert checked


@pytest.mark.parametrize("rule, key", [("a2p", "split_a2p_repo"), ("avflow", "split_avflow")])
def test_scenes_are_divided(people, repaired, rule, key):
    expected = json.loads(str(repaired[key]))
    scenes = [each.uid for each in audio2photoreal.find_scenes(people[0])]
    found = audio2photoreal.split_scenes(scenes, rule)
    for name, numbers in expected.items():
        chosen = found["valid" if name == "val" else name]
        assert [scenes.index(each) + 1 for each in chosen] == numbers


def test_statistics_of_a_person_are_read_without_running_code(people):
    for person in people:
        plain = audio2photoreal.read_data_stats(person / "data_stats.npz")
        packed = audio2photoreal.read_data_stats(person / "data_stats.pth")
        assert set(packed) >= set(plain)
        for name, values in plain.items():
            np.testing.assert_array_equal(packed[name], values)


def test_both_layouts_give_the_same_streams(people, fifty):
    scenes = Windows(audio2photoreal.find_scenes(people[0]), train=True, segment_length=20, max_dropped_share=0.5)
    segments = open_windows(fifty, train=True, subset="all", segment_length=20)
    own, other = (windows[(1, windows.keys[0])][1] for windows in (scenes, segments))
    assert set(own) - {"valid"} == set(other)
    assert {name: own[name].shape[0] for name in own} == dict.fromkeys(own, 20)
    assert own["head"].shape[1] == 4
    assert other["head"].shape[1] == 7
    for name in ("mel", "face", "tokens"):
        assert own[name].shape == other[name].shape
        assert own[name].dtype == other[name].dtype == np.float32


def test_scenes_whose_face_was_never_seen_are_left_out(people):
    for person in people:
        scenes = audio2photoreal.find_scenes(person)
        lost = {each.uid for each in scenes if len(np.load(each.missing)) == len(np.load(each.face))}
        windows = Windows(scenes, train=False, segment_length=20, max_dropped_share=0.9)
        assert set(windows.dropped) == lost
