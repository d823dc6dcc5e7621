# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Multi-scale STFT discriminator: real and made sound told apart in complex spectrograms of several resolutions.

Axes: ``B`` batch, ``T`` samples, ``M`` frames, ``N`` frequencies, ``C`` channels.

Reference:
    A. Defossez et al., "High fidelity neural audio compression", arXiv:2210.13438.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from espnet_av.utils.errors import DataError, describe

#: For every scale, the outputs of its layers in order; the last is the logits.
Features = list[list[Tensor]]


class ComplexSpectrum(nn.Module):
    """Short-time Fourier transform without padding, divided by the norm of its window (Hann).

    Args:
        n_fft: Samples of a frame.
        hop_length: Samples between frames.
    """

    window: Tensor

    def __init__(self, n_fft: int, hop_length: int) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.register_buffer("window", torch.hann_window(n_fft))

    def forward(self, wav: Tensor) -> Tensor:
        """Return real and imaginary parts ``(B, 2, M, N)`` of ``(B, 1, T)``."""
        spectrum = torch.stft(
            wav.flatten(0, 1).float(),
            self.n_fft,
            self.hop_length,
            window=self.window,
            center=False,
            return_complex=True,
        )
        spectrum = spectrum / self.window.square().sum().sqrt()
        return torch.view_as_real(spectrum).permute(0, 3, 2, 1)


def _conv(
    in_channels: int, out_channels: int, kernel: tuple[int, int], dilation: int = 1, stride: int = 1
) -> nn.Conv2d:
    """Return a convolution over time and frequency that keeps the frames and takes every ``stride``-th frequency."""
    padding = ((kernel[0] - 1) * dilation // 2, (kernel[1] - 1) // 2)
    return nn.Conv2d(in_channels, out_channels, kernel, stride=(1, stride), padding=padding, dilation=(dilation, 1))


class _Named(nn.Module):
    """Holds a convolution; the published names have a level ``conv`` there."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class STFTDiscriminator(nn.Module):
    """Discriminator of one resolution.

    Args:
        n_fft: Samples of a frame; the hop is a quarter.
        channels: Channels of all layers but the last.
        dilations: Dilation in time of the layers that halve the frequencies.
        kernel_size: Frames and frequencies that they see.
        slope: Of the leaky ReLU.
    """

    def __init__(
        self,
        n_fft: int,
        channels: int = 16,
        dilations: Sequence[int] = (1, 2, 4),
        kernel_size: tuple[int, int] = (3, 9),
        slope: float = 0.1,
    ) -> None:
        super().__init__()
        self.spec_transform = ComplexSpectrum(n_fft, n_fft // 4)
        last_kernel = (kernel_size[0], kernel_size[0])
        layers: list[nn.Module] = [_conv(2, channels, kernel_size)]  # without weight norm, as published
        layers += [weight_norm(_conv(channels, channels, kernel_size, dilation, 2)) for dilation in dilations]
        layers += [weight_norm(_conv(channels, channels, last_kernel))]
        self.convs = nn.ModuleList(_Named(layer) for layer in layers)
        self.conv_post = _Named(weight_norm(_conv(channels, 1, last_kernel)))
        self.activation = nn.LeakyReLU(slope)

    def forward(self, wav: Tensor) -> list[Tensor]:
        """Return the outputs of all layers.

        Args:
            wav: ``(B, 1, T)``.

        Returns:
            Features ``(B, C, M, N')`` of every layer after its activation, then the logits ``(B, 1, M, N')``.
        """
        x = self.spec_transform(wav)
        features = []
        for layer in self.convs:
            x = self.activation(layer(x))
            features.append(x)
        return [*features, self.conv_post(x)]


class _Scales(nn.Module):
    """Holds the discriminators; the published names have a level ``msstft`` there."""

    def __init__(self, discriminators: list[STFTDiscriminator]) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(discriminators)


class MultiScaleSTFTDiscriminator(nn.Module):
    """Discriminators of several resolutions side by side.

    Args:
        n_ffts: Samples of a frame, one number for every scale.
        channels: Channels of their layers.
        dilations: Dilations of their layers.
        kernel_size: Kernel of their layers.
        slope: Of the leaky ReLU.
    """

    def __init__(
        self,
        n_ffts: Sequence[int] = (128, 256, 512, 1024, 2048),
        channels: int = 16,
        dilations: Sequence[int] = (1, 2, 4),
        kernel_size: Sequence[int] = (3, 9),
        slope: float = 0.1,
    ) -> None:
        super().__init__()
        kernel = (kernel_size[0], kernel_size[1])
        self.msstft = _Scales([STFTDiscriminator(n_fft, channels, dilations, kernel, slope) for n_fft in n_ffts])
        self.min_samples = max(n_ffts)

    @property
    def scales(self) -> nn.ModuleList:
        """The discriminators, one for every resolution."""
        return self.msstft.discriminators

    def forward(self, wav: Tensor) -> Features:
        """Return, for every scale, the features of its layers and its logits last.

        Args:
            wav: ``(B, 1, T)``.

        Raises:
            DataError: The waveforms are shorter than the longest frame.
        """
        if wav.shape[-1] < self.min_samples:
            what = "waveforms are too short for the discriminator"
            raise DataError(describe(what, f"{wav.shape[-1]} samples", f"{self.min_samples} samples or more"))
        return [scale(wav) for scale in self.scales]
