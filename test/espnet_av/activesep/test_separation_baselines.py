# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Ways to move and estimates that policies are compared with."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from espnet_av.activesep import baselines
from espnet_av.activesep.episodes import Episode, Sound
from espnet_av.activesep.evaluate import Move
from espnet_av.activesep.graph import FORWARD, LEFT, RIGHT, STAY, NavigationGraph
from espnet_av.utils.errors import UsageError

#  6 7 8     ahead at rotation 0 is -z: from 0 to 3
#  3 4 5
#  0 1 2
POSITIONS = {node: (node % 3, 0.0, -(node // 3)) for node in range(9)}
NEAR = {
    node: [
        other
        for other in range(9)
        if abs(node % 3 - other % 3) + abs(node // 3 - other // 3) == 1
    ]
    for node in range(9)
}  # fmt: skip


@pytest.fixture(scope="module")
def store():
    graph = NavigationGraph(POSITIONS, NEAR)
    return SimpleNamespace(name="room", graph=graph, node_at=graph.node_at)


def make_move(nodes, rotations, target, draws=None, scene="room"):
    place = tuple(map(float, POSITIONS[target]))
    episode = Episode("0", scene, place, (0.0, 0.0, 0.0, 1.0), (place,), (Sound("7540_a"),))
    infos = {"node": nodes, "rotation": rotations, "scene": ["room"] * len(nodes)}
    draw = np.zeros(len(nodes)) if draws is None else np.array(draws)
    return Move(0, None, None, infos, [episode] * len(nodes), draw)


def walk(store, mover, node, rotation, target, steps=12, draws=None):
    """Return what a mover does, as (node, rotation) after each action."""
    found = []
    for step in range(steps):
        draw = 0.0 if draws is None else draws[step]
        (action,) = mover(make_move([node], [rotation], target, [draw]))
        if action == FORWARD:
            node = store.graph.step_ahead(node, rotation)
        elif action in (LEFT, RIGHT):
            rotation = (rotation + (90 if action == LEFT else -90)) % 360
        found.append((node, rotation))
    return found


def test_approach_takes_a_shortest_way_and_stays(store):
    mover = baselines.make_mover("approach", {"room": store})
    for rotation in (0, 90, 180, 270):
        way = walk(store, mover, 0, rotation, 8)
        nodes = [0, *(node for node, _ in way)]
        assert len(set(nodes)) == 5 and way[-1][0] == 8  # four steps, none twice
        assert way[-1] == way[-2]


def test_direction_of_arrival_faces_the_target(store):
    mover = baselines.make_mover("doa", {"room": store})
    node, rotation = walk(store, mover, 4, 0, 4)[-1]
    assert node == 7 and rotation == 180  # a step ahead, then turned back
    assert walk(store, mover, 3, 0, 5)[-1] == (3, 270)  # to the right
    assert walk(store, mover, 5, 0, 3)[-1] == (5, 90)


def test_proximity_walks_near_the_target_and_stays_there(store):
    draws = np.random.default_rng(0).random(60)
    mover = baselines.Proximity({"room": store}, radius=1)
    way = walk(store, mover, 8, 0, 0, 60, draws)
    steps = [store.graph.distance(node, 0) for node, _ in way]
    first = next(number for number, count in enumerate(steps) if count <= 1)
    assert max(steps[first:]) <= 1 and len({node for node, _ in way[first:]}) > 1


def test_movers_without_a_map():
    move = make_move([0, 0, 0], [0, 0, 0], 4, [0.0, 0.5, 0.999])
    assert baselines.stand(move).tolist() == [STAY] * 3
    assert baselines.rotate(move).tolist() == [LEFT] * 3
    assert baselines.random_walk(move).tolist() == [FORWARD, LEFT, RIGHT]
    with pytest.raises(UsageError, match="unknown mover"):
        baselines.make_mover("fly", {})


def test_an_environment_without_its_own_episode_stays(store):
    for name in ("doa", "proximity", "approach"):
        assert baselines.make_mover(name, {"room": store})(make_move([0], [0], 8, scene="other")).tolist() == [STAY]


def test_estimates():
    generator = torch.Generator().manual_seed(0)
    mixed = torch.rand(2, 8, 4, 2, generator=generator)
    ears = torch.rand(2, 8, 4, 2, generator=generator)
    sensed = SimpleNamespace(mixed=mixed, target_ears=ears, target=torch.zeros(2, 8, 4, 1))
    for name, source in (("mixture", torch.expm1(mixed)), ("oracle_ears", ears)):
        found = baselines.ESTIMATORS[name](sensed, None)
        assert found.shape == (2, 8, 4, 1)
        assert torch.allclose(found.square().mean((1, 2, 3)).sqrt(), torch.full((2,), 1.2))
        ratio = found / source.mean(-1, keepdim=True)
        assert torch.allclose(ratio, ratio[:, :1, :1].expand_as(ratio), rtol=1e-4)
    assert not baselines.ESTIMATORS["zero"](sensed, None).any()
    silent = baselines.to_target_level(torch.zeros(1, 2, 2, 1))
    assert not silent.any() and math.isfinite(float(silent.sum()))
