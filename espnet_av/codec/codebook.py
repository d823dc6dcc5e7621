# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Codebook that follows its inputs: k-means start, moving averages, replacement of entries that nobody uses.

Axes: ``N`` vectors, ``K`` entries, ``d`` width.

In distributed training all ranks see one codebook: counts, sums and k-means are summed over ranks, and vectors that are
drawn from the batch are drawn from the batches of all ranks, by rank 0. Two ranks do what one process does with their
batches joined.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

SampleVectors = Callable[[Tensor, int], Tensor]


def is_distributed() -> bool:
    """Tell whether this process trains together with others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def all_reduce_(tensor: Tensor) -> Tensor:
    """Sum a tensor over all ranks in place; nothing happens in a training of one process."""
    if is_distributed():
        dist.all_reduce(tensor)
    return tensor


def sample_indices(count: int, num: int) -> Tensor:
    """Draw ``num`` of ``count`` indices ``(num,)`` with torch's global generator of the CPU.

    No index comes twice where there are enough.
    """
    if count >= num:
        return torch.randperm(count)[:num]
    return torch.randint(count, (num,))


def sample_vectors(vectors: Tensor, num: int) -> Tensor:
    """Draw vectors of a batch, in distributed training from the batches of all ranks.

    Args:
        vectors: ``(N, d)``; ranks may have different ``N``.
        num: How many.

    Returns:
        ``(num, d)``, the same on all ranks.
    """
    if not is_distributed():
        return vectors[sample_indices(len(vectors), num).to(vectors.device)]
    device = vectors.device
    sizes = torch.zeros(dist.get_world_size(), dtype=torch.long, device=device)
    sizes[dist.get_rank()] = len(vectors)
    dist.all_reduce(sizes)
    indices = sample_indices(int(sizes.sum()), num).to(device)
    dist.broadcast(indices, src=0)
    local = indices - sizes[: dist.get_rank()].sum()
    own = (local >= 0) & (local < len(vectors))
    drawn = vectors.new_zeros(num, vectors.shape[1])
    drawn[own] = vectors[local[own]]
    dist.all_reduce(drawn)  # every row is held by one rank and zero on the others
    return drawn


def sum_by_entry(vectors: Tensor, entries: Tensor, num_entries: int) -> tuple[Tensor, Tensor]:
    """Sum the vectors of every entry.

    Args:
        vectors: ``(N, d)``.
        entries: Entry of every vector, ``(N,)``.
        num_entries: ``K``.

    Returns:
        Counts ``(K,)`` in the vectors' type, and sums ``(K, d)``; over all ranks.
    """
    counts = torch.bincount(entries, minlength=num_entries).to(vectors.dtype)
    sums = vectors.new_zeros(num_entries, vectors.shape[1]).index_add_(0, entries, vectors)
    return all_reduce_(counts), all_reduce_(sums)


def kmeans(vectors: Tensor, means: Tensor, num_iters: int) -> tuple[Tensor, Tensor]:
    """Run Lloyd's algorithm; a cluster without vectors keeps its mean.

    Args:
        vectors: ``(N, d)``.
        means: Where to start, ``(K, d)``.
        num_iters: Number of iterations.

    Returns:
        Means ``(K, d)`` and the counts ``(K,)`` of the last iteration.
    """
    counts = means.new_zeros(len(means))
    for _ in range(num_iters):
        squared = vectors.square().sum(1, keepdim=True) + means.square().sum(1) - 2 * vectors @ means.t()
        nearest = squared.clamp(min=1e-8).sqrt().argmin(dim=1)
        counts, sums = sum_by_entry(vectors, nearest, len(means))
        means = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], means)
    return means, counts


class EuclideanCodebook(nn.Module):
    """Entries that are moving averages of the vectors nearest to them; gradients play no part.

    Args:
        dim: Width ``d``.
        size: Number of entries ``K``.
        decay: Of the moving averages.
        epsilon: Laplace smoothing of the counts.
        kmeans_init: Start from k-means over the first training batch; until then all entries are zero.
        kmeans_iters: Iterations of it.
        dead_threshold: An entry whose average count is below is replaced by a vector of the batch; 0: never.

    Attributes:
        inited: 1 once there are entries, ``(1,)``.
        cluster_size: Average counts ``(K,)``.
        embed: Entries ``(K, d)``.
        embed_avg: Average sums ``(K, d)``.
        sample_vectors: Draws vectors of a batch, ``(vectors, num) -> (num, d)``, the same on all ranks.
    """

    inited: Tensor
    cluster_size: Tensor
    embed: Tensor
    embed_avg: Tensor

    def __init__(
        self,
        dim: int,
        size: int,
        *,
        decay: float = 0.99,
        epsilon: float = 1e-5,
        kmeans_init: bool = True,
        kmeans_iters: int = 50,
        dead_threshold: float = 2,
    ) -> None:
        super().__init__()
        self.size = size
        self.decay = decay
        self.epsilon = epsilon
        self.kmeans_iters = kmeans_iters
        self.dead_threshold = dead_threshold
        self.sample_vectors: SampleVectors = sample_vectors
        embed = torch.zeros(size, dim)
        if not kmeans_init:
            nn.init.kaiming_uniform_(embed)
        self.register_buffer("inited", torch.tensor([float(not kmeans_init)]))
        self.register_buffer("cluster_size", torch.zeros(size))
        self.register_buffer("embed", embed)
        self.register_buffer("embed_avg", embed.clone())

    def search(self, x: Tensor) -> Tensor:
        """Return the nearest entry of every vector, the first of equally near ones.

        Args:
            x: ``(..., d)``.

        Returns:
            Indices ``(...)``, int64.
        """
        flat = x.flatten(0, -2)
        closeness = -(flat.square().sum(1, keepdim=True) - 2 * flat @ self.embed.t() + self.embed.t().square().sum(0))
        return closeness.max(dim=-1).indices.view(x.shape[:-1])

    def lookup(self, indices: Tensor) -> Tensor:
        """Return the entries ``(..., d)`` of indices ``(...)``."""
        return F.embedding(indices, self.embed)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Quantise; in training, learn from the batch afterwards.

        Args:
            x: ``(..., d)``.

        Returns:
            Entries ``(..., d)`` as they were before learning, and indices ``(...)``.
        """
        vectors = x.detach().flatten(0, -2)
        if self.training and not bool(self.inited):
            self.start(vectors)
        indices = self.search(x.detach())
        quantized = self.lookup(indices)
        if self.training:
            self.learn(vectors, indices.flatten())
        return quantized, indices

    @torch.no_grad()
    def start(self, vectors: Tensor) -> None:
        """Take the entries from k-means over ``(N, d)`` vectors."""
        means, counts = kmeans(vectors, self.sample_vectors(vectors, self.size), self.kmeans_iters)
        self.embed_avg.copy_(means * counts[:, None])
        self.cluster_size.copy_(counts)
        self._update_entries()
        self.inited.fill_(1)

    @torch.no_grad()
    def learn(self, vectors: Tensor, indices: Tensor) -> None:
        """Move the averages and entries, then replace the dead ones.

        Args:
            vectors: ``(N, d)``.
            indices: Entries of them, ``(N,)``.
        """
        counts, sums = sum_by_entry(vectors, indices, self.size)
        self.cluster_size.mul_(self.decay).add_(counts, alpha=1 - self.decay)
        self.embed_avg.mul_(self.decay).add_(sums, alpha=1 - self.decay)
        self._update_entries()
        self._replace_dead(vectors)

    def _update_entries(self) -> None:
        total = self.cluster_size.sum()
        smoothed = (self.cluster_size + self.epsilon) / (total + self.size * self.epsilon) * total
        self.embed.copy_(self.embed_avg / smoothed[:, None])

    def _replace_dead(self, vectors: Tensor) -> None:
        dead = self.cluster_size < self.dead_threshold
        num = int(dead.sum())
        if num == 0:
            return
        drawn = self.sample_vectors(vectors, num)
        self.embed[dead] = drawn
        self.cluster_size[dead] = self.dead_threshold
        self.embed_avg[dead] = drawn * self.dead_threshold
