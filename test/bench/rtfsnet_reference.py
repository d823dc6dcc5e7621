# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""RTFS-Net as the published description says it, step by step and without any thought of speed.

Functions of a state dict with published names; channels second, every layer on its own, windows written out, one head
after another. It is what the speed of the package is compared with, and gives the same numbers.

Axes: ``B`` batch, ``L`` samples, ``T`` frames, ``F`` bins, ``C`` channels, ``Tv`` video frames, ``n`` steps.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

N_FFT, HOP, WINDOW, HEADS, VIDEO_HEADS = 256, 128, 8, 4, 8
EPS = 1e-5


class Weights:
    """A state dict seen from one of its prefixes."""

    def __init__(self, state: Mapping[str, Tensor], prefix: str = "") -> None:
        self.state, self.prefix = state, prefix

    def __getitem__(self, name: str) -> Tensor:
        return self.state[f"{self.prefix}{name}"]

    def __contains__(self, name: str) -> bool:
        return f"{self.prefix}{name}" in self.state

    def at(self, name: str | int) -> "Weights":
        """Return the weights under ``name``."""
        return Weights(self.state, f"{self.prefix}{name}.")

    def layers(self) -> "Weights":
        """Return the places of a convolutional layer."""
        return self.at("full_layer")


def conv_layer(x: Tensor, w: Weights, *, stride: int = 1, same: bool = False, depthwise: bool = False) -> Tensor:
    """Convolution, norm and PReLU, as far as there are weights for them."""
    w = w.layers()
    weight, bias = w["2.weight"], w["2.bias"] if "2.bias" in w else None
    convolve = F.conv2d if x.dim() == 4 else F.conv1d
    kernel = weight.shape[-1]
    padding: int | str = "same" if same else (kernel - 1) // 2 if stride > 1 else 0
    groups = x.shape[1] // weight.shape[1] if depthwise else 1
    x = convolve(x, weight, bias, stride=stride, padding=padding, groups=groups)
    if "3.norm.weight" in w:
        x = F.group_norm(x, 1, w["3.norm.weight"], w["3.norm.bias"], EPS)
    elif "3.running_mean" in w:
        x = F.batch_norm(x, w["3.running_mean"], w["3.running_var"], w["3.weight"], w["3.bias"], eps=EPS)
    return F.prelu(x, w["4.weight"]) if "4.weight" in w else x


def norm_4d(x: Tensor, w: Weights) -> Tensor:
    """Norm over channels, and over bins where the gain has them."""
    axes = (1, 3) if w["gamma"].shape[3] > 1 else (1,)
    mean = x.mean(axes, keepdim=True)
    variance = (x - mean).square().mean(axes, keepdim=True)
    return (x - mean) / torch.sqrt(variance + EPS) * w["gamma"] + w["beta"]


def sru_layer(x: Tensor, w: Weights) -> Tensor:
    """One bidirectional layer over ``(n, B, in)``.

    Both directions share a loop that holds what is recurrent. On a CPU this takes as long as the compiled operation of
    the ``sru`` package without gradients, and less than its loop with gradients.
    """
    steps, batch, size = x.shape
    hidden = w["weight_c"].shape[0] // 4
    k = w["weight"].shape[1] // (2 * hidden)
    u = (x.reshape(-1, size) @ w["weight"]).view(steps, batch, 2, hidden, k)
    carried = u[..., 3] if k == 4 else x.view(steps, batch, 2, hidden)
    forget_c, reset_c = w["weight_c"].view(2, 2, hidden)
    forget_b, reset_b = w["bias"].view(2, 2, hidden)
    candidate, forget_in, reset_in = (
        torch.stack([u[:, :, 0, :, i], u[:, :, 1, :, i].flip(0)], dim=2) for i in range(3)
    )
    state, states = x.new_zeros(batch, 2, hidden), [x.new_zeros(batch, 2, hidden)]
    for t in range(steps):
        forget = (forget_in[t] + state * forget_c + forget_b).sigmoid()
        state = forget * state + (1 - forget) * candidate[t]
        states.append(state)
    reset = (reset_in + torch.stack(states[:-1]) * reset_c + reset_b).sigmoid()
    back = torch.stack([carried[:, :, 0], carried[:, :, 1].flip(0)], dim=2)
    h = reset * torch.stack(states[1:]) + (1 - reset) * back
    return torch.stack([h[:, :, 0], h[:, :, 1].flip(0)], dim=2).flatten(2)


def dual_path(x: Tensor, w: Weights, *, over_time: bool) -> Tensor:
    """Recurrent path over bins or frames of ``(B, C, T, F)``."""
    y = norm_4d(x, w.at("norm"))
    if over_time:
        y = y.transpose(2, 3)
    batch, channels, other, length = y.shape
    y = y.permute(0, 2, 1, 3).reshape(batch * other, channels, length, 1)
    y = F.unfold(y, (WINDOW, 1)).permute(2, 0, 1)  # (n - 7, B * other, C * 8)
    layer = 0
    while f"rnn.rnn_lst.{layer}.weight" in w:
        y = sru_layer(y, w.at(f"rnn.rnn_lst.{layer}"))
        layer += 1
    y = F.conv_transpose1d(y.permute(1, 2, 0), w["linear.weight"], w["linear.bias"])
    y = y.view(batch, other, channels, length).permute(0, 2, 1, 3)
    return x + (y.transpose(2, 3) if over_time else y)


def tf_attention(x: Tensor, w: Weights) -> Tensor:
    """Self-attention over frames, head by head."""

    def branch(y: Tensor, part: Weights) -> Tensor:
        y = F.prelu(F.conv2d(y, part["conv.weight"], part["conv.bias"]), part["act.weight"])
        return norm_4d(y, part.at("norm"))

    def flat(kind: str) -> Tensor:
        heads = [branch(x, w.at(f"{kind}.{i}")) for i in range(HEADS)]
        return torch.cat(heads).transpose(1, 2)  # (H * B, T, E, F)

    query, key, value = flat("Queries").flatten(2), flat("Keys").flatten(2), flat("Values")
    weights = (query @ key.transpose(1, 2) / query.shape[-1] ** 0.5).softmax(dim=2)
    mixed = (weights @ value.flatten(2)).view_as(value).transpose(1, 2)
    return x + branch(torch.cat(mixed.chunk(HEADS), dim=1), w.at("attn_concat_proj"))


def lip_attention(x: Tensor, w: Weights) -> Tensor:
    """Attention and feed-forward part of the VP block, ``(B, D, T)``."""
    attention, forward = w.at("MHSA"), w.at("FFN")
    y = F.layer_norm(x.transpose(1, 2), x.shape[1:2], attention["norm1.weight"], attention["norm1.bias"])
    position = torch.arange(y.shape[1], dtype=torch.float32)[:, None]
    rate = 10000 ** (-torch.arange(0, y.shape[2], 2) / y.shape[2])
    y = y + torch.stack([(position * rate).sin(), (position * rate).cos()], dim=-1).flatten(1)
    inner = attention.at("attention")
    q, k, v = F.linear(y, inner["in_proj_weight"], inner["in_proj_bias"]).chunk(3, dim=-1)
    q, k, v = (z.unflatten(-1, (VIDEO_HEADS, -1)).transpose(1, 2) for z in (q, k, v))
    mixed = ((q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5).softmax(-1) @ v
    y = F.linear(mixed.transpose(1, 2).flatten(2), inner["out_proj.weight"], inner["out_proj.bias"]) + y
    x = F.layer_norm(y, y.shape[2:], attention["norm2.weight"], attention["norm2.bias"]).transpose(1, 2) + x
    y = conv_layer(conv_layer(x, forward.at("encoder")), forward.at("refiner"), same=True, depthwise=True).relu()
    return conv_layer(y, forward.at("decoder")) + x


def reconstruct(m: Tensor, n: Tensor, w: Weights) -> Tensor:
    """The unit ``I(m, n)``."""

    def conv(y: Tensor, name: str) -> Tensor:
        return conv_layer(y, w.at(name), same=True, depthwise=True)

    if m[0, 0].numel() <= n[0, 0].numel():
        n = F.interpolate(n, m.shape[2:])
        return conv(m, "local_embedding") * conv(n, "global_gate").sigmoid() + conv(n, "global_embedding")
    gate = F.interpolate(conv(n, "global_gate").sigmoid(), m.shape[2:])
    return conv(m, "local_embedding") * gate + F.interpolate(conv(n, "global_embedding"), m.shape[2:])


def block(x: Tensor, w: Weights) -> Tensor:
    """RTFS block ``(B, C, T, F)`` or VP block ``(B, C, T)``."""
    residual = conv_layer(x, w.at("gateway"), depthwise=True)
    x = conv_layer(residual, w.at("projection"))
    levels = []
    while f"downsample_layers.{len(levels)}.full_layer.2.weight" in w:
        level = w.at(f"downsample_layers.{len(levels)}")
        x = conv_layer(x, level, stride=2 if levels else 1, same=not levels, depthwise=True)
        levels.append(x)
    pooling = F.adaptive_avg_pool2d if x.dim() == 4 else F.adaptive_avg_pool1d
    size = x.shape[2:] if x.dim() == 4 else x.shape[2]
    x = sum(pooling(level, size) for level in levels)
    if x.dim() == 4:
        x = dual_path(x, w.at("globalatt.0"), over_time=False)
        x = dual_path(x, w.at("globalatt.1"), over_time=True)
        x = tf_attention(x, w.at("globalatt.2"))
    else:
        x = lip_attention(x, w.at("globalatt.0"))
    fused = [reconstruct(level, x, w.at(f"fusion_layers.{i}")) for i, level in enumerate(levels)]
    y = fused[-1]
    for i in range(len(levels) - 2, -1, -1):
        y = reconstruct(fused[i], y, w.at(f"concat_layers.{i}")) + levels[i]
    return conv_layer(y, w.at("residual_conv")) + residual


def fuse(audio: Tensor, video: Tensor, w: Weights) -> Tensor:
    """The fusion of audio ``(B, C, T, F)`` and lips ``(B, Cv, Tv)``."""
    key = F.interpolate(conv_layer(video, w.at("resize"), depthwise=True), audio.shape[2])
    weights = conv_layer(video, w.at("attention_embed"), depthwise=True)
    weights = weights.view(len(video), audio.shape[1], -1, video.shape[2]).mean(2).softmax(-1)
    weights = F.interpolate(weights, audio.shape[2])
    gate = conv_layer(audio, w.at("key_embed"), depthwise=True).relu()
    return gate * key[..., None] + conv_layer(audio, w.at("value_embed"), depthwise=True) * weights[..., None]


def separate(state: Mapping[str, Tensor], mix: Tensor, lips: Tensor, *, repeats: int) -> Tensor:
    """Run the network.

    Args:
        state: Weights with published names.
        mix: ``(B, L)``.
        lips: ``(B, Tv, Cv)``.
        repeats: Passes.

    Returns:
        ``(B, 1, L)``.
    """
    w = Weights(state)
    window = torch.hann_window(N_FFT)
    spectrum = torch.stft(mix, N_FFT, HOP, window=window, return_complex=True).transpose(1, 2)
    stacked = torch.stack([spectrum.real, spectrum.imag], dim=1)
    embedding = F.conv2d(stacked, w["encoder.conv.full_layer.2.weight"], padding=1)
    entry = w.at("audio_bottleneck").layers()
    normal = F.group_norm(embedding, 1, entry["0.norm.weight"], entry["0.norm.bias"], EPS).relu()
    entry = F.conv2d(normal, entry["2.weight"], entry["2.bias"])
    refinement = w.at("refinement_module")
    audio, video = refinement.at("audio_net.blocks"), refinement.at("video_net.blocks")
    x = block(entry, audio)
    seen = block(lips.transpose(1, 2), video)
    x = fuse(x, seen, refinement.at("crossmodal_fusion.fusion_module.audio_lstm"))
    for _ in range(repeats - 1):
        x = block(x + entry, audio)
    masks = w.at("mask_generator.mask_generator")
    mask = conv_layer(F.prelu(x, masks["0.weight"]), masks.at("1")).relu()
    (mr, mi), (er, ei) = mask.chunk(2, dim=1), embedding.chunk(2, dim=1)
    masked = torch.cat([mr * er - mi * ei, mr * ei + mi * er], dim=1)
    decoded = F.conv_transpose2d(masked, w["decoder.decoder.weight"], padding=1)
    decoded = torch.complex(decoded[:, 0], decoded[:, 1]).transpose(1, 2)
    return torch.istft(decoded, N_FFT, HOP, window=window, length=mix.shape[1]).unsqueeze(1)
