# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Exponential moving average of a model's weights.

``average = decay * average + (1 - decay) * weight`` after every optimizer step. While training is young the decay is
``(1 + steps) / (10 + steps)``, so that the average does not stay at the random start.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from espnet_av.utils.errors import CheckpointError, describe, usage_error


class EMA:
    """The average of all parameters and floating-point buffers; integer buffers are copied.

    Args:
        model: The model to follow.
        decay: Between 0 and 1 (exclusive); 0.999 looks back over about 1,000 steps.
        warmup: Use the smaller decay while training is young.
    """

    def __init__(self, model: torch.nn.Module, decay: float, *, warmup: bool = True) -> None:
        if not 0.0 < decay < 1.0:
            usage_error("wrong decay of the weight average", decay, "0 < --ema_decay < 1", "--ema_decay 0 turns it off")
        self.decay = decay
        self.warmup = warmup
        self.updates = 0
        self._parameters = dict(model.named_parameters())
        self._buffer_owners = _persistent_buffers(model)
        self.tensors = {name: tensor.detach().clone() for name, tensor in self._live().items()}

    def _live(self) -> dict[str, torch.Tensor]:
        """Return the model's tensors now. Buffers are looked up each time: modules may assign new ones."""
        buffers = {name: owner.get_buffer(key) for name, (owner, key) in self._buffer_owners.items()}
        return {**self._parameters, **buffers}

    def current_decay(self) -> float:
        """Return the decay that the next update uses."""
        return min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay

    @torch.no_grad()
    def update(self) -> None:
        """Take the model's weights of now into the average."""
        rate = 1.0 - self.current_decay()
        averages, weights = [], []
        for name, tensor in self._live().items():
            if tensor.is_floating_point() or tensor.is_complex():
                averages.append(self.tensors[name])
                weights.append(tensor.detach())
            else:
                self.tensors[name].copy_(tensor)
        torch._foreach_lerp_(averages, weights, rate)
        self.updates += 1

    @contextlib.contextmanager
    @torch.no_grad()
    def swapped(self) -> Iterator[None]:
        """Put the average into the model for the block, for validation and saving; the weights come back after it."""
        live = self._live()
        kept = {name: tensor.detach().clone() for name, tensor in live.items()}
        for name, tensor in live.items():
            tensor.copy_(self.tensors[name])
        try:
            yield
        finally:
            for name, tensor in self._live().items():
                tensor.copy_(kept[name])

    def state_dict(self) -> dict[str, Any]:
        """Return the average and the number of updates."""
        return {"decay": self.decay, "updates": self.updates, "tensors": dict(self.tensors)}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state of :meth:`state_dict`.

        Raises:
            CheckpointError: When it belongs to another model.
        """
        strangers = set(state["tensors"]) ^ set(self.tensors)
        if strangers:
            first = ", ".join(sorted(strangers)[:3])
            raise CheckpointError(describe(f"the stored weight average differs in {len(strangers)} names", got=first))
        for name, tensor in self.tensors.items():
            tensor.copy_(state["tensors"][name])
        self.updates = int(state["updates"])


def _persistent_buffers(model: torch.nn.Module) -> dict[str, tuple[torch.nn.Module, str]]:
    owners = {}
    for prefix, module in model.named_modules():
        for key, buffer in module._buffers.items():
            if buffer is not None and key not in module._non_persistent_buffers_set:
                owners[f"{prefix}.{key}" if prefix else key] = (module, key)
    return owners
