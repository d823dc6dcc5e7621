# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The acoustic memory: refines the estimates of the present second and of earlier ones together.

"Active Audio-Visual Separation of Dynamic Sound Sources", Majumder and Grauman, ECCV 2022. Each second is a token: a
small CNN shrinks its magnitude, a time code is added, a transformer relates the tokens, a small CNN grows them again.

Axes: ``B`` environments, ``S`` slots (earlier seconds), ``L`` tokens, ``P`` chosen tokens, ``D`` width of a token,
``F`` 512 bins, ``T`` 32 frames.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.activesep.init import LEAKY_SLOPE, init_layers
from espnet_av.activesep.spectra import NUM_BINS, NUM_FRAMES, NUM_SLICES, join_slices, slice_bins
from espnet_av.utils.errors import usage_error

SHRINK = 4  # of height and width of a slice, by two convolutions of stride 2
TIME_ATTRIBUTE = 3  # of a pose: forward, right, heading, time


class SpectrumEncoder(nn.Module):
    """Shrink a magnitude to a token.

    Args:
        channels: Channels of the second convolution.
        skip_channels: Channels of the first one, which the decoder sees too.
    """

    def __init__(self, channels: int = 16, skip_channels: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(NUM_SLICES, skip_channels, 2, stride=2)
        self.conv2 = nn.Conv2d(skip_channels, channels, 2, stride=2)

    def forward(self, magnitude: Tensor) -> tuple[Tensor, Tensor]:
        """Linear magnitude ``(B, F, T, 1)`` -> token ``(B, D)``, skip ``(B, skip_channels, 16, 16)``."""
        skip = F.leaky_relu(self.conv1(slice_bins(magnitude)), LEAKY_SLOPE)
        return self.conv2(skip).flatten(1), skip


class SpectrumDecoder(nn.Module):
    """Grow a token to a magnitude beside the skip of its second.

    Args:
        channels: As in the encoder.
        skip_channels: As in the encoder.
    """

    def __init__(self, channels: int = 16, skip_channels: int = 16) -> None:
        super().__init__()
        self.channels = channels
        self.conv1 = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.conv2 = nn.ConvTranspose2d(channels + skip_channels, NUM_SLICES, 2, stride=2)

    def forward(self, token: Tensor, skip: Tensor) -> Tensor:
        """Token ``(B, D)`` and skip of :class:`SpectrumEncoder` -> ``(B, F, T, 1)``."""
        x = token.reshape(len(token), self.channels, -1, NUM_FRAMES // SHRINK)
        x = F.leaky_relu(self.conv1(x), LEAKY_SLOPE)
        return join_slices(F.leaky_relu(self.conv2(torch.cat((x, skip), 1)), LEAKY_SLOPE))


class MemoryLayer(nn.Module):
    """Self-attention, then two linear layers, each added to its input and after a norm of it.

    Args:
        dim: Width of a token.
        num_heads: Heads of attention.
        ffn_dim: Width between the linear layers.
        dropout: Share of zeros after attention and the linear layers.
    """

    def __init__(self, dim: int, *, num_heads: int, ffn_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.linear1, self.linear2 = nn.Linear(dim, ffn_dim), nn.Linear(ffn_dim, dim)
        for linear in (self.qkv, self.out, self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def heads(self, x: Tensor) -> Tensor:
        """``(..., L, D)`` -> ``(..., heads, L, D / heads)``."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
        """Return what attention gathers.

        Args:
            query: ``(..., Lq, D)``.
            key: ``(..., L, D)``.
            value: ``(..., L, D)``.
            visible: Which tokens are keys, ``(..., L)``; at least one.

        Returns:
            ``(..., Lq, D)``.
        """
        q, k, v = (self.heads(x) for x in (query, key, value))
        dropout = self.dropout if self.training else 0.0
        mask = visible[..., None, None, :]
        gathered = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return gathered.transpose(-3, -2).flatten(-2)

    def finish(self, x: Tensor, gathered: Tensor) -> Tensor:
        """Add what was gathered, then the linear layers: twice ``(..., D)`` -> ``(..., D)``."""
        x = x + self._drop(self.out(gathered))
        return x + self._drop(self.linear2(self._drop(F.relu(self.linear1(self.norm2(x))))))

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """Tokens ``(B, L, D)`` and which are keys ``(B, L)`` -> ``(B, L, D)``."""
        query, key, value = self.qkv(self.norm1(x)).chunk(3, -1)
        return self.finish(x, self.attend(query, key, value, visible))


class Tokens(NamedTuple):
    """Encoded seconds.

    Attributes:
        features: With their time code, ``(..., D)``.
        skips: ``(..., skip_channels, 16, 16)``.
    """

    features: Tensor
    skips: Tensor


class AcousticMemory(nn.Module):
    """Refine estimates of a target's magnitude by those of other seconds.

    Args:
        channels: Channels of a token, which is 64 times as wide.
        skip_channels: Channels that the decoder sees beside a token; None: as many. With few, a magnitude of 16384
            values comes out worse than it went in.
        num_layers: Layers of the transformer.
        num_heads: Heads of attention.
        ffn_dim: Width between the linear layers; None: as wide as a token.
        dropout: Share of zeros in the transformer.
        init: See :func:`~espnet_av.activesep.init.init_layers`, for the CNNs; or ``pass_through``: the memory begins
            as one that returns each second as it came, which takes 64 ``skip_channels``.

    Raises:
        UsageError: Heads or skip channels do not fit.
    """

    rates: Tensor

    def __init__(
        self,
        *,
        channels: int = 16,
        skip_channels: int | None = None,
        num_layers: int = 2,
        num_heads: int = 8,
        ffn_dim: int | None = None,
        dropout: float = 0.0,
        init: str = "he",
    ) -> None:
        super().__init__()
        height = NUM_BINS // NUM_SLICES
        self.dim = channels * (height // SHRINK) * (NUM_FRAMES // SHRINK)
        if self.dim % num_heads:
            usage_error("num_heads must divide 64 * channels", got=num_heads, allowed=f"divisors of {self.dim}")
        self.encoder = SpectrumEncoder(channels, skip_channels or channels)
        self.layers = nn.ModuleList(
            MemoryLayer(self.dim, num_heads=num_heads, ffn_dim=ffn_dim or self.dim, dropout=dropout)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(self.dim)
        self.decoder = SpectrumDecoder(channels, skip_channels or channels)
        pass_through = init == "pass_through"
        for part in (self.encoder, self.decoder):
            init_layers(part, "leaky_relu", mode="he" if pass_through else init)
        if pass_through:
            self._pass_through()
        exponent = 2 * (torch.arange(self.dim) // 2) / self.dim
        self.register_buffer("rates", torch.pow(1e-4, exponent.double()).float(), persistent=False)

    @torch.no_grad()
    def _pass_through(self) -> None:
        """Give each value of a patch a skip channel of its own, and let the decoder put it where it was."""
        patch = self.encoder.conv1.weight[0].numel()
        if self.encoder.conv1.out_channels != patch:
            got = self.encoder.conv1.out_channels
            usage_error("skip_channels of a memory with init: pass_through", got=got, allowed=patch)
        identity = torch.eye(patch).view_as(self.encoder.conv1.weight)
        self.encoder.conv1.weight.copy_(identity)
        self.decoder.conv2.weight.zero_()
        self.decoder.conv2.weight[-patch:].copy_(identity)

    def time_code(self, time: Tensor) -> Tensor:
        """Return the code of seconds since the start, cosines and sines by turns: ``(...)`` -> ``(..., D)``."""
        angle = time.float().unsqueeze(-1) * self.rates
        return torch.stack((angle[..., 0::2].cos(), angle[..., 1::2].sin()), -1).flatten(-2)

    def encode(self, mono: Tensor, pose: Tensor) -> Tokens:
        """Encode seconds.

        Args:
            mono: Estimates of the separators, ``(..., F, T, 1)``.
            pose: Pose at these seconds, ``(..., 4)``; only its time is used.
        """
        lead = mono.shape[:-3]
        features, skips = self.encoder(mono.reshape(-1, *mono.shape[-3:]))
        features = features.reshape(*lead, -1) + self.time_code(pose[..., TIME_ATTRIBUTE])
        return Tokens(features, skips.reshape(*lead, *skips.shape[1:]))

    def relate(self, features: Tensor, visible: Tensor) -> Tensor:
        """Run the transformer: tokens ``(B, L, D)`` and which are keys ``(B, L)`` -> ``(B, L, D)``."""
        for layer in self.layers:
            features = layer(features, visible)
        return self.norm(features)

    def decode(self, features: Tensor, skips: Tensor) -> Tensor:
        """Related tokens ``(..., D)`` and skips -> refined magnitudes ``(..., F, T, 1)``."""
        lead = features.shape[:-1]
        magnitude = self.decoder(features.reshape(-1, self.dim), skips.reshape(-1, *skips.shape[-3:]))
        return magnitude.reshape(*lead, *magnitude.shape[1:])

    def forward(self, mono: Tensor, pose: Tensor, slots: Tensor, slot_poses: Tensor, slot_mask: Tensor) -> Tensor:
        """Refine the present second and those in a buffer (:class:`~espnet_av.activesep.memory_buffer.MemoryBuffer`).

        Args:
            mono: Estimate of the present second, ``(B, F, T, 1)``.
            pose: ``(B, 4)``.
            slots: Estimates of earlier seconds, ``(S, B, F * T)``.
            slot_poses: ``(S, B, 4)``.
            slot_mask: Which slots are filled, ``(B, S)``. The others give rows, but no other row depends on them.

        Returns:
            Magnitudes of all slots in their order, the present second last, ``(S + 1, B, F, T, 1)``.
        """
        earlier = slots.reshape(*slots.shape[:2], *mono.shape[1:])
        seconds = torch.cat((earlier, mono.unsqueeze(0)))
        features, skips = self.encode(seconds, torch.cat((slot_poses, pose.unsqueeze(0))))
        visible = F.pad(slot_mask > 0, (0, 1), value=True)
        related = self.relate(features.transpose(0, 1), visible).transpose(0, 1)
        return self.decode(related, skips)

    def refine_rollout(self, mono: Tensor, pose: Tensor, visible: Tensor, wanted: Tensor) -> Tensor:
        """Refine what each step of a rollout could refine, with each second encoded once.

        The same numbers as :meth:`forward` at every step, for the tokens that count: on a rollout of 20 steps a
        quarter of the tokens.

        Args:
            mono: Estimates of the separators at all steps, ``(S, B, F, T, 1)``; earlier seconds that a rollout began
                with may stand before them.
            pose: ``(S, B, 4)``.
            visible: Which seconds exist for which step (its own among them), ``(steps, B, S)`` bool; see
                :func:`~espnet_av.activesep.memory_buffer.rollout_visibility`.
            wanted: Which of these to return, ``(steps, B, S)`` bool.

        Returns:
            Magnitudes in the order of ``wanted.nonzero()``, ``(P, F, T, 1)``.
        """
        features, skips = self.encode(mono.transpose(0, 1), pose.transpose(0, 1))  # (B, S, ...)
        step, env, second = visible.nonzero(as_tuple=True)
        keep = wanted[step, env, second]
        x = features[env, second]
        layer: Any  # a MemoryLayer
        for number, layer in enumerate(self.layers):
            if number == 0:
                query, key, value = (part[env, second] for part in layer.qkv(layer.norm1(features)).chunk(3, -1))
            else:
                query, key, value = layer.qkv(layer.norm1(x)).chunk(3, -1)
            dense = [
                x.new_zeros(*visible.shape, self.dim).index_put((step, env, second), p) for p in (query, key, value)
            ]
            gathered = layer.attend(*(part.flatten(0, 1) for part in dense), visible.flatten(0, 1))
            gathered = gathered.unflatten(0, visible.shape[:2])
            if number == len(self.layers) - 1:
                step, env, second, x = step[keep], env[keep], second[keep], x[keep]
            x = layer.finish(x, gathered[step, env, second])
        return self.decode(self.norm(x), skips[env, second])


def refinement_loss(
    refined: Tensor, target: Tensor, window: Tensor | None = None, *, num_slots: int | None = None
) -> Tensor:
    """Return the mean absolute error of refined magnitudes, lower is better.

    Args:
        refined: ``(..., F, T, 1)``.
        target: Normalised magnitudes of the dry target, of the same shape.
        window: Which of them count, ``(...)``; None: all.
        num_slots: Divide as the reference does, by this many slots for each environment and step (39 and the present
            one) instead of by those that count. What counts must then be given for each of them by ``window``, or
            with :meth:`AcousticMemory.refine_rollout` as ``num_slots = slots * steps * environments``.

    Returns:
        A scalar.
    """
    error = (refined - target).abs().flatten(-3).mean(-1)
    if window is not None:
        window = window.to(error)
        error = error * window
    count = num_slots if num_slots is not None else (window.sum() if window is not None else error.numel())
    return error.sum() / count
