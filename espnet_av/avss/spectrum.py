# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Both ends of RTFS-Net: waveform to embedding, mask, embedding to waveform.

Axes: ``B`` batch, ``L`` samples, ``T`` frames, ``F`` bins, ``C`` channels (first half real, second half imaginary).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.avss.rtfs_blocks import ConvLayer, PointwiseConv
from espnet_av.utils.errors import usage_error

KERNEL = 3  # of the convolutions between spectrum and embedding
MASK_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "linear": nn.Identity}


class STFTEncoder(nn.Module):
    """Centred short-time Fourier transform, then a 3x3 convolution from (real, imaginary) to ``channels``.

    Args:
        channels: Channels of the embedding.
        n_fft: Samples of a window (periodic Hann) and of the transform.
        hop: Samples between frames.
    """

    window: Tensor

    def __init__(self, channels: int, *, n_fft: int = 256, hop: int = 128) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        conv = nn.Conv2d(2, channels, KERNEL, padding=KERNEL // 2, bias=False)
        nn.init.xavier_uniform_(conv.weight)
        self.conv = ConvLayer(conv)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def spectrum(self, mix: Tensor) -> Tensor:
        """``(B, L)`` -> ``(B, 2, T, F)`` with ``T = 1 + floor(L / hop)`` and ``F = n_fft / 2 + 1``."""
        complex_spectrum = torch.stft(mix, self.n_fft, self.hop, window=self.window.to(mix), return_complex=True)
        return torch.view_as_real(complex_spectrum).permute(0, 3, 2, 1)

    def forward(self, mix: Tensor) -> Tensor:
        """``(B, L)`` -> ``(B, T, F, C)``."""
        spectrum = self.spectrum(mix).contiguous(memory_format=torch.channels_last)
        return self.conv(spectrum).permute(0, 2, 3, 1).contiguous()


class STFTDecoder(nn.Module):
    """The way back: a transposed 3x3 convolution to (real, imaginary), then the inverse transform.

    Args:
        channels: Channels of the embedding.
        n_fft: As in the encoder.
        hop: As in the encoder.
    """

    window: Tensor

    def __init__(self, channels: int, *, n_fft: int = 256, hop: int = 128) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.decoder = nn.ConvTranspose2d(channels, 2, KERNEL, padding=KERNEL // 2, bias=False)
        nn.init.xavier_uniform_(self.decoder.weight)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def columns(self, embedding: Tensor) -> Tensor:
        """Return what each position gives to its neighbours: ``(..., C)`` -> ``(..., 2 * 9)``."""
        return F.linear(embedding, self.decoder.weight.flatten(1).t())

    def wave(self, columns: Tensor, length: int) -> Tensor:
        """``columns (B, T, F, 2 * 9)`` of :meth:`columns` -> ``(B, 1, length)``."""
        size = columns.shape[1:3]
        spectrum = F.fold(columns.flatten(1, 2).transpose(1, 2), size, KERNEL, padding=KERNEL // 2)
        complex_spectrum = torch.view_as_complex(spectrum.permute(0, 3, 2, 1).contiguous())  # (B, F, T)
        window = self.window.to(columns)
        return torch.istft(complex_spectrum, self.n_fft, self.hop, window=window, length=length).unsqueeze(1)

    def forward(self, embedding: Tensor, length: int) -> Tensor:
        """``(B, T, F, C)`` -> ``(B, 1, length)``."""
        return self.wave(self.columns(embedding), length)


class MaskGenerator(nn.Module):
    """The S3 mask: a complex gain per position and channel, multiplied with the embedding of the mixture.

    Args:
        channels: Channels of the embedding.
        mask_act: ``relu`` (published: both parts of the gain are 0 or more), ``tanh``, ``sigmoid`` or ``linear``.

    Raises:
        UsageError: Unknown ``mask_act``.
    """

    def __init__(self, channels: int, mask_act: str = "relu") -> None:
        super().__init__()
        if mask_act not in MASK_ACTIVATIONS:
            usage_error("unknown mask_act", got=mask_act, allowed=sorted(MASK_ACTIVATIONS))
        act = MASK_ACTIVATIONS[mask_act]()
        self.mask_generator = nn.Sequential(nn.PReLU(), ConvLayer(PointwiseConv(channels, channels), act=act))

    def forward(self, refined: Tensor, embedding: Tensor) -> Tensor:
        """Two tensors ``(..., C)`` -> the masked embedding ``(..., C)``."""
        return complex_product(self.mask_generator(refined), embedding)


def complex_product(x: Tensor, y: Tensor) -> Tensor:
    """Multiply complex numbers whose real parts are the first half of the last axis: ``(..., C)`` -> ``(..., C)``."""
    (xr, xi), (yr, yi) = x.chunk(2, dim=-1), y.chunk(2, dim=-1)
    return torch.cat([torch.addcmul(xr * yr, xi, yi, value=-1), torch.addcmul(xr * yi, xi, yr)], dim=-1)
