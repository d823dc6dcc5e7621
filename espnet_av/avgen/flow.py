# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The objective of flow matching: a straight path from noise to data, and the velocity along it.

With noise ``x0``, data ``x1``, time ``t`` and a small ``s`` (``sigma_min``)::

    x_t = (1 - (1 - s) t) x0 + t x1      u = x1 - (1 - s) x0      x1_hat = v + (1 - s) x0

where ``v`` is the network's estimate of the velocity ``u``. The difference of ``x1_hat`` and ``x1`` is that of ``v``
and ``u``. With the L1 loss the optimum is the median velocity: crisper and less diverse than the mean of L2.
"""

import torch
from torch import Tensor

from espnet_av.utils.errors import usage_error

LOSSES = ("l1", "l2")
TIME_DISTRIBUTIONS = ("uniform", "logit_normal")


class FlowMatching:
    """Path, velocity and loss.

    Args:
        sigma_min: Noise that is left at time 1.
        loss: ``l1`` or ``l2``.

    Raises:
        UsageError: A value is out of range.
    """

    def __init__(self, sigma_min: float = 1e-6, loss: str = "l1") -> None:
        if not 0 <= sigma_min < 1:
            usage_error("sigma_min is out of range", sigma_min, "0 <= sigma_min < 1")
        if loss not in LOSSES:
            usage_error("unknown loss of the flow", loss, LOSSES)
        self.sigma_min, self.loss_name = float(sigma_min), loss

    def __repr__(self) -> str:
        return f"{type(self).__name__}(sigma_min={self.sigma_min}, loss={self.loss_name!r})"

    def path(self, x0: Tensor, x1: Tensor, t: Tensor | float) -> Tensor:
        """Return where the path is at time ``t``.

        Args:
            x0: Noise ``(B, T, D)``.
            x1: Data of the same shape.
            t: One time, or one per sequence ``(B,)``.
        """
        t = _per_sequence(t, x0)
        return (1 - (1 - self.sigma_min) * t) * x0 + t * x1

    def velocity(self, x0: Tensor, x1: Tensor) -> Tensor:
        """Return the velocity that the network is to give, the same at all times."""
        return x1 - (1 - self.sigma_min) * x0

    def data_from_velocity(self, velocity: Tensor, x0: Tensor) -> Tensor:
        """Return the data ``x1_hat`` that a velocity leads to."""
        return velocity + (1 - self.sigma_min) * x0

    def error(self, velocity: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        """Return the absolute or squared error of every value, of the shape of ``x0``."""
        difference = velocity - self.velocity(x0, x1)
        return difference.abs() if self.loss_name == "l1" else difference.square()

    def loss(self, velocity: Tensor, x0: Tensor, x1: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the mean error.

        Args:
            velocity: Of the network, ``(B, T, D)``.
            x0: Noise.
            x1: Data.
            mask: Frames that count, ``(B, T)`` bool or float; None: all.
        """
        return masked_mean(self.error(velocity, x0, x1), mask)


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean over the frames that count.

    Args:
        values: ``(B, T, D)``.
        mask: ``(B, T)`` bool or float; None: all. Without a frame that counts the mean is 0.
    """
    if mask is None:
        return values.mean()
    weight = mask.unsqueeze(-1).to(values.dtype)
    return (values * weight).sum() / (weight.sum() * values.shape[-1]).clamp_min(1.0)


def sample_time(
    batch: int,
    device: torch.device | str = "cpu",
    distribution: str = "uniform",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw a time per sequence, ``(B,)``.

    Args:
        batch: Sequences ``B``.
        device: Where to draw.
        distribution: ``uniform``, or ``logit_normal``: more often near the middle.
        generator: Of random numbers; None: torch's own.

    Raises:
        UsageError: The distribution is unknown.
    """
    if distribution == "uniform":
        return torch.rand(batch, device=device, generator=generator)
    if distribution == "logit_normal":
        return torch.randn(batch, device=device, generator=generator).sigmoid()
    usage_error("unknown distribution of the flow's time", distribution, TIME_DISTRIBUTIONS)


def _per_sequence(t: Tensor | float, x: Tensor) -> Tensor | float:
    if not isinstance(t, Tensor) or t.dim() == 0:
        return t
    return t.to(x.dtype).view(-1, *[1] * (x.dim() - 1))
