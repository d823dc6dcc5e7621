# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The reference's conversion of head poses to standardised vectors and back, reproduced."""

import numpy as np
import pytest
import torch
from torch import Tensor

from espnet_av.avgen.pose import HeadStatistics, matrix_to_quaternion

ATOL = 1e-5


@pytest.fixture(scope="module")
def golden(fixtures_dir) -> dict[str, Tensor]:
    with np.load(fixtures_dir("avgen") / "headpose.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def statistics(golden) -> HeadStatistics:
    mean, std = (torch.cat((golden[f"head_qvec_{kind}"], golden[f"head_t_{kind}"])) for kind in ("mean", "std"))
    return HeadStatistics(mean, std)


def test_quaternions_with_their_signs(golden):
    torch.testing.assert_close(matrix_to_quaternion(golden["R"]), golden["qvec_wxyz"], atol=ATOL, rtol=0)


def test_vectors(golden, statistics):
    pose = torch.cat((golden["R"], golden["t"].unsqueeze(-1)), dim=-1)
    vectors = statistics.encode(pose, reference_compat=True)
    torch.testing.assert_close(vectors, golden["headvec"], atol=ATOL, rtol=1e-6)


def test_way_back(golden, statistics):
    rotation, translation = statistics.decode(golden["headvec"])
    torch.testing.assert_close(rotation, golden["R_back"], atol=ATOL, rtol=0)
    torch.testing.assert_close(translation, golden["t_back"], atol=ATOL, rtol=1e-6)
