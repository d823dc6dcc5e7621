# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The codec: encoder, residual vector quantiser and decoder; one network for all its bit rates.

Axes: ``B`` batch, ``T`` samples, ``F`` frames, ``D`` width of the latent, ``Q`` quantiser layers in use.

A bit rate is a number of quantiser layers: at 24 kHz and 240 samples a frame, a layer of 1024 entries is 1 kbit/s.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.codec import presets
from espnet_av.codec.quantizer import ResidualVectorQuantizer
from espnet_av.codec.seanet import Decoder, Encoder
from espnet_av.utils.config import does_not_fit
from espnet_av.utils.errors import DataError, describe, usage_error


class GeneratorOutput(NamedTuple):
    """What :meth:`CodecGenerator.forward` returns.

    Attributes:
        wav: Decoded waveform ``(B, 1, T)``, as long as the input.
        codes: Indices ``(Q, B, F)``, int64.
        commit_loss: Distance of the quantiser's inputs to its entries ``()``; 0 in evaluation.
        quantization_loss: Mean absolute plus mean squared error of the quantised latent ``()``, as a loss for the
            encoder alone.
        latent: Output of the encoder ``(B, D, F)``.
        quantized: What the decoder saw, ``(B, D, F)``.
    """

    wav: Tensor
    codes: Tensor
    commit_loss: Tensor
    quantization_loss: Tensor
    latent: Tensor
    quantized: Tensor


class CodecGenerator(nn.Module):
    """Speech codec of the LRAC challenge; without arguments the published system of track 1.

    ``CodecGenerator.from_preset("track2")`` is that of track 2.

    Args:
        sample_rate: Of the waveforms, in Hz.
        latent_dim: Width ``D`` of the latent.
        bitrates: Bit rates that training draws from and validation evaluates, in kbit/s, ascending.
        encoder_conf: Keywords of :class:`~espnet_av.codec.seanet.Encoder`; None: those of track 1.
        decoder_conf: Keywords of :class:`~espnet_av.codec.seanet.Decoder`; None: those of track 1.
        quantizer_conf: Keywords of :class:`~espnet_av.codec.quantizer.ResidualVectorQuantizer`; None: of track 1.

    Attributes:
        hop_length: Samples of a frame.
        frame_rate: Frames in a second.
        num_quantizers: Quantiser layers.
        codebook_size: Entries of each.
        bits_per_code: Bits of an index.

    Raises:
        UsageError: The sizes do not fit together.
    """

    def __init__(
        self,
        sample_rate: int = 24000,
        latent_dim: int = 160,
        bitrates: Sequence[float] = (1.0, 6.0),
        encoder_conf: Mapping[str, Any] | None = None,
        decoder_conf: Mapping[str, Any] | None = None,
        quantizer_conf: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        default = presets.TRACK1
        try:
            self.encoder = Encoder(latent_dim, **(encoder_conf or default["encoder_conf"]))
            self.quantizer = ResidualVectorQuantizer(latent_dim, **(quantizer_conf or default["quantizer_conf"]))
            self.decoder = Decoder(latent_dim, **(decoder_conf or default["decoder_conf"]))
        except TypeError as error:
            parts = {"encoder_conf": encoder_conf, "decoder_conf": decoder_conf, "quantizer_conf": quantizer_conf}
            raise does_not_fit(error, "model_conf", parts) from error
        if self.encoder.hop_length != self.decoder.hop_length:
            got = f"{self.encoder.hop_length} and {self.decoder.hop_length} samples a frame"
            usage_error("the strides of encoder and decoder must have the same product", got=got)
        self.sample_rate = sample_rate
        self.latent_dim = latent_dim
        self.hop_length = self.encoder.hop_length
        self.frame_rate = sample_rate / self.hop_length
        self.num_quantizers = len(self.quantizer.layers)
        self.codebook_size = self.quantizer.codebook_size
        self.bits_per_code = math.ceil(math.log2(self.codebook_size))
        if not bitrates or list(bitrates) != sorted(set(bitrates)):
            usage_error("bitrates must be ascending", got=list(bitrates))
        self.bitrates = tuple(float(rate) for rate in bitrates)
        for rate in self.bitrates:
            self.codebooks_for(rate)

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "CodecGenerator":
        """Build a published codec, e.g. ``track2``.

        Args:
            name: One of :data:`espnet_av.codec.presets.PRESETS`.
            **overrides: Keywords to change.

        Raises:
            UsageError: The name or a keyword is unknown.
        """
        conf = presets.preset_conf(name) | overrides
        try:
            return cls(**conf)
        except TypeError as error:
            raise does_not_fit(error, "model_conf", conf) from error

    def codebooks_for(self, bitrate_kbps: float | None) -> int:
        """Return how many quantiser layers fit into a bit rate: at least one, at most all.

        Args:
            bitrate_kbps: In kbit/s; None or 0: all layers.

        Raises:
            UsageError: It is negative or no number.
        """
        if bitrate_kbps is None or bitrate_kbps == 0:
            return self.num_quantizers
        if not bitrate_kbps > 0:
            usage_error("the bit rate must be positive", got=bitrate_kbps, allowed="kbit/s, e.g. 1 or 6")
        layer_kbps = math.log2(self.codebook_size) * self.frame_rate / 1000
        if bitrate_kbps >= layer_kbps * self.num_quantizers:
            return self.num_quantizers
        return max(1, math.floor(bitrate_kbps / layer_kbps + 1e-9))

    def bitrate_of(self, num_quantizers: int) -> float:
        """Return the bit rate in kbit/s of so many quantiser layers."""
        return num_quantizers * self.bits_per_code * self.frame_rate / 1000

    def num_frames(self, num_samples: int) -> int:
        """Return the frames of so many samples."""
        return -(-num_samples // self.hop_length)

    def pad_input(self, wav: Tensor) -> Tensor:
        """Add zeros to ``(..., T)`` up to whole frames.

        A streaming encoder sees its input so. Without, every strided layer completes its own input, and the last frames
        of a waveform that is no whole number of frames differ a little.
        """
        return F.pad(wav, (0, -wav.shape[-1] % self.hop_length))

    def encode(self, wav: Tensor, bitrate_kbps: float | None = None, *, pad_input: bool = False) -> Tensor:
        """Turn waveforms into codes.

        Args:
            wav: ``(B, 1, T)`` at :attr:`sample_rate`, within [-1, 1].
            bitrate_kbps: In kbit/s; None: the highest of :attr:`bitrates`.
            pad_input: Pad the waveforms to whole frames (:meth:`pad_input`), as a streaming encoder does.

        Returns:
            ``(Q, B, F)``, int64.

        Raises:
            DataError: Not a batch of mono waveforms of one sample or more.
        """
        self._check(wav)
        num_quantizers = self.codebooks_for(self.bitrates[-1] if bitrate_kbps is None else bitrate_kbps)
        return self.quantizer.encode(self.encoder(self.pad_input(wav) if pad_input else wav), num_quantizers)

    def decode(self, codes: Tensor) -> Tensor:
        """Turn codes ``(Q, B, F)`` into waveforms ``(B, 1, hop_length * F)``."""
        return self.decoder(self.quantizer.decode(codes))

    def forward(self, wav: Tensor, num_quantizers: int | None = None) -> GeneratorOutput:
        """Encode, quantise and decode with gradients; in training the codebooks learn.

        Args:
            wav: ``(B, 1, T)``.
            num_quantizers: Quantiser layers to use; None: all; 0: none, the decoder gets the latent.

        Raises:
            DataError: Not a batch of mono waveforms of one sample or more.
        """
        self._check(wav)
        latent = self.encoder(wav)
        if num_quantizers == 0:
            quantized, codes = latent, torch.zeros(0, len(latent), latent.shape[2], dtype=torch.long, device=wav.device)
            commit_loss = latent.new_zeros(())
        else:
            quantized, codes, commit_loss = self.quantizer(latent, num_quantizers)
        latent, goal = latent.float(), quantized.detach()
        quantization_loss = F.l1_loss(latent, goal) + F.mse_loss(latent, goal)
        decoded = self.decoder(quantized)[..., : wav.shape[-1]].float()
        return GeneratorOutput(decoded, codes, commit_loss, quantization_loss, latent, quantized)

    @staticmethod
    def _check(wav: Tensor) -> None:
        if wav.dim() != 3 or wav.shape[1] != 1 or wav.shape[2] == 0:
            allowed = "(batch, 1, samples) with one sample or more"
            raise DataError(describe("the codec takes batches of mono waveforms", tuple(wav.shape), allowed))
