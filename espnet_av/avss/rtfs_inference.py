# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""RTFS-Net without gradients on a CPU: the same numbers in fewer trips to memory.

Tensors with all channels at full resolution are the largest of the network, and each of its passes begins and ends with
them. Here all that happens between the inner parts of two passes (residual convolution, fusion, skip, gateway,
projection) runs over a few frames at a time, which stay in the cache; only the bottleneck's output and the residual of
the current pass exist as a whole. The embedding of the mixture is computed again where it is needed.

Axes: ``B`` batch, ``L`` samples, ``T`` frames, ``F`` bins, ``C`` channels, ``D`` inner channels.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.avss.caf import ChannelsLastBatchNorm
from espnet_av.avss.norms import EPS, GlobalNorm
from espnet_av.avss.rtfs_blocks import ChannelScale, ConvLayer
from espnet_av.avss.spectrum import KERNEL

if TYPE_CHECKING:
    from espnet_av.avss.rtfsnet import RTFSNet

CHUNK_FLOATS = 1 << 18  # of a tensor with all channels, per thread: 1 MiB


@torch.no_grad()
def masked_columns(net: "RTFSNet", mix: Tensor, video: Tensor) -> Tensor:
    """Return the input of :meth:`STFTDecoder.wave`.

    Args:
        net: The network in evaluation mode.
        mix: ``(B, L)``; one item after the other.
        video: Output of the VP block ``(B, Cv, Tv)``.

    Returns:
        ``(B, T, F, 2 * 9)``.
    """
    return torch.cat([OneItem(net, mix[i : i + 1], video[i : i + 1]).run() for i in range(len(mix))])


class OneItem:
    """The state of one item on its way through the network.

    Args:
        net: The network in evaluation mode.
        mix: ``(1, L)``.
        video: ``(1, Cv, Tv)``.
    """

    def __init__(self, net: "RTFSNet", mix: Tensor, video: Tensor) -> None:
        self.net = net
        self.block = net.rtfs_block
        spectrum = net.encoder.spectrum(mix)
        self.size = spectrum.shape[2:]
        patches = F.unfold(spectrum, KERNEL, padding=KERNEL // 2)[0]  # (2 * 9, T * F)
        self.patches = patches.t().contiguous()
        self.encoder_weight = net.encoder.conv.part("2", nn.Conv2d).weight.flatten(1)
        self.bottleneck = weight_and_bias(net.audio_bottleneck)
        self.gateway = weight_and_bias(self.block.gateway)
        self.gateway_slope = self.block.gateway.part("4", nn.PReLU).weight.item()
        self.projection = weight_and_bias(self.block.projection)
        self.closing, self.bias = weight_and_bias(self.block.residual_conv)
        self.channels, self.hidden = len(self.encoder_weight), len(self.projection[0])
        self.folded_key, self.folded_value = fold(net.caf.key_embed), fold(net.caf.value_embed)
        key, attention = net.caf.weights(video, self.size[0])
        self.key, self.attention = key[0], attention[0]  # (T, 1, C)
        frames = max(1, CHUNK_FLOATS * torch.get_num_threads() // (self.size[1] * self.channels))
        self.chunks = [slice(t, min(t + frames, self.size[0])) for t in range(0, self.size[0], frames)]

    def run(self) -> Tensor:
        """Return ``(1, T, F, 2 * 9)``."""
        refined = self._refine(self._enter())
        for index in range(self.net.repeats - 1):
            refined = self._refine(self._between(refined, fuse=index == 0))
        return self._leave(refined, fuse=self.net.repeats == 1).unsqueeze(0)

    def _refine(self, projected: Tensor) -> Tensor:
        """Run the inner part of the block: ``(T, F, D)`` -> ``(T, F, D)``."""
        return self.block.refine(projected.unsqueeze(0))[0]

    def _embedding(self, frames: slice) -> Tensor:
        """Return the mixture's embedding of some frames: ``(t, F, C)``."""
        num_bins = self.size[1]
        rows = self.patches[frames.start * num_bins : frames.stop * num_bins]
        return (rows @ self.encoder_weight.t()).unflatten(0, (-1, num_bins))

    def _embedding_affine(self) -> tuple[Tensor, Tensor]:
        """Return gain and shift ``(C,)`` of the norm of the embedding, from the moments of its patches."""
        patches, weight = self.patches.double(), self.encoder_weight.double()
        size = len(patches) * len(weight)
        mean = (patches.sum(0) @ weight.t()).sum() / size
        square = ((weight @ (patches.t() @ patches)) * weight).sum() / size
        norm = self.net.audio_bottleneck.part("0", GlobalNorm).norm
        gain = torch.rsqrt(square - mean.square() + EPS) * norm.weight
        return gain.to(self.patches.dtype), (norm.bias - gain * mean).to(self.patches.dtype)

    def _enter(self) -> Tensor:
        """Fill what is added to each pass and the first residual; return the first projection ``(T, F, D)``.

        ``entry`` is the bottleneck's output plus the bias of the residual convolution, which :meth:`_close_pass`
        leaves out.
        """
        gain, shift = self._embedding_affine()
        self.entry = self.patches.new_empty(*self.size, self.channels)
        self.residual = torch.empty_like(self.entry)
        projected = self.patches.new_empty(*self.size, self.hidden)
        weight, bias = self.bottleneck
        for frames in self.chunks:
            x = self._embedding(frames).mul_(gain).add_(shift).relu_()
            linear_into(self.entry[frames], x, weight, bias + self.bias)
            self._open_pass(frames, self.entry[frames] - self.bias, projected)
        return projected

    def _open_pass(self, frames: slice, x: Tensor, projected: Tensor) -> None:
        """Write the residual and the projection of some frames ``x (t, F, C)``."""
        gain, shift = self.gateway
        residual = self.residual[frames]
        torch.addcmul(shift, x, gain.flatten(), out=residual)
        F.leaky_relu_(residual, self.gateway_slope)
        linear_into(projected[frames], residual, *self.projection)

    def _close_pass(self, frames: slice, refined: Tensor) -> Tensor:
        """Return the output of a pass ``(t, F, C)`` but for a bias, in the memory of the residual."""
        x = self.residual[frames]
        x.flatten(0, 1).addmm_(refined[frames].flatten(0, 1), self.closing.flatten(1).t())
        return x

    def _fuse(self, frames: slice, x: Tensor) -> Tensor:
        """Fuse the output of a pass ``(t, F, C)`` with the lips."""
        gain, shift = self.folded_key
        gated = torch.addcmul(shift, x, gain).relu_().mul_(self.key[frames])
        gain, shift = self.folded_value
        return gated.addcmul_(torch.addcmul(shift, x, gain), self.attention[frames])

    def _between(self, refined: Tensor, *, fuse: bool) -> Tensor:
        """Close a pass and open the next one: ``refined (T, F, D)`` -> its projection ``(T, F, D)``."""
        projected = torch.empty_like(refined)
        for frames in self.chunks:
            x = self._close_pass(frames, refined)
            if fuse:
                x = self._fuse(frames, x.add_(self.bias)).sub_(self.bias)
            self._open_pass(frames, x.add_(self.entry[frames]), projected)
        return projected

    def _leave(self, refined: Tensor, *, fuse: bool) -> Tensor:
        """Close the last pass, mask the embedding: ``(T, F, 2 * 9)``."""
        columns = []
        for frames in self.chunks:
            x = self._close_pass(frames, refined).add_(self.bias)
            masked = self.net.mask_generator(self._fuse(frames, x) if fuse else x, self._embedding(frames))
            columns.append(self.net.decoder.columns(masked))
        return torch.cat(columns)


def weight_and_bias(layer: ConvLayer) -> tuple[Tensor, Tensor]:
    """Return both of a convolution that has a bias."""
    conv = layer.part("2", nn.Conv2d)
    return conv.weight, conv.get_parameter("bias")


def fold(layer: ConvLayer) -> tuple[Tensor, Tensor]:
    """Return gain and shift ``(C,)`` of a channel gain and the batch norm behind it."""
    return layer.part("3", ChannelsLastBatchNorm).fold(layer.part("2", ChannelScale).weight.flatten())


def linear_into(out: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> None:
    """Write the 1x1 convolution of ``x (t, F, C)`` with ``weight (C', C, 1, 1)`` into ``out (t, F, C')``."""
    torch.addmm(bias, x.flatten(0, 1), weight.flatten(1).t(), out=out.flatten(0, 1))
