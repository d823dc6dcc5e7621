# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The environment: an agent in a scene hears a mixture every second and moves to hear the target better.

    env = ActiveSeparationEnv(root, read_episodes(data, "train"), ClipLibrary(clips))
    observation, info = env.reset(seed=1)
    observation, reward, terminated, truncated, info = env.step(0)  # 0 forward, 1 left, 2 right

Every step is one second of sound. The reward is left at 0: it depends on what the learner makes of the sound.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from espnet_av.activesep import reference_sensors
from espnet_av.activesep.binaural import CONVOLUTIONS, hear
from espnet_av.activesep.episodes import Episode, EpisodeIterator
from espnet_av.activesep.graph import FORWARD, LEFT, STAY, azimuth_of, rotation_of, step_of_way
from espnet_av.activesep.scene import SceneLibrary, SceneStore
from espnet_av.activesep.scene_files import SAMPLE_RATE, ScenePaths
from espnet_av.activesep.sounds import ClipLibrary, take_chunk
from espnet_av.utils.errors import DataError, describe, usage_error

SENSORS = ("rgb", "depth", "audio", "target", "class", "pose")
_HALF_MAX = 65504.0  # largest number of half precision
Observation = dict[str, np.ndarray]


class ActiveSeparationEnv(gymnasium.Env):
    """One agent that plays episodes one after the other.

    Observations (``sensors`` picks; k sources):

    ============ ============================================================================================
    ``rgb``      ``rgb`` uint8 (H, W, 3)
    ``depth``    ``depth`` float32 (H, W, 1), 0 to 1 for 0 to 10 m
    ``audio``    ``mixture_wave`` int16 (2, 16000), the mean of all sources at both ears; with ``reference_compat``
                 ``mixed_bin_audio_mag`` (log1p) and ``mixed_bin_audio_phase`` float16 (512, 32, 2)
    ``target``   for loss and reward, never for the policy: ``target_ears`` int16 (2, 16000) and ``target_dry`` int16
                 (16000,); with ``reference_compat`` ``gt_bin_comps`` (512, 32, 4 k), ``gt_mono_comps`` (512, 32, 2 k)
    ``class``    ``target_class`` int64 (1,)
    ``pose``     ``pose`` float32 (4,): metres ahead, metres to the right, heading, seconds, from the start pose
    ============ ============================================================================================

    ``info``: ``node``, ``rotation``, ``geodesic_distance`` (steps to the target), ``scene``, ``episode_id``, ``step``.

    Args:
        store_or_root: A scene, a library of scenes, name -> scene, or the folder of :func:`open_scene`.
        episodes: What to play, or an iterator of its own.
        clips: What the sources play.
        max_steps: Actions of an episode.
        convolution: ``same`` as the reference, or ``causal`` (see :mod:`espnet_av.activesep.binaural`).
        sensors: See above.
        reference_compat: Observations of the reference, made as it makes them: half precision spectra, samples that
            wrap around, and a clock that runs on where the same episode is played twice in a row.
        allow_stay: Add action 3, which does nothing (baselines need it).
        shuffle: Play the episodes in a new order in every pass.
        group_by_scene: Keep episodes of a scene together.
        max_scene_steps: See :class:`EpisodeIterator`.
        mono_rms: Level of the dry target under ``reference_compat``; 0 leaves it as it is.
        scene_options: Keywords of :func:`open_scene` where a folder is given.
        seed: Of the order of episodes.
    """

    metadata = {"render_modes": []}

    episode: Episode | None  # that is played; what follows is known from the first reset on
    store: SceneStore
    node: int
    rotation: int
    steps_done: int
    _clock: int
    _starts: list[int]

    def __init__(
        self,
        store_or_root: SceneStore | SceneLibrary | Mapping[str, SceneStore] | ScenePaths | str | os.PathLike,
        episodes: Sequence[Episode] | EpisodeIterator,
        clips: ClipLibrary,
        *,
        max_steps: int = 20,
        convolution: str = "same",
        sensors: Sequence[str] = SENSORS,
        reference_compat: bool = False,
        allow_stay: bool = False,
        shuffle: bool = False,
        group_by_scene: bool = True,
        max_scene_steps: int | None = None,
        mono_rms: float = reference_sensors.TARGET_RMS,
        scene_options: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        unknown = set(sensors) - set(SENSORS)
        if unknown or convolution not in CONVOLUTIONS or max_steps < 1:
            usage_error(
                "wrong option of the environment",
                got=sorted(unknown) or convolution if convolution not in CONVOLUTIONS or unknown else max_steps,
                allowed=f"sensors {SENSORS}, convolution {CONVOLUTIONS}, max_steps 1 or more",
            )
        if isinstance(store_or_root, (str, os.PathLike, ScenePaths)):
            store_or_root = SceneLibrary(store_or_root, **(scene_options or {}))
        self._scenes = store_or_root
        if not isinstance(episodes, EpisodeIterator):
            episodes = EpisodeIterator(
                episodes, shuffle=shuffle, group_by_scene=group_by_scene, max_scene_steps=max_scene_steps, seed=seed
            )
        self.iterator, self.clips = episodes, clips
        self.max_steps, self.convolution, self.sensors = max_steps, convolution, tuple(sensors)
        self.reference_compat, self.mono_rms = reference_compat, mono_rms
        self.action_space = spaces.Discrete(4 if allow_stay else 3)
        self.num_sources = max(len(episode.sounds) for episode in self.iterator.episodes)
        self.observation_space = self._make_space()
        self.episode = None

    # -- what gymnasium asks for ---------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict]:
        """Begin the next episode.

        Args:
            seed: Start over with the order of episodes of this seed.
            options: ``{"episode": index}`` plays that one of ``episodes`` now, outside of the order.

        Returns:
            The first observation and the info.

        Raises:
            DataError: The episode starts off the graph, a source is off the graph, or a clip cannot be used.
        """
        super().reset(seed=seed)
        if seed is not None:
            self.iterator.seed(seed)
        if options and "episode" in options:
            episode = self.iterator.episodes[options["episode"]]
        else:
            episode = self.iterator.next()
        repeated = self.reference_compat and seed is None and self.episode is not None and _same(episode, self.episode)
        self._begin(episode, clock=self._clock + 1 if repeated else 0)
        return self._observe(), self._info()

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict]:
        """Move, then listen for a second.

        Args:
            action: 0 forward (where the graph lets it, otherwise stay), 1 turn left, 2 turn right, 3 stay.

        Returns:
            Observation, reward 0, whether the episode is over, False, info.
        """
        action = int(action)
        if self.episode is None or self.steps_done >= self.max_steps:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        if not 0 <= action <= STAY:
            usage_error("unknown action", got=action, allowed="0 forward, 1 left, 2 right, 3 stay")
        if action == FORWARD:
            self.node = self.store.graph.step_ahead(self.node, self.rotation)
        elif action != STAY:
            self.rotation = (self.rotation + (90 if action == LEFT else -90)) % 360
        self.steps_done += 1
        self._clock += 1
        self._starts = self._next_starts()
        self.iterator.count_step()
        return self._observe(), 0.0, self.steps_done >= self.max_steps, False, self._info()

    # -- state ---------------------------------------------------------------------------------------------------

    @property
    def state(self) -> dict[str, Any]:
        """All that decides what comes next, as plain values; assign it to go on from there."""
        playing = None
        if self.episode is not None:
            playing = {
                "episode": self.episode.to_json(),
                "node": self.node,
                "rotation": self.rotation,
                "steps_done": self.steps_done,
                "clock": self._clock,
                "starts": list(self._starts),
            }
        return {"iterator": self.iterator.state_dict(), "playing": playing}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        """Go on from a state; see the getter."""
        from espnet_av.activesep.episodes import episode_from_json

        self.iterator.load_state_dict(state["iterator"])
        playing = state["playing"]
        if playing is None:
            self.episode = None
            return
        self._begin(episode_from_json(playing["episode"], num_classes=self.clips.classes.num_classes), playing["clock"])
        self.node, self.rotation = int(playing["node"]), int(playing["rotation"])
        self.steps_done, self._starts = int(playing["steps_done"]), [int(start) for start in playing["starts"]]

    def observe(self) -> tuple[Observation, dict]:
        """Return the present observation and info again."""
        return self._observe(), self._info()

    def _begin(self, episode: Episode, clock: int) -> None:
        self.store = self._scenes if isinstance(self._scenes, SceneStore) else self._scenes[episode.scene]
        where = f"scene {episode.scene}, episode {episode.episode_id}"
        node = self.store.node_at(episode.start_position)
        if node is None:
            raise DataError(
                describe(
                    f"{where}: starts off the graph",
                    got=episode.start_position,
                    allowed="a position within 1 cm of a node",
                    fix="'espnet-av check-world' lists such episodes; make the split again",
                )
            )
        self._source_nodes = [self._source_node(goal, where) for goal in episode.goals]
        self._waves = [self.clips[sound.clip] for sound in episode.sounds]
        self._starts = [
            sound.start_idx * SAMPLE_RATE % len(wave) for sound, wave in zip(episode.sounds, self._waves, strict=True)
        ]
        self.episode, self.node, self.rotation = episode, node, rotation_of(episode.start_rotation)
        self._start_node, self._start_rotation = node, self.rotation
        self.steps_done, self._clock = 0, clock

    @property
    def _played(self) -> Episode:
        if self.episode is None:
            raise gymnasium.error.ResetNeeded("call reset() before observe()")
        return self.episode

    def _source_node(self, position: Sequence[float], where: str) -> int:
        node = self.store.node_at(position)
        if node is None:
            raise DataError(
                describe(f"{where}: a source is off the graph", position, "a position within 1 cm of a node")
            )
        return node

    def _next_starts(self) -> list[int]:
        return [(start + SAMPLE_RATE) % len(wave) for start, wave in zip(self._starts, self._waves, strict=True)]

    # -- observations --------------------------------------------------------------------------------------------

    def _make_space(self) -> spaces.Dict:
        first = self.iterator.episodes[0]
        found: dict[str, spaces.Space] = {}
        if "rgb" in self.sensors or "depth" in self.sensors:
            store = self._scenes if isinstance(self._scenes, SceneStore) else self._scenes[first.scene]
            seen = store.observation(store.graph.nodes[0], 0)
            if "rgb" in self.sensors:
                found["rgb"] = spaces.Box(0, 255, seen["rgb"].shape, np.uint8)
            if "depth" in self.sensors:
                found["depth"] = spaces.Box(0.0, 1.0, seen["depth"].shape, np.float32)
        frames = 1 + SAMPLE_RATE // reference_sensors.HOP
        bins, k = (reference_sensors.N_FFT + 1) // 2, self.num_sources

        def spectrum(channels: int) -> spaces.Box:
            return spaces.Box(-_HALF_MAX, _HALF_MAX, (bins, frames, channels), np.float16)

        def wave(*shape: int) -> spaces.Box:
            return spaces.Box(-32768, 32767, (*shape, SAMPLE_RATE), np.int16)

        if "audio" in self.sensors and self.reference_compat:
            found["mixed_bin_audio_mag"] = found["mixed_bin_audio_phase"] = spectrum(2)
        elif "audio" in self.sensors:
            found["mixture_wave"] = wave(2)
        if "target" in self.sensors and self.reference_compat:
            found["gt_bin_comps"], found["gt_mono_comps"] = spectrum(4 * k), spectrum(2 * k)
        elif "target" in self.sensors:
            found["target_ears"], found["target_dry"] = wave(2), wave()
        if "class" in self.sensors:
            found["target_class"] = spaces.Box(0, self.clips.classes.num_classes - 1, (1,), np.int64)
        if "pose" in self.sensors:
            found["pose"] = spaces.Box(-np.inf, np.inf, (4,), np.float32)
        return spaces.Dict(found)

    def _observe(self) -> Observation:
        found: Observation = {}
        if "rgb" in self.sensors or "depth" in self.sensors:
            seen = self.store.observation(self.node, self.rotation)
            for name in ("rgb", "depth"):
                if name in self.sensors:
                    found[name] = seen[name].copy()
        if "audio" in self.sensors or "target" in self.sensors:
            found.update(self._listen_like_reference() if self.reference_compat else self._listen())
        if "class" in self.sensors:
            found["target_class"] = np.array([self._played.target_label], dtype=np.int64)
        if "pose" in self.sensors:
            found["pose"] = self._pose()
        return found

    def _components(self) -> list[np.ndarray]:
        """Return every source at both ears, int16 (2, 16000)."""
        azimuth = azimuth_of(self.rotation)
        return [
            hear(
                *(self.store, azimuth, self.node, source, wave, start, SAMPLE_RATE),
                convolution=self.convolution,
                wrap_int16=self.reference_compat,
            )
            for source, wave, start in zip(self._source_nodes, self._waves, self._starts, strict=True)
        ]

    def _listen(self) -> Observation:
        components = self._components()
        found: Observation = {}
        if "audio" in self.sensors:
            mixture = np.sum(components, axis=0, dtype=np.int32)
            found["mixture_wave"] = np.rint(mixture * np.float32(1 / len(components))).astype(np.int16)
        if "target" in self.sensors:
            found["target_ears"] = components[0]
            found["target_dry"] = take_chunk(self._waves[0], self._starts[0], SAMPLE_RATE).copy()
        return found

    def _listen_like_reference(self) -> Observation:
        components = self._components()
        found: Observation = {}
        if "audio" in self.sensors:
            magnitude, phase = reference_sensors.mixture_spectra(components)
            found["mixed_bin_audio_mag"], found["mixed_bin_audio_phase"] = magnitude, phase
        if "target" in self.sensors:
            chunks = [take_chunk(w, s, SAMPLE_RATE) for w, s in zip(self._waves, self._starts, strict=True)]
            empty = self.num_sources - len(chunks)
            silent = [np.zeros_like(components[0])] * empty, [np.zeros_like(chunks[0])] * empty
            found["gt_bin_comps"] = reference_sensors.component_spectra(components + silent[0])
            found["gt_mono_comps"] = reference_sensors.dry_spectra(chunks + silent[1], self.mono_rms)
        return found

    def _pose(self) -> np.ndarray:
        positions = self.store.graph.positions
        x, _, z = positions[self.node] - positions[self._start_node]
        turned = math.radians(self._start_rotation)
        ahead = -(x * math.sin(turned) + z * math.cos(turned))
        right = x * math.cos(turned) - z * math.sin(turned)
        heading = (self.rotation - self._start_rotation + 180) % 360 - 180
        heading = 180 if heading == -180 else heading
        return np.array([ahead, right, math.radians(heading), self._clock], dtype=np.float32)

    def _info(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "rotation": self.rotation,
            "geodesic_distance": self.store.graph.distance(self.node, self._source_nodes[0]),
            "way": step_of_way(self.store.graph, self.node, self.rotation, self._source_nodes[0]),
            "scene": self._played.scene,
            "episode_id": self._played.episode_id,
            "step": self.steps_done,
        }


def _same(one: Episode, other: Episode) -> bool:
    return (one.scene, one.episode_id) == (other.scene, other.episode_id)
