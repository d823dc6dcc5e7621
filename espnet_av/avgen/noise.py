# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Noise that belongs to a frame: the same seed gives frame 1000 the same noise, wherever a chunk begins.

Random bits come from a counter (Philox), so that no frame depends on which others were drawn; Box-Muller makes them
normal.
"""

import numpy as np
import torch
from torch import Tensor

from espnet_av.utils.errors import usage_error

WORDS = 4  # 64-bit words per count of Philox


class FrameNoise:
    """Standard normal noise by absolute frame.

    Args:
        seed: 0 or more.

    Raises:
        UsageError: The seed is negative or too large.
    """

    def __init__(self, seed: int = 0) -> None:
        if not 0 <= seed < 2**63:
            usage_error("wrong seed of the noise", seed, "0 to 2^63 - 1")
        self.seed = int(seed)

    def __call__(self, start: int, length: int, dim: int, sample: int = 0) -> Tensor:
        """Return the noise of frames.

        Args:
            start: First frame, 0 or more.
            length: Frames ``T``.
            dim: Values of a frame ``D``.
            sample: Which of several samples, 0 or more; each has noise of its own.

        Returns:
            float32 ``(T, D)``.
        """
        if start < 0 or length < 0:
            usage_error("noise of such frames does not exist", (start, length), "0 or more")
        counts = -(-dim // WORDS)
        bits = np.random.Philox(key=[self.seed, sample], counter=start * counts)
        words = bits.random_raw(length * counts * WORDS).reshape(length, -1, 2)
        uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53  # never 0 or 1
        radius = np.sqrt(-2.0 * np.log(uniform[..., 0]))
        angle = 2.0 * np.pi * uniform[..., 1]
        normal = np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=-1)
        return torch.from_numpy(normal.reshape(length, -1)[:, :dim].astype(np.float32))

    def batch(self, start: int, length: int, dim: int, samples: int, first: int = 0) -> Tensor:
        """Return the noise of several samples, float32 ``(B, T, D)``."""
        return torch.stack([self(start, length, dim, first + index) for index in range(samples)])
