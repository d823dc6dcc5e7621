# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The RTFS block of RTFS-Net and the skeleton that its lip counterpart shares.

Pegg, Li and Hu, "RTFS-Net: recurrent time-frequency modelling for efficient audio-visual speech separation"
(ICLR 2024); the skeleton comes from TDANet (Li, Yang and Hu, ICLR 2023). Names of parameters are the published ones.

Axes: ``B`` batch, ``T`` frames, ``F`` bins, ``C`` channels outside, ``D`` channels inside a block. Audio tensors have
channels last: ``(B, T, F, C)``; 1x1 convolutions are then matrix products over rows that lie one after another.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.avss.dual_path import DualPathRNN
from espnet_av.avss.norms import GlobalNorm
from espnet_av.avss.tf_attention import TFAttention
from espnet_av.layers.typed_modules import Part, submodule

UPSAMPLE_FRAMES = 16  # at a time


class ConvLayer(nn.Module):
    """Pre-norm, pre-activation, convolution, norm, activation; any of them but the convolution may be missing.

    State-dict keys are ``full_layer.<place>.*`` with the places 0 to 4 in this order.
    """

    def __init__(
        self,
        conv: nn.Module,
        *,
        norm: nn.Module | None = None,
        act: nn.Module | None = None,
        pre_norm: nn.Module | None = None,
        pre_act: nn.Module | None = None,
    ) -> None:
        super().__init__()
        places = {"0": pre_norm, "1": pre_act, "2": conv, "3": norm, "4": act}
        self.full_layer = nn.ModuleDict({place: module for place, module in places.items() if module is not None})

    @property
    def conv(self) -> nn.Module:
        """The convolution."""
        return self.full_layer["2"]

    def part(self, place: str, kind: type[Part]) -> Part:
        """Return what stands at a place.

        Raises:
            AttributeError: Nothing does.
            TypeError: It is of another kind.
        """
        return submodule(self.full_layer, place, kind)

    def forward(self, x: Tensor) -> Tensor:
        """Apply all parts."""
        for module in self.full_layer.values():
            x = module(x)
        return x

    def after_conv(self, x: Tensor) -> Tensor:
        """Apply only what follows the convolution."""
        for place in ("3", "4"):
            if place in self.full_layer:
                x = self.full_layer[place](x)
        return x


class PointwiseConv(nn.Conv2d):
    """1x1 convolution of ``(B, T, F, C)``."""

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., C)`` -> ``(..., C')``."""
        return F.linear(x, self.weight.flatten(1), self.bias)


class ChannelScale(nn.Conv2d):
    """Depthwise 1x1 convolution of ``(B, T, F, C)``: a gain per channel and, with ``bias``, a shift."""

    def __init__(self, channels: int, *, bias: bool = True) -> None:
        super().__init__(channels, channels, 1, groups=channels, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., C)`` -> same shape."""
        gain = self.weight.flatten()
        return x * gain if self.bias is None else torch.addcmul(self.bias, x, gain)


class DepthwiseConv(nn.Conv2d):
    """Depthwise convolution of ``(B, T, F, C)``.

    Stride 1 keeps the size: an even kernel reaches one position further to the end than to the start. Another stride
    pads both sides alike.
    """

    def __init__(self, channels: int, kernel: int, *, stride: int = 1, bias: bool = True) -> None:
        super().__init__(channels, channels, kernel, stride, groups=channels, bias=bias)
        self.before, self.after = (kernel - 1) // 2, kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, F, C)`` -> ``(B, T', F', C)``; may be a view without its tensor's first frame and bin."""
        same = self.stride[0] == 1
        padding = self.after if same else self.before  # an even kernel gives one position too many at the start
        y = F.conv2d(x.permute(0, 3, 1, 2), self.weight, self.bias, self.stride, padding, groups=self.groups)
        extra = self.after - self.before if same else 0
        return y.permute(0, 2, 3, 1)[:, extra:, extra:]


class InplacePReLU(nn.PReLU):
    """PReLU with one slope that overwrites its input where no gradients are needed on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of ``x``."""
        if torch.is_grad_enabled() or not x.is_cpu:
            return super().forward(x)
        return F.leaky_relu_(x, self.weight.item())


def resize_nearest(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample ``(B, T, F, C)`` to ``size`` positions by the position whose floor is next."""
    return F.interpolate(x.permute(0, 3, 1, 2), size, mode="nearest").permute(0, 2, 3, 1).contiguous()


def upsample_and_apply(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """Return ``gain * x + shift`` with both resampled to the size of ``x``, a few frames at a time."""
    num_frames, num_bins = x.shape[1:3]
    gain, shift = (resize_nearest(y, (y.shape[1], num_bins)) for y in (gain, shift))
    steps = torch.arange(gain.shape[1], dtype=x.dtype).view(1, -1, 1, 1)
    source = resize_nearest(steps, (num_frames, 1)).flatten().long()  # of each frame, by the same rounding
    output = x.new_empty(x.shape)
    for chunk in torch.arange(num_frames).split(UPSAMPLE_FRAMES):
        frames = slice(int(chunk[0]), int(chunk[-1]) + 1)
        rows = source[frames]
        torch.addcmul(shift[:, rows], x[:, frames], gain[:, rows], out=output[:, frames])
    return output


def pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Average ``(B, T, F, C)`` over areas that give ``size`` positions."""
    return F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1).contiguous()


class TFAR(nn.Module):
    """Temporal-frequency attention reconstruction ``I(m, n)``: ``n`` gates ``m`` and is added to it.

    Convolutions run at the smaller of both sizes. Where ``m`` is the larger, its norm, the gate and the sum are one
    multiplication and one addition with tensors that are put together at the size of ``n``.

    Args:
        channels: Channels of both.
        kernel: Kernel of the depthwise convolutions.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()

        def layer() -> ConvLayer:
            return ConvLayer(DepthwiseConv(channels, kernel, bias=False), norm=GlobalNorm(channels))

        self.local_embedding = layer()
        self.global_embedding = layer()
        self.global_gate = layer()

    def forward(self, m: Tensor, n: Tensor) -> Tensor:
        """``m (B, T, F, D)``, ``n (B, T', F', D)`` -> ``(B, T, F, D)``."""
        size = m.shape[1], m.shape[2]
        upsample = math.prod(size) > math.prod(n.shape[1:3])
        if not upsample and n.shape != m.shape:
            n = resize_nearest(n, size)
        gate, embedding = self.global_gate(n).sigmoid(), self.global_embedding(n)
        local = self.local_embedding.conv(m)
        gain, shift = self.local_embedding.part("3", GlobalNorm).affine(local)
        gain, shift = gain * gate, torch.addcmul(embedding, shift, gate)
        if upsample and local.is_cpu and not torch.is_grad_enabled():
            return upsample_and_apply(local, gain, shift)
        if upsample:
            gain, shift = resize_nearest(gain, size), resize_nearest(shift, size)
        return torch.addcmul(shift, local, gain)


class PyramidBlock(nn.Module):
    """The skeleton of RTFS block and VP block: down through several sizes, global layers at the smallest, up again.

    Args:
        gateway: Outer channels to outer channels.
        projection: Outer channels to inner.
        downsample: One layer per size, the first keeping the size.
        global_layers: What works at the smallest size.
        fusion: Makes the layer ``I(m, n)`` that joins two sizes.
        residual: Inner channels to outer.
        pool: Averages a tensor to a size.
    """

    def __init__(
        self,
        *,
        gateway: ConvLayer,
        projection: ConvLayer,
        downsample: list[nn.Module],
        global_layers: list[nn.Module],
        fusion: Callable[[], nn.Module],
        residual: ConvLayer,
        pool: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.gateway = gateway
        self.projection = projection
        self.downsample_layers = nn.ModuleList(downsample)
        self.globalatt = nn.ModuleList(global_layers)
        self.fusion_layers = nn.ModuleList(fusion() for _ in downsample)
        self.concat_layers = nn.ModuleList(fusion() for _ in downsample[1:])
        self.residual_conv = residual
        self.pool_like = pool

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of ``x``."""
        residual = self.gateway(x)
        projected = self.projection.conv(residual)
        return self.residual_conv(self.refine(projected)) + residual

    def refine(self, x: Tensor) -> Tensor:
        """Do all that happens with inner channels, from the output of the projection's convolution on."""
        x = self.projection.after_conv(x)
        levels = []
        for layer in self.downsample_layers:
            x = layer(x)
            levels.append(x)
        everything = levels[-1]
        for level in levels[:-1]:
            everything = everything + self.pool_like(level, levels[-1])
        for layer in self.globalatt:
            everything = layer(everything)
        fused = [layer(level, everything) for layer, level in zip(self.fusion_layers, levels, strict=True)]
        y = fused.pop()
        for i in reversed(range(len(fused))):
            y = self.concat_layers[i](fused[i], y)
            y = y + levels[i] if torch.is_grad_enabled() else y.add_(levels[i])
        return y


class RTFSBlock(PyramidBlock):
    """The recurrent block over ``(B, T, F, C)``.

    Args:
        channels: Outer channels ``C``.
        hidden: Inner channels ``D``.
        num_bins: Bins ``F`` of the input.
        depth: Sizes: the input's and ``depth - 1`` halvings of both axes.
        kernel: Kernel of the depthwise convolutions.
        rnn_hidden: Hidden units of a direction.
        rnn_layers: Recurrent layers of a path.
        rnn_window: Positions of a window.
        attn_heads: Heads over frames.
        attn_qk_channels: Channels of queries and keys per head.
        projection_norm: Normalise and activate after the projection (off: dialect of the first published weights).
        rnn: ``sru`` (published), ``lstm`` or ``gru``.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        *,
        num_bins: int,
        depth: int = 2,
        kernel: int = 4,
        rnn_hidden: int = 32,
        rnn_layers: int = 4,
        rnn_window: int = 8,
        attn_heads: int = 4,
        attn_qk_channels: int = 4,
        projection_norm: bool = True,
        rnn: str = "sru",
    ) -> None:
        def down(stride: int) -> ConvLayer:
            return ConvLayer(DepthwiseConv(hidden, kernel, stride=stride), norm=GlobalNorm(hidden))

        def path(axis: str) -> DualPathRNN:
            return DualPathRNN(hidden, hidden=rnn_hidden, num_layers=rnn_layers, window=rnn_window, axis=axis, rnn=rnn)

        bins = smallest_size(num_bins, depth, kernel)
        attention = TFAttention(hidden, num_bins=bins, num_heads=attn_heads, qk_channels=attn_qk_channels)
        super().__init__(
            gateway=ConvLayer(ChannelScale(channels), act=nn.PReLU()),
            projection=ConvLayer(
                PointwiseConv(channels, hidden),
                norm=GlobalNorm(hidden, inplace=True) if projection_norm else None,
                act=InplacePReLU() if projection_norm else None,
            ),
            downsample=[down(1 if i == 0 else 2) for i in range(depth)],
            global_layers=[path("freq"), path("time"), attention],
            fusion=lambda: TFAR(hidden, kernel),
            residual=ConvLayer(PointwiseConv(hidden, channels)),
            pool=lambda x, like: pool(x, (like.shape[1], like.shape[2])),
        )


def smallest_size(size: int, depth: int, kernel: int) -> int:
    """Return the positions of an axis after ``depth - 1`` strides of 2.

    >>> smallest_size(129, depth=2, kernel=4)
    64
    """
    for _ in range(depth - 1):
        size = (size + 2 * ((kernel - 1) // 2) - kernel) // 2 + 1
    return size
