# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What layers remember of finished frames, so that those after them are generated without computing them again.

A layer that looks at neighbouring frames (attention, convolution) keeps what it made of the last finished ones. Each
call of the solver has a memory of its own: at another time of the flow the same frames look different.
"""

import torch
from torch import Tensor, nn


class FrameMemory:
    """The memory of one call of the solver.

    Attributes:
        final: Leading frames of the next input that are finished by it. The others are only looked ahead at: they come
            again, and are not remembered.
        seen: Frames that are finished, all together.
    """

    def __init__(self) -> None:
        self.final = self.seen = 0
        self._kept: dict[tuple[nn.Module, str], Tensor] = {}

    def num_before(self, reach: int) -> int:
        """Return how many frames a layer remembers that looks ``reach`` frames back."""
        return min(reach, self.seen)

    def extend(self, layer: nn.Module, x: Tensor, reach: int, name: str = "") -> Tensor:
        """Put the remembered frames before ``x`` and remember the last ``reach`` finished ones.

        Args:
            layer: Whose frames they are.
            x: Input of this call, ``(B, T, ...)``.
            reach: Frames that the layer looks back.
            name: Tells apart several memories of a layer.

        Returns:
            ``(B, num_before(reach) + T, ...)``.
        """
        past = self._kept.get((layer, name))
        joined = x if past is None else torch.cat((past, x), dim=1)
        stop = joined.shape[1] - x.shape[1] + self.final
        self._kept[layer, name] = joined[:, max(0, stop - reach) : stop].clone()
        return joined

    def finish(self) -> None:
        """Count the frames that the call has finished; to be called after it."""
        self.seen += self.final
