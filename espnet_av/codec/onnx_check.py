# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""ONNX graphs of codecs from elsewhere: looked at before a runtime gets them.

A runtime reads files that a graph names, runs loops without end, and works constants out while it loads, however large.
So a graph may hold only operators that the export writes, with its numbers in the file itself, and all shapes must be
known and small.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espnet_av.utils.errors import CheckpointError, describe
from espnet_av.utils.optional import require

OPERATORS = frozenset(
    "Add And ArgMax Cast Concat Conv ConvTranspose Elu Gather GreaterOrEqual Identity Less MatMul Mul Slice Sub Sum "
    "Tanh Transpose Unsqueeze".split()
)
MAX_FILE_BYTES = 1 << 30
MAX_NODES = 20_000
MAX_VALUES = 1 << 28  # of all results of one frame together
#: Whole numbers in the metadata: name -> smallest and largest.
NUMBERS = {"num_quantizers": (1, 256), "hop_length": (1, 1 << 20), "delay_steps": (0, 1 << 20)}
BATCH = "batch"


def read_graph(path: str | os.PathLike, batch_size: int = 1) -> bytes:
    """Return the content of a file that holds the graph of a codec, fit for a runtime.

    Args:
        path: The file.
        batch_size: Recordings side by side.

    Raises:
        EnvironmentProblem: The package ``onnx`` is missing.
        CheckpointError: It is damaged, no graph of a codec, or one that could do harm.
    """
    onnx = require("onnx", "codec")
    size = Path(path).stat().st_size if Path(path).is_file() else 0
    if size > MAX_FILE_BYTES:
        raise CheckpointError(describe(f"{path} is no graph of a codec", f"{size} bytes", f"{MAX_FILE_BYTES} at most"))
    try:
        content = Path(path).read_bytes()
        model = onnx.load_model_from_string(content)
        _check_parts(onnx, model)
        shapes = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        _check_sizes(shapes.graph, batch_size)
        _check_numbers({entry.key: entry.value for entry in model.metadata_props})
    except Exception as error:  # protobuf and onnx have classes of their own, some of them private
        raise CheckpointError(f"{path} is damaged or no ONNX graph of a codec ({str(error)[:500]})") from error
    return content


def _check_parts(onnx: Any, model: Any) -> None:
    """Refuse what the export does not write."""
    graph = model.graph
    if model.functions or model.training_info or graph.sparse_initializer or graph.quantization_annotation:
        raise ValueError("it holds more than operators and numbers")
    if [entry.domain for entry in model.opset_import] != [""]:
        raise ValueError("it names operators of somebody else")
    if len(graph.node) > MAX_NODES:
        raise ValueError(f"it has {len(graph.node)} operators; allowed: {MAX_NODES}")
    for node in graph.node:
        if node.domain or node.op_type not in OPERATORS:
            raise ValueError(f"it has an operator {node.op_type}; allowed: {', '.join(sorted(OPERATORS))}")
        for attribute in node.attribute:
            if attribute.HasField("t") or attribute.HasField("g") or attribute.graphs or attribute.tensors:
                raise ValueError(f"operator {node.name} holds a graph or numbers")
    for tensor in graph.initializer:
        if tensor.data_location != onnx.TensorProto.DEFAULT or tensor.external_data:
            raise ValueError(f"the numbers of {tensor.name} are in another file")


def _check_sizes(graph: Any, batch_size: int) -> None:
    """Refuse results of unknown or large shapes; ``graph`` comes from the inference of shapes."""
    known = {}
    for value in (*graph.input, *graph.output, *graph.value_info):
        kind = value.type.tensor_type
        if not kind.HasField("shape"):
            raise ValueError(f"the shape of {value.name} is not known")
        known[value.name] = _size([_length(axis, batch_size) for axis in kind.shape.dim])
    for tensor in graph.initializer:
        known[tensor.name] = _size(tensor.dims)
    total = 0
    for node in graph.node:
        for name in node.output:
            if name not in known:
                raise ValueError(f"the shape of {name} is not known")
            total += known[name]
    total += sum(known[value.name] for value in graph.input)
    if total > MAX_VALUES:
        raise ValueError(f"it needs {total} values for a frame; allowed: {MAX_VALUES}")


def _length(axis: Any, batch_size: int) -> int:
    if axis.HasField("dim_value"):
        return int(axis.dim_value)
    return batch_size if axis.dim_param == BATCH else -1


def _size(shape: Any) -> int:
    size = 1
    for length in shape:
        if not 0 <= length <= MAX_VALUES:
            raise ValueError(f"a shape {list(shape)}")
        size = min(size * length, 2 * MAX_VALUES)
    return size


def _check_numbers(facts: Mapping[str, str]) -> None:
    for name, (least, most) in NUMBERS.items():
        text = facts.get(name, "")
        if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
            raise ValueError(f"{name} of its metadata is {text[:40]!r}; allowed: {least} to {most}")
