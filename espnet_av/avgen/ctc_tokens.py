# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A small recogniser of characters whose logits serve as tokens where no wav2vec 2.0 is at hand.

It has the labels and the clock of wav2vec 2.0, frames of 400 samples every 320 at 16 kHz, and looks a bounded time to
each side, so that recordings can be cut into pieces without a difference.

Axes: ``B`` batch, ``N`` samples at 16 kHz, ``T`` token frames, ``M`` mel bands, ``D`` width, ``K`` labels.

Reference of the blocks:
    Z. Liu et al., "A ConvNet for the 2020s", arXiv:2201.03545.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.avgen.clock import TOKEN_HOP, TOKEN_SAMPLE_RATE, TOKEN_WINDOW
from espnet_av.avgen.token_labels import BLANK_ID, NUM_LABELS
from espnet_av.layers.mel_filters import mel_filters
from espnet_av.utils.errors import DataError, describe, usage_error

HALF_HOP = TOKEN_HOP // 2
_FLOOR = 1e-5


class LogMel(nn.Module):
    """Log-mel spectrogram with frames of 400 samples every 160, without padding.

    Args:
        num_mels: ``M``.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, num_mels: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(TOKEN_WINDOW), persistent=False)
        self.register_buffer("filters", mel_filters(TOKEN_SAMPLE_RATE, TOKEN_WINDOW, num_mels).T, persistent=False)

    def forward(self, wav: Tensor) -> Tensor:
        """Return ``(B, M, (N - 400) // 160 + 1)`` for ``(B, N)``."""
        with torch.autocast(wav.device.type, enabled=False):
            spectrum = torch.stft(
                wav.float(), TOKEN_WINDOW, HALF_HOP, window=self.window, center=False, return_complex=True
            )
            return (self.filters @ spectrum.abs()).clamp(min=_FLOOR).log()


class BandNorm(nn.Module):
    """Give every mel band mean 0 and deviation 1: in training over the batch, then as found in training.

    Args:
        num_mels: ``M``.
    """

    def __init__(self, num_mels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(num_mels, affine=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return ``(B, M, T)`` for ``(B, M, T)`` and ``mask (B, 1, T)``; frames that do not count become 0."""
        frames = x.transpose(1, 2)
        counted = mask[:, 0] > 0
        result = torch.zeros_like(frames)
        result[counted] = self.norm(frames[counted])
        return result.transpose(1, 2)


class ConvBlock(nn.Module):
    """Residual block: a convolution over time in every channel, then two layers at every frame.

    Args:
        dim: ``D``.
        kernel: Of the convolution.
        dilation: Of the convolution.
        expansion: Width between the two layers, in ``D``.
        dropout: Share of values dropped there.
    """

    def __init__(self, dim: int, kernel: int, dilation: int, expansion: int, dropout: float) -> None:
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.conv = nn.Conv1d(dim, dim, kernel, padding=padding, dilation=dilation, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.layers = nn.Sequential(
            nn.Linear(dim, expansion * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(expansion * dim, dim)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return ``(B, T, D)`` for ``(B, T, D)`` and ``mask (B, T, 1)``, 1 at frames that count."""
        y = self.conv((x * mask).transpose(1, 2)).transpose(1, 2)
        return x + self.layers(self.norm(y))


class CTCTokens(nn.Module):
    """The recogniser.

    Args:
        num_mels: ``M``.
        dim: ``D``.
        kernel: Of the blocks' convolutions, odd.
        dilations: One for every block.
        expansion: Of the blocks.
        dropout: Of the blocks.
        mask_bands: In training, most mel bands of each of two stripes that are blanked.
        mask_frames: In training, most 10 ms frames of each of two stripes that are blanked.

    Raises:
        UsageError: A size is out of range.
    """

    def __init__(
        self,
        num_mels: int = 64,
        dim: int = 144,
        kernel: int = 9,
        dilations: Sequence[int] = (1, 1, 2, 2, 4, 1),
        expansion: int = 2,
        dropout: float = 0.1,
        mask_bands: int = 6,
        mask_frames: int = 6,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0 or not dilations or min(num_mels, dim, *dilations) < 1 or not 0 <= dropout < 1:
            got = (num_mels, dim, kernel, list(dilations), dropout)
            usage_error("sizes of the token model are out of range", got, "an odd kernel, one dilation or more")
        self.mask_bands, self.mask_frames = mask_bands, mask_frames
        self.log_mel = LogMel(num_mels)
        self.norm_bands = BandNorm(num_mels)
        self.stem = nn.Conv1d(num_mels, dim, 5, padding=2)
        self.halve = nn.Conv1d(dim, dim, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(ConvBlock(dim, kernel, each, expansion, dropout) for each in dilations)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, NUM_LABELS)
        #: Token frames to each side that a frame depends on at most.
        self.reach = sum(dilations) * (kernel - 1) // 2 + 2

    def forward(self, wav: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return logits ``(B, T, K)``, ``T = (N - 400) // 320 + 1``.

        Args:
            wav: Sound in [-1, 1], ``(B, N)``.
            lengths: Samples of each, ``(B,)``; None: all.

        Raises:
            DataError: The sound is shorter than a frame.
        """
        if wav.dim() != 2 or wav.shape[1] < TOKEN_WINDOW:
            allowed = f"(batch, {TOKEN_WINDOW} samples or more)"
            raise DataError(describe("sound has a wrong shape for tokens", tuple(wav.shape), allowed))
        x = self.log_mel(wav)
        if lengths is None:
            lengths = torch.full((len(wav),), wav.shape[1], device=wav.device)
        mask = _mask((lengths - TOKEN_WINDOW) // HALF_HOP + 1, x)
        x = self.norm_bands(x, mask)
        if self.training:
            x = self._blank_stripes(x)
        x = F.gelu(self.stem(x)) * mask
        x = F.gelu(self.halve(x)).transpose(1, 2)
        mask = mask[..., ::2].transpose(1, 2)
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.norm(x))

    def _blank_stripes(self, x: Tensor) -> Tensor:
        """Set two stripes of bands and two of frames to 0, the same for the batch."""
        x = x.clone()
        for axis, widest in ((1, self.mask_bands), (2, self.mask_frames)):
            for _ in range(2):
                width = int(torch.randint(widest + 1, ()))
                first = int(torch.randint(max(1, x.shape[axis] - width), ()))
                x.narrow(axis, first, min(width, x.shape[axis] - first)).zero_()
        return x

    def loss(self, wav: Tensor, lengths: Tensor, labels: Tensor, label_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean CTC loss of an utterance ``()`` and the logits ``(B, T, K)``.

        Args:
            wav: ``(B, N)``.
            lengths: Samples of each, ``(B,)``.
            labels: ``(B, L)``; what lies behind the end of a text does not matter.
            label_lengths: ``(B,)``.
        """
        logits = self(wav, lengths)
        frames = token_lengths(lengths)
        log_probs = logits.float().log_softmax(-1).transpose(0, 1)
        losses = F.ctc_loss(
            log_probs,
            labels.clamp(min=0),
            frames,
            label_lengths,
            blank=BLANK_ID,
            reduction="none",
            zero_infinity=True,
        )
        return losses.mean(), logits


def token_lengths(lengths: Tensor) -> Tensor:
    """Return the token frames of sounds of ``lengths`` samples, ``(B,)``."""
    return (lengths - TOKEN_WINDOW).div(TOKEN_HOP, rounding_mode="floor") + 1


def _mask(lengths: Tensor, x: Tensor) -> Tensor:
    return (torch.arange(x.shape[-1], device=x.device) < lengths[:, None])[:, None].to(x.dtype)
