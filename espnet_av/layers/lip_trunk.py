# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What lip-reading networks do to every frame: a 3-D stem over five frames, then a ResNet-18 on each.

Petridis et al., "End-to-end audiovisual speech recognition" (ICASSP 2018), with PReLU instead of ReLU (Ma et al.,
"Towards practical lipreading with distilled and efficient models", ICASSP 2021). Names of parameters are those of the
published lip-reading checkpoints: ``frontend3D.*`` and ``trunk.*``.

Axes: ``B`` batch, ``T`` video frames, ``M`` valid frames of all clips, ``C`` channels, ``H``/``W`` pixels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.utils.errors import usage_error

STEM_FRAMES = 5  # frames the stem sees around each frame
STEM_STRIDE, STEM_PADDING = (2, 2), (3, 3)  # of its 7x7 pixels
LIP_CHUNK = 256  # frames in evaluation at a time


def make_activation(kind: str, channels: int) -> nn.Module:
    """Return ``prelu`` (one slope per channel), ``swish`` or ``relu`` (no parameters; the fastest on CPU)."""
    if kind == "prelu":
        return nn.PReLU(channels)
    if kind == "swish":
        return nn.SiLU()
    if kind == "relu":
        return nn.ReLU()
    usage_error("unknown activation of the lip front end", got=kind, allowed=["prelu", "swish", "relu"])


class BasicBlock(nn.Module):
    """Residual block of ResNet-18 with its own activation after the sum.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        stride: Stride of the first convolution.
        activation: See :func:`make_activation`.
    """

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1, activation: str = "prelu") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = make_activation(activation, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = make_activation(activation, channels)
        self.downsample = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """``(M, C, H, W)`` -> ``(M, channels, H / stride, W / stride)``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(y)) + shortcut)


class LipTrunk(nn.Module):
    """The stem, and a 2-D network ``trunk`` that a subclass adds.

    The stem's 5x7x7 convolution runs as a 2-D convolution over five stacked frames.

    Args:
        stem_channels: Channels after the stem.
        activation: See :func:`make_activation`.
        video_pool: Average-pool the frames by this factor first (1: off; 2 turns 88x88 into 44x44).
        chunk: In evaluation, frames computed at a time; 0: all. Training needs all for its batch norms.

    Attributes:
        output_size: Width of the vector of a frame.

    Raises:
        UsageError: ``chunk`` is negative.
    """

    trunk: nn.Module
    output_size: int

    def __init__(self, *, stem_channels: int, activation: str, video_pool: int = 1, chunk: int = LIP_CHUNK) -> None:
        super().__init__()
        if chunk < 0:
            usage_error("lip_chunk is too small", got=chunk, allowed="0 (all frames at once) or more")
        self.video_pool = video_pool
        self.chunk = chunk
        self.frontend3D = nn.Sequential(
            nn.Conv3d(
                1,
                stem_channels,
                (STEM_FRAMES, 7, 7),
                (1, *STEM_STRIDE),
                (STEM_FRAMES // 2, *STEM_PADDING),
                bias=False,
            ),
            nn.BatchNorm2d(stem_channels),
            make_activation(activation, stem_channels),
            nn.MaxPool2d(3, 2, 1),
        )

    def reset_convolutions(self) -> None:
        """Draw the weights of all convolutions (He et al., by their outputs)."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def stack_frames(self, video: Tensor, clips: Tensor, frames: Tensor) -> Tensor:
        """Put frames and their two neighbours on each side into the channels.

        Args:
            video: ``(B, T, H, W)``.
            clips: ``(M,)`` int64: the clip of each frame.
            frames: ``(M,)`` int64: its number in the clip.

        Returns:
            ``(M, 5, H, W)``; outside the clip the neighbours are zeros. Channels lie last in memory, which is the
            fastest, except in evaluation on a CPU, where the reference's layout keeps its rounding.
        """
        margin = STEM_FRAMES // 2
        windows = F.pad(video, (0, 0, 0, 0, margin, margin)).unfold(1, STEM_FRAMES, 1)  # (B, T, H, W, 5)
        layout = torch.channels_last if self.training or not video.is_cpu else torch.contiguous_format
        stacked = windows[clips, frames].permute(0, 3, 1, 2)  # (M, H, W, 5) -> (M, 5, H, W)
        return stacked.contiguous(memory_format=layout)

    def forward(self, video: Tensor, valid: Tensor | None = None) -> Tensor:
        """Compute one vector per kept frame.

        Args:
            video: ``(B, T, H, W)`` normalised gray frames.
            valid: ``(B, T)`` bool, True = valid; frames outside are not computed at all. None keeps all frames.

        Returns:
            ``(M, output_size)`` for the kept frames in clip order.
        """
        if self.video_pool > 1:
            video = F.avg_pool2d(video, self.video_pool)
        if valid is None:
            valid = torch.ones(video.shape[:2], dtype=torch.bool, device=video.device)
        clips, frames = valid.nonzero(as_tuple=True)
        if self.training or not 0 < self.chunk < len(clips):
            return self._vectors(self.stack_frames(video, clips, frames))
        pieces = zip(clips.split(self.chunk), frames.split(self.chunk), strict=True)
        return torch.cat([self._vectors(self.stack_frames(video, *piece)) for piece in pieces])

    def stem(self, stacked: Tensor) -> Tensor:
        """``(M, 5, H, W)`` of :meth:`stack_frames` -> ``(M, stem_channels, H / 4, W / 4)``."""
        conv, norm, activation, pool = self.frontend3D
        weight = conv.get_parameter("weight").squeeze(1)  # (C, 1, 5, 7, 7) -> (C, 5, 7, 7)
        x = F.conv2d(stacked, weight, stride=STEM_STRIDE, padding=STEM_PADDING)
        return pool(activation(norm(x)))

    def run_trunk(self, x: Tensor) -> Tensor:
        """Feature maps of the stem -> ``(M, C, h, w)``."""
        return self.trunk(x)

    def _vectors(self, stacked: Tensor) -> Tensor:
        """``(M, 5, H, W)`` -> ``(M, output_size)``."""
        return self.run_trunk(self.stem(stacked)).mean(dim=(2, 3))


class LipResNet(LipTrunk):
    """Stem and ResNet-18.

    Args:
        stem_channels: Channels after the stem.
        planes: Channels of the four stages.
        activation: See :func:`make_activation`.
        video_pool: See :class:`LipTrunk`.
        chunk: See :class:`LipTrunk`.
    """

    trunk: nn.ModuleDict

    def __init__(
        self,
        *,
        stem_channels: int = 64,
        planes: Sequence[int] = (64, 128, 256, 512),
        activation: str = "prelu",
        video_pool: int = 1,
        chunk: int = LIP_CHUNK,
    ) -> None:
        super().__init__(stem_channels=stem_channels, activation=activation, video_pool=video_pool, chunk=chunk)
        stages, width = {}, stem_channels
        for index, channels in enumerate(planes, start=1):
            stages[f"layer{index}"] = nn.Sequential(
                BasicBlock(width, channels, stride=1 if index == 1 else 2, activation=activation),
                BasicBlock(channels, channels, activation=activation),
            )
            width = channels
        self.trunk = nn.ModuleDict(stages)
        self.output_size = width
        self.reset_convolutions()

    def run_trunk(self, x: Tensor) -> Tensor:
        """Feature maps of the stem -> ``(M, output_size, h, w)``."""
        for stage in self.trunk.values():
            x = stage(x)
        return x
