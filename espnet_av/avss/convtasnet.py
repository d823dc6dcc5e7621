# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Conv-TasNet (Luo and Mesgarani, "Conv-TasNet: Surpassing ideal time-frequency magnitude masking", 2019).

The audio-only baseline: mixture -> all voices. The variant of the defaults has biases everywhere and a linear encoder,
5.07 M parameters; :data:`TORCHAUDIO` and :data:`ESPNET` are the keywords of two other well-known ones. State-dict keys
are those of torchaudio.

Axes: ``B`` batch, ``N`` samples, ``F`` filters, ``C`` channels of the bottleneck, ``H`` of the blocks, ``n`` frames,
``S`` sources.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.utils.errors import usage_error

ACTIVATIONS = {"linear": nn.Identity, "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}
PADDINGS = ("right", "both", "drop_tail_quirk")
INPUT_NORMS = ("gln", "cln")
#: Keywords that make the network of ``torchaudio.models.ConvTasNet`` (whose windows are ``kernel=16`` by default).
TORCHAUDIO: dict[str, Any] = {"padding": "both", "codec_bias": False, "last_residual": False}
#: Keywords that make ESPnet's ``ConvEncoder`` + ``TCNSeparator`` + ``ConvDecoder``: no path of skips.
ESPNET: dict[str, Any] = {
    "padding": "drop_tail_quirk",
    "codec_bias": False,
    "conv_bias": False,
    "encoder_act": "relu",
    "input_norm": "cln",
    "mask_act": "relu",
    "skip": False,
    "eps": torch.finfo(torch.float32).eps,
}


class GlobalNorm(nn.GroupNorm):
    """gLN: mean and variance over channels and frames of an item, gain and shift per channel."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__(1, channels, eps=eps)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``(B, C, n)`` -> same shape; frames outside of ``mask (B, 1, n)`` do not count and become 0."""
        if mask is None:
            return super().forward(x)
        count = mask.sum((1, 2), keepdim=True) * x.shape[1]
        centred = x - (x * mask).sum((1, 2), keepdim=True) / count
        variance = (centred.square() * mask).sum((1, 2), keepdim=True) / count
        gain = self.weight[:, None] * torch.rsqrt(variance + self.eps)
        return (centred * gain + self.bias[:, None]) * mask


class FrameNorm(nn.LayerNorm):
    """cLN: mean and variance over the channels of each frame, gain and shift per channel."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``(B, C, n)`` -> same shape."""
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class ConvBlock(nn.Module):
    """1x1 convolution, depthwise convolution, each with PReLU and gLN, then a residual and a skip (figure 1B).

    Args:
        channels: Channels ``C`` of input, residual and skip.
        hidden: Channels ``H`` inside.
        kernel: Taps of the depthwise convolution, odd.
        dilation: Frames between taps.
        bias: Biases of the convolutions.
        residual: Whether there is a residual path.
        skip: Whether there is a skip path.
        eps: Of the norms.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        *,
        kernel: int,
        dilation: int,
        bias: bool,
        residual: bool,
        skip: bool,
        eps: float,
    ) -> None:
        super().__init__()
        padding = (kernel - 1) * dilation // 2
        self.conv_layers = nn.ModuleList(
            [
                nn.Conv1d(channels, hidden, 1, bias=bias),
                nn.PReLU(),
                GlobalNorm(hidden, eps),
                nn.Conv1d(hidden, hidden, kernel, padding=padding, dilation=dilation, groups=hidden, bias=bias),
                nn.PReLU(),
                GlobalNorm(hidden, eps),
            ]
        )
        self.res_out = nn.Conv1d(hidden, channels, 1, bias=bias) if residual else None
        self.skip_out = nn.Conv1d(hidden, channels, 1, bias=bias) if skip else None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor | None, Tensor | None]:
        """``(B, C, n)`` -> residual and skip, each ``(B, C, n)`` or None."""
        narrow, act1, norm1, depthwise, act2, norm2 = self.conv_layers
        x = norm1(act1(narrow(x)), mask)
        x = norm2(act2(depthwise(x)), mask)
        residual = None if self.res_out is None else self.res_out(x)
        return residual, None if self.skip_out is None else self.skip_out(x)


class MaskGenerator(nn.Module):
    """Stacks of dilated blocks that give one mask per source (figure 1C).

    Args:
        filters: Filters ``F`` of the encoder.
        num_sources: Masks ``S``.
        bottleneck: Channels ``C`` between blocks.
        hidden: Channels ``H`` in blocks.
        kernel: Taps of the depthwise convolutions, odd.
        layers: Blocks of a stack, dilated 1, 2, 4, ...
        stacks: Stacks.
        mask_act: Activation of the masks.
        input_norm: First norm, ``gln`` or ``cln``.
        bias: Biases of the convolutions.
        skip: Sum the skips of all blocks; False takes the residual stream, as ESPnet does.
        last_residual: Keep the residual path of the last block; where there are skips it has no effect and does not
            learn.
        eps: Of the norms.
    """

    def __init__(
        self,
        filters: int,
        *,
        num_sources: int,
        bottleneck: int,
        hidden: int,
        kernel: int,
        layers: int,
        stacks: int,
        mask_act: str,
        input_norm: str,
        bias: bool,
        skip: bool,
        last_residual: bool,
        eps: float,
    ) -> None:
        super().__init__()
        self.num_sources = num_sources
        self.input_norm = (GlobalNorm if input_norm == "gln" else FrameNorm)(filters, eps)
        self.input_conv = nn.Conv1d(filters, bottleneck, 1, bias=bias)
        total = layers * stacks
        self.conv_layers = nn.ModuleList(
            ConvBlock(
                bottleneck,
                hidden,
                kernel=kernel,
                dilation=2 ** (index % layers),
                bias=bias,
                residual=last_residual or not skip or index < total - 1,
                skip=skip,
                eps=eps,
            )
            for index in range(total)
        )
        if skip and last_residual:  # training on several devices would wait for its gradient
            self.conv_layers[-1].res_out.requires_grad_(False)
        self.output_prelu = nn.PReLU()
        self.output_conv = nn.Conv1d(bottleneck, filters * num_sources, 1, bias=bias)
        self.mask_act = ACTIVATIONS[mask_act]()

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """``(B, F, n)`` -> masks ``(B, S, F, n)``; only frames of ``mask (B, 1, n)`` count."""
        x = self.input_conv(self.input_norm(features, mask))
        skips: Tensor | None = None
        for block in self.conv_layers:
            residual, skip = block(x, mask)
            if skip is not None:
                skips = skip if skips is None else skips + skip
            if residual is not None:
                x = x + residual
        masks = self.mask_act(self.output_conv(self.output_prelu(x if skips is None else skips)))
        return masks.unflatten(1, (self.num_sources, -1))


class ConvTasNet(nn.Module):
    """Mixture -> voices.

    Args:
        num_sources: Voices ``S``.
        filters: Filters ``F`` of encoder and decoder.
        kernel: Samples of a window.
        stride: Samples between windows; None takes half a window.
        bottleneck: Channels ``C`` between blocks.
        hidden: Channels ``H`` in blocks.
        block_kernel: Taps of the depthwise convolutions, odd.
        layers: Blocks of a stack, dilated 1, 2, 4, ...
        stacks: Stacks.
        mask_act: Activation of the masks: ``sigmoid``, ``relu``, ``tanh`` or ``linear``.
        encoder_act: Activation after the encoder.
        input_norm: First norm: ``gln`` over the clip or ``cln`` over each frame.
        codec_bias: Biases of encoder and decoder.
        conv_bias: Biases of the other convolutions.
        skip: Sum the skips of all blocks; False takes the residual stream.
        last_residual: Keep the residual path of the last block; where there are skips it has no effect and does not
            learn.
        padding: ``right``: zeros behind the mixture until the windows fit; ``both``: half a window of zeros before it
            as well; ``drop_tail_quirk``: samples that do not fill a window come back as zeros, as in ESPnet.
        eps: Of the norms.

    Raises:
        UsageError: A value that is not allowed.
    """

    def __init__(
        self,
        *,
        num_sources: int = 2,
        filters: int = 512,
        kernel: int = 32,
        stride: int | None = None,
        bottleneck: int = 128,
        hidden: int = 512,
        block_kernel: int = 3,
        layers: int = 8,
        stacks: int = 3,
        mask_act: str = "sigmoid",
        encoder_act: str = "linear",
        input_norm: str = "gln",
        codec_bias: bool = True,
        conv_bias: bool = True,
        skip: bool = True,
        last_residual: bool = True,
        padding: str = "right",
        eps: float = 1e-8,
    ) -> None:
        super().__init__()
        _check_choice("padding", padding, PADDINGS)
        _check_choice("input_norm", input_norm, INPUT_NORMS)
        _check_choice("mask_act", mask_act, ACTIVATIONS)
        _check_choice("encoder_act", encoder_act, ACTIVATIONS)
        if block_kernel % 2 == 0:
            usage_error("block_kernel of ConvTasNet must be odd", got=block_kernel)
        self.kernel = kernel
        self.stride = kernel // 2 if stride is None else stride
        if not 1 <= self.stride <= kernel:
            usage_error("stride of ConvTasNet", got=self.stride, allowed=f"1 to kernel ({kernel})")
        self.padding = padding
        self.edge = self.stride if padding == "both" else 0
        window: dict[str, Any] = {
            "kernel_size": kernel,
            "stride": self.stride,
            "padding": self.edge,
            "bias": codec_bias,
        }
        self.encoder = nn.Conv1d(1, filters, **window)
        self.encoder_act = ACTIVATIONS[encoder_act]()
        self.mask_generator = MaskGenerator(
            filters,
            num_sources=num_sources,
            bottleneck=bottleneck,
            hidden=hidden,
            kernel=block_kernel,
            layers=layers,
            stacks=stacks,
            mask_act=mask_act,
            input_norm=input_norm,
            bias=conv_bias,
            skip=skip,
            last_residual=last_residual,
            eps=eps,
        )
        self.decoder = nn.ConvTranspose1d(filters, 1, **window)

    @property
    def num_sources(self) -> int:
        """Voices that come out."""
        return self.mask_generator.num_sources

    def encode(self, mix: Tensor) -> Tensor:
        """Return the representation ``(B, F, n)`` of a mixture ``(B, N)``, padded as :attr:`padding` says."""
        missing = self.padded_length(mix.shape[-1]) - mix.shape[-1]
        return self.encoder_act(self.encoder(F.pad(mix, (0, max(missing, 0))).unsqueeze(1)))

    def decode(self, features: Tensor, num_samples: int) -> Tensor:
        """``(B, F, n)`` -> ``(B, num_samples)``."""
        wave = self.decoder(features).squeeze(1)
        return F.pad(wave, (0, max(num_samples - wave.shape[-1], 0)))[:, :num_samples]

    def forward(self, mix: Tensor, mix_lengths: Tensor | None = None) -> Tensor:
        """Separate a batch.

        Args:
            mix: ``(B, N)``.
            mix_lengths: Valid samples ``(B,)``. What lies behind takes no part: an item gives the same in any batch.

        Returns:
            ``(B, S, N)``, zeros behind the valid samples.

        Raises:
            UsageError: Another shape.
        """
        if mix.dim() != 2 or 0 in mix.shape:
            usage_error("ConvTasNet takes a batch of mono mixtures", got=tuple(mix.shape), allowed="(B, N)")
        num_samples, frame_mask, sample_mask = mix.shape[1], None, None
        if mix_lengths is not None and bool((mix_lengths >= num_samples).all()):
            mix_lengths = None  # nothing is padded
        if mix_lengths is not None:
            sample_mask = torch.arange(num_samples, device=mix.device) < mix_lengths.to(mix.device)[:, None]
            mix = mix * sample_mask
        features = self.encode(mix)  # (B, F, n)
        if mix_lengths is not None:
            valid = torch.tensor([self.num_frames(int(length)) for length in mix_lengths], device=mix.device)
            frame_mask = (torch.arange(features.shape[-1], device=mix.device) < valid[:, None]).unsqueeze(1)
            features = features * frame_mask
        voices = self.mask_generator(features, frame_mask) * features.unsqueeze(1)  # (B, S, F, n)
        output = self.decode(voices.flatten(0, 1), num_samples).unflatten(0, voices.shape[:2])
        return output if sample_mask is None else output * sample_mask.unsqueeze(1)

    def padded_length(self, num_samples: int) -> int:
        """Return the samples that the windows span, without those before the first sample and as many at the end."""
        kernel, stride = self.kernel, self.stride
        if self.padding == "both":
            odd = kernel % 2
            strides = -(-max(num_samples - odd, 0) // stride)
            return max(odd + strides * stride, kernel - 2 * self.edge)
        rest = max(num_samples - kernel, 0)
        if self.padding == "drop_tail_quirk":
            return kernel + rest // stride * stride
        step = kernel if kernel % stride == 0 else stride
        return kernel + -(-rest // step) * step

    def num_frames(self, num_samples: int) -> int:
        """Return the windows of a mixture."""
        return (self.padded_length(num_samples) + 2 * self.edge - self.kernel) // self.stride + 1


def _check_choice(name: str, value: str, allowed: Any) -> None:
    if value not in allowed:
        usage_error(f"{name} of ConvTasNet", got=value, allowed=sorted(allowed))
