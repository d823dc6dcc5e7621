# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the learner of active separation keeps between observations: spectra, encoded seconds, running figures.

Axes: ``B`` environments, ``S`` seconds in memory, ``F`` 512 bins, ``T`` 32 frames, ``D`` width of a token.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from espnet_av.activesep.memory import AcousticMemory, Tokens
from espnet_av.activesep.memory_buffer import CAPACITY, REFINED_PAST, MemoryBuffer, rollout_visibility
from espnet_av.activesep.spectra import ear_magnitude, mixture_log_magnitude, normalised_mono_target


class Sensed(NamedTuple):
    """Observations of all environments as the networks take them, on their device.

    Attributes:
        mixed: ``log(1 + magnitude)`` of the mixture, ``(B, F, T, 2)``.
        target_ears: Linear magnitude of the target at the ears, for losses and figures only, ``(B, F, T, 2)``.
        target: Normalised magnitude of the dry target, for rewards and losses only, ``(B, F, T, 1)``.
        target_class: Labels from 0, ``(B, 1)``.
        pose: ``(B, 4)``.
        images: ``rgb`` and ``depth``, where they are sensed.
    """

    mixed: Tensor
    target_ears: Tensor
    target: Tensor
    target_class: Tensor
    pose: Tensor
    images: dict[str, Tensor]


def sense(
    observation: Mapping[str, np.ndarray], device: torch.device | str = "cpu", *, float16: bool = False
) -> Sensed:
    """Turn a batch of observations into spectra.

    Args:
        observation: Arrays with the environments first, either with waveforms (``mixture_wave``, ``target_ears``,
            ``target_dry``) or with the spectra of the published program (``mixed_bin_audio_mag``, ``gt_bin_comps``,
            ``gt_mono_comps``).
        device: Where to compute.
        float16: Round spectra of waveforms as the published sensors do.
    """
    tensors = {name: torch.as_tensor(np.ascontiguousarray(value)).to(device) for name, value in observation.items()}
    if "mixture_wave" in tensors:
        mixed = mixture_log_magnitude(tensors["mixture_wave"], float16=float16)
        ears = ear_magnitude(tensors["target_ears"])
        ears = ears.half().float() if float16 else ears
        target = normalised_mono_target(tensors["target_dry"], float16=float16)
    else:  # per source, the target first: magnitude and phase of each ear; magnitude and phase of the dry sound
        mixed = tensors["mixed_bin_audio_mag"].float()
        ears = tensors["gt_bin_comps"][..., 0:4:2].float()
        target = tensors["gt_mono_comps"][..., 0:1].float()
    images: dict[str, Tensor] = {name: tensors[name] for name in ("rgb", "depth") if name in tensors}
    labels = tensors["target_class"].reshape(-1, 1).long()
    return Sensed(mixed, ears, target, labels, tensors["pose"].float(), images)


class RolloutMemory:
    """A memory buffer whose seconds are encoded once for each set of weights.

    Args:
        memory: The acoustic memory.
        num_envs: Environments.
        capacity: Earlier seconds that are remembered.
        refine: Earlier seconds that are refined.
        keep_targets: Also remember targets, for rollouts that do not end with the episodes.
        device: Where tensors lie.
    """

    def __init__(
        self,
        memory: AcousticMemory,
        num_envs: int,
        *,
        capacity: int = CAPACITY,
        refine: int = REFINED_PAST,
        keep_targets: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.memory = memory
        self.refine = min(refine, capacity)
        self.buffer = MemoryBuffer(num_envs, capacity=capacity, device=device)
        self.targets = MemoryBuffer(num_envs, capacity=capacity, device=device) if keep_targets else None
        self._tokens: Tokens | None = None  # of all slots
        self._present: Tokens | None = None

    @torch.no_grad()
    def renew(self) -> Tokens:
        """Encode what is remembered with the present weights, and return it."""
        slots = self.buffer.slots
        magnitudes = slots.reshape(*slots.shape[:2], *self._frame_shape)
        self._tokens = self.memory.encode(magnitudes, self.buffer.poses)
        return self._tokens

    @property
    def _frame_shape(self) -> tuple[int, int, int]:
        from espnet_av.activesep.spectra import NUM_BINS, NUM_FRAMES

        return NUM_BINS, NUM_FRAMES, 1

    @torch.no_grad()
    def look(self, mono: Tensor, pose: Tensor, *, past: bool = True) -> tuple[Tensor, Tensor]:
        """Refine the present second and, with it, the latest ones.

        Args:
            mono: Estimate of the separators, ``(B, F, T, 1)``.
            pose: ``(B, 4)``.
            past: Return refined earlier seconds too.

        Returns:
            Refined magnitudes in the order of time, the present second last, ``(R, B, F, T, 1)``, and which of them
            exist, ``(B, R)`` bool. R is 1 without ``past`` and up to ``refine + 1`` with it.
        """
        known = self.renew() if self._tokens is None else self._tokens
        present = self.memory.encode(mono, pose)
        self._present = present
        filled = self.buffer.latest(self.buffer.capacity)
        filled = filled[self.buffer.mask[:, filled].any(0)]  # in the order of time
        features = torch.cat([known.features[filled], present.features.unsqueeze(0)])
        visible = torch.nn.functional.pad(self.buffer.mask[:, filled], (0, 1), value=True)
        related = self.memory.relate(features.transpose(0, 1), visible).transpose(0, 1)
        count = min(self.refine, len(filled)) if past else 0
        slots = filled[len(filled) - count :]
        skips = torch.cat([known.skips[slots], present.skips.unsqueeze(0)])
        return self.memory.decode(related[len(filled) - count :], skips), visible[:, len(filled) - count :]

    def insert(self, mono: Tensor, pose: Tensor, target: Tensor, not_done: Tensor) -> None:
        """Remember the second that :meth:`look` saw last.

        Args:
            mono: As there.
            pose: As there.
            target: Its target, ``(B, F, T, 1)``.
            not_done: 0 where the action after it ended the episode, ``(B,)``.
        """
        index = self.buffer.next_index
        self.buffer.insert(mono, pose, not_done)
        if self.targets is not None:
            self.targets.insert(target, pose, not_done)
        if self._tokens is None or self._present is None:
            raise RuntimeError("look() at a second before insert()")
        self._tokens.features[index] = self._present.features
        self._tokens.skips[index] = self._present.skips

    def forget_tokens(self) -> None:
        """Say that the weights are new."""
        self._tokens = self._present = None

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered."""
        targets = self.targets.state_dict() if self.targets is not None else None
        return {"buffer": self.buffer.state_dict(), "targets": targets}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        self.buffer.load_state_dict(state["buffer"])
        if self.targets is not None:
            self.targets.load_state_dict(state["targets"])
        self.forget_tokens()


class Carried(NamedTuple):
    """Seconds that a rollout began with, in the order of time.

    Attributes:
        mono: ``(C, B, F, T, 1)``.
        pose: ``(C, B, 4)``.
        target: ``(C, B, F, T, 1)``.
        filled: ``(B, C)`` bool.
    """

    mono: Tensor
    pose: Tensor
    target: Tensor
    filled: Tensor


def carried_seconds(memory: RolloutMemory) -> Carried | None:
    """Return what is in memory now, copied; None when it is empty or no targets are kept."""
    buffer, targets = memory.buffer, memory.targets
    if targets is None or not bool(buffer.mask.any()):
        return None
    order = buffer.latest(buffer.capacity)
    frame = memory._frame_shape
    mono, target = (each.slots[order].unflatten(-1, frame) for each in (buffer, targets))
    return Carried(mono, buffer.poses[order], target, buffer.mask[:, order])


def visibility(
    starts: Tensor, carried: Carried | None, *, capacity: int = CAPACITY, refine: int = REFINED_PAST
) -> tuple[Tensor, Tensor]:
    """Return which seconds the memory knows, and which are refined, at each step of a rollout.

    Args:
        starts: Where an episode begins, ``(steps, B)`` bool.
        carried: Seconds before the rollout.
        capacity: Earlier seconds that are remembered.
        refine: Earlier seconds that are refined.

    Returns:
        ``visible`` and ``wanted``, ``(steps, B, C + steps)`` bool, carried seconds first.
    """
    own = rollout_visibility(starts, capacity=capacity, refine=refine)
    if carried is None:
        return own
    count, steps = carried.filled.shape[1], torch.arange(len(starts), device=starts.device)
    age = steps[:, None] + torch.arange(count, 0, -1, device=starts.device)  # (steps, C)
    same = (starts.long().cumsum(0) == 0)[:, :, None] & carried.filled[None]
    visible, wanted = (
        torch.cat((same & (age <= limit)[:, None, :], later), -1)
        for limit, later in zip((capacity, min(refine, capacity)), own, strict=True)
    )
    return visible, wanted
