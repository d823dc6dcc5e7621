# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The codec as it is shipped: plain weights without weight norm, the quantiser as tables, nothing that trains.

:func:`fold` turns a generator into a :class:`FoldedCodec`: lists of steps that say themselves how far they look back
and ahead. Streaming, ONNX export, the count of operations and the latency all read these lists, so that they cannot
disagree about what the network does. The projections behind the codebooks are folded into one table of vectors for
each layer: decoding is one addition per layer, and encoding subtracts the same vectors.

Axes: ``B`` batch, ``C`` channels, ``D`` width of the latent, ``d`` width of a codebook, ``F`` frames, ``K`` entries of
a codebook, ``Q`` layers of the quantiser, ``T`` steps.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.utils.errors import CheckpointError, describe, usage_error
from espnet_av.utils.files import atomic_write
from espnet_av.utils.optional import require
from espnet_av.utils.untrusted import parse_json

if TYPE_CHECKING:
    from espnet_av.codec.generator import CodecGenerator
    from espnet_av.codec.quantizer import ResidualVectorQuantizer
    from espnet_av.codec.seanet import Conv1d

FORMAT = "espnet_av.codec.deploy"
FORMAT_VERSION = 1
DIGEST_BYTES = 16
LOG2_E = 1.4426950408889634


def elu(x: Tensor) -> Tensor:
    """Return the ELU of ``x``.

    On the CPU and without gradients as ``max(x, 2^(min(x, 0) log2 e) - 1)``, the same within 1e-7: these operators are
    vectorised, which the built-in one is not, and it takes most of the time of a codec.
    """
    if x.device.type != "cpu" or (torch.is_grad_enabled() and x.requires_grad):
        return F.elu(x)
    below = x.clamp_max(0).mul_(LOG2_E).exp2_().sub_(1)
    return torch.maximum(x, below, out=below)


@dataclass(frozen=True)
class Conv:
    """A convolution.

    Attributes:
        weight: ``(C', C, k)``.
        bias: ``(C',)``.
        stride: Step.
        dilation: Distance between taps.
        left: Steps it looks back.
        right: Steps it looks ahead.
    """

    weight: Tensor
    bias: Tensor
    stride: int
    dilation: int
    left: int
    right: int

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``(B, C', ceil(T / stride))`` for ``(B, C, T)``."""
        extra = -x.shape[-1] % self.stride
        padded = F.pad(x, (self.left, self.right + extra))
        return F.conv1d(padded, self.weight, self.bias, self.stride, 0, self.dilation)


@dataclass(frozen=True)
class Upsample:
    """A transposed convolution without overlap.

    Attributes:
        weight: ``(C, C', stride)``.
        bias: ``(C',)``.
        stride: Output steps of an input step.
    """

    weight: Tensor
    bias: Tensor
    stride: int

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``(B, C', stride * T)`` for ``(B, C, T)``."""
        return F.conv_transpose1d(x, self.weight, self.bias, self.stride)


@dataclass(frozen=True)
class Residual:
    """``x + second(ELU(first(ELU(x))))``."""

    first: Conv
    second: Conv

    @property
    def right(self) -> int:
        """Steps that an output sees ahead."""
        return self.first.right + self.second.right

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``(B, C, T)`` for ``(B, C, T)``."""
        return x + self.second(elu(self.first(elu(x))))


@dataclass(frozen=True)
class Activation:
    """``elu`` or ``tanh``."""

    kind: str

    def __call__(self, x: Tensor) -> Tensor:
        """Return the activation of ``x``."""
        return elu(x) if self.kind == "elu" else torch.tanh(x)


Step = Conv | Upsample | Residual | Activation


@dataclass(frozen=True)
class Layer:
    """A layer with the place where it works.

    Attributes:
        name: As in the network, e.g. ``model.3.block.1``.
        step: A :class:`Conv` or :class:`Upsample`.
        rate_in: Steps per second that it reads.
        rate_out: Steps per second that it gives.
    """

    name: str
    step: Conv | Upsample
    rate_in: float
    rate_out: float


@dataclass(frozen=True)
class FoldedQuantizer:
    """The residual quantiser.

    Attributes:
        project_in: ``(Q, d, D)``.
        project_bias: ``(Q, d)``.
        codebooks: ``(Q, K, d)``.
        tables: What an index adds to the latent, ``(Q, K, D)``.
        projects: Whether there are projections; without them ``d`` is ``D`` and ``project_in`` the identity.
    """

    project_in: Tensor
    project_bias: Tensor
    codebooks: Tensor
    tables: Tensor
    projects: bool = True

    def encode(self, latent: Tensor, num_quantizers: int | None = None) -> Tensor:
        """Return codes ``(Q, B, F)`` for ``(B, D, F)``."""
        residual, codes = latent.transpose(1, 2), []
        for index in range(num_quantizers or len(self.tables)):
            x = residual @ self.project_in[index].T + self.project_bias[index]
            book = self.codebooks[index]
            codes.append((2 * (x @ book.T) - book.square().sum(1)).argmax(-1))
            residual = residual - self.tables[index][codes[-1]]
        return torch.stack(codes)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the latent ``(B, D, F)`` of codes ``(Q, B, F)``."""
        parts = (table[indices] for table, indices in zip(self.tables, codes, strict=False))
        return sum(parts, torch.zeros(())).transpose(1, 2)


@dataclass(frozen=True)
class FoldedCodec:
    """A codec that only runs.

    Attributes:
        encoder: Steps from waveform to latent.
        decoder: Steps from latent to waveform.
        quantizer: Between the two.
        sample_rate: In Hz.
        hop_length: Samples of a frame.
        digest: Names the codebooks, 32 hex digits; see :func:`model_digest`.
    """

    encoder: tuple[Step, ...]
    decoder: tuple[Step, ...]
    quantizer: FoldedQuantizer
    sample_rate: int
    hop_length: int
    digest: str

    @property
    def num_quantizers(self) -> int:
        """Layers of the quantiser."""
        return len(self.quantizer.tables)

    @property
    def codebook_size(self) -> int:
        """Entries of a codebook."""
        return self.quantizer.codebooks.shape[1]

    @property
    def latent_dim(self) -> int:
        """Width of the latent."""
        return self.quantizer.tables.shape[2]

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    @property
    def bits_per_code(self) -> int:
        """Bits of an index."""
        return math.ceil(math.log2(self.codebook_size))

    @torch.no_grad()
    def encode(self, wav: Tensor, num_quantizers: int | None = None) -> Tensor:
        """Return codes ``(Q, B, ceil(T / hop_length))`` for ``(B, 1, T)``."""
        return self.quantizer.encode(run_steps(self.encoder, wav), num_quantizers)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Return the waveform ``(B, 1, hop_length * F)`` of codes ``(Q, B, F)``."""
        return run_steps(self.decoder, self.quantizer.decode(codes))

    def tensors(self) -> dict[str, Tensor]:
        """Return all weights by name."""
        found = {f"quantizer.{name}": getattr(self.quantizer, name) for name in _QUANTIZER_TENSORS}
        for part in ("encoder", "decoder"):
            for layer in walk_layers(getattr(self, part), 1.0):
                found[f"{part}.{layer.name}.weight"] = layer.step.weight
                found[f"{part}.{layer.name}.bias"] = layer.step.bias
        return found


_QUANTIZER_TENSORS = ("project_in", "project_bias", "codebooks", "tables")


def run_steps(steps: tuple[Step, ...], x: Tensor) -> Tensor:
    """Run steps over a whole recording ``(B, C, T)``."""
    for step in steps:
        x = step(x)
    return x


def walk_layers(steps: Sequence[Step], rate: float) -> Iterator[Layer]:
    """Yield convolutions in order, those within residual units as well.

    Args:
        steps: Of an encoder or decoder.
        rate: Steps per second of its input.
    """
    for index, step in enumerate(steps):
        if isinstance(step, Residual):
            yield Layer(f"model.{index}.block.1", step.first, rate, rate)
            yield Layer(f"model.{index}.block.3", step.second, rate, rate)
        elif isinstance(step, Conv):
            yield Layer(f"model.{index}", step, rate, rate / step.stride)
            rate /= step.stride
        elif isinstance(step, Upsample):
            yield Layer(f"model.{index}", step, rate, rate * step.stride)
            rate *= step.stride


@torch.no_grad()
def fold(generator: "CodecGenerator") -> FoldedCodec:
    """Return a generator as plain weights; the generator stays as it is.

    Args:
        generator: A :class:`~espnet_av.codec.generator.CodecGenerator`.
    """
    quantizer = generator.quantizer
    return FoldedCodec(
        encoder=_fold_network(generator.encoder.model),
        decoder=_fold_network(generator.decoder.model),
        quantizer=_fold_quantizer(quantizer),
        sample_rate=int(generator.sample_rate),
        hop_length=int(generator.hop_length),
        digest=model_digest(quantizer),
    )


def model_digest(quantizer: "ResidualVectorQuantizer") -> str:
    """Return the name of a model in bitstreams: SHA-256 of codebooks and output projections, the first 16 bytes as hex.

    Two models that give the same meaning to an index have the same name; further training of the decoder alone keeps
    it.
    """
    digest = hashlib.sha256()
    for layer in quantizer.layers:
        parts = [layer.codebook]
        if isinstance(layer.project_out, nn.Linear):
            parts += [layer.project_out.weight, layer.project_out.bias]
        for part in parts:
            digest.update(part.detach().to("cpu", torch.float32).contiguous().numpy().astype("<f4").tobytes())
    return digest.digest()[:DIGEST_BYTES].hex()


def _fold_network(layers: nn.Sequential) -> tuple[Step, ...]:
    from espnet_av.codec import seanet

    steps: list[Step] = []
    for layer in layers:
        if isinstance(layer, seanet.Conv1d):
            steps.append(_fold_conv(layer))
        elif isinstance(layer, seanet.ResidualUnit):
            first, second = layer.convolutions
            steps.append(Residual(_fold_conv(first), _fold_conv(second)))
        elif isinstance(layer, seanet.Upsample):
            steps.append(Upsample(*_plain(layer.layer), layer.stride))
        elif isinstance(layer, (nn.ELU, nn.Tanh)):
            steps.append(Activation("elu" if isinstance(layer, nn.ELU) else "tanh"))
        else:
            usage_error("a layer cannot be folded", got=type(layer).__name__)
    return tuple(steps)


def _fold_conv(layer: "Conv1d") -> Conv:
    stride, dilation = layer.stride, layer.layer.dilation[0]
    return Conv(*_plain(layer.layer), stride, dilation, layer.left_padding, layer.right_context)


def _plain(layer: nn.Linear | nn.Conv1d | nn.ConvTranspose1d) -> tuple[Tensor, Tensor]:
    return layer.weight.detach().clone(), layer.get_parameter("bias").detach().clone()


def _fold_quantizer(quantizer: "ResidualVectorQuantizer") -> FoldedQuantizer:
    weights, biases = [], []
    for layer in quantizer.layers:
        book = layer.codebook
        linear = layer.project_in
        identity = torch.eye(book.shape[1]).to(book), book.new_zeros(book.shape[1])
        weight, bias = _plain(linear) if isinstance(linear, nn.Linear) else identity
        weights.append(weight)
        biases.append(bias)
    codebooks = torch.stack([layer.codebook.detach() for layer in quantizer.layers])
    projects = isinstance(quantizer.layers[0].project_in, nn.Linear)
    tables = quantizer.tables().detach().clone()
    return FoldedQuantizer(torch.stack(weights), torch.stack(biases), codebooks, tables, projects)


def save_folded(codec: FoldedCodec, path: str | os.PathLike) -> Path:
    """Write a folded codec as one ``.safetensors`` file; its header says how the steps are connected."""
    files = require("safetensors.torch", "train")
    structure = {
        "version": FORMAT_VERSION,
        "sample_rate": codec.sample_rate,
        "hop_length": codec.hop_length,
        "digest": codec.digest,
        "projects": codec.quantizer.projects,
        "encoder": [_step_facts(step) for step in codec.encoder],
        "decoder": [_step_facts(step) for step in codec.decoder],
    }
    tensors = {name: tensor.cpu().contiguous() for name, tensor in codec.tensors().items()}
    metadata = {"format": FORMAT, "codec": json.dumps(structure)}
    with atomic_write(path, "wb") as stream:
        stream.write(files.save(tensors, metadata))
    return Path(path)


def _step_facts(step: Step) -> dict[str, Any]:
    if isinstance(step, Residual):
        return {"kind": "residual", "first": _step_facts(step.first), "second": _step_facts(step.second)}
    if isinstance(step, Conv):
        names = ("stride", "dilation", "left", "right")
        return {"kind": "conv", **{name: getattr(step, name) for name in names}}
    if isinstance(step, Upsample):
        return {"kind": "upsample", "stride": step.stride}
    return {"kind": step.kind}


def load_folded(path: str | os.PathLike) -> FoldedCodec:
    """Read what :func:`save_folded` wrote.

    Raises:
        CheckpointError: The file is damaged or holds something else.
    """
    files = require("safetensors", "train")
    try:
        with files.safe_open(str(path), framework="pt") as stream:
            metadata = stream.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(describe(f"{path} is no folded codec", got=metadata.get("format")))
            structure = parse_json(metadata["codec"])
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (no mapping)
        if structure["version"] != FORMAT_VERSION:
            got, fix = structure["version"], "export the model again with this version"
            raise CheckpointError(describe(f"{path}: unknown version", got=got, allowed=FORMAT_VERSION, fix=fix))
        parts = {name: tensors[f"quantizer.{name}"] for name in _QUANTIZER_TENSORS}
        return FoldedCodec(
            encoder=_read_steps(structure["encoder"], tensors, "encoder"),
            decoder=_read_steps(structure["decoder"], tensors, "decoder"),
            quantizer=FoldedQuantizer(**parts, projects=structure["projects"]),
            sample_rate=int(structure["sample_rate"]),
            hop_length=int(structure["hop_length"]),
            digest=structure["digest"],
        )
    except (KeyError, TypeError, ValueError, OSError, files.SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged or no folded codec ({error})") from error


def _read_steps(facts: list[dict[str, Any]], tensors: dict[str, Tensor], part: str) -> tuple[Step, ...]:
    return tuple(_read_step(fact, tensors, f"{part}.model.{index}") for index, fact in enumerate(facts))


def _read_step(facts: dict[str, Any], tensors: dict[str, Tensor], name: str) -> Step:
    kind = facts["kind"]
    if kind == "residual":
        first = _read_conv(facts["first"], tensors, f"{name}.block.1")
        return Residual(first, _read_conv(facts["second"], tensors, f"{name}.block.3"))
    if kind == "conv":
        return _read_conv(facts, tensors, name)
    if kind == "upsample":
        return Upsample(tensors[f"{name}.weight"], tensors[f"{name}.bias"], **_read_sizes(facts))
    if kind not in ("elu", "tanh"):
        raise ValueError(f"unknown step {kind}")
    return Activation(kind)


def _read_conv(facts: dict[str, Any], tensors: dict[str, Tensor], name: str) -> Conv:
    return Conv(tensors[f"{name}.weight"], tensors[f"{name}.bias"], **_read_sizes(facts))


def _read_sizes(facts: dict[str, Any]) -> dict[str, int]:
    return {key: int(value) for key, value in facts.items() if key != "kind"}
