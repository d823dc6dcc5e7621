# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What a policy training of active separation collects and computes, for :class:`~espnet_av.train.ppo.PPOTrainer`.

Each second is separated once and refined once: what the agent makes of the second after an action gives the reward of
that action and is what the next decision needs. The memory is trained on the very estimates that were collected, as
the separators are frozen.

Axes: ``B`` environments, ``S`` seconds, ``F`` 512 bins, ``T`` 32 frames.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from espnet_av.activesep.agent import ActiveSeparationAgent
from espnet_av.activesep.episode_figures import EpisodeFigures
from espnet_av.activesep.graph import LEFT
from espnet_av.activesep.memory import AcousticMemory, refinement_loss
from espnet_av.activesep.memory_buffer import CAPACITY, REFINED_PAST
from espnet_av.activesep.policy import ActiveSeparationPolicy
from espnet_av.activesep.reward import Facts, Reward
from espnet_av.activesep.rollout_buffers import Carried, RolloutMemory, Sensed, carried_seconds, sense, visibility
from espnet_av.activesep.separators import Separation, masked_magnitude
from espnet_av.train.ppo import Learner
from espnet_av.train.rollout import RolloutStorage
from espnet_av.utils.errors import usage_error

STORED_INFOS = ("geodesic_distance", "scene", "node", "way")


@dataclasses.dataclass(kw_only=True)
class LearnerOptions:
    """How rollouts are collected and the memory is trained.

    Attributes:
        num_steps: Steps of a rollout; with ``max_steps`` of the environments, rollouts hold whole episodes.
        max_steps: Longest episode.
        memory_size: Earlier seconds that the memory knows.
        refine: Earlier seconds that are refined.
        loss_slots: Divide the memory's loss by this many slots for each step, filled or not, as the published program
            does (``memory_size + num_steps + 1``); 0: by the seconds that are refined.
        float16: Round spectra as the published sensors do.
        figures: Collect the figures of episodes.
        group_size: Neighbouring environments that begin with the same seed.
        expert: Note the next action of a shortest way to the target, for imitation.
    """

    num_steps: int = 20
    max_steps: int = 20
    memory_size: int = CAPACITY
    refine: int = REFINED_PAST
    loss_slots: int = 0
    float16: bool = False
    figures: bool = True
    group_size: int = 1
    expert: bool = False


class PolicyEvaluation(torch.nn.Module):
    """The policy behind minibatches of a rollout storage.

    Args:
        policy: The policy.
    """

    def __init__(self, policy: ActiveSeparationPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Return values (N,), log-probabilities (N,) and the mean entropy of a minibatch."""
        inputs = batch["inputs"]
        images = {name: inputs[name] for name in self.policy.images}
        found = self.policy.evaluate(
            images,
            inputs["mixed"],
            inputs["mask"],
            inputs["refined"],
            batch["hidden"],
            batch["masks"].unsqueeze(-1),
            batch["actions"].unsqueeze(-1),
        )
        return found.value.squeeze(-1), found.log_prob.squeeze(-1), found.entropy


class MemoryObjective(torch.nn.Module):
    """The memory and its loss on a rollout.

    Args:
        memory: The memory.
        loss_slots: See :class:`LearnerOptions`.
    """

    def __init__(self, memory: AcousticMemory, loss_slots: int = 0) -> None:
        super().__init__()
        self.memory = memory
        self.loss_slots = loss_slots

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of a minibatch of :meth:`ActiveSeparationLearner.auxiliary_batches`."""
        refined = self.memory.refine_rollout(batch["mono"], batch["pose"], batch["visible"], batch["wanted"])
        _, env, second = batch["wanted"].nonzero(as_tuple=True)
        slots = self.loss_slots * batch["visible"].shape[0] * batch["visible"].shape[1]
        return refinement_loss(refined, batch["target"][second, env], num_slots=slots or None)


class ActiveSeparationLearner(Learner):
    """Environments and agent of a policy training.

    Args:
        agent: The agent, its separators trained.
        envs: Vector environment that begins a new episode within the step that ends one.
        reward: What actions are worth.
        options: How to collect.
        device: Where the networks are.
        seed: Seed of the environments; group ``i`` gets ``seed + i``.
    """

    model: ActiveSeparationAgent

    def __init__(
        self,
        agent: ActiveSeparationAgent,
        envs: Any,
        reward: Reward,
        options: LearnerOptions,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        self.model, self.envs, self.reward, self.options = agent, envs, reward, options
        self.device, self.seed = torch.device(device), seed
        self.policy = PolicyEvaluation(agent.policy)
        self.auxiliary = MemoryObjective(agent.memory, options.loss_slots)
        self.num_envs = envs.num_envs
        aligned = options.num_steps % options.max_steps == 0
        self.memory = RolloutMemory(
            agent.memory,
            self.num_envs,
            capacity=options.memory_size,
            refine=options.refine,
            keep_targets=not aligned,
            device=self.device,
        )
        self.figures = EpisodeFigures(self.num_envs, agent.policy.num_actions, options.max_steps, self.device)
        self.hidden = agent.initial_hidden(self.num_envs)
        self.not_done = torch.ones(self.num_envs, device=self.device)
        self._has_storage = False  # its shapes follow from the first observation
        self.choose: Callable[[Any], Any] | None = None  # forces actions, for tests

    # ------------------------------------------------------------------ observations

    def begin(self) -> None:
        """Reset the environments."""
        observation, self.infos = self.envs.reset(seed=self._seeds())
        self.not_done.zero_()
        self._take(observation)

    def _seeds(self) -> list[int]:
        return [self.seed + number // self.options.group_size for number in range(self.num_envs)]

    def _facts(self, estimate: Tensor) -> Facts:
        """Return what the reward may know of the present observation."""
        needs, distance, places = self.reward.needs, None, None
        if "distance" in needs:
            distance = torch.as_tensor(self.infos["geodesic_distance"], dtype=torch.float32, device=self.device)
        if "places" in needs:
            places = list(zip(self.infos["scene"], self.infos["node"], strict=True))
        return Facts(self.not_done, estimate, self.sensed.target, distance, places)

    def _take(self, observation: Mapping[str, np.ndarray]) -> None:
        """Sense and separate an observation, once."""
        self.observation = {name: np.array(value) for name, value in observation.items()}  # envs reuse their arrays
        self.sensed: Sensed = sense(self.observation, self.device, float16=self.options.float16)
        self.separation: Separation = self.model.separate(self.sensed.mixed, self.sensed.target_class)

    def _make_storage(self) -> None:
        frame = tuple(self.sensed.target.shape[1:])
        pair = tuple(self.sensed.mixed.shape[1:])
        fields = {
            name: (tuple(self.sensed.images[name].shape[1:]), self.sensed.images[name].dtype)
            for name in self.model.policy.images
        }
        fields |= {"mixed": (pair, torch.float32), "mask": (pair, torch.float32), "refined": (frame, torch.float32)}
        steps, hidden = self.options.num_steps, (self.hidden.shape[0], self.hidden.shape[2])
        self.storage, self._has_storage = RolloutStorage(steps, self.num_envs, fields, hidden, self.device), True
        self.mono = torch.zeros(steps, self.num_envs, *frame, device=self.device)
        self.target = torch.zeros_like(self.mono)
        self.pose = torch.zeros(steps, self.num_envs, self.sensed.pose.shape[1], device=self.device)

    # ------------------------------------------------------------------ rollout

    @torch.no_grad()
    def collect(self) -> tuple[Tensor, dict[str, tuple[float, float]]]:
        """Fill the storage; see :meth:`Learner.collect`."""
        if not self._has_storage:
            missing = [name for name in self.model.policy.images if name not in self.sensed.images]
            if missing:
                usage_error("the policy sees what the environments do not show", missing, sorted(self.sensed.images))
            self._make_storage()
        self.model.eval()
        self.carried: Carried | None = carried_seconds(self.memory)
        self.storage.start(self.not_done, self.hidden)
        self.losses = torch.zeros(2, device=self.device)
        refined, exist = self.memory.look(self.separation.mono, self.sensed.pose)
        if not bool(self.not_done.any()):
            self.reward.start(self._facts(refined[-1]))
        totals: dict[str, tuple[float, float]] = {}
        for step in range(self.options.num_steps):
            refined, exist = self._step(step, refined, exist, totals)
        if bool(self.not_done.any()):
            inputs = self._policy_inputs(refined[-1])
            value = self.model.policy.value(*inputs, self.hidden, self.not_done.unsqueeze(-1)).squeeze(-1)
        else:
            value = torch.zeros(self.num_envs, device=self.device)
        self.model.train()
        return value, totals

    def _policy_inputs(self, present: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor]:
        images = {name: self.sensed.images[name] for name in self.model.policy.images}
        return images, self.sensed.mixed, self.separation.mask, present

    def _step(self, step: int, refined: Tensor, exist: Tensor, totals: dict) -> tuple[Tensor, Tensor]:
        """Decide, act, and look at what comes; return what is refined then."""
        sensed, separation = self.sensed, self.separation
        images, mixed, mask, present = self._policy_inputs(refined[-1])
        self.mono[step], self.target[step], self.pose[step] = separation.mono, sensed.target, sensed.pose
        not_done = self.not_done.unsqueeze(-1)
        decision = self.model.policy.act(images, mixed, mask, present, self.hidden, not_done)
        action, log_prob = decision.action, decision.log_prob
        if self.choose is not None:
            action = torch.as_tensor(self.choose(step), device=self.device).reshape(-1, 1)
            log_prob = decision.probs.log().gather(-1, action)
        self.storage.put(
            step,
            {**images, "mixed": mixed, "mask": mask, "refined": present},
            {
                "actions": action.squeeze(-1),
                "log_probs": log_prob.squeeze(-1),
                "values": decision.value.squeeze(-1),
                **({"expert": self._expert()} if self.options.expert else {}),
            },
        )
        self._note(step, refined, exist)
        self.hidden = decision.hidden
        observation, _, terminated, truncated, self.infos = self.envs.step(action.squeeze(-1).cpu().numpy())
        done = torch.as_tensor(np.logical_or(terminated, truncated), device=self.device)
        self.not_done = 1.0 - done.float()
        self.memory.insert(separation.mono, sensed.pose, sensed.target, self.not_done)
        self._take(observation)
        if step < self.options.num_steps - 1 or not bool(done.all()):  # otherwise the memory has new weights by then
            refined, exist = self.memory.look(self.separation.mono, self.sensed.pose)
        rewards = self.reward(self._facts(refined[-1]))
        self.storage.rewards[step] = rewards
        self.storage.masks[step + 1] = self.not_done
        self.figures.act(decision.probs, rewards)
        for name, (total, count) in self.figures.end(done).items():
            old = totals.get(name, (0.0, 0.0))
            totals[name] = (old[0] + total, old[1] + count)
        return refined, exist

    def _expert(self) -> Tensor:
        """Return the next actions of shortest ways to the targets; a policy that cannot stay turns there."""
        if "way" not in self.infos:
            usage_error("the environments do not know the way", sorted(self.infos), fix="set imitation_updates to 0")
        way = torch.as_tensor(np.asarray(self.infos["way"]), device=self.device)
        return torch.where(way < self.model.policy.num_actions, way, LEFT)

    def _note(self, step: int, refined: Tensor, exist: Tensor) -> None:
        """Add this second to the figures."""
        sensed, (mask, mono) = self.sensed, self.separation
        ears = (masked_magnitude(sensed.mixed, mask) - sensed.target_ears).abs().mean()
        self.losses += torch.stack([ears, (mono - sensed.target).abs().mean()])
        if not self.options.figures:
            return
        self.figures.hear(sensed.mixed, mask, mono, sensed.target_ears, sensed.target)
        targets = self.target[: step + 1]
        if self.carried is not None:
            targets = torch.cat([self.carried.target, targets])
        self.figures.refine(refined, targets[-len(refined) :], exist)

    # ------------------------------------------------------------------ memory

    def auxiliary_batches(self, num_mini_batch: int) -> Iterator[dict[str, Tensor]]:
        """Yield minibatches of whole sequences for :class:`MemoryObjective`."""
        if num_mini_batch < 1 or self.num_envs % num_mini_batch:
            usage_error("minibatches hold whole environments", num_mini_batch, f"a divisor of {self.num_envs}")
        limits = {"capacity": self.options.memory_size, "refine": self.options.refine}
        visible, wanted = visibility(self.storage.masks[:-1] == 0, self.carried, **limits)
        seconds = {"mono": self.mono, "pose": self.pose, "target": self.target}
        if self.carried is not None:
            seconds = {name: torch.cat([getattr(self.carried, name), value]) for name, value in seconds.items()}
        for chosen in torch.randperm(self.num_envs).chunk(num_mini_batch):
            envs = chosen.to(self.device)
            batch = {name: value[:, envs] for name, value in seconds.items()}
            yield {**batch, "visible": visible[:, envs], "wanted": wanted[:, envs]}

    def auxiliary_stats(self) -> dict[str, Tensor]:
        """Return the losses of the frozen separators on the rollout."""
        ears, mono = self.losses / self.options.num_steps
        return {"bin_loss": ears, "mono_loss": mono}

    def after_update(self) -> None:
        """Let the memory be encoded anew."""
        self.memory.forget_tokens()

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Any]:
        """Return observation, recurrent state, memory, figures and the environments."""
        return {
            "observation": self.observation,
            "hidden": self.hidden,
            "not_done": self.not_done,
            "memory": self.memory.state_dict(),
            "figures": self.figures.state_dict(),
            "reward": self.reward.state_dict(),
            "infos": {name: list(self.infos[name]) for name in STORED_INFOS if name in self.infos},
            "envs": list(self.envs.get_attr("state")),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        self.envs.reset(seed=self._seeds())
        self.envs.set_attr("state", list(state["envs"]))
        self.hidden.copy_(state["hidden"])
        self.not_done.copy_(state["not_done"])
        self.memory.load_state_dict(state["memory"])
        self.figures.load_state_dict(state["figures"])
        self.reward.load_state_dict(state["reward"])
        self.infos = dict(state["infos"])
        self._take({name: _array(value) for name, value in state["observation"].items()})

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()


def _array(value: Any) -> np.ndarray:
    return value.numpy() if isinstance(value, Tensor) else np.asarray(value)
