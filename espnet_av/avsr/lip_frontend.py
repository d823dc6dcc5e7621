# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The lip front end of AV-HuBERT and auto_avsr: :class:`~espnet_av.layers.lip_trunk.LipResNet` and a projection.

Axes: ``B`` batch, ``T`` video frames, ``H``/``W`` pixels.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from espnet_av.layers.lip_trunk import LIP_CHUNK, LipResNet


class LipFrontend(nn.Module):
    """Mouth video -> one projected feature per frame.

    Args:
        dim: Width of the projection (the encoder's).
        stem_channels: Channels after the stem.
        planes: Channels of the four stages of the ResNet.
        activation: See :func:`make_activation`.
        video_pool: Average-pool the frames by this factor first (1: off).
        chunk: See :class:`LipResNet`.
    """

    def __init__(
        self,
        dim: int,
        *,
        stem_channels: int = 64,
        planes: Sequence[int] = (64, 128, 256, 512),
        activation: str = "prelu",
        video_pool: int = 1,
        chunk: int = LIP_CHUNK,
    ) -> None:
        super().__init__()
        self.resnet = LipResNet(
            stem_channels=stem_channels, planes=planes, activation=activation, video_pool=video_pool, chunk=chunk
        )
        self.proj = nn.Linear(self.resnet.output_size, dim)

    def forward(self, video: Tensor, valid: Tensor | None = None) -> Tensor:
        """Compute the video stream of the encoder.

        Args:
            video: ``(B, 1, T, H, W)`` normalised gray frames.
            valid: ``(B, T)`` bool, True = valid. Other frames are not computed and give zeros. None computes all.

        Returns:
            ``(B, T, dim)``.
        """
        frames = video.squeeze(1)  # (B, T, H, W)
        features = self.proj(self.resnet(frames, valid))
        if valid is None:
            return features.unflatten(0, frames.shape[:2])
        out = features.new_zeros(*frames.shape[:2], features.shape[-1])
        out[valid] = features
        return out
