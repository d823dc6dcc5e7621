# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Drawing of episodes: where the agent starts, where sources stand, and what they play."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from espnet_av.activesep.episodes import Episode, Sound
from espnet_av.activesep.graph import ROTATIONS, quaternion_of
from espnet_av.activesep.passive_points import SourceChooser
from espnet_av.activesep.scene import SceneStore
from espnet_av.activesep.scene_files import SAMPLE_RATE
from espnet_av.activesep.sounds import ClipLibrary
from espnet_av.utils.errors import usage_error

STARTS = ("near", "far")


@dataclass(frozen=True)
class EpisodeRules:
    """What episodes are like. Distances are in steps of one metre along the graph.

    Attributes:
        num_distractors: Sources beside the target.
        min_distance: Smallest distance between the target and each distractor.
        start: ``near`` starts at the target, as all published episodes do; ``far`` some way from it.
        min_start: Of ``far``: smallest distance from start to target.
        max_start: Of ``far``: largest.
        max_steps: Written into the episodes.
    """

    num_distractors: int = 1
    min_distance: float = 3.0
    start: str = "near"
    min_start: float = 2.0
    max_start: float = 8.0
    max_steps: int = 20

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            usage_error("unknown start of episodes", got=self.start, allowed=STARTS)
        if self.num_distractors < 0 or not 0 <= self.min_start <= self.max_start:
            usage_error(
                "wrong rules of episodes", got=self, allowed="num_distractors 0 or more, min_start <= max_start"
            )


class SoundChooser:
    """Draws clips of different classes; the first class may be asked for.

    Args:
        clips: What there is, with its table of classes.

    Raises:
        UsageError: No class of the folder can be a target.
    """

    def __init__(self, clips: ClipLibrary) -> None:
        self.clips = clips
        self.by_class = {name: names for name, names in clips.by_class().items() if name in clips.classes}
        self.targets = [name for name in clips.classes.targets() if name in self.by_class]
        if not self.targets:
            usage_error(
                f"no clip in {clips.folder} is of a class that can be a target",
                got=sorted(clips.by_class())[:5],
                fix="name the table of these classes",
            )

    def draw(self, rng: np.random.Generator, count: int, max_steps: int = 20) -> tuple[Sound, ...]:
        """Return what ``count`` sources play, the target first.

        Raises:
            UsageError: There are fewer classes.
        """
        target = str(rng.choice(self.targets))
        others = [name for name in self.by_class if name != target]
        if len(others) < count - 1:
            usage_error("too few classes of sounds", got=len(self.by_class), allowed=f"{count} or more")
        classes = [target, *map(str, rng.choice(others, count - 1, replace=False))]
        label = self.clips.classes.label(target)
        sounds = []
        for name in classes:
            clip = str(rng.choice(self.by_class[name]))
            seconds = max(1, len(self.clips[clip]) // SAMPLE_RATE)
            sounds.append(Sound(clip, int(rng.integers(seconds)), label, max_steps))
        return tuple(sounds)


def draw_episodes(
    store: SceneStore, clips: ClipLibrary, num_episodes: int, rules: EpisodeRules | None = None, *, seed: int = 0
) -> list[Episode]:
    """Draw episodes of a scene.

    Args:
        store: The scene.
        clips: What sources may play.
        num_episodes: How many.
        rules: What they are like.
        seed: Of chance.

    Raises:
        UsageError: The scene is too small, or there are too few classes.
    """
    rules = rules or EpisodeRules()
    rng = np.random.default_rng(seed)
    sources, sounds = SourceChooser(store, rules.num_distractors, rules.min_distance), SoundChooser(clips)
    episodes = []
    for number in range(num_episodes):
        target, distractors = sources.draw(rng)
        start = target if rules.start == "near" else _far_start(store, target, rules, rng)
        nodes = [target, *distractors]
        episodes.append(
            Episode(
                episode_id=str(number),
                scene=store.name,
                start_position=_position(store, start),
                start_rotation=_draw_rotation(rng),
                goals=tuple(_position(store, node) for node in nodes),
                sounds=sounds.draw(rng, len(nodes), rules.max_steps),
                distances=_distances(store, start, nodes),
            )
        )
    return episodes


def _far_start(store: SceneStore, target: int, rules: EpisodeRules, rng: np.random.Generator) -> int:
    steps = store.graph.steps_from(target)
    fitting = [node for node, count in steps.items() if rules.min_start <= count <= rules.max_start]
    if not fitting:
        usage_error(
            f"scene {store.name} has no start {rules.min_start:g} to {rules.max_start:g} steps from node {target}",
            fix="take a smaller min_start",
        )
    return int(rng.choice(fitting))


def _draw_rotation(rng: np.random.Generator) -> tuple[float, float, float, float]:
    x, y, z, w = quaternion_of(int(rng.choice(ROTATIONS)))
    return x, y, z, w


def _position(store: SceneStore, node: int) -> tuple[float, float, float]:
    x, y, z = store.graph.positions[node].tolist()
    return x, y, z


def _distances(store: SceneStore, start: int, nodes: Sequence[int]) -> dict[str, list[float]]:
    return {
        "agent_to_sources": [store.graph.distance(start, node) for node in nodes],
        "target_to_sources": [store.graph.distance(nodes[0], node) for node in nodes],
    }
