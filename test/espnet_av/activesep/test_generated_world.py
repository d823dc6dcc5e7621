# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Generated houses: plans, sound that behaves as in houses, images that agree with the plan."""

import numpy as np
import pytest
from activesep_worlds import RULES, SMALL, make_scene

from espnet_av.activesep.ears import sphere_ears
from espnet_av.activesep.scene import open_scene
from espnet_av.activesep.world_acoustics import SPEED_OF_SOUND, WorldAcoustics
from espnet_av.activesep.world_layout import Door, LayoutRules, Room, World, draw_world
from espnet_av.activesep.world_render import WorldCamera, top_view, world_to_pixel
from espnet_av.utils.errors import DataError, MissingDataError, UsageError

WALL = {"height": 2.6, "absorption": 0.35, "colour": (200, 100, 100), "floor": (90, 90, 90)}


@pytest.fixture(scope="module")
def house():
    """Two rooms of 4 x 3 m beside each other with a door at the lower end, nothing in them."""
    rooms = Room((0, 0), (3, 2), **WALL), Room((4, 0), (7, 2), **{**WALL, "colour": (100, 100, 200)})
    door = Door((0, 1), ((3, 0), (4, 0)))
    return World("two", 0, rooms, (door,), (), tuple(range(24)), num_taps=2400, image_order=3, ears="sphere")


@pytest.fixture(scope="module")
def acoustics(house):
    return WorldAcoustics(house, sphere_ears(300))


def node(house, *cell):
    return house.cells.index(cell)


def level(response):
    return 10 * np.log10(np.square(response).sum())


def test_plans_are_connected_and_repeatable():
    for seed in range(6):
        world = draw_world("h", seed, LayoutRules(num_rooms=1 + seed % 5, num_sources=5))
        graph = world.graph()
        assert len(graph.steps_from(graph.nodes[0])) == len(graph)
        assert len(graph) == len(world.cells) - len(world.furniture) < len(world.points)
        assert len(world.sources) == 5 and set(world.sources) <= set(graph.nodes)
        assert world == draw_world("h", seed, LayoutRules(num_rooms=1 + seed % 5, num_sources=5))
        for one in graph.nodes:
            for other in graph.neighbours[one]:
                assert one in graph.neighbours[other]
                np.testing.assert_allclose(np.linalg.norm(graph.positions[one] - graph.positions[other]), 1.0)
    assert draw_world("h", 1) != draw_world("h", 2)
    with pytest.raises(UsageError, match="no house fits"):
        draw_world("h", 0, LayoutRules(width=3, depth=3, num_rooms=5))


def test_plan_file(tmp_path, house):
    house.write(tmp_path / "world.json")
    assert World.read(tmp_path / "world.json") == house
    (tmp_path / "world.json").write_text('{"format": 1}')
    with pytest.raises(DataError, match="world.json"):
        World.read(tmp_path / "world.json")
    with pytest.raises(MissingDataError):
        World.read(tmp_path / "none.json")


def test_nobody_walks_through_walls(house):
    graph = house.graph()
    assert graph.step_ahead(node(house, 3, 0), 270) == node(house, 4, 0), "through the door"
    assert graph.step_ahead(node(house, 3, 1), 270) == node(house, 3, 1), "not through the wall"
    assert graph.distance(node(house, 3, 2), node(house, 4, 2)) == 5


def test_near_is_loud_and_early(house, acoustics):
    source = node(house, 0, 0)
    levels = [level(acoustics.rir(source, node(house, i, 0), 0)) for i in range(4)]
    assert levels == sorted(levels, reverse=True) and levels[0] - levels[3] > 3
    for i in (1, 3):
        response = np.abs(acoustics.rir(source, node(house, i, 0), 0)).max(axis=1)
        onset = np.argmax(response > 0.2 * response.max()) / 16000
        assert abs(onset - np.hypot(i, 0.3) / SPEED_OF_SOUND) < 0.0025  # the ears have a delay of about 1 ms


def test_ears_follow_the_head(house, acoustics):
    source, here = node(house, 0, 1), node(house, 3, 1)  # the source is on the side of -x
    energy = {rotation: np.square(acoustics.rir(source, here, rotation)).sum(axis=0) for rotation in (0, 90, 180, 270)}
    assert energy[0][0] > 1.25 * energy[0][1], "looking ahead, it is on the left"
    assert energy[180][1] > 1.25 * energy[180][0], "looking back, on the right"
    for rotation in (90, 270):
        assert 0.7 < energy[rotation][0] / energy[rotation][1] < 1.4, "in front and behind, in the middle"


def test_walls_shield_and_doors_lead(house, acoustics):
    source = node(house, 3, 2)
    inside, behind, door = (level(acoustics.rir(source, node(house, *cell), 0)) for cell in ((1, 2), (5, 2), (4, 0)))
    assert inside - behind > 6, "the same distance, but a wall between"
    assert door > behind, "louder at the door than behind the wall"
    # In the other room sound comes from the door, which lies at smaller x: on the left of who looks ahead.
    left, right = np.square(acoustics.rir(source, node(house, 7, 0), 0)).sum(axis=0)
    assert left > right


def test_sound_decays(house, acoustics):
    response = acoustics.rir(node(house, 0, 0), node(house, 2, 2), 90)
    energy = np.square(response).sum(axis=1)
    assert energy[:800].sum() > 10 * energy[1200:2000].sum() > 0
    assert response.shape == (2400, 2) and response.dtype == np.float32 and np.isfinite(response).all()


def test_source_at_the_listener(house, acoustics):
    here = node(house, 1, 1)
    assert np.abs(acoustics.rir(here, here, 0)).max() < 5


def test_same_seed_same_files(tmp_path):
    for part in ("a", "b"):
        make_scene(tmp_path / part, formats=("packed", "wavdir"))
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) > 40
    for path in files:
        if path.suffix != ".npz":  # an archive that holds the time
            assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes(), path
    other = make_scene(tmp_path / "c", seed=5)
    assert other.backend.world != open_scene(tmp_path / "a", "house0", "on_the_fly").backend.world


def test_depth_is_the_distance_to_walls(house):
    camera = WorldCamera(house)
    for cell, rotation, expected in (((1, 1), 0, 1.49), ((1, 1), 90, 1.49), ((1, 2), 180, 2.49), ((3, 1), 270, 0.49)):
        seen = camera.observation(node(house, *cell), rotation)
        centre = seen["depth"].shape[0] // 2
        np.testing.assert_allclose(seen["depth"][centre, centre, 0] * 10, expected, atol=0.02)
    through = camera.observation(node(house, 3, 0), 270)["depth"]
    np.testing.assert_allclose(through[64, 64, 0] * 10, 4.49, atol=0.02)  # the far wall of the other room


def test_images_have_no_holes():
    for seed in range(2):
        world = draw_world("h", seed, LayoutRules(num_sources=1), image_size=32)
        camera, graph = WorldCamera(world), world.graph()
        for where in graph.nodes[:: len(graph) // 4]:
            for rotation in (0, 90, 180, 270):
                seen = camera.observation(where, rotation)
                assert seen["depth"].min() > 0 and seen["rgb"].sum(axis=2).min() > 0


def test_left_and_right_of_images(house):
    seen = WorldCamera(house).observation(node(house, 2, 1), 270)["rgb"].astype(int)
    # Looking towards +x, the door to the other room (blue walls) is to the right.
    blue = (seen[..., 2] > seen[..., 0] + 30).sum(axis=0)
    assert blue[64:].sum() > 0 == blue[:64].sum()


def test_map(house):
    image = top_view(house, 20)
    column, row = world_to_pixel(house, 0.0, 2.0, 20)
    assert image.dtype == np.uint8 and (image[int(row), int(column)] > 200).all()
    column, row = world_to_pixel(house, -0.5, 1.0, 20)
    assert (image[int(row), int(column) + 1] < 100).all(), "a wall is dark"


def test_measured_ears(monkeypatch):
    from espnet_av.activesep import ears
    from espnet_av.utils.assets import cached_asset

    path = cached_asset(ears.KEMAR_ASSET)
    if path is None:
        pytest.skip("the measured head is not in the cache; 'espnet-av fetch mit_kemar_normal_pinna.bz2'")
    found = ears.kemar_ears(path)
    assert found.responses.shape == (len(found.directions), ears.NUM_TAPS, 2)
    left = found.responses[found.nearest(np.array([[0.0, 1.0, 0.0]]))[0]]
    assert np.square(left[:, 0]).sum() > 3 * np.square(left[:, 1]).sum()
    assert np.argmax(np.abs(left[:, 0])) < np.argmax(np.abs(left[:, 1]))
    ahead = found.responses[found.nearest(np.array([[1.0, 0.0, 0.0]]))[0]]
    np.testing.assert_allclose(np.square(ahead).sum(axis=0).mean(), 1.0, rtol=0.01)


def test_sphere_without_the_measured_head(monkeypatch, caplog):
    from espnet_av.activesep import ears
    from espnet_av.utils.errors import EnvironmentProblem

    def fail(*args):
        raise EnvironmentProblem("no network")

    monkeypatch.setattr(ears, "fetch_asset", fail)
    assert ears.choose_ears("auto") == "sphere" and "sphere" in caplog.text
    with pytest.raises(EnvironmentProblem):
        ears.load_ears("kemar")
    with pytest.raises(UsageError, match="sphere"):
        ears.load_ears("cat")


def test_small_rules_of_the_tests():
    assert draw_world("x", 1, RULES, **SMALL).num_taps == SMALL["num_taps"]
