# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Sound from mel spectrograms without a trained network: phases that fit the magnitudes, found step by step.

Axes: ``B`` batch, ``M`` mel bands, ``F`` frequencies, ``T`` frames, ``N`` samples.

Reference:
    N. Perraudin, P. Balazs, P. L. Sondergaard, "A fast Griffin-Lim algorithm", WASPAA 2013.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.avgen.mel import MelConfig, MelSpectrogram
from espnet_av.utils.errors import usage_error

_SMALL = 1e-8


class GriffinLim(nn.Module):
    """A vocoder that needs no weights; its speech is intelligible and sounds like a robot.

    Args:
        config: Of the spectrograms; None: those of the published systems.
        iterations: Steps of the search for phases.
        momentum: How far a step goes beyond the plain algorithm.
        unmix_iterations: Steps of the search for magnitudes that have these mel bands and are not negative.
        seed: Of the first phases; the same spectrogram always gives the same sound.

    Raises:
        UsageError: A value is out of range.
    """

    inverse: Tensor
    reach = None  # every sample depends on all frames

    def __init__(
        self,
        config: MelConfig | None = None,
        iterations: int = 32,
        momentum: float = 0.99,
        unmix_iterations: int = 20,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if iterations < 1 or unmix_iterations < 0 or not 0 <= momentum < 1:
            usage_error("settings of Griffin-Lim are out of range", (iterations, unmix_iterations, momentum))
        self.mel = MelSpectrogram(config)
        self.config = self.mel.config
        self.num_mels, self.hop_length = self.config.num_mels, self.config.hop_length
        self.iterations, self.unmix_iterations = iterations, unmix_iterations
        self.push, self.seed = momentum / (1 + momentum), seed
        self.register_buffer("inverse", torch.linalg.pinv(self.mel.filters), persistent=False)  # (F, M)

    @torch.no_grad()
    def forward(self, mel: Tensor) -> Tensor:
        """Return sound ``(B, 1, T * hop_length)`` for natural logarithms ``(B, M, T)``."""
        with torch.autocast(mel.device.type, enabled=False):
            magnitude = self.unmix(mel.float().exp())
            spectrum = magnitude * self._first_phases(magnitude)
            before = torch.zeros_like(spectrum)
            for _ in range(self.iterations):
                now = self.mel.spectrum(self.overlap_add(spectrum))
                phase, before = now - self.push * before, now
                spectrum = magnitude * phase / phase.abs().clamp(min=_SMALL)
            pad = self.config.pad
            wav = self.overlap_add(spectrum)
        return wav[:, None, pad:-pad].clamp(-1.0, 1.0)

    def unmix(self, bands: Tensor) -> Tensor:
        """Return magnitudes ``(B, F, T)`` of all frequencies for those of the bands ``(B, M, T)``."""
        filters = self.mel.filters
        magnitude = (self.inverse @ bands).clamp(min=_SMALL)
        wanted = filters.T @ bands
        for _ in range(self.unmix_iterations):
            magnitude = magnitude * wanted / (filters.T @ (filters @ magnitude)).clamp(min=_SMALL)
        return magnitude

    def overlap_add(self, spectrum: Tensor) -> Tensor:
        """Return the padded sound ``(B, N)`` that is closest to a complex spectrum ``(B, F, T)``."""
        config = self.config
        side = config.n_fft - config.win_length
        window = F.pad(self.mel.window, (side // 2, side - side // 2))
        frames = torch.fft.irfft(spectrum, config.n_fft, dim=1) * window[:, None]
        weights = window.square()[:, None].expand(-1, frames.shape[-1])[None]
        size = config.n_fft + config.hop_length * (frames.shape[-1] - 1)
        shape = {"output_size": (1, size), "kernel_size": (1, config.n_fft), "stride": (1, config.hop_length)}
        total, weight = F.fold(frames, **shape), F.fold(weights, **shape)
        return (total / weight.clamp(min=_SMALL))[:, 0, 0]

    def _first_phases(self, magnitude: Tensor) -> Tensor:
        random = torch.Generator().manual_seed(self.seed)
        angles = 2 * torch.pi * torch.rand(magnitude.shape[1:], generator=random).to(magnitude.device)
        return torch.polar(torch.ones_like(angles), angles)
