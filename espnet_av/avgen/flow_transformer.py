# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The two-stream windowed transformer that gives the velocity of speech and motion at a time of the flow.

Two stacks of blocks, one for motion and one for speech, share the clock and the embedding of the flow's time. After
every block a *highway* lets each stream see the same frame of the other one.

::

    motion, tokens --linear-- block --+-- block --+-- ... --linear-- velocity of motion
                                   highway     highway
    speech, tokens --linear-- block --+-- block --+-- ... --linear-- velocity of speech

Axes: ``B`` batch, ``T`` frames at the mel rate, ``D`` width, ``C`` condition.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.avgen.banded_attention import (
    Window,
    banded_attention,
    banded_mask,
    dense_attention,
    dense_mask,
)
from espnet_av.avgen.frame_memory import FrameMemory
from espnet_av.avgen.rope import RotaryEmbedding, rotate
from espnet_av.utils.errors import DataError, describe, usage_error

ATTENTION = ("banded", "dense")
HIGHWAYS = ("linear", "none", "conv", "cross")
STREAMS = ("visual", "audio")
DEFAULT_WINDOWS: tuple[Window, ...] = ((16, 8),) * 8
NORM_EPS = 1e-6
CONV_KERNEL = 5  # of the "conv" highway
MAX_PERIOD = 10000.0


class TimeEmbedding(nn.Module):
    """Sines and cosines of the flow's time through two linear layers.

    Args:
        dim: Width of the result; ``dim / 8`` frequencies.
        scale: The time is multiplied by this. The published system leaves it at 1, where neighbouring times look alike.
    """

    frequencies: Tensor

    def __init__(self, dim: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        num = dim // 8
        frequencies = torch.exp(-math.log(MAX_PERIOD) * torch.arange(num) / (num - 1))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(2 * num, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        """Embed times ``(B,)`` as ``(B, D)``."""
        angles = (t.float() * self.scale).unsqueeze(1) * self.frequencies
        return self.mlp(torch.cat((angles.sin(), angles.cos()), dim=1))


class AdaptiveNorm(nn.Module):
    """Layer norm whose shift, scale and the gate behind it come from the time embedding.

    The gate starts at zero: a new block passes its input on unchanged.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 3 * dim)
        nn.init.zeros_(self.linear.bias)
        nn.init.zeros_(self.linear.weight[:dim].detach())

    def forward(self, x: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise ``(B, T, D)`` for a time embedding ``(B, D)``; returns it with the gate ``(B, 1, D)``."""
        gate, shift, scale = self.linear(time).unsqueeze(1).chunk(3, dim=-1)
        return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=NORM_EPS), 1 + scale), gate


class WindowedAttention(nn.Module):
    """Self-attention with rotary positions over a window of frames.

    Args:
        dim: Width of the stream.
        num_heads: Heads.
        window: Frames seen before and after.
        kind: ``banded`` or ``dense``: the same numbers at another cost.
    """

    def __init__(self, dim: int, num_heads: int, window: Window, kind: str) -> None:
        super().__init__()
        self.num_heads, self.window, self.kind = num_heads, window, kind
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, turns: Tensor, mask: Tensor, memory: FrameMemory | None = None) -> Tensor:
        """Attend.

        Args:
            x: ``(B, T, D)``.
            turns: Rotations of the positions, of remembered frames first.
            mask: Of :mod:`espnet_av.avgen.banded_attention`, for this window and all these frames.
            memory: With finished frames before ``x``.
        """
        length, dim = x.shape[1], x.shape[-1] // self.num_heads
        qkv = self.qkv(x)
        if memory is not None:
            qkv = memory.extend(self, qkv, self.window[0])
        qkv = qkv.unflatten(-1, (self.num_heads, 3, dim))
        value = qkv[..., 2, :]
        query, key = rotate(qkv[..., :2, :], turns).to(value.dtype).unbind(-2)
        if self.kind == "banded":
            attended = banded_attention(query, key, value, mask, self.window)
        else:
            attended = dense_attention(query, key, value, mask)
        return self.out(attended[:, -length:].flatten(2))


class Block(nn.Module):
    """Attention and feed-forward, each behind an adaptive norm and a gate."""

    def __init__(self, dim: int, hidden_dim: int, num_heads: int, window: Window, kind: str, dropout: float) -> None:
        super().__init__()
        self.attention_norm = AdaptiveNorm(dim)
        self.attention = WindowedAttention(dim, num_heads, window, kind)
        self.feedforward_norm = AdaptiveNorm(dim)
        self.feedforward = nn.Sequential(
            nn.Linear(dim, hidden_dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden_dim, dim)
        )

    def forward(
        self, x: Tensor, time: Tensor, turns: Tensor, mask: Tensor, memory: FrameMemory | None = None
    ) -> Tensor:
        """Run ``(B, T, D)`` for a time embedding ``(B, D)``."""
        y, gate = self.attention_norm(x, time)
        x = torch.addcmul(x, gate, self.attention(y, turns, mask, memory))
        y, gate = self.feedforward_norm(x, time)
        return torch.addcmul(x, gate, self.feedforward(y))


class LinearHighway(nn.Linear):
    """What each frame of both streams tells the same frame of the other one: one linear layer over both.

    It is that layer, and does not hold one, so that its weights keep the published names.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(2 * dim, 2 * dim)

    def forward(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]  # two streams
        """Exchange; both ``(B, T, D)``."""
        to_audio, to_visual = super().forward(torch.cat((audio, visual), dim=-1)).chunk(2, dim=-1)
        return visual + to_visual, audio + to_audio


class ConvHighway(nn.Module):
    """A linear highway behind a depthwise convolution over neighbouring frames."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2 * dim, 2 * dim, CONV_KERNEL, padding=CONV_KERNEL // 2, groups=2 * dim)
        self.linear = nn.Linear(2 * dim, 2 * dim)

    def forward(self, visual: Tensor, audio: Tensor, memory: FrameMemory | None = None) -> tuple[Tensor, Tensor]:
        """Exchange; both ``(B, T, D)``."""
        length, both = audio.shape[1], torch.cat((audio, visual), dim=-1)
        if memory is not None:
            both = memory.extend(self, both, CONV_KERNEL // 2)
        mixed = self.linear(F.gelu(self.conv(both.transpose(1, 2)).transpose(1, 2)[:, -length:]))
        to_audio, to_visual = mixed.chunk(2, dim=-1)
        return visual + to_visual, audio + to_audio


class CrossHighway(nn.Module):
    """Each stream attends to the neighbourhood of the frame in the other one."""

    def __init__(self, dim: int, num_heads: int, window: Window, kind: str) -> None:
        super().__init__()
        self.num_heads, self.window, self.kind = num_heads, window, kind
        self.query = nn.ModuleDict({name: nn.Linear(dim, dim) for name in STREAMS})
        self.memory = nn.ModuleDict({name: nn.Linear(dim, 2 * dim) for name in STREAMS})
        self.out = nn.ModuleDict({name: nn.Linear(dim, dim) for name in STREAMS})

    def forward(
        self, visual: Tensor, audio: Tensor, turns: Tensor, mask: Tensor, memory: FrameMemory | None = None
    ) -> tuple[Tensor, Tensor]:
        """Exchange; both ``(B, T, D)``, rotations, mask and memory as the blocks take them."""
        new_visual = visual + self._attend("visual", visual, audio, turns, mask, memory)
        return new_visual, audio + self._attend("audio", audio, visual, turns, mask, memory)

    def _attend(
        self, name: str, own: Tensor, other: Tensor, turns: Tensor, mask: Tensor, memory: FrameMemory | None
    ) -> Tensor:
        length = own.shape[1]
        own, other = (F.layer_norm(each, each.shape[-1:], eps=NORM_EPS) for each in (own, other))
        qkv = torch.cat((self.query[name](own), self.memory[name](other)), dim=-1)
        if memory is not None:
            qkv = memory.extend(self, qkv, self.window[0], name)
        query, key, value = qkv.unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        query, key = (rotate(each, turns).to(value.dtype) for each in (query, key))
        if self.kind == "banded":
            attended = banded_attention(query, key, value, mask, self.window)
        else:
            attended = dense_attention(query, key, value, mask)
        return self.out[name](attended[:, -length:].flatten(2))


class FlowTransformer(nn.Module):
    """The velocity field of the generator.

    Args:
        visual_dim: Values of a motion frame: face code and head latent.
        audio_dim: Values of a speech frame: mel bands.
        condition_dim: Values of the condition of a frame: tokens, and in a conversation what the partner does.
        d_model: Width of each stream.
        hidden_dim: Width of the feed-forward layers.
        window_per_layer: Frames that a frame sees before and after it, per layer; as many layers as windows.
        num_heads: Attention heads.
        dropout: Within the feed-forward layers.
        attention: ``banded`` (cost grows with the length) or ``dense`` (with its square): the same numbers.
        highway: How the streams see each other after a block: ``linear`` (published), ``none``, ``conv`` (depthwise
            convolution first), ``cross`` (windowed cross-attention).
        time_scale: See :class:`TimeEmbedding`.
        visual_extra_dim: Further values that only the motion stream gets, e.g. finished speech.
        audio_extra_dim: The same for the speech stream.

    Attributes:
        reach: Frames before and after that the velocity of a frame depends on.

    Raises:
        UsageError: A size or name is out of range.
    """

    def __init__(
        self,
        visual_dim: int = 264,
        audio_dim: int = 80,
        condition_dim: int = 29,
        d_model: int = 512,
        hidden_dim: int = 1024,
        window_per_layer: Sequence[Sequence[int]] = DEFAULT_WINDOWS,
        num_heads: int = 4,
        dropout: float = 0.0,
        attention: str = "banded",
        highway: str = "linear",
        time_scale: float = 1.0,
        visual_extra_dim: int = 0,
        audio_extra_dim: int = 0,
    ) -> None:
        super().__init__()
        windows = _check_windows(window_per_layer)
        if attention not in ATTENTION:
            usage_error("unknown attention", attention, ATTENTION)
        if highway not in HIGHWAYS:
            usage_error("unknown highway", highway, HIGHWAYS)
        if num_heads < 1 or hidden_dim < 1 or not 0 <= dropout <= 1:
            allowed = "1 or more, 1 or more, 0 to 1"
            usage_error("num_heads, hidden_dim or dropout is out of range", (num_heads, hidden_dim, dropout), allowed)
        if d_model % (2 * num_heads) or d_model < 16 or d_model % 8:
            usage_error("d_model must be a multiple of 8 and of twice the heads", (d_model, num_heads), "16 or more")
        self.visual_dim, self.audio_dim, self.condition_dim = visual_dim, audio_dim, condition_dim
        self.windows, self.attention, self.highway = windows, attention, highway
        extra = CONV_KERNEL // 2 * len(windows) if highway == "conv" else 0
        twice = 2 if highway == "cross" else 1
        self.reach = tuple(twice * sum(window[side] for window in windows) + extra for side in (0, 1))

        self.time_embedding = TimeEmbedding(d_model, time_scale)
        self.visual_in = nn.Linear(visual_dim + condition_dim + visual_extra_dim, d_model)
        self.audio_in = nn.Linear(audio_dim + condition_dim + audio_extra_dim, d_model)
        self.rope = RotaryEmbedding(d_model // num_heads)
        blocks = [
            nn.ModuleList(Block(d_model, hidden_dim, num_heads, window, attention, dropout) for window in windows)
            for _ in STREAMS
        ]
        self.visual_blocks, self.audio_blocks = blocks
        self.highways = nn.ModuleList(_build_highway(highway, d_model, num_heads, each, attention) for each in windows)
        self.visual_out = nn.Linear(d_model, visual_dim)
        self.audio_out = nn.Linear(d_model, audio_dim)

    def forward(
        self,
        visual: Tensor,
        audio: Tensor,
        t: Tensor,
        condition: Tensor,
        mask: Tensor | None = None,
        *,
        visual_extra: Tensor | None = None,
        audio_extra: Tensor | None = None,
        memory: FrameMemory | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the velocities of motion and speech.

        Args:
            visual: Noisy motion, ``(B, T, visual_dim)``.
            audio: Noisy speech, ``(B, T, audio_dim)``.
            t: Time of the flow, 0 (noise) to 1 (data), ``(B,)``.
            condition: ``(B, T, condition_dim)``.
            mask: False for padding, ``(B, T)``; None: no padding.
            visual_extra: ``(B, T, visual_extra_dim)``, where the network takes it.
            audio_extra: ``(B, T, audio_extra_dim)``, where the network takes it.
            memory: With what the layers remember of the frames before these; without padding.

        Returns:
            ``(B, T, visual_dim)`` and ``(B, T, audio_dim)``.

        Raises:
            DataError: The streams differ in length.
        """
        time, around = self._prepare(audio, t, condition, mask, memory)
        if visual.shape[1] != audio.shape[1]:
            raise DataError(describe("motion and speech differ in length", got=(visual.shape[1], audio.shape[1])))
        visual = self.visual_in(_join(visual, condition, visual_extra))
        audio = self.audio_in(_join(audio, condition, audio_extra))
        for layer, window in enumerate(self.windows):
            visual = self.visual_blocks[layer](visual, time, *around[window], memory)
            audio = self.audio_blocks[layer](audio, time, *around[window], memory)
            if self.highway == "cross":
                visual, audio = self.highways[layer](visual, audio, *around[window], memory)
            elif self.highway == "conv":
                visual, audio = self.highways[layer](visual, audio, memory)
            elif self.highway == "linear":
                visual, audio = self.highways[layer](visual, audio)
        if memory is not None:
            memory.finish()
        return self.visual_out(visual), self.audio_out(audio)

    def forward_stream(
        self,
        stream: str,
        x: Tensor,
        t: Tensor,
        condition: Tensor,
        mask: Tensor | None = None,
        *,
        extra: Tensor | None = None,
        memory: FrameMemory | None = None,
    ) -> Tensor:
        """Return the velocity of one stream alone, of a network without highway.

        Args:
            stream: ``visual`` or ``audio``.
            x: Noisy frames, ``(B, T, dim)``.
            t, condition, mask, memory: As in :meth:`forward`.
            extra: What only this stream gets.

        Raises:
            UsageError: The streams see each other.
        """
        if self.highway != "none":
            usage_error("the streams of this network see each other", self.highway, "highway: none")
        time, around = self._prepare(x, t, condition, mask, memory)
        layers = {name: getattr(self, f"{stream}_{name}") for name in ("in", "blocks", "out")}
        x = layers["in"](_join(x, condition, extra))
        for block, window in zip(layers["blocks"], self.windows, strict=True):
            x = block(x, time, *around[window], memory)
        if memory is not None:
            memory.finish()
        return layers["out"](x)

    def _prepare(
        self, x: Tensor, t: Tensor, condition: Tensor, mask: Tensor | None, memory: FrameMemory | None
    ) -> tuple[Tensor, dict[Window, tuple[Tensor, Tensor]]]:
        """Return the time embedding, and rotations and mask of each window, those of remembered frames first."""
        batch, length = x.shape[:2]
        if condition.shape[1] != length:
            raise DataError(describe("condition and streams differ in length", got=(condition.shape[1], length)))
        make = banded_mask if self.attention == "banded" else dense_mask
        options = {"batch": batch} if self.attention == "banded" else {}
        around = {}
        for window in set(self.windows):
            frames = length if memory is None else length + memory.num_before(window[0])
            around[window] = (self.rope(frames, x.device), make(frames, window, mask, x.device, **options))
        return self.time_embedding(t), around


def _join(x: Tensor, condition: Tensor, extra: Tensor | None) -> Tensor:
    return torch.cat((x, condition) if extra is None else (x, condition, extra), dim=-1)


def _check_windows(window_per_layer: Sequence[Sequence[int]]) -> tuple[Window, ...]:
    windows = tuple(tuple(int(side) for side in window) for window in window_per_layer)
    if not windows or any(len(window) != 2 or min(window) < 0 for window in windows):
        usage_error("window_per_layer must hold pairs of frames before and after", windows, "e.g. [[16, 8], [16, 8]]")
    return tuple((before, after) for before, after in windows)


def _build_highway(kind: str, dim: int, num_heads: int, window: Window, attention: str) -> nn.Module:
    if kind == "linear":
        return LinearHighway(dim)
    if kind == "conv":
        return ConvHighway(dim)
    if kind == "cross":
        return CrossHighway(dim, num_heads, window, attention)
    return nn.Identity()
