# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""ONNX graphs made to do harm: none gets to a runtime."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from fuzz_inputs import limits

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "espnet_av"))
from codec_graphs import make_graphs

from espnet_av.codec.onnx_check import MAX_VALUES, OPERATORS
from espnet_av.codec.onnx_export import OnnxFrames
from espnet_av.utils.errors import CheckpointError

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
helper, numpy_helper = onnx.helper, onnx.numpy_helper
FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The graphs of a small codec."""
    return make_graphs(tmp_path_factory.mktemp("graphs"))


@pytest.fixture
def assert_refused(good, tmp_path, monkeypatch):
    """Return a function that changes the decoder and wants it to be refused before the runtime sees it."""

    def fail(*_, **__):
        raise AssertionError("the runtime got it")

    def changed(how, words):
        model = onnx.load(str(good["decoder"]))
        how(model)
        path = tmp_path / "decoder.onnx"
        path.write_bytes(model.SerializeToString())
        with monkeypatch.context() as patch, limits(20.0, 512):
            patch.setattr(onnxruntime, "InferenceSession", fail)
            with pytest.raises(CheckpointError, match=words) as raised:
                OnnxFrames(path)
        assert str(path) in str(raised.value) and len(str(raised.value)) < 1000

    return changed


def put(model, name, array):
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))


def node(model, kind, inputs, output, **attributes):
    model.graph.node.append(helper.make_node(kind, inputs, [output], name=f"n.{output}", **attributes))


def test_the_graph_itself_is_taken(good):
    assert OnnxFrames(good["decoder"]).facts["part"] == "decoder"
    assert {each.op_type for path in good.values() for each in onnx.load(str(path)).graph.node} == OPERATORS


def test_numbers_in_a_file_of_this_machine(assert_refused):
    def how(model):
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", "/etc/passwd"), ("offset", "0"), ("length", "16")):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value

    assert_refused(how, "are in another file")


def test_constants_that_are_large_when_they_are_worked_out(assert_refused):
    def fill(model):
        put(model, "sizes", np.array([1 << 20, 1 << 20], np.int64))
        node(model, "ConstantOfShape", ["sizes"], "huge")

    def double(model):
        put(model, "first", np.zeros(1024, np.float32))
        for number in range(30):
            before = f"twice.{number - 1}" if number else "first"
            node(model, "Concat", [before, before], f"twice.{number}", axis=0)

    def spread(model):
        put(model, "row", np.zeros((1, 1 << 17), np.float32))
        put(model, "column", np.zeros((1 << 17, 1), np.float32))
        node(model, "Add", ["row", "column"], "plane")

    assert_refused(fill, "an operator ConstantOfShape")
    assert_refused(double, "a shape|values for a frame")
    assert_refused(spread, "values for a frame")


def test_loops_and_functions(assert_refused):
    def loop(model):
        put(model, "times", np.array(1 << 60, np.int64))
        body = helper.make_graph(
            [helper.make_node("Identity", ["on"], ["on.next"])], "body",
            [helper.make_tensor_value_info("i", INT64, []), helper.make_tensor_value_info("on", 9, [])],
            [helper.make_tensor_value_info("on.next", 9, [])],
        )  # fmt: skip
        node(model, "Loop", ["times", ""], "", body=body)

    def function(model):
        model.functions.append(
            helper.make_function("mine", "F", ["x"], ["y"], [helper.make_node("Elu", ["x"], ["y"])], [])
        )

    def domain(model):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))

    def of_somebody(model):
        model.graph.node[0].domain = "com.microsoft"

    def hidden_graph(model):
        model.graph.node[0].attribute.append(helper.make_attribute("body", helper.make_graph([], "g", [], [])))

    assert_refused(loop, "an operator Loop")
    assert_refused(function, "more than operators and numbers")
    assert_refused(domain, "operators of somebody else")
    assert_refused(of_somebody, "is damaged or no ONNX graph")
    assert_refused(hidden_graph, "holds a graph")


@pytest.mark.parametrize("name", ["num_quantizers", "hop_length", "delay_steps"])
@pytest.mark.parametrize("text", ["9" * 9, "9" * 5000, "-1", "x", "", "²", "1_0"])
def test_numbers_of_the_metadata(assert_refused, name, text):
    def how(model):
        next(entry for entry in model.metadata_props if entry.key == name).value = text

    assert_refused(how, f"{name} of its metadata is")


def test_shapes_that_are_unknown_or_huge(assert_refused):
    def huge(model):
        state = next(value for value in model.graph.input if value.name.startswith("state."))
        state.type.tensor_type.shape.dim[1].dim_value = 1 << 40

    def unknown(model):
        extra = helper.make_tensor_value_info("extra", FLOAT, ["other"])
        model.graph.input.append(extra)

    def none(model):
        model.graph.input.append(helper.make_tensor_value_info("extra", FLOAT, None))

    assert_refused(huge, "is damaged or no ONNX graph")
    assert_refused(unknown, "a shape")
    assert_refused(none, "is not known|no ONNX graph")


def test_many_recordings_side_by_side(good):
    with pytest.raises(CheckpointError, match="values for a frame|a shape"):
        OnnxFrames(good["decoder"], batch_size=MAX_VALUES // 100)


@pytest.mark.parametrize("content", [b"", b"x", b"\x08" * 1000, b"\xff" * 100, b"\x3a\xff\xff\xff\xff\x0f"])
def test_what_is_no_graph(tmp_path, content):
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match="a.onnx is damaged or no ONNX graph"):
        OnnxFrames(tmp_path / "a.onnx")


def test_a_folder_and_a_huge_file(tmp_path, good):
    with pytest.raises(CheckpointError):
        OnnxFrames(tmp_path)
    shutil.copy(good["decoder"], tmp_path / "a.onnx")
    os.truncate(tmp_path / "a.onnx", 1 << 40)
    with pytest.raises(CheckpointError, match="1099511627776 bytes"):
        OnnxFrames(tmp_path / "a.onnx")
