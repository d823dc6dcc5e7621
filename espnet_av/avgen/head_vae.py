# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Head VAE: 8 values a frame for the motion of a head, what the generator learns instead of the pose itself.

    pose (B, T, 7) -> linear 16 -> transformer layer -> mean, log-variance (B, T, 8)
    latent (B, T, 8) -> linear 16 -> transformer layer -> linear -> pose (B, T, 7)

One post-norm ReLU layer with one head on each side, without positions. In the published model each frame sees the whole
recording, so that the decoding of a part differs from the same part of the whole; ``window`` limits the view, and a
part decoded with ``reach`` more frames on both sides is exactly that part of the whole. Attention weights are not
dropped out; everything else is, as the published layer does.

Names of the weights are those of the published checkpoint: ``{"model_state_dict": ...}``.

Axes: ``B`` batch, ``T`` frames, ``D`` values of the pose (7, or 4 joint angles), ``Z`` values of the latent.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.avgen.banded_attention import banded_attention, banded_mask
from espnet_av.avgen.flow import masked_mean
from espnet_av.avgen.pose import HeadStatistics
from espnet_av.train.loading import load_into, load_weights
from espnet_av.train.pretrained import find_weights
from espnet_av.utils.config import load_yaml
from espnet_av.utils.errors import CheckpointError, DataError, describe, usage_error

WINDOW = 16  # frames seen on both sides, 0.19 s at the rate of the mel
KLD_WEIGHT = 1e-4
TASK_PREFIX = "head_vae."  # of names in a training of :class:`espnet_av.tasks.avgen_aux.HeadVAETask`


@dataclass(frozen=True)
class HeadVAEOutput:
    """What one pass gives.

    Attributes:
        recon: Reconstruction ``(B, T, D)``.
        mu: Mean of the latent ``(B, T, Z)``.
        log_var: Logarithm of its variance.
        z: The latent that was decoded.
    """

    recon: Tensor
    mu: Tensor
    log_var: Tensor
    z: Tensor


class HeadVAE(nn.Module):
    """The autoencoder.

    Args:
        in_dim: Values of a pose ``D``.
        latent: Values of the latent ``Z``.
        width: Width of the layers.
        window: Frames that a frame sees on each side; None: all, as in the published model.
        feedforward: Width of the feed-forward part.
        dropout: Share of values dropped in training.
    """

    def __init__(
        self,
        in_dim: int = 7,
        latent: int = 8,
        width: int = 16,
        window: int | None = WINDOW,
        feedforward: int = 2048,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if window is not None and window < 0:
            usage_error("window of the head VAE is out of range", window, "0 or more, or null for all frames")
        self.in_dim, self.latent, self.window = in_dim, latent, window
        self.encoder = nn.Sequential(nn.Linear(in_dim, width), _Layers(width, feedforward, dropout, window))
        self.fc_mu = nn.Linear(width, latent)
        self.fc_var = nn.Linear(width, latent)
        self.decoder_input = nn.Linear(latent, width)
        self.decoder = nn.Sequential(_Layers(width, feedforward, dropout, window))
        self.final_layer = nn.Linear(width, in_dim)

    @property
    def reach(self) -> int | None:
        """Frames on each side that decoding (or encoding) a frame depends on; None: all."""
        return self.window

    def forward(self, x: Tensor, mask: Tensor | None = None, noise: Tensor | None = None) -> HeadVAEOutput:
        """Encode, draw a latent, decode.

        Args:
            x: Standardised poses ``(B, T, D)``.
            mask: False for padding, ``(B, T)``; None: no padding.
            noise: Standard normal ``(B, T, Z)``; None: drawn.
        """
        mu, log_var = self.encode_distribution(x, mask)
        noise = torch.randn_like(mu) if noise is None else noise
        z = mu + noise * (0.5 * log_var).exp()
        return HeadVAEOutput(self.decode(z, mask), mu, log_var, z)

    def encode_distribution(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the latent, each ``(B, T, Z)``.

        Raises:
            DataError: ``x`` is not ``(B, T, D)``.
        """
        if x.dim() != 3 or x.shape[-1] != self.in_dim:
            raise DataError(describe("poses do not fit the head VAE", tuple(x.shape), f"(B, T, {self.in_dim})"))
        hidden = self.encoder[1](self.encoder[0](x), mask)
        return self.fc_mu(hidden), self.fc_var(hidden)

    def encode(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the mean of the latent ``(B, T, Z)``, which the generator learns."""
        return self.encode_distribution(x, mask)[0]

    def decode(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return standardised poses ``(B, T, D)`` of latents ``(B, T, Z)``."""
        return self.final_layer(self.decoder[0](self.decoder_input(z), mask))


def head_vae_loss(
    output: HeadVAEOutput, x: Tensor, mask: Tensor | None = None, kld_weight: float = KLD_WEIGHT
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return ``mean |recon - x| + kld_weight * KLD`` and its parts; lower is better.

    Args:
        output: Of the autoencoder.
        x: Standardised poses ``(B, T, D)``.
        mask: Frames that count, ``(B, T)``; None: all.
        kld_weight: Weight of the divergence from a standard normal, summed over values, averaged over frames.
    """
    recon = masked_mean((output.recon - x).abs(), mask)
    divergence = -0.5 * (1 + output.log_var - output.mu.square() - output.log_var.exp()).sum(dim=-1, keepdim=True)
    kld = masked_mean(divergence, mask)
    return recon + kld_weight * kld, {"recon_l1": recon.detach(), "kld": kld.detach()}


class _Layers(nn.Module):
    """A stack of one layer, named as in the published checkpoint."""

    def __init__(self, width: int, feedforward: int, dropout: float, window: int | None) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_PostNormLayer(width, feedforward, dropout, window)])

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = layer(x, mask)
        return x


class _PostNormLayer(nn.Module):
    """Transformer layer: attention, add, norm; feed-forward, add, norm."""

    def __init__(self, width: int, feedforward: int, dropout: float, window: int | None) -> None:
        super().__init__()
        self.window = window
        self.self_attn = _Projections(width)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        for linear in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = self.norm1(x + self.dropout(self._attend(x, mask)))
        hidden = self.dropout(F.relu(self.linear1(x)))
        return self.norm2(x + self.dropout(self.linear2(hidden)))

    def _attend(self, x: Tensor, mask: Tensor | None) -> Tensor:
        projected = F.linear(x, self.self_attn.in_proj_weight, self.self_attn.in_proj_bias)
        query, key, value = (each.unsqueeze(2) for each in projected.chunk(3, dim=-1))  # (B, T, 1, width)
        if self.window is None:
            seen = None if mask is None else mask.bool()[:, None, None, :]
            query, key, value = (each.transpose(1, 2) for each in (query, key, value))
            attended = F.scaled_dot_product_attention(query, key, value, attn_mask=seen).transpose(1, 2)
        else:
            window = (self.window, self.window)
            valid = None if mask is None else mask.bool()
            seen = banded_mask(x.shape[1], window, valid, x.device, x.shape[0])
            attended = banded_attention(query, key, value, seen, window)
        return self.self_attn.out_proj(attended.squeeze(2))


class _Projections(nn.Module):
    """The weights of an attention, with the names and start values of torch's own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)


def conf_from_state(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the sizes of the autoencoder that a state dict belongs to, as keywords of :class:`HeadVAE`.

    Raises:
        CheckpointError: It belongs to something else.
    """
    try:
        width, in_dim = state["encoder.0.weight"].shape
        latent = state["fc_mu.weight"].shape[0]
        feedforward = state["encoder.1.layers.0.linear1.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise CheckpointError(describe(f"these are no weights of a head VAE: {error}", sorted(state)[:3])) from error
    return {"in_dim": in_dim, "latent": latent, "width": width, "feedforward": feedforward}


def load_head_vae(
    path: str | os.PathLike, window: int | None = None, weights: str | os.PathLike | None = None
) -> tuple[HeadVAE, HeadStatistics | None]:
    """Load an autoencoder in evaluation mode, with the statistics of its vectors where they are known.

    Args:
        path: A published file (``iter-0500000.pt``, ``.safetensors``), or the folder of a training.
        window: For a published file: see :class:`HeadVAE`. A training knows its own.
        weights: A file of the training; None: the best.

    Raises:
        MissingDataError: Nothing is there.
        CheckpointError: The weights are damaged or belong to something else.
    """
    path = Path(path)
    conf: dict[str, Any] = {"window": window}
    if path.is_dir():
        config = load_yaml(path / "config.yaml") if (path / "config.yaml").is_file() else {}
        conf = dict(config.get("model_conf") or {})
        path = find_weights(path, weights, config.get("best_model_criterion"))
    state = load_weights(path)
    mean, std = state.pop("head_mean", None), state.pop("head_std", None)
    state = {name.removeprefix(TASK_PREFIX): value.float() for name, value in state.items()}
    vae = HeadVAE(**{**conf_from_state(state), **conf})
    load_into(vae, state, source=str(path))
    return vae.eval(), None if mean is None or std is None else HeadStatistics(mean, std)
