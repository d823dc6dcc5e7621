# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""K-means, moving averages and dead codes of the reference codebook, reproduced."""

import re

import pytest
import torch
from codec_formula import BUFFER_ABS, read
from torch import Tensor

from espnet_av.codec.codebook import EuclideanCodebook, kmeans

DEAD_EVERY, ALIVE, DEAD = 7, 5.0, 0.5  # average counts before the isolated step


@pytest.fixture(scope="module")
def golden(fixtures_dir) -> dict[str, Tensor]:
    return read(fixtures_dir("codec") / "vq_utils.npz")


def named(golden: dict[str, Tensor], pattern: str) -> re.Match:
    return next(match for key in golden if (match := re.fullmatch(pattern, key)))


def first_vectors(vectors: Tensor, num: int) -> Tensor:
    return vectors[:num]


def make(golden: dict[str, Tensor], num_iters: int) -> EuclideanCodebook:
    size, dim = golden["codebook.after_first.embed"].shape
    codebook = EuclideanCodebook(dim, size, kmeans_iters=num_iters)
    codebook.sample_vectors = first_vectors
    return codebook.train()


def compare(codebook: EuclideanCodebook, golden: dict[str, Tensor], prefix: str) -> None:
    found = {name: getattr(codebook, name) for name in ("embed", "cluster_size", "embed_avg")}
    for name, tensor in found.items():
        if f"{prefix}.{name}" in golden:
            torch.testing.assert_close(tensor, golden[f"{prefix}.{name}"], atol=BUFFER_ABS, rtol=0)


def test_kmeans(golden):
    match = named(golden, r"kmeans\.means_first(\d+)_(\d+)it")
    vectors = golden["kmeans.samples"]
    means, counts = kmeans(vectors, vectors[: int(match[1])], int(match[2]))
    torch.testing.assert_close(means, golden[match[0]], atol=BUFFER_ABS, rtol=0)
    assert counts.tolist() == golden["kmeans.bins"].tolist()


def test_first_batch_and_later_ones(golden):
    iters = int(named(golden, r"kmeans\.means_first(\d+)_(\d+)it")[2])
    codebook = make(golden, iters)
    quantized, indices = codebook(golden["kmeans.samples"])
    assert indices.tolist() == golden["codebook.first_forward.idx"].tolist()
    torch.testing.assert_close(quantized, golden["codebook.first_forward.quantize"], atol=BUFFER_ABS, rtol=0)
    compare(codebook, golden, "codebook.after_first")
    assert codebook.inited.item() == 1
    steps = max(int(match[1]) for key in golden if (match := re.match(r"codebook\.after_(\d+)\.", key)))
    for _ in range(steps - 1):
        codebook(golden["codebook.samples2"])
    compare(codebook, golden, f"codebook.after_{steps}")


def test_dead_codes(golden):
    codebook = make(golden, 1)
    with torch.no_grad():
        codebook.inited.fill_(1)
        codebook.embed.copy_(golden["kmeans.samples"][: codebook.size])
        codebook.cluster_size.fill_(ALIVE)
        codebook.cluster_size[::DEAD_EVERY] = DEAD
        codebook.embed_avg.copy_(codebook.embed)
    wanted = golden["deadcode.idx"]
    _, indices = codebook(golden["codebook.samples2"][: len(wanted)])
    assert indices.tolist() == wanted.tolist()
    compare(codebook, golden, "deadcode")
    assert (golden["deadcode.cluster_size"] == codebook.dead_threshold).any()  # something was dead
