# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Exported graphs give what the codec gives. Graphs made to do harm are in test/trust/test_hostile_graphs.py."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from codec_graphs import make_codec

from espnet_av.codec.onnx_check import read_graph
from espnet_av.codec.onnx_export import OnnxFrames, export_onnx
from espnet_av.utils.errors import CheckpointError

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("batch_size", [1, 3])
def test_frames_side_by_side(tmp_path, batch_size):
    codec = make_codec()
    paths = export_onnx(codec.folded, tmp_path)
    hop = codec.folded.hop_length
    waves = torch.randn(batch_size, hop * 9)
    codes = OnnxFrames(paths["encoder"], batch_size).run_all(waves[:, None].numpy())
    wanted = codec.encode(waves, 0)
    assert codes.shape == tuple(wanted.shape)
    assert (codes == wanted.numpy()).mean() > 0.95  # but for ties
    audio = OnnxFrames(paths["decoder"], batch_size).run_all(wanted.numpy())
    np.testing.assert_allclose(audio[:, 0], codec.decode(wanted).numpy(), atol=1e-5)


def test_content_is_given_as_it_is_or_not_at_all(tmp_path):
    paths = export_onnx(make_codec().folded, tmp_path)
    assert read_graph(paths["encoder"]) == paths["encoder"].read_bytes()
    paths["encoder"].write_bytes(paths["encoder"].read_bytes()[:-50])
    with pytest.raises(CheckpointError, match=r"encoder\.onnx is damaged"):
        read_graph(paths["encoder"])
    with pytest.raises(CheckpointError, match="nothing"):
        read_graph(tmp_path / "nothing")
