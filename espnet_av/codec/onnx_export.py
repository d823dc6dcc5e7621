# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Encoder and decoder as ONNX graphs that take one frame at a time, for devices without Python or torch.

Both graphs have the same form. Inputs: the frame (``audio`` or ``codes``), ``frame`` (its number, from 0), ``end``
(the number of frames of the recording, :data:`NOT_YET` while that is not known), and ``state.<i>``, zeros at first.
Outputs: ``codes`` and ``latent``, or ``audio``, and ``next.<i>``, the states of the next frame. After the last frame,
frames of zeros (codes of -1) with ``end`` set bring out what is still inside. Outputs are late by ``delay_steps`` of
the metadata, which also name the model as bitstreams do. In ``codes`` for the decoder -1 is a layer that was not sent.

The graphs are put together operator by operator from the folded codec, so that no shape of an example is frozen in
them; the number of recordings side by side is free.

Axes: ``B`` batch, ``C`` channels, ``D`` width of the latent, ``H`` steps of history, ``Q`` layers, ``T`` steps.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from espnet_av.codec.deploy import Activation, Conv, FoldedCodec, Residual, Step, Upsample
from espnet_av.codec.onnx_check import read_graph
from espnet_av.utils.errors import CheckpointError, describe, usage_error
from espnet_av.utils.files import atomic_write
from espnet_av.utils.optional import require

OPSET = 17
NOT_YET = 2**40
UNUSED = -1
FILES = {"encoder": "encoder.onnx", "decoder": "decoder.onnx"}


@dataclass(frozen=True)
class _Signal:
    """A tensor ``(B, C, T)`` of the graph that is late by ``delay`` steps."""

    name: str
    channels: int
    length: int
    delay: int


class _Graph:
    """Collects the operators of a graph."""

    def __init__(self) -> None:
        self._onnx = require("onnx", "codec")
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.states: list[tuple[str, str, int, int]] = []
        self._names: dict[tuple, str] = {}
        self.frames_ahead = 0  # looks ahead of layers that are still to come

    def add(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """Add an operator and return the name of its result."""
        name = out or f"{kind.lower()}.{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(kind, inputs, [name], name=f"node.{name}", **attributes))
        return name

    def put(self, value: Any, dtype: Any = np.float32) -> str:
        """Add a constant."""
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        array = np.asarray(array, dtype=dtype, order="C")
        key = (array.tobytes(), array.shape, array.dtype.str) if array.size < 64 else ()
        if key and key in self._names:
            return self._names[key]
        name = f"constant.{len(self.constants)}"
        self.constants.append(self._onnx.numpy_helper.from_array(array, name))
        if key:
            self._names[key] = name
        return name

    def cut(self, x: str, first: int, last: int) -> str:
        """Return steps ``first`` to ``last`` of ``x``."""
        return self.add("Slice", x, *(self.put([value], np.int64) for value in (first, last, 2)))

    def remember(self, x: _Signal, history: int) -> str:
        """Return ``x`` with ``history`` earlier steps before it."""
        if not history:
            return x.name
        index = len(self.states)
        state, following = f"state.{index}", f"next.{index}"
        joined = self.add("Concat", state, x.name, axis=2)
        bounds = (self.put([value], np.int64) for value in (x.length, x.length + history, 2))
        self.add("Slice", joined, *bounds, out=following)
        self.states.append((state, following, x.channels, history))
        return joined

    def mask(self, x: _Signal) -> _Signal:
        """Set what lies outside the recording to zero, where a later step could see it."""
        if not x.delay and not self.frames_ahead:
            return x
        key = ("mask", x.length, x.delay, bool(self.frames_ahead))
        if key not in self._names:
            self._names[key] = self._make_mask(x.length, x.delay, bool(self.frames_ahead))
        return _Signal(self.add("Mul", x.name, self._names[key]), x.channels, x.length, x.delay)

    def _make_mask(self, length: int, delay: int, with_end: bool) -> str:
        scale = self.put([length], np.int64)
        offsets = self.put(np.arange(length) - delay, np.int64)
        times = self.add("Add", self.add("Mul", "frame", scale), offsets)
        inside = self.add("GreaterOrEqual", times, self.put([0], np.int64))
        if with_end:
            inside = self.add("And", inside, self.add("Less", times, self.add("Mul", "end", scale)))
        return self.add("Cast", inside, to=self._onnx.TensorProto.FLOAT)

    def convolve(self, x: _Signal, layer: Conv, *, active: bool = True) -> _Signal:
        """Convolve the activation of ``x``, or ``x`` itself; the result is not masked."""
        wait = -x.delay % layer.stride
        if active:
            x = _Signal(self.add("Elu", x.name), x.channels, x.length, x.delay)
        joined = self.remember(x, layer.left + layer.right + wait)
        out = self.add(
            "Conv",
            joined,
            self.put(layer.weight),
            self.put(layer.bias),
            kernel_shape=[layer.weight.shape[2]],
            strides=[layer.stride],
            dilations=[layer.dilation],
        )
        self.frames_ahead -= layer.right
        delay = (x.delay + wait + layer.right) // layer.stride
        return _Signal(out, layer.weight.shape[0], x.length // layer.stride, delay)

    def upsample(self, x: _Signal, layer: Upsample) -> _Signal:
        """Upsample the activation of ``x``."""
        out = self.add(
            "ConvTranspose",
            self.add("Elu", x.name),
            self.put(layer.weight),
            self.put(layer.bias),
            kernel_shape=[layer.stride],
            strides=[layer.stride],
        )
        return _Signal(out, layer.weight.shape[1], x.length * layer.stride, x.delay * layer.stride)

    def add_residual(self, x: _Signal, unit: Residual) -> _Signal:
        """Add the branch of a residual unit."""
        hidden = self.convolve(x, unit.first)
        if unit.second.weight.shape[2] > 1:
            hidden = self.mask(hidden)
        branch = self.convolve(hidden, unit.second)
        skip = self.cut(self.remember(x, unit.right), 0, x.length) if unit.right else x.name
        return self.mask(_Signal(self.add("Add", skip, branch.name), x.channels, x.length, branch.delay))

    def run(self, steps: tuple[Step, ...], x: _Signal) -> _Signal:
        """Add a network."""
        self.frames_ahead = sum(step.right for step in steps if isinstance(step, (Conv, Residual)))
        active = False
        for step in steps:
            if isinstance(step, Residual):
                x = self.add_residual(x, step)
            elif isinstance(step, Conv):
                x = self.mask(self.convolve(x, step, active=active))
            elif isinstance(step, Upsample):
                x = self.mask(self.upsample(x, step))
            elif step.kind == "tanh":
                x = _Signal(self.add("Tanh", x.name), x.channels, x.length, x.delay)
            active = isinstance(step, Activation) and step.kind == "elu"
        return x

    def finish(self, name: str, inputs: list, outputs: list, codec: FoldedCodec, delay: int) -> Any:
        """Return the model."""
        helper, kinds = self._onnx.helper, self._onnx.TensorProto
        make = helper.make_tensor_value_info
        counters = [make(counter, kinds.INT64, [1]) for counter in ("frame", "end")]
        states = [make(state, kinds.FLOAT, ["batch", *sizes]) for state, _, *sizes in self.states]
        following = [make(after, kinds.FLOAT, ["batch", *sizes]) for _, after, *sizes in self.states]
        graph = helper.make_graph(
            self.nodes, f"codec_{name}", [*inputs, *counters, *states], [*outputs, *following], self.constants
        )
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, producer_name="espnet_av", ir_version=9)
        facts = {
            "part": name,
            "digest": codec.digest,
            "sample_rate": codec.sample_rate,
            "hop_length": codec.hop_length,
            "num_quantizers": codec.num_quantizers,
            "codebook_size": codec.codebook_size,
            "delay_steps": delay,
        }
        helper.set_model_props(model, {key: str(value) for key, value in facts.items()})
        self._onnx.checker.check_model(model, full_check=True)
        return model


def make_encoder(codec: FoldedCodec) -> Any:
    """Return the graph from ``audio (B, 1, hop_length)`` to ``codes (Q, B, 1)`` and ``latent (B, D, 1)``."""
    graph = _Graph()
    latent = graph.run(codec.encoder, _Signal("audio", 1, codec.hop_length, 0))
    graph.add("Identity", latent.name, out="latent")
    quantizer = codec.quantizer
    residual, codes = graph.add("Transpose", latent.name, perm=[0, 2, 1]), []
    new_axis = graph.put([0], np.int64)
    for index in range(codec.num_quantizers):
        x = residual
        if quantizer.projects:
            weight, bias = graph.put(quantizer.project_in[index].T), graph.put(quantizer.project_bias[index])
            x = graph.add("Add", graph.add("MatMul", x, weight), bias)
        book = quantizer.codebooks[index]
        products = graph.add("MatMul", x, graph.put(2 * book.T))
        scores = graph.add("Sub", products, graph.put(book.square().sum(1)))
        best = graph.add("ArgMax", scores, axis=2, keepdims=0)
        codes.append(graph.add("Unsqueeze", best, new_axis))
        if index + 1 < codec.num_quantizers:
            entry = graph.add("Gather", graph.put(quantizer.tables[index]), best, axis=0)
            residual = graph.add("Sub", residual, entry)
    graph.add("Concat", *codes, out="codes", axis=0)
    make, kinds = graph._onnx.helper.make_tensor_value_info, graph._onnx.TensorProto
    inputs = [make("audio", kinds.FLOAT, ["batch", 1, codec.hop_length])]
    outputs = [
        make("codes", kinds.INT64, [codec.num_quantizers, "batch", 1]),
        make("latent", kinds.FLOAT, ["batch", codec.latent_dim, 1]),
    ]
    return graph.finish("encoder", inputs, outputs, codec, latent.delay)


def make_decoder(codec: FoldedCodec) -> Any:
    """Return the graph from ``codes (Q, B, 1)`` to ``audio (B, 1, hop_length)``."""
    graph = _Graph()
    entries = []
    for index, table in enumerate(codec.quantizer.tables):
        indices = graph.add("Gather", "codes", graph.put(index, np.int64), axis=0)
        rows = np.concatenate([table.cpu().numpy(), np.zeros((1, codec.latent_dim), np.float32)])  # -1: nothing
        entries.append(graph.add("Gather", graph.put(rows), indices, axis=0))
    total = graph.add("Sum", *entries)
    latent = _Signal(graph.add("Transpose", total, perm=[0, 2, 1]), codec.latent_dim, 1, 0)
    audio = graph.run(codec.decoder, latent)
    graph.add("Identity", audio.name, out="audio")
    make, kinds = graph._onnx.helper.make_tensor_value_info, graph._onnx.TensorProto
    inputs = [make("codes", kinds.INT64, [codec.num_quantizers, "batch", 1])]
    outputs = [make("audio", kinds.FLOAT, ["batch", 1, codec.hop_length])]
    return graph.finish("decoder", inputs, outputs, codec, audio.delay)


def export_onnx(codec: FoldedCodec, folder: str | os.PathLike) -> dict[str, Path]:
    """Write both graphs.

    Returns:
        Their files, ``encoder`` and ``decoder``.

    Raises:
        EnvironmentProblem: The package ``onnx`` is missing.
    """
    made = {"encoder": make_encoder(codec), "decoder": make_decoder(codec)}
    for part, model in made.items():
        with atomic_write(Path(folder) / FILES[part], "wb") as stream:
            stream.write(model.SerializeToString())
    return {part: Path(folder) / name for part, name in FILES.items()}


class OnnxFrames:
    """Run one of the graphs with onnxruntime, frame by frame.

    Args:
        path: The file.
        batch_size: Recordings side by side.
        num_threads: CPU threads.

    Attributes:
        facts: Metadata of the graph.
        delay: Steps by which the output is late: frames of the encoder, samples of the decoder.

    Raises:
        EnvironmentProblem: The package ``onnx`` or ``onnxruntime`` is missing.
        CheckpointError: The file is damaged, no graph of a codec, or one that could do harm.
    """

    def __init__(self, path: str | os.PathLike, batch_size: int = 1, num_threads: int = 1) -> None:
        runtime = require("onnxruntime", "codec")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = num_threads
        content = read_graph(path, batch_size)
        try:
            self._session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library's own classes are private
            raise CheckpointError(f"{path} is damaged or no ONNX graph ({error})") from error
        self.facts = dict(self._session.get_modelmeta().custom_metadata_map)
        if self.facts.get("part") not in FILES:
            raise CheckpointError(describe(f"{path} is no graph of a codec", got=self.facts.get("part")))
        self._input = "audio" if self.facts["part"] == "encoder" else "codes"
        self._output = "codes" if self.facts["part"] == "encoder" else "audio"
        self._layers, self._hop = int(self.facts["num_quantizers"]), int(self.facts["hop_length"])
        self.delay, self._batch_size = int(self.facts["delay_steps"]), batch_size
        names = [each for each in self._session.get_inputs() if each.name.startswith("state.")]
        self._shapes = [(batch_size, *each.shape[1:]) for each in names]
        following = [f"next.{index}" for index in range(len(names))]
        self._wanted, self._names = [self._output, *following], [each.name for each in names]
        self.reset()

    def reset(self) -> None:
        """Forget the recording."""
        self._feed = {name: np.zeros(shape, np.float32) for name, shape in zip(self._names, self._shapes, strict=True)}
        self._feed |= {"frame": np.zeros(1, np.int64), "end": np.full(1, NOT_YET)}

    def run(self, frame: np.ndarray) -> np.ndarray:
        """Take one frame, ``audio (B, 1, hop_length)`` or ``codes (Q, B, 1)``; return one, late by :attr:`delay`."""
        if self._input == "codes" and len(frame) < self._layers:
            missing = np.full((self._layers - len(frame), *frame.shape[1:]), UNUSED, np.int64)
            frame = np.concatenate([frame, missing])
        self._feed[self._input] = frame
        first, *states = self._session.run(self._wanted, self._feed)
        self._feed.update(zip(self._names, states, strict=True))
        self._feed["frame"] = self._feed["frame"] + 1
        return first

    def flush(self) -> list[np.ndarray]:
        """End the recording; return the frames that bring out what is left, and start anew."""
        per_frame = 1 if self._output == "codes" else self._hop
        self._feed["end"] = self._feed["frame"].copy()
        if self._input == "audio":
            silence = np.zeros((self._batch_size, 1, self._hop), np.float32)
        else:
            silence = np.full((self._layers, self._batch_size, 1), UNUSED, np.int64)
        frames = [self.run(silence) for _ in range(-(-self.delay // per_frame))]
        self.reset()
        return frames

    def run_all(self, signal: np.ndarray) -> np.ndarray:
        """Run a whole recording of whole frames, the delay taken off.

        Args:
            signal: ``audio (B, 1, hop_length F)`` or ``codes (Q, B, F)``.

        Returns:
            ``codes (Q, B, F)`` or ``audio (B, 1, hop_length F)``.
        """
        size = self._hop if self._input == "audio" else 1
        if signal.shape[2] % size:
            usage_error("the recording must be whole frames", got=signal.shape[2], allowed=f"multiples of {size}")
        pieces = [signal[..., start : start + size] for start in range(0, signal.shape[2], size)]
        out = [self.run(np.ascontiguousarray(piece)) for piece in pieces] + self.flush()
        return np.concatenate(out, axis=2)[..., self.delay :][..., : len(pieces) * (self._hop if size == 1 else 1)]
