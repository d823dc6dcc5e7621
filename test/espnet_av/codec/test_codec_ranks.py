# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Two processes train the codec as one does with their batches joined."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

PROGRAM = Path(__file__).with_name("codec_ranks.py")


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Return what one process found, and each of two."""
    folder = tmp_path_factory.mktemp("ranks")
    places = [(0, 1), (0, 2), (1, 2)]
    running = [subprocess.Popen([sys.executable, PROGRAM, folder, str(rank), str(world)]) for rank, world in places]
    try:
        assert [process.wait(timeout=300) for process in running] == [0, 0, 0]
    finally:
        for process in running:
            process.kill()
    one, first, second = (torch.load(folder / f"{world}.{rank}.pt", weights_only=True) for rank, world in places)
    return one, first, second


def test_ranks_hold_the_same(results):
    _, first, second = results
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("size", [16, 150])
def test_codebooks(results, size):
    one, two, _ = results
    for name in ("inited", "cluster_size", "embed", "embed_avg"):
        key = f"codebook{size}.{name}"
        torch.testing.assert_close(two[key], one[key], atol=1e-5, rtol=1e-5)
    assert (one[f"codebook{size}.cluster_size"] == 2).any()  # dead ones were replaced
    assert one[f"codebook{size}.embed"].abs().sum() > 0


def test_gradients(results):
    one, two, _ = results
    names = [key for key in one if key.startswith("grad.")]
    assert any("project_out" in name for name in names)
    assert any("discriminators" in name for name in names)
    assert {key for key in two if key.startswith("grad.")} == set(names)
    for name in names:
        scale = float(one[name].abs().max())
        torch.testing.assert_close(two[name], one[name], atol=1e-4 * scale + 1e-7, rtol=1e-3, msg=name)


def test_states(results):
    one, two, _ = results
    steps = sorted({key.split(".")[0] for key in one if key[0].isdigit()})
    assert len(steps) > 1
    for key in (key for key in one if key[0].isdigit()):
        torch.testing.assert_close(two[key], one[key], atol=1e-4, rtol=1e-3, msg=key)
