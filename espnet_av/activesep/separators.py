# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The two separators that are trained first and frozen afterwards.

"Active Audio-Visual Separation of Dynamic Sound Sources", Majumder and Grauman, ECCV 2022. One U-Net finds a mask for
the target in both ears, given its class; the other turns the masked sound into the magnitude of the dry target.

Axes: ``B`` batch, ``F`` 512 bins, ``T`` 32 frames.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.activesep.init import init_layers
from espnet_av.activesep.spectra import NUM_SLICES, join_slices, slice_bins
from espnet_av.activesep.unet import UNet


class Separation(NamedTuple):
    """What the separators say about one second.

    Attributes:
        mask: Factor for the magnitude at each ear, unbounded, ``(B, F, T, 2)``.
        mono: Linear magnitude of the dry target, ``(B, F, T, 1)``.
    """

    mask: Tensor
    mono: Tensor


class PassiveLosses(NamedTuple):
    """Mean absolute errors of magnitudes, lower is better.

    Attributes:
        binaural: Of the target at the ears.
        mono: Of the dry target.
    """

    binaural: Tensor
    mono: Tensor

    @property
    def total(self) -> Tensor:
        """Return the sum, which is minimised."""
        return self.binaural + self.mono


class TargetExtractor(nn.Module):
    """Mask the mixture at both ears for a target that its class names.

    Args:
        base_channels: Channels of the first level of the U-Net.
        num_ears: Channels of the mixture.
        init: See :func:`~espnet_av.activesep.init.init_layers`.
    """

    def __init__(self, *, base_channels: int = 64, num_ears: int = 2, init: str = "he") -> None:
        super().__init__()
        channels = num_ears * NUM_SLICES
        self.unet = UNet(channels + 1, channels, base_channels=base_channels)
        init_layers(self.unet.encoder, "leaky_relu", mode=init)
        init_layers(self.unet.decoder, "relu", mode=init)

    def prepare(self, mixed: Tensor, target_class: Tensor) -> Tensor:
        """Return the input of the U-Net: slices of the mixture, and a plane of the class plus one."""
        sliced = slice_bins(mixed)
        plane = (target_class.reshape(-1, 1, 1, 1).to(sliced) + 1).expand(-1, 1, *sliced.shape[-2:])
        return torch.cat((sliced, plane), 1)

    def forward(self, mixed: Tensor, target_class: Tensor) -> Tensor:
        """Return the mask.

        Args:
            mixed: ``log(1 + magnitude)`` of the mixture, ``(B, F, T, 2)``.
            target_class: Label from 0, ``(B,)`` or ``(B, 1)``.

        Returns:
            ``(B, F, T, 2)``, unbounded.
        """
        return join_slices(self.unet(self.prepare(mixed, target_class)))


class MonoConverter(nn.Module):
    """Turn the masked sound of both ears into the magnitude of the dry target.

    Args:
        base_channels: Channels of the first level of the U-Net.
        num_ears: Channels of the mixture.
        init: See :func:`~espnet_av.activesep.init.init_layers`.
    """

    def __init__(self, *, base_channels: int = 64, num_ears: int = 2, init: str = "he") -> None:
        super().__init__()
        self.unet = UNet(num_ears * NUM_SLICES, NUM_SLICES, base_channels=base_channels)
        init_layers(self.unet.encoder, "leaky_relu", mode=init)
        init_layers(self.unet.decoder, "relu", mode=init)

    def prepare(self, masked: Tensor) -> Tensor:
        """Return the input of the U-Net: slices of ``log(1 + magnitude)``, negative magnitudes taken as 0."""
        return slice_bins(torch.log1p(masked.clamp_min(0)))

    def forward(self, masked: Tensor) -> Tensor:
        """Linear magnitude at the ears, mask times mixture ``(B, F, T, 2)`` -> ``(B, F, T, 1)``."""
        return join_slices(self.unet(self.prepare(masked)))


def masked_magnitude(mixed: Tensor, mask: Tensor) -> Tensor:
    """Return the linear magnitude of the target at the ears: ``mask * (exp(mixed) - 1)``, ``(B, F, T, 2)``.

    Rounded as in the reference, by subtraction; ``expm1`` would move the last digits of all that follows.
    """
    return mask * (torch.exp(mixed) - 1)


class PassiveSeparator(nn.Module):
    """Both separators.

    Args:
        base_channels: Channels of the first level of both U-Nets.
        num_ears: Channels of the mixture.
        init: See :func:`~espnet_av.activesep.init.init_layers`.
    """

    def __init__(self, *, base_channels: int = 64, num_ears: int = 2, init: str = "he") -> None:
        super().__init__()
        self.extractor = TargetExtractor(base_channels=base_channels, num_ears=num_ears, init=init)
        self.converter = MonoConverter(base_channels=base_channels, num_ears=num_ears, init=init)

    def forward(self, mixed: Tensor, target_class: Tensor) -> Separation:
        """Return mask and mono magnitude; no gradient flows from the second separator into the first.

        Args:
            mixed: ``log(1 + magnitude)`` of the mixture, ``(B, F, T, 2)``.
            target_class: Label from 0, ``(B,)`` or ``(B, 1)``.
        """
        mask = self.extractor(mixed, target_class)
        return Separation(mask, self.converter(masked_magnitude(mixed, mask.detach())))

    def loss(self, mixed: Tensor, target_class: Tensor, target_ears: Tensor, target_mono: Tensor) -> PassiveLosses:
        """Return the losses of passive training.

        Args:
            mixed: As in :meth:`forward`.
            target_class: As in :meth:`forward`.
            target_ears: Linear magnitude of the target at the ears, ``(B, F, T, 2)``.
            target_mono: Normalised linear magnitude of the dry target, ``(B, F, T, 1)``.
        """
        mask, mono = self(mixed, target_class)
        return PassiveLosses(F.l1_loss(masked_magnitude(mixed, mask), target_ears), F.l1_loss(mono, target_mono))
