# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""AdamW with the usual exceptions from weight decay, and learning-rate schedules that step with the optimizer."""

import abc
import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from espnet_av.utils.errors import usage_error

_NO_DECAY_MODULES = (
    torch.nn.modules.batchnorm._NormBase,
    torch.nn.GroupNorm,
    torch.nn.LayerNorm,
    torch.nn.Embedding,
)


#: Gives the depth of a parameter by its name: 0 next to the input, the largest number next to the output.
DepthRule = Callable[[str], int]


def parameter_groups(
    model: torch.nn.Module,
    weight_decay: float,
    *,
    no_decay_names: Iterable[str] = (),
    spare_vectors: bool = True,
    layer_lr_decay: float = 1.0,
    lr: float | None = None,
    depth_of: DepthRule | None = None,
) -> list[dict[str, Any]]:
    """Split the trainable parameters by weight decay and, with ``layer_lr_decay``, by depth.

    Without decay are all biases and other vectors (one axis), and everything in normalisation and embedding layers. The
    rate of depth ``d`` is ``lr * layer_lr_decay ** (deepest - d)`` (Clark et al., "ELECTRA", ICLR 2020): what lies near
    the input of a pre-trained network changes least.

    Args:
        model: The model.
        weight_decay: Decay of the first group.
        no_decay_names: Parts of names that are spared too, e.g. ``["relative_bias"]``.
        spare_vectors: False: all parameters decay but those of ``no_decay_names``.
        layer_lr_decay: Factor on the rate from one depth to the one below, in (0, 1]; 1: one rate for all.
        lr: The rate at the deepest; needed where ``layer_lr_decay`` is below 1.
        depth_of: Depth of each parameter; needed likewise.

    Returns:
        Parameter groups for a torch optimizer; empty groups are left out.

    Raises:
        UsageError: ``layer_lr_decay`` is out of range, or what it needs is missing.
    """
    if not 0 < layer_lr_decay <= 1:
        usage_error("layer_lr_decay is out of range", layer_lr_decay, "above 0, at most 1 (1: one rate for all layers)")
    if layer_lr_decay == 1:
        lr, depth_of = None, _one_depth
    elif lr is None or depth_of is None:
        usage_error(
            "layer_lr_decay needs the learning rate and a model whose layers are known", fix="set optim_conf.lr"
        )
    spared_names = tuple(no_decay_names)
    groups: dict[tuple[int, bool], list[torch.nn.Parameter]] = {}
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            name = f"{prefix}.{key}"
            spare = spare_vectors and (parameter.ndim <= 1 or isinstance(module, _NO_DECAY_MODULES))
            spare = spare or any(part in name for part in spared_names)
            groups.setdefault((depth_of(name), spare), []).append(parameter)
    deepest = max((depth for depth, _ in groups), default=0)
    result = []
    for (depth, spare), parameters in sorted(groups.items(), key=lambda item: item[0]):
        group: dict[str, Any] = {"params": parameters, "weight_decay": 0.0 if spare else weight_decay}
        if lr is not None:
            group["lr"] = lr * layer_lr_decay ** (deepest - depth)
        result.append(group)
    return result


def _one_depth(name: str) -> int:
    return 0


def freeze_statistics(model: torch.nn.Module) -> None:
    """Put batch norms whose own parameters are frozen into evaluation mode, so that their statistics stay too."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            own = list(module.parameters(recurse=False))
            if own and not any(parameter.requires_grad for parameter in own):
                module.eval()


def build_adamw(
    model: torch.nn.Module,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.98),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    no_decay_names: Iterable[str] = (),
) -> torch.optim.AdamW:
    """Return AdamW over :func:`parameter_groups`, fused on CUDA (Loshchilov and Hutter, 2019)."""
    groups = parameter_groups(model, weight_decay, no_decay_names=no_decay_names)
    fused = all(parameter.is_cuda for group in groups for parameter in group["params"])
    beta1, beta2 = betas
    return torch.optim.AdamW(groups, lr=lr, betas=(beta1, beta2), eps=eps, fused=True if fused else None)


class _WarmupDecayLR(LRScheduler, abc.ABC):
    """Linear warm-up from 0 to the optimizer's rate, then a decay to ``final_ratio`` of it at ``total_steps``."""

    step_unit = "step"

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        total_steps: int,
        warmup_steps: int = 0,
        hold_steps: int = 0,
        final_ratio: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        if not 0 <= warmup_steps + hold_steps < total_steps:
            usage_error(
                "the schedule has no room to decay",
                f"warmup_steps={warmup_steps}, hold_steps={hold_steps}, total_steps={total_steps}",
                "0 <= warmup_steps + hold_steps < total_steps",
                "set --scheduler_conf total_steps=...",
            )
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.hold_steps = hold_steps
        self.final_ratio = final_ratio
        super().__init__(optimizer, last_epoch)

    @abc.abstractmethod
    def decay(self, progress: float) -> float:
        """Return the falling part of the curve at ``progress`` 0 to 1: 1 down to 0."""

    def factor(self, step: int) -> float:
        """Return the multiple of the base rate for optimizer step ``step``, counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        begin = self.warmup_steps + self.hold_steps
        progress = min(1.0, max(0, step - begin) / (self.total_steps - begin))
        return self.final_ratio + (1.0 - self.final_ratio) * self.decay(progress)

    def get_lr(self) -> list[float | torch.Tensor]:
        """Return the rate of each parameter group for the next step."""
        return [rate * self.factor(self.last_epoch) for rate in self.base_lrs]


class WarmupLinearLR(_WarmupDecayLR):
    """Warm-up, optional hold, linear decay; one call of ``step`` per optimizer step.

    Args:
        optimizer: The optimizer, whose ``lr`` is the peak.
        total_steps: Optimizer steps until the end of the decay.
        warmup_steps: Steps of the linear rise.
        hold_steps: Steps at the peak.
        final_ratio: Rate at the end, as a share of the peak.
        last_epoch: As in torch.
        reference_compat: Start the warm-up with a step at rate 0, as Hugging Face's linear schedule does.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        total_steps: int,
        warmup_steps: int = 0,
        hold_steps: int = 0,
        final_ratio: float = 0.0,
        last_epoch: int = -1,
        reference_compat: bool = False,
    ) -> None:
        self.reference_compat = reference_compat
        super().__init__(optimizer, total_steps, warmup_steps, hold_steps, final_ratio, last_epoch)

    def factor(self, step: int) -> float:
        """Return the multiple of the base rate for optimizer step ``step``, counted from 0."""
        if self.reference_compat and step < self.warmup_steps:
            return step / self.warmup_steps
        return super().factor(step)

    def decay(self, progress: float) -> float:
        """Return ``1 - progress``."""
        return 1.0 - progress


class WarmupCosineLR(_WarmupDecayLR):
    """Warm-up, optional hold, half a cosine down (Loshchilov and Hutter, 2017); see :class:`WarmupLinearLR`."""

    def decay(self, progress: float) -> float:
        """Return ``(1 + cos(pi * progress)) / 2``."""
        return 0.5 * (1.0 + math.cos(math.pi * progress))


#: Names for ``--scheduler``.
SCHEDULERS: dict[str, type] = {"warmuplinearlr": WarmupLinearLR, "warmupcosinelr": WarmupCosineLR}


@contextlib.contextmanager
def registered_schedulers(classes: MutableMapping[str, type]) -> Iterator[None]:
    """Put our schedules into a table of names such as ESPnet's ``scheduler_classes`` while the block runs.

    Names that the table has already are kept.
    """
    added = {name: schedule for name, schedule in SCHEDULERS.items() if name not in classes}
    classes.update(added)
    try:
        yield
    finally:
        for name in added:
            del classes[name]


def step_unit(scheduler: Any) -> str:
    """Tell when a scheduler steps: ``"step"`` (with the optimizer), ``"epoch"`` or ``"valid"`` (epoch, with a score).

    Own classes say so in ``step_unit``; ESPnet's by their base class; torch's as ESPnet treats them.
    """
    if hasattr(scheduler, "step_unit"):
        return scheduler.step_unit
    bases = {base.__name__ for base in type(scheduler).__mro__}
    if isinstance(scheduler, ReduceLROnPlateau) or "AbsValEpochStepScheduler" in bases:
        return "valid"
    if bases & {"AbsBatchStepScheduler", "CyclicLR", "OneCycleLR", "CosineAnnealingWarmRestarts"}:
        return "step"
    return "epoch"
