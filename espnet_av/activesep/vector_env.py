# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Many environments side by side, in this process or in one process each."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from espnet_av.activesep.env import ActiveSeparationEnv
from espnet_av.activesep.episodes import Episode, split_episodes
from espnet_av.activesep.scene import SceneLibrary
from espnet_av.activesep.scene_files import ScenePaths
from espnet_av.activesep.sounds import ClipLibrary
from espnet_av.utils.errors import usage_error

VectorEnv = AsyncVectorEnv | SyncVectorEnv


def make_vector_env(
    num_envs: int,
    root: str | os.PathLike | ScenePaths | SceneLibrary,
    episodes: Sequence[Episode] | Sequence[Sequence[Episode]],
    clips: ClipLibrary,
    *,
    asynchronous: bool = False,
    by: str = "auto",
    seed: int = 0,
    scene_options: dict[str, Any] | None = None,
    **options: Any,
) -> VectorEnv:
    """Make environments that reset themselves in the step that ends an episode.

    The observation of that step is the first of the next episode; the last one is in ``info["final_obs"]``.
    Environments of one process share scenes and clips.

    Args:
        num_envs: How many.
        root: Of the scenes; a library only where ``asynchronous`` is False.
        episodes: Dealt out by :func:`split_episodes`; or one list per environment.
        clips: What the sources play.
        asynchronous: One process each. On few cores this is slower.
        by: How to deal, see :func:`split_episodes`.
        seed: Environment ``i`` gets ``seed + i``.
        scene_options: Keywords of :func:`open_scene`.
        **options: Keywords of :class:`ActiveSeparationEnv`.
    """
    dealt = [list(part) for part in episodes if not isinstance(part, Episode)]
    parts = dealt or split_episodes([each for each in episodes if isinstance(each, Episode)], num_envs, by=by)
    if len(parts) != num_envs:
        usage_error("one list of episodes per environment is needed", got=len(parts), allowed=num_envs)
    if asynchronous and isinstance(root, SceneLibrary):
        scene_options = {**root.options, **(scene_options or {})}
        root = root.root
    scenes = root if asynchronous or isinstance(root, SceneLibrary) else SceneLibrary(root, **(scene_options or {}))

    def maker(index: int) -> Callable[[], ActiveSeparationEnv]:
        def make() -> ActiveSeparationEnv:
            mine = dict(options)
            if asynchronous:
                mine["scene_options"] = scene_options
            return ActiveSeparationEnv(scenes, parts[index], clips, seed=seed + index, **mine)

        return make

    makers = [maker(index) for index in range(num_envs)]
    if asynchronous:
        return AsyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)


def vector_state(envs: VectorEnv) -> list[dict[str, Any]]:
    """Return the state of every environment, as plain values."""
    return [dict(state) for state in envs.get_attr("state")]


def load_vector_state(envs: VectorEnv, states: Sequence[dict[str, Any]]) -> None:
    """Let every environment go on from a state of :func:`vector_state`.

    Call ``reset`` before it in a new process, as gymnasium wants, and :func:`observe_all` for the present observation.
    """
    envs.set_attr("state", list(states))
