# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""AV-HuBERT encoder: audio and lip streams fused per video frame, then a pre-norm transformer.

Shi et al., "Learning Audio-Visual Speech Representation by Masked Multimodal Cluster Prediction" (ICLR 2022),
figure 2 without the masking, which only pre-training uses. Names of parameters are those of the published
AVSRCocktail checkpoints, so that their state dict loads as it is.

Axes: ``B`` batch, ``T`` video frames (25 Hz), ``D`` model width, ``H`` heads. Masks are True on valid frames.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint

from espnet_av.avsr.lip_frontend import LipFrontend
from espnet_av.layers.lip_trunk import LIP_CHUNK
from espnet_av.utils.errors import usage_error

MODALITIES = ("av", "audio", "video")


class _ScaleGradient(torch.autograd.Function):
    """Identity whose gradient is multiplied by a constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.scale, None


class AudioProjection(nn.Module):
    """Linear map of stacked filterbank rows.

    Args:
        input_dim: Width of a row (104).
        dim: Width of the projection.
    """

    def __init__(self, input_dim: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(input_dim, dim)

    def forward(self, audio: Tensor) -> Tensor:
        """``(B, input_dim, T)`` -> ``(B, T, dim)``."""
        return self.proj(audio.transpose(1, 2))


class PositionalConvEmbedding(nn.Module):
    """Relative positions from a wide grouped convolution with weight norm (one gain per tap).

    Args:
        dim: Model width, divisible by ``groups``.
        kernel: Taps; an even kernel gives one frame too many, which is dropped at the end.
        groups: Convolution groups.
    """

    def __init__(self, dim: int, *, kernel: int = 128, groups: int = 16) -> None:
        super().__init__()
        if dim % groups:
            usage_error("conv_pos_groups must divide the encoder width", got=groups, allowed=f"divisors of {dim}")
        conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=groups)
        nn.init.normal_(conv.weight, std=2.0 / math.sqrt(kernel * dim))
        nn.init.zeros_(conv.get_parameter("bias"))
        self.conv = weight_norm(conv, name="weight", dim=2)
        self.num_dropped = 1 - kernel % 2

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, D)`` -> ``(B, T, D)``."""
        y = self.conv(x.transpose(1, 2))  # (B, T, D) -> (B, D, T)
        y = y[:, :, : y.shape[2] - self.num_dropped]
        return F.gelu(y).transpose(1, 2)


class SelfAttention(nn.Module):
    """Multi-head self-attention through torch's fused kernel.

    Args:
        dim: Model width.
        num_heads: Heads; must divide ``dim``.
        dropout: Dropout of the attention weights.
    """

    def __init__(self, dim: int, *, num_heads: int, dropout: float) -> None:
        super().__init__()
        if dim % num_heads:
            usage_error("num_heads must divide the encoder width", got=num_heads, allowed=f"divisors of {dim}")
        self.num_heads = num_heads
        self.dropout = dropout
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.q_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, T, D) -> (B, H, T, D / H)

    def forward(self, x: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """``(B, T, D)`` and optional bool ``(B, 1, 1, T)`` (True = may be attended to) -> ``(B, T, D)``."""
        query, key, value = self._heads(self.q_proj(x)), self._heads(self.k_proj(x)), self._heads(self.v_proj(x))
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, dropout_p=dropout)
        return self.out_proj(y.transpose(1, 2).flatten(2))  # (B, H, T, D / H) -> (B, T, D)


class FeedForward(nn.Module):
    """Linear, GELU, linear.

    Args:
        dim: Model width.
        hidden_dim: Inner width.
        activation_dropout: Dropout after GELU.
    """

    def __init__(self, dim: int, hidden_dim: int, *, activation_dropout: float) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(dim, hidden_dim)
        self.output_dense = nn.Linear(hidden_dim, dim)
        self.activation_dropout = activation_dropout

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, D)`` -> ``(B, T, D)``."""
        hidden = F.dropout(F.gelu(self.intermediate_dense(x)), self.activation_dropout, self.training)
        return self.output_dense(hidden)


class EncoderLayer(nn.Module):
    """Pre-norm transformer layer: ``x + attention(norm(x))``, then ``x + ffn(norm(x))``."""

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int,
        ffn_dim: int,
        dropout: float,
        attention_dropout: float,
        activation_dropout: float,
        eps: float,
    ) -> None:
        super().__init__()
        self.attention = SelfAttention(dim, num_heads=num_heads, dropout=attention_dropout)
        self.layer_norm = nn.LayerNorm(dim, eps=eps)
        self.feed_forward = FeedForward(dim, ffn_dim, activation_dropout=activation_dropout)
        self.final_layer_norm = nn.LayerNorm(dim, eps=eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """``(B, T, D)`` -> ``(B, T, D)``; the mask is that of :class:`SelfAttention`."""
        x = x + self.dropout(self.attention(self.layer_norm(x), attention_mask))
        return x + self.dropout(self.feed_forward(self.final_layer_norm(x)))


class TransformerEncoder(nn.Module):
    """Convolutional positions, ``num_layers`` pre-norm layers and a final norm.

    With ``gradient_checkpointing`` a training step keeps the input of each layer only and computes the layer again for
    the gradient (Chen et al., "Training deep nets with sublinear memory cost", 2016): the same result for less memory.
    """

    def __init__(
        self,
        dim: int,
        *,
        num_layers: int,
        num_heads: int,
        ffn_dim: int,
        conv_pos: int,
        conv_pos_groups: int,
        dropout: float,
        attention_dropout: float,
        activation_dropout: float,
        layerdrop: float,
        eps: float,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = gradient_checkpointing
        self.pos_conv_embed = PositionalConvEmbedding(dim, kernel=conv_pos, groups=conv_pos_groups)
        self.layers = nn.ModuleList(
            EncoderLayer(
                dim,
                num_heads=num_heads,
                ffn_dim=ffn_dim,
                dropout=dropout,
                attention_dropout=attention_dropout,
                activation_dropout=activation_dropout,
                eps=eps,
            )
            for _ in range(num_layers)
        )
        self.layer_norm = nn.LayerNorm(dim, eps=eps)
        self.dropout = nn.Dropout(dropout)
        self.layerdrop = layerdrop

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``(B, T, D)`` with zeros on padded frames, and bool ``(B, T)`` -> ``(B, T, D)``."""
        x = self.dropout(x + self.pos_conv_embed(x))
        attention_mask = None if mask is None else mask[:, None, None, :]
        for layer in self.layers:
            if self.training and self.layerdrop > 0 and torch.rand(()).item() < self.layerdrop:
                continue
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(layer, x, attention_mask, use_reentrant=False)
            else:
                x = layer(x, attention_mask)
        return self.layer_norm(x)


class StreamFeatures(NamedTuple):
    """Output of both front ends, ``(B, T, D)`` each, and which of them may be used; the others are zeros."""

    audio: Tensor
    video: Tensor
    audio_used: bool
    video_used: bool


class AVHubertEncoder(nn.Module):
    """Audio rows and mouth video -> one vector per video frame. The defaults are AV-HuBERT large.

    Args:
        dim: Model width ``D``.
        num_layers: Transformer layers.
        num_heads: Attention heads.
        ffn_dim: Inner width of the feed-forward blocks.
        audio_dim: Width of an audio row.
        fuse: ``concat`` (audio first, then a projection back to ``dim``) or ``add``.
        conv_pos: Taps of the positional convolution.
        conv_pos_groups: Its groups; must divide ``dim``.
        dropout: Dropout of residual branches and after the positions.
        attention_dropout: Dropout of attention weights.
        activation_dropout: Dropout inside the feed-forward blocks.
        input_dropout: Dropout after the fusion.
        layerdrop: Probability that a layer is skipped in training.
        layer_norm_eps: Added to variances.
        modality: Streams used: ``av``, ``audio`` or ``video``; can be given per call.
        modality_dropout: Probability that a training batch loses one stream.
        audio_dropout: Which one: audio with this probability, else video.
        feature_grad_mult: Factor on the gradient that flows into both front ends (1: plain training).
        stem_channels: Channels of the lip stem.
        resnet_planes: Channels of the four stages of the lip ResNet.
        resnet_activation: ``prelu`` or ``swish``.
        video_pool: Average pooling of the frames before the stem (1: off).
        num_classes: Rows of the unused ``label_embs_concat`` of published files; 0 leaves the tensor out.
        label_dim: Its columns.
        gradient_checkpointing: Keep less of the transformer layers in training and compute them twice.
        lip_chunk: In evaluation the lip network takes this many frames at a time, so that memory does not grow with the
            clip; 0: all at once.
        reference_compat: In training compute the lip trunk on padded frames and dropped streams too, as the
            reference does (its batch-norm statistics then see them). Evaluation is the same either way.
    """

    def __init__(
        self,
        *,
        dim: int = 1024,
        num_layers: int = 24,
        num_heads: int = 16,
        ffn_dim: int = 4096,
        audio_dim: int = 104,
        fuse: str = "concat",
        conv_pos: int = 128,
        conv_pos_groups: int = 16,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        activation_dropout: float = 0.0,
        input_dropout: float = 0.1,
        layerdrop: float = 0.0,
        layer_norm_eps: float = 1e-5,
        modality: str = "av",
        modality_dropout: float = 0.5,
        audio_dropout: float = 0.5,
        feature_grad_mult: float = 0.1,
        stem_channels: int = 64,
        resnet_planes: Sequence[int] = (64, 128, 256, 512),
        resnet_activation: str = "prelu",
        video_pool: int = 1,
        num_classes: int = 2004,
        label_dim: int = 256,
        gradient_checkpointing: bool = False,
        lip_chunk: int = LIP_CHUNK,
        reference_compat: bool = False,
    ) -> None:
        super().__init__()
        if fuse not in ("concat", "add"):
            usage_error("unknown fusion", got=fuse, allowed=["concat", "add"])
        self.dim = dim
        self.audio_dim = audio_dim
        self.fuse_kind = fuse
        self.modality = self._checked(modality)
        self.modality_dropout = modality_dropout
        self.audio_dropout = audio_dropout
        self.feature_grad_mult = feature_grad_mult
        self.reference_compat = reference_compat
        self.modality_generator: torch.Generator | None = None

        self.mask_emb = nn.Parameter(torch.empty(audio_dim).uniform_(), requires_grad=False)
        if num_classes:
            self.label_embs_concat = nn.Parameter(torch.empty(num_classes, label_dim).uniform_(), requires_grad=False)
        self.feature_extractor_audio = AudioProjection(audio_dim, dim)
        self.feature_extractor_video = LipFrontend(
            dim,
            stem_channels=stem_channels,
            planes=resnet_planes,
            activation=resnet_activation,
            video_pool=video_pool,
            chunk=lip_chunk,
        )
        fused_dim = 2 * dim if fuse == "concat" else dim
        self.layer_norm = nn.LayerNorm(fused_dim, eps=layer_norm_eps)
        self.post_extract_proj = nn.Linear(fused_dim, dim) if fused_dim != dim else None
        self.dropout_input = nn.Dropout(input_dropout)
        self.encoder = TransformerEncoder(
            dim,
            num_layers=num_layers,
            num_heads=num_heads,
            ffn_dim=ffn_dim,
            conv_pos=conv_pos,
            conv_pos_groups=conv_pos_groups,
            dropout=dropout,
            attention_dropout=attention_dropout,
            activation_dropout=activation_dropout,
            layerdrop=layerdrop,
            eps=layer_norm_eps,
            gradient_checkpointing=gradient_checkpointing,
        )

    @property
    def output_size(self) -> int:
        """Width of the output."""
        return self.dim

    def forward(
        self, audio: Tensor | None, video: Tensor | None, mask: Tensor | None = None, *, modality: str | None = None
    ) -> Tensor:
        """Encode a batch.

        Args:
            audio: ``(B, audio_dim, T)`` stacked filterbank rows; None where the modality is ``video``.
            video: ``(B, 1, T, 88, 88)`` normalised gray frames; None where the modality is ``audio``.
            mask: ``(B, T)`` bool, True = valid frame. None: all frames are valid.
            modality: ``av``, ``audio`` or ``video``; None takes that of the constructor.

        Returns:
            ``(B, T, D)``; frames outside the mask hold no meaning.

        Raises:
            UsageError: An unknown modality, or a stream it needs is missing.
        """
        features = self.front_ends(audio, video, mask, modality=modality)
        return self.encoder(self.fuse(features.audio, features.video, mask), mask)

    def front_ends(
        self, audio: Tensor | None, video: Tensor | None, mask: Tensor | None = None, *, modality: str | None = None
    ) -> StreamFeatures:
        """Draw which streams are used and run their front ends; arguments and errors as in :meth:`forward`."""
        modality = self.modality if modality is None else self._checked(modality)
        used = self._draw_used_streams(modality, audio, video)
        return StreamFeatures(*self.extract(audio, video, mask, used), *used)

    def extract(
        self, audio: Tensor | None, video: Tensor | None, mask: Tensor | None, used: tuple[bool, bool]
    ) -> tuple[Tensor, Tensor]:
        """Run the two front ends; a stream that is not used becomes zeros.

        Args:
            audio: As in :meth:`forward`.
            video: As in :meth:`forward`.
            mask: As in :meth:`forward`.
            used: Whether audio, and video, may be heard or seen.

        Returns:
            Audio and video features, each ``(B, T, D)``.
        """
        compute_dropped = self.training and self.reference_compat
        heard = self.extract_audio(audio) if audio is not None and (used[0] or compute_dropped) else None
        seen = self.extract_video(video, mask) if video is not None and (used[1] or compute_dropped) else None
        like = next(features for features in (heard, seen) if features is not None)
        return (
            self._filled(heard, used[0], like, self.feature_extractor_audio),
            self._filled(seen, used[1], like, self.feature_extractor_video),
        )

    def _filled(self, features: Tensor | None, used: bool, like: Tensor, module: nn.Module) -> Tensor:
        if features is None:
            return self._absent(like, module)
        return features if used else features * 0

    def extract_audio(self, audio: Tensor) -> Tensor:
        """``(B, audio_dim, T)`` -> ``(B, T, D)``."""
        return self._scale_gradient(self.feature_extractor_audio(audio))

    def extract_video(self, video: Tensor, mask: Tensor | None = None) -> Tensor:
        """``(B, 1, T, 88, 88)`` and the mask of valid frames -> ``(B, T, D)``."""
        valid = None if self.training and self.reference_compat else mask
        return self._scale_gradient(self.feature_extractor_video(video, valid))

    def fuse(self, audio: Tensor, video: Tensor, mask: Tensor | None = None) -> Tensor:
        """Put both streams together, ``(B, T, D)`` each -> ``(B, T, D)`` with zeros outside the mask."""
        fused = torch.cat([audio, video], dim=-1) if self.fuse_kind == "concat" else audio + video
        fused = self.layer_norm(fused)
        if self.post_extract_proj is not None:
            fused = self.post_extract_proj(fused)
        fused = self.dropout_input(fused)
        return fused if mask is None else fused.masked_fill(~mask.unsqueeze(-1), 0.0)

    def _draw_used_streams(self, modality: str, audio: Tensor | None, video: Tensor | None) -> tuple[bool, bool]:
        used = [modality != "video", modality != "audio"]
        for name, wanted, stream in zip(("audio", "video"), used, (audio, video), strict=True):
            if wanted and stream is None:
                usage_error(f"modality '{modality}' needs the {name} stream, which is missing", fix="pass both streams")
        if self.training and modality == "av":
            drop, which = torch.rand(2, generator=self.modality_generator).tolist()
            if drop < self.modality_dropout:
                used[0 if which < self.audio_dropout else 1] = False
        return used[0], used[1]

    def _absent(self, like: Tensor, module: nn.Module) -> Tensor:
        zeros = torch.zeros_like(like)
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if self.training and distributed:  # every rank must report a gradient for every parameter
            zeros = zeros + 0.0 * sum(p.sum() for p in module.parameters())
        return zeros

    def _scale_gradient(self, x: Tensor) -> Tensor:
        if self.feature_grad_mult == 1.0 or not x.requires_grad:
            return x
        return _ScaleGradient.apply(x, self.feature_grad_mult)

    @staticmethod
    def _checked(modality: str) -> str:
        if modality not in MODALITIES:
            usage_error("unknown modality", got=modality, allowed=MODALITIES)
        return modality
