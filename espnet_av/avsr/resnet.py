# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The audio front end of auto_avsr: a 1-D ResNet-18 that takes the waveform to the 25 Hz of the video.

Petridis et al., "End-to-end audiovisual speech recognition" (ICASSP 2018), section 3.1, with swish instead of ReLU.
Names of parameters are those of auto_avsr's checkpoints.

Axes: ``B`` batch, ``N`` samples at 16 kHz, ``T`` video frames, ``S`` steps of a stage, ``C`` channels.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

FIRST_STRIDE = 4
POOLED_STEPS = 20  # steps of the last stage in a video frame
SAMPLES_PER_FRAME = 640


def norm_valid(norm: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    """Batch norm whose statistics see valid steps only.

    Args:
        norm: The layer.
        x: ``(B, C, S)``.
        mask: ``(B, S)`` bool, True = valid; None: all.

    Returns:
        ``(B, C, S)``; in training, steps outside the mask are zeros.
    """
    if mask is None or not norm.training:
        return norm(x)
    rows = x.transpose(1, 2)  # (B, C, S) -> (B, S, C)
    valid = norm(rows[mask])
    y = valid.new_zeros(rows.shape)
    y[mask] = valid
    return y.transpose(1, 2)


def _cut(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x.masked_fill(~mask.unsqueeze(1), 0.0)


class BasicBlock1d(nn.Module):
    """Residual block of two convolutions over time.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        stride: Stride of the first convolution.
    """

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm1d(channels)
        self.conv2 = nn.Conv1d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm1d(channels)
        self.downsample = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv1d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm1d(channels)
            )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``(B, C, S)``, zero outside the mask, -> ``(B, channels, S / stride)``; the mask is that of the output."""
        shortcut = x
        if self.downsample is not None:
            conv, norm = self.downsample
            shortcut = norm_valid(norm, conv(x), mask)
        y = _cut(F.silu(norm_valid(self.bn1, self.conv1(x), mask)), mask)
        return _cut(F.silu(norm_valid(self.bn2, self.conv2(y), mask) + shortcut), mask)


class AudioTrunk(nn.Module):
    """First convolution, four stages of two blocks, average over each video frame.

    Args:
        channels: Channels of the first convolution.
        planes: Channels of the four stages.
    """

    def __init__(self, *, channels: int = 64, planes: Sequence[int] = (64, 128, 256, 512)) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(1, channels, 80, FIRST_STRIDE, 38, bias=False)
        self.bn1 = nn.BatchNorm1d(channels)
        self.num_stages = len(planes)
        for index, width in enumerate(planes):
            first = BasicBlock1d(channels, width, stride=1 if index == 0 else 2)
            self.add_module(f"layer{index + 1}", nn.Sequential(first, BasicBlock1d(width, width)))
            channels = width
        self.output_size = channels
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, wave: Tensor, mask: Tensor | None = None) -> Tensor:
        """``(B, 640 T)`` samples and the optional ``(B, T)`` mask -> ``(B, output_size, T)``."""
        rate = SAMPLES_PER_FRAME // FIRST_STRIDE
        steps = None if mask is None else mask.repeat_interleave(rate, dim=1)  # (B, T) -> (B, 160 T)
        x = _cut(F.silu(norm_valid(self.bn1, self.conv1(wave.unsqueeze(1)), steps)), steps)
        for index in range(self.num_stages):
            if index and steps is not None:
                steps = steps[:, ::2]
            for block in self.get_submodule(f"layer{index + 1}").children():
                x = block(x, steps)
        return F.avg_pool1d(x, POOLED_STEPS)


class AudioResNet(nn.Module):
    """Waveform -> one vector per video frame.

    Args:
        channels: Channels of the first convolution.
        planes: Channels of the four stages.
    """

    def __init__(self, *, channels: int = 64, planes: Sequence[int] = (64, 128, 256, 512)) -> None:
        super().__init__()
        self.trunk = AudioTrunk(channels=channels, planes=planes)
        self.output_size = self.trunk.output_size

    def forward(self, rows: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the audio stream of the encoder.

        Args:
            rows: ``(B, 640, T)``, the samples of each video frame; zero outside the mask.
            mask: ``(B, T)`` bool, True = valid frame. A padded batch then gives what each clip gives alone.

        Returns:
            ``(B, T, output_size)``.
        """
        wave = rows.transpose(1, 2).flatten(1)  # (B, 640, T) -> (B, 640 T)
        return self.trunk(wave, mask).transpose(1, 2)
