# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Residual vector quantiser with projections: every layer quantises what the layers before it left over.

Axes: ``B`` batch, ``D`` width of the latent, ``F`` frames, ``K`` entries of a codebook, ``d`` width of a codebook,
``Q`` layers in use.

Gradients: a layer copies them straight through its codebook, from its output to its input, so that they reach both
projections of every layer in use and, through them, the encoder. What is left over for the next layer is computed
without gradient. Codebooks learn by moving averages only (:mod:`espnet_av.codec.codebook`).

Reference:
    N. Zeghidour et al., "SoundStream: an end-to-end neural audio codec", arXiv:2107.03312.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.codec.codebook import EuclideanCodebook, all_reduce_
from espnet_av.utils.errors import usage_error


class QuantizerOutput(NamedTuple):
    """What the quantiser returns.

    Attributes:
        quantized: Sum of the layers' outputs, ``(B, D, F)``.
        codes: Indices ``(Q, B, F)``, int64.
        commit_loss: Mean over layers of the distance of their inputs to their entries, ``()``; 0 in evaluation.
    """

    quantized: Tensor
    codes: Tensor
    commit_loss: Tensor


@torch.no_grad()
def principal_axes(vectors: Tensor, num_axes: int) -> tuple[Tensor, Tensor]:
    """Return the axes along which vectors vary most, over the vectors of all ranks.

    Args:
        vectors: ``(N, D)``.
        num_axes: How many axes ``d``, at most ``D``.

    Returns:
        Orthonormal axes ``(d, D)``, the most important first, and the mean ``(D,)``.
    """
    vectors = vectors.double()
    count = all_reduce_(vectors.new_tensor(float(len(vectors))))
    mean = all_reduce_(vectors.sum(0)) / count
    centred = vectors - mean
    axes = torch.linalg.eigh(all_reduce_(centred.t() @ centred)).eigenvectors  # in the order of growing values
    return axes[:, -num_axes:].flip(1).t().float(), mean.float()


class VectorQuantizer(nn.Module):
    """One layer: projection into the space of the codebook, nearest entry, projection back.

    Args:
        dim: Width ``D`` of the latent.
        codebook_dim: Width ``d`` of the codebook; ``D`` leaves the projections out.
        codebook_size: Number of entries ``K``.
        pca_init: Start the projections, together with the codebook, from the principal axes of the first training
            batch, so that a layer gives back most of what it is given; otherwise they are random.
        decay, kmeans_init, kmeans_iters, dead_threshold: See :class:`~espnet_av.codec.codebook.EuclideanCodebook`.

    Raises:
        UsageError: ``pca_init`` without ``kmeans_init``.
    """

    def __init__(
        self,
        dim: int,
        codebook_dim: int,
        codebook_size: int,
        *,
        pca_init: bool = False,
        decay: float = 0.99,
        kmeans_init: bool = True,
        kmeans_iters: int = 50,
        dead_threshold: float = 2,
    ) -> None:
        super().__init__()
        if pca_init and not kmeans_init:
            usage_error("projections start from a batch only where the codebook does", "kmeans_init False", "True")
        projects = codebook_dim != dim
        self.pca_init = pca_init and projects
        self.project_in = nn.Linear(dim, codebook_dim) if projects else nn.Identity()
        self.project_out = nn.Linear(codebook_dim, dim) if projects else nn.Identity()
        self._codebook = EuclideanCodebook(
            codebook_dim,
            codebook_size,
            decay=decay,
            kmeans_init=kmeans_init,
            kmeans_iters=kmeans_iters,
            dead_threshold=dead_threshold,
        )

    @property
    def codebook(self) -> Tensor:
        """Entries ``(K, d)``."""
        return self._codebook.embed

    def encode(self, x: Tensor) -> Tensor:
        """Return indices ``(B, F)`` for ``(B, D, F)``."""
        return self._codebook.search(self.project_in(x.transpose(1, 2)))

    def decode(self, indices: Tensor) -> Tensor:
        """Return ``(B, D, F)`` for indices ``(B, F)``."""
        return self.project_out(self._codebook.lookup(indices)).transpose(1, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantise with a straight-through gradient; in training the codebook learns.

        Args:
            x: ``(B, D, F)``.

        Returns:
            Output ``(B, D, F)``, indices ``(B, F)``, commitment loss ``()``.
        """
        if self.training and self.pca_init and not bool(self._codebook.inited):
            self._start_projections(x.detach().transpose(1, 2).flatten(0, 1))
        x = self.project_in(x.transpose(1, 2))
        quantized, indices = self._codebook(x)
        loss = F.mse_loss(x, quantized) if self.training else x.new_zeros(())
        if self.training:
            quantized = x + (quantized - x).detach()
        return self.project_out(quantized).transpose(1, 2), indices, loss

    @torch.no_grad()
    def _start_projections(self, vectors: Tensor) -> None:
        """Let the projections be those onto the principal axes of ``(N, D)`` vectors, and back."""
        into, back = self.project_in, self.project_out
        if isinstance(into, nn.Linear) and isinstance(back, nn.Linear):
            axes, mean = principal_axes(vectors, into.out_features)
            into.weight.copy_(axes)
            into.bias.copy_(-axes @ mean)
            back.weight.copy_(axes.t())
            back.bias.copy_(mean)


class _Layers(nn.Module):
    """Holds the layers; the published names have a level ``vq`` there."""

    def __init__(self, layers: list[VectorQuantizer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


class ResidualVectorQuantizer(nn.Module):
    """Layers of :class:`VectorQuantizer`, of which the first ``n`` may be used alone.

    Args:
        dim: Width ``D`` of the latent.
        num_quantizers: Number of layers.
        codebook_size: Number of entries ``K`` of each.
        codebook_dim: Width ``d`` of the codebooks; None: ``D``, without projections.
        pca_init: See :class:`VectorQuantizer`.
        decay, kmeans_init, kmeans_iters, dead_threshold: See :class:`~espnet_av.codec.codebook.EuclideanCodebook`.
    """

    def __init__(
        self,
        dim: int,
        num_quantizers: int = 6,
        codebook_size: int = 1024,
        codebook_dim: int | None = None,
        *,
        pca_init: bool = False,
        decay: float = 0.99,
        kmeans_init: bool = True,
        kmeans_iters: int = 50,
        dead_threshold: float = 2,
    ) -> None:
        super().__init__()
        if num_quantizers < 1 or codebook_size < 2:
            got = f"num_quantizers {num_quantizers}, codebook_size {codebook_size}"
            usage_error("the quantiser needs a layer and two entries at least", got=got)
        self.codebook_size = codebook_size
        layers = [
            VectorQuantizer(
                dim,
                codebook_dim or dim,
                codebook_size,
                pca_init=pca_init,
                decay=decay,
                kmeans_init=kmeans_init,
                kmeans_iters=kmeans_iters,
                dead_threshold=dead_threshold,
            )
            for _ in range(num_quantizers)
        ]
        self.vq = _Layers(layers)

    @property
    def layers(self) -> Sequence[VectorQuantizer]:
        """The layers in order."""
        return [layer for layer in self.vq.layers if isinstance(layer, VectorQuantizer)]

    def encode(self, latent: Tensor, num_quantizers: int | None = None) -> Tensor:
        """Return codes; nothing learns, whatever the mode.

        Args:
            latent: ``(B, D, F)``.
            num_quantizers: Layers to use; None: all.

        Returns:
            ``(Q, B, F)``, int64.
        """
        residual, codes = latent, []
        for layer in self._used(num_quantizers):
            codes.append(layer.encode(residual))
            residual = residual - layer.decode(codes[-1])
        return torch.stack(codes)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the latent of codes.

        Args:
            codes: ``(Q, B, F)``; ``Q`` may be less than the number of layers.

        Returns:
            ``(B, D, F)``.

        Raises:
            UsageError: More codes than layers, none, or of another shape.
        """
        if codes.dim() != 3 or codes.is_floating_point():
            usage_error("codes must be integers (layers, batch, frames)", got=(tuple(codes.shape), codes.dtype))
        layers = self._used(len(codes))
        parts = (layer.decode(indices) for layer, indices in zip(layers, codes, strict=True))
        return sum(parts, torch.zeros(()))

    def forward(self, latent: Tensor, num_quantizers: int | None = None) -> QuantizerOutput:
        """Quantise with gradients; in training the codebooks learn.

        Args:
            latent: ``(B, D, F)``.
            num_quantizers: Layers to use; None: all.
        """
        residual, outputs, codes, losses = latent.float(), [], [], []
        with torch.autocast(latent.device.type, enabled=False):  # distances and averages need all digits
            for layer in self._used(num_quantizers):
                output, indices, loss = layer(residual)
                residual = residual - output.detach()
                outputs.append(output)
                codes.append(indices)
                losses.append(loss)
        return QuantizerOutput(sum(outputs), torch.stack(codes), torch.stack(losses).mean())

    @torch.no_grad()
    def tables(self) -> Tensor:
        """Return what every index of every layer adds to the latent, ``(num_quantizers, K, D)``."""
        return torch.stack([layer.project_out(layer.codebook) for layer in self.layers])

    def _used(self, num_quantizers: int | None) -> Sequence[VectorQuantizer]:
        num = len(self.layers) if num_quantizers is None else num_quantizers
        if not 1 <= num <= len(self.layers):
            usage_error("wrong number of quantiser layers", got=num, allowed=f"1 to {len(self.layers)}")
        return self.layers[:num]
