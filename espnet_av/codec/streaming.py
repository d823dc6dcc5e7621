# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Encoding and decoding while the sound is still coming, chunk by chunk of any length.

    with codec.streaming() as stream:
        for chunk in microphone:                # any number of samples
            codes = stream.encode(chunk, 6.0)   # those frames that are complete
            play(stream.decode(codes))
        end = stream.flush()                    # what is still inside

Put together, codes and waveform are those of the whole recording, padded with zeros to whole frames
(``generator.encode(wav, pad_input=True)``): the delay of the codec is taken off, not filled with silence. A batch holds
recordings that run side by side. :meth:`CodecStream.state` and :meth:`CodecStream.load_state` move a running stream to
another process.

Axes: ``B`` batch, ``D`` width of the latent, ``F`` frames, ``N`` samples, ``Q`` layers of the quantiser.
"""

import math
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from espnet_av.codec.deploy import FoldedCodec, FoldedQuantizer
from espnet_av.codec.stream_engine import StreamEngine
from espnet_av.utils.errors import DataError, describe, usage_error


@dataclass(frozen=True)
class StreamEnd:
    """The rest of a stream.

    Attributes:
        codes: ``(Q, B, F)`` that the encoder had not given yet; None where it was not used.
        wav: ``(B, N)`` that the decoder had not given yet, those of :attr:`codes` included; None where it was not used.
            It ends with the recording where the stream encoded it as well, else with its last frame.
    """

    codes: Tensor | None
    wav: Tensor | None


class FrameQuantizer:
    """The search of the quantiser with few, small operations, as frames of 10 ms want it.

    Args:
        quantizer: Tables and codebooks.
    """

    def __init__(self, quantizer: FoldedQuantizer) -> None:
        self._projects = quantizer.projects
        self._weights = [weight.t().contiguous() for weight in quantizer.project_in]
        self._biases = list(quantizer.project_bias)
        self._books = [2 * book.t().contiguous() for book in quantizer.codebooks]
        self._norms = [-book.square().sum(1) for book in quantizer.codebooks]
        self._tables = list(quantizer.tables)

    @torch.inference_mode()
    def encode(self, latent: Tensor, num_quantizers: int) -> Tensor:
        """Return codes ``(Q, B, F)`` for ``(B, D, F)``."""
        batch, dim, frames = latent.shape
        residual = latent.transpose(1, 2).reshape(batch * frames, dim)
        codes = torch.empty(num_quantizers, batch * frames, dtype=torch.int64, device=latent.device)
        for index in range(num_quantizers):
            x = torch.addmm(self._biases[index], residual, self._weights[index]) if self._projects else residual
            scores = torch.addmm(self._norms[index], x, self._books[index])
            torch.argmax(scores, 1, out=codes[index])
            if index + 1 < num_quantizers:
                residual = residual - self._tables[index][codes[index]]
        return codes.view(num_quantizers, batch, frames)

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Return the latent ``(B, D, F)`` of codes ``(Q, B, F)``."""
        total = self._tables[0][codes[0]]
        for table, indices in zip(self._tables[1:], codes[1:], strict=False):
            total = total + table[indices]
        return total.transpose(1, 2)


class StreamingEncoder:
    """Waveform to codes, chunk by chunk.

    Args:
        codec: The codec.
        batch_size: Recordings side by side.

    Attributes:
        delay_frames: Frames that a code comes later than the last sample of its frame.
        num_samples: Samples taken since the start.
    """

    def __init__(self, codec: FoldedCodec, batch_size: int = 1) -> None:
        self._hop, self._max_layers = codec.hop_length, codec.num_quantizers
        self._device = codec.quantizer.tables.device
        self._engine = StreamEngine(codec.encoder, 1, self._hop, batch_size)
        self._quantizer = FrameQuantizer(codec.quantizer)
        self.delay_frames = self._engine.delay
        self.batch_size = batch_size
        self.reset()

    def reset(self) -> None:
        """Forget the recording."""
        self._engine.reset()
        self._waiting = torch.zeros(self.batch_size, 0, device=self._device)
        self._to_drop = self._engine.delay
        self.num_samples = 0

    @torch.inference_mode()
    def encode(self, chunk: Tensor, num_quantizers: int | None = None) -> Tensor:
        """Take a chunk ``(B, N)``; return the codes that are ready, ``(Q, B, F)`` with ``F`` 0 or more."""
        layers = self._max_layers if num_quantizers is None else num_quantizers
        self.num_samples += chunk.shape[1]
        if self._waiting.shape[1]:
            chunk = torch.cat([self._waiting, chunk], dim=1)
        whole = chunk.shape[1] // self._hop * self._hop
        if whole < chunk.shape[1]:
            self._waiting = chunk[:, whole:].clone()
        elif self._waiting.shape[1]:
            self._waiting = chunk[:, :0]
        if not whole:
            return self._none(layers)
        return self._quantize(self._engine.run(chunk[:, None, :whole]), layers)

    @torch.inference_mode()
    def flush(self, num_quantizers: int | None = None) -> Tensor:
        """End the recording; return the codes that are left and start anew."""
        layers = self._max_layers if num_quantizers is None else num_quantizers
        parts = [self._none(layers)]
        if self._waiting.shape[1]:
            zeros = self._waiting.new_zeros(self.batch_size, self._hop - self._waiting.shape[1])
            padded = torch.cat([self._waiting, zeros], dim=1)
            parts.append(self._quantize(self._engine.run(padded[:, None]), layers))
        if self._engine.frames:
            parts.append(self._quantize(self._engine.flush(), layers))
        self.reset()
        return torch.cat(parts, dim=2)

    def state(self) -> dict[str, Tensor]:
        """Return a copy of what is kept between chunks."""
        counts = {"num_samples": torch.tensor(self.num_samples), "to_drop": torch.tensor(self._to_drop)}
        return {**self._engine.state(), **counts, "waiting": self._waiting.clone()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on where :meth:`state` was taken."""
        own = ("num_samples", "to_drop", "waiting")
        self._engine.load_state({name: value for name, value in state.items() if name not in own})
        self.num_samples, self._to_drop = int(state["num_samples"]), int(state["to_drop"])
        self._waiting = state["waiting"].to(self._device).clone()

    def _quantize(self, latent: Tensor, layers: int) -> Tensor:
        dropped = min(self._to_drop, latent.shape[-1])
        if dropped:
            self._to_drop -= dropped
            latent = latent[..., dropped:]
        return self._quantizer.encode(latent, layers) if latent.shape[-1] else self._none(layers)

    def _none(self, layers: int) -> Tensor:
        return torch.zeros(layers, self.batch_size, 0, dtype=torch.int64, device=self._device)


class StreamingDecoder:
    """Codes to waveform, some frames at a time.

    Args:
        codec: The codec.
        batch_size: Recordings side by side.

    Attributes:
        delay_samples: Samples by which the waveform comes later than its codes.
    """

    def __init__(self, codec: FoldedCodec, batch_size: int = 1) -> None:
        self._device = codec.quantizer.tables.device
        self._engine = StreamEngine(codec.decoder, codec.latent_dim, 1, batch_size)
        self._quantizer = FrameQuantizer(codec.quantizer)
        self._layers, self._entries = codec.num_quantizers, codec.codebook_size
        self.delay_samples = self._engine.delay
        self.batch_size = batch_size
        self.reset()

    def reset(self) -> None:
        """Forget the recording."""
        self._engine.reset()
        self._to_drop = self._engine.delay

    @property
    def num_frames(self) -> int:
        """Frames taken since the start."""
        return self._engine.frames

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Take codes ``(Q, B, F)``, ``F`` 0 or more; return the samples that are ready, ``(B, N)``.

        Raises:
            DataError: Codes of another shape, or that the codebooks do not have.
        """
        check_codes(codes, self._layers, self._entries, self.batch_size)
        if not codes.shape[2]:
            return torch.zeros(self.batch_size, 0, device=self._device)
        return self._trim(self._engine.run(self._quantizer.decode(codes)))

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """End the recording; return the samples that are left and start anew."""
        wav = self._trim(self._engine.flush())
        self.reset()
        return wav

    def state(self) -> dict[str, Tensor]:
        """Return a copy of what is kept between frames."""
        return {**self._engine.state(), "to_drop": torch.tensor(self._to_drop)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on where :meth:`state` was taken."""
        self._engine.load_state({name: value for name, value in state.items() if name != "to_drop"})
        self._to_drop = int(state["to_drop"])

    def _trim(self, wav: Tensor) -> Tensor:
        dropped = min(self._to_drop, wav.shape[-1])
        self._to_drop -= dropped
        return wav[:, 0, dropped:]


def check_codes(codes: Tensor, layers: int, entries: int, batch_size: int | None = None) -> None:
    """Refuse codes that a codec cannot decode.

    Args:
        codes: ``(Q, B, F)``.
        layers: Layers of the codec.
        entries: Entries of a codebook.
        batch_size: ``B``; None: any.

    Raises:
        DataError: Another shape or type, or indices out of range.
    """
    allowed = f"integers (1 to {layers}, {batch_size or 'batch'}, frames) from 0 to {entries - 1}"
    fits = codes.dim() == 3 and not codes.is_floating_point() and 1 <= codes.shape[0] <= layers
    if not fits or (batch_size is not None and codes.shape[1] != batch_size):
        raise DataError(describe("these are no codes of this codec", (tuple(codes.shape), str(codes.dtype)), allowed))
    if codes.numel() and not (0 <= int(codes.min()) and int(codes.max()) < entries):
        raise DataError(describe("a code is out of range", (int(codes.min()), int(codes.max())), allowed))


class CodecStream:
    """An encoder and a decoder that run while the sound comes; each is made when it is first used.

    Args:
        codec: The codec.
        batch_size: Recordings side by side.
        bitrate_kbps: That :meth:`encode` takes unless it is told another; None: that of all layers.

    Attributes:
        delay_ms: What encoder and decoder together need to hear ahead, without the frame being filled.
    """

    def __init__(self, codec: FoldedCodec, batch_size: int = 1, bitrate_kbps: float | None = None) -> None:
        if batch_size < 1:
            usage_error("batch_size is too small", got=batch_size, allowed="1 or more")
        self.codec, self.batch_size = codec, batch_size
        self._encoder: StreamingEncoder | None = None
        self._decoder: StreamingDecoder | None = None
        self._bitrate_kbps = bitrate_kbps
        self._layers = layers_for(codec, bitrate_kbps)

    def __enter__(self) -> "CodecStream":
        """Start."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End without :meth:`flush`: what is still inside is lost."""
        self._encoder = self._decoder = None

    @property
    def encoder(self) -> StreamingEncoder:
        """The encoder, for those who use it alone."""
        if self._encoder is None:
            self._encoder = StreamingEncoder(self.codec, self.batch_size)
        return self._encoder

    @property
    def decoder(self) -> StreamingDecoder:
        """The decoder, for those who use it alone."""
        if self._decoder is None:
            self._decoder = StreamingDecoder(self.codec, self.batch_size)
        return self._decoder

    @property
    def delay_ms(self) -> float:
        """What encoder and decoder together need to hear ahead, without the frame being filled."""
        frames = self.encoder.delay_frames + self.decoder.delay_samples / self.codec.hop_length
        return 1000 * frames / self.codec.frame_rate

    def encode(self, chunk: Tensor | np.ndarray, bitrate_kbps: float | None = None) -> Tensor:
        """Take some samples.

        Args:
            chunk: ``(B, N)``, or ``(N,)`` in a stream of one recording, floats in [-1, 1]; ``N`` may be 0.
            bitrate_kbps: Of these frames; None: that of the stream.

        Returns:
            The codes that are ready, ``(Q, B, F)`` with ``F`` 0 or more.

        Raises:
            DataError: Another shape or type, or values that are not finite.
        """
        self._layers = layers_for(self.codec, self._bitrate_kbps if bitrate_kbps is None else bitrate_kbps)
        return self.encoder.encode(self._as_batch(chunk), self._layers)

    def decode(self, codes: Tensor | np.ndarray) -> Tensor:
        """Take the codes ``(Q, B, F)`` of some frames; return the samples that are ready, ``(B, N)``."""
        return self.decoder.decode(torch.as_tensor(codes).to(self._device))

    def flush(self) -> StreamEnd:
        """End the recording and return what is left; the stream is then ready for another one."""
        codes = wav = None
        num_samples = None
        if self._encoder is not None:
            num_samples = self._encoder.num_samples
            codes = self._encoder.flush(self._layers)
        if self._decoder is not None:
            given = max(0, self._decoder.num_frames * self.codec.hop_length - self._decoder.delay_samples)
            parts = [self._decoder.decode(codes)] if codes is not None else []
            wav = torch.cat([*parts, self._decoder.flush()], dim=1)
            if num_samples is not None:
                wav = wav[:, : max(0, num_samples - given)]
        return StreamEnd(codes, wav)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return a copy of what is kept between chunks, for :meth:`load_state`; ``torch.save`` can write it."""
        parts = {"encoder": self._encoder, "decoder": self._decoder}
        return {name: part.state() for name, part in parts.items() if part is not None}

    def load_state(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Go on where :meth:`state` was taken.

        Raises:
            UsageError: It is of another codec or batch size.
        """
        self._encoder = self._decoder = None
        for name in ("encoder", "decoder"):
            if name in state:
                getattr(self, name).load_state(state[name])

    @property
    def _device(self) -> torch.device:
        return self.codec.quantizer.tables.device

    def _as_batch(self, chunk: Tensor | np.ndarray) -> Tensor:
        wav = torch.as_tensor(chunk)
        if wav.dim() == 1 and self.batch_size == 1:
            wav = wav[None]
        if wav.dim() != 2 or wav.shape[0] != self.batch_size or not wav.is_floating_point():
            allowed = f"({self.batch_size}, samples) float in [-1, 1]"
            raise DataError(describe("a chunk has a wrong shape or type", (tuple(wav.shape), str(wav.dtype)), allowed))
        if not torch.isfinite(wav).all():
            raise DataError("a chunk holds values that are not finite")
        return wav.to(self._device, torch.float32)


def layers_for(codec: FoldedCodec, bitrate_kbps: float | None) -> int:
    """Return how many layers fit into a bit rate: at least one, at most all; None or 0: all.

    Raises:
        UsageError: It is negative or no number.
    """
    if not bitrate_kbps:
        return codec.num_quantizers
    if not bitrate_kbps > 0:
        usage_error("the bit rate must be positive", got=bitrate_kbps, allowed="kbit/s, e.g. 1 or 6")
    layer_kbps = math.log2(codec.codebook_size) * codec.frame_rate / 1000
    return max(1, min(codec.num_quantizers, math.floor(min(bitrate_kbps / layer_kbps + 1e-9, 1e6))))
