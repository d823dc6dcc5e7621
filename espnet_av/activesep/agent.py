# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The whole agent: frozen separators, acoustic memory, policy.

    agent = ActiveSeparationAgent.from_pretrained("models/near_target")
    heard = agent.hear(mixed, target_class, pose, buffer)          # once for each second
    decision = agent.act({"rgb": rgb}, mixed, heard, hidden, not_done)
    buffer.insert(heard.mono, pose, not_done)                      # then hear() what the next second brings

What :meth:`ActiveSeparationAgent.hear` returns for the second after an action gives the reward of that action and is
what the next decision needs: each second is separated once.

Axes: ``B`` environments, ``S`` slots of the memory, ``F`` 512 bins, ``T`` 32 frames.
"""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from espnet_av.activesep.memory import AcousticMemory
from espnet_av.activesep.memory_buffer import MemoryBuffer
from espnet_av.activesep.policy import ActiveSeparationPolicy, Decision
from espnet_av.activesep.separators import PassiveSeparator, Separation
from espnet_av.hub import Origin, Pretrained, locate_model
from espnet_av.train.pretrained import resolve_device


class Heard(NamedTuple):
    """What one second sounds like to the agent.

    Attributes:
        mask: Of the target extractor, ``(B, F, T, 2)``.
        mono: Estimate of the separators, ``(B, F, T, 1)``.
        refined: Estimates of all slots of the memory and, last, of this second, ``(S + 1, B, F, T, 1)``.
    """

    mask: Tensor
    mono: Tensor
    refined: Tensor

    @property
    def present(self) -> Tensor:
        """Refined estimate of this second, ``(B, F, T, 1)``."""
        return self.refined[-1]


class ActiveSeparationAgent(nn.Module, Pretrained):
    """Separators, memory and policy in the published sizes, or in others.

    Args:
        separator: Keywords of :class:`~espnet_av.activesep.separators.PassiveSeparator`.
        memory: Keywords of :class:`~espnet_av.activesep.memory.AcousticMemory`.
        policy: Keywords of :class:`~espnet_av.activesep.policy.ActiveSeparationPolicy`.
    """

    system_name = "activesep"

    def __init__(
        self,
        *,
        separator: Mapping[str, Any] | None = None,
        memory: Mapping[str, Any] | None = None,
        policy: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.separator = PassiveSeparator(**(separator or {})).requires_grad_(False).eval()
        self.memory = AcousticMemory(**(memory or {}))
        self.policy = ActiveSeparationPolicy(**(policy or {}))

    def train(self, mode: bool = True) -> "ActiveSeparationAgent":
        """Switch memory and policy; the separators are frozen, with the statistics of their norms."""
        super().train(mode)
        self.separator.eval()
        return self

    @torch.no_grad()
    def separate(self, mixed: Tensor, target_class: Tensor) -> Separation:
        """Run the frozen separators: mixture ``(B, F, T, 2)`` and labels ``(B, 1)`` -> mask and mono estimate."""
        return self.separator(mixed, target_class)

    @torch.no_grad()
    def hear(self, mixed: Tensor, target_class: Tensor, pose: Tensor, buffer: MemoryBuffer) -> Heard:
        """Separate one second and refine it and those in memory.

        Args:
            mixed: ``log(1 + magnitude)`` of the mixture, ``(B, F, T, 2)``.
            target_class: Labels from 0, ``(B, 1)``.
            pose: ``(B, 4)``.
            buffer: Earlier seconds; it is not changed.
        """
        mask, mono = self.separate(mixed, target_class)
        return Heard(mask, mono, self.memory(mono, pose, buffer.slots, buffer.poses, buffer.mask))

    @torch.no_grad()
    def act(
        self,
        images: Tensor | dict[str, Tensor],
        mixed: Tensor,
        heard: Heard,
        hidden: Tensor,
        not_done: Tensor,
        *,
        deterministic: bool = False,
        generator: torch.Generator | None = None,
    ) -> Decision:
        """Choose actions; see :meth:`~espnet_av.activesep.policy.ActiveSeparationPolicy.act`."""
        return self.policy.act(
            images,
            mixed,
            heard.mask,
            heard.present,
            hidden,
            not_done,
            deterministic=deterministic,
            generator=generator,
        )

    def initial_hidden(self, num_envs: int) -> Tensor:
        """Return the state of the policy before the first step, ``(1, num_envs, hidden_size)``."""
        return self.policy.initial_hidden(num_envs)

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike,
        *,
        device: str | torch.device = "cpu",
        revision: str | None = None,
        cache_dir: str | os.PathLike | None = None,
        token: str | None = None,
    ) -> "ActiveSeparationAgent":
        """Load an agent in evaluation mode.

        Args:
            source: Folder with ``config.yaml`` and weights of ours, a checkpoint of the reference (``.pth``), or, where
                no such path is, ``organisation/name[@revision]`` of the Hugging Face hub.
            device: Where to put it.
            revision: Branch, tag or commit of the hub.
            cache_dir: Where files of the hub are kept; None: where its own programs keep them.
            token: Access token of the hub; None: that of ``hf auth login`` or ``HF_TOKEN``.

        Raises:
            MissingDataError: There is no such file.
            CheckpointError: The file is damaged, unsafe or of another model.
            EnvironmentProblem: The hub cannot be reached.
        """
        from espnet_av.activesep.convert import find_weights_of, load_agent

        path = locate_model(source, revision, cache_dir, token)
        agent = load_agent(path).to(resolve_device(device)).eval()
        checkpoint = find_weights_of(path)
        agent.origin = Origin(checkpoint.parent, checkpoint)
        return agent

    def trained_network(self) -> nn.Module:
        """Return the network whose weights are saved: the agent itself."""
        return self
