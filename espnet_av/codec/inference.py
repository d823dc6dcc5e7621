# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The codec as one object: sound in, codes out, and back.

    codec = Codec.from_pretrained("exp/codec_train_raw_fs24000")
    codes = codec.encode(wave, 6.0)                       # (6, 1, F)
    wave = codec.decode(codes, num_samples=len(wave))     # (1, N)

    with codec.streaming() as stream:                     # the same while the sound comes
        codes = stream.encode(chunk, 1.0)
        wave = stream.decode(codes)

Axes: ``B`` batch, ``F`` frames, ``N`` samples, ``Q`` layers of the quantiser.
"""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from espnet_av.codec.bitstream import DEFAULT_BLOCK_FRAMES, StreamHeader
from espnet_av.codec.choices import build_generator
from espnet_av.codec.deploy import FoldedCodec, fold
from espnet_av.codec.generator import CodecGenerator
from espnet_av.codec.latency import look_ahead, look_back
from espnet_av.codec.streaming import CodecStream, StreamingDecoder, StreamingEncoder, check_codes
from espnet_av.hub import Origin, Pretrained, locate_model
from espnet_av.train.conversion import load_strictly
from espnet_av.train.loading import load_weights
from espnet_av.train.pretrained import build_for, find_weights, resolve_device
from espnet_av.utils.errors import CheckpointError, DataError, MissingDataError, UsageError, describe
from espnet_av.utils.untrusted import read_yaml

GENERATOR_PREFIX = "codec.generator."
LONG_SEC = 30.0  # longer recordings go through the network piece by piece

#: ``(N,)`` or ``(B, N)`` floats in [-1, 1], or int16.
Wave = np.ndarray | Tensor


class Codec(Pretrained):
    """Code speech and decode it.

    The folded weights are what computes, so that changes of :attr:`generator` after the first use have no effect.
    Recordings of any length take bounded memory: long ones go through the network piece by piece, with the same result.

    Args:
        generator: A :class:`~espnet_av.codec.generator.CodecGenerator`.
        device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``; ``auto`` takes a GPU where there is one.

    Attributes:
        generator: The network, in evaluation mode.
        checkpoint: The weights file that :meth:`from_pretrained` read; else None.

    Raises:
        UsageError: The device has no such name.
        EnvironmentProblem: There is no such device.
    """

    system_name = "codec"
    weight_prefix = GENERATOR_PREFIX

    def __init__(self, generator: CodecGenerator, *, device: str | torch.device = "cpu") -> None:
        self.device = resolve_device(device)
        self.generator = generator.to(self.device).eval()
        self.checkpoint: Path | None = None
        self._folded: FoldedCodec | None = None

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike,
        device: str | torch.device = "cpu",
        *,
        revision: str | None = None,
        weights: str | os.PathLike | None = None,
        cache_dir: str | os.PathLike | None = None,
        token: str | None = None,
    ) -> "Codec":
        """Load a model.

        Args:
            source: An experiment folder, a packed or converted model (``config.yaml`` and weights), a published
                checkpoint file, or ``organisation/name[@revision]`` of the Hugging Face hub.
            device: Where to compute.
            revision: Branch, tag or commit of the hub.
            weights: Weights file, a path or a name in the folder. None takes the first of ``model.safetensors``, the
                average of the best epochs and the best epoch.
            cache_dir: Where files of the hub are kept.
            token: Access token of the hub; None: that of ``hf auth login`` or ``HF_TOKEN``.

        Raises:
            MissingDataError: There is no such model.
            DataError: A file is damaged or of another system.
            CheckpointError: The weights do not fit.
            EnvironmentProblem: The hub cannot be reached.
        """
        path = locate_model(source, revision, cache_dir, token)
        if path.is_file() and path.suffix not in (".yaml", ".yml"):
            return cls._from_file(path, device)
        folder = path.parent if path.is_file() else path
        config = _read_config(path if path.is_file() else folder / "config.yaml")
        checkpoint = find_weights(folder, weights, config.get("best_model_criterion"))
        generator = build_for(checkpoint, lambda: build_generator(config.get("model"), config.get("model_conf") or {}))
        try:
            load_strictly(generator, generator_state(load_weights(checkpoint)))
        except CheckpointError as error:
            raise CheckpointError(f"{checkpoint} is of another model than {folder}/config.yaml: {error}") from error
        codec = cls(generator, device=device)
        codec.checkpoint, codec.origin = checkpoint, Origin(folder, checkpoint)
        return codec

    def trained_network(self) -> CodecGenerator:
        """Return the network whose weights are saved."""
        return self.generator

    @classmethod
    def _from_file(cls, path: Path, device: str | torch.device) -> "Codec":
        from espnet_av.codec.convert import load_generator, read_published

        codec = cls(load_generator(read_published(path)), device=device)
        codec.checkpoint, codec.origin = path, Origin(path.parent, path)
        return codec

    @property
    def folded(self) -> FoldedCodec:
        """The plain weights that streaming, export and complexity use; made once."""
        if self._folded is None:
            self._folded = fold(self.generator)
        return self._folded

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.generator.sample_rate

    def header(
        self,
        bitrate_kbps: float | None = None,
        *,
        block_frames: int = DEFAULT_BLOCK_FRAMES,
        num_samples: int | None = None,
        num_frames: int | None = None,
    ) -> StreamHeader:
        """Return the header of a bitstream of this model.

        Args:
            bitrate_kbps: None: the highest that the model was trained for; 0: that of all its layers.
            block_frames: Frames of a block.
            num_samples: Samples of the recording; None: not known yet.
            num_frames: Frames of the recording; None: not known yet.
        """
        generator, folded = self.generator, self.folded
        layers = generator.codebooks_for(generator.bitrates[-1] if bitrate_kbps is None else bitrate_kbps)
        sizes = (folded.digest, folded.sample_rate, folded.hop_length, folded.bits_per_code)
        return StreamHeader(*sizes, layers, block_frames, num_samples, num_frames)

    @torch.inference_mode()
    def encode(self, wav: Wave, bitrate_kbps: float | None = None, *, pad_input: bool = False) -> Tensor:
        """Turn sound into codes.

        Args:
            wav: ``(N,)`` or ``(B, N)`` at :attr:`sample_rate`.
            bitrate_kbps: None: the highest that the model was trained for; 0: that of all its layers.
            pad_input: Pad with zeros to whole frames before, as a stream does. It matters for the last frames only.

        Returns:
            ``(Q, B, ceil(N / hop_length))``, int64.

        Raises:
            DataError: Sound of another shape or type, without samples, or with values that are not finite.
        """
        wav = self._as_batch(wav)
        generator = self.generator
        if bitrate_kbps is None:
            bitrate_kbps = generator.bitrates[-1]
        layers = generator.codebooks_for(bitrate_kbps)
        if wav.shape[1] <= LONG_SEC * generator.sample_rate:
            return self.folded.encode(generator.pad_input(wav[:, None]) if pad_input else wav[:, None], layers)
        encoder = StreamingEncoder(self.folded, len(wav))
        codes = torch.cat([encoder.encode(wav, layers), encoder.flush(layers)], dim=2)
        if not pad_input:
            self._replace_end(codes, wav, layers)
        return codes

    def _replace_end(self, codes: Tensor, wav: Tensor, layers: int) -> None:
        """Compute those frames anew that depend on how every strided layer completes its own input."""
        encoder, rate, hop = self.folded.encoder, self.sample_rate, self.generator.hop_length
        count = 2 + math.ceil(look_ahead(encoder, rate) * rate / hop)
        before = 1 + math.ceil(look_back(encoder, rate) * rate / hop)
        first = max(0, codes.shape[2] - count - before)
        end = self.folded.encode(wav[:, None, first * hop :], layers)
        codes[..., -count:] = end[..., -count:]

    @torch.inference_mode()
    def decode(self, codes: Wave, num_samples: int | None = None) -> Tensor:
        """Turn codes into sound.

        Args:
            codes: ``(Q, B, F)``, or ``(Q, F)`` of one recording.
            num_samples: Length of the sound; None: all frames.

        Returns:
            ``(B, N)``, or ``(N,)`` for ``(Q, F)``.

        Raises:
            DataError: These are no codes of this codec.
        """
        codes = torch.as_tensor(codes).to(self.device)
        alone = codes.dim() == 2
        if alone:
            codes = codes[:, None]
        generator = self.generator
        check_codes(codes, generator.num_quantizers, generator.codebook_size)
        codes = codes.long()
        if codes.shape[2] == 0:
            wav = torch.zeros(codes.shape[1], 0, device=self.device)
        elif codes.shape[2] <= LONG_SEC * generator.frame_rate:
            wav = self.folded.decode(codes)[:, 0]
        else:
            decoder = StreamingDecoder(self.folded, codes.shape[1])
            wav = torch.cat([decoder.decode(codes), decoder.flush()], dim=1)
        wav = wav[:, :num_samples]
        return wav[0] if alone else wav

    def resynthesise(self, wav: Wave, bitrate_kbps: float | None = None) -> Tensor:
        """Code and decode; the result has the shape of the input, ``(N,)`` or ``(B, N)``."""
        decoded = self.decode(self.encode(wav, bitrate_kbps), num_samples=wav.shape[-1])
        return decoded[0] if wav.ndim == 1 else decoded

    def streaming(self, batch_size: int = 1) -> CodecStream:
        """Return a stream that encodes and decodes while the sound comes.

        Args:
            batch_size: Recordings side by side.
        """
        return CodecStream(self.folded, batch_size, self.generator.bitrates[-1])

    def _as_batch(self, wav: Wave) -> Tensor:
        wav = torch.as_tensor(wav)
        if wav.dtype == torch.int16:
            wav = wav.float() / 32768
        if wav.dim() not in (1, 2) or wav.shape[-1] == 0 or not wav.is_floating_point():
            allowed = "(samples,) or (batch, samples), float in [-1, 1] or int16, one sample or more"
            raise DataError(describe("sound has a wrong shape or type", (tuple(wav.shape), str(wav.dtype)), allowed))
        if not torch.isfinite(wav).all():
            raise DataError("the sound holds values that are not finite; fix: read the file again")
        return (wav if wav.dim() == 2 else wav[None]).to(self.device, torch.float32)


def generator_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the codec's own tensors from those of a training, a pack or the codec alone, without prefix."""
    own = {name: each for name, each in state.items() if name.startswith(GENERATOR_PREFIX)}
    return {name.removeprefix(GENERATOR_PREFIX): each for name, each in own.items()} if own else state


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MissingDataError(describe("no model here", got=str(path), fix="run stage 5 (train) or 9 (pack)"))
    try:
        config = read_yaml(path)
    except yaml.YAMLError as error:
        raise DataError(f"{path} is no configuration of a codec ({error})") from error
    if not isinstance(config, dict):
        raise DataError(describe(f"{path} is no configuration of a codec", got=type(config).__name__))
    if "token_list" in config:
        raise UsageError(describe(f"{path} is of a recogniser", fix="use espnet_av.avsr.inference.AVSR"))
    return config
