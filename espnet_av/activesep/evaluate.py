# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Play episodes with an agent and measure every second of them.

    result = evaluate(agent, episodes, lambda parts: make_vector_env(len(parts), root, parts, clips), options)
    result.write("exp/eval")

The figures of an episode do not depend on how many environments play side by side: memory and recurrent state begin
empty with every episode, random actions are drawn by its number, and on a CPU the networks take one episode at a time.

Axes: ``B`` environments, ``F`` 512 bins, ``T`` 32 frames.
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from espnet_av.activesep.agent import ActiveSeparationAgent
from espnet_av.activesep.episodes import Episode
from espnet_av.activesep.eval_results import EpisodeRecord, EvaluationResult
from espnet_av.activesep.memory_buffer import CAPACITY, REFINED_PAST
from espnet_av.activesep.metrics import LEVELS, all_columns, stft_l2_binaural
from espnet_av.activesep.reward import near_target_reward
from espnet_av.activesep.rollout_buffers import RolloutMemory, Sensed, sense
from espnet_av.activesep.separators import Separation
from espnet_av.activesep.spectra import stft
from espnet_av.train.rng import derive_seed
from espnet_av.utils.errors import usage_error
from espnet_av.utils.progress import progress

logger = logging.getLogger(__name__)

KINDS = ("mono", "monoFromMem")  # the separators alone; the last refined estimate of each second
Estimator = Callable[[Sensed, Separation], Tensor]


@dataclasses.dataclass(kw_only=True)
class EvaluationOptions:
    """How episodes are played and measured.

    Attributes:
        num_envs: Environments side by side.
        max_steps: Steps of an episode.
        deterministic: The most probable action instead of a random one.
        seed: Of random actions.
        memory_size: Earlier seconds that the memory knows.
        refine: Earlier seconds that are refined.
        levels: Waveform metrics beside the STFT distance.
        exact: One episode at a time through the networks, so that not a bit depends on ``num_envs``; None: on CPUs.
        float16: Round spectra as the published sensors do.
        estimators: More estimates to measure: name -> function of what is sensed and separated, ``(B, F, T, 1)``.
    """

    num_envs: int = 1
    max_steps: int = 20
    deterministic: bool = True
    seed: int = 0
    memory_size: int = CAPACITY
    refine: int = REFINED_PAST
    levels: tuple[str, ...] = ("si_sdr",)
    exact: bool | None = None
    float16: bool = False
    estimators: Mapping[str, Estimator] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UsageError: For a value out of range.
        """
        if self.num_envs < 1 or self.max_steps < 1:
            usage_error("environments and steps", (self.num_envs, self.max_steps), "1 or more each")
        unknown = [name for name in self.levels if name not in LEVELS]
        if unknown:
            usage_error("unknown metric", unknown, LEVELS)


@dataclasses.dataclass
class Move:
    """What a mover may look at.

    Attributes:
        step: From 0.
        sensed: Present observations.
        present: Refined estimate of the present second, ``(B, F, T, 1)``.
        infos: Of the environments: ``node``, ``rotation``, ``geodesic_distance``, ``scene``.
        episodes: What is played.
        draw: A number in [0, 1) of each episode's own chance, ``(B,)``.
    """

    step: int
    sensed: Sensed
    present: Tensor
    infos: Mapping[str, Any]
    episodes: Sequence[Episode]
    draw: np.ndarray


Mover = Callable[[Move], np.ndarray]


class Player:
    """What the agent holds of some environments while it plays one episode in each.

    Args:
        agent: The agent.
        num_envs: Environments.
        options: See :class:`EvaluationOptions`.
        device: Where the agent is.
    """

    def __init__(
        self, agent: ActiveSeparationAgent, num_envs: int, options: EvaluationOptions, device: torch.device
    ) -> None:
        self.agent, self.options = agent, options
        self.memory = RolloutMemory(
            agent.memory, num_envs, capacity=options.memory_size, refine=options.refine, device=device
        )
        self.hidden = agent.initial_hidden(num_envs)
        self.alive = torch.ones(num_envs, device=device)

    @torch.no_grad()
    def hear(self, sensed: Sensed) -> Tensor:
        """Separate and refine the present second; return refined seconds in the order of time."""
        self.sensed = sensed
        self.separation: Separation = self.agent.separate(sensed.mixed, sensed.target_class)
        self.refined, _ = self.memory.look(self.separation.mono, sensed.pose)
        return self.refined

    @torch.no_grad()
    def decide(self) -> tuple[Tensor, Tensor]:
        """Return the probabilities of actions ``(B, A)`` and the value ``(B,)``."""
        images = {name: self.sensed.images[name] for name in self.agent.policy.images}
        found = self.agent.policy.act(
            *(images, self.sensed.mixed, self.separation.mask, self.refined[-1], self.hidden),
            self.alive.unsqueeze(-1),
            deterministic=True,
        )
        self.hidden = found.hidden
        return found.probs, found.value.squeeze(-1)

    def remember(self) -> None:
        """Put the present second into memory."""
        self.memory.insert(self.separation.mono, self.sensed.pose, self.sensed.target, self.alive)


def evaluate(
    agent: ActiveSeparationAgent,
    episodes: Sequence[Episode],
    make_envs: Callable[[list[list[Episode]]], Any],
    options: EvaluationOptions,
    *,
    device: torch.device | str = "cpu",
    mover: Mover | None = None,
    on_episode: Callable[[int, dict[str, np.ndarray]], None] | None = None,
) -> EvaluationResult:
    """Play each episode once.

    Args:
        agent: The agent, on ``device``.
        episodes: What to play.
        make_envs: Makes a vector environment from one list of episodes for each environment, played in that order.
        options: How to play and what to measure.
        device: Where to compute.
        mover: Moves in place of the policy.
        on_episode: Gets the number of an episode, from 0, and its arrays: ``mixture`` (S, 2, N), ``target_ears`` and
            ``target`` waveforms where they are sensed, and the magnitudes of the estimates (S, F, T, 1).

    Raises:
        UsageError: There are no episodes.
    """
    if not episodes:
        usage_error("there are no episodes to play", 0, "1 or more")
    count = min(options.num_envs, len(episodes))
    parts = [list(range(part, len(episodes), count)) for part in range(count)]
    envs = make_envs([[episodes[index] for index in part] for part in parts])
    was_training = agent.training
    agent.eval()
    records: list[EpisodeRecord | None] = [None] * len(episodes)
    try:
        observation, infos = envs.reset()
        rounds = len(parts[0])
        for turn in progress(range(rounds), rounds, "episodes", "round"):
            indices = [part[turn] if turn < len(part) else None for part in parts]
            game = _Round(agent, episodes, indices, options, torch.device(device), mover)
            observation, infos = game.play(envs, observation, infos)
            for index, record, arrays in game.finish():
                records[index] = record
                if on_episode is not None:
                    on_episode(index, arrays)
    finally:
        envs.close()
        agent.train(was_training)
    return EvaluationResult([record for record in records if record is not None], _settings(options))


def _settings(options: EvaluationOptions) -> dict[str, Any]:
    names = ("max_steps", "deterministic", "seed", "memory_size", "refine", "levels")
    found = {name: getattr(options, name) for name in names}
    return {**found, "levels": list(options.levels)}


class _Round:
    """One episode in each environment, from first observation to last."""

    def __init__(
        self,
        agent: ActiveSeparationAgent,
        episodes: Sequence[Episode],
        indices: Sequence[int | None],
        options: EvaluationOptions,
        device: torch.device,
        mover: Mover | None,
    ) -> None:
        self.episodes, self.indices, self.options = episodes, indices, options
        self.device, self.mover = device, mover
        count = len(indices)
        exact = device.type == "cpu" if options.exact is None else options.exact
        self.groups = [[env] for env in range(count)] if exact else [list(range(count))]
        self.players = [Player(agent, len(group), options, device) for group in self.groups]
        self.chance = [np.random.default_rng(derive_seed(options.seed, "episode", index)) for index in indices]
        self.log: dict[str, list[Any]] = {}
        self.committed: list[Tensor] = []  # of each second, the latest refined estimate, on the CPU

    def play(self, envs: Any, observation: Mapping[str, np.ndarray], infos: Mapping[str, Any]) -> tuple[Any, Any]:
        """Play to the end; return the first observation and infos of the next episodes."""
        for step in range(self.options.max_steps):
            sensed = sense(observation, self.device, float16=self.options.float16)
            self._hear(step, sensed, observation, infos)
            actions = self._move(step, sensed, infos)
            self._keep("actions", torch.as_tensor(actions))
            observation, _, terminated, truncated, infos = envs.step(actions)
            ended = np.logical_or(terminated, truncated)
            if bool(ended.any()) != (step == self.options.max_steps - 1):
                usage_error(
                    "the episodes of the environments are of another length",
                    got=step + 1,
                    allowed=self.options.max_steps,
                    fix="give the environments the same max_steps",
                )
        return observation, infos

    def _keep(self, name: str, value: Any) -> None:
        self.log.setdefault(name, []).append(value.cpu() if isinstance(value, Tensor) else value)

    def _hear(self, step: int, sensed: Sensed, observation: Mapping[str, np.ndarray], infos: Mapping[str, Any]) -> None:
        refined, masks, monos = [], [], []
        for group, player in zip(self.groups, self.players, strict=True):
            refined.append(player.hear(_rows(sensed, group)))
            masks.append(player.separation.mask)
            monos.append(player.separation.mono)
        separation = Separation(torch.cat(masks), torch.cat(monos))
        latest = torch.cat(refined, 1).cpu()
        self.present = latest[-1].to(self.device)
        self.committed.append(latest[-1])
        for place in range(len(latest) - 1):
            self.committed[step - len(latest) + 1 + place] = latest[place]
        self._keep("mono", separation.mono)
        self._keep("target", sensed.target)
        for name, estimator in self.options.estimators.items():
            self._keep(name, estimator(sensed, separation))
        self._keep("binaural", stft_l2_binaural(sensed.mixed, separation.mask, sensed.target_ears))
        alive = torch.full((len(self.indices),), float(step > 0), device=self.device)
        self._keep("rewards", near_target_reward(self.present, sensed.target, alive))
        self._keep("phase", _target_phase(observation))
        for name in ("mixture_wave", "target_ears", "target_dry"):
            if name in observation:
                self._keep(name, torch.from_numpy(np.array(observation[name])))
        for name in ("node", "rotation", "geodesic_distance"):
            self._keep(name, np.array(infos[name]))

    def _move(self, step: int, sensed: Sensed, infos: Mapping[str, Any]) -> np.ndarray:
        probs, values = (torch.cat(found).cpu() for found in zip(*(p.decide() for p in self.players), strict=True))
        self._keep("probs", probs)
        self._keep("values", values)
        for player in self.players:
            player.remember()
        draw = np.array([chance.random() for chance in self.chance])
        if self.mover is not None:
            playing = [self.episodes[0 if index is None else index] for index in self.indices]
            return np.asarray(self.mover(Move(step, sensed, self.present, infos, playing, draw)))
        if self.options.deterministic:
            return probs.argmax(-1).numpy()
        below = probs.double().cumsum(-1).numpy() <= draw[:, None]
        return np.minimum(below.sum(-1), probs.shape[-1] - 1)

    def finish(self) -> list[tuple[int, EpisodeRecord, dict[str, np.ndarray]]]:
        """Measure all seconds; return number, record and arrays of each episode."""
        log = {name: torch.stack(values) if isinstance(values[0], Tensor) else np.stack(values)
               for name, values in self.log.items()}  # fmt: skip
        log["monoFromMem"] = torch.stack(self.committed)
        return [
            (index, *self._finish_one(env, self.episodes[index], log))
            for env, index in enumerate(self.indices)
            if index is not None
        ]

    def _finish_one(
        self, env: int, episode: Episode, log: Mapping[str, Any]
    ) -> tuple[EpisodeRecord, dict[str, np.ndarray]]:
        own = {name: values[:, env] for name, values in log.items()}
        waves = {"mixture_wave": own.get("mixture_wave"), "target_ears": own.get("target_ears")}
        kinds = (*KINDS, *self.options.estimators)
        estimates = torch.stack([own[kind].to(own["target"].dtype) for kind in kinds])
        found = all_columns(estimates, own["target"], own["phase"], **waves, names=self.options.levels)
        metrics = {
            kind: {
                column: {name: values[place].double().tolist() for name, values in levels.items()}
                for column, levels in found.items()
            }
            for place, kind in enumerate(kinds)
        }
        metrics["binaural"] = {"paper": {"stft_l2": own["binaural"].double().tolist()}}
        record = EpisodeRecord(
            scene=episode.scene,
            episode_id=episode.episode_id,
            target_label=episode.target_label,
            actions=[int(action) for action in own["actions"]],
            probs=own["probs"].tolist(),
            values=own["values"].tolist(),
            rewards=[*own["rewards"].double().tolist()[1:], 0.0],  # that of an action is known a second later
            nodes=[int(node) for node in own["node"]],
            rotations=[int(rotation) for rotation in own["rotation"]],
            distances=[float(distance) for distance in own["geodesic_distance"]],
            metrics=metrics,
        )
        names = (*kinds, "mixture_wave", "target_ears", "target_dry", "target")
        return record, {name: own[name].numpy() for name in names if name in own}


def _rows(sensed: Sensed, rows: Sequence[int]) -> Sensed:
    """Return some environments' part of what is sensed."""
    return Sensed(
        mixed=sensed.mixed[rows],
        target_ears=sensed.target_ears[rows],
        target=sensed.target[rows],
        target_class=sensed.target_class[rows],
        pose=sensed.pose[rows],
        images={name: image[rows] for name, image in sensed.images.items()},
    )


def _target_phase(observation: Mapping[str, np.ndarray]) -> Tensor:
    """Return the phase of the dry target, ``(B, F, T, 1)``."""
    if "target_dry" in observation:
        return stft(torch.from_numpy(np.array(observation["target_dry"])))[1].unsqueeze(-1)
    return torch.from_numpy(np.array(observation["gt_mono_comps"][..., 1:2])).float()
