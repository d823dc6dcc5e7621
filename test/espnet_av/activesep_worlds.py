# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A small generated house with clips and episodes, for tests of active separation."""

from pathlib import Path

from espnet_av.activesep.classes import ClassTable
from espnet_av.activesep.episode_generator import EpisodeRules, draw_episodes
from espnet_av.activesep.scene import SceneStore
from espnet_av.activesep.sounds import ClipLibrary
from espnet_av.activesep.synthetic_clips import write_synthetic_clips
from espnet_av.activesep.world_generator import generate_scene
from espnet_av.activesep.world_layout import LayoutRules

RULES = LayoutRules(width=5, depth=2, num_rooms=2, furniture_share=0.1, num_sources=4)
CLASSES = ("7540", "3274", "music", "esc")
SMALL = {"num_taps": 600, "image_order": 2, "image_size": 16, "ears": "sphere"}


def make_scene(root: Path, name: str = "house0", seed: int = 1, formats: tuple[str, ...] = ("packed",)) -> SceneStore:
    """Write a scene below ``root``."""
    return generate_scene(root, name, seed, RULES, formats=formats, **SMALL)


def make_clips(root: Path, seconds: float = 3.3) -> ClipLibrary:
    """Write clips below ``root``, whose length is no whole number of seconds."""
    folder = root / "audio_data" / "min20s_clips" / "train_preprocessed"
    write_synthetic_clips(folder, CLASSES, per_class=1, seconds=seconds)
    return ClipLibrary(folder, classes=ClassTable.build(CLASSES))


def make_episodes(store: SceneStore, clips: ClipLibrary, count: int = 6, seed: int = 0, **rules: object) -> list:
    """Draw episodes."""
    rules = {"min_distance": 2.0, "start": "far", "min_start": 1.0, "max_start": 6.0, **rules}
    return draw_episodes(store, clips, count, EpisodeRules(**rules), seed=seed)
